"""Family H: a state machine that does what a table says."""

import time

from otp_runtime import CallError, ExitWith, GenStateMachine, Ignore, Stop, process, statem, system
from tests.conformance.player import QUIET_SECONDS, Player, Tagged, pause, sayable, seconds, to_term
from tests.conformance.recorder import Line

NAME = "sm"


class Machine(GenStateMachine):
    """Looks its answers up in a table: a state, then "kind:content"."""

    def init(self, arg):
        path, setup = arg
        self.line, self.table = Line(path), setup["table"]
        self.saved = None
        self.line.born(NAME, self.line.start_count(NAME))
        self.line.log("init")
        init = setup["init"]
        if "ret" in init:
            return initial(init["ret"])
        return statem.Ok(init["state"], init["data"], self.actions(init.get("actions", ()), None))

    def handle_event(self, event, content, state, data):
        client = event.client if isinstance(event, statem.Call) else None
        match event:
            case statem.Call():
                kind = "call"
            case ("timeout", name):
                kind, content = "generic", (name, content)
            case _:
                kind = event
        self.line.log(kind, *sayable(content, state, data))
        result = self.find(kind, content, state)
        if result is None:
            return statem.KeepStateAndData()
        if result.get("save"):
            self.saved = client
        return self.result(result, data, client)

    def find(self, kind, content, state):
        keys = [kind] if kind == "enter" else []
        keys.append(":".join(map(str, (kind, *content) if kind == "generic" else (kind, content))))
        for table in (self.table.get(state, {}), self.table.get("*", {})):
            for key in keys:
                if key in table:
                    return table[key]
        return None

    def result(self, result, data, client):
        actions = self.actions(result.get("actions", ()), client)
        data = data + result["add"] if "add" in result else data
        reason = result.get("reason", "normal")
        match result["r"]:
            case "next_state":
                return statem.NextState(result["state"], data, actions)
            case "keep_state":
                return statem.KeepState(data, actions)
            case "keep_state_and_data":
                return statem.KeepStateAndData(actions)
            case "repeat_state":
                return statem.RepeatState(data, actions)
            case "repeat_state_and_data":
                return statem.RepeatStateAndData(actions)
            case "stop":
                return statem.Stop(reason, data)
            case "stop_and_reply":
                replies = self.actions(result.get("replies", result.get("actions", ())), client)
                return statem.StopAndReply(reason, replies, data)
            case "raise":
                raise Tagged(result.get("tag", reason))
            case "exit":
                raise ExitWith(reason)
            case "bad":
                return result.get("value", result.get("v", "bad"))

    def actions(self, actions, client):
        return [self.action(action, client) for action in actions]

    def action(self, action, client):
        match action:
            case "postpone":
                return statem.Postpone()
            case "hibernate":
                return statem.Hibernate()
            case ("next_event", kind, content):
                return statem.NextEvent(kind, content)
            case ("reply", value):
                return statem.Reply(client, value)
            case ("reply_saved", value):
                return statem.Reply(self.saved, value)
            case ("state_timeout", milliseconds, content):
                return statem.StateTimeout(seconds(milliseconds), content)
            case ("event_timeout", milliseconds, content):
                return statem.EventTimeout(seconds(milliseconds), content)
            case ("timeout", name, milliseconds, content):
                return statem.Timeout(name, seconds(milliseconds), content)
            case ("cancel", "timeout", name):
                return statem.Cancel(("timeout", name))
            case ("cancel", which):
                return statem.Cancel(which)
            case ("update", "timeout", name, content):
                return statem.Update(("timeout", name), content)
            case ("update", which, content):
                return statem.Update(which, content)
            case _:
                return action

    def terminate(self, reason, state, data):
        self.line.log("terminate", *sayable(reason, state, data))


class EnteredMachine(Machine):
    """As `Machine`, with enter calls."""

    state_enter = True


def initial(ret):
    match ret:
        case ("ignore",):
            return Ignore()
        case ("stop", reason):
            return Stop(reason)
        case ("raise", tag):
            raise Tagged(tag)
        case ("exit", reason):
            raise ExitWith(reason)
        case ("bad", value):
            return value


def client_of(path, name, pid, request):
    """A client process: makes one call, and tells what came of it."""
    line = Line(path)
    line.born(name, 1)
    try:
        result = ["ok", sayable(GenStateMachine.call(pid, request))[0]]
    except CallError as error:
        result = ["exit", sayable(error.reason)[0]]
    line.tell(f"result of {name}", result)


class GenStatemPlayer(Player):
    def setup(self, setup):
        cls = EnteredMachine if setup.get("state_enter") else Machine
        result = self.outcome(cls.start, (self.recorder.path, to_term(setup)))
        if result[0] == "ok":
            return "ignore" if result[1] is None else ["ok"]
        return result

    def op_cast(self, c):
        return self.bare(GenStateMachine.cast, self.pid(NAME), to_term(c))

    def op_info(self, c):
        return self.bare(process.send, self.pid(NAME), to_term(c))

    def op_call(self, c, timeout=5000):
        return self.outcome(GenStateMachine.call, self.pid(NAME), to_term(c), seconds(timeout))

    def op_call_async(self, client, c):
        seen = len(self.recorder.events)
        process.spawn(client_of, self.recorder.path, client, self.pid(NAME), to_term(c))

        def has_come():
            return any(event[:2] == ["call", c] for _, event in self.recorder.events[seen:])

        deadline = time.monotonic() + QUIET_SECONDS
        while not has_come():
            assert time.monotonic() < deadline, "the request did not come"
            pause()
        return "ok"

    def op_await(self, client):
        key = f"result of {client}"
        assert self.recorder.wait(lambda: self.recorder.told(key) is not None), f"{client} has no answer"
        return self.json(self.recorder.told(key))

    def op_burst(self, msgs):
        """Have all messages in the mailbox before the first is handled."""
        system.suspend(self.pid(NAME))
        for message in msgs:
            fields = {key: value for key, value in message.items() if key != "op"}
            getattr(self, f"op_{message['op']}")(**fields)
        system.resume(self.pid(NAME))
        return "ok"

    def op_stop(self, reason="normal"):
        return self.bare(GenStateMachine.stop, self.pid(NAME), to_term(reason))

    def op_sleep(self, ms):
        pause(seconds(ms))
        return "ok"

    def snapshot(self):
        pid = self.pid(NAME)
        if not process.alive(pid):
            return {"sm": ["dead", self.reason_of(pid)]}
        try:
            state, data = system.get_state(pid, QUIET_SECONDS)
        except CallError:
            return None
        return {"sm": ["alive", self.json(state), self.json(data)]}
