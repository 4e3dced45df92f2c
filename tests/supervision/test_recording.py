"""What a server with `record=True` leaves when it dies: the state it had, and what it was about to handle since."""

import os
import threading

import pytest

from otp_runtime import (
    Agent,
    BadChildSpec,
    CodecError,
    Down,
    DynamicSupervisor,
    Every,
    GenEvent,
    GenServer,
    GenStateMachine,
    InitFailed,
    Supervisor,
    process,
    system,
    upgrade,
)
from otp_runtime.core import messages as wire
from otp_runtime.host import recording_file
from otp_runtime.host.recording_file import BASE, CONTINUE, LOST
from otp_runtime.process import recordings
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, sigkill, wait_restarted
from tests.supervision.recorded import AsyncRecorded, Machine, Recorded, Starter, Versioned

MANY = 1_000_000


def supervise(*children, **flags):
    return Supervisor.start_link(list(children), strategy="one_for_one", max_restarts=MANY, **flags)


def die(message="boom", name="recorded"):
    """Let the server die of a cast; wait for its successor."""
    before = process.whereis(name)
    GenServer.cast(name, message)
    wait_restarted(name, after=before)


def last():
    """Give the last recording of the dead: its base, and what was received since."""
    (path, about) = recordings.of_the_dead(current().directory)[-1]
    found = recording_file.read(path)
    base = current().codec.decode(found.base.data) if found.base.kind == BASE else found.base.data
    return about.server, base, [_said(entry) for entry in found.entries]


def _said(entry):
    term = current().codec.decode(entry.data)
    if entry.kind == CONTINUE:
        return ("continue", term[0])
    return ({wire.CALL: "call", wire.CAST: "cast", wire.SEND: "info"}[term[0]], term[-1])


@pytest.fixture
def recorded(me):
    with supervise(Recorded.child_spec(name="recorded")) as sup:
        yield sup


class TestReceived:
    def test_all_since_init(self, recorded):
        """Without commits: calls, casts, infos, in order, the fatal one last."""
        GenServer.cast("recorded", 1)
        process.send("recorded", 2)
        assert GenServer.call("recorded", 3) == 2
        die()

        assert last() == ("recorded", [], [("cast", 1), ("info", 2), ("call", 3), ("cast", "boom")])

    def test_also_by_a_call_that_waits_alone(self, recorded):
        """The straight path records, too."""
        before = process.whereis("recorded")
        assert [GenServer.call("recorded", number) for number in range(3)] == [0, 1, 2]
        sigkill("recorded")
        wait_restarted("recorded", after=before)

        assert last()[2] == [("call", 0), ("call", 1), ("call", 2)]

    def test_what_the_runtime_made(self, recorded):
        """A time-out and a continue are among it, where they were handled."""
        GenServer.cast("recorded", ("soon", process.self()))
        assert_receive("timed out")
        GenServer.cast("recorded", "go on")
        die()
        received = last()[2]

        assert received[1:] == [("info", "timeout"), ("cast", "go on"), ("continue", "going"), ("cast", "boom")]

    def test_a_continue_of_init(self, me):
        """It comes first."""
        with supervise(Starter.child_spec(name="recorded")):
            die()

            assert last() == ("recorded", [], [("continue", "first"), ("cast", "boom")])

    def test_of_an_async_server(self, me):
        """The same."""
        with supervise(AsyncRecorded.child_spec(name="recorded")):
            GenServer.cast("recorded", 1)
            die()

            assert last() == ("recorded", [], [("cast", 1), ("cast", "boom")])

    def test_large_messages(self, recorded):
        """Those that travelled in a file, too."""
        GenServer.cast("recorded", "x" * 700_000)
        die()

        assert [("cast", "x" * 700_000), ("cast", "boom")] == last()[2]

    def test_a_full_recording_begins_anew(self, recorded):
        """With the state of that time; so the fatal message can be reached from it."""
        for number in range(40):
            GenServer.cast("recorded", str(number) * 25_000)
        die()
        _, base, received = last()

        assert len(base) + len(received) == 41
        assert (0 < len(base) < 40, ("cast", "boom")) == (True, received[-1])

    @pytest.mark.slow
    def test_one_that_is_too_large(self, recorded):
        """It is said that it is missing; the server is not disturbed."""
        GenServer.cast("recorded", "x" * 17_000_000)
        GenServer.call("recorded", "look", 20)
        before = process.whereis("recorded")
        sigkill("recorded")
        wait_restarted("recorded", after=before)
        path, _ = recordings.of_the_dead(current().directory)[-1]
        entry, _call = recording_file.read(path).entries

        assert b"too large to be recorded" in entry.data


