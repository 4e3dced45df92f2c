"""Starting: what `init` returns, what its starter is told, what is left when it fails."""

import os
import time

import pytest

from otp_runtime import (
    AlreadyStarted,
    Crash,
    Down,
    Exit,
    Exited,
    GenServer,
    InitFailed,
    NoReply,
    Ok,
    Reply,
    Signalled,
    StartTimeout,
    process,
    system,
)
from otp_runtime.testing import assert_receive, gate
from tests.behaviours import servers
from tests.behaviours.servers import Bare, Scripted

VALUES = (0, None, "", "text", [1], {"a": 1}, (1, 2), ("ok", 1), b"bytes", 1.5, True)


class TestInit:
    @pytest.mark.parametrize("state", VALUES)
    def test_any_value_is_the_state(self, me, state):
        """None too."""
        assert system.get_state(Scripted.start_link(lambda: state)) == state

    def test_default(self, me):
        """Without an `init` the argument is the state."""
        assert system.get_state(Bare.start_link(41)) == 41
        assert system.get_state(Bare.start_link()) is None

    def test_ok(self, me):
        """The state, wrapped."""
        assert system.get_state(Scripted.start_link(servers.ok([1]))) == [1]

    def test_ignore(self, me):
        """None; the name is free, nothing is left, nobody is told of an end."""
        assert Scripted.start_link(servers.ignore, name="ignored") is None
        assert (process.whereis("ignored"), process.flush()) == (None, [])

    @pytest.mark.parametrize("reason", ["custom", "normal", "shutdown", ("shutdown", 1), ("a", [None])])
    def test_stop(self, me, reason):
        """InitFailed with the reason."""
        with pytest.raises(InitFailed) as error:
            Scripted.start_link(servers.stop(reason), name="failing")

        assert (error.value.reason, process.whereis("failing")) == (reason, None)

    @pytest.mark.parametrize("wrong", [Reply(1, 2), NoReply(1), Reply.error(ValueError(), 1)])
    def test_bad_return(self, me, wrong, caplog):
        """Control objects of other callbacks are; the report names the callback and what is allowed."""
        with pytest.raises(InitFailed) as error:
            Scripted.start_link(lambda: wrong)

        assert error.value.reason[0] == "bad_return_value"
        assert type(error.value.reason[1]) is type(wrong)

    def test_raises(self, me):
        """A Crash, with the traceback as a note."""
        with pytest.raises(InitFailed, match="ValueError: boom") as error:
            Scripted.start_link(servers.boom)

        assert error.value.reason.type == "ValueError"
        assert "in boom" in error.value.__notes__[0]

    @pytest.mark.parametrize(
        ("leave", "reason"),
        [
            (lambda: os._exit(3), Exited(3)),
            (lambda: os._exit(0), Exited(0)),
            (lambda: os.kill(os.getpid(), 9), Signalled("SIGKILL")),
            (lambda: os.kill(os.getpid(), 11), Signalled("SIGSEGV")),
            (servers.exit_with("custom"), "custom"),
            (servers.exit_with("normal"), "normal"),
        ],
        ids=["exit 3", "exit 0", "SIGKILL", "SIGSEGV", "ExitWith", "ExitWith normal"],
    )
    def test_ends(self, me, leave, reason):
        """However; the starter is told, no Exit follows, the name is free."""
        with pytest.raises(InitFailed) as error:
            Scripted.start_link(leave, name="failing")

        assert error.value.reason == reason
        assert (process.whereis("failing"), process.flush()) == (None, [])

    def test_calls_a_dead_process(self, me):
        """An uncaught CallError gives its reason."""
        with pytest.raises(InitFailed) as error:
            Scripted.start_link(lambda: GenServer.call("nobody", 1))

        assert error.value.reason == "noproc"

    def test_runs_in_the_server(self, me):
        """Its pid is there already, and its name."""
        pid = Scripted.start_link(lambda: (process.self(), process.whereis("named")), name="named")

        assert system.get_state(pid) == (pid, pid)


