"""The process of a state machine: a GenServer whose state is a `Machine` and whose callbacks are the user's.

    call, cast, info, time-out ──► core.statem.step ──► the user's callback ──► step ──► replies, timer, next event

It does what `core.statem` says, one callback of the user's for each turn of the server loop: what is queued inside the
machine is handled by `handle_continue`, which comes before any message. So the loop's state is always the whole truth,
and what a GenServer has (suspend, get_state, reports, deaths) holds for a state machine without a word more.

One timer of the process's stands for all time-outs, at the time that is due first. A time-out that is cancelled or set
again leaves it alone: when it comes too early, it finds nothing due and is set anew. So a machine that sets a time-out
with every event costs nothing at the timers.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import returns
from otp_runtime.behaviours.gen import send_own_reply
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.gen_statem import NO_STATES
from otp_runtime.behaviours.server_loop import _shown
from otp_runtime.core import messages as wire
from otp_runtime.core import statem_values as values
from otp_runtime.core.missing import MISSING
from otp_runtime.core.statem import (
    Arrived,
    Begun,
    End,
    Entering,
    Event,
    Happening,
    Machine,
    Returned,
    Run,
    Starting,
    Woke,
    next_due,
    next_run,
    step,
)
from otp_runtime.errors import CodecError
from otp_runtime.host import poller
from otp_runtime.process.current import current

if TYPE_CHECKING:
    from otp_runtime.behaviours.gen import Client

_ALLOWED = {
    "bad_return_from_init": "statem.Ok(state, data, actions), Ignore() or Stop(reason)",
    "bad_return_from_state_function": (
        "NextState(state, data, actions), KeepState(data, actions), KeepStateAndData(actions), RepeatState, "
        "RepeatStateAndData, Stop(reason, data) or StopAndReply(reason, replies, data), of otp_runtime.statem; "
        "with callback_mode = 'state_functions' a state is a str"
    ),
    "bad_state_enter_return_from_state_function": "what keeps the state: an enter call may not leave it again",
    "bad_action_from_state_function": (
        "Reply(client, value), Postpone(), NextEvent(event, content), StateTimeout(seconds, content), EventTimeout, "
        "Timeout(name, seconds, content), Cancel(which), Update(which, content), Hibernate(), of otp_runtime.statem; "
        "seconds are a number >= 0 or None"
    ),
    "bad_state_enter_action_from_state_function": "any action but Postpone() and NextEvent: an enter call is no event",
    "bad_reply_action_from_state_function": "Reply(client, value), one or a list",
}


def serve_with(cls: type) -> StatemServer:
    """Make the server that runs a machine of the user's class `cls`."""
    user = cls()
    server = AsyncStatemServer() if _has_coroutines(cls) else StatemServer()
    server.take_in(user)
    return server


def _has_coroutines(cls: type) -> bool:
    # a state may have any name, so that any method may be a callback
    return any(inspect.iscoroutinefunction(inspect.getattr_static(cls, name, None)) for name in _own_names(cls))


def _own_names(cls: type) -> set[str]:
    return {name for one in cls.__mro__ if not one.__module__.startswith("otp_runtime.") for name in vars(one)}


