"""The errors a program meets.

::

    Exception
    ├── OtpError                        everything the library raises on purpose
    │   ├── StartError                  a process did not start
    │   │   ├── AlreadyStarted(pid)         the name or the child is taken
    │   │   ├── InitFailed(reason)          `init` crashed, or returned `Stop(reason)`
    │   │   ├── StartTimeout(server, timeout)
    │   │   ├── DurableStateError(path, reason)   a state that is kept on disk cannot be read or written
    │   │   └── NoNode(node, reason)        there is no node to start it on
    │   ├── CallError                   a call got no reply; has server, request, elapsed, reason
    │   │   ├── NoProcess                   reason "noproc"
    │   │   ├── CallTimeout                 reason "timeout"; a TimeoutError too
    │   │   ├── ServerDown                  reason: the exit reason of the server
    │   │   └── CallingSelf                 reason "calling_self"
    │   ├── SpecError                   a description is wrong; nothing was started
    │   │   ├── BadChildSpec(field, value, allowed)
    │   │   ├── BadSupervisorFlags(field, value, allowed)
    │   │   └── DuplicateChild(id)
    │   ├── SupervisorError             a supervisor cannot do what it was asked
    │   │   ├── NotFound(id), Running(id), Restarting(id), AlreadyPresent(id)
    │   │   ├── MaxChildren(limit)
    │   │   └── StartFailed(id, reason)
    │   ├── EventError                  an event manager cannot do what it was asked
    │   │   ├── NoHandler(handler)
    │   │   └── HandlerFailed(handler, reason)
    │   ├── NotStarted(app)             an application is not started
    │   ├── NotAllowed(function, node)  another node does not run it for others
    │   ├── TaskExited(reason)
    │   ├── AlreadyRegistered(pid)
    │   ├── NotTracked(pid, topic, key)   a process has no such presence
    │   ├── CodecError(path, type)      a term cannot travel
    │   ├── MailboxFull(server, limit, timeout)
    │   ├── ReceiveTimeout(timeout)     a TimeoutError too
    │   ├── NotSuspended(server), UpgradeFailed(reason), CallbackFailed(reason)
    │   └── RemoteError(type, message, traceback)   stands in for an exception of an unknown class
    └── RuntimeBug(message)             our fault: please report it
    BaseException
    └── ExitWith(reason)                raise it in a callback to exit with that reason

Each error keeps what it knows in fields and builds its text from them. `args` are the positional
arguments of the constructor, so `copy`, `pickle` and the codec give back an equal error. A field
`reason` is an exit reason, a term; where it carries the traceback of another process, that text
is added as a note, so that Python prints it below the error.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "BadChildSpec",
    "BadSupervisorFlags",
    "CallError",
    "CallTimeout",
    "CallbackFailed",
    "CallingSelf",
    "CodecError",
    "DuplicateChild",
    "DurableStateError",
    "EventError",
    "ExitWith",
    "HandlerFailed",
    "InitFailed",
    "MailboxFull",
    "MaxChildren",
    "NoHandler",
    "NoNode",
    "NoProcess",
    "NotAllowed",
    "NotFound",
    "NotStarted",
    "NotSuspended",
    "NotTracked",
    "OtpError",
    "ReceiveTimeout",
    "RemoteError",
    "Restarting",
    "Running",
    "RuntimeBug",
    "ServerDown",
    "SpecError",
    "StartError",
    "StartFailed",
    "StartTimeout",
    "SupervisorError",
    "TaskExited",
    "UpgradeFailed",
]

_SHOWN_CHARS = 200


class OtpError(Exception):
    """The base of every error that the library raises on purpose."""


# -- starting -----------------------------------------------------------------------------------


class StartError(OtpError):
    """A process did not start."""


class AlreadyStarted(StartError):
    """The name, or the place under the supervisor, belongs to the running process `pid`."""

    def __init__(self, pid: Any) -> None:
        self.args = (pid,)
        self.pid = pid

    def __str__(self) -> str:
        return f"already started: {_show(self.pid)} is running"


class InitFailed(StartError):
    """The new process ended with `reason` before its `init` had returned."""

    def __init__(self, reason: Any) -> None:
        self.args = (reason,)
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"init failed: {_say(self.reason)}"


class StartTimeout(StartError):
    """`init` did not return within `timeout` seconds; the half-started process was killed."""

    def __init__(self, server: Any = None, timeout: float | None = None) -> None:
        self.args = (server, timeout)
        self.server = server
        self.timeout = timeout

    def __str__(self) -> str:
        who = "the process" if self.server is None else _show(self.server)
        within = "in time" if self.timeout is None else f"within {_seconds(self.timeout)}"
        return (
            f"{who} did not finish init {within} and was killed; "
            "give timeout= more seconds or move slow work to handle_continue"
        )


class DurableStateError(StartError):
    """A state that is kept on disk cannot be read or written: full, corrupt, or in another process's hands.

    A server that meets this when it starts does not start; one that meets it later ends with the exit reason
    `("durable_state", path, reason)` before its reply leaves.
    """

    def __init__(self, path: str, reason: str = "") -> None:
        self.args = (path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"the durable state in {self.path} is out of reach: {self.reason}"


class NoNode(StartError):
    """There is no node called `node` to start on, or it has gone, for `reason`."""

    def __init__(self, node: Any = None, reason: Any = None) -> None:
        self.args = (node, reason)
        self.node = node
        self.reason = reason

    def __str__(self) -> str:
        who = "no node" if self.node is None else f"no node {_show(self.node)}"
        if self.reason is None:
            return who
        return f"{who}: {self.reason if isinstance(self.reason, str) else _say(self.reason)}"


# -- calling ------------------------------------------------------------------------------------


class CallError(OtpError):
    """A call to `server` with `request` got no reply for `elapsed` seconds, because of `reason`.

    `detail` is one more sentence for people, such as why a supervisor gave up; may be empty.
    """

    def __init__(
        self,
        server: Any = None,
        request: Any = None,
        elapsed: float | None = None,
        reason: Any = None,
        *,
        detail: str = "",
    ) -> None:
        self.args = (server, request, elapsed, reason)
        self.server = server
        self.request = request
        self.elapsed = elapsed
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self._sentence(f"the call failed: {_say(self.reason)}")

    def _sentence(self, what: str, advice: str = "") -> str:
        """Join what happened, the call it happened to, the detail, and what to do."""
        facts = []
        if self.request is not None:
            facts.append(f"request {_show(self.request)}")
        if self.elapsed is not None:
            facts.append(f"after {_seconds(self.elapsed)}")
        text = f"{what} ({', '.join(facts)})" if facts else what
        return "; ".join(part for part in (text, self.detail, advice) if part)

    def _who(self) -> str:
        return "the server" if self.server is None else _show(self.server)


class NoProcess(CallError):
    """There is no process `server`, and none is about to be."""

    def __init__(
        self,
        server: Any = None,
        request: Any = None,
        elapsed: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(server, request, elapsed, "noproc", detail=detail)
        self.args = (server, request, elapsed)

    def __str__(self) -> str:
        return self._sentence(
            f"no process {self._who()}",
            "" if self.detail else "is it started, and under this name?",
        )


class CallTimeout(CallError, TimeoutError):
    """`server` did not reply in time. It may still be working; its late reply is dropped."""

    def __init__(
        self,
        server: Any = None,
        request: Any = None,
        elapsed: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(server, request, elapsed, "timeout", detail=detail)
        self.args = (server, request, elapsed)

    def __str__(self) -> str:
        return self._sentence(
            f"no reply from {self._who()} in time",
            "it may still be working: give timeout= more seconds, or look at it with system.get_status",
        )


class ServerDown(CallError):
    """`server` ended with `reason` before it replied, or, for a `with` block, unasked.

    `reason` comes first because it is what the error is about; when it is a `Crash`, the
    traceback from the server's process is in `__notes__`.
    """

    def __init__(
        self,
        reason: Any = None,
        server: Any = None,
        request: Any = None,
        elapsed: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(server, request, elapsed, reason, detail=detail)
        self.args = (reason, server, request, elapsed)
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return self._sentence(f"{self._who()} went down: {_say(self.reason)}")


class CallingSelf(CallError):
    """A process called itself; it could never have answered while it waited."""

    def __init__(
        self,
        server: Any = None,
        request: Any = None,
        elapsed: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(server, request, elapsed, "calling_self", detail=detail)
        self.args = (server, request, elapsed)

    def __str__(self) -> str:
        return self._sentence(
            f"{self._who()} called itself",
            "call your own function directly, or send yourself a cast",
        )


# -- describing ---------------------------------------------------------------------------------


class SpecError(OtpError):
    """A description of children is wrong; nothing was started."""


class _BadField(SpecError):
    """`field` has the value `value`; `allowed` says in words what it may be."""

    _of = "description"

    def __init__(self, field: str, value: Any = None, allowed: Any = None) -> None:
        self.args = (field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        text = f"bad {self._of}: {self.field}={_show(self.value)}"
        return text if self.allowed is None else f"{text}; allowed: {_listed(self.allowed)}"


class BadChildSpec(_BadField):
    """The child spec's `field` has the value `value`, but may only be what `allowed` says; `child` is its id."""

    _of = "child spec"

    def __init__(self, field: str, value: Any = None, allowed: Any = None, child: Any = None) -> None:
        super().__init__(field, value, allowed)
        self.args = (field, value, allowed, child)
        self.child = child
        if child is not None:
            self._of = f"spec of child {_show(child)}"


