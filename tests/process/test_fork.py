"""A fork that the user makes, by os.fork or multiprocessing: the parent loses nothing, the child becomes a process."""

import multiprocessing
import os
import warnings

from otp_runtime import Agent, Down, process
from otp_runtime.testing import assert_receive
from tests.process import plain


def forked(function):
    """Run a function in a fork of this program; give what it returned as text."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        os_pid = os.fork()
    if os_pid == 0:
        try:
            said = str(function())
        except BaseException as error:  # noqa: BLE001 - told below
            said = f"raised {error!r}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(os_pid, 0)
    return said


class TestFork:
    def test_the_child_is_another_process(self, me):
        """At its first use of the library, of the same node."""
        said = forked(lambda: (process.self() != me, process.self().node))

        assert said == str((True, me.node))

    def test_the_child_calls(self, me):
        """What runs in the node."""
        with Agent.start_link(lambda: "hello", name="greeter"):
            assert forked(lambda: Agent.get("greeter", str.upper)) == "HELLO"

    def test_the_parent_keeps_its_messages(self, me):
        """Those that lie in its mailbox, those on their way, and those that come later."""
        process.send(me, "before")
        process.spawn(plain.send_numbered, me, 100).wait(5.0)
        said = forked(process.flush)
        process.send(me, "after")
        messages = process.flush()

        assert said == "[]"
        assert [messages[0], messages[-1], len(messages)] == ["before", "after", 102]

    def test_the_parent_keeps_its_monitors(self, me):
        """A child that ends takes none along."""
        pid = process.spawn(plain.linger)
        ref = process.monitor(pid)
        forked(process.self)
        process.exit(pid, "custom")

        assert assert_receive(Down, 5.0) == Down(ref, pid, "custom")

    def test_the_parent_still_calls(self, me):
        """While the child does too."""
        with Agent.start_link(int, name="counter"):
            for _ in range(3):
                forked(lambda: Agent.update("counter", lambda n: n + 1))
                Agent.update("counter", lambda n: n + 1)

            assert Agent.get("counter", str) == "6"

    def test_a_child_that_never_uses_it(self, me):
        """Leaves no trace."""
        before = process.list()
        forked(os.getpid)

        assert process.list() == before

    def test_in_a_server(self, me):
        """A server may fork too."""
        with Agent.start_link(int) as agent:
            said = Agent.get(agent, lambda _state: forked(lambda: process.self() != agent))

            assert said == "True"
            assert Agent.get(agent, str) == "0"


class TestMultiprocessing:
    def test_a_child_does_no_harm(self, me):
        """It runs, the parent goes on."""
        process.send(me, "before")
        child = multiprocessing.get_context("fork").Process(target=int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        child.join()

        assert (child.exitcode, process.flush()) == (0, ["before"])
        child.close()

    def test_a_child_uses_it(self, me):
        """As a process of the node."""
        with Agent.start_link(int, name="counter"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = multiprocessing.get_context("fork").Process(target=lambda: Agent.update("counter", lambda n: n + 1))
            child.start()
            child.join()
            child.close()

            assert Agent.get("counter", str) == "1"