class TestFromTheLastGoodState:
    def test_committed_after_every_callback(self, me):
        """Only the fatal message is left, and the state before it."""
        with supervise(Recorded.child_spec(name="recorded", restore="last_good")):
            for message in (1, "quiet", 2):
                GenServer.cast("recorded", message)
            die()
            assert last() == ("recorded", [1, 2], [("cast", "boom")])
            GenServer.cast("recorded", 3)
            GenServer.call("recorded", "boom again")
            die()

            assert last() == ("recorded", [1, 2, 3, "boom again"], [("cast", "boom")])

    def test_of_an_async_server(self, me):
        """The same."""
        with supervise(AsyncRecorded.child_spec(name="recorded", restore="last_good")):
            GenServer.cast("recorded", 1)
            die()

            assert last() == ("recorded", [1], [("cast", "boom")])

    def test_committed_now_and_then(self, me):
        """What came since the commit."""
        with supervise(Recorded.child_spec(name="recorded", restore="last_good", commit=Every(2))):
            for message in (1, 2, 3):
                GenServer.cast("recorded", message)
            die()

            assert last() == ("recorded", [1, 2], [("cast", 3), ("cast", "boom")])

    def test_committed_by_itself(self, me):
        """From the end of the callback that committed, as one in the middle could not be run again."""
        with supervise(Recorded.child_spec(name="recorded", restore="last_good", commit="manual")):
            for message in (1, "commit", 2):
                GenServer.cast("recorded", message)
            die()

            assert last() == ("recorded", [1, "commit"], [("cast", 2), ("cast", "boom")])

    def test_of_a_durable_one(self, me, tmp_path):
        """The database is asked nothing."""
        with supervise(Recorded.child_spec(name="recorded", durable=tmp_path / "here.db")):
            GenServer.cast("recorded", 1)
            die()

            assert last() == ("recorded", [1], [("cast", "boom")])

    def test_a_continue_that_was_due(self, me):
        """The state is kept, and what it was to go on with is the first that follows."""
        with supervise(Recorded.child_spec(name="recorded", restore="last_good")):
            GenServer.cast("recorded", "go on")
            die()

            assert last() == ("recorded", ["go on", "going"], [("cast", "boom")])


class TestStateMachine:
    @pytest.mark.parametrize("options", [{}, {"restore": "last_good"}])
    def test_the_whole_machine(self, me, options):
        """Also of what is not kept: the events it has postponed."""
        with supervise(Machine.child_spec(name="machine", **options)):
            GenServer.cast("machine", "later")
            GenServer.cast("machine", "work")
            assert GenStateMachine.call("machine", "data", 5) == 11
            die(name="machine")
            _, base, received = last()

            assert received[-1] == ("cast", "boom")
            assert (("busy", 11) if options else ("idle", 0)) == (base.state, base.data)
            assert bool(options) == ("later" in [event.content for event in base.postponed])


class TestBegins:
    def test_after_a_replaced_state(self, recorded):
        """What came before does not lead to it."""
        GenServer.cast("recorded", 1)
        system.replace_state("recorded", lambda _state: ["new"])
        die()

        assert last() == ("recorded", ["new"], [("cast", "boom")])

    @pytest.mark.slow
    def test_after_an_upgrade(self, me):
        """With the state that was handed over."""
        with supervise(Versioned.child_spec(name="recorded")):
            GenServer.cast("recorded", 1)
            upgrade("recorded")
            GenServer.cast("recorded", 2)
            die()

            assert last() == ("recorded", [1], [("cast", 2), ("cast", "boom")])

    def test_a_state_that_cannot_be_encoded_fails_the_start(self, me):
        """As with a state that is kept."""
        with pytest.raises(InitFailed) as failed:
            Agent.start_link(threading.Lock, record=True)

        assert ("bad_state", "state") == failed.value.reason

    def test_one_that_comes_later_does_no_harm(self, recorded):
        """The recording goes on from the state before it, until it is to begin anew: then it says why it cannot."""
        GenServer.cast("recorded", "lock")
        assert GenServer.call("recorded", "look") == 1
        with pytest.raises(CodecError):
            system.replace_state("recorded", lambda state: state)
        die()
        path, _ = recordings.of_the_dead(current().directory)[-1]

        assert recording_file.read(path).base.kind == LOST


