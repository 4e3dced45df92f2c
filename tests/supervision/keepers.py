"""Servers that keep their state and do what they are told. Importable and light."""

import threading
from dataclasses import dataclass

from otp_runtime import GenServer, GenStateMachine, NoReply, Ok, Reply, Stop, Supervisor, process, statem


class Keeper(GenServer):
    """Its state is data; a call or a cast is a function of it."""

    restore = "last_good"

    def init(self, state):
        self.opened = "opened"
        return state

    def handle_call(self, request, client, state):
        return request(self, client, state) if callable(request) else Reply(state, state)

    def handle_cast(self, request, state):
        return request(self, state)


class AsyncKeeper(GenServer):
    """As Keeper, with callbacks that await."""

    restore = "last_good"

    async def init(self, state):
        return state

    async def handle_call(self, request, client, state):
        return request(self, client, state) if callable(request) else Reply(state, state)

    async def handle_cast(self, request, state):
        return request(self, state)

    async def restored(self, state):
        return [*state, "restored"] if isinstance(state, list) else state


class Opener(Keeper):
    """Says what it is given when it is restored, and goes on with a continue."""

    def init(self, tester):
        self.opened = "a file"
        return Ok((tester, "fresh"), continue_="go")

    def restored(self, state):
        process.send(state[0], ("restored", state, self.opened))
        return (state[0], "restored")

    def handle_continue(self, term, state):
        process.send(state[0], ("continue", state[1]))
        return NoReply(state)


class Poisoned(Keeper):
    """Dies of the state "poison", as soon as it has it."""

    def restored(self, state):
        if state == "poison":
            raise ValueError("poison")
        return state


class Old(Keeper):
    """Version 1 of a class: its state is a number."""

    vsn = 1


class New(Keeper):
    """Version 2: its state is a dict."""

    vsn = 2

    def code_change(self, old_vsn, state, extra):
        return {"value": state, "from": old_vsn, "extra": extra}


class Refusing(Keeper):
    """Version 3: takes no state of an older one."""

    vsn = 3

    def code_change(self, old_vsn, state, extra):
        return Stop("too old")


class Secret(Keeper):
    """Shows its state to nobody."""

    def format_status(self, status):
        return {**status, "state": "<redacted>"}


class Door(GenStateMachine):
    """Counts how often it was opened, and tells who asks."""

    state_enter = True
    options = {"restore": "last_good"}  # noqa: RUF012 - never changed

    def init(self, tester):
        return statem.Ok("closed", {"tester": tester, "opened": 0})

    def handle_event(self, event, content, state, data):
        match event, content:
            case "enter", _:
                process.send(data["tester"], ("enter", state))
                return statem.KeepStateAndData()
            case statem.Call(client), "open":
                opened = data["opened"] + 1
                return statem.NextState("open", {**data, "opened": opened}, statem.Reply(client, opened))
            case statem.Call(client), "look":
                return statem.KeepStateAndData(statem.Reply(client, (state, data["opened"])))
            case statem.Call(client), "reply and die":
                return statem.KeepState(threading.Lock(), statem.Reply(client, "told"))
            case statem.Call(), "return nonsense":
                data["opened"] = "nonsense"
                return "nonsense"
            case statem.Call(), "do nonsense":
                return statem.KeepState({**data, "opened": "nonsense"}, ["nonsense"])


@dataclass(frozen=True)
class Frozen:
    """A state that can never change."""

    number: int


# -- what servers are told ----------------------------------------------------------------------------------


def put(state):
    """Make `state` the state; the reply is "ok"."""
    return lambda server, client, old: Reply("ok", state)


def add(number):
    """Add to a list in place."""

    def run(server, client, state):
        state.append(number)
        return Reply(len(state), state)

    return run


class Disks(Supervisor):
    """Says only in the process of its `init` that its child keeps its state on disk."""

    def init(self, arg):
        return Supervisor.spec([Keeper.child_spec(0, name="k", durable=True)], strategy="one_for_one")
