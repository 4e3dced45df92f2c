"""Task.async_stream: lazy, bounded, and clean however it ends."""

import itertools

import pytest

from otp_runtime import CallTimeout, Down, ReceiveTimeout, Task, TaskDone, TaskExit, process
from otp_runtime.process.current import current
from otp_runtime.testing import gate
from otp_runtime.testing.nodes import private_node
from tests.behaviours.tasks import odd_exits, square, wait_for, wait_if

LONG = 10.0
SHORT = 0.05


@pytest.fixture(scope="module")
def otp_node():
    """One node for all of them."""
    with private_node() as node:
        yield node


@pytest.fixture
def hold():
    with gate() as closed:
        yield closed


@pytest.fixture(autouse=True)
def _no_trace(me):
    """A stream that has ended leaves no process, no message and no slot."""
    started, pending = set(process.list()), dict(current().pending)
    yield
    assert (set(process.list()) - started, process.flush(), current().pending) == (set(), [], pending)


class TestResults:
    def test_in_order(self):
        """One for each item."""
        results = list(Task.async_stream(range(5), square, max_concurrency=2))

        assert results == [TaskDone(n * n) for n in range(5)]

    def test_in_order_although_the_first_is_last(self, hold):
        """What comes early waits."""
        items = [(0, hold), (1, None), (2, None)]
        stream = Task.async_stream(itertools.chain(items, _opening(hold)), wait_if, max_concurrency=2)

        assert list(stream) == [TaskDone(n) for n in range(4)]

    def test_as_they_end(self, hold):
        """The slow one last."""
        stream = Task.async_stream([(0, hold), (1, None)], wait_if, max_concurrency=2, ordered=False)
        first = next(stream)
        hold.open()

        assert [first, *stream] == [TaskDone(1), TaskDone(0)]

    def test_of_nothing(self):
        """Nothing."""
        assert list(Task.async_stream([], square)) == []

    def test_exits(self):
        """Are values in a process that traps exits, and leave no Exit."""
        results = list(Task.async_stream(range(4), odd_exits, max_concurrency=2))

        assert results == [TaskDone(0), TaskExit(("odd", 1)), TaskDone(2), TaskExit(("odd", 3))]

    def test_exits_with_their_items(self):
        """If asked for."""
        results = list(Task.async_stream([1], odd_exits, zip_input_on_exit=True))

        assert results == [TaskExit((1, ("odd", 1)))]

    def test_a_lambda(self):
        """With what it closes over."""
        more = 10

        assert list(Task.async_stream([1, 2], lambda n: n + more)) == [TaskDone(11), TaskDone(12)]


def _opening(hold):
    """One more item, whose taking opens the gate."""
    hold.open()
    yield (3, None)


class TestConcurrency:
    @pytest.mark.parametrize("most", [1, 3])
    def test_no_more_than_may_run(self, most):
        """At any time."""

        def count(_item):
            return sum("Task" in info.label for pid in process.list() if (info := process.info(pid)) is not None)

        counts = [result.value for result in Task.async_stream(range(7), count, max_concurrency=most)]

        assert max(counts) <= most

    def test_so_many_at_once(self, hold):
        """They do not wait for each other."""
        arrived = itertools.chain([hold] * 3, _after_arrivals(hold, 3))
        stream = Task.async_stream(arrived, wait_for, max_concurrency=4, timeout=LONG)

        assert list(stream) == [TaskDone("through")] * 4

    def test_one_in_a_server(self, me):
        """Which owns the tasks it starts."""
        pid = process.spawn(lambda: process.send(me, list(Task.async_stream([1, 2], square))))
        pid.wait(LONG)

        assert process.receive(list, LONG) == [TaskDone(1), TaskDone(4)]


def _after_arrivals(hold, number):
    """One more item, when so many wait at the gate."""
    for _ in range(number):
        hold.wait_arrival()
    hold.open()
    yield hold


class TestLaziness:
    def test_nothing_starts_before_it_is_asked_for(self):
        """A stream that nobody reads costs nothing."""
        taken = []
        stream = Task.async_stream((taken.append(n) for n in range(3)), square)
        before = list(taken)
        stream.close()

        assert (before, taken) == ([], [])

    def test_takes_no_more_than_it_runs(self):
        """A consumer that stops asking holds the source back."""
        taken = []
        stream = Task.async_stream((taken.append(n) or n for n in itertools.count()), square, max_concurrency=2)
        next(stream)
        held = list(taken)
        stream.close()

        assert held in ([0, 1], [0, 1, 2])

    def test_without_an_end(self):
        """As long as somebody asks."""
        stream = Task.async_stream(itertools.count(), square, max_concurrency=2)
        results = list(itertools.islice(stream, 5))
        stream.close()

        assert results == [TaskDone(n * n) for n in range(5)]