class TestOfTheDead:
    def test_none_of_a_normal_end(self, me):
        """Nor of one that a supervisor stopped."""
        with supervise(Recorded.child_spec(name="recorded")) as sup:
            known = len(recordings.of_the_dead(current().directory))
            Supervisor.terminate_child(sup, "recorded")
            Supervisor.restart_child(sup, "recorded")
            GenServer.stop("recorded")

        assert known == len(recordings.of_the_dead(current().directory))

    def test_without_a_supervisor(self, me):
        """The launcher keeps it."""
        pid = Recorded.start("arg", name="alone")
        ref = process.monitor(pid)
        GenServer.cast(pid, "boom")
        assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)

        assert last() == ("alone", ["arg"], [("cast", "boom")])

    def test_of_a_dynamic_child(self, me):
        """By its class, when it has no name."""
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            pid = DynamicSupervisor.start_child(sup, Recorded.child_spec("dynamic"))
            ref = process.monitor(pid)
            GenServer.cast(pid, "boom")
            assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)

            assert last() == ("Recorded", ["dynamic"], [("cast", "boom")])

    def test_the_last_three_of_each(self, recorded):
        """The oldest go, and no file of the living is left over."""
        for number in range(5):
            GenServer.cast("recorded", number)
            die()
        mine = [path for path, about in recordings.of_the_dead(current().directory) if about.server == "recorded"]

        assert recordings.KEPT_PER_SERVER == len(mine)
        assert [("cast", 4), ("cast", "boom")] == last()[2]

    def test_nothing_is_left_after_the_tree(self, me):
        """A recording of the living goes with its place."""
        with supervise(Recorded.child_spec(name="recorded")):
            # a recording begins with the loop, which is behind the answer to whoever started the server
            GenServer.call("recorded", "is there a loop?")
            found = list((current().directory.path / "state").rglob("*.record"))
            assert len(found) == 1

        assert not os.path.exists(found[0])


class TestOption:
    @pytest.mark.parametrize("value", [1, "yes", None])
    def test_wrong_value(self, me, value):
        """Refused before anything starts."""
        with pytest.raises(BadChildSpec, match=r"record=.*; allowed: True or False"):
            Recorded.child_spec(record=value)

    def test_not_of_an_event_manager(self, me):
        """Its state is no data."""
        with pytest.raises(BadChildSpec, match="of a GenEvent"):
            GenEvent.child_spec(record=True)


@pytest.mark.slow
class TestRandomKills:
    def test_the_recording_leads_to_what_was_seen(self, me):
        """Killed under load, again and again: base and entries are a run of numbers without a gap."""
        with supervise(Recorded.child_spec(name="recorded", restore="last_good", commit=Every(5))):
            tester = process.self()
            loader = process.spawn(_load, tester)
            for _ in range(15):
                before = process.whereis("recorded") or wait_restarted("recorded")
                assert_receive("loaded", 5.0)
                sigkill("recorded")
                wait_restarted("recorded", after=before)
                _, base, received = last()
                if isinstance(base, bytes):
                    # killed before it began to take messages: what is said is that there is no round yet
                    assert [] == received
                    continue
                numbers = [*base, *(message for _, message in received)]
                assert sorted(numbers) == numbers
                assert len(numbers) == len(set(numbers))
            process.exit(loader, "kill")


def _load(tester):
    number = 0
    while True:
        for _ in range(37):
            number += 1
            GenServer.cast("recorded", number)
        process.send(tester, "loaded")