class TestStart:
    def test_is_linked_to_nobody(self, me):
        """Its crash is told to nobody."""
        pid = Scripted.start(0)
        process.exit(pid, "custom")
        pid.wait(5.0)

        assert process.flush() == []

    def test_link(self, me):
        """Is told."""
        pid = Scripted.start_link(0)
        process.exit(pid, "custom")

        assert assert_receive(Exit, 5.0) == Exit(pid, "custom")

    def test_monitor(self, me):
        """From the first instant."""
        pid, ref = Scripted.start_monitor(0)
        process.exit(pid, "custom")

        assert assert_receive(Down, 5.0) == Down(ref, pid, "custom")

    def test_monitor_of_one_that_ignores(self, me):
        """There is nothing to watch."""
        assert Scripted.start_monitor(servers.ignore) == (None, None)

    def test_name_taken(self, me):
        """Says by whom; that one is unharmed."""
        first = Scripted.start_link(1, name="taken")
        with pytest.raises(AlreadyStarted) as error:
            Scripted.start_link(2, name="taken")

        assert (error.value.pid, system.get_state("taken")) == (first, 1)

    def test_the_loser_does_not_run_init(self, me):
        """It finds the name taken before."""
        Scripted.start_link(1, name="taken")
        with pytest.raises(AlreadyStarted):
            Scripted.start_link(lambda: process.send(me, "init ran"), name="taken")

        assert process.flush() == []

    def test_two_race(self, me):
        """From two processes: one wins, the other is told who did."""

        def start(tell, hold):
            hold.wait()
            try:
                process.send(tell, ("won", Scripted.start(0, name="raced")))
            except AlreadyStarted as error:
                process.send(tell, ("lost", error.pid))

        for _ in range(3):
            with gate() as hold:
                for _ in range(2):
                    process.spawn(start, me, hold)
                    hold.wait_arrival()
                hold.open()
                found = dict(assert_receive((..., ...), 5.0) for _ in range(2))
            GenServer.stop("raced")

            assert found["won"] == found["lost"]

    def test_timeout(self, me):
        """Killed, its name free, nothing follows."""
        with gate() as hold:
            with pytest.raises(StartTimeout) as error:
                Scripted.start_link(hold.wait, name="slow", timeout=0.05)

            assert error.value.timeout == 0.05
            assert (process.whereis("slow"), process.flush()) == (None, [])

    def test_in_time(self, me):
        """The limit is that of the start alone."""
        pid = Scripted.start_link(0, timeout=5.0)

        assert system.get_state(pid) == 0

    @pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan")])
    def test_no_timeout(self, me, timeout):
        """Refused before anything starts."""
        with pytest.raises((TypeError, ValueError), match="timeout"):
            Scripted.start_link(0, timeout=timeout)

    def test_a_name_that_is_none(self, me):
        """Says what is allowed."""
        with pytest.raises(TypeError, match="name"):
            Scripted.start_link(0, name=42)

    def test_an_argument_that_cannot_travel(self, me, unsendable):
        """In the starter."""
        from otp_runtime import CodecError

        for thing in unsendable.values():
            with pytest.raises(CodecError):
                Scripted.start_link({"here": thing})

    def test_by_a_server(self, me):
        """Linked to that one, and ends with it."""
        outer = Scripted.start(lambda: Scripted.start_link(0))
        inner = system.get_state(outer)
        process.exit(outer, "custom")

        assert inner.wait(5.0) == "custom"

    def test_unlinked_by_a_server(self, me):
        """Outlives it."""
        outer = Scripted.start(lambda: Scripted.start(0))
        inner = system.get_state(outer)
        GenServer.stop(outer)

        assert system.get_state(inner) == 0

    def test_takes_no_longer_than_init(self, me):
        """A start waits for nothing else."""
        started = time.monotonic()
        Scripted.start_link(0)

        assert time.monotonic() - started < 5.0

    def test_ok_is_not_its_state(self, me):
        """`Ok` is taken apart."""
        assert system.get_state(Scripted.start_link(lambda: Ok(Ok))) is Ok

    def test_crash_is_told_apart_from_a_value(self, me):
        """A Crash returned is a state, one raised an end."""
        assert system.get_state(Scripted.start_link(lambda: Crash("x", "y"))) == Crash("x", "y")
