"""Family E: agents."""

import functools
import time

from otp_runtime import Agent, CallError, ExitWith, process, system
from tests.conformance.player import QUIET_SECONDS, Player, Tagged, seconds, to_term


def apply(fn, *state):
    """Do what `fn` says to the state, in the agent; without a state, make the first one."""
    value = state[0] if state else None
    match fn:
        case ("const", new):
            return new
        case ("id",):
            return value
        case ("add", number):
            return value + number
        case ("pop", number):
            return value, value - number
        case ("pair", reply, new):
            return reply, new
        case ("raise", tag):
            raise Tagged(tag)
        case ("exit", reason):
            raise ExitWith(reason)
        case ("sleep", milliseconds):
            time.sleep(seconds(milliseconds))
            return value
        case ("sleep_add", milliseconds, number):
            time.sleep(seconds(milliseconds))
            return value + number


def function(fn):
    return functools.partial(apply, to_term(fn))


class AgentPlayer(Player):
    def setup(self, setup):
        pass

    def op_start(self, agent, fn, link=False, name=None):
        start = Agent.start_link if link else Agent.start
        started = []

        def call():
            started.append(start(function(fn), name=name))

        result = self.outcome(call)
        if result[0] != "ok":
            return result
        self.recorder.know(agent, self.recorder.counts[agent], started[0])
        return ["ok"]

    def ask(self, function_of_agent, agent, fn, timeout=5000):
        return self.outcome(function_of_agent, self.target(agent), function(fn), seconds(timeout))

    def target(self, agent):
        return self.recorder.latest.get(agent, agent)

    def op_get(self, agent, fn, timeout=5000):
        return self.ask(Agent.get, agent, fn, timeout)

    def op_update(self, agent, fn, timeout=5000):
        result = self.ask(Agent.update, agent, fn, timeout)
        return ["ok", "ok"] if result == ["ok", None] else result

    def op_get_and_update(self, agent, fn, timeout=5000):
        return self.ask(Agent.get_and_update, agent, fn, timeout)

    def op_cast(self, agent, fn):
        return self.bare(Agent.cast, self.target(agent), function(fn))

    def op_stop(self, agent, fn=(), reason="normal"):
        return self.bare(Agent.stop, self.target(agent), to_term(reason))

    def op_kill(self, agent, fn=()):
        process.exit(self.pid(agent), "kill")
        self.pid(agent).wait(QUIET_SECONDS)
        return "ok"

    def snapshot(self):
        agents = {}
        for name, pid in self.recorder.latest.items():
            if process.alive(pid):
                try:
                    agents[name] = ["alive", self.json(system.get_state(pid, QUIET_SECONDS))]
                except CallError:
                    return None
            else:
                agents[name] = ["dead", self.reason_of(pid)]
        return {"agents": agents}

    def once(self):
        return {"mail": self.take_mail()}
