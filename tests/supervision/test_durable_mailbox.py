"""A mailbox that outlives its server: what is handled by whom, and how often, when one is killed."""

import fcntl
import functools
import logging
import os
import select
import signal
import struct
import sys
import termios
import time

import pytest

from otp_runtime import (
    Agent,
    BadChildSpec,
    Down,
    DynamicSupervisor,
    GenEvent,
    GenServer,
    GenStateMachine,
    MailboxFull,
    NoReply,
    PartitionSupervisor,
    Stop,
    Supervisor,
    Via,
    process,
    system,
    upgrade,
    why,
)
from otp_runtime.host.box import Box
from otp_runtime.process import letters
from otp_runtime.process.current import current
from otp_runtime.supervision.upgrade import recycle
from otp_runtime.testing import assert_receive, gate, sigkill, wait_restarted
from tests.supervision.hangers import QUICK, Unreadable
from tests.supervision.mailers import (
    AsyncCounter,
    AsyncMailer,
    Counter,
    Cramped,
    DeadlyToRead,
    Late,
    Mailer,
    Watched,
    add_deadly,
    ask,
    kill_me,
)

MANY = 1_000_000


def supervise(*children, strategy="one_for_one", **flags):
    return Supervisor.start_link(list(children), strategy=strategy, **{"max_restarts": MANY, **flags})


def handled(count):
    """What was handled, in order; then nothing more."""
    return [assert_receive(("handled", ...), 10.0)[1] for _ in range(count)]


def nothing_more(name="mailer"):
    """All that was sent until now is handled, and nothing of it was told."""
    GenServer.call(name, "mark")
    return handled(1) == ["mark"]


def files():
    """What lies in the node of mailboxes."""
    found = (current().directory.path / "state").rglob("*.*")
    return sorted(path.suffix for path in found if path.suffix != ".state")


def dead_letters():
    return letters.dead_letters(current().directory)


@pytest.fixture(autouse=True)
def _no_letters(request):
    yield
    if "me" in request.fixturenames:
        for letter in dead_letters():
            letters.drop(current().directory, letter.id)


@pytest.fixture
def mailer(me):
    """A server with a durable mailbox under a supervisor."""
    with supervise(Mailer.child_spec(me, name="mailer")) as sup:
        yield sup
    assert [] == files()


