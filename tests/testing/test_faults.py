"""The helpers that make servers fail: the right reason, the right pid, the right moment."""

import os

import pytest

from otp_runtime import Agent, Crash, Down, ExitWith, NoProcess, OtpError, Signalled, Supervisor, process
from otp_runtime.testing import assert_receive, crash, freeze, hang, oom, segfault, sigkill, thaw, wait_restarted


class Misfortune(Exception):
    """An exception of the program's own."""


@pytest.fixture
def victim(start_supervised):
    return start_supervised(Agent.child_spec(int, name="victim"))


@pytest.fixture
def reason_of(victim):
    """Do something to the victim; give the reason that a monitor was told."""

    def told(fault, *args):
        ref = process.monitor(victim)
        assert fault("victim", *args) == victim
        return assert_receive(lambda message: message.ref == ref, 0).reason

    return told


class TestCrash:
    def test_reason_is_the_exception(self, reason_of):
        """As if a callback had raised it."""
        reason = reason_of(crash, ValueError("boom"))

        assert (reason.type, reason.message) == ("ValueError", "boom")

    def test_takes_a_class(self, reason_of):
        """As `raise` does."""
        assert reason_of(crash, KeyError).type == "KeyError"

    def test_takes_an_exception_of_the_program(self, reason_of):
        """Its class travels."""
        assert reason_of(crash, Misfortune("x")).type == f"{__name__}.Misfortune"

    def test_exit_with(self, reason_of):
        """Ends with the reason it carries."""
        assert reason_of(crash, ExitWith(("shutdown", "moving"))) == ("shutdown", "moving")

    def test_sys_exit(self, reason_of):
        """Ends as in a callback."""
        assert reason_of(crash, SystemExit(0)) == "normal"

    def test_nobody(self, otp_node):
        """A name that nobody has."""
        with pytest.raises(NoProcess):
            crash("nobody", ValueError)

    def test_a_supervisor_refuses(self, start_supervised):
        """It runs library code only."""
        with pytest.raises(OtpError):
            crash(start_supervised.supervisor, ValueError)

    def test_the_name_is_coming_back_when_it_returns(self, victim):
        """After the helper a call by name reaches the next process."""
        crash("victim", ValueError)

        assert Agent.get("victim", lambda state: state) == 0


class TestOtherEnds:
    def test_segfault(self, reason_of):
        """The kernel's verdict."""
        assert reason_of(segfault) == Signalled("SIGSEGV")

    def test_sigkill(self, reason_of):
        """From outside."""
        assert reason_of(sigkill) == Signalled("SIGKILL")

    def test_sigkill_of_a_supervisor(self, start_supervised):
        """Any process of a node."""
        nested = start_supervised(
            Supervisor.child_spec([Agent.child_spec(int, name="a")], strategy="one_for_one", name="s")
        )

        assert sigkill("s") == nested

    def test_oom(self, reason_of):
        """What Python can raise is a crash."""
        reason = reason_of(oom)

        assert isinstance(reason, Crash)
        assert reason.type == "MemoryError"


class TestStops:
    def test_hang_is_deaf(self, victim):
        """A hanging server is alive and answers nothing; its pid comes back when it hangs."""
        assert hang("victim") == victim
        assert process.alive(victim)
        with pytest.raises(TimeoutError):
            Agent.get("victim", lambda state: state, timeout=0.05)

    def test_hang_ends_by_its_supervisor(self, victim, start_supervised):
        """An exit signal cannot interrupt it: SIGKILL does, and the reason is the signal's."""
        ref = process.monitor(hang("victim"))
        start_supervised.stop("victim")

        assert assert_receive(Down) == Down(ref, victim, "shutdown")

    def test_freeze_and_thaw(self, victim):
        """A frozen server is stopped, and goes on where it was."""
        assert freeze("victim") == victim
        assert process.info(victim).status == "stopped"
        assert thaw("victim") == victim

        assert Agent.get("victim", lambda _state: os.getpid()) == victim.os_pid


class TestWaitRestarted:
    def test_gives_the_next(self, victim):
        """Another process under the same name, ready."""
        died = sigkill("victim")
        back = wait_restarted("victim", after=died)

        assert back != died
        assert back == process.whereis("victim")

    def test_old_one_is_there(self, victim):
        """Nothing happened: says so."""
        with pytest.raises(AssertionError, match="it is still the old one"):
            wait_restarted("victim", after=victim, timeout=0.02)

    def test_nobody(self, otp_node):
        """Nobody is bringing it back."""
        with pytest.raises(AssertionError, match="nobody has that name"):
            wait_restarted("nobody", timeout=0.02)


class TestAssertReceive:
    def test_takes_what_fits(self, otp_node):
        """And leaves the rest."""
        for message in ("a", ("b", 1)):
            process.send(process.self(), message)

        assert assert_receive(("b", ...), 0) == ("b", 1)
        assert process.flush() == ["a"]

    def test_shows_what_came_instead(self, otp_node):
        """And leaves it there."""
        process.send(process.self(), "something else")
        with pytest.raises(AssertionError, match="something else"):
            assert_receive(("b", ...), 0.01)

        assert process.flush() == ["something else"]
