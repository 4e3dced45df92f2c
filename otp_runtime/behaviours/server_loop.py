"""The loop of a GenServer: read a message, run a callback, do what it returned.

    boot ── name ── init ── "ok" ──► ┌─► continue? ─► wait ─► callback ─► state, reply, timeout, continue ─┐
                                     └───────────────────────────────────────────────────────────────────────┘
                                         stop, exception, bad return, parent's exit ──► terminate ──► end

When `terminate` runs (OTP's rule): on `Stop`, on an exception or a bad return, on `GenServer.stop`, and on an exit
signal of the parent if the server traps exits. Not when it is killed, not when an untrapped exit signal ends it.

One callback at a time. With any `async def` callback the loop of `async_loop` runs, inside one asyncio event loop.
"""

from __future__ import annotations

from collections import deque
from inspect import CO_COROUTINE, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.behaviours import handing_over, system_messages
from otp_runtime.behaviours.gen import send_reply
from otp_runtime.behaviours.returns import MISSING, Ignore, NoReply, Ok, RaiseInCaller, Reply, Stop
from otp_runtime.core import keep
from otp_runtime.core import messages as wire
from otp_runtime.core.keep import keep_of
from otp_runtime.core.limits import bounds_of
from otp_runtime.core.mailbox import is_durable
from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import pipe, poller
from otp_runtime.process import boot as booting
from otp_runtime.process.client import Client
from otp_runtime.process.context import ExitSignal
from otp_runtime.terms.events import Exit
from otp_runtime.terms.reason import cut_middle, is_abnormal

if TYPE_CHECKING:
    from otp_runtime.behaviours.debugging import Debugger
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context

CALLBACKS = (
    "init",
    "handle_call",
    "handle_cast",
    "handle_info",
    "handle_continue",
    "terminate",
    "code_change",
    "format_status",
    "release",
    "restored",
)
_ALLOWED = {
    "handle_call": "Reply(value, state), NoReply(state), Stop(reason, state, reply=…) or Reply.error(exception, state)",
    "handle_cast": "NoReply(state) or Stop(reason, state)",
    "handle_info": "NoReply(state) or Stop(reason, state)",
    "handle_continue": "NoReply(state) or Stop(reason, state)",
}

KEEP_OPTIONS = frozenset(keep.OPTIONS)

LOOK_SECONDS = 0.001
"""How long a server with messages to handle may leave its control lane, or deaths and timers, unlooked at."""


class End(BaseException):
    """Ends the loop with a reason; `terminate` has run or must not."""

    def __init__(self, reason: Any) -> None:
        super().__init__()
        self.reason = reason


class EndAsync(BaseException):
    """Ends the loop of an async server whose `terminate` must still be awaited."""

    def __init__(self, reason: Any) -> None:
        """Carry the exit reason."""
        super().__init__()
        self.reason = reason