class StatemServer(GenServer[Machine]):
    """One state machine: the user's object, and the timer."""

    user: Any
    _armed: tuple[int, float] | None = None
    said: list[values.Reply] | None = None
    """The replies that a debugger has not seen yet; None while nobody debugs."""
    is_at_fault: bool = False
    """Whether it ends because of what the user's code returned: that callback left no state worth keeping."""
    _begun: Machine

    def take_in(self, user: Any) -> None:
        """Run the callbacks of `user`."""
        self.user = user
        self.trap_exit = bool(user.trap_exit)  # type: ignore[misc]  # the loop asks the object it runs
        if hasattr(user, "terminate"):
            self.terminate = self._terminate_async if inspect.iscoroutinefunction(user.terminate) else self._terminate

    # -- the loop's callbacks -------------------------------------------------------------------------------

    def init(self, arg: Any, /) -> Any:
        """Start; the starter goes on before the first enter call, as in OTP."""
        return self._first(self.user.init(arg))

    def handle_call(self, request: Any, client: Client[Any], machine: Machine, /) -> Any:
        """Take an event."""
        return self._arrive(machine, values.Call(client), request)

    def handle_cast(self, request: Any, machine: Machine, /) -> Any:
        """Take an event."""
        return self._arrive(machine, "cast", request)

    def handle_info(self, message: Any, machine: Machine, /) -> Any:
        """Take an event; or see which time-out is due."""
        if type(message) is Woke:
            self._armed = None
            return self._let(machine, message)
        return self._arrive(machine, "info", message)

    def handle_continue(self, term: Any, machine: Machine, /) -> Any:
        """Begin, or handle what is queued inside the machine."""
        return self._let(machine, Begun()) if isinstance(machine.phase, Starting) else self._turn(machine)

    def _terminate(self, reason: Any, machine: Machine) -> None:
        self.user.terminate(reason, machine.state, machine.data)

    async def _terminate_async(self, reason: Any, machine: Machine) -> None:
        await self.user.terminate(reason, machine.state, machine.data)

    # -- what outlives it -----------------------------------------------------------------------------------

    def kept_form(self, machine: Machine) -> dict[str, Any]:
        """Give what is kept of a machine: its state and its data. Its events and time-outs go with the process."""
        # a reply of the transition may leave before the enter call of its state has returned
        there = machine.phase if isinstance(machine.phase, Entering) else machine
        return {"state": there.state, "data": there.data}

    def from_kept(self, kept: dict[str, Any]) -> Machine:
        """Make the machine that `init` gave one in the kept state: it enters that, and does what `init` said."""
        return replace(self._begun, **kept)

    # -- turns ----------------------------------------------------------------------------------------------

    def _first(self, result: Any) -> Any:
        match result:
            case values.Ok(state, data, actions) if isinstance(state, str) or not self._has_named_states:
                self._begun = self._configured(Machine(state, data, phase=Starting(actions)))
                return returns.Ok(self._begun, continue_=("init", state))
            case returns.Ignore() | returns.Stop():
                return result
            case values.Stop(reason):
                return returns.Stop(reason)
            case _:
                self._warn("bad_return_from_init", result)
                return returns.Stop(("bad_return_from_init", result))

    @property
    def _has_named_states(self) -> bool:
        return bool(self.user.callback_mode == "state_functions")

    def _configured(self, machine: Machine) -> Machine:
        """Let the settings of the class hold, which newer code may have changed."""
        return replace(machine, state_enter=bool(self.user.state_enter), named_states=self._has_named_states)

    def _arrive(self, machine: Machine, type_: Any, content: Any) -> Any:
        machine, _ = step(machine, Arrived(Event(type_, content)), poller.now())
        return self._turn(machine)

    def _turn(self, machine: Machine) -> Any:
        """Run the callback that the machine waits for, and do what comes of it."""
        run = next_run(machine)
        return self._let(machine, Returned(self._call_user(run))) if run is not None else self._rest(machine)

    def _call_user(self, run: Run) -> Any:
        if self._has_named_states:
            return self._state_function(run.state)(run.type, run.content, run.data)
        return self.user.handle_event(run.type, run.content, run.state, run.data)

    def _state_function(self, state: str) -> Any:
        function = getattr(self.user, state, None)
        if function is None or state in NO_STATES:
            cls = type(self.user).__qualname__
            why = "is not defined" if function is None else "is a name of the library's and cannot be a state"
            msg = f"the machine {cls} is in the state {state!r}, whose method {cls}.{state}(event, content, data) {why}"
            raise NotImplementedError(msg)
        return function

    def _let(self, machine: Machine, happening: Happening) -> Any:
        """Let something happen, and perform what `core.statem` says."""
        if type(happening) is Returned and type(happening.result) is returns.Stop:
            # the Stop of a GenServer says the same
            happening = Returned(values.Stop(happening.result.reason, happening.result.state))
        machine, actions = step(machine, happening, poller.now())
        for action in actions:
            match action:
                case values.Reply():
                    _reply(action)
                    if self.said is not None:
                        self.said.append(action)
                case Run(type_, content):
                    return returns.NoReply(machine, continue_=(type_, content))
                case End(reason, at_fault):
                    if at_fault is not MISSING:
                        self.is_at_fault = True
                        self._warn(reason[0], at_fault)
                    return returns.Stop(reason, machine)
        return self._rest(machine)

    def _rest(self, machine: Machine) -> Any:
        self._arm(machine)
        return returns.NoReply(machine, hibernate=machine.hibernate)

    def _arm(self, machine: Machine) -> None:
        """See to it that this process wakes when the machine's next time-out is due."""
        due = next_due(machine)
        if due is None or (self._armed is not None and self._armed[1] <= due):
            return
        context = current()
        if self._armed is not None and (timer := context.timers.pop((context.id, self._armed[0]), None)) is not None:
            timer.cancel()
        self._armed = (context.next_serial(), due)
        context.arm_timer(context.id, self._armed[0], due, Woke())

    def _warn(self, word: str, value: Any) -> None:
        context = current()
        what = "returned" if "return" in word else "asked for the action"
        who = f"{context.box.name or context.box.label} {context.pid!r}"
        context.node.warn(f"{who} {what} {_shown(value)[:500]}; allowed: {_ALLOWED[word]}")

    # -- what is seen from outside --------------------------------------------------------------------------

    def system_get_state(self, machine: Machine) -> tuple[Any, Any]:
        """Give state and data (OTP: gen_statem:system_get_state/1)."""
        return machine.state, machine.data

    def system_replace_state(self, function: Any, machine: Machine) -> Machine:
        """Let `function((state, data))` give another pair; it is no change of state, so nothing is retried."""
        state, data = function((machine.state, machine.data))
        return replace(machine, state=state, data=data)

    def code_change(self, old_vsn: Any, machine: Machine, extra: Any, /) -> Any:
        """Let the user's code convert state and data."""
        return self._changed(machine, self.user.code_change(old_vsn, machine.state, machine.data, extra))

    def _changed(self, machine: Machine, result: Any) -> Any:
        match result:
            case values.Ok(state, data) | (state, data):
                return replace(self._configured(machine), state=state, data=data)
            case values.Stop(reason) | returns.Stop(reason):
                return returns.Stop(reason)
            case _:
                return returns.Stop(("bad_return_value", result))

    def format_status(self, status: dict[str, Any], /) -> dict[str, Any]:
        """Show the user's `format_status` the parts of the machine; what it gives for state and data is shown."""
        machine: Machine = status["state"]
        parts = {
            **status,
            "state": machine.state,
            "data": machine.data,
            "queue": [(event.type, event.content) for event in machine.queue],
            "postponed": [(event.type, event.content) for event in machine.postponed],
            "timeouts": [(timer.which, timer.content) for timer in machine.timers],
        }
        formatted = self.user.format_status(dict(parts))
        shown = formatted if isinstance(formatted, dict) else parts
        return {**shown, "state": (shown.get("state"), shown.get("data"))}


