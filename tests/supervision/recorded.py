"""Servers that are recorded. Importable and light."""

import threading
from typing import ClassVar

from otp_runtime import GenServer, GenStateMachine, NoReply, Ok, Reply, process, statem


class Recorded(GenServer):
    """Its state is a list of what it took; some words do more."""

    options: ClassVar = {"record": True}

    def init(self, arg):
        return [] if arg is None else [arg]

    def take(self, message, state):
        match message:
            case "boom":
                raise ValueError("boom")
            case "quiet":
                return NoReply(state)
            case ("soon", _tester):
                return NoReply([*state, message], timeout=0.001)
            case "go on":
                return NoReply([*state, message], continue_=("going", on))
            case "lock":
                return NoReply([threading.Lock()])
            case "commit":
                self.commit([*state, "in the middle"])
        return NoReply([*state, message])

    def handle_cast(self, message, state):
        return self.take(message, state)

    def handle_info(self, message, state):
        if message == "timeout":
            process.send(state[-1][1], "timed out")
        return self.take(message, state)

    def handle_continue(self, term, state):
        return NoReply([*state, term[0]])

    def handle_call(self, request, client, state):
        if request == "boom":
            raise ValueError("boom")
        return Reply(len(state), [*state, request])


def on():
    """A term that travels by name."""


class AsyncRecorded(Recorded):
    """The same, awaiting."""

    async def handle_cast(self, message, state):
        return self.take(message, state)


class Versioned(Recorded):
    """For upgrades."""

    vsn = 2


class Machine(GenStateMachine):
    """Queues an event of its own, and postpones."""

    options: ClassVar = {"record": True}

    def init(self, arg):
        return statem.Ok("idle", 0)

    def handle_event(self, event, content, state, data):
        match event, content:
            case "cast", "work":
                return statem.NextState("busy", data + 1, [statem.NextEvent("internal", "worked")])
            case "cast", "later":
                return statem.KeepStateAndData([statem.Postpone()])
            case "internal", "worked":
                return statem.KeepState(data + 10)
            case statem.Call(client), _:
                return statem.KeepStateAndData([statem.Reply(client, data)])
        raise ValueError(content)


class Starter(Recorded):
    """Asks for a continue and a time-out at once."""

    def init(self, arg):
        return Ok([], continue_=("first", None))
