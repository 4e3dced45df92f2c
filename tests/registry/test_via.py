"""Via(Registry, …): a key as the name of a server, and as a reference to it."""

import asyncio
import os
import signal

import pytest

from otp_runtime import (
    Agent,
    AlreadyStarted,
    CallTimeout,
    Down,
    GenServer,
    InitFailed,
    NoProcess,
    Registry,
    Supervisor,
    Via,
    process,
)
from otp_runtime.testing import assert_receive
from tests.registry.actors import Actor, os_pid


def via(key, *value, registry="named"):
    return Via(Registry, (registry, key, *value))


@pytest.fixture
def named(otp_node):
    with Registry.start_link(keys="unique", name="named") as pid:
        yield pid


class TestName:
    @pytest.mark.parametrize("key", ["k", ("room", 7), 1.5])
    def test_reached(self, named, key):
        """By call, cast, send, monitor, whereis and stop."""
        pid = Actor.start(name=via(key))
        process.send(via(key), "hello")
        heard = GenServer.call(via(key), "heard")
        found = GenServer.whereis(via(key)), Registry.whereis_name(("named", key))
        ref = process.monitor(via(key))
        GenServer.stop(via(key))

        assert (["hello"], (pid, pid)) == (heard, found)
        assert Down(ref, pid, "normal") == assert_receive(Down)

    def test_value(self, named):
        """The third part, None without one."""
        with Actor.start_link(name=via("a", [1])) as one, Actor.start_link(name=via("b")) as other:
            found = Registry.lookup("named", "a"), Registry.lookup("named", "b")

        assert ([(one, [1])], [(other, None)]) == found

    @pytest.mark.parametrize("start", [Actor.start_link, lambda name: Agent.start_link(dict, name=name)])
    def test_taken(self, named, start):
        """Says by whom, and no second process is left."""
        with start(name=via("k")) as pid, pytest.raises(AlreadyStarted) as error:
            start(name=via("k"))

        assert pid == error.value.pid

    def test_a_supervisors(self, named):
        """Supervisors are named and found the same way."""
        with Supervisor.start_link([], strategy="one_for_one", name=via("sup")) as sup:
            found = Registry.lookup("named", "sup"), Supervisor.which_children(via("sup"))

        assert ([(sup, None)], []) == found

    def test_given_back(self, named):
        """By the process itself."""
        with Actor.start_link(name=via("k")) as pid:
            GenServer.call(pid, (Registry.unregister_name, ("named", "k")))
            found = GenServer.whereis(via("k"))

        assert found is None


class TestNoRegistry:
    """What cannot be asked for a name is said to be none, where it is written."""

    @pytest.mark.parametrize("use", [GenServer.whereis, lambda name: GenServer.cast(name, 1), process.monitor])
    @pytest.mark.parametrize("registry", [int, None, "named"])
    def test_to_reach(self, named, use, registry):
        with pytest.raises(TypeError, match="a class with whereis_name"):
            use(Via(registry, "k"))

    def test_to_be_named(self, named):
        with pytest.raises(TypeError, match="a class with register_name"):
            Actor.start(name=Via(int, "k"))


class TestNobody:
    def test_missing_key(self, named):
        """`noproc` for who asks, silence for a cast."""
        GenServer.cast(via("k"), "x")
        for ask in (
            lambda: GenServer.call(via("k"), "x"),
            lambda: GenServer.stop(via("k")),
            lambda: process.send(via("k"), "x"),
        ):
            with pytest.raises(NoProcess):
                ask()

        assert None is GenServer.whereis(via("k"))

    def test_missing_registry(self, me):
        """The same; a server does not start under a key of it."""
        GenServer.cast(via("k", registry="nowhere"), "x")
        with pytest.raises(NoProcess):
            GenServer.call(via("k", registry="nowhere"), "x")
        with pytest.raises(InitFailed) as error:
            Actor.start(name=via("k", registry="nowhere"))

        assert "noproc" == error.value.reason

    def test_duplicate_keys(self, otp_node):
        """Are nobody's name."""
        with Registry.start_link(keys="duplicate", name="many"):
            with pytest.raises(ValueError, match="unique"):
                GenServer.call(via("k", registry="many"), "x")
            with pytest.raises(InitFailed):
                Actor.start(name=via("k", registry="many"))

    @pytest.mark.parametrize("key", ["k", ("named",), ("named", "k", 1, 2)])
    def test_not_a_key(self, named, key):
        """The text says how to write it."""
        with pytest.raises(ValueError, match="write Via"):
            GenServer.call(Via(Registry, key), "x")

    @pytest.mark.parametrize("key", ["k", ("named",), ("named", "k", 1, 2)])
    @pytest.mark.parametrize("use", [Actor.start, Actor.start_link, Actor.child_spec])
    def test_not_a_key_to_start_under(self, key, use):
        """Nothing is started."""
        with pytest.raises(ValueError, match="write Via"):
            use(name=Via(Registry, key))