class BadSupervisorFlags(_BadField):
    """The supervisor's `field` has the value `value`, but may only be what `allowed` says."""

    _of = "supervisor flags"


class DuplicateChild(SpecError):
    """Two children of one supervisor have the same `id`."""

    def __init__(self, id: Any) -> None:
        self.args = (id,)
        self.id = id

    def __str__(self) -> str:
        return f"two children have the id {_show(self.id)}; give one of them another id="


# -- supervising --------------------------------------------------------------------------------


class SupervisorError(OtpError):
    """A supervisor cannot do what it was asked; it goes on unchanged."""


class _AboutChild(SupervisorError):
    """An error about the child with this `id`."""

    _what = "cannot be used"

    def __init__(self, id: Any) -> None:
        self.args = (id,)
        self.id = id

    def __str__(self) -> str:
        return f"child {_show(self.id)} {self._what}"


class NotFound(_AboutChild):
    """The supervisor has no child `id`."""

    _what = "is not known to this supervisor"


class Running(_AboutChild):
    """The child `id` is running; it must be stopped first."""

    _what = "is running; terminate_child it first"


class Restarting(_AboutChild):
    """The child `id` is being restarted just now."""

    _what = "is being restarted"


class AlreadyPresent(_AboutChild):
    """The supervisor knows a child `id` that is not running."""

    _what = "is already present but not running; use restart_child, or delete_child it first"