class TestQueued:
    """What was sent and not handled when a server died."""

    def test_what_it_had_read(self, mailer):
        """Each once, in order."""
        system.suspend("mailer")
        for number in range(5):
            GenServer.cast("mailer", number)
        assert system.get_status("mailer")["queued"] == 5
        sigkill("mailer")

        assert [0, 1, 2, 3, 4] == handled(5)
        assert nothing_more()

    def test_what_it_had_not_read(self, mailer):
        """It lies in the mailbox itself, which does not go with its reader."""
        os.kill(process.whereis("mailer").os_pid, signal.SIGSTOP)
        for number in range(5):
            GenServer.cast("mailer", number)
        sigkill("mailer")

        assert [0, 1, 2, 3, 4] == handled(5)
        assert nothing_more()

    def test_again_and_again(self, mailer):
        """A successor that is killed itself leaves what is left."""
        system.suspend("mailer")
        for number in range(30):
            GenServer.cast("mailer", number)
            if number % 3 == 0:
                GenServer.cast("mailer", lambda server: kill_me())
        system.resume("mailer")

        assert list(range(30)) == handled(30)
        assert nothing_more()

    def test_after_an_exception(self, mailer):
        """The message that raised is a dead letter, those behind it are served."""
        system.suspend("mailer")
        for message in (1, lambda server: 1 / 0, 2):
            GenServer.cast("mailer", message)
        system.resume("mailer")

        assert [1, 2] == handled(2)
        assert [letter.reason for letter in dead_letters()] == ["exception ZeroDivisionError: division by zero"]

    def test_a_transient_mailbox(self, me):
        """As in OTP, all that waited is lost."""
        with supervise(Mailer.child_spec(me, name="mailer", mailbox="transient")):
            system.suspend("mailer")
            GenServer.cast("mailer", "lost")
            wait_restarted("mailer", after=sigkill("mailer"))

            assert nothing_more()

    def test_what_process_send_sent(self, mailer):
        """Any message."""
        system.suspend("mailer")
        process.send("mailer", "sent")
        sigkill("mailer")

        assert ["sent"] == handled(1)

    def test_what_it_sent_to_itself(self, mailer):
        """Small and large."""

        def send(server):
            for message in ("to myself", "x" * 200_000):
                GenServer.cast(process.self(), message)
            GenServer.cast(process.self(), lambda server: kill_me())
            GenServer.cast(process.self(), "behind")

        GenServer.cast("mailer", send)

        assert ["to myself", 200_000, "behind"] == handled(3)

    def test_an_async_server(self, me):
        """The same."""
        with supervise(AsyncMailer.child_spec(me, name="mailer")):
            system.suspend("mailer")
            for number in range(5):
                GenServer.cast("mailer", number)
            sigkill("mailer")

            assert [0, 1, 2, 3, 4] == handled(5)
            assert nothing_more()

    def test_an_agent(self, me):
        """The same."""
        with supervise(Agent.child_spec(dict, name="mailer", mailbox="durable")):
            system.suspend("mailer")
            for number in range(3):
                Agent.cast("mailer", lambda state, number=number: {**state, number: number})
            sigkill("mailer")

            assert Agent.get("mailer", lambda state: state, 5.0) == {0: 0, 1: 1, 2: 2}

    def test_children_without_an_id(self, me):
        """Those of a dynamic supervisor."""
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            for name in ("mailer", "other"):
                DynamicSupervisor.start_child(sup, Mailer.child_spec(me, id="same", name=name))
                system.suspend(name)
                GenServer.cast(name, name)
            sigkill("other")
            assert ["other"] == handled(1)
            sigkill("mailer")
            assert ["mailer"] == handled(1)
        assert [] == files()

    def test_received_out_of_turn(self, mailer, me):
        """What a callback has received itself is handled."""
        with gate() as hold:

            def receive(server):
                hold.wait()
                process.receive(("$gen_cast", "second"))

            for messages in (["first", "second", "third"], [lambda server: kill_me(), "second", "last"]):
                GenServer.cast("mailer", receive)
                hold.wait_arrival()
                for message in messages:
                    GenServer.cast("mailer", message)
                hold.admit()

            assert ["first", "third", "last"] == handled(3)
            assert nothing_more()


class TestLargeTerms:
    @pytest.mark.parametrize("size", [5_000, 100_000, 2_000_000])
    def test_queued(self, mailer, size):
        """Also those that travel as segments elsewhere."""
        system.suspend("mailer")
        sender = process.spawn(lambda: [GenServer.cast("mailer", "x" * (size + number)) for number in range(3)])
        sender.wait(10.0)
        sigkill("mailer")

        assert [size, size + 1, size + 2] == handled(3)
        assert nothing_more()

    def test_half_received(self, mailer):
        """Its sender goes on with the successor."""
        victim = process.whereis("mailer")
        os.kill(victim.os_pid, signal.SIGSTOP)
        sender = process.spawn(lambda: [GenServer.cast("mailer", message) for message in ("x" * 300_000, "behind")])
        _wait_full(victim)
        sigkill("mailer")
        sender.wait(10.0)

        assert [300_000, "behind"] == handled(2)
        assert nothing_more()


