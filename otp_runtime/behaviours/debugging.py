"""What runs in a server while somebody debugs it: trace, log, statistics, functions that see every event.

    off   loop._run ──────────────────────────────► callback ──► loop._apply
    on    loop._run = hook ─► ("in", …) ─► the true one ─► callback ──► hook ─► the true one ─► ("out" | "noreply", …)

(`_run`, or `_answer` for a call that comes alone, or `_run_callback` in an async server.)

Nothing is tested for each message: turning something on puts hooks over the loop's own methods, in the instance, and
turning off the last thing takes them away again. A behaviour that does more than replying (a state machine) gives its
events by a method `events_of(result, envelope)` of its loop.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from otp_runtime.behaviours.returns import MISSING, Reply
from otp_runtime.behaviours.system import WATCHED
from otp_runtime.behaviours.system_messages import seen_state
from otp_runtime.core import debug
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError
from otp_runtime.process.client import Client
from otp_runtime.process.context import ExitSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.core.debug import Event
    from otp_runtime.host.box import Box
    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import Pid

WATCHER_BEHIND_FRAMES = 1000
"""What may wait for one watcher that reads too slowly; events beyond are counted and dropped."""

_HOOKS = ("_run", "_run_callback", "_answer", "_apply", "_end", "_say_last_reply", "is_plain")


class Subject(Protocol):
    """A process that can be debugged: the loop of a server, or a supervisor."""

    context: Context
    box: Box
    debugger: Debugger | None
    state: Any

    def formatted(self, status: dict[str, Any]) -> dict[str, Any]:
        """Redact what will be shown."""

    def watch_events(self, debugger: Debugger | None) -> None:
        """Tell `debugger` of every event from now on; None: tell nobody."""


def handle(subject: Subject, request: tuple[Any, ...]) -> Any:
    """Do what a request of `otp_runtime.system` asks; give its answer. What it raises is for the caller."""
    debugger = subject.debugger or Debugger(subject)
    answer = debugger.ask(*request)
    debugger.settle()
    return answer


class Debugger:
    """All that is turned on for one server; gone when nothing is any more."""

    def __init__(self, subject: Subject) -> None:
        """Everything is off."""
        self._subject = subject
        self._trace = False
        self._log: collections.deque[Event] | None = None
        self._file: int | None = None
        self._counts: list[float] | None = None
        self._functions: dict[Any, tuple[Callable[..., Any], Any]] = {}
        self._watchers: dict[int, int] = {}

    @property
    def is_on(self) -> bool:
        """Whether anything is turned on."""
        return bool(self.what_is_on())

    def what_is_on(self) -> list[str]:
        """Name what is turned on."""
        facts = {
            "functions": bool(self._functions),
            "log": self._log is not None,
            "log_to_file": self._file is not None,
            "statistics": self._counts is not None,
            "trace": self._trace,
            "watchers": bool(self._watchers),
        }
        return [name for name, on in facts.items() if on]

    def settle(self) -> None:
        """Hook this into its subject or take it out, as it is needed now."""
        self._subject.watch_events(self if self.is_on else None)

    # -- what is asked --------------------------------------------------------------------------------------

    def ask(self, what: str, *details: Any) -> Any:
        """Do what a request asks; give its answer."""
        match what, *details:
            case ("trace", flag):
                self._trace = flag
            case ("log", "get"):
                return list(self._log or ())
            case ("log", "print"):
                for event in self._log or ():
                    self._print(f"*DBG* {debug.describe(self._who(), debug.parts(event))}")
            case ("log", 0):
                self._log = None
            case ("log", most):
                self._log = collections.deque(self._log or (), most)
            case ("log_to_file", path):
                self._log_to_file(path)
            case ("statistics", "get"):
                return self._statistics()
            case ("statistics", flag):
                self._counts = [time.time(), time.process_time(), 0, 0] if flag else None
            case ("install", key, function, state):
                self._functions.setdefault(key, (function, state))
            case ("remove", key):
                self._functions.pop(key, None)
            case ("watch", process_id, True):
                self._watchers.setdefault(process_id, 0)
            case ("watch", process_id, False):
                self._watchers.pop(process_id, None)
            case ("no_debug",):
                self._log_to_file(None)
                self._trace, self._log, self._counts = False, None, None
                self._functions.clear()
                self._watchers.clear()
        return None

    def _log_to_file(self, path: str | None) -> None:
        opened = None
        if path is not None:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file = opened

    def _statistics(self) -> debug.Statistics | str:
        if self._counts is None:
            return "no_statistics"
        started, cpu, messages_in, messages_out = self._counts
        used = time.process_time() - cpu
        return debug.Statistics(started, time.time(), used, int(messages_in), int(messages_out))

    # -- what happens ---------------------------------------------------------------------------------------

    def arrived(self, envelope: wire.Envelope) -> None:
        """Tell all that is turned on of a message that is about to be handled."""
        self.event(("in", message_of(self._subject.context, envelope)))

    def event(self, event: Event) -> None:
        """Tell all that is turned on."""
        if self._counts is not None and event[0] in {"in", "out"}:
            self._counts[2 if event[0] == "in" else 3] += 1
        if self._log is not None:
            self._log.append(self._frozen(event))
        if self._trace or self._file is not None:
            text = self._text(event)
            if self._trace:
                self._print(text)
            if self._file is not None:
                self._append(self._file, text)
        if self._functions:
            self._run_functions(event)
        if self._watchers:
            self._tell_watchers(event)

    def _run_functions(self, event: Event) -> None:
        for key, (function, state) in list(self._functions.items()):
            try:
                new = function(state, event, self._who())
            except ExitSignal:
                raise
            except BaseException as error:  # noqa: BLE001 - OTP: a debug function that fails is removed, the server goes on
                self._subject.context.node.warn(f"{self._who()}: the debug function {key!r} was removed: {error!r}")
                new = "done"
            if isinstance(new, str) and new == "done":
                self._functions.pop(key, None)
            elif key in self._functions:
                self._functions[key] = (function, new)
        if not self.is_on:
            self.settle()

    def _tell_watchers(self, event: Event) -> None:
        context = self._subject.context
        said = {"at": time.time(), "server": self._who(), "pid": context.pid, **self._shown_parts(event)}
        said["text"] = debug.describe(self._who(), self._shown(event))
        for process_id, dropped in list(self._watchers.items()):
            peer = context.peer(process_id)
            if peer is None or process_id in context.dying:
                del self._watchers[process_id]
            elif len(peer.outbox) >= WATCHER_BEHIND_FRAMES:
                self._watchers[process_id] = dropped + 1
            else:
                self._watchers[process_id] = 0
                message = (WATCHED, {**said, "dropped": dropped})
                context.post(peer, context.codec.encode([wire.SEND, message]))
        if not self.is_on:
            self.settle()

    # -- how it reads ---------------------------------------------------------------------------------------

    def _who(self) -> str:
        return self._subject.box.name or repr(self._subject.context.pid)

    def _shown(self, event: Event) -> dict[str, Any]:
        """Take an event apart, with what `format_status` redacts redacted."""
        said = debug.parts(event)
        status = {"state": self._subject.state, "message": said.get("message"), "reason": said.get("reason")}
        return {**said, **{key: value for key, value in self._subject.formatted(status).items() if key in said}}

    def _shown_parts(self, event: Event) -> dict[str, str]:
        said = self._shown(event)
        return {key: value if key in {"event", "kind"} else debug.shown(value) for key, value in said.items()}

    def _text(self, event: Event) -> str:
        return f"*DBG* {debug.describe(self._who(), self._shown(event))}"

    def _redacted(self, event: Event) -> Event:
        """Give an event as it may leave the process."""
        said = self._shown(event)
        match event:
            case ("in", (("$gen_call" | "$gen_cast"), *_) as message):
                return ("in", (*message[:-1], said["message"]))
            case (("in" | "continue") as word, _):
                return (word, said["message"])
            case ("out", value, client, _):
                return ("out", value, client, said["state"])
            case ("noreply", _):
                return ("noreply", said["state"])
            case ("terminate", _, _):
                return ("terminate", said["reason"], said["state"])
            case _:
                return event

    def _frozen(self, event: Event) -> Event:
        """Give an event as it is now, for later: a state may be changed in place, and what is asked for must travel."""
        codec = self._subject.context.codec
        event = self._redacted(event)
        try:
            return tuple(codec.decode(codec.encode(list(event))))
        except CodecError:
            return (event[0], *(debug.shown(part) for part in event[1:]))

    def _print(self, text: str) -> None:
        self._append(2, text)

    def _append(self, fd: int, text: str) -> None:
        # one write, so that the lines of several processes do not mix; nobody may end because nobody reads
        with contextlib.suppress(OSError):
            os.write(fd, f"{text}\n".encode(errors="replace"))


# -- the hooks of a server's loop --------------------------------------------------------------------------


def unhook(loop: Any) -> None:
    """Give a loop its own methods back."""
    for name in _HOOKS:
        vars(loop).pop(name, None)
    server: Any = getattr(loop, "server", None)
    if getattr(server, "said", None) is not None:
        server.said = None


def hook(loop: Any, debugger: Debugger) -> None:
    """Put hooks over the methods of a loop, a synchronous one or an async one."""
    unhook(loop)
    server: Any = getattr(loop, "server", None)
    if hasattr(server, "said"):
        server.said = []
    run_name = "_run_callback" if hasattr(loop, "_run_callback") else "_run"
    true_run, true_apply = getattr(loop, run_name), loop._apply  # noqa: SLF001 - the other half of the loop
    true_end, true_say = loop._end, loop._say_last_reply  # noqa: SLF001
    true_answer = loop._answer  # noqa: SLF001
    events_of = getattr(loop, "events_of", None) or (lambda result, envelope: _events_of(loop, result, envelope))

    def run(name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> Any:
        debugger.event(_arrival(loop.context, name, envelope))
        return true_run(name, args, payload, envelope)

    def answer(payload: bytes, envelope: wire.Envelope) -> Any:
        debugger.event(_arrival(loop.context, "handle_call", envelope))
        return true_answer(payload, envelope)

    def apply(name: str, result: Any, envelope: wire.Envelope) -> None:
        true_apply(name, result, envelope)
        for event in events_of(result, envelope):
            debugger.event(event)

    def end(reason: Any) -> None:
        debugger.event(("terminate", reason, seen_state(loop)))
        true_end(reason)

    def say_last_reply() -> None:
        last = loop.last_reply
        true_say()
        if last is not None:
            debugger.event(("out", last[1], _client(loop.context, last[0]), seen_state(loop)))

    hooks: dict[str, Any] = {run_name: run, "_answer": answer, "_apply": apply, "_end": end}
    vars(loop).update(hooks, _say_last_reply=say_last_reply, is_plain=False)


def _arrival(context: Context, name: str, envelope: wire.Envelope) -> Event:
    if name == "handle_continue":
        return ("continue", envelope[1][1])
    return ("in", message_of(context, envelope))


def message_of(context: Context, envelope: wire.Envelope) -> Any:
    """Give the message in an envelope in OTP's shape: what `process.receive` would give."""
    match envelope:
        case [wire.CALL, _, _, request]:
            return ("$gen_call", _client(context, envelope), request)
        case [wire.CAST, request]:
            return ("$gen_cast", request)
        case _:
            return envelope[-1]


def _client(context: Context, envelope: wire.Envelope) -> Client[Any]:
    pid: Pid = context.pid_of(envelope[1])
    return Client(pid, envelope[2])


def _events_of(loop: Any, result: Any, envelope: wire.Envelope) -> Iterable[Event]:
    said = getattr(loop.server, "said", None)
    if said:
        # a state machine replies by actions, to whom it likes
        loop.server.said = []
        return tuple(("out", reply.value, reply.client, seen_state(loop)) for reply in said)
    if envelope[0] == wire.CALL and isinstance(result, Reply) and result.value is not MISSING:
        return (("out", result.value, _client(loop.context, envelope), seen_state(loop)),)
    return (("noreply", seen_state(loop)),)
