"""The process of an event manager: a GenServer whose state is the list of its handlers.

    notify ──► each handler in turn, the newest first ──► state, or out of the list
    call   ──► one handler ──► reply

A handler's fault is caught, said to whoever supervises the handler, reported, and ends that handler only. Of an entry
what is data lies in the list (`core.event_handlers`), the handler's object beside it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from otp_runtime.behaviours.gen_event import EventHandler, RemoveHandler, SwapHandler
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import MISSING, Ignore, NoReply, Ok, RaiseInCaller, Reply, Stop
from otp_runtime.behaviours.server_loop import _shown
from otp_runtime.core import event_handlers as handlers
from otp_runtime.core import messages as wire
from otp_runtime.core.event_handlers import Entries, Entry
from otp_runtime.errors import CodecError, HandlerFailed, NoHandler, OtpError
from otp_runtime.process import boot as booting
from otp_runtime.process import primitives as process
from otp_runtime.process.context import ExitSignal
from otp_runtime.process.current import current
from otp_runtime.terms.events import Exit
from otp_runtime.terms.reason import crash_of, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.behaviours.gen import Client

_ALLOWED = {
    "init": "a state, Ok(state, hibernate=…) or Stop(reason)",
    "handle_event": "NoReply(state, hibernate=…), RemoveHandler() or SwapHandler(arg, state, handler, new_arg)",
    "handle_call": (
        "Reply(value, state, hibernate=…), Reply.error(exception, state), RemoveHandler(reply) or "
        "SwapHandler(arg, state, handler, new_arg, reply)"
    ),
}
_ALLOWED["handle_info"] = _ALLOWED["handle_event"]


@dataclass(frozen=True, slots=True)
class _Fault:
    """A callback raised, or returned what it may not."""

    reason: Any
    text: str


@dataclass(slots=True)
class _Turn:
    """What one handler's callback came to."""

    entries: Entries
    reply: Any = None
    hibernate: bool = False


