"""Spawning: the new process runs the function, and every kind of end has its exact reason."""

import os
import signal

import pytest

from otp_runtime import Crash, Down, Exit, Exited, Signalled, process
from otp_runtime.testing import assert_receive
from tests.process import plain


def end_of(function, *args):
    """Give the reason that a monitor tells."""
    pid, ref = process.spawn_monitor(function, *args)
    down = assert_receive(Down, 5.0)
    assert (down.ref, down.pid) == (ref, pid)
    return down.reason


class TestSpawn:
    def test_runs_elsewhere(self, me):
        """In an OS process of its own, that has a pid of its own."""
        pid = process.spawn(lambda: process.send(me, (process.self(), os.getpid())))
        other, os_pid = assert_receive((..., ...), 5.0)

        assert (other, os_pid != os.getpid()) == (pid, True)

    def test_a_closure_with_arguments(self, me):
        """What it closes over travels with it."""
        number = 41
        process.spawn(lambda *args: process.send(me, (number, *args)), 1, "b", [3])

        assert assert_receive(tuple, 5.0) == (41, 1, "b", [3])

    def test_is_linked_to_nobody(self, me):
        """Its crash is not this process's business."""
        pid = process.spawn(plain.raise_value_error)
        pid.wait(5.0)

        assert process.flush() == []

    def test_pids_are_never_used_again(self, me):
        """Each is another."""
        pids = [process.spawn(int) for _ in range(5)]

        assert len(set(pids)) == 5

    def test_a_process_spawns(self, me):
        """Also a spawned one may."""
        process.spawn(lambda: process.spawn(lambda: process.send(me, "from below")).wait(5.0))

        assert assert_receive("from below", 5.0)


class TestEnds:
    def test_returns(self, me):
        """Normal, whatever the function returned."""
        assert end_of(str, "value") == "normal"

    def test_raises(self, me):
        """A Crash, with type, text and traceback."""
        reason = end_of(plain.raise_value_error)

        assert (reason.type, reason.message) == ("ValueError", "boom")
        assert "raise_value_error" in reason.traceback

    def test_raises_what_cannot_be_pickled(self, me):
        """Arrives as data all the same."""
        reason = end_of(plain.raise_unspeakable)

        assert isinstance(reason, Crash)
        assert reason.type.endswith("UnspeakableError")
        assert "RuntimeError" in reason.message

    @pytest.mark.parametrize("reason", plain.REASONS)
    def test_exits_with(self, me, reason):
        """Any term."""
        assert end_of(plain.exit_with, reason) == reason

    @pytest.mark.parametrize(
        ("code", "reason"),
        [(None, "normal"), (0, "normal"), (1, Exited(1)), (3, Exited(3)), (255, Exited(255)), ("text", Exited(1))],
    )
    def test_sys_exit(self, me, code, reason):
        """A code of 0 or none is normal."""
        assert end_of(plain.sys_exit, code) == reason

    @pytest.mark.parametrize("code", [0, 1, 7])
    def test_os_exit(self, me, code):
        """Without a word: the code, 0 too."""
        assert end_of(os._exit, code) == Exited(code)

    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
    def test_signals(self, me, signum):
        """Their names."""
        assert end_of(plain.die_by, signum) == Signalled(signum.name)

    def test_a_real_time_signal(self, me):
        """Has a name too."""
        assert end_of(plain.die_by, signal.SIGRTMIN + 9) == Signalled("SIGRTMIN+9")

    def test_killed_by_request(self, me):
        """Told apart from a SIGKILL of the world's."""
        pid, _ref = process.spawn_monitor(plain.linger)
        process.exit(pid, "kill")

        assert assert_receive(Down, 5.0).reason == "killed"

    def test_keyboard_interrupt(self, me):
        """An exception as any other."""

        def interrupt():
            raise KeyboardInterrupt

        assert end_of(interrupt).type == "KeyboardInterrupt"

    def test_recursion(self, me):
        """Python's own limit is a Crash, not a broken process."""

        def recurse():
            return recurse() + 1

        assert end_of(recurse).type == "RecursionError"

    def test_a_long_reason(self, me):
        """However long."""
        assert end_of(plain.exit_with, ("long", "x" * 100_000)) == ("long", "x" * 100_000)

    def test_a_reason_that_cannot_travel(self, me):
        """Is told as text."""

        def exit_with_file():
            plain.exit_with(("open", open(os.devnull)))  # noqa: SIM115 - it dies with its process

        kind, text = end_of(exit_with_file)

        assert (kind, "/dev/null" in text) == ("open", True)


class TestSpawnLink:
    def test_its_end_is_told(self, me):
        """The program traps: an Exit with the reason."""
        pid = process.spawn_link(plain.exit_with, "custom")

        assert assert_receive(Exit, 5.0) == Exit(pid, "custom")

    def test_a_normal_end_is_not_queued_in_a_program(self, me):
        """A program that never receives must not fill up."""
        process.spawn_link(int).wait(5.0)

        assert process.flush() == []

    def test_dies_at_once(self, me):
        """Even one that is dead before the link is held is told of."""
        for _ in range(10):
            pid = process.spawn_link(os._exit, 9)

            assert assert_receive(Exit, 5.0) == Exit(pid, Exited(9))

    def test_takes_its_starter_along(self, me):
        """A process that does not trap dies of what its link dies of."""
        _pid, ref = process.spawn_monitor(lambda: (process.spawn_link(plain.exit_with, "custom"), plain.linger()))
        down = assert_receive(Down, 5.0)

        assert (down.ref, down.reason) == (ref, "custom")


class TestSpawnMonitor:
    def test_dies_at_once(self, me):
        """The Down has the true reason, dead before the monitor or not."""
        assert [end_of(os._exit, 5) for _ in range(10)] == [Exited(5)] * 10


class TestFacts:
    def test_info(self, me):
        """What is known without asking it."""
        pid = process.spawn(plain.linger)
        info = process.info(pid)

        assert (info.pid, info.os_pid, info.label, info.trap_exit) == (pid, pid.os_pid, "linger", False)

    def test_info_of_the_dead(self, me):
        """None."""
        pid = process.spawn(int)
        pid.wait(5.0)

        assert process.info(pid) is None

    def test_list(self, me):
        """The living, this program among them."""
        pid, dead = process.spawn(plain.linger), process.spawn(int)
        dead.wait(5.0)

        assert {process.self(), pid} <= set(process.list())
        assert dead not in process.list()

    def test_alive(self, me):
        """Until it ends; not after a kill of one's own, told or not."""
        pid = process.spawn(plain.linger)
        before = process.alive(pid)
        process.exit(pid, "kill")

        assert (before, process.alive(pid), process.alive(process.self())) == (True, False, True)

    def test_os_pid_of_the_dead(self, me):
        """None."""
        pid = process.spawn(int)
        pid.wait(5.0)

        assert pid.os_pid is None


class TestWait:
    def test_gives_the_reason(self, me):
        """Before and after the end."""
        pid = process.spawn(plain.exit_with, "custom")

        assert [pid.wait(5.0), pid.wait(5.0)] == ["custom", "custom"]

    def test_times_out(self, me):
        """A CallTimeout; the process goes on."""
        pid = process.spawn(plain.linger)
        with pytest.raises(TimeoutError):
            pid.wait(0.01)

        assert process.alive(pid)

    def test_with_block(self, me):
        """Leaving it stops the process, silently."""
        with process.spawn(plain.linger) as pid:
            assert process.alive(pid)

        assert pid.wait(5.0) == "shutdown"
