"""The one place where a process waits: descriptors first, timers in their order."""

import itertools
import os
import select

import pytest

from otp_runtime.host import poller
from otp_runtime.host.poller import Poller, Spinner


@pytest.fixture
def waiter():
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def ends():
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


class TestTimers:
    def test_in_the_order_of_their_time(self, waiter):
        """Whatever the order in which they were made."""
        seen = []
        start = poller.now()
        for delay in (0.003, 0.001, 0.002):
            waiter.at(start + delay, lambda delay=delay: seen.append(delay))
        while len(seen) < 3:
            waiter.wait(1.0)

        assert seen == [0.001, 0.002, 0.003]

    def test_of_the_same_time(self, waiter):
        """In the order in which they were made."""
        seen = []
        due = poller.now()
        for number in range(5):
            waiter.at(due, lambda number=number: seen.append(number))
        waiter.wait(1.0)

        assert seen == [0, 1, 2, 3, 4]

    def test_never_early(self, waiter):
        """An action runs when its time has come."""
        ran_at = []
        due = poller.now() + 0.0105
        waiter.at(due, lambda: ran_at.append(poller.now()))
        while not ran_at:
            waiter.wait(None)

        assert due <= ran_at[0]

    def test_once(self, waiter):
        """A timer runs once."""
        seen = []
        waiter.at(poller.now(), lambda: seen.append(1))
        answers = [waiter.wait(0), waiter.wait(0)]

        assert (answers, seen) == ([True, False], [1])

    def test_made_by_a_timer(self, waiter):
        """One that an action makes for now runs as well."""
        seen = []
        waiter.at(poller.now(), lambda: waiter.at(poller.now(), lambda: seen.append(1)))
        waiter.wait(0)

        assert seen == [1]


class TestCancel:
    def test_never_runs(self, waiter):
        """And the wait does not wake for it."""
        timer = waiter.at(poller.now(), lambda: pytest.fail("it ran"))
        timer.cancel()

        assert waiter.next_due() is None
        assert waiter.wait(0) is False

    def test_by_an_earlier_one(self, waiter):
        """A timer whose time has come too can still be cancelled."""
        later = waiter.at(poller.now(), lambda: pytest.fail("it ran"))
        waiter.at(poller.now() - 1.0, later.cancel)

        assert waiter.wait(0) is True

    def test_twice(self, waiter):
        """Is once."""
        timer = waiter.at(poller.now(), lambda: None)
        timer.cancel()
        timer.cancel()

        assert waiter.next_due() is None

    def test_the_next_counts(self, waiter):
        """The time of the next is that of one that was not cancelled."""
        waiter.at(1.0, lambda: None).cancel()
        waiter.at(2.0, lambda: None)

        assert waiter.next_due() == 2.0


class TestWait:
    def test_zero(self, waiter, ends):
        """Takes what is there and does not sleep."""
        seen = []
        waiter.watch(ends[0], poller.READABLE, lambda _events: seen.append(os.read(ends[0], 10)))
        before = waiter.wait(0)
        os.write(ends[1], b"x")

        assert (before, waiter.wait(0), seen) == (False, True, [b"x"])

    def test_descriptors_before_timers(self, waiter, ends):
        """What lies in a pipe was there before a timer is looked at."""
        seen = []
        waiter.at(poller.now(), lambda: seen.append("timer"))
        waiter.watch(ends[0], poller.READABLE, lambda _events: seen.append(os.read(ends[0], 10)))
        os.write(ends[1], b"x")
        waiter.wait(0)

        assert seen == [b"x", "timer"]

    def test_until_the_time_is_up(self, waiter):
        """Says that nothing happened."""
        start = poller.now()

        assert waiter.wait(0.01) is False
        assert poller.now() - start >= 0.009

    def test_less_than_a_millisecond(self, waiter):
        """Epoll counts whole ones; a short sleep is short all the same, the shortest of several."""
        short = 0.0001
        took = min(_seconds_of(lambda: waiter.wait(short)) for _ in range(20))

        assert short <= took < 0.001

    def test_a_short_sleep_is_woken(self, waiter, ends):
        """By what there is to read."""
        seen = []
        waiter.watch(ends[0], poller.READABLE, seen.append)
        os.write(ends[1], b"x")

        assert waiter.wait(0.0009)
        assert [poller.READABLE] == seen

    def test_a_handler_that_forgets_another(self, waiter, ends):
        """A descriptor that an earlier handler gave up is not handled."""
        other_read, other_write = os.pipe()
        seen = []

        def take(fd, other):
            seen.append(fd)
            waiter.forget(other)

        waiter.watch(ends[0], poller.READABLE, lambda _events: take(ends[0], other_read))
        waiter.watch(other_read, poller.READABLE, lambda _events: take(other_read, ends[0]))
        for fd in (ends[1], other_write):
            os.write(fd, b"x")
        waiter.wait(0)
        os.close(other_read)
        os.close(other_write)

        assert len(seen) == 1

    def test_a_handler_that_replaces_another(self, waiter):
        """What happened to a descriptor is not told to a new one of the same number."""
        seen, pipes = [], [os.pipe(), os.pipe()]
        quiet = os.pipe()

        def replace(_events, mine, other):
            seen.append(mine)
            waiter.forget(other)
            os.dup2(quiet[0], other)
            waiter.watch(other, poller.READABLE, lambda _events: seen.append("the new one"))

        for number, (reads, writes) in enumerate(pipes):
            other = pipes[1 - number][0]
            waiter.watch(reads, poller.READABLE, lambda events, mine=reads, other=other: replace(events, mine, other))
            os.write(writes, b"x")
        waiter.wait(1.0)
        for fd in itertools.chain(*pipes, quiet):
            os.close(fd)

        assert len(seen) == 1


