"""A second program takes part in a node; it ends alone, and takes only its own roots along."""

import os
import subprocess
import sys

import pytest

from otp_runtime import Agent, AlreadyStarted, Down, GenServer, Node, NoNode, NoProcess, Signalled, attach, process
from otp_runtime.testing import assert_receive
from tests.process import plain


def run_program(code, *args):
    """Run Python code as a program of its own; give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


class TestAttach:
    def test_finds_the_only_node(self, me):
        """Without being told which."""
        Agent.start_link(lambda: "hello", name="greeter")
        said = run_program(
            "from otp_runtime import Agent, Node, attach\nattach()\nprint(Node.self(), Agent.get('greeter', str.upper))"
        )

        assert said.split() == [Node.self(), "HELLO"]

    def test_its_own_node_again(self, me):
        """The program is in it already: nothing happens."""
        attach(Node.self())

        assert process.self() == me

    def test_another_node_is_not_there(self, peer):
        """Says so."""
        said = run_program(
            "from otp_runtime import NoNode, attach\ntry: attach('nobody')\nexcept NoNode as error: print(error)"
        )

        assert "nobody@" in said
        assert "not running" in said

    def test_sees_the_same_names(self, me, peer):
        """Both ways."""
        other = peer("b")
        theirs = other.call(lambda: Agent.start_link(lambda: 20, name="theirs"))
        Agent.start_link(lambda: 22, name="ours")

        assert Agent.get("theirs", int) + other.call(Agent.get, "ours", int) == 42
        assert process.whereis("theirs") == theirs

    def test_sends_and_monitors(self, me, peer):
        """Between two programs as within one."""
        other = peer("b")
        theirs = other.call(process.self)
        ref = process.monitor(theirs)
        other.call(process.send, me, "hello")
        message = assert_receive("hello", 5.0)
        other.kill()

        down = assert_receive(Down, 5.0)

        assert (message, down.ref, down.pid) == ("hello", ref, theirs)
        assert down.reason in {"killed", Signalled("SIGKILL")}  # only its parent, which this node is not, sees which

    def test_its_end_stops_its_roots(self, me, peer):
        """And nobody else's."""
        other = peer("b")
        theirs = other.call(lambda: Agent.start_link(int, name="theirs"))
        ours = Agent.start_link(int, name="ours")
        other.close()

        assert theirs.wait(5.0) == "shutdown"
        assert process.whereis("theirs") is None
        assert process.whereis("ours") == ours

    def test_its_kill_stops_its_roots(self, me, peer):
        """Even when it cannot say goodbye."""
        other = peer("b")
        theirs = other.call(lambda: Agent.start_link(int))
        ours = Agent.start_link(int)
        other.kill()

        assert theirs.wait(5.0) in {"shutdown", "killed"}  # the launcher's order, or the link to the program
        assert process.alive(ours)

    def test_its_roots_that_trap_clean_up(self, me, peer):
        """They are asked, not killed."""
        other = peer("b")
        trapping = other.call(process.spawn_link, plain.trap, me)
        assert_receive("ready", 5.0)
        other.kill()

        assert assert_receive(("got", ...), 5.0)[1].reason == "shutdown"
        process.exit(trapping, "kill")

    def test_stops_what_it_did_not_start(self, me, peer):
        """Leaving a block of somebody else's process would stop it: a mistake."""
        ours = Agent.start_link(int)

        def enter(pid):
            with pid:
                pass

        with pytest.raises(ValueError, match="was not started by this program"):
            peer("b").call(enter, ours)

    def test_while_in_another(self, me, peer):
        """A program takes part in one node."""
        with pytest.raises(NoNode, match="takes part in"):
            peer("b").call(attach, "elsewhere")

    def test_starts_one_beside_it(self, peer):
        """A program has one node."""
        with pytest.raises(AlreadyStarted):
            peer("b").call(Node.start, "elsewhere")

    def test_leaves(self, me, peer):
        """Its processes of this node are gone; the node is not."""
        other = peer("b")
        theirs = other.call(process.self)
        other.call(Node.stop)

        assert process.alive(theirs) is False
        assert Agent.get(Agent.start_link(int), str) == "0"


class TestEndOfTheNode:
    def test_an_attached_program_is_told(self, tmp_path):
        """Calls fail with noconnection, starts with NoNode, and it may start a node of its own."""
        from otp_runtime.testing.nodes import private_node

        with private_node() as node:
            code = (
                "import sys; from otp_runtime import *\n"
                "attach(); Agent.get('a', str); print('ready', flush=True); sys.stdin.read()\n"
                "try: Agent.get('a', str)\n"
                "except ServerDown as error: print(error.reason)\n"
                "try: Agent.start_link(int)\n"
                "except NoNode as error: print('no node')\n"
                "Node.stop()\n"
                "with Node.start(): print(Agent.get(Agent.start_link(int), str))\n"
            )
            Agent.start_link(int, name="a")
            program = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.getcwd(), "OTP_RUNTIME_DIR": str(node.base)},
            )
            ready = program.stdout.readline()
            Node.stop()
            said, errors = program.communicate(timeout=15)

        assert (ready, said.split("\n"), errors) == ("ready\n", ["noconnection", "no node", "0", ""], "")


class TestServerOfAnother:
    def test_is_called_by_pid(self, me, peer):
        """A pid means the same in every program of the node."""
        ours = Agent.start_link(lambda: 41)

        assert peer("b").call(Agent.get, ours, int) == 41

    def test_is_gone(self, me, peer):
        """As in one program."""
        ours = Agent.start_link(int)
        GenServer.stop(ours)
        with pytest.raises(NoProcess):
            peer("b").call(GenServer.call, ours, "hello")
