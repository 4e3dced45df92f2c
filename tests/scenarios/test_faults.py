"""The fault matrix: every way in which a process can end, in every callback, as each that cares sees it.

One supervisor (one_for_one), the victim and nine siblings. A monitor, a linked process that traps exits and the
caller are told the same exact reason; the siblings answer every call meanwhile and are the processes they were;
the victim is back under its name.
"""

import functools
import os
import signal
import sys

import pytest

from otp_runtime import (
    Agent,
    ChildSpec,
    Crash,
    Down,
    Exit,
    Exited,
    GenServer,
    InitFailed,
    NoReply,
    Reply,
    ServerDown,
    Signalled,
    StartFailed,
    Supervisor,
    process,
    why,
)
from otp_runtime.testing import assert_receive, faults, sigkill, wait_restarted

SIBLINGS = tuple(f"sibling{number}" for number in range(9))


def recurse():
    return recurse() + 1


def raise_():
    raise ValueError("boom")


FAULTS = {
    "raise": (raise_, Crash("ValueError", "boom")),
    "sys.exit(0)": (functools.partial(sys.exit, 0), "normal"),
    "sys.exit(3)": (functools.partial(sys.exit, 3), Exited(3)),
    "os._exit(3)": (functools.partial(os._exit, 3), Exited(3)),
    "os._exit(0)": (functools.partial(os._exit, 0), Exited(0)),
    "SIGKILL": (functools.partial(os.kill, 0, signal.SIGKILL), Signalled("SIGKILL")),
    "SIGSEGV": (faults._read_address_0, Signalled("SIGSEGV")),
    "SIGABRT": (os.abort, Signalled("SIGABRT")),
    "out of memory": (faults._exhaust_memory, Crash("MemoryError", "")),
    "RecursionError": (recurse, Crash("RecursionError", "maximum recursion depth exceeded")),
}


def commit(fault):
    """Run in the server: fail in the way that has this name."""
    if fault == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    FAULTS[fault][0]()


def is_exactly(fault, reason):
    """Whether `reason` is what that fault must give; a crash has a traceback too, an interpreter its own words."""
    expected = FAULTS[fault][1]
    if not isinstance(expected, Crash):
        return expected == reason
    return (
        isinstance(reason, Crash)
        and reason.type == expected.type
        and reason.message.startswith(expected.message)
        and "Traceback (most recent call last)" in reason.traceback
    )


class Victim(GenServer):
    """Fails where it is told to. The state is how it is to fail in `terminate`."""

    def init(self, fault):
        if fault is not None:
            commit(fault)

    def handle_call(self, request, client, state):
        match request:
            case ("fail", fault):
                commit(fault)
            case ("fail in terminate", fault):
                return Reply("ok", fault)
        return Reply(os.getpid(), state)

    def handle_cast(self, fault, state):
        commit(fault)
        return NoReply(state)

    def terminate(self, reason, state):
        if state is not None:
            commit(state)


class Tree:
    """The victim under its supervisor, its siblings, and who watches it."""

    def __init__(self, start):
        self.victim = start(Victim.child_spec(name="victim"))
        self.siblings = {name: start(Agent.child_spec(os.getpid, name=name)).os_pid for name in SIBLINGS}
        self.monitor = process.monitor(self.victim)
        process.spawn(tell_exit_of, self.victim, process.self())
        assert_receive("linked", 5.0)

    def assert_siblings_answer(self):
        assert self.siblings == {name: Agent.get(name, lambda state: state, timeout=5.0) for name in SIBLINGS}

    def assert_all_are_told(self, fault):
        """The monitor and the link say the fault's exact reason."""
        down = assert_receive(Down, 10.0)
        assert (down.ref, down.pid) == (self.monitor, self.victim)
        assert is_exactly(fault, down.reason), down.reason
        told = assert_receive(("exit", ...), 10.0)[1]
        assert told.pid == self.victim
        assert is_exactly(fault, told.reason), told.reason

    def assert_back(self):
        """Another process under the name, that answers."""
        back = wait_restarted("victim", after=self.victim)
        assert GenServer.call("victim", "who") == back.os_pid


