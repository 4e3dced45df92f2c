"""Nodes: one per program, private, gone without a trace."""

import os
import signal
import subprocess

import pytest

from otp_runtime import Agent, AlreadyStarted, GenServer, Node, NoNode, Reply, ServerDown, Supervisor, process
from otp_runtime.host import kernel
from otp_runtime.host.directory import NodeDirectory
from otp_runtime.process import node
from otp_runtime.process.template import TITLE
from otp_runtime.testing.nodes import private_directory, private_node

FOREIGNER = 65534


@pytest.fixture
def base():
    """A private base directory without a node."""
    with private_directory() as path:
        yield path
        Node.stop()


class TestStart:
    def test_names(self, base):
        """A short one gets the host's."""
        with Node.start("shop") as node:
            assert node.name == Node.self() == f"shop@{os.uname().nodename}"

    def test_a_full_name(self, base):
        """Is taken as it is."""
        with Node.start("shop@elsewhere") as node:
            assert node.name == "shop@elsewhere"

    def test_from_the_environment(self, base, monkeypatch):
        """`OTP_NODE`."""
        monkeypatch.setenv("OTP_NODE", "shop@here")
        with Node.start() as node:
            assert node.name == "shop@here"

    def test_twice(self, base):
        """A program has one node."""
        with Node.start("shop"), pytest.raises(AlreadyStarted) as error:
            Node.start("other")

        assert error.value.pid.startswith("shop@")

    def test_after_a_first_use(self, base):
        """Which made an unnamed one."""
        process.self()
        with pytest.raises(AlreadyStarted):
            Node.start("shop")

    def test_again_after_its_end(self, base):
        """Pids of the earlier life are nobody's."""
        with Node.start("shop"):
            earlier = Agent.start_link(int)
        with Node.start("shop"):
            Agent.start_link(int)

            assert process.alive(earlier) is False
            assert process.send(earlier, "hello") is None

    def test_one_template(self, base):
        """The launcher has it from the start: the first server makes no second one."""
        with Node.start("shop"):
            Agent.start_link(int)
            (guard,) = kernel.children_of(os.getpid())
            (launcher,) = kernel.children_of(guard)
            titles = [kernel.title_of(os_pid) for os_pid in kernel.children_of(launcher)]

        assert titles.count(TITLE) == 1

    def test_the_name_is_taken_by_another_program(self, base):
        """Says what to do."""
        with private_node("shop"):
            pass
        code = "import sys; from otp_runtime import Node\nwith Node.start('shop'): print('up', flush=True); input()"
        program = subprocess.Popen(
            [os.sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        program.stdout.readline()
        with pytest.raises(NoNode, match="a node of that name is running; attach to it or choose another name"):
            Node.start("shop")
        program.communicate("\n")

    def test_a_foreign_directory(self, base):
        """Nothing of another user is used."""
        if os.geteuid():
            pytest.skip("only root gives files away")
        os.chown(base, FOREIGNER, FOREIGNER)
        try:
            with pytest.raises(NoNode, match=f"belongs to user {FOREIGNER}"):
                Node.start("shop")
        finally:
            os.chown(base, os.geteuid(), os.getegid())

    def test_a_directory_that_others_may_enter(self, base):
        """Says what to do."""
        base.chmod(0o755)
        with pytest.raises(NoNode, match="chmod 700 it"):
            Node.start("shop")

    def test_a_full_disk(self, base, tmp_path, monkeypatch):
        """NoNode, what to do, and nothing left."""
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "t", disk], check=False).returncode:
            pytest.skip("this user may not mount a tmpfs")
        try:
            (disk / "filler").write_bytes(bytes(60 * 1024))
            monkeypatch.setenv("OTP_RUNTIME_DIR", str(disk / "base"))
            with pytest.raises(NoNode, match="OTP_RUNTIME_DIR"):
                Node.start("shop")
            left = [str(entry.relative_to(disk)) for entry in disk.rglob("*")]
        finally:
            subprocess.run(["umount", disk], check=True)

        assert sorted(left) == ["base", "filler"]

    def test_that_takes_too_long(self, base, monkeypatch):
        """It is given up, and nothing is left of it."""
        monkeypatch.setattr(node, "READY_SECONDS", 0.0)
        with pytest.raises(NoNode, match="it was not ready within 0 s"):
            Node.start("shop")
        assert list(base.iterdir()) == []

    def test_a_stray_file(self, base):
        """What is no node's directory is left alone."""
        (base / "notes").touch()
        with Node.start("shop"):
            assert Agent.get(Agent.start_link(int), str) == "0"
        (base / "notes").unlink()

    def test_no_name(self, base):
        """Refused before anything is made."""
        with pytest.raises(ValueError, match="name"):
            Node.start("a\0b")

        assert list(base.iterdir()) == []