class MaxChildren(SupervisorError):
    """The supervisor already has as many children as `limit` allows."""

    def __init__(self, limit: int) -> None:
        self.args = (limit,)
        self.limit = limit

    def __str__(self) -> str:
        return f"the supervisor already has max_children={self.limit} children"


class StartFailed(SupervisorError):
    """The child `id` could not be started: its `init` ended with `reason`."""

    def __init__(self, id: Any, reason: Any = None) -> None:
        self.args = (id, reason)
        self.id = id
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"child {_show(self.id)} did not start: {_say(self.reason)}"


# -- event managers -----------------------------------------------------------------------------


class EventError(OtpError):
    """An event manager cannot do what it was asked; it goes on."""


class NoHandler(EventError):
    """The event manager has no handler `handler`."""

    def __init__(self, handler: Any = None) -> None:
        self.args = (handler,)
        self.handler = handler

    def __str__(self) -> str:
        return f"the event manager has no handler {_show(self.handler)}; GenEvent.which_handlers lists those it has"


class HandlerFailed(EventError):
    """A callback of `handler` failed, or refused, for `reason`. The handler is not (or no longer) installed."""

    def __init__(self, handler: Any = None, reason: Any = None) -> None:
        self.args = (handler, reason)
        self.handler = handler
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"the event handler {_show(self.handler)} failed: {_say(self.reason)}"


# -- the rest -----------------------------------------------------------------------------------


class NotStarted(OtpError):
    """The application `app` is not started: it was to be stopped, or another needs it."""

    def __init__(self, app: Any = None) -> None:
        self.args = (app,)
        self.app = app

    def __str__(self) -> str:
        return (
            f"application {_show(self.app)} is not started; application.ensure_all_started starts one "
            "after all that it needs"
        )


class TaskExited(OtpError):
    """The task ended with `reason` instead of a value."""

    def __init__(self, reason: Any = None) -> None:
        self.args = (reason,)
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"the task ended without a value: {_say(self.reason)}"


class AlreadyRegistered(OtpError):
    """The name or key belongs to the process `pid`."""

    def __init__(self, pid: Any) -> None:
        self.args = (pid,)
        self.pid = pid

    def __str__(self) -> str:
        return f"already registered by {_show(self.pid)}"


class NotTracked(OtpError):
    """The process `pid` has no presence under `key` in `topic`."""

    def __init__(self, pid: Any, topic: str, key: str) -> None:
        self.args = (pid, topic, key)
        self.pid = pid
        self.topic = topic
        self.key = key

    def __str__(self) -> str:
        return f"{_show(self.pid)} is not tracked as {self.key!r} in {self.topic!r}: track it first"


class NotAllowed(OtpError):
    """`node` does not run `function`, a name "module:function", for other nodes."""

    def __init__(self, function: Any = None, node: Any = None) -> None:
        self.args = (function, node)
        self.function = function
        self.node = node

    def __str__(self) -> str:
        return (
            f"{self.node} does not run {self.function} for other nodes; to allow it there: "
            f"Node.start(..., erpc=({self.function!r},))"
        )