class TestTime:
    def test_exit(self, hold):
        """The stream raises, and its other tasks are gone."""
        stream = Task.async_stream([hold, hold], wait_for, max_concurrency=2, timeout=SHORT)
        with pytest.raises(CallTimeout, match="number 0 of a stream"):
            list(stream)

    @pytest.mark.slow
    def test_kill_task(self, hold):
        """Its result is a time-out; the others go on."""
        stream = Task.async_stream(
            [(0, hold), (1, None)], wait_if, max_concurrency=2, timeout=0.3, on_timeout="kill_task"
        )

        assert list(stream) == [TaskExit("timeout"), TaskDone(1)]

    @pytest.mark.slow
    def test_the_consumers_time_does_not_count(self, hold):
        """A task is not late because nobody looked."""
        stream = Task.async_stream([(0, None), (1, hold)], wait_if, max_concurrency=2, timeout=1.0)
        next(stream)
        hold.wait_arrival()
        with pytest.raises(ReceiveTimeout):
            process.receive("never sent", 1.1)
        hold.open()

        assert list(stream) == [TaskDone(1)]

    def test_for_ever(self):
        """None is no limit."""
        assert list(Task.async_stream([2], square, timeout=None)) == [TaskDone(4)]


class TestEnd:
    def test_left_by_break(self, hold):
        """What runs is killed."""
        for result in Task.async_stream([(0, None), (1, hold)], wait_if, max_concurrency=2):
            assert result == TaskDone(0)
            break

    def test_left_by_an_exception(self, hold):
        """Which goes through."""

        def consume():
            for _ in Task.async_stream([(0, None), (1, hold)], wait_if, max_concurrency=2):
                raise KeyError("consumer")

        with pytest.raises(KeyError):
            consume()

    def test_the_source_raises(self, hold):
        """Its exception is the stream's."""

        def items():
            yield hold
            raise KeyError("source")

        with pytest.raises(KeyError, match="source"):
            list(Task.async_stream(items(), wait_for, max_concurrency=2))

    def test_a_source_stays_usable(self):
        """It belongs to who gave it."""
        items = (n for n in range(10))
        stream = Task.async_stream(items, square, max_concurrency=1)
        next(stream)
        stream.close()

        assert next(items) == 1

    @pytest.mark.slow
    def test_tasks_that_trap_exits(self):
        """Are killed all the same."""

        def stubborn(hold):
            process.trap_exit(True)
            hold.arrive()
            while True:
                process.receive()

        with gate() as hold:
            stream = Task.async_stream([hold], stubborn, timeout=0.5)
            with pytest.raises(CallTimeout):
                next(stream)


class TestOwner:
    def test_that_does_not_trap_dies_with_a_task(self, me):
        """By the link, and its other tasks die with it."""
        before = set(process.list())
        process.spawn_monitor(lambda: list(Task.async_stream(range(3), odd_exits)))
        down = process.receive(Down, LONG)
        for pid in set(process.list()) - before:
            pid.wait(LONG)

        assert down.reason == ("odd", 1)

    @pytest.mark.slow
    def test_that_dies_takes_its_tasks_along(self, me):
        """Killed in mid-stream."""

        def work(item):
            process.send(me, process.self())
            wait_for(item)

        with gate() as hold:
            pid, _ = process.spawn_monitor(lambda: list(Task.async_stream([hold, hold], work, max_concurrency=2)))
            tasks = [process.receive(type(pid), LONG), process.receive(type(pid), LONG)]
            process.exit(pid, "kill")
            ends = {process.receive(Down, LONG).reason} | {task.wait(LONG) for task in tasks}

        assert ends == {"killed"}

    def test_is_who_iterates(self, me):
        """Not who made the stream."""

        def work():
            stream = Task.async_stream([process.self()], lambda maker: (maker, process.self()))
            process.send(me, [result.value for result in stream])

        pid = process.spawn(work)
        [(maker, task)] = process.receive(list, LONG)
        pid.wait(LONG)

        assert (maker, task != pid) == (pid, True)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"max_concurrency": 0}, "max_concurrency is a number of tasks above 0"),
            ({"max_concurrency": True}, "max_concurrency is"),
            ({"timeout": -1}, "timeout is seconds"),
            ({"timeout": "5"}, "timeout is seconds"),
            ({"on_timeout": "kill"}, "on_timeout is 'exit' or 'kill_task', not 'kill'"),
        ],
    )
    def test_wrong_ones_are_refused_at_once(self, options, error):
        """Before anything is taken."""
        with pytest.raises(ValueError, match=error):
            Task.async_stream([1], square, **options)

    def test_no_function(self):
        """Says what it runs."""
        with pytest.raises(TypeError, match="a stream runs a function of one item"):
            Task.async_stream([1], 5)
