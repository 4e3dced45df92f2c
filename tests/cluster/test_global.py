"""Global names: one owner at a time, a token for each, taken over when a node is lost."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from otp_runtime import (
    AlreadyStarted,
    Down,
    GenServer,
    Global,
    Node,
    NoProcess,
    OtpError,
    PartitionSupervisor,
    Registry,
    Supervisor,
    Task,
    TaskSupervisor,
    Via,
    process,
)
from otp_runtime.cluster import joining
from otp_runtime.process import node as nodes
from tests.cluster.conftest import LEASE
from tests.cluster.kinds import spec_of, use
from tests.cluster.servers import Claimer, Hoard, Owner, eventually, full, pillars, start, whereis


@pytest.fixture(autouse=True)
def _no_names(here):
    """Each test ends the owners of its names."""
    yield
    for name in Global.registered():
        if (pid := Global.whereis(name)) is not None:
            ref = process.monitor(pid)
            process.exit(pid, "kill")
            process.receive(lambda m, ref=ref: isinstance(m, Down) and m.ref == ref, 5.0)
    eventually(lambda: Global.registered() == [])


class TestRegister:
    def test_one_owner(self, there):
        """The second claim of a name is refused, on whatever node."""
        first, second = Hoard.start(), there.call(start)
        token = Global.register("one", first)
        assert Global.register("one", second) is None
        assert there.call(Global.register, "one", second) is None
        process.exit(second, "kill")

        assert (token > 0, Global.whereis("one")) == (True, first)

    def test_seen_elsewhere(self, there):
        """By name, from the other node."""
        Global.register(("a", 1), Hoard.start())

        assert eventually(lambda: there.call(Global.whereis, ("a", 1))) == Global.whereis(("a", 1))
        assert there.call(GenServer.call, Global(("a", 1)), "x") == "x"

    def test_again(self, here):
        """Who has a name already and claims it is told its token: an answer may have been lost with a gateway."""
        pid = Hoard.start()
        token = Global.register("again", pid)

        assert Global.register("again", pid) == token

    def test_another_nodes_process(self, there):
        """Any pid may be given a name."""
        pid = there.call(start)
        assert Global.register("theirs", pid)

        assert eventually(lambda: Global.whereis("theirs")) == pid

    def test_token_grows(self, here):
        """Each owner's is greater than those before it."""
        first, second = Hoard.start(), Hoard.start()
        tokens = [Global.register("t", first), Global.re_register("t", second)]
        Global.unregister("t")
        tokens.append(Global.register("t", first))
        process.exit(second, "kill")

        assert sorted(set(tokens)) == tokens

    def test_unregister(self, there):
        """From any node."""
        pid = Hoard.start()
        Global.register("u", pid)
        there.call(Global.unregister, "u")

        assert eventually(lambda: Global.whereis("u") is None)
        assert Global.register("u", pid) is not None

    def test_free_when_its_owner_dies(self, here):
        """At once."""
        pid = Hoard.start()
        Global.register("d", pid)
        process.exit(pid, "kill")
        other = Hoard.start()

        assert eventually(lambda: Global.register("d", other))

    def test_names_of_any_kind(self, here):
        """But not too long a one."""
        with pytest.raises(ValueError, match="at most 200 bytes"):
            Global.register("x" * 300, process.self())

    @pytest.mark.parametrize(
        ("key", "process_id"),
        [
            (5, 1),
            ("", 1),
            ("61.>", 1),
            ("61*", 1),
            ("6", 1),
            ("61" * 2000, 1),
            ("61", "x"),
            ("61", -5),
            ("61", 1 << 63),
        ],
    )
    @pytest.mark.parametrize("what", ["register", "re_register"])
    def test_what_another_node_may_not_ask(self, there, what, key, process_id):
        """It is refused, and the gateway that was asked goes on."""
        with pytest.raises(OtpError, match=r"no key of a global name|no process of this node"):
            joining.ask_node(full("b"), (what, key, process_id))

        assert joining.ask_node(full("b"), ("ping",)) == "pong"

    def test_racing_claims(self, there, another):
        """One winner."""
        third = another("c")
        for n in range(3):
            tokens = _race([there, third], ("race", n))

            assert len([token for token in tokens if token is not None]) == 1


class TestStart:
    def test_start_link(self, there):
        """Under a global name, and a second time nowhere."""
        with Hoard.start_link(name=Global("s")) as pid:
            assert Global.whereis("s") == pid
            with pytest.raises(AlreadyStarted) as error:
                there.call(start, Hoard, Global("s"))

            assert error.value.pid == pid

    def test_token(self, here):
        """The server asks for its own."""
        with Owner.start_link(name=Global("owner")) as pid:
            token = GenServer.call(pid, ("token", "owner"))

            assert (token > 0, Global.token("owner")) == (True, None)

    def test_nobody(self, here):
        """No process."""
        with pytest.raises(NoProcess):
            GenServer.call(Global("nobody"), 1)


