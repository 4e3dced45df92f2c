"""What is lost, and how those who stay hear of it: node, gateway, server, keeper."""

import contextlib
import fcntl
import os
import signal
import struct
import termios
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
    upgrade,
)
from otp_runtime.cluster import standing
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.process import node as nodes
from otp_runtime.process.current import current
from otp_runtime.testing import gate
from tests.cluster.conftest import LEASE
from tests.cluster.servers import (
    Hoard,
    LateWatcher,
    Owner,
    Trapping,
    Watcher,
    eventually,
    every_process,
    full,
    gateway,
    kill_gateway,
    kill_supervisor,
    pillars,
    start,
    whereis,
)


@pytest.fixture
def watching(request, here):
    """Hear of nodes for the time of a test, which begins when the other node is there."""
    if "there" in request.fixturenames:
        assert eventually(lambda: full("b") in Node.list())
    Node.monitor_nodes(True)
    yield
    Node.monitor_nodes(False)


class TestMonitorNodes:
    @pytest.mark.slow
    def test_a_node_that_is_lost_while_one_begins(self, here, another):
        """Is heard of when it comes again, though its loss was told right behind the answer."""
        other, watcher = another("x"), LateWatcher.start()
        assert eventually(lambda: full("x") in Node.list())
        number, os_pid = gateway()
        with open(current().directory.mailbox(number), "rb", opener=_without_waiting) as mailbox, _stopped(os_pid):
            GenServer.cast(watcher, "begin")
            assert eventually(lambda: _waiting_in(mailbox))
            os.kill(watcher.os_pid, signal.SIGSTOP)
        other.kill()
        assert eventually(lambda: watcher.id in standing.read(current().directory).followers)
        assert eventually(lambda: not Node.list())
        os.kill(watcher.os_pid, signal.SIGCONT)
        assert GenServer.call(watcher, "seen") == []
        another("x")

        assert eventually(lambda: GenServer.call(watcher, "seen")) == [NodeUp(full("x"))]