class TestWatch:
    def test_again(self, waiter, ends):
        """The later handler replaces the earlier."""
        seen = []
        waiter.watch(ends[0], poller.READABLE, lambda _events: seen.append("old"))
        waiter.watch(ends[0], poller.READABLE, lambda _events: seen.append("new"))
        os.write(ends[1], b"x")
        waiter.wait(0)

        assert seen == ["new"]

    def test_forget_a_stranger(self, waiter, ends):
        """Nothing happens."""
        assert waiter.forget(ends[0]) is None

    def test_fileno(self, waiter, ends):
        """Readable whenever something is to be done: other loops watch it."""
        waiter.watch(ends[0], poller.READABLE, lambda _events: None)
        poll = select.poll()
        poll.register(waiter.fileno(), select.POLLIN)
        before = poll.poll(0)
        os.write(ends[1], b"x")

        assert (before, len(poll.poll(1000))) == ([], 1)


class TestSpinner:
    def test_takes_what_is_there(self, ends):
        """At once."""
        os.write(ends[1], b"x")

        assert Spinner().read(ends[0], 10) == b"x"

    def test_gives_up(self, ends):
        """None when nothing came; it does not spin for ever."""
        assert Spinner().read(ends[0], 10) is None

    def test_rests_after_failures(self, ends):
        """A reader that is never answered fast stops spinning, and tries again later; later each time."""
        spinner = Spinner()
        rests = [_rest(spinner, ends[0]) for _ in range(4)]

        assert [16, 32, 64, 64] == rests

    def test_an_answer_ends_the_rest(self, ends):
        """It goes on as long as it is answered, and rests for a short time again once it has been answered often."""
        spinner = Spinner()
        for _ in range(3):
            _rest(spinner, ends[0])
        while spinner._pause:
            spinner.read(ends[0], 10)
        while spinner._credit < poller.SPIN_CREDIT:
            os.write(ends[1], b"x")
            spinner.read(ends[0], 10)

        assert 16 == _rest(spinner, ends[0])


def _rest(spinner, fd):
    """Let it read in vain until it rests again; give for how many reads.

    On a crowded core most reads do not spin at all, and cost no credit: so it takes as many as it takes.
    """
    deadline = poller.now() + 5.0
    while spinner._pause and poller.now() < deadline:
        spinner.read(fd, 10)
    while not spinner._pause and poller.now() < deadline:
        spinner.read(fd, 10)
    return spinner._pause


def _seconds_of(function):
    started = poller.now()
    function()
    return poller.now() - started


class TestSleepOn:
    def test_only_that_descriptor(self, waiter, ends):
        """It says whether there is something to read and nothing else happened; nobody is called."""
        read_end, write_end = ends
        waiter.watch(read_end, poller.READABLE, lambda _events: pytest.fail("called"))
        seen = [waiter.sleep_on(read_end, 0.001)]
        os.write(write_end, b"x")
        seen.append(waiter.sleep_on(read_end, None))

        assert [False, True] == seen

    def test_something_else_too(self, waiter, ends):
        """Then it says no, and `wait` finds all of it."""
        read_end, write_end = ends
        seen = []
        waiter.watch(read_end, poller.READABLE, lambda _events: seen.append("read"))
        waiter.watch(write_end, poller.WRITABLE, lambda _events: seen.append("write"))
        os.write(write_end, b"x")
        alone = waiter.sleep_on(read_end, None)
        waiter.wait(None)

        assert (False, ["read", "write"]) == (alone, sorted(seen))

    def test_a_timer_is_not_slept_over(self, waiter, ends):
        """Where there is a timer it does not sleep at all."""
        read_end, _write_end = ends
        waiter.watch(read_end, poller.READABLE, lambda _events: None)
        waiter.at(poller.now() + 60, lambda: None)

        assert not waiter.sleep_on(read_end, None)