class ServerLoop:
    """One server: the user's object, its state, what comes next."""

    mailbox = "transient"
    is_plain = True
    """Whether a callback is all that a message needs: nobody has put anything over `_run`, `_enter` or `_apply`."""

    def __init__(self, context: Context, server: Any, options: dict[str, Any]) -> None:
        """`server` is an instance of the user's class."""
        self.context = context
        self.box = context.box
        self.server = server
        self.options = options
        self.cls = type(server)
        """The user's class; `server` may be an object of the library's that runs it."""
        context.served_by = self.cls
        self.arg: Any = None
        self.state: Any = None
        self.timeout: float | None = None
        self.hibernating = False
        self.continue_: Any = MISSING
        self.handled = 0
        self.suspended = False
        self.set_aside: deque[tuple[bytes, wire.Envelope]] = deque()
        self.message: wire.Envelope | None = None
        self.last_reply: tuple[wire.Envelope, Any] | None = None
        self.debugger: Debugger | None = None
        self._look_due = self._lane_due = 0.0

    # -- birth ----------------------------------------------------------------------------------------------

    def run(self, boot: Boot, name: Any, arg: Any) -> Any:
        """Live; give the exit reason."""
        self.arg = arg
        if boot.succession is not None:
            # name, flags and all are there: another OS process is this server already
            return self.live(boot, arg)
        if name is not None:
            failed = booting.take_name(self.context, boot, name)
            if failed is not None:
                return failed[0]
        if self.options.get("timeout") is not None:
            boot.limit(self.options["timeout"])
        self.context.set_trap_exit(bool(self.server.trap_exit))
        return self.live(boot, arg)

    def live(self, boot: Boot, arg: Any) -> Any:
        """Run `init` and the loop; give the exit reason."""
        try:
            if boot.succession is not None:
                handing_over.at_once(handing_over.succeed(self, boot.succession))
            elif not self._start(boot, self.server.init(arg)):
                return "normal"
            self._loop()
        except End as end:
            return end.reason
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            return self._failed_init(boot, error)

    def settled(self) -> None:
        """Called when the box is the server's own: of a successor, only once it has taken over."""

    def _failed_init(self, boot: Boot, error: BaseException) -> Any:
        reason = booting.reason_of(error, self.context)
        booting.note_words(error)
        boot.say("error", reason)
        return reason

    def _start(self, boot: Boot, result: Any) -> bool:
        """Take what `init` returned; say whether there is a server to run."""
        match result:
            case Ok():
                self.state = result.state
                self._what_next(result)
            case Ignore():
                boot.say("ignore")
                return False
            case Stop():
                boot.say("error", result.reason)
                raise End(result.reason)
            case Reply() | NoReply():
                reason = ("bad_return_value", result)
                self._warn_bad_return("init", result, "a state, Ok(state, …), Ignore() or Stop(reason)")
                boot.say("error", reason)
                raise End(reason)
            case _:
                self.state = result
        self.box.set_flag(boxes.READY)
        boot.say("ok")
        if telemetry.is_heard():
            telemetry.emit("server.start", server=self.box.name or self.box.label)
        return True

    # -- the loop, synchronous ------------------------------------------------------------------------------

    def _loop(self) -> None:
        context = self.context
        while True:
            if self.continue_ is not MISSING:
                term, self.continue_ = self.continue_, MISSING
                self._run("handle_continue", (term, self.state), b"", [wire.SEND, ("continue", term)])
                continue
            if context.inbox and (now := poller.now()) >= self._lane_due:
                self._lane_due = now + LOOK_SECONDS
                context.read_lane()
            if context.doomed is not None:
                raise self._doomed()
            entry = self._next() or self._wait()
            if entry is None:
                continue
            payload, envelope = entry
            if envelope[0] == wire.CAST:
                self._run("handle_cast", (envelope[1], self.state), payload, envelope)
                if context.inbox and self._goes_straight():
                    self._run_casts()
                continue
            prepared = self._prepare(envelope)
            if prepared is not None:
                self._run(prepared[0], prepared[1], payload, envelope)

    def _next(self) -> tuple[bytes, wire.Envelope] | None:
        context = self.context
        if self.suspended:
            return self._next_system()
        if self.set_aside and not self._is_urgent():
            return self.set_aside.popleft()
        if not context.inbox:
            return None
        return context.next_message()

    def _goes_straight(self) -> bool:
        """Say whether what waits in the inbox is what comes next, and nothing before it."""
        return not (self.suspended or self.set_aside or self.hibernating) and (
            self.timeout is None and self.continue_ is MISSING and self.is_plain
        )

    def _is_urgent(self) -> bool:
        """Say whether a system message that came over the control lane waits, which passes all others."""
        inbox = self.context.inbox
        return bool(inbox) and inbox[0][0] == b"" and inbox[0][1][0] == wire.SYSTEM

    def _next_system(self) -> tuple[bytes, wire.Envelope] | None:
        """While suspended only system messages and the parent's exit are taken; the rest waits in order."""
        while (entry := self.context.next_message()) is not None:
            kind, message = entry[1][0], entry[1][1]
            if kind == wire.SYSTEM or (kind == wire.SEND and self._is_parents_exit(message)):
                return entry
            self.set_aside.append(entry)
        return None

    def _wait(self) -> tuple[bytes, wire.Envelope] | None:
        """Wait for the next message; None: see first what else there is to do.

        The straight path is in here: calls that come one by one are answered with nothing between them.
        """
        context = self.context
        deadline = None if self.timeout is None or self.suspended else poller.now() + self.timeout
        is_hibernating = self.hibernating
        is_straight = not (deadline or is_hibernating or self.suspended or self.set_aside)
        if is_hibernating:
            self._hibernate()
        read = context.spinner.read
        while True:
            if context.doomed is not None:
                raise self._doomed()
            chunk = (
                None
                if (context.owed or context.unframer.amid) and context.sleeps_at_once()
                else read(context.fd, pipe.READ_SIZE)
            )
            entry = None
            if chunk is None and is_straight:
                chunk = context.sleep_and_read(None)
            if chunk is None:
                self._pump(None if deadline is None else max(0.0, deadline - poller.now()))
            elif not is_straight:
                context.feed(chunk)
                self._look_around()
            elif (entry := context.feed_to_loop(chunk)) is None or entry[1][0] != wire.CALL:
                self._look_around()
            elif self._answer(*entry):
                continue
            else:
                return None
            entry = entry or self._next()
            if is_straight or entry is not None:
                if is_hibernating:
                    self.box.set_flag(boxes.HIBERNATING, 0)
                return entry
            if deadline is not None and poller.now() >= deadline:
                context.drain()
                self.box.set_flag(boxes.HIBERNATING, 0)
                return self._next() or (b"", [wire.SEND, "timeout"])

    def _answer(self, payload: bytes, envelope: wire.Envelope) -> bool:
        """Handle a call that came alone, as `_run` does; say whether the straight path goes on."""
        caller = envelope[1]
        peer = self.context.peers.get(caller)
        client: Client[Any] = Client(self.context.pid_of(caller) if peer is None else peer.pid, envelope[2])
        self.handled = handled = self.handled + 1
        self.message = envelope
        now = poller.now()
        self.box.enter_callback(now, handled, payload)
        try:
            result = self.server.handle_call(envelope[3], client, self.state)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            self._crashed(error)
        else:
            self._apply("handle_call", result, envelope)
        self.box.leave_callback()
        self.message = None
        if now >= self._look_due:
            self._look_around()
        return not self.context.inbox and self.timeout is None and self.continue_ is MISSING and not self.hibernating

    def _look_around(self) -> None:
        """Under a flood of messages, see to deaths and timers now and then."""
        now = poller.now()
        if now >= self._look_due:
            self._look_due = now + LOOK_SECONDS
            self._pump(0)

    def _pump(self, timeout: float | None) -> None:
        try:
            self.context.pump(timeout)
        except ExitSignal:
            raise self._doomed() from None

    def _hibernate(self) -> None:
        import gc

        # until a callback says otherwise: a system message only interrupts it
        self.box.set_flag(boxes.HIBERNATING)
        gc.collect()

    # -- one message ----------------------------------------------------------------------------------------

    def _prepare(self, envelope: wire.Envelope) -> tuple[str, tuple[Any, ...]] | None:
        """Say which callback a message goes to, and with what; None when the runtime itself handled it."""
        kind = envelope[0]
        if kind == wire.CALL:
            client: Client[Any] = Client(self.context.pid_of(envelope[1]), envelope[2])
            return "handle_call", (envelope[3], client, self.state)
        if kind == wire.CAST:
            return "handle_cast", (envelope[1], self.state)
        if kind == wire.SEND:
            message = envelope[1]
            if type(message) is Exit and self._is_parents_exit(message):
                self._end(message.reason)
            return "handle_info", (message, self.state)
        self._system(envelope)
        return None

    def _is_parents_exit(self, message: Any) -> bool:
        return type(message) is Exit and self.context.key_of(message.pid) == self.context.parent

    def _system(self, envelope: wire.Envelope) -> None:
        self.message = envelope
        if wire.is_handover(envelope[3]):
            handing_over.at_once(handing_over.hand_over(self, envelope))
            self.message = None
            return
        self._answer_system(envelope, *system_messages.handle(self, envelope[3]))

    def _answer_system(self, envelope: wire.Envelope, how: int, value: Any) -> None:
        _kind, caller, serial, request = envelope
        try:
            send_reply(self.context, caller, serial, how, value)
        except CodecError as error:
            send_reply(self.context, caller, serial, wire.RAISE, error)
        if isinstance(request, tuple) and request and request[0] == "terminate":
            self._end(request[1])
        self.message = None

    def watch_events(self, debugger: Debugger | None) -> None:
        """Tell `debugger` of every event from now on; None: tell nobody. Costs nothing while it is off."""
        if debugger is not self.debugger:
            from otp_runtime.behaviours import debugging

            self.debugger = debugger
            debugging.unhook(self)
            if debugger is not None:
                debugging.hook(self, debugger)

    def run_function(self, function: Any) -> Any:
        """Run a function that a system message brought as if it were a callback: what it raises ends the server."""
        assert self.message is not None
        self._enter(b"", self.message)
        result = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            self._crashed(error)
        self.box.leave_callback()
        return result

    def _run(self, name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> None:
        self._enter(payload, envelope)
        try:
            result = getattr(self.server, name)(*args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            self._crashed(error)
        else:
            self._apply(name, result, envelope)
        self.box.leave_callback()
        self.message = None

    def _run_casts(self) -> None:
        """Handle casts that wait one behind the other, each as `_run` does, until something else is to be done.

        The straight path of a server that is cast to faster than it handles.
        """
        context, box, server = self.context, self.box, self.server
        inbox, clock, enter, leave = context.inbox, poller.now, box.enter_callback, box.leave_callback
        while inbox and context.doomed is None:
            now = clock()
            if now >= self._lane_due:
                self._lane_due = now + LOOK_SECONDS
                context.read_lane()
            payload, envelope = inbox[0]
            if envelope[0] != wire.CAST:
                break
            inbox.popleft()
            context.queued -= len(payload)
            self.handled = handled = self.handled + 1
            self.message = envelope
            enter(now, handled, payload)
            try:
                result = server.handle_cast(envelope[1], self.state)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
                self._crashed(error)
            else:
                if (
                    type(result) is NoReply
                    and result.timeout is None
                    and result.continue_ is MISSING
                    and not result.hibernate
                ):
                    self.state = result.state
                else:
                    self._apply("handle_cast", result, envelope)
                    leave()
                    self.message = None
                    break
            leave()
            self.message = None
        context.took(b"")

    def _enter(self, payload: bytes, envelope: wire.Envelope) -> None:
        self.handled += 1
        self.message = envelope
        self.box.enter_callback(poller.now(), self.handled, payload)

    def _apply(self, name: str, result: Any, envelope: wire.Envelope) -> None:
        kind = type(result)
        if kind is Reply and name == "handle_call":
            self.state = result.state
            context = self.context
            try:
                payload = context.parcels.encode([wire.REPLY, envelope[2], wire.VALUE, result.value])
                peer = context.peers.get(envelope[1])
                if peer is not None:
                    if not peer.write_now(payload):
                        context.post(peer, payload)
                else:
                    send_reply(context, envelope[1], envelope[2], wire.VALUE, result.value)
            except CodecError:
                self._reply(envelope, wire.VALUE, result.value)
        elif kind is NoReply:
            self.state = result.state
        elif kind is Stop:
            self._stop(result, envelope)
        elif kind is RaiseInCaller and name == "handle_call":
            self.state = result.state
            self._reply(envelope, wire.RAISE, result.value)
        else:
            self._warn_bad_return(name, result, _ALLOWED[name])
            self._end(("bad_return_value", result))
        self.timeout = result.timeout
        self.continue_ = result.continue_
        self.hibernating = result.hibernate

    def _what_next(self, result: Any) -> None:
        self.timeout = result.timeout
        self.continue_ = result.continue_
        self.hibernating = result.hibernate

    def _reply(self, envelope: wire.Envelope, how: int, value: Any) -> None:
        try:
            send_reply(self.context, envelope[1], envelope[2], how, value)
        except CodecError as error:
            fault = error
            try:
                self.context.codec.encode(value, "reply")
            except CodecError as named:
                fault = named
            self.context.node.warn(f"{self._who()}: a reply cannot be sent: {fault}")
            send_reply(self.context, envelope[1], envelope[2], wire.RAISE, fault)

    def _stop(self, result: Stop[Any], envelope: wire.Envelope) -> None:
        if result.state is not MISSING:
            self.state = result.state
        if result.reply is not MISSING and envelope[0] == wire.CALL:
            self.last_reply = (envelope, result.reply)
        self._end(result.reason)

    def _say_last_reply(self) -> None:
        """OTP: terminate first, then the reply, then the end."""
        if self.last_reply is not None:
            (envelope, value), self.last_reply = self.last_reply, None
            self._reply(envelope, wire.VALUE, value)

    # -- the end --------------------------------------------------------------------------------------------

    def _crashed(self, error: BaseException) -> None:
        """A callback did not return."""
        context = self.context
        if isinstance(error, ExitSignal) or context.doomed is not None:
            raise self._doomed() from None
        booting.note_words(error)
        self._end(booting.reason_of(error, context))

    def _doomed(self) -> End:
        """An exit signal that is not trapped ends the server: `terminate` does not run (OTP's rule)."""
        reason = self.context.doomed[0] if self.context.doomed is not None else "killed"
        if reason == "shutdown" and hasattr(self.server, "terminate"):
            name = self.box.label
            text = f"{name} has terminate() but was shut down without it: set trap_exit = True in the class to run it"
            self.context.node.warn_once(f"terminate-{name}", text)
        return End(reason)

    def _end(self, reason: Any) -> None:
        """Run `terminate`, then leave the loop."""
        if is_abnormal(reason):
            self._note_state(reason)
        terminate = getattr(self.server, "terminate", None)
        if terminate is not None:
            try:
                self._terminate(terminate, reason)
            except EndAsync:
                raise
            except BaseException as error:  # noqa: BLE001 - OTP: what terminate raises is the exit reason
                booting.note_words(error)
                reason = booting.reason_of(error, self.context)
        self._say_last_reply()
        raise End(reason) from None

    def _terminate(self, terminate: Any, reason: Any) -> None:
        terminate(reason, self.state)

    def _note_state(self, reason: Any) -> None:
        status = {"state": self.state, "message": self.message[-1] if self.message else None, "reason": reason}
        status = self.formatted(status)
        more = {"state": _shown(status.get("state"))}
        if self.message is not None:
            kind = {wire.CALL: "call", wire.CAST: "cast", wire.SYSTEM: "system"}.get(self.message[0], "info")
            more["message"] = f"{kind} {_shown(status.get('message'))}"
        booting.note_words(None, **more)

    def formatted(self, status: dict[str, Any]) -> dict[str, Any]:
        """Let the server's `format_status` redact what will be shown."""
        try:
            formatted = self.server.format_status(dict(status))
        except Exception as error:  # noqa: BLE001 - a broken format_status must not hide the death it describes
            return dict.fromkeys(status, f"(format_status raised {error!r})")
        return formatted if isinstance(formatted, dict) else status

    def _warn_bad_return(self, name: str, value: Any, allowed: str) -> None:
        self.context.node.warn(f"{self._who()}: {name} returned {_shown(value)[:500]}; allowed: {allowed}")
        booting.words["callback"] = name

    def _who(self) -> str:
        return f"{self.box.name or self.box.label} {self.context.pid!r}"


def _shown(value: Any) -> str:
    try:
        return cut_middle(repr(value), booting.SHOWN_MAX)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not hide what it should have shown
        return f"(repr raised {error!r})"


def label_of(cls: type) -> str:
    """Say what runs in a process of this class, for people."""
    return str(getattr(cls, "_label", None) or cls.__qualname__)


def serve(cls: type, arg: Any, name: Any, options: dict[str, Any]) -> Any:
    """Turn this new process into a server of class `cls`: raises to unwind the start function."""
    raise booting.Become(lambda context, boot: _run_server(context, boot, cls, arg, name, options))


def _run_server(context: Context, boot: Boot, cls: type, arg: Any, name: Any, options: dict[str, Any]) -> Any:
    context.box.label = label_of(cls)
    overflow = options.get("overflow", "block")
    context.box.set_flag(boxes.OVERFLOW, boxes.OVERFLOW_POLICIES.index(overflow))
    if options.get("limits") is not None and (bounds := bounds_of(options)) is not None:
        context.box.limits = bounds
    # a state machine, an event manager: an object of the library's between the loop and the user's class
    server = getattr(cls, "_hosted_server", cls)()
    is_lasting = _has_lasting_mail(context, boot, options)
    loop = _loop_class(boot, server, options, is_lasting=is_lasting)(context, server, options)
    loop.cls = cls
    return loop.run(boot, name, arg)


def _has_lasting_mail(context: Context, boot: Boot, options: dict[str, Any]) -> bool:
    """Whether this server's mailbox is durable: somebody must bring it back for that. An upgrade does not change it."""
    if boot.succession is not None:
        return boot.succession.has_lasting_mail
    if is_durable(options) and context.place[0] != context.directory.state(context.id):
        return True
    context.box.set_flag(boxes.MAILBOX, 0)
    return False


def _loop_class(boot: Boot, server: Any, options: dict[str, Any], *, is_lasting: bool) -> type[ServerLoop]:
    """Choose the loop: what an option adds is in a class of its own, so that nobody pays for what he does not use."""
    loop: type[ServerLoop] = ServerLoop
    is_async = _is_async(server)
    kind = "async_" if is_async else ""
    if options.get("record"):
        boot.have_ahead(f"otp_runtime.behaviours.{kind}recording_loop")
        from otp_runtime.behaviours import recording_loop

        loop = recording_loop.recording(options, is_async=is_async)
    elif not KEEP_OPTIONS.isdisjoint(options) and keep_of(options) is not None:
        boot.have_ahead(f"otp_runtime.behaviours.{kind}keeping_loop")
        from otp_runtime.behaviours import keeping_loop

        loop = keeping_loop.keeping(is_async=is_async)
    elif is_async:
        boot.have_ahead("otp_runtime.behaviours.async_loop")
        from otp_runtime.behaviours.async_loop import AsyncServerLoop

        loop = AsyncServerLoop
    if is_lasting:
        boot.have_ahead(f"otp_runtime.behaviours.{kind}lasting_loop")
        from otp_runtime.behaviours.lasting_loop import lasting

        loop = lasting(loop, is_async=is_async)
    if options.get("watchdog") is not None:
        boot.have_ahead(f"otp_runtime.behaviours.{'watched_async' if is_async else 'watched_loop'}")
        from otp_runtime.behaviours.watched_loop import watched

        loop = watched(loop, is_async=is_async)
    return loop


def _is_async(server: Any) -> bool:
    """Say whether a callback is a coroutine function.

    Only those that the user wrote are looked at: a look at a function is two pages of memory that a fork copies.
    """
    own = [name for name in CALLBACKS if name in getattr(server, "__dict__", ())]
    for cls in type(server).__mro__:
        if cls.__dict__.get("_has_defaults"):
            break
        own += [name for name in CALLBACKS if name in cls.__dict__]
    return any(_is_coroutine_function(getattr(server, name)) for name in own)


def _is_coroutine_function(callback: Any) -> bool:
    code = getattr(callback, "__code__", None)
    if code is None or hasattr(callback, "_is_coroutine_mark"):
        return iscoroutinefunction(callback)
    # what the long way finds out too, at every start
    return bool(code.co_flags & CO_COROUTINE)