@contextlib.contextmanager
def _stopped(os_pid):
    os.kill(os_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(os_pid, signal.SIGCONT)


def _without_waiting(path, flags):
    return os.open(path, flags | os.O_NONBLOCK)


def _waiting_in(mailbox):
    """How many bytes lie in a mailbox that is not read."""
    return struct.unpack("i", fcntl.ioctl(mailbox, termios.FIONREAD, bytes(4)))[0]


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
        """SIGSTOP to all of it: it says nothing, and is lost when its lease is over. It comes back in a new epoch."""
        other = another("z")
        pid = other.call(start)
        process.receive(NodeUp, 5.0)
        rid = GenServer.send_request(pid, "never")
        before, stopped = other.call(gateway), other.call(every_process)
        for os_pid in stopped:
            os.kill(os_pid, signal.SIGSTOP)
        with pytest.raises(ServerDown, match="noconnection"):
            GenServer.receive_response(rid, LEASE + 2.0)
        assert process.receive(NodeDown, LEASE).node == full("z")
        for os_pid in reversed(stopped):
            os.kill(os_pid, signal.SIGCONT)

        assert process.receive(NodeUp, 5.0) == NodeUp(full("z"))
        assert (GenServer.call(pid, "on"), other.call(gateway)) == ("on", before)


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

    def test_a_sender_that_does_not_read(self, here, there):
        """What it casts and sends after the gateway came back arrives, though it has not heard that one was away."""
        pid = there.call(start)
        GenServer.cast(pid, "before")
        assert GenServer.call(pid, "take") == ["before"]
        epoch = _epoch_of(full("b"))
        there.call(kill_gateway)
        assert eventually(lambda: (_epoch_of(full("b")) or 0) > epoch)
        for request in ("one", "two", "three"):
            GenServer.cast(pid, request)
        process.send(pid, "four")
        arrived = []

        assert eventually(lambda: arrived.extend(there.call(GenServer.call, pid, "take")) or len(arrived) >= 4)
        assert arrived == ["one", "two", "three", "four"]
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

    def test_token_stays_the_same(self, here):
        """Also what a gateway says that has not joined yet."""
        owner = Owner.start(name=Global("same"))
        token = GenServer.call(owner, ("token", "same"))
        epoch = standing.read(current().directory).epoch
        kill_gateway()
        told = set()
        while standing.read(current().directory).epoch in {0, epoch}:
            told.add(GenServer.call(owner, ("token", "same")))
        process.exit(owner, "kill")

        assert told == {token}

    @pytest.mark.slow
    def test_fences_what_it_never_joined_with(self, here, there):
        """The lease runs out while the gateway is started anew and the engine does not answer: names are given up."""
        owner = Hoard.start(name=Global("adopted"))
        ref = process.monitor(owner)
        server = EngineDirectory(here.base, "otp").read()["server"]
        os.kill(server, signal.SIGSTOP)
        kill_gateway()
        down = process.receive(Down, LEASE + 1.0)
        os.kill(server, signal.SIGCONT)

        assert (down.ref, down.reason) == (ref, "noconnection")
        assert eventually(lambda: Node.list() == [full("b")], 10.0)
        assert eventually(lambda: there.call(Node.list) == [full("a")], 10.0)

    def test_while_a_follower_is_busy(self, here, there):
        """It hears of the end and of the return, in this order, when it looks."""
        assert eventually(lambda: Node.list() == [full("b")])
        watcher = Watcher.start()
        with gate() as closed:
            rid = GenServer.send_request(watcher, ("wait", closed))
            closed.wait_arrival()
            kill_gateway()
            assert eventually(lambda: Node.list() == [])
            assert eventually(lambda: Node.list() == [full("b")])
        GenServer.receive_response(rid)

        # the node is shown as there a moment before anybody is told of it
        expected = [NodeDown(full("b"), "noconnection"), NodeUp(full("b"))]
        assert eventually(lambda: len(GenServer.call(watcher, "seen")) >= len(expected))

        assert GenServer.call(watcher, "seen") == expected


class TestGatewayStopped:
    @pytest.mark.slow
    def test_is_replaced(self, watching, another):
        """One that a signal stopped cannot give names up: it is killed, and another goes on with them."""
        other = another("g", lease=10.0)
        assert process.receive(NodeUp, 5.0) == NodeUp(full("g"))
        owner = other.call(start, Owner, Global("kept"))
        token = GenServer.call(owner, ("token", "kept"))
        number, os_pid = other.call(gateway)
        os.kill(os_pid, signal.SIGSTOP)
        assert process.receive(NodeDown, 5.0).node == full("g")
        assert process.receive(NodeUp, 5.0) == NodeUp(full("g"))
        assert other.call(gateway)[0] != number

        assert GenServer.call(owner, ("token", "kept")) == token
        assert eventually(lambda: whereis("kept") == owner)


class TestItsSupervisorKilled:
    @pytest.mark.slow
    @pytest.mark.parametrize("also_gateway", [False, True])
    def test_is_brought_back(self, watching, another, also_gateway):
        """What holds the node's place in the cluster has nobody above it but the launcher, which restarts it."""
        other = another("g", lease=10.0)
        assert process.receive(NodeUp, 5.0) == NodeUp(full("g"))
        owner = other.call(start, Owner, Global("kept"))
        token = GenServer.call(owner, ("token", "kept"))
        other.call(kill_supervisor, also_gateway)
        assert process.receive(NodeDown, 5.0).node == full("g")
        assert process.receive(NodeUp, 10.0) == NodeUp(full("g"))

        assert GenServer.call(owner, ("token", "kept")) == token
        assert eventually(lambda: whereis("kept") == owner)


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
        assert eventually(lambda: there.call(Node.list) == [full("a")])
        assert process.flush() == []
        process.exit(owner, "kill")
        process.exit(pid, "kill")

    @pytest.mark.slow
    def test_the_dead_stay_dead(self, here, there, another):
        """A server that was killed has records again whose time was over: nobody sees those nodes come."""
        other = another("w")
        assert eventually(lambda: len(Node.list()) == 2)
        for os_pid in other.call(pillars):
            os.kill(os_pid, signal.SIGKILL)
        assert eventually(lambda: Node.list() == [full("b")], LEASE + 1.0)
        nodes._sweep(here.base)  # its guard was killed as well
        Node.monitor_nodes(True)
        os.kill(EngineDirectory(here.base, "otp").read()["server"], signal.SIGKILL)
        heard = [process.receive(timeout=10.0) for _ in range(2)]
        Node.monitor_nodes(False)

        assert heard == [NodeDown(full("b"), "noconnection"), NodeUp(full("b"))]
        assert process.flush() == []

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


class TestUpgrade:
    @pytest.mark.slow
    def test_goes_on_hearing_of_nodes(self, here, there, another):
        """A server that was handed over to another OS process has its monitors there and of nodes, and its name."""
        assert eventually(lambda: Node.list() == [full("b")])
        far = there.call(start)
        watcher = Watcher.start(name=Global("watcher"))
        ref, os_pid = GenServer.call(watcher, ("monitor", far)), GenServer.call(watcher, "os_pid")
        upgrade(watcher)
        assert GenServer.call(watcher, "os_pid") != os_pid
        another("c").close()
        process.exit(far, "kill")
        assert eventually(lambda: len(GenServer.call(watcher, "seen")) == 3)
        up, down, died = GenServer.call(watcher, "seen")

        assert (up, down.node, died) == (NodeUp(full("c")), full("c"), Down(ref, far, "killed"))
        assert there.call(GenServer.call, Global("watcher"), "seen") == [up, down, died]
        process.exit(watcher, "kill")

    @pytest.mark.slow
    def test_hears_that_the_gateway_died_meanwhile(self, here, there):
        """As one that was not handed over: the others go, and come back."""
        assert eventually(lambda: Node.list() == [full("b")])
        watcher = Watcher.start()
        upgrade(watcher)
        kill_gateway()

        expected = [NodeDown(full("b"), "noconnection"), NodeUp(full("b"))]
        assert eventually(lambda: GenServer.call(watcher, "seen") == expected)
        process.exit(watcher, "kill")


def _epoch_of(node):
    """As the gateway wrote it down: the program itself reads none of its mail for that."""
    return standing.read(current().directory).nodes.get(node, (None,))[0]
