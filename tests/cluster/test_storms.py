"""The cluster under strain: racing claims, owners killed and stopped again and again, floods, and who does not read."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from otp_runtime import Down, GenServer, Global, Node, NodeDown, NodeUp, process
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.process import node as nodes
from tests.cluster.conftest import LEASE
from tests.cluster.diary import Ledger, ledger_log, open_ledger, overlaps, stand_by, tenures, token_of
from tests.cluster.servers import (
    Claimer,
    Hoard,
    eventually,
    every_process,
    full,
    kill_gateway,
    pillars,
    start,
    whereis,
)


def claims(name, count):
    """Claim a name for many processes at once; give what each was told, and the processes: they keep what they have."""
    claimers = [Claimer.start() for _ in range(count)]
    requests = [GenServer.send_request(claimer, ("claim", name)) for claimer in claimers]
    return [GenServer.receive_response(rid, 20.0) for rid in requests], claimers


class TestRacingClaims:
    @pytest.mark.stress
    def test_one_winner(self, here, there, another):
        """50 claims of one name from three nodes, 20 times: one token each time, each greater than the last."""
        third = another("c")
        last = 0
        for number in range(20):
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(peer.call, claims, number, 17) for peer in (there, third)]
                found = [claims(number, 16), *(one.result() for one in asked)]
            told = [token for tokens, _claimers in found for token in tokens]
            for _tokens, claimers in found:
                for claimer in claimers:
                    process.exit(claimer, "kill")
            (winner,) = [token for token in told if token is not None]
            assert winner > last
            last = winner

        assert len(told) == 50


class TestOwnersKilled:
    @pytest.mark.stress
    def test_standby_answers(self, here, another, tmp_path):
        """Within the lease and a second, 20 times; nobody writes with a token after a greater one was used."""
        path = tmp_path / "diary"
        victim = another("v0")
        victim.call(stand_by, path)
        assert eventually(lambda: token_of("diary"))
        for turn in range(20):
            standby = another(f"v{turn + 1}")
            standby.call(stand_by, path)
            assert eventually(lambda peer=standby: peer.call(Node.list) != [])
            before = token_of("diary")
            for os_pid in victim.call(pillars):
                os.kill(os_pid, signal.SIGKILL)
            assert eventually(lambda before=before: (token_of("diary") or 0) > before, LEASE + 1.0)
            eventually(lambda name=f"v{turn}": full(name) not in Node.list())
            nodes._sweep(here.base)  # its guard was killed as well
            victim = standby

        assert [] == overlaps(path)
        assert len(tenures(path)) == 21


class TestOwnersStopped:
    @pytest.mark.stress
    def test_a_late_write_is_refused(self, here, another, tmp_path):
        """A whole node is stopped and goes on after another took over: the database refuses its smaller token."""
        path = tmp_path / "ledger"
        open_ledger(path)
        first, second = another("s1"), another("s2")
        first.call(stand_by, path, Ledger, "ledger")
        assert eventually(lambda: token_of("ledger"))
        second.call(stand_by, path, Ledger, "ledger")
        old = token_of("ledger")
        stopped = first.call(every_process)
        for os_pid in stopped:
            os.kill(os_pid, signal.SIGSTOP)
        assert eventually(lambda: (token_of("ledger") or 0) > old, LEASE + 2.0)
        new = token_of("ledger")
        assert eventually(lambda: (new, 1) in ledger_log(path))
        for os_pid in reversed(stopped):
            os.kill(os_pid, signal.SIGCONT)
        assert eventually(lambda: full("s1") in Node.list(), 10.0)

        log = ledger_log(path)
        assert [] == [one for one in log[log.index((new, 1)) :] if one == (old, 1)]
        assert eventually(lambda: first.call(whereis, "ledger") == second.call(whereis, "ledger") == whereis("ledger"))
        assert token_of("ledger") >= new


def flood(hoard, count):
    for number in range(count):
        GenServer.cast(hoard, number)


class TestManyMessages:
    @pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.stress)])
    def test_order_of_each_sender(self, here, there, count):
        """From both nodes at once: of each sender none is lost and the order is kept."""
        hoard, mine = Hoard.start(), there.call(start)
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(there.call, flood, hoard, count)
            flood(mine, count)
            sent.result()
        # their sender's next call comes after its casts
        there.call(GenServer.call, hoard, "on", 30.0)

        assert GenServer.call(mine, "take", 30.0) == list(range(count))
        assert GenServer.call(hoard, "take", 30.0) == list(range(count))

    @pytest.mark.stress
    def test_calls_and_casts_between(self, here, there):
        """2,000 calls, ten casts before each: the reply says that they were there."""
        hoard = there.call(start)
        for number in range(2_000):
            for part in range(10):
                GenServer.cast(hoard, (number, part))
            assert GenServer.call(hoard, "take", 30.0) == [(number, part) for part in range(10)]


class TestDoesNotRead:
    @pytest.mark.stress
    def test_a_process(self, here, there):
        """One that is stopped holds up nobody else: calls to others go on, its node is not lost."""
        deaf, other = there.call(start), there.call(start)
        os_pid = there.call(os_pid_of, deaf)
        Node.monitor_nodes(True)
        os.kill(os_pid, signal.SIGSTOP)
        try:
            for number in range(50_000):
                GenServer.cast(deaf, (number, "x" * 200))
                if number % 5_000 == 0:
                    started = time.monotonic()
                    assert GenServer.call(other, number) == number
                    assert time.monotonic() - started < 2.0
        finally:
            os.kill(os_pid, signal.SIGCONT)
        Node.monitor_nodes(False)
        taken = [number for number, _text in GenServer.call(deaf, "take", 60.0)]

        assert taken == sorted(set(taken))
        assert taken[:1_000] == list(range(1_000))
        assert process.flush() == []

    @pytest.mark.stress
    def test_a_node(self, here, there):
        """One that is stopped under a flood is lost, once, and comes back: senders are told, and go on."""
        assert eventually(lambda: full("b") in Node.list())
        hoard = there.call(start)
        ref = process.monitor(hoard)
        stopped = there.call(every_process)
        Node.monitor_nodes(True)
        for os_pid in stopped:
            os.kill(os_pid, signal.SIGSTOP)
        until = time.monotonic() + LEASE + 1.0
        data = bytes(100_000)
        while time.monotonic() < until:
            GenServer.cast(hoard, data)
        for os_pid in reversed(stopped):
            os.kill(os_pid, signal.SIGCONT)
        assert process.receive(Down, 5.0) == Down(ref, hoard, "noconnection")
        assert process.receive(NodeDown, 5.0).node == full("b")
        assert process.receive(NodeUp, 15.0) == NodeUp(full("b"))
        Node.monitor_nodes(False)

        assert GenServer.call(hoard, "on", 20.0) == "on"
        assert process.flush() == []


def os_pid_of(pid):
    return process.info(pid).os_pid


class TestLostAgainAndAgain:
    @pytest.mark.stress
    def test_gateways_and_servers(self, here, there):
        """Killed in turn, here and there: each time all meet again, and a name is its owner's."""
        owner = Hoard.start(name=Global("steady"))
        directory = EngineDirectory(here.base, "otp")
        Node.monitor_nodes(True)
        for turn in range(12):
            match turn % 3:
                case 0:
                    kill_gateway()
                case 1:
                    there.call(kill_gateway)
                case 2:
                    os.kill(directory.read()["server"], signal.SIGKILL)
            assert process.receive(NodeDown, 10.0).node == full("b")
            # after a server both join anew, and the one that is first sees the other come twice
            assert process.receive(NodeUp, 20.0) == NodeUp(full("b"))
            while Node.list() != [full("b")] or there.call(Node.list) != [full("a")] or process.flush():
                GenServer.call(owner, "on")
            assert eventually(lambda: there.call(Node.list) == [full("a")], 20.0)
            assert eventually(lambda: there.call(whereis, "steady") == owner), turn

        Node.monitor_nodes(False)
        assert there.call(GenServer.call, Global("steady"), "on") == "on"
        process.exit(owner, "kill")
