"""The fixtures, used as a user does, and what they are made of: nodes that must leave nothing, programs, leaks."""

import os
import signal
import subprocess
import sys

import pytest

from otp_runtime import Agent, Node, NoNode, Supervisor, process
from otp_runtime.testing import leaks, private_node


class TestOtpNode:
    def test_is_this_programs_node(self, otp_node):
        """The program takes part in it."""
        assert otp_node.name == Node.self()
        assert (otp_node.directory / "node").exists()

    def test_is_private(self, otp_node):
        """Other nodes of this user are elsewhere."""
        assert os.environ["OTP_RUNTIME_DIR"] == str(otp_node.base)
        assert len(str(otp_node.base)) < 40

    def test_leaves_nothing(self):
        """After the block there is no process, no descriptor, no file, and the environment is as before."""
        before = dict(os.environ)
        with private_node() as node:
            Agent.start_link(int, name="left running")

        assert not node.base.exists()
        assert leaks.naming(str(node.base)) == []
        assert before == dict(os.environ)

    def test_finds_a_process_that_was_left(self):
        """Also one that detached itself from everything: its environment gives it away."""
        sleeper = None
        with pytest.raises(AssertionError, match=r"left 1 thing.*\n.*sleep 600"), private_node():
            sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
        sleeper.kill()
        sleeper.wait()

    def test_finds_a_descriptor_that_was_left(self):
        """By what it refers to."""
        fd = -1
        with pytest.raises(AssertionError, match=r"descriptor \d+ -> /dev/zero"), private_node():
            fd = os.open("/dev/zero", os.O_RDONLY)
        os.close(fd)

    def test_finds_a_file_that_was_left(self):
        """By its path in the base directory."""
        with pytest.raises(AssertionError, match=r"1 file.*\n  litter"), private_node() as node:
            (node.base / "litter").touch()


class TestStartSupervised:
    def test_starts_and_brings_back(self, start_supervised):
        """A child is restarted as often as it dies."""
        start_supervised(Agent.child_spec(int, name="a"))
        for _ in range(5):
            os.kill(process.whereis("a").os_pid, signal.SIGKILL)
            process.whereis("a").wait()

            assert Agent.get("a", lambda state: state) == 0

    def test_stop(self, start_supervised):
        """A stopped child's name is free, its id too."""
        start_supervised(Agent.child_spec(int, name="a"))
        start_supervised.stop("a")

        assert process.whereis("a") is None
        assert Supervisor.which_children(start_supervised.supervisor) == []


class TestPeer:
    def test_runs_functions_in_another_program(self, peer):
        """Closures too; it is a process of the same node."""
        other = peer("b")
        number = 20

        assert other.call(lambda more: (os.getpid(), number + more), 3) == (other.os_pid, 23)
        assert other.call(Node.self) == Node.self()

    def test_shares_names(self, peer, start_supervised):
        """What one program starts the other can call."""
        start_supervised(Agent.child_spec(lambda: "hello", name="a"))

        assert peer("b").call(Agent.get, "a", str.upper) == "HELLO"

    def test_raises_what_was_raised(self, peer):
        """With the traceback of the other program in its notes."""
        with pytest.raises(ZeroDivisionError) as error:
            peer("b").call(lambda: 1 // 0)

        assert "In the program of the peer" in error.value.__notes__[0]

    def test_says_that_it_is_gone(self, peer):
        """A killed program answers nothing more."""
        other = peer("b")
        other.kill()

        with pytest.raises(ChildProcessError, match="the program b ended with status -9"):
            other.call(os.getpid)

    def test_its_roots_end_with_it(self, peer):
        """A program's end stops what it started."""
        other = peer("b")
        pid = other.call(lambda: Agent.start_link(int))
        other.close()

        assert pid.wait(5.0) is not None

    def test_a_node_of_its_own_that_does_not_start(self, peer):
        """Says so here, not in the other program's output."""
        with pytest.raises(NoNode, match="no engine at"):
            peer("b", cluster="nats://127.0.0.1:1")


class TestImport:
    def test_imports_no_pytest(self):
        """A program that only wants a helper does not load it; nor does the plugin load the runtime."""
        code = (
            "import sys, otp_runtime.testing; print('pytest' in sys.modules, 'otp_runtime.process' in sys.modules);"
            "import otp_runtime.testing.plugin; print('otp_runtime.process' in sys.modules);"
            "[getattr(otp_runtime.testing, name) for name in otp_runtime.testing.__all__];"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stdout.split() == ["False", "False", "False"]

    def test_misspelt(self):
        """A name that is not there."""
        import otp_runtime.testing

        with pytest.raises(AttributeError, match="has no attribute 'crush'"):
            otp_runtime.testing.crush  # noqa: B018  the access is the test