class EventManager(GenServer[Entries]):
    """One event manager. It traps exits: those who supervise a handler are linked to it."""

    _label: ClassVar[str] = "GenEvent"
    _keeps_nothing: ClassVar[bool] = True
    _mail_is_lost: ClassVar[str] = (
        "the handlers of an event manager go with its process, and events without them are lost"
    )
    trap_exit: ClassVar[bool] = True

    def init(self, arg: Any, /) -> Any:
        """Begin without handlers."""
        self.objects: dict[int, EventHandler] = {}
        return Ok(())

    # -- messages -------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, client: Client[Any], entries: Entries, /) -> Any:
        """Do what the functions of `GenEvent` ask for."""
        match request:
            case ("sync_notify", event):
                entries, hibernate = self._notify("handle_event", event, entries)
                return Reply(None, entries, hibernate=hibernate)
            case ("call", name, question):
                return self._call(name, question, entries)
            case ("add_handler", name, arg, supervisor):
                return self._answer(name, *self._add(name, arg, supervisor, entries))
            case ("delete_handler", name, arg):
                return self._delete(name, arg, entries)
            case ("swap_handler", name, arg, new_name, new_arg, supervisor):
                return self._swap(name, arg, new_name, new_arg, supervisor, entries)
            case "which_handlers":
                return Reply([entry.name for entry in entries], entries)
            case _:
                error = OtpError(f"an event manager knows no request {request!r}: use the functions of GenEvent")
                return Reply.error(error, entries)

    def handle_cast(self, request: Any, entries: Entries, /) -> Any:
        """Notify; what is no notification is a message like any other."""
        match request:
            case ("notify", event):
                return self._go_on(*self._notify("handle_event", event, entries))
            case _:
                return self._go_on(*self._notify("handle_info", ("$gen_cast", request), entries))

    def handle_info(self, message: Any, entries: Entries, /) -> Any:
        """Tell all handlers. The end of a supervising process removes its handlers first."""
        if type(message) is Exit:
            for entry in handlers.supervised_by(entries, message.pid):
                self._end(entry, ("stop", message.reason), "shutdown")
                entries = handlers.without(entries, entry)
        return self._go_on(*self._notify("handle_info", message, entries))

    def _go_on(self, entries: Entries, hibernate: bool) -> NoReply[Entries]:
        return NoReply(entries, hibernate=hibernate)

    def terminate(self, reason: Any, entries: Entries) -> None:
        """End every handler; those who supervise one are told, and not pulled along."""
        for entry in entries:
            self._end(entry, "stop", "shutdown")
            if entry.supervisor is not None and entry.supervisor.id != current().parent:
                process.unlink(entry.supervisor)

    # -- what is asked --------------------------------------------------------------------------------------

    def _notify(self, callback: str, event: Any, entries: Entries) -> tuple[Entries, bool]:
        hibernate = False
        for entry in entries:
            turn = self._turn(entry, callback, event, entries)
            entries, hibernate = turn.entries, hibernate or turn.hibernate
        return entries, hibernate

    def _call(self, name: handlers.Name, question: Any, entries: Entries) -> Any:
        entry = handlers.find(entries, name)
        if entry is None:
            return Reply.error(NoHandler(name), entries)
        turn = self._turn(entry, "handle_call", question, entries)
        if isinstance(turn.reply, _Fault):
            return Reply.error(HandlerFailed(name, turn.reply.reason), turn.entries)
        if isinstance(turn.reply, RaiseInCaller):
            return replace(turn.reply, state=turn.entries)
        return Reply(turn.reply, turn.entries, hibernate=turn.hibernate)

    def _delete(self, name: handlers.Name, arg: Any, entries: Entries) -> Any:
        entry = handlers.find(entries, name)
        if entry is None:
            return Reply.error(NoHandler(name), entries)
        value, entries = self._end(entry, arg, "normal"), handlers.without(entries, entry)
        if isinstance(value, _Fault):
            return Reply.error(HandlerFailed(name, value.reason), entries)
        return Reply(value, entries)

    def _swap(
        self, name: handlers.Name, arg: Any, new_name: handlers.Name, new_arg: Any, supervisor: Any, entries: Entries
    ) -> Any:
        entry, value = handlers.find(entries, name), "error"
        if entry is not None:
            supervisor = entry.supervisor if supervisor is None else supervisor
            value = self._end(entry, arg, ("swapped", new_name, supervisor))
            entries = handlers.without(entries, entry)
        return self._answer(new_name, *self._add(new_name, (new_arg, _plain(value)), supervisor, entries))

    @staticmethod
    def _answer(name: handlers.Name, added: Entry | _Fault, entries: Entries, hibernate: bool) -> Any:
        if isinstance(added, _Fault):
            return Reply.error(HandlerFailed(name, added.reason), entries)
        return Reply(None, entries, hibernate=hibernate)

    # -- one handler ----------------------------------------------------------------------------------------

    def _add(
        self, name: handlers.Name, arg: Any, supervisor: Any, entries: Entries
    ) -> tuple[Entry | _Fault, Entries, bool]:
        """Make a handler and put it first; or say why not."""
        cls, id_ = handlers.split(name)
        if supervisor is not None:
            process.link(supervisor)
        made = self._made(cls, arg)
        if isinstance(made, _Fault):
            return made, entries, False
        handler, state, hibernate = made
        entry = Entry(handlers.next_key(entries), cls, id_, state, supervisor)
        self.objects[entry.key] = handler
        return entry, handlers.added(entries, entry), hibernate

    def _made(self, cls: type[EventHandler], arg: Any) -> tuple[EventHandler, Any, bool] | _Fault:
        made = self._try(cls)
        if isinstance(made, _Fault):
            return made
        result = self._try(made.init, arg)
        hibernate = False
        match result:
            case _Fault():
                return result
            case Stop(reason):
                return _Fault(reason, "")
            case Ok(timeout=None, continue_=more) if more is MISSING:
                result, hibernate = result.state, result.hibernate
            case Ok() | Ignore() | NoReply() | Reply() | RaiseInCaller() | RemoveHandler() | SwapHandler():
                return _bad_return("init", result)
        return made, result, hibernate

    def _turn(self, entry: Entry, callback: str, event: Any, entries: Entries) -> _Turn:
        """Let one handler have an event or a question, and do what it says."""
        result = self._try(getattr(self._object(entry), callback), event, entry.state)
        is_call = callback == "handle_call"
        match result:
            case Reply() | RaiseInCaller() if is_call and _is_plain(result):
                reply = result if isinstance(result, RaiseInCaller) else result.value
                return _Turn(self._with(entries, entry, result.state), reply, result.hibernate)
            case NoReply() if not is_call and _is_plain(result):
                return _Turn(self._with(entries, entry, result.state), hibernate=result.hibernate)
            case RemoveHandler(reply):
                self._end(entry, "remove_handler", "normal")
                return _Turn(handlers.without(entries, entry), reply)
            case SwapHandler(arg, state, new_name, new_arg, reply) if _names_a_handler(new_name):
                return _Turn(self._swapped(replace(entry, state=state), arg, new_name, new_arg, entries), reply)
            case _Fault():
                fault = result
            case _:
                fault = _bad_return(callback, result)
        self._report(entry, fault, event)
        self._end(entry, ("error", fault.reason), fault.reason)
        return _Turn(handlers.without(entries, entry), fault)

    @staticmethod
    def _with(entries: Entries, entry: Entry, state: Any) -> Entries:
        return handlers.replaced(entries, entry, replace(entry, state=state))

    def _swapped(self, entry: Entry, arg: Any, new_name: handlers.Name, new_arg: Any, entries: Entries) -> Entries:
        """Put another handler into the place of one that wished it; a new one that fails is reported."""
        value = self._end(entry, arg, ("swapped", new_name, entry.supervisor))
        cls, id_ = handlers.split(new_name)
        made = self._made(cls, (new_arg, _plain(value)))
        if isinstance(made, _Fault):
            new = Entry(0, cls, id_, None, entry.supervisor)
            self._report(new, made, "init")
            self._tell_supervisor(new, made.reason)
            return handlers.without(entries, entry)
        new = Entry(handlers.next_key(entries), cls, id_, made[1], entry.supervisor)
        self.objects[new.key] = made[0]
        return handlers.replaced(entries, entry, new)

    def _end(self, entry: Entry, arg: Any, reason: Any) -> Any:
        """Run `terminate` of a handler that leaves, tell who supervised it; give what it returned."""
        value = self._try(self._object(entry).terminate, arg, entry.state)
        self.objects.pop(entry.key, None)
        self._tell_supervisor(entry, reason)
        return value

    def _object(self, entry: Entry) -> EventHandler:
        """Give a handler's object; it is made anew where the list came from elsewhere."""
        found = self.objects.get(entry.key)
        if found is None:
            found = self.objects[entry.key] = entry.cls()
        return found

    @staticmethod
    def _try(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except ExitSignal:
            raise
        except BaseException as error:
            context = current()
            if context.doomed is not None:
                raise
            return _Fault(booting.reason_of(error, context), crash_of(error).traceback)

    @staticmethod
    def _tell_supervisor(entry: Entry, reason: Any) -> None:
        """Send `("gen_event_EXIT", handler, reason)`; it never waits for room."""
        if entry.supervisor is None:
            return
        context = current()
        message = ("gen_event_EXIT", entry.name, reason)
        try:
            payload = context.codec.encode([wire.SEND, message])
        except CodecError:
            payload = context.codec.encode([wire.SEND, (*message[:2], repr(reason))])
        if entry.supervisor == context.pid:
            context.enqueue(message)
        elif (peer := process.reach(context, entry.supervisor)) is not None:
            context.post(peer, payload)

    def _report(self, entry: Entry, fault: _Fault, event: Any) -> None:
        status = {"state": entry.state, "message": event, "reason": fault.reason}
        shown = self._formatted(entry, status) if entry.key else status
        logging.getLogger("otp_runtime").error(
            "the event handler %r of %s was removed: %s\n  last event: %s\n  state: %s%s",
            entry.name,
            current().box.name or current().pid,
            describe(fault.reason),
            _shown(shown.get("message")),
            _shown(shown.get("state")),
            f"\n{fault.text}" if fault.text else "",
        )

    def _formatted(self, entry: Entry, status: dict[str, Any]) -> dict[str, Any]:
        formatted = self._try(self._object(entry).format_status, dict(status))
        if isinstance(formatted, _Fault):
            return dict.fromkeys(status, f"(format_status raised {describe(formatted.reason)})")
        return formatted if isinstance(formatted, dict) else status

    # -- what is seen from outside --------------------------------------------------------------------------

    def system_get_state(self, entries: Entries) -> list[tuple[type, Any, Any]]:
        """List class, id and state of every handler (OTP: gen_event:system_get_state/1)."""
        return [(entry.cls, entry.id, entry.state) for entry in entries]

    def system_replace_state(self, function: Any, entries: Entries) -> Entries:
        """Let `function((class, id, state))` give each handler's triple anew; where it fails nothing changes."""
        return tuple(self._replaced(function, entry) for entry in entries)

    def _replaced(self, function: Any, entry: Entry) -> Entry:
        match self._try(function, (entry.cls, entry.id, entry.state)):
            case (cls, id_, state) if cls is entry.cls and id_ == entry.id:
                return replace(entry, state=state)
            case _:
                return entry

    def code_change(self, old_vsn: Any, entries: Entries, extra: Any, /) -> Any:
        """Let each handler convert its state."""
        return tuple(
            replace(entry, state=self._object(entry).code_change(old_vsn, entry.state, extra)) for entry in entries
        )

    def format_status(self, status: dict[str, Any], /) -> dict[str, Any]:
        """Show the handlers, each through its own `format_status`."""
        shown = []
        for entry in status["state"]:
            formatted = self._formatted(entry, {**status, "state": entry.state})
            shown.append((entry.name, formatted.get("state")))
        return {**status, "state": shown}


def _is_plain(result: Any) -> bool:
    """Say whether a result asks for nothing that a handler cannot have: a time-out or a continuation."""
    return result.timeout is None and result.continue_ is MISSING


def _names_a_handler(name: Any) -> bool:
    cls = name[0] if isinstance(name, tuple) and len(name) == 2 else name
    return isinstance(cls, type) and issubclass(cls, EventHandler)


def _bad_return(callback: str, value: Any) -> _Fault:
    return _Fault(
        ("bad_return_value", value), f"{callback} returned {_shown(value)[:500]}; allowed: {_ALLOWED[callback]}"
    )


def _plain(value: Any) -> Any:
    return value.reason if isinstance(value, _Fault) else value