def _wait_full(pid):
    """Wait until there is no room in the mailbox of a process."""
    fd = os.open(current().directory.mailbox(pid.id), os.O_WRONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    deadline = time.monotonic() + 5.0
    while poll.poll(0):
        assert time.monotonic() < deadline
    os.close(fd)


class TestByName:
    """Sending while nobody has the name, and a supervisor is bringing it back."""

    def test_nothing_is_lost(self, me):
        """It waits in the mailbox, and the sender does not."""
        with gate() as before:
            spec = Late.child_spec((before, None, me), name="mailer")
            before.admit()
            with supervise(spec):
                before.wait_arrival()
                sigkill("mailer")
                before.wait_arrival()
                GenServer.cast("mailer", "cast", timeout=0)
                process.send("mailer", "sent", timeout=0)
                GenServer.cast("mailer", "x" * 2_000, timeout=0)
                before.open()

                assert ["cast", "sent", 2_000] == handled(3)

    def test_a_partition(self, me):
        """It has a local name, which the key leads to."""
        with gate() as before:
            before.admit()
            spec = Late.child_spec((before, None, me))
            with PartitionSupervisor.start_link(spec, partitions=1, name="parts", max_restarts=MANY):
                before.wait_arrival()
                GenServer.call("parts/0", "ready")
                sigkill("parts/0")
                before.wait_arrival()
                GenServer.cast(Via(PartitionSupervisor, ("parts", "key")), "cast", timeout=0)
                before.open()

                assert ["ready", "cast"] == handled(2)

    def test_a_timer(self, me):
        """Its time has come while nobody has the name."""
        with gate() as before:
            before.admit()
            with supervise(Late.child_spec((before, None, me), name="mailer")):
                before.wait_arrival()
                sigkill("mailer")
                before.wait_arrival()
                process.send_after("mailer", "due", 0)
                process.send_after(process.self(), "later", 0.05)
                assert_receive("later")
                before.open()

                assert ["due"] == handled(1)

    def test_without_room_the_sender_waits(self, me):
        """For the successor, up to its time; then `MailboxFull`."""
        with gate() as before:
            before.admit()
            with supervise(Late.child_spec((before, None, me), name="mailer")):
                before.wait_arrival()
                sigkill("mailer")
                before.wait_arrival()
                with pytest.raises(MailboxFull):
                    GenServer.cast("mailer", "x" * 10_000, timeout=0.01)
                sender = process.spawn(lambda: GenServer.cast("mailer", "y" * 10_000))
                before.open()

                assert [10_000] == handled(1)
                assert sender.wait(5.0) == "normal"

    def test_a_transient_one_is_not_there(self, me):
        """As in OTP: a cast is dropped, and a message to an unknown name is an error."""
        with gate() as before:
            before.admit()
            with supervise(Late.child_spec((before, None, me), name="mailer", mailbox="transient")):
                before.wait_arrival()
                sigkill("mailer")
                before.wait_arrival()
                GenServer.cast("mailer", "lost")
                before.open()
                wait_restarted("mailer")

                assert nothing_more()

    def test_a_pid_that_is_dead(self, mailer):
        """As in OTP: what is sent to it is dropped, also by who has not heard of its death."""
        old = process.whereis("mailer")
        with gate() as hold:

            def cast():
                GenServer.cast(old, "before")
                hold.wait()
                GenServer.cast(old, "after")

            sender = process.spawn(cast)
            hold.wait_arrival()
            assert ["before"] == handled(1)
            wait_restarted("mailer", after=sigkill("mailer"))
            hold.open()
            sender.wait(5.0)

        assert nothing_more()

    def test_an_init_that_fails(self, me):
        """What waits, waits on."""
        with gate() as within:
            within.admit()
            with supervise(Late.child_spec((None, within, me), name="mailer")):
                within.wait_arrival()
                system.suspend("mailer")
                GenServer.cast("mailer", 1)
                sigkill("mailer")
                for number in (2, 3, 4):
                    within.wait_arrival()
                    GenServer.cast("mailer", number)
                    os.kill(process.whereis("mailer").os_pid, signal.SIGKILL)
                within.open()

                assert [1, 2, 3, 4] == handled(4)
                assert nothing_more()


class TestCalls:
    def test_who_waits_is_told_at_once(self, mailer, me):
        """And its request is dropped: nobody would hear the answer."""
        system.suspend("mailer")
        process.spawn(ask, "mailer", "dropped", me)
        _wait_queued("mailer", 1)
        GenServer.cast("mailer", "cast")
        victim = sigkill("mailer")

        assert assert_receive(("told", ...))[1].name == "SIGKILL"
        assert ["cast"] == handled(1)
        assert nothing_more()
        assert victim != process.whereis("mailer")

    def test_who_waits_across_the_restart(self, mailer, me):
        """Gets its answer, each one, and each request is handled once."""
        system.suspend("mailer")
        for number in range(4):
            process.spawn(lambda number=number: ask("mailer", number, me, across_restart=True))
        _wait_queued("mailer", 4)
        sigkill("mailer")

        assert {0, 1, 2, 3} == set(handled(4))
        assert {("answer", number) for number in range(4)} == {assert_receive(("told", ...))[1] for _ in range(4)}
        assert nothing_more()

    def test_across_many_deaths(self, mailer, me):
        """Those in front may be deadly."""
        system.suspend("mailer")
        for _ in range(3):
            GenServer.cast("mailer", lambda server: kill_me())
        process.spawn(lambda: ask("mailer", "patient", me, across_restart=True))
        _wait_queued("mailer", 4)
        system.resume("mailer")

        assert ["patient"] == handled(1)
        assert assert_receive(("told", ...))[1] == ("answer", "patient")
        assert nothing_more()

    def test_one_in_hand(self, mailer, me, tmp_path):
        """It is tried once more, as that was allowed; the second death is told."""

        def poison(server):
            with open(tmp_path / "tried", "a") as file:
                file.write("x")
            kill_me()

        ask("mailer", poison, me, across_restart=True)

        assert assert_receive(("told", ...))[1] == "killed by SIGKILL"
        assert (tmp_path / "tried").read_text() == "xx"
        assert [2] == [len(letter.deaths) for letter in dead_letters()]

    def test_one_in_hand_that_has_luck(self, mailer, me, tmp_path):
        """The second time it is answered."""

        def once(server):
            if not (tmp_path / "tried").exists():
                (tmp_path / "tried").touch()
                kill_me()

        ask("mailer", once, me, across_restart=True)

        assert assert_receive(("told", ...))[1] == ("answer", None)
        assert [] == dead_letters()

    def test_a_poisonous_one_without(self, mailer, me):
        """It is not tried again, whatever `redeliver` says: nobody waits."""
        ask("mailer", lambda server: kill_me(), me)

        assert assert_receive(("told", ...))[1].name == "SIGKILL"
        assert nothing_more()
        assert [1] == [len(letter.deaths) for letter in dead_letters()]

    def test_a_large_request(self, mailer, me):
        """Of which half was sent when the server died."""
        os.kill(process.whereis("mailer").os_pid, signal.SIGSTOP)
        process.spawn(lambda: ask("mailer", "x" * 300_000, me, across_restart=True))
        _wait_full(process.whereis("mailer"))
        sigkill("mailer")

        assert [300_000] == handled(1)
        assert assert_receive(("told", ...))[1][0] == "answer"

    def test_a_supervisor_that_gives_up(self, me):
        """Nobody answers any more."""
        sup = supervise(Mailer.child_spec(me, name="mailer"), max_restarts=0)
        process.spawn(lambda: ask("mailer", lambda server: kill_me(), me, across_restart=True))

        assert assert_receive(("told", ...))[1].name == "SIGKILL"
        assert sup.wait(5.0) == "shutdown"


def _wait_queued(name, count):
    deadline = time.monotonic() + 5.0
    while system.get_status(name)["queued"] < count:
        assert time.monotonic() < deadline


class TestRedeliver:
    @pytest.mark.parametrize("times", [0, 1, 2])
    def test_a_poison_message(self, me, times, tmp_path):
        """It kills once more than it may be tried again; then it is a dead letter, and the rest is served."""

        def poison(server):
            with open(tmp_path / "tried", "a") as file:
                file.write("x")
            kill_me()

        with supervise(Mailer.child_spec(me, name="mailer", redeliver=times)):
            system.suspend("mailer")
            for message in (1, poison, 2):
                GenServer.cast("mailer", message)
            system.resume("mailer")

            assert [1, 2] == handled(2)
            assert "x" * (times + 1) == (tmp_path / "tried").read_text()
            (letter,) = dead_letters()
            assert ("mailer", times + 1, "killed by SIGKILL") == (letter.server, len(letter.deaths), letter.reason)
            assert [letter.at] == [one["at"] for one in letter.deaths][-1:]

    def test_one_that_has_luck(self, me, tmp_path):
        """The second time it is handled, in its turn."""

        def once(server):
            if not (tmp_path / "tried").exists():
                (tmp_path / "tried").touch()
                kill_me()
            process.send(me, ("handled", "lucky"))

        with supervise(Mailer.child_spec(me, name="mailer", redeliver=1)):
            system.suspend("mailer")
            for message in (1, once, 2):
                GenServer.cast("mailer", message)
            system.resume("mailer")

            assert [1, "lucky", 2] == handled(3)
            assert [] == dead_letters()

    def test_each_message_counts_its_own(self, me):
        """Two deadly ones in a row die the same number of deaths."""
        with supervise(Mailer.child_spec(me, name="mailer", redeliver=1)):
            system.suspend("mailer")
            for message in (lambda server: kill_me(), lambda server: 1 / 0, "last"):
                GenServer.cast("mailer", message)
            system.resume("mailer")

            assert ["last"] == handled(1)
            assert [2, 2] == [len(letter.deaths) for letter in dead_letters()]

    @pytest.mark.parametrize("restart", ["permanent", "temporary"])
    def test_when_nobody_brings_it_back(self, me, restart):
        """A supervisor that gives up lays it aside itself, and one that does not restart."""
        spec = Mailer.child_spec(me, name="mailer", redeliver=5, restart=restart)
        sup = supervise(spec, max_restarts=1)
        GenServer.cast("mailer", "first")
        GenServer.cast("mailer", lambda server: kill_me())
        if restart == "temporary":
            process.monitor("mailer")
            assert_receive(Down, 5.0)
            GenServer.stop(sup)
        else:
            sup.wait(5.0)

        (letter,) = dead_letters()
        assert ("mailer", 2 if restart == "permanent" else 1) == (letter.server, len(letter.deaths))
        assert {"killed by SIGKILL"} == {one["reason"] for one in letter.deaths}

    def test_one_that_kills_who_reads_it(self, me):
        """It never gets to a callback."""
        with supervise(Mailer.child_spec(me, name="mailer", redeliver=5)):
            GenServer.cast("mailer", DeadlyToRead())
            GenServer.cast("mailer", "behind")

            assert ["behind"] == handled(1)
            (letter,) = dead_letters()
            assert ("a message that cannot be decoded", "killed by SIGKILL") == (letter.message, letter.reason)
            assert letter.server == "mailer"

    @pytest.mark.parametrize("cls", [Mailer, AsyncMailer])
    def test_one_that_hangs_who_reads_it(self, me, cls):
        """The watchdog of a successor watches while that reads what waited."""
        with supervise(cls.child_spec(me, name="mailer", watchdog=QUICK)):
            GenServer.cast("mailer", Unreadable())
            GenServer.cast("mailer", "behind")

            assert ["behind"] == handled(1)
            (letter,) = dead_letters()
            assert "('hang', 'blocked')" == letter.reason

    def test_a_stop_is_no_fault_of_the_message(self, me):
        """Its callback returned: it is handled, and the queue behind it goes on."""
        spec = Counter.child_spec((me, 0), name="mailer", restore="fresh", redeliver=3)
        with supervise(spec):
            system.suspend("mailer")
            GenServer.cast("mailer", lambda server, state: Stop("enough", state))
            GenServer.cast("mailer", lambda server, state: NoReply((state[0], state[1] + 1)))
            system.resume("mailer")
            before = process.whereis("mailer")
            wait_restarted("mailer", after=before)

            assert GenServer.call("mailer", "count") == 1
            assert [] == dead_letters()

    def test_it_is_reported_once(self, mailer, caplog):
        """Who, what, how often, and what to do."""
        with caplog.at_level(logging.ERROR, "otp_runtime.letter"):
            GenServer.cast("mailer", lambda server: kill_me())
            wait_restarted("mailer", after=process.whereis("mailer"))
            deadline = time.monotonic() + 5.0
            while not [one for one in caplog.records if one.name == "otp_runtime.letter"]:
                assert time.monotonic() < deadline
            (record,) = [one for one in caplog.records if one.name == "otp_runtime.letter"]

        (letter,) = dead_letters()
        assert "mailer died once with a message in hand" in record.message
        assert f"otp letters replay {letter.id}" in record.message
        assert record.otp["id"] == letter.id

    def test_telemetry(self, me):
        """`letter`, and what was recovered."""
        with supervise(Watched.child_spec(me, name="mailer")):
            system.suspend("mailer")
            for message in (lambda server: kill_me(), "behind"):
                GenServer.cast("mailer", message)
            system.resume("mailer")

            assert assert_receive(("letter", ..., ...), 5.0) == ("letter", 1, "killed by SIGKILL")

    def test_why_tells_as_ever(self, mailer):
        """The message in hand is in the record of the death."""
        GenServer.cast("mailer", ("poison", 1) and (lambda server: 1 / 0))
        wait_restarted("mailer", after=process.whereis("mailer"))

        assert why("mailer").kind == "exception"


class TestWithAState:
    """`restore="last_good"` as well: the kept state and the marks agree."""

    @pytest.mark.parametrize("cls", [Counter, AsyncCounter])
    def test_each_is_counted_once(self, me, cls):
        """The state has what was handled, the mailbox the rest."""
        with supervise(cls.child_spec((me, 0), name="mailer")):
            system.suspend("mailer")
            for _ in range(10):
                GenServer.cast("mailer", lambda server, state: NoReply((state[0], state[1] + 1)))
            GenServer.cast("mailer", lambda server, state: kill_me())
            for _ in range(10):
                GenServer.cast("mailer", lambda server, state: NoReply((state[0], state[1] + 1)))
            system.resume("mailer")
            wait_restarted("mailer", after=process.whereis("mailer"))

            assert GenServer.call("mailer", "count", across_restart=True) == 20

    def test_killed_between_the_state_and_the_reply(self, me):
        """Its state is kept, so it counts as handled; who waits on is told that no answer comes."""
        with supervise(Counter.child_spec((me, 0), name="mailer", redeliver=3)):
            process.spawn(functools.partial(ask, "mailer", add_deadly, me, across_restart=True))

            assert assert_receive(("told", ...))[1] == "killed by SIGKILL"
            assert (GenServer.call("mailer", "count"), dead_letters()) == (1, [])

    def test_a_commit_in_the_middle_is_not_the_end(self, me, tmp_path):
        """What is kept by `self.commit` leaves the message in hand."""

        def add(server, state):
            if not (tmp_path / "tried").exists():
                (tmp_path / "tried").touch()
                server.commit((state[0], state[1] + 100))
                kill_me()
            return NoReply((state[0], state[1] + 1))

        with supervise(Counter.child_spec((me, 0), name="mailer", redeliver=1)):
            GenServer.cast("mailer", add)
            wait_restarted("mailer", after=process.whereis("mailer"))

            assert GenServer.call("mailer", "count") == 101

    def test_a_bad_state(self, me):
        """The message that gave it is a dead letter."""
        with supervise(Counter.child_spec((me, 0), name="mailer")):
            GenServer.cast("mailer", lambda server, state: NoReply((state[0], sys.stdin)))
            GenServer.cast("mailer", lambda server, state: NoReply((state[0], state[1] + 1)))
            wait_restarted("mailer", after=process.whereis("mailer"))

            assert GenServer.call("mailer", "count") == 1
            assert ["('bad_state', 'state[1]')"] == [letter.reason for letter in dead_letters()]


class TestEnds:
    """When what waits is forgotten, and when not."""

    def queue(self, name="mailer"):
        system.suspend(name)
        GenServer.cast(name, "waits")

    def test_a_normal_end(self, mailer):
        """As in OTP what is queued behind it is gone."""
        with gate() as hold:
            GenServer.cast("mailer", lambda server: hold.wait())
            hold.wait_arrival()
            before = process.whereis("mailer")
            stopper = process.spawn(lambda: GenServer.stop("mailer"))
            _wait_for_bytes(before)
            GenServer.cast("mailer", "gone")
            hold.open()
            stopper.wait(5.0)
            wait_restarted("mailer", after=before)

        assert nothing_more()

    def test_terminate_child(self, mailer):
        """What waited is gone, as who asked for it knew."""
        self.queue()
        Supervisor.terminate_child(mailer, "mailer")
        assert [] == files()
        Supervisor.restart_child(mailer, "mailer")

        assert nothing_more()

    def test_delete_child(self, mailer):
        """Nothing is left."""
        assert len(files()) > 0
        Supervisor.terminate_child(mailer, "mailer")
        Supervisor.delete_child(mailer, "mailer")

        assert [] == files()

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_a_siblings_death(self, me, strategy):
        """A group restart is a restart."""
        with supervise(Agent.child_spec(dict, name="first"), Mailer.child_spec(me, name="mailer"), strategy=strategy):
            self.queue()
            sigkill("first")

            assert ["waits"] == handled(1)

    def test_a_supervisor_that_is_killed(self, me):
        """The one after it finds what was in the mailbox."""
        inner = Supervisor.child_spec([Mailer.child_spec(me, name="mailer")], strategy="one_for_one", name="inner")
        with supervise(inner):
            self.queue()
            sigkill("inner")

            assert ["waits"] == handled(1)
        assert [] == files()

    def test_a_supervisor_that_is_restarted(self, me):
        """With its group."""
        inner = Supervisor.child_spec([Mailer.child_spec(me, name="mailer")], strategy="one_for_one", name="inner")
        with supervise(Agent.child_spec(dict, name="first"), inner, strategy="one_for_all"):
            self.queue()
            sigkill("first")

            assert ["waits"] == handled(1)
        assert [] == files()

    def test_no_supervisor(self, me):
        """Nobody brings it back: its mailbox is as any other."""
        with Mailer.start_link(me, name="mailer"):
            assert system.get_status("mailer")["mailbox"] == "transient"
            assert [] == files()


def _wait_for_bytes(pid):
    """Wait until something lies in the mailbox of a process, or was read by it."""
    box = Box.open(current().directory.box(pid.id))
    fd = os.open(current().directory.mailbox(pid.id), os.O_RDWR | os.O_NONBLOCK)
    deadline = time.monotonic() + 5.0
    while not (struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0] or box.queued_bytes):
        assert time.monotonic() < deadline
    os.close(fd)
    box.close()


