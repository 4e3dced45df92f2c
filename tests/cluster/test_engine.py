"""The embedded engine: one for all nodes of a cluster on this machine, nobody's child, gone with the last of them."""

import contextlib
import fcntl
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from otp_runtime import Node, NodeUp, process
from otp_runtime.cluster import engine
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.host import kernel
from otp_runtime.testing import Peer, leaks
from otp_runtime.testing.nodes import private_directory, private_node
from tests.cluster.servers import eventually, full, pillars

pytestmark = pytest.mark.slow


@pytest.fixture
def base():
    """A base directory that is empty at the end."""
    with private_directory() as path:
        yield path
        leaks.outlive(leaks.naming(str(path)), 5.0)


def peer(name, cluster="embedded"):
    return Peer(name, cluster=cluster, lease=2.0)


class TestLife:
    def test_outlives_the_node_that_started_it(self, base):
        """And ends with the last, whoever that is: no process and no file is left."""
        with peer("a") as first, peer("b") as second:
            said = EngineDirectory(base, "otp").read()
            second.call(Node.monitor_nodes, True)
            first.close()
            assert EngineDirectory(base, "otp").read() == said
            with peer("c") as third:
                assert eventually(lambda: third.call(Node.list) == [full("b")])
            # what was started last is stopped last: by now nobody else is there
            second.close()

        assert [] == leaks.naming(str(base))
        assert [] == os.listdir(base)

    def test_last_node_is_killed(self, base):
        """The keeper sees it."""
        with peer("a") as only:
            for os_pid in only.call(pillars)[1:]:
                os.kill(os_pid, signal.SIGKILL)
            left = [one for one in leaks.naming(str(base)) if one.pid != only.os_pid]

            assert [] == leaks.outlive(left, 5.0)
        assert not (base / ".cluster-otp").exists()
        from otp_runtime.process import node

        node._sweep(base)  # its guard was killed as well

    def test_first_node_is_gone_before_it_was_seen(self, base):
        """The engine ends, and does not wait for it with all its might."""
        directory = EngineDirectory(base, "otp")
        with directory.lock():
            engine._start(directory, "a@nowhere")
            keeper = kernel.OsProcess(*directory.read()["keeper"])
            directory.knock()

        assert [] == leaks.outlive([keeper], 5.0)
        assert not directory.path.exists()

    def test_first_nodes_race(self, base):
        """One engine, and all are in it."""
        names = ["a", "b", "c"]
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
            peers = [stack.enter_context(one) for one in pool.map(peer, names)]
            keepers = [one for one in leaks.naming(str(base)) if b"keeper" in _command(one)]

            for one in peers:
                assert eventually(lambda one=one: len(one.call(Node.list)) == 2)
            assert len(keepers) == 1

    def test_clusters_apart(self, base):
        """Nodes of another cluster are not seen."""
        with peer("a", "embedded:one") as one, peer("b", "embedded:two") as two:
            assert (one.call(Node.list), two.call(Node.list)) == ([], [])
            assert one.call(Node.ping, full("b")) == "pang"

    def test_keeper_killed(self, base):
        """The server dies with it; the nodes bring one other keeper, and meet again without anybody's help."""
        with peer("a") as first, peer("b") as second, peer("c") as third:
            before = EngineDirectory(base, "otp").read()
            server = kernel.OsProcess(before["server"], kernel.start_time(before["server"]))
            os.kill(before["keeper"][0], signal.SIGKILL)
            assert [] == leaks.outlive([server], 5.0)
            for one in (first, second, third):
                assert eventually(lambda one=one: len(one.call(Node.list)) == 2, 10.0)
            keepers = [one for one in leaks.naming(str(base)) if b"keeper" in _command(one)]

            assert [EngineDirectory(base, "otp").read()["keeper"]] == [[one.pid, one.start] for one in keepers]
            third.close()
            second.close()

    @pytest.mark.parametrize("name", ["a b", 'a"b', "a\\nb", "a\nb", "$HOME", "{x}%s#", "\udcff"])
    def test_base_directory_of_any_name(self, base, monkeypatch, name):
        """The engine does not mind."""
        odd = base / name
        odd.mkdir(0o700)
        monkeypatch.setenv("OTP_RUNTIME_DIR", str(odd))
        with peer("a") as only:
            assert only.call(Node.ping, full("a")) == "pong"
        odd.rmdir()

    @pytest.mark.parametrize("what", ["file", "link", "rubbish"])
    def test_something_is_in_its_place(self, base, what):
        """A file, a link, whose target stays, or what an engine left that died with its keeper."""
        place, elsewhere = base / ".cluster-otp", base / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
        match what:
            case "file":
                place.touch()
            case "link":
                place.symlink_to(elsewhere)
            case _:
                (place / "members").mkdir(parents=True)
                (place / "store").mkdir(mode=0o500)
                for name in ("keeper", "engine", "members/a", "members/zz"):
                    (place / name).write_text("rubbish")
        with peer("a") as only:
            assert only.call(Node.ping, full("a")) == "pong"

        assert (elsewhere / "kept").exists()
        (elsewhere / "kept").unlink()
        elsewhere.rmdir()

    def test_server_killed(self, base):
        """Started again where it was."""
        with private_node("a", cluster="embedded", lease=2.0) as node:
            Node.monitor_nodes(True)
            directory = EngineDirectory(node.base, "otp")
            before = directory.read()
            os.kill(before["server"], signal.SIGKILL)
            after = eventually(lambda: (said := directory.read()) != before and said)
            with peer("b"):
                assert process.receive(NodeUp, 10.0) == NodeUp(full("b"))

            assert (after["url"], after["keeper"]) == (before["url"], before["keeper"])


class TestLock:
    def test_a_fork_made_while_it_is_held(self, base):
        """Does not go on holding it: else nobody could join, or end, before that process does."""
        with EngineDirectory(base, "otp").lock():
            forked = os.fork()
            if not forked:
                signal.pause()
        fd = os.open(base, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(forked, signal.SIGKILL)
            os.waitpid(forked, 0)
            os.close(fd)


class TestPrivate:
    def test_only_this_user_and_only_this_machine(self, base):
        """Files 0600, directories 0700, loopback only, credentials in no argument."""
        with peer("a"):
            directory = EngineDirectory(base, "otp")
            said = directory.read()
            for name in ("engine", "server.conf"):
                assert stat.S_IMODE((directory.path / name).stat().st_mode) == 0o600
            assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
            commands = b" ".join(_command(one) for one in leaks.naming(str(base)))

            assert said["password"].encode() not in commands
            assert {"127.0.0.1"} == _listens(said["server"])


def _command(one):
    with contextlib.suppress(OSError), open(f"/proc/{one.pid}/cmdline", "rb") as file:
        return file.read()
    return b""


def _listens(os_pid):
    """The addresses on which an OS process takes connections."""
    inodes = set()
    for fd in os.listdir(f"/proc/{os_pid}/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f"/proc/{os_pid}/fd/{fd}"))
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{os_pid}/net/{table}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                    found.add(words[1].partition(":")[0])
    return {"127.0.0.1" if one == "0100007F" else one for one in found}