class AsyncStatemServer(StatemServer):
    """As `StatemServer`, for a class with `async def` callbacks."""

    async def init(self, arg: Any, /) -> Any:
        """Start."""
        return self._first(await _value(self.user.init(arg)))

    async def _turn_async(self, machine: Machine) -> Any:
        run = next_run(machine)
        if run is None:
            return self._rest(machine)
        return self._let(machine, Returned(await _value(self._call_user(run))))

    def _turn(self, machine: Machine) -> Any:
        return self._turn_async(machine)

    async def code_change(self, old_vsn: Any, machine: Machine, extra: Any, /) -> Any:
        """Let the user's code convert state and data."""
        return self._changed(machine, await _value(self.user.code_change(old_vsn, machine.state, machine.data, extra)))


async def _value(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _reply(reply: values.Reply) -> None:
    """Send a reply; one that cannot travel is an error of the caller's call and not the end of the machine."""
    context, client = current(), reply.client
    try:
        send_own_reply(context, client, wire.VALUE, reply.value)
    except CodecError:
        try:
            context.codec.encode(reply.value, "reply")
        except CodecError as error:
            context.node.warn(
                f"{context.box.name or context.box.label} {context.pid!r}: a reply cannot be sent: {error}"
            )
            send_own_reply(context, client, wire.RAISE, error)