class TestHandover:
    @pytest.mark.parametrize("renew", [recycle, upgrade])
    def test_it_keeps_all(self, mailer, me, renew):
        """What waits is handled once, by the successor, or by the one after a death."""
        system.suspend("mailer")
        for number in range(3):
            GenServer.cast("mailer", number)
        renew("mailer")
        GenServer.cast("mailer", 3)
        system.resume("mailer")
        assert [0, 1, 2, 3] == handled(4)
        system.suspend("mailer")
        for number in range(4, 7):
            GenServer.cast("mailer", number)
        assert system.get_status("mailer")["queued"] == 3
        renew("mailer")
        GenServer.cast("mailer", 7)
        sigkill("mailer")

        assert [4, 5, 6, 7] == handled(4)
        assert nothing_more()


class TestRoom:
    def test_the_log_does_not_grow(self, mailer, me):
        """What is handled is let go of."""
        for number in range(200):
            GenServer.cast("mailer", "x" * 10_000)
            if number % 20 == 0:
                GenServer.call("mailer", "wait")
        GenServer.call("mailer", "wait")
        (log,) = (current().directory.path / "state").rglob("*.mail")

        assert log.stat().st_size < 1_000_000

    def test_nor_with_a_queue_that_never_ends(self, mailer, me):
        """The rest is written anew, and is all there after a death."""

        def send(numbers):
            for number in numbers:
                GenServer.cast("mailer", str(number).ljust(900))

        with gate() as hold:
            GenServer.cast("mailer", lambda server: hold.wait())
            hold.wait_arrival()
            told = []
            for step in range(20):
                send(range(step * 30, step * 30 + 30))
                GenServer.cast("mailer", lambda server: hold.wait())
                hold.admit()
                hold.wait_arrival()
                told += handled(30)
            send(range(600, 630))
            (log,) = (current().directory.path / "state").rglob("*.mail")
            size = log.stat().st_size
            sigkill("mailer")
            told += handled(30)

        assert [str(number).ljust(900) for number in range(630)] == told
        assert nothing_more()
        assert size < 500_000

    def test_no_room_is_an_error_with_a_name(self, me):
        """The server ends and says where; what was in the mailbox is not lost."""
        sup = supervise(Cramped.child_spec(me, name="mailer"), max_restarts=0)
        victim = process.whereis("mailer")
        os.kill(victim.os_pid, signal.SIGSTOP)
        for _ in range(4):
            GenServer.cast("mailer", "x" * 3_000)
        process.monitor(victim)
        os.kill(victim.os_pid, signal.SIGCONT)
        reason = assert_receive(Down, 5.0).reason
        sup.wait(5.0)

        assert ("durable_mailbox", True) == (reason[0], "no room" in reason[2])

    def test_something_else_in_its_place(self, mailer, me):
        """The start fails, and says what is wrong; nothing is overwritten."""
        (log,) = (current().directory.path / "state").rglob("*.mail")
        before = log.read_bytes()
        log.write_bytes(b"a diary")
        victim = sigkill("mailer")
        deadline = time.monotonic() + 5.0
        while not isinstance((death := why("Mailer")) and death.reason, tuple):
            assert time.monotonic() < deadline
        log.write_bytes(before)
        wait_restarted("mailer", after=victim)

        assert death.reason[2].endswith(".mail is no mailbox")