class TestOfEveryKind:
    """`name=Global(...)` of what has other uses from another node than a call."""

    def test_partition_supervisor(self, there):
        """Its partitions are found from anywhere, by the same keys."""
        name = Global("parts")
        with PartitionSupervisor.start_link(Owner.child_spec(), partitions=3, name=name):
            mine = [GenServer.whereis(Via(PartitionSupervisor, (name, key))) for key in range(5)]
            assert eventually(lambda: there.call(whereis, "parts"))
            theirs = there.call(lambda: [GenServer.whereis(Via(PartitionSupervisor, (name, key))) for key in range(5)])

            assert there.call(PartitionSupervisor.partitions, name) == 3
            assert there.call(GenServer.call, Via(PartitionSupervisor, (name, "k")), "on") == "on"
            assert theirs == mine

    def test_no_partition_supervisor(self, there):
        """Another supervisor has no partitions."""
        with Supervisor.start_link([Hoard.child_spec()], strategy="one_for_one", name=Global("plain")):
            assert eventually(lambda: there.call(whereis, "plain"))

            with pytest.raises(NoProcess, match="no PartitionSupervisor"):
                there.call(PartitionSupervisor.partitions, Global("plain"))

    def test_task_supervisor(self, there):
        """Tasks are functions: they start on its own node, and elsewhere the error says what does."""
        with TaskSupervisor.start_link(name=Global("tasks")):
            assert Task.await_(TaskSupervisor.async_(Global("tasks"), abs, -1)) == 1
            assert eventually(lambda: there.call(whereis, "tasks"))

            with pytest.raises(ValueError, match=r"functions do not cross nodes\. erpc"):
                there.call(TaskSupervisor.start_child, Global("tasks"), abs, -1)

    def test_registry(self, here):
        """Each node has its own."""
        with pytest.raises(TypeError, match="each node has one of its own"):
            Registry.start_link(keys="unique", name=Global("registry"))

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["async", "agent", "statem", "event", "supervisor", "dynamic", "tasks"])
    def test_stands_by(self, there, kind):
        """Supervised on two nodes it runs on one, and on the other when that is over."""
        with Supervisor.start_link([spec_of(kind)], strategy="one_for_one"):
            assert eventually(lambda: whereis(kind))
            sup = there.call(lambda: Supervisor.start([spec_of(kind)], strategy="one_for_one"))
            assert whereis(kind).node == full("a")
            before = there.call(use, kind)

        assert eventually(lambda: (pid := whereis(kind)) and pid.node == full("b"))
        assert eventually(lambda: use(kind) == before)
        there.call(Supervisor.stop, sup)


class TestStandBy:
    def test_takes_over_when_the_owner_ends(self, there):
        """A supervised server whose name is taken has started, and waits."""
        with Supervisor.start_link([Owner.child_spec(name=Global("s"))], strategy="one_for_one"):
            sup = there.call(lambda: Supervisor.start([Owner.child_spec(name=Global("s"))], strategy="one_for_one"))
            first = GenServer.call(Global("s"), ("token", "s"))
            assert Global.whereis("s").node == full("a")
            (child,) = Supervisor.which_children(sup)
            GenServer.cast(child.pid, "kept")
        eventually(lambda: (pid := Global.whereis("s")) and pid.node == full("b"))

        assert GenServer.call(Global("s"), ("token", "s")) > first
        assert GenServer.call(Global("s"), "take") == ["kept"]
        there.call(Supervisor.stop, sup)

    def test_ends_while_it_waits(self, there):
        """As any child does."""
        with Hoard.start_link(name=Global("s")):
            sup = there.call(lambda: Supervisor.start([Owner.child_spec(name=Global("s"))], strategy="one_for_one"))
            there.call(Supervisor.stop, sup, "normal", 3.0)

    @pytest.mark.slow
    def test_takes_over_when_the_node_is_killed(self, here, another):
        """Within the lease and a second, and with a greater token."""
        other = another("d")
        other.call(lambda: Supervisor.start([Owner.child_spec(name=Global("s"))], strategy="one_for_one"))
        with Supervisor.start_link([Owner.child_spec(name=Global("s"))], strategy="one_for_one"):
            eventually(lambda: Global.whereis("s"))
            first = GenServer.call(Global("s"), ("token", "s"))
            pids = other.call(pillars)
            assert Global.whereis("s").node == full("d")
            for os_pid in pids:
                os.kill(os_pid, signal.SIGKILL)

            assert eventually(lambda: (pid := Global.whereis("s")) and pid.node == Node.self(), LEASE + 1.0)
            assert GenServer.call(Global("s"), ("token", "s")) > first
        nodes._sweep(here.base)  # its guard was killed as well


def _race(peers, name):
    """Claim a name on all nodes at once, several times each."""
    with ThreadPoolExecutor(len(peers)) as pool:
        others = [pool.submit(peer.call, _claims, name) for peer in peers]
        return _claims(name) + [token for one in others for token in one.result()]


def _claims(name):
    requests = [GenServer.send_request(hoard, ("claim", name)) for hoard in [Claimer.start() for _ in range(5)]]
    return [GenServer.receive_response(rid, 10.0) for rid in requests]
