"""The threads of a program: each is a process of its own."""

import threading

import pytest

from otp_runtime import Agent, CallingSelf, Down, GenServer, Node, process
from otp_runtime.testing import assert_receive, gate
from tests.process import plain


def in_thread(function):
    """Run a function in a thread of its own; give what it returned, raise what it raised."""
    found = []

    def run():
        try:
            found.append((True, function()))
        except BaseException as error:  # noqa: BLE001 - raised again below
            found.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ok, value = found[0]
    if not ok:
        raise value
    return value


class TestThread:
    def test_has_a_pid_of_its_own(self, me):
        """On the same node."""
        pid = in_thread(process.self)

        assert pid != me
        assert pid.node == me.node == Node.self()

    def test_the_same_for_its_life(self, me):
        """However often it asks."""
        first, second = in_thread(lambda: (process.self(), process.self()))

        assert first == second

    def test_has_a_mailbox_of_its_own(self, me):
        """Messages reach the thread they are for."""

        def talk():
            process.send(me, ("from", process.self()))
            return process.receive(timeout=5.0)

        found = []
        thread = threading.Thread(target=lambda: found.append(talk()))
        thread.start()
        _tag, other = assert_receive(("from", ...), 5.0)
        process.send(other, "back")
        thread.join()

        assert (found, process.flush()) == (["back"], [])

    def test_four_call_at_once(self, me):
        """Each gets its own replies, and none another's."""
        with Agent.start_link(list) as agent:
            found = {}

            def call(number):
                found[number] = [
                    Agent.get_and_update(agent, lambda state, mine=(number, turn): (mine, [*state, mine]))
                    for turn in range(25)
                ]

            threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert found == {number: [(number, turn) for turn in range(25)] for number in range(4)}
            assert len(Agent.get(agent, list)) == 100

    def test_ends_when_the_thread_does(self, me):
        """Normal, told to who watches; its files are gone."""
        with gate() as hold:
            pids = []
            thread = threading.Thread(target=lambda: (pids.append(process.self()), hold.wait()))
            thread.start()
            hold.wait_arrival()
            ref = process.monitor(pids[0])
            hold.open()
            thread.join()

        assert assert_receive(Down, 5.0) == Down(ref, pids[0], "normal")
        assert pids[0] not in process.list()

    def test_frees_its_name(self, me):
        """With its end."""
        in_thread(lambda: process.register(process.self(), "a thread"))

        assert process.whereis("a thread") is None

    def test_calls_itself(self, me):
        """Says so instead of waiting for ever."""
        with pytest.raises(CallingSelf):
            in_thread(lambda: GenServer.call(process.self(), "hello", None))

    def test_what_it_started_outlives_it(self, me):
        """Linked to the program, not to the thread."""
        pid = in_thread(lambda: Agent.start_link(int))

        assert Agent.get(pid, str) == "0"

    def test_of_a_server(self, me):
        """A server's own threads are processes too."""

        def start_thread(state):
            return in_thread(process.self), process.self()

        with Agent.start_link(int) as agent:
            thread_pid, server_pid = Agent.get(agent, start_thread)

        assert server_pid == agent != thread_pid

    def test_monitors_its_own(self, me):
        """A Down comes to the thread that asked for it."""
        pid = process.spawn(plain.linger)

        def watch():
            ref = process.monitor(pid)
            process.exit(pid, "custom")
            return process.receive(Down, 5.0).reason, ref

        reason, _ref = in_thread(watch)

        assert (reason, process.flush()) == ("custom", [])
