"""Agent: a state, and functions that its callers send."""

import os

import pytest

from otp_runtime import Agent, AlreadyStarted, CallTimeout, GenServer, InitFailed, NoProcess, ServerDown, process
from otp_runtime.testing import gate
from tests.behaviours import servers


class TestStart:
    def test_the_functions_value_is_the_state(self, me):
        """It runs in the agent."""
        pid = Agent.start_link(os.getpid)

        assert Agent.get(pid, int) == pid.os_pid

    @pytest.mark.parametrize("start", [Agent.start, Agent.start_link])
    def test_raises(self, me, start):
        """InitFailed, the name is free."""
        with pytest.raises(InitFailed, match="ValueError: boom"):
            start(servers.boom, name="failing")

        assert process.whereis("failing") is None

    def test_name_taken(self, me):
        """Says by whom."""
        pid = Agent.start_link(int, name="taken")
        with pytest.raises(AlreadyStarted) as error:
            Agent.start_link(int, name="taken")

        assert error.value.pid == pid

    def test_a_closure(self, me):
        """With what it closes over, a mutable thing as a copy."""
        items = [1, 2]
        pid = Agent.start_link(lambda: items)
        Agent.update(pid, lambda state: [*state, 3])

        assert (Agent.get(pid, list), items) == ([1, 2, 3], [1, 2])


class TestUse:
    @pytest.fixture
    def agent(self, me):
        return Agent.start_link(lambda: 0)

    def test_get(self, agent):
        """Computed in the agent; the state stays."""
        assert Agent.get(agent, lambda state: (state, os.getpid())) == (0, agent.os_pid)

    def test_update(self, agent):
        """Returns when it is done."""
        assert Agent.update(agent, lambda state: state + 1) is None
        assert Agent.get(agent, int) == 1

    def test_get_and_update(self, agent):
        """A pair: the reply and the state."""
        assert Agent.get_and_update(agent, lambda state: ("old", 5)) == "old"
        assert Agent.get(agent, int) == 5

    @pytest.mark.parametrize("value", [None, 5, (1,), (1, 2, 3), [1, 2]])
    def test_no_pair(self, me, value):
        """Ends it."""
        pid = Agent.start(int)
        with pytest.raises(ServerDown) as error:
            Agent.get_and_update(pid, lambda state: value)

        assert error.value.reason == ("bad_return_value", value)

    def test_cast(self, agent):
        """Returns at once; in order."""
        for number in range(10):
            assert Agent.cast(agent, lambda state, number=number: state * 2 + number) is None

        assert Agent.get(agent, int) == 1013

    def test_cast_to_nobody(self, me):
        """Silent."""
        assert Agent.cast("nobody", int) is None

    @pytest.mark.parametrize("function", [Agent.get, Agent.update, Agent.get_and_update])
    def test_raises(self, me, function):
        """Ends the agent; the caller is told."""
        pid = Agent.start(int)
        with pytest.raises(ServerDown, match="ValueError: boom"):
            function(pid, servers.boom)

        assert pid.wait(5.0).type == "ValueError"

    @pytest.mark.parametrize("function", [Agent.get, Agent.update, Agent.get_and_update])
    def test_times_out(self, agent, function):
        """The agent goes on."""
        with gate() as hold:
            with pytest.raises(CallTimeout):
                function(agent, lambda state: (hold.wait(), 1), 0.01)
            hold.open()

            assert process.alive(agent)

    def test_nobody(self, me):
        """Says so."""
        with pytest.raises(NoProcess):
            Agent.get("nobody", int)

    def test_a_message_that_is_none_of_its(self, agent):
        """Dropped."""
        process.send(agent, "hello")

        assert Agent.get(agent, int) == 0

    def test_a_call_that_is_none_of_its(self, me):
        """A crash that says so."""
        with pytest.raises(ServerDown, match="was called with 'hello'"):
            GenServer.call(Agent.start(int), "hello")

    def test_stop(self, me):
        """Waits for it."""
        pid = Agent.start_link(int, name="stopped")
        Agent.stop(pid)

        assert process.whereis("stopped") is None
        assert Agent.stop(pid, missing_ok=True) is None

    def test_stop_with_a_reason(self, me):
        """Any."""
        pid = Agent.start(int)
        Agent.stop(pid, "custom")

        assert pid.wait(5.0) == "custom"


class TestChildSpec:
    def test_defaults(self):
        """The id is its name, else its kind."""
        assert (Agent.child_spec().id, Agent.child_spec(int, name="a").id) == ("Agent", "a")
        assert Agent.child_spec(int, restart="transient").restart == "transient"

    def test_is_brought_back_with_a_fresh_state(self, me, start_supervised):
        """The function runs again."""
        start_supervised(Agent.child_spec(lambda: 1, name="counter"))
        Agent.update("counter", lambda state: state + 1)
        with pytest.raises(ServerDown):
            Agent.get("counter", servers.boom)

        assert Agent.get("counter", int) == 1
