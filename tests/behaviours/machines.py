"""State machines that the tests start. Importable and light: every process pays for this file's imports."""

import asyncio
import time

from otp_runtime import ExitWith, GenStateMachine, process, statem
from otp_runtime.host import box as boxes
from otp_runtime.host.box import Box
from otp_runtime.process.current import current


class Scripted(GenStateMachine):
    """Each event's content is what to do, a function of event, state and data; a call of anything else is answered."""

    def init(self, arg):
        return arg() if callable(arg) else statem.Ok("s1", arg)

    def handle_event(self, event, content, state, data):
        if callable(content):
            return content(event, state, data)
        if isinstance(event, statem.Call):
            return statem.KeepStateAndData(statem.Reply(event.client, (state, data)))
        return statem.KeepStateAndData()


class Teller(Scripted):
    """As Scripted; its data is who is told of every other event, and of `terminate`."""

    def handle_event(self, event, content, state, data):
        if isinstance(event, statem.Call) or callable(content):
            return super().handle_event(event, content, state, data)
        process.send(data, (event, content, state))
        return statem.KeepStateAndData()

    def terminate(self, reason, state, data):
        process.send(data, ("terminate", reason, state))


class TerminatesBadly(Scripted):
    def terminate(self, reason, state, data):
        raise ValueError("bad end")


class Trapping(Teller):
    trap_exit = True


class Entered(Teller):
    state_enter = True


class BadEntry(GenStateMachine):
    """Starts well, and dies of its first enter call."""

    state_enter = True

    def init(self, arg):
        return statem.Ok("s1")

    def handle_event(self, event, content, state, data):
        raise ValueError("no way in")


class Light(GenStateMachine):
    """States are functions. A call waits until it is green."""

    callback_mode = "state_functions"

    def init(self, arg):
        return statem.Ok(arg or "red")

    def red(self, event, content, data):
        match event, content:
            case statem.Call(), "go":
                return statem.KeepStateAndData(statem.Postpone())
            case "cast", state:
                return statem.NextState(state, data)

    def green(self, event, content, data):
        match event, content:
            case statem.Call(client), "go":
                return statem.KeepStateAndData(statem.Reply(client, "gone"))


class Bare(GenStateMachine):
    """Nothing but what it inherits."""


class BareEvents(Bare):
    def init(self, arg):
        return statem.Ok("s1")


class Upgraded(Scripted):
    """Has a `code_change` that does what it is told."""

    def code_change(self, old_vsn, state, data, extra):
        return extra(old_vsn, state, data)


class Redacting(Scripted):
    def format_status(self, status):
        shown = [status["queue"], status["postponed"], status["timeouts"]]
        return {**status, "state": "<state>", "data": ["<data>", *shown]}


class Async(GenStateMachine):
    """`async def` callbacks, the enter call and `terminate` too."""

    callback_mode = "state_functions"
    state_enter = True

    async def init(self, arg):
        await asyncio.sleep(0)
        return statem.Ok("shut", arg)

    async def shut(self, event, content, data):
        await asyncio.sleep(0)
        match event, content:
            case "enter", _:
                return statem.KeepStateAndData()
            case statem.Call(), _:
                return statem.KeepStateAndData(statem.Postpone())
            case "cast", "open":
                return statem.NextState("open", data, statem.StateTimeout(0, "opened"))
            case "cast", ("after", seconds):
                return statem.KeepStateAndData([statem.Timeout("late", 60), statem.StateTimeout(seconds, "waited")])
            case "state_timeout", _:
                process.send(data, content)
                return statem.KeepStateAndData()
            case _:
                raise ExitWith(content)

    async def open(self, event, content, data):
        await asyncio.sleep(0)
        match event:
            case "enter":
                process.send(data, ("entered from", content))
            case "state_timeout":
                process.send(data, content)
            case statem.Call(client):
                return statem.KeepStateAndData(statem.Reply(client, content))
        return statem.KeepStateAndData()

    async def terminate(self, reason, state, data):
        await asyncio.sleep(0)
        process.send(data, ("terminate", reason, state))

    async def code_change(self, old_vsn, state, data, extra):
        return statem.Ok(extra, data)


def timers_held(event, state, data):
    """How many timers this process's poller keeps."""
    return statem.KeepStateAndData(statem.Reply(event.client, len(current().poller._timers)))


def boom(*_args):
    raise ValueError("boom")


def wait_hibernating(pid):
    """Wait until a server sleeps without what it can do without."""
    box = Box.open(current().directory.box(pid.id))
    deadline = time.monotonic() + 5.0
    while not box.flag(boxes.HIBERNATING) and time.monotonic() < deadline:
        pass
    flag = bool(box.flag(boxes.HIBERNATING))
    box.close()
    return flag