def tell_exit_of(victim, asker):
    """A linked process that traps exits."""
    process.trap_exit(True)
    process.link(victim)
    process.send(asker, "linked")
    process.send(asker, ("exit", process.receive(Exit)))


@pytest.fixture
def tree(start_supervised):
    return Tree(start_supervised)


@pytest.mark.slow
@pytest.mark.timeout(20)
@pytest.mark.parametrize("fault", FAULTS)
class TestFault:
    def test_in_handle_call(self, tree, fault):
        """The caller is told at once, with the reason."""
        rid = GenServer.send_request("victim", ("fail", fault))
        tree.assert_siblings_answer()
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid, timeout=10.0)
        tree.assert_siblings_answer()

        assert is_exactly(fault, error.value.reason), error.value.reason
        tree.assert_all_are_told(fault)
        tree.assert_back()

    def test_in_handle_cast(self, tree, fault):
        """A caller whose request waits behind the cast is told as well."""
        GenServer.cast("victim", fault)
        rid = GenServer.send_request(tree.victim, "who")
        tree.assert_siblings_answer()
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid, timeout=10.0)

        assert is_exactly(fault, error.value.reason), error.value.reason
        tree.assert_all_are_told(fault)
        tree.assert_siblings_answer()
        tree.assert_back()

    def test_in_terminate(self, tree, fault):
        """What ends `terminate` is the exit reason; who asked for the stop is told."""
        GenServer.call("victim", ("fail in terminate", fault))
        if fault == "sys.exit(0)":
            GenServer.stop("victim", timeout=10.0)
        else:
            with pytest.raises(ServerDown) as error:
                GenServer.stop("victim", timeout=10.0)
            assert is_exactly(fault, error.value.reason), error.value.reason
        tree.assert_siblings_answer()

        tree.assert_all_are_told(fault)
        tree.assert_back()

    def test_in_init(self, otp_node, fault):
        """The starter is told, and a linked starter that traps exits hears nothing more."""
        with pytest.raises(InitFailed) as error:
            Victim.start_link(fault, name="victim")

        assert is_exactly(fault, error.value.reason), error.value.reason
        assert process.whereis("victim") is None
        assert Victim.start(None, name="victim") == process.whereis("victim")

    def test_in_init_of_a_child(self, start_supervised, fault):
        """Who asked the supervisor is told; the other children do not notice."""
        for name in SIBLINGS:
            start_supervised(Agent.child_spec(int, name=name))
        with pytest.raises(StartFailed) as error:
            start_supervised(Victim.child_spec(fault, name="victim"))

        assert is_exactly(fault, error.value.reason), error.value.reason
        assert [0] * 9 == [Agent.get(name, lambda state: state) for name in SIBLINGS]

    def test_in_init_at_a_restart(self, start_supervised, tmp_path, fault):
        """A restart that fails is tried again, until one succeeds; the failed one had its own reason."""
        flag = tmp_path / "fail"
        start = (start_once_failing, (str(flag), fault), {})
        victim = start_supervised(ChildSpec("victim", start))
        flag.touch()
        back = wait_restarted("victim", after=sigkill(victim))

        assert GenServer.call("victim", "who") == back.os_pid
        assert not flag.exists()
        assert is_exactly(fault, why("victim").reason), why("victim")


def start_once_failing(flag, fault):
    """A start function: fails in `init` while the flag is there, and takes it away."""
    if os.path.exists(flag):
        os.unlink(flag)
        return Victim.start_link(fault, name="victim")
    return Victim.start_link(None, name="victim")


class TestStrategies:
    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_the_siblings_come_back_too(self, otp_node, strategy):
        """With the other strategies the siblings after the victim are new processes, in order, all answering."""
        names = ("a", "victim", "b")
        children = [Agent.child_spec(os.getpid, name=name) for name in names]
        with Supervisor.start_link(children, strategy=strategy):
            before = {name: process.whereis(name) for name in names}
            sigkill("victim")
            after = {name: wait_restarted(name, after=before[name]) for name in names[strategy == "rest_for_one" :]}

            assert {name: pid.os_pid for name, pid in after.items()} == {
                name: Agent.get(name, lambda state: state) for name in after
            }
            assert (process.whereis("a") == before["a"]) is (strategy == "rest_for_one")
