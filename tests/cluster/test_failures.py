"""What is lost, and how those who stay hear of it: node, gateway, server, keeper."""

import os
import signal
import time

import pytest

from otp_runtime import (
    Down,
    Exit,
    GenServer,
    Global,
    Node,
    NodeDown,
    NodeUp,
    NoProcess,
    ServerDown,
    process,
)
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.process import node as nodes
from tests.cluster.conftest import LEASE
from tests.cluster.servers import Hoard, Trapping, eventually, full, gateway, kill_gateway, pillars, start, whereis


@pytest.fixture
def watching(request, here):
    """Hear of nodes for the time of a test, which begins when the other node is there."""
    if "there" in request.fixturenames:
        assert eventually(lambda: full("b") in Node.list())
    Node.monitor_nodes(True)
    yield
    Node.monitor_nodes(False)


class TestProgramKilled:
    def test_noconnection(self, watching, another):
        """A call in flight fails, a monitor and a link fire once, the node is down once: within half a second."""
        other = another("x")
        pid = other.call(start)
        assert process.receive(NodeUp, 5.0) == NodeUp(full("x"))
        process.link(pid)
        ref = process.monitor(pid)
        rid = GenServer.send_request(pid, "never")
        started = time.monotonic()
        other.kill()
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid, 5.0)
        took = time.monotonic() - started

        assert (error.value.reason, took < 0.5) == ("noconnection", True)
        assert process.receive(Exit, 1.0) == Exit(pid, "noconnection")
        assert process.receive(Down, 1.0) == Down(ref, pid, "noconnection")
        assert process.receive(NodeDown, 1.0).node == full("x")
        assert process.flush() == []

    def test_earlier_life(self, here, another):
        """A node of the same name comes back, and the pids of before are nobody's."""
        other = another("x")
        pid = other.call(start)
        other.kill()
        eventually(lambda: full("x") not in Node.list())
        # its guard has cleared up: the name is free
        eventually(lambda: not (here.base / full("x")).exists())
        again = another("x")
        while again.call(start).id < pid.id:
            pass
        eventually(lambda: full("x") in Node.list())

        with pytest.raises(NoProcess):
            GenServer.call(pid, "take")


class TestNodeKilled:
    @pytest.mark.slow
    def test_without_a_word(self, here, watching, another):
        """SIGKILL to every process that could say goodbye: callers hear at once, everybody within the lease."""
        other = another("y")
        pid = other.call(start)
        process.receive(NodeUp, 5.0)
        rid = GenServer.send_request(pid, "never")
        process.monitor(pid)
        GenServer.call(pid, "there")
        started = time.monotonic()
        for os_pid in other.call(pillars):
            os.kill(os_pid, signal.SIGKILL)
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid, 5.0)
        took = time.monotonic() - started
        assert process.receive(NodeDown, LEASE + 1.0).node == full("y")
        process.receive(Down, 1.0)
        assert process.flush() == []
        nodes._sweep(here.base)  # its guard was killed as well

        assert (error.value.reason, took < 0.5) == ("noconnection", True)

    @pytest.mark.slow
    def test_stopped(self, watching, another):
        """SIGSTOP to a gateway: it says nothing, and is lost when its lease is over. It comes back as another."""
        other = another("z")
        pid = other.call(start)
        process.receive(NodeUp, 5.0)
        rid = GenServer.send_request(pid, "never")
        stopped, os_pid = other.call(gateway)
        os.kill(os_pid, signal.SIGSTOP)
        with pytest.raises(ServerDown, match="noconnection"):
            GenServer.receive_response(rid, LEASE + 2.0)
        assert process.receive(NodeDown, LEASE).node == full("z")
        os.kill(os_pid, signal.SIGCONT)

        assert process.receive(NodeUp, 5.0) == NodeUp(full("z"))
        assert (GenServer.call(pid, "on"), other.call(gateway)[0]) == ("on", stopped)


class TestGatewayKilled:
    def test_the_other_nodes(self, there, watching):
        """Lose the node, and see it again; its processes live on."""
        pid = there.call(start)
        ref = process.monitor(pid)
        GenServer.call(pid, "there")
        there.call(kill_gateway)

        assert process.receive(Down, 5.0) == Down(ref, pid, "noconnection")
        assert process.receive(NodeDown, 5.0).node == full("b")
        assert process.receive(NodeUp, 5.0) == NodeUp(full("b"))
        assert GenServer.call(pid, "on") == "on"
        process.exit(pid, "kill")

    def test_its_own_node(self, there, watching):
        """Loses all others, at once and once, and sees them again."""
        pid = there.call(start)
        ref = process.monitor(pid)
        rid = GenServer.send_request(pid, "never")
        GenServer.call(pid, "there")
        kill_gateway()
        with pytest.raises(ServerDown, match="noconnection"):
            GenServer.receive_response(rid, 1.0)
        assert process.receive(Down, 1.0) == Down(ref, pid, "noconnection")
        assert process.receive(NodeDown, 1.0).node == full("b")
        assert process.receive(NodeUp, 5.0) == NodeUp(full("b"))

        assert GenServer.call(pid, "on") == "on"
        process.exit(pid, "kill")
        assert process.flush() == []

    def test_one_after_the_other(self, there, watching):
        """Who only listens hears of the end of each of them."""
        for _ in range(3):
            kill_gateway()
            assert process.receive(NodeDown, 5.0).node == full("b")
            assert process.receive(NodeUp, 5.0) == NodeUp(full("b"))

        assert process.flush() == []

    def test_keeps_global_names(self, there):
        """The name and its token are the owner's: only the gateway died."""
        owner = Hoard.start(name=Global("kept"))
        kill_gateway()
        eventually(lambda: full("b") in Node.list())

        assert eventually(lambda: there.call(whereis, "kept")) == owner
        process.exit(owner, "kill")


class TestServerKilled:
    @pytest.mark.slow
    def test_everybody_is_alone_for_a_moment(self, here, there, watching):
        """The keeper starts it again, and all meet anew; what was under way is lost, and said so."""
        pid = there.call(start)
        rid = GenServer.send_request(pid, "never")
        GenServer.call(pid, "there")
        owner = Hoard.start(name=Global("survivor"))
        os.kill(EngineDirectory(here.base, "otp").read()["server"], signal.SIGKILL)
        with pytest.raises(ServerDown, match="noconnection"):
            GenServer.receive_response(rid, 5.0)
        assert process.receive(NodeDown, 5.0).node == full("b")
        assert process.receive(NodeUp, 10.0) == NodeUp(full("b"))
        assert eventually(lambda: there.call(whereis, "survivor")) == owner
        process.exit(owner, "kill")
        process.exit(pid, "kill")

    @pytest.mark.slow
    def test_fences_itself(self, here, there):
        """Without an engine for as long as the lease, what has a global name is stopped; the rest goes on."""
        refs = [process.monitor(cls.start(name=Global(cls.__name__))) for cls in (Hoard, Trapping)]
        local = Hoard.start()
        server = EngineDirectory(here.base, "otp").read()["server"]
        os.kill(server, signal.SIGSTOP)
        downs = [process.receive(Down, LEASE + 1.0) for _ in refs]
        assert {(down.ref, down.reason) for down in downs} == {(ref, "noconnection") for ref in refs}
        assert (GenServer.call(local, "on"), Node.list()) == ("on", [])
        os.kill(server, signal.SIGCONT)

        assert eventually(lambda: Node.list() == [full("b")], 10.0)
        assert eventually(lambda: there.call(Node.list) == [full("a")], 10.0)
        assert Global.whereis("Hoard") is None
        process.exit(local, "kill")