class TestSweep:
    def test_what_is_half_removed(self, base):
        """However young; a node that is being made, and only has such a name, is spared."""
        made = [NodeDirectory(base / f"shop@here.gone-{end}") for end in ("5", "west")]
        for directory in made:
            directory.create()
        node._sweep(base)
        left = [directory.path.exists() for directory in made]
        made[1].remove()

        assert [False, True] == left


class TestStop:
    def test_without_one(self, base):
        """Nothing happens."""
        assert Node.stop() is None

    def test_stops_what_runs(self, base):
        """Roots in reverse order, and unlinked ones."""
        with Node.start():
            pids = (Agent.start_link(int), Agent.start(int), process.spawn(signal.pause))
            victims = [kernel.OsProcess(pid.os_pid, kernel.start_time(pid.os_pid)) for pid in pids]

        assert [kernel.start_time(victim.pid) == victim.start for victim in victims] == [False] * 3
        assert list(base.iterdir()) == []


class Lingering(GenServer):
    """Takes as long to stop as it may: for ever."""

    trap_exit = True
    shutdown = None

    def init(self, arg):
        return subprocess.Popen(["sleep", "600"])

    def handle_call(self, request, client, state):
        return Reply(state.pid, state)

    def terminate(self, reason, state):
        signal.pause()


class TestEnd:
    @pytest.mark.parametrize("victim", ["guard", "launcher"])
    def test_either_half_ends_the_node(self, base, victim):
        """Every process ends, the directory goes; the program is told and may start another."""
        Node.start("shop")
        agent = Agent.start_link(int)
        os_process = kernel.OsProcess(agent.os_pid, kernel.start_time(agent.os_pid))
        pidfd = kernel.open_pidfd(os_process)
        (guard,) = kernel.children_of(os.getpid())
        (launcher,) = kernel.children_of(guard)
        os.kill({"guard": guard, "launcher": launcher}[victim], signal.SIGKILL)
        ended = _await_end(pidfd, 3.0)
        os.close(pidfd)
        node._membership.thread.join(3.0)
        with pytest.raises(ServerDown) as error:
            Agent.get(agent, str)
        with pytest.raises(NoNode):
            Agent.start(int)
        Node.stop()
        with Node.start("shop"):
            again = Agent.get(Agent.start_link(int), str)

        assert (ended, error.value.reason, again) == (True, "noconnection", "0")

    def test_both_halves_at_once(self, base):
        """Nobody is left who would end what takes its time: each process ends at once, whatever it has yet to do."""
        Node.start("shop")
        supervisor = Supervisor.start([Lingering], strategy="one_for_one")
        (child,) = Supervisor.which_children(supervisor)
        os_pids = [supervisor.os_pid, child.pid.os_pid, GenServer.call(child.pid, "sleeper")]
        pidfds = [os.pidfd_open(os_pid) for os_pid in os_pids]
        (guard,) = kernel.children_of(os.getpid())
        (launcher,) = kernel.children_of(guard)
        os.kill(launcher, signal.SIGSTOP)
        os.kill(guard, signal.SIGKILL)
        os.kill(launcher, signal.SIGKILL)
        ended = [_await_end(pidfd, 3.0) for pidfd in pidfds]
        for pidfd in pidfds:
            if not all(ended):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        Node.stop()

        assert [True, True, True] == ended


def _await_end(pidfd, seconds):
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