class TestGarbage:
    def test_what_is_no_frame(self, mailer, me):
        """It is skipped, once and by who reads the log again."""
        with open(current().directory.mailbox(process.whereis("mailer").id), "wb", buffering=0) as file:
            for junk in (b"junk", b"\xc1\x00\xff\x0f and more", b"\xc1"):
                file.write(junk)
                GenServer.call("mailer", "seen")
        system.suspend("mailer")
        GenServer.cast("mailer", "behind")
        sigkill("mailer")

        assert ["seen"] * 3 + ["behind"] == handled(4)
        assert nothing_more()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"mailbox": "lasting"}, "mailbox='lasting'; allowed: 'transient' or 'durable'"),
            ({"mailbox": None}, "mailbox=None"),
            ({"mailbox": "durable", "redeliver": -1}, "redeliver=-1; allowed: an integer of 0 or more"),
            ({"mailbox": "durable", "redeliver": True}, "redeliver=True"),
            ({"mailbox": "durable", "redeliver": 1.5}, "redeliver=1.5"),
            ({"mailbox": "transient", "redeliver": 1}, "redeliver=1; allowed: 0 without mailbox='durable'"),
        ],
    )
    def test_wrong_values(self, options, text):
        """In the caller, before anything starts."""
        for start in (Mailer.child_spec, Mailer.start_link):
            with pytest.raises(BadChildSpec, match=text):
                start(0, **options)

    def test_of_the_class(self, me):
        """In `options`, too."""

        class Optioned(Mailer):
            mailbox = "transient"
            options = {"mailbox": "durable", "redeliver": 2}  # noqa: RUF012 - never changed

        with supervise(Optioned.child_spec(me, name="mailer")):
            assert system.get_status("mailer")["mailbox"] == "durable"

    def test_what_cannot_have_one(self):
        """Said with the reason."""
        with pytest.raises(BadChildSpec, match="postpones"):
            GenStateMachine.child_spec(0, mailbox="durable")
        with pytest.raises(BadChildSpec, match="event manager"):
            GenEvent.child_spec(mailbox="durable")

    def test_a_function_is_no_setting(self):
        """As with any setting."""
        with pytest.raises(TypeError, match="a setting of the class"):
            type("Wrong", (GenServer,), {"mailbox": lambda self: "durable"})