class TestRestart:
    @pytest.fixture
    def tree(self, named):
        spec = Actor.child_spec(name=via("k"), id="actor")
        with Supervisor.start_link([spec], strategy="one_for_one", max_restarts=100) as sup:
            yield sup

    @pytest.mark.slow
    def test_a_call_waits(self, tree):
        """For the successor, a dozen times; never `noproc` in between."""
        seen = []
        for _ in range(12):
            victim = GenServer.whereis(via("k"))
            ref = process.monitor(victim)
            os.kill(victim.os_pid, signal.SIGKILL)
            process.receive(lambda one, ref=ref: isinstance(one, Down) and one.ref == ref, 5.0)
            seen.append(GenServer.call(via("k"), (os_pid,)) != victim.os_pid)

        assert [True] * 12 == seen

    def test_an_event_loop_waits(self, tree):
        """The same for `acall`, and the loop runs on."""

        async def ask():
            victim = GenServer.whereis(via("k"))
            os.kill(victim.os_pid, signal.SIGKILL)
            victim.wait(5.0)
            return victim.os_pid, await GenServer.acall(via("k"), (os_pid,))

        pairs = [asyncio.run(ask()) for _ in range(5)]

        assert all(old != new for old, new in pairs)

    def test_not_for_ever(self, tree, named):
        """Within its timeout, as for a local name."""
        victim = GenServer.whereis(via("k"))
        sup = tree.os_pid
        os.kill(sup, signal.SIGSTOP)
        try:
            os.kill(victim.os_pid, signal.SIGKILL)
            with pytest.raises((CallTimeout, NoProcess)):
                GenServer.call(via("k"), (os_pid,), timeout=0.05)
        finally:
            os.kill(sup, signal.SIGCONT)

        assert victim.os_pid != GenServer.call(via("k"), (os_pid,))

    def test_not_for_who_does_not_come_back(self, named):
        """`noproc` at once where no supervisor brings it back, and where it gave up."""
        pid = Actor.start(name=via("alone"))
        process.exit(pid, "kill")
        pid.wait(5.0)
        with pytest.raises(NoProcess):
            GenServer.call(via("alone"), "x", timeout=None)
        spec = Actor.child_spec(name=via("k"), id="actor")
        sup = Supervisor.start([spec], strategy="one_for_one", max_restarts=0)
        process.exit(GenServer.whereis(via("k")), "kill")
        sup.wait(5.0)
        with pytest.raises(NoProcess):
            GenServer.call(via("k"), "x", timeout=None)

    def test_not_for_what_it_registered_itself(self, otp_node):
        """Only the key it was started under comes back for certain."""
        spec = Actor.child_spec([("named", "extra")], name=via("k"), id="actor")
        children = [Registry.child_spec(keys="unique", name="named"), spec]
        with Supervisor.start_link(children, strategy="one_for_one"):
            ((pid, _),) = Registry.lookup("named", "extra")
            os.kill(pid.os_pid, signal.SIGKILL)
            pid.wait(5.0)
            fresh = GenServer.call(via("k"), (process.self,))

            assert [(fresh, None)] == Registry.lookup("named", "extra")

    @pytest.mark.slow
    def test_of_supervisor_and_server(self, named):
        """Who waits goes on waiting when the supervisor that brings it back is itself brought back."""
        inner = Supervisor.child_spec(
            [Actor.child_spec(name=via("k"), id="actor")], strategy="one_for_one", name="inner"
        )
        with Supervisor.start_link([inner], strategy="one_for_one", max_restarts=100):
            for _ in range(5):
                pid = process.whereis("inner") or GenServer.whereis("inner")
                old = GenServer.call(via("k"), (os_pid,))
                os.kill(pid.os_pid, signal.SIGKILL)
                pid.wait(5.0)

                assert old != GenServer.call(via("k"), (os_pid,))
                Supervisor.count_children("inner")

    def test_of_the_registry(self, otp_node):
        """Its names are found while it is being brought back, and afterwards."""
        children = [Registry.child_spec(keys="unique", name="named"), Actor.child_spec(name=via("k"), id="actor")]
        with Supervisor.start_link(children, strategy="one_for_one"):
            pid = GenServer.whereis(via("k"))
            registry = process.whereis("named")
            os.kill(registry.os_pid, signal.SIGKILL)
            during = GenServer.call(via("k"), (process.self,))
            registry.wait(5.0)
            Supervisor.count_children("named")

            assert pid == during == GenServer.call(via("k"), (process.self,))
