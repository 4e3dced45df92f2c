"""Three hosts, of which one is cut off and comes back: who keeps a name, who gives it up, who owns it in the end."""

import contextlib
import time

import pytest

from otp_runtime import Exit, GenServer, Global, Node, NoNode, process
from tests.cluster import hosts
from tests.cluster.diary import overlaps, stand_by, tenures, token_of
from tests.cluster.servers import Hoard, eventually, whereis

LEASE = 3.0
ELECTION = 15.0
"""What the servers may take to agree on a leader when theirs was cut off."""

WHY_NOT = hosts.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def claim(name):
    """Claim a name for a new server; "refused" when the cluster's table is out of reach."""
    try:
        return Global.register(name, Hoard.start())
    except NoNode:
        return "refused"


def claim_for_program():
    return Global.register("program", process.self())


def owner_of(peers, name):
    """Which of them has a name, as all of them see it; None while they do not agree."""
    seen = {peer.call(whereis, name) for peer in peers}
    if len(seen) != 1 or None in seen:
        return None
    node = seen.pop().node
    return next((peer for peer in peers if peer.call(Node.self) == node), None)


def agree(peers, name):
    return eventually(lambda: len({peer.call(whereis, name) for peer in peers}) == 1, 10.0)


@pytest.fixture
def lab():
    with hosts.Lab() as made:
        yield made


@pytest.fixture
def nodes(lab):
    """A node on each host."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(host.node(f"n{host.number}", lease=LEASE)) for host in lab.hosts]
        assert hosts.see_each_other(peers, 20.0)
        yield peers


def cut_and_heal(lab, nodes, lost):
    """Cut the host `lost` off, whose node has the diary; look at everything; heal. Give how long the others took."""
    path = lab.path / "diary"
    alone, rest = nodes[lost], [peer for peer in nodes if peer is not nodes[lost]]
    for peer in [alone, *rest]:
        peer.call(stand_by, path)
    assert eventually(lambda: owner_of(nodes, "diary"), 10.0) is alone
    first = alone.call(token_of, "diary")
    lab.hosts[lost].cut()
    started = time.monotonic()
    assert eventually(lambda: alone.call(Node.list) == [], LEASE + 1.0)
    assert eventually(lambda: owner_of(rest, "diary"), LEASE + 1.0 + ELECTION)
    took = time.monotonic() - started
    assert alone.call(whereis, "diary") is None
    assert alone.call(claim, "mine") == "refused"
    assert alone.call(GenServer.call, "local", "on") == "on"
    assert hosts.see_each_other(rest, 5.0)
    assert rest[0].call(claim, "mine") > first
    lab.hosts[lost].heal()
    assert hosts.see_each_other(nodes, 30.0)
    assert eventually(lambda: owner_of(nodes, "diary"), 10.0) is not None
    assert agree(nodes, "mine")
    assert [] == overlaps(path)
    assert max(tenures(path)) > first
    return took


class TestCutOff:
    @pytest.mark.slow
    def test_minority_gives_up(self, lab, nodes):
        """It fences itself and claims nothing, the others take over within a lease and a second; all meet again."""
        assert lab.table()["replicas"] == 3
        lost = min({0, 1, 2} - lab.leaders())

        assert cut_and_heal(lab, nodes, lost) < LEASE + 1.0

    @pytest.mark.stress
    def test_with_the_leader_of_the_table(self, lab, nodes):
        """The same once the servers have agreed on another."""
        cut_and_heal(lab, nodes, lab.leader_of_table())

    @pytest.mark.stress
    def test_again_and_again(self, lab, nodes):
        """Each host in turn, for longer and shorter than a lease: one owner in the end, and never two at a time."""
        path = lab.path / "diary"
        for peer in nodes:
            peer.call(stand_by, path)
        for turn in range(9):
            lab.hosts[turn % 3].cut()
            until = time.monotonic() + (1.0, 4.0, 8.0)[turn // 3]
            while time.monotonic() < until:
                nodes[turn % 3].call(token_of, "diary")
            lab.hosts[turn % 3].heal()
            assert hosts.see_each_other(nodes, 40.0)
            assert eventually(lambda: owner_of(nodes, "diary"), 20.0) is not None

        assert [] == overlaps(path)

    @pytest.mark.stress
    def test_everybody_alone(self, lab, nodes):
        """No side has a majority: nobody has a name, nobody claims one; after it one does."""
        path = lab.path / "diary"
        for peer in nodes:
            peer.call(stand_by, path)
        assert eventually(lambda: owner_of(nodes, "diary"), 10.0)
        for host in lab.hosts:
            host.cut()
        for peer in nodes:
            assert eventually(lambda peer=peer: peer.call(Node.list) == [], LEASE + 1.0)
            assert eventually(lambda peer=peer: peer.call(whereis, "diary") is None)
            assert peer.call(claim, "mine") == "refused"
        for host in lab.hosts:
            host.heal()
        assert hosts.see_each_other(nodes, 40.0)

        assert eventually(lambda: owner_of(nodes, "diary"), 20.0) is not None
        assert agree(nodes, "mine")
        assert [] == overlaps(path)


class TestServerLost:
    @pytest.mark.stress
    def test_one_of_three(self, lab, nodes):
        """Its node is alone until it is back; the others go on."""
        path = lab.path / "diary"
        for peer in nodes:
            peer.call(stand_by, path)
        lost = (lab.leader_of_table() + 1) % 3
        rest = [peer for peer in nodes if peer is not nodes[lost]]
        lab.hosts[lost].stop_server()
        assert eventually(lambda: nodes[lost].call(Node.list) == [], LEASE + 1.0)
        assert hosts.see_each_other(rest, 5.0)
        assert eventually(lambda: owner_of(rest, "diary"), LEASE + 1.0)
        lab.hosts[lost].start_server()
        assert hosts.see_each_other(nodes, 40.0)

        assert eventually(lambda: owner_of(nodes, "diary"), 20.0) is not None
        assert [] == overlaps(path)


class TestTable:
    @pytest.mark.slow
    def test_made_when_there_were_fewer_servers(self, lab):
        """Is brought to three of them by the first node that joins, with all that it holds."""
        lab.make_small_table()
        assert lab.table()["replicas"] == 1
        with lab.hosts[0].node("n0", lease=15.0) as first, lab.hosts[1].node("n1", lease=15.0) as second:
            pid = first.call(lambda: Hoard.start(name=Global("kept")))
            assert eventually(lambda: lab.table()["replicas"] == 3, 20.0)
            assert hosts.see_each_other([first, second], 20.0)

            assert second.call(whereis, "kept") == pid
            assert second.call(claim, "another") is not None


class TestProgram:
    @pytest.mark.stress
    def test_is_told_and_not_killed(self, lab, nodes):
        """A program that has a name itself, and loses it, lives on."""
        alone = nodes[0]
        assert alone.call(claim_for_program)
        lab.hosts[0].cut()
        told = alone.call(process.receive, Exit, 10.0)
        lab.hosts[0].heal()

        assert (told.reason, alone.call(whereis, "program")) == ("noconnection", None)
        assert hosts.see_each_other(nodes, 40.0)