class CodecError(OtpError):
    """A term cannot be turned into bytes, or bytes into a term.

    `path` leads to the part at fault (`request["jobs"][3].lock`), `type` is the name of its type,
    and `detail` says why. Raised in the sender before anything is sent.
    """

    def __init__(self, path: str, type: str, *, detail: str = "") -> None:
        self.args = (path, type)
        self.path = path
        self.type = type
        self.detail = detail

    def __str__(self) -> str:
        text = f"{self.path} ({self.type}) cannot travel between processes"
        return f"{text}: {self.detail}" if self.detail else text


class MailboxFull(OtpError):
    """The mailbox of `server` held its `limit` and had no room for `timeout` seconds."""

    def __init__(self, server: Any = None, limit: int | None = None, timeout: float | None = None) -> None:
        self.args = (server, limit, timeout)
        self.server = server
        self.limit = limit
        self.timeout = timeout

    def __str__(self) -> str:
        who = "the server" if self.server is None else _show(self.server)
        limit = "" if self.limit is None else f" (limit {self.limit})"
        waited = "" if self.timeout is None else f", waited {_seconds(self.timeout)}"
        return f"the mailbox of {who} is full{limit}{waited}; the message was not sent"


class ReceiveTimeout(OtpError, TimeoutError):
    """No message that fits arrived within `timeout` seconds; the others are still queued."""

    def __init__(self, timeout: float | None = None) -> None:
        self.args = (timeout,)
        self.timeout = timeout

    def __str__(self) -> str:
        within = "in time" if self.timeout is None else f"within {_seconds(self.timeout)}"
        return f"no fitting message arrived {within}"


class NotSuspended(OtpError):
    """Code can only be changed in a suspended process, and `server` is running."""

    def __init__(self, server: Any = None) -> None:
        self.args = (server,)
        self.server = server

    def __str__(self) -> str:
        who = "the server" if self.server is None else _show(self.server)
        return f"{who} is not suspended; call system.suspend first"


class UpgradeFailed(OtpError):
    """The new code did not take over, for `reason`; the old code goes on serving."""

    def __init__(self, reason: Any = None) -> None:
        self.args = (reason,)
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"upgrade failed, the old code goes on serving: {_say(self.reason)}"


class CallbackFailed(OtpError):
    """A function given to the server raised, ending in `reason`; its state is unchanged."""

    def __init__(self, reason: Any = None) -> None:
        self.args = (reason,)
        self.reason = reason
        _note_remote_traceback(self, reason)

    def __str__(self) -> str:
        return f"the function failed, the state is unchanged: {_say(self.reason)}"


class RemoteError(OtpError):
    """An exception from another process whose class is not known here.

    `type` is its class as text (`module.Class`), `message` what `str` gave there, `traceback` the
    formatted traceback, empty when it was never raised.
    """

    def __init__(self, type: str, message: str = "", traceback: str = "") -> None:
        self.args = (type, message, traceback)
        self.type = type
        self.message = message
        self.traceback = traceback
        _note_remote_traceback(self, self)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class RuntimeBug(Exception):
    """The library broke a promise of its own. It is our fault, never the program's."""

    def __init__(self, message: str = "") -> None:
        self.args = (message,)
        self.message = message

    def __str__(self) -> str:
        return f"bug in otp_runtime, please report it: {self.message}"


class ExitWith(BaseException):
    """Raise it anywhere in a callback to end the process with `reason`.

    A BaseException, so that `except Exception` in between does not swallow it.
    """

    def __init__(self, reason: Any = "normal") -> None:
        self.args = (reason,)
        self.reason = reason

    def __str__(self) -> str:
        return f"exit with {_say(self.reason)}"


# -- wording ------------------------------------------------------------------------------------


def _note_remote_traceback(error: BaseException, reason: Any) -> None:
    """Add the traceback that `reason` carries, if any, as a note to `error`."""
    text = getattr(reason, "traceback", None)
    if isinstance(text, str) and text:
        error.add_note(f"In the other process:\n{text.rstrip()}")


def _show(value: Any) -> str:
    """Return a `repr` that is short and never raises: an error must always be printable."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def _say(reason: Any) -> str:
    """Return an exit reason for people: `Crash` and its kin speak for themselves."""
    kind = vars(type(reason))
    if "__dataclass_fields__" in kind and "__str__" in kind:
        return str(reason)
    return _show(reason)


def _listed(allowed: Any) -> str:
    if isinstance(allowed, str):
        return allowed
    if isinstance(allowed, (list, tuple)):
        return ", ".join(_show(item) for item in allowed)
    return _show(allowed)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"
