"""GenServer: a server process with a state, callbacks that handle messages, and functions that send them."""

from __future__ import annotations

import inspect
import os
from types import EllipsisType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypedDict, Unpack

from otp_runtime.behaviours import gen, server_loop
from otp_runtime.behaviours.overridable import overridable
from otp_runtime.core import keep
from otp_runtime.core import mailbox as mailboxes
from otp_runtime.core.child_spec import ChildSpec, is_seconds
from otp_runtime.core.limits import Limits, check_limits
from otp_runtime.core.names import check_name
from otp_runtime.core.watchdog import Watchdog, check_watchdog
from otp_runtime.errors import BadChildSpec
from otp_runtime.process import boot, ending, starting
from otp_runtime.process import primitives as process
from otp_runtime.process.client import request as client_request
from otp_runtime.process.current import current
from otp_runtime.terms.pid import Global, Pid, Via

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from otp_runtime.behaviours.gen import Client, RequestId, Response
    from otp_runtime.behaviours.returns import Ignore, NoReply, Ok, Reply, Stop
    from otp_runtime.core.backoff import Backoff
    from otp_runtime.terms.pid import Ref, ServerRef

    MaybeNone: TypeAlias = Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from typing_extensions import TypeVar

    S = TypeVar("S", default=Any)
    InitReturn: TypeAlias = S | Ok[S] | Ignore | Stop[S]
    # None is what a `match` ends in that no case fits; the server then ends, as it is meant to
    CallReturn: TypeAlias = Reply[Any, S] | NoReply[S] | Stop[S] | None
    Return: TypeAlias = NoReply[S] | Stop[S] | None
else:
    from typing import TypeVar

    S = TypeVar("S")

RESERVED = frozenset(
    [
        "start",
        "start_monitor",
        "astart",
        "astart_link",
        "call",
        "cast",
        "stop",
        "reply",
        "whereis",
        "acall",
        "astop",
        "send_request",
        "wait_response",
        "receive_response",
        "check_response",
        "wait_any",
        "multi_call",
        "abcast",
        "commit",
    ]
)
OPTIONS = ("overflow", "limits", "watchdog", *keep.OPTIONS, *mailboxes.OPTIONS)
CLASS_OPTIONS: dict[str, Any] = {
    "restore": None,
    "durable": None,
    "max_state_crashes": keep.DEFAULT_STATE_CRASHES,
    "limits": None,
    "watchdog": None,
    "mailbox": mailboxes.TRANSIENT,
    "redeliver": 0,
}
"""Start options that a class may set as attributes, and what they are when it does not."""

SETTINGS = ("restart", "shutdown", "backoff", "options", "trap_exit", *CLASS_OPTIONS, "vsn")
"""Class attributes that are values, not methods."""


class Options(TypedDict, total=False):
    """Start options beyond OTP's."""

    overflow: Literal["block", "drop_newest", "error"]
    restore: keep.Restore
    durable: bool | str | os.PathLike[str] | None
    commit: keep.Commit
    max_state_crashes: int
    record: bool
    limits: Limits | None
    watchdog: Watchdog | None
    mailbox: mailboxes.Mailbox
    redeliver: int


class SpecOptions(Options, total=False):
    """What `child_spec` passes on to `start_link`."""

    timeout: float | None


class GenServer(Generic[S]):
    """A server: subclass it, write callbacks, start it with `start_link` or as a child of a supervisor.

    Every server runs in an OS process of its own. The callbacks run there, one at a time; `self` lives there and
    holds what cannot be sent (sockets, files), while `state` is data that callbacks take and give.

    >>> from otp_runtime import GenServer, NoReply, Reply
    >>> class Counter(GenServer):
    ...     def init(self, start): return start
    ...     def handle_cast(self, request, state): return NoReply(state + 1)
    ...     def handle_call(self, request, client, state): return Reply(state, state)
    >>> with Counter.start_link(41) as counter:
    ...     GenServer.cast(counter, "inc")
    ...     GenServer.call(counter, "val")
    42
    """

    trap_exit: ClassVar[bool] = False
    """Whether exit signals arrive as `Exit` messages; only then `terminate` runs at a supervisor's shutdown."""

    restart: ClassVar[Literal["permanent", "transient", "temporary"]] = "permanent"
    shutdown: ClassVar[float | Literal["brutal_kill"] | None] = 5.0
    backoff: ClassVar[Backoff | None] = None
    """How long a supervisor waits before each restart; None: it does not wait."""
    options: ClassVar[Options] = {}
    _has_defaults: ClassVar[bool] = True
    """Of this class itself: the callbacks that are defined in it are the library's, and no coroutine functions."""
    _has_typed_methods: ClassVar[bool] = False

    restore: ClassVar[keep.Restore | None] = None
    """What a successor starts with: "last_good", "previous" or "fresh" (None: "last_good" where `durable` is set)."""
    durable: ClassVar[bool | str | os.PathLike[str] | None] = None
    max_state_crashes: ClassVar[int] = keep.DEFAULT_STATE_CRASHES
    limits: ClassVar[Limits | None] = None
    """What the server and its subprocesses may use: see `Limits`."""
    watchdog: ClassVar[Watchdog | None] = None
    """How long a callback may take before the server counts as hung and is killed; None: for ever."""
    mailbox: ClassVar[mailboxes.Mailbox] = mailboxes.TRANSIENT
    """Whether what was sent and not yet handled is lost when the server dies, or handled by its successor."""
    redeliver: ClassVar[int] = 0
    """How often the message in hand at a death is tried again; then it is a dead letter."""
    vsn: ClassVar[Any] = None
    """The version of the class: a state that another version kept goes through `code_change`. OTP: -vsn."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what would break the library's own names, saying what to write instead."""
        super().__init_subclass__(**kwargs)
        for name in RESERVED & cls.__dict__.keys():
            msg = (
                f"{cls.__qualname__}.{name} would hide GenServer.{name}, which the library uses; "
                f"name it otherwise, e.g. {name}_it"
            )
            raise TypeError(msg)
        for name in SETTINGS:
            if isinstance(cls.__dict__.get(name), FunctionType):
                msg = f"{cls.__qualname__}.{name} is a setting of the class, not a method: write {name} = …"
                raise TypeError(msg)
        check_constructor(cls, "start_link(arg)")
        if cls._has_typed_methods:
            from otp_runtime.behaviours import typed_dispatch

            typed_dispatch.equip(cls)

    # -- starting -------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """Start a server that is linked to nobody, and wait until its `init` returned.

        `init(arg)` runs in the new process. `name`: a local name (str), `Via(registry, key)` or `Global(name)`, taken
        before `init` runs. `timeout`: seconds that `init` may take (default None: for ever); then it is killed.
        `overflow`: what a sender meets whose message finds no room ("block", "drop_newest", "error"). `restore`,
        `durable`, `commit`, `max_state_crashes`: what of the state outlives a crash; `mailbox`, `redeliver`: whether
        what waits to be handled does; `record`: whether what leads to a crash can be replayed; see the guide. `limits`:
        what it may use, as `Limits(rss_soft="300MB")` (default None: as much as there is). `watchdog`: how long a
        callback may take, as `Watchdog(busy=5.0)` (default: for ever).
        Gives the pid; None when `init` returned `Ignore()`. Raises `AlreadyStarted(pid)` when the name is taken,
        `InitFailed(reason)`, `StartTimeout`, `DurableStateError`, `NoNode`; no process is left then.
        OTP: gen_server:start/3.
        """
        return cls._start(arg, name, timeout, dict(options), link=False)

    @overridable
    def start_link(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """As `start`, linked to the caller. What a child spec calls. OTP: gen_server:start_link/3.

        Called in a program, the server is linked to the program and ends with it.
        """
        return cls._start(arg, name, timeout, dict(options), link=True)

    @classmethod
    def start_monitor(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> tuple[Pid | MaybeNone, Ref | MaybeNone]:
        """As `start`, monitored from the first instant; gives the pid and the monitor."""
        pid = cls._start(arg, name, timeout, dict(options), link=False)
        return pid, None if pid is None else process.monitor_started(pid)

    @classmethod
    def _start(cls, arg: Any, name: Any, timeout: float | None, options: dict[str, Any], *, link: bool) -> Any:
        settings = _settings(cls, options)
        check_any_name(name)
        check_timeout(timeout)
        if boot.take_slot():
            server_loop.serve(cls, arg, name, {**settings, "timeout": timeout})
        return starting.start_job(
            "start",
            server_loop.serve,
            (cls, arg, name, settings),
            {},
            label=server_loop.label_of(cls),
            link=link,
            timeout=timeout,
            name=name if isinstance(name, str) else "",
            shutdown=cls.shutdown if isinstance(cls.shutdown, int | float) else 5.0,
        )

    @classmethod
    async def astart(cls, arg: Any = None, **options: Any) -> Pid | MaybeNone:
        """As `start`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start(arg, **options))

    @classmethod
    async def astart_link(cls, arg: Any = None, **options: Any) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start_link(arg, **options))

    @overridable
    def child_spec(
        cls,
        arg: Any = None,
        *,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: float | Literal["brutal_kill"] | EllipsisType | None = ...,
        significant: bool = False,
        name: Any = None,
        backoff: Backoff | EllipsisType | None = ...,
        spare: int = 0,
        **options: Unpack[SpecOptions],
    ) -> ChildSpec:
        """Say how a supervisor starts this server: `start_link(arg, name=name, **options)`, run in the new process.

        `id` defaults to the local `name`, else to the class's qualified name; `restart`, `shutdown` and
        `backoff` (how long to wait before a restart, see `Backoff`) to the class's. `spare`: processes that the
        supervisor is to keep forked ahead, see `ChildSpec`.
        """
        keywords: dict[str, Any] = dict(options)
        check_any_name(name)
        if name is not None:
            keywords["name"] = name
        _settings(cls, {key: value for key, value in options.items() if key != "timeout"})
        durable = options.get("durable")
        if isinstance(durable, str | os.PathLike):
            keywords["durable"] = _absolute(durable)
        return ChildSpec(
            id=id if id is not None else name if isinstance(name, str) else cls.__qualname__,  # type: ignore[attr-defined]
            start=(cls.start_link, (arg,), keywords),
            restart=cls.restart if restart is None else restart,
            shutdown=cls.shutdown if isinstance(shutdown, EllipsisType) else shutdown,
            significant=significant,
            backoff=cls.backoff if isinstance(backoff, EllipsisType) else backoff,
            spare=spare,
        )

    # -- callbacks ------------------------------------------------------------------------------------------

    def init(self, arg: Any, /) -> InitReturn[S] | Awaitable[InitReturn[S]]:
        """Give the first state, in the new process, before the starter goes on. Default: `arg` is the state."""
        return arg  # type: ignore[no-any-return]

    def handle_call(self, request: Any, client: Client[Any], state: S, /) -> CallReturn[S] | Awaitable[CallReturn[S]]:
        """Handle a `call`. Default: crash, as an unknown request is a bug of the caller's or the server's."""
        msg = f"{server_loop.label_of(type(self))} has no handle_call, and was called with {request!r}"
        raise NotImplementedError(msg)

    def handle_cast(self, request: Any, state: S, /) -> Return[S] | Awaitable[Return[S]]:
        """Handle a `cast`. Default: crash."""
        msg = f"{server_loop.label_of(type(self))} has no handle_cast, and was cast {request!r}"
        raise NotImplementedError(msg)

    def handle_info(self, message: Any, state: S, /) -> Return[S] | Awaitable[Return[S]]:
        """Handle any other message: `Down`, `Exit`, `"timeout"`, what `process.send` sent. Default: warn, drop."""
        import logging

        from otp_runtime.behaviours.returns import NoReply

        logging.getLogger("otp_runtime").warning(
            "%s has no handle_info and dropped the message %r", type(self).__qualname__, message
        )
        return NoReply(state)

    def handle_continue(self, term: Any, state: S, /) -> Return[S] | Awaitable[Return[S]]:
        """Go on after a callback that returned `continue_=term`, before any other message. Default: crash."""
        msg = f"{type(self).__qualname__} has no handle_continue, and returned continue_={term!r}"
        raise NotImplementedError(msg)

    def code_change(self, old_vsn: Any, state: S, extra: Any, /) -> S | Awaitable[S]:
        """Convert a state of older code. Default: keep it."""
        return state

    def format_status(self, status: dict[str, Any], /) -> dict[str, Any]:
        """Redact what reports and `inspect` show: `status` has "state", "message", "reason". Default: all of it."""
        return status

    def restored(self, state: S, /) -> S | Awaitable[S]:
        """Give the state to start with, of the one that was kept, in the place of the one that `init` returned.

        Called after `init`, before `handle_continue` and the first message, only when there is a kept state. It may
        use what `init` opened on `self`, and the other fields of its `Ok` count. Default: the kept state as it is.
        """
        return state

    def commit(self, state: Any) -> None:
        """Keep `state` now, in the middle of a callback, and let go of what the callback has replied until here.

        For servers that were started with `restore` or `durable`; in others, and in `init`, it does nothing. A state
        that cannot be encoded ends the server with `("bad_state", path)`.
        """
        keeper = current().keeper
        if keeper is not None:
            keeper.commit_now(state)

    # -- client functions -----------------------------------------------------------------------------------

    @staticmethod
    def call(
        server: ServerRef,
        request: Any,
        timeout: float | None = 5.0,
        *,
        across_restart: bool = False,
        on_timeout: Literal["kill"] | None = None,
    ) -> Any:
        """Send `request` and wait for the reply; `handle_call` runs in the server.

        `server`: a pid, a local name, `Global(name)`, `Via(registry, key)` or `Remote(name, node)`; a name whose
        process is being restarted is waited for. `timeout` is seconds (default 5.0; None waits for ever) and covers
        everything. Gives the reply. Raises `NoProcess`, `CallTimeout` (a TimeoutError), `ServerDown(reason)`,
        `CallingSelf`, `CodecError` (the request cannot be encoded; nothing was sent). After `CallTimeout` the server
        may still be working; its late reply is dropped by reference. `across_restart=True` sends once more when the
        server died and its name is back, so the request may be handled twice; where its mailbox is durable it waits
        for the successor's answer instead, as the request is still in there. `on_timeout="kill"` kills the server when
        the time is up. OTP: gen_server:call/3.
        """
        if not across_restart and on_timeout is None:
            return client_request(server, request, timeout)
        return gen.call(server, request, timeout, across_restart=across_restart, on_timeout=on_timeout)

    cast = staticmethod(gen.cast)

    @staticmethod
    def reply(client: Client[Any], value: Any) -> None:
        """Answer a call that `handle_call` left open with `NoReply`; from any process. OTP: gen_server:reply/2."""
        gen.reply(client, value)

    @staticmethod
    def stop(
        server: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False
    ) -> None:
        """Ask `server` to end with `reason` and wait until it is gone; its `terminate` runs.

        The request keeps mailbox order. Raises `NoProcess` (unless `missing_ok`), `ServerDown(reason)` when it ended
        of something else, `CallTimeout` after `timeout` seconds (the request stays queued). OTP: gen_server:stop/3.
        """
        ending.stop(server, reason, timeout, missing_ok=missing_ok)

    @staticmethod
    def whereis(server: ServerRef) -> Pid | None:
        """Give the pid that a server reference means now; None when there is none (yet again)."""
        return gen.whereis(server)

    @staticmethod
    async def acall(server: ServerRef, request: Any, timeout: float | None = 5.0) -> Any:
        """As `call`, in an event loop, without a thread. Cancelling drops the late reply, not the request."""
        return await gen.acall(server, request, timeout)

    @staticmethod
    async def astop(server: ServerRef, reason: Any = "normal", timeout: float | None = None) -> None:
        """As `stop`, in an event loop."""
        await ending.astop(server, reason, timeout)

    @staticmethod
    def send_request(server: ServerRef, request: Any) -> RequestId:
        """Send a request as `call` does and go on; the reply is awaited later. OTP: gen_server:send_request/2.

        An unknown server does not raise here: the wait does.
        """
        return gen.send_request(server, request)

    @staticmethod
    def receive_response(rid: RequestId, timeout: float | None = 5.0) -> Any:
        """Wait for the reply to `rid`; raises as `call`. After a time-out the request is abandoned."""
        return gen.receive_response(rid, timeout)

    @staticmethod
    def wait_response(rid: RequestId, timeout: float | None = 5.0) -> Any:
        """As `receive_response`, but after a time-out `rid` stays valid and can be waited for again."""
        return gen.wait_response(rid, timeout)

    @staticmethod
    def wait_any(rids: Iterable[RequestId], timeout: float | None = 5.0) -> tuple[RequestId, Any]:
        """Wait for the first reply to any of `rids`; gives which and what. The others stay valid."""
        return gen.wait_any(rids, timeout)

    @staticmethod
    def check_response(message: Any, rid: RequestId) -> Response[Any] | None:
        """Say whether the reply to `rid` has come, without waiting: `Response(value)`, or None."""
        return gen.check_response(message, rid)

    @staticmethod
    def multi_call(
        nodes: Iterable[str] | None, name: str, request: Any, timeout: float | None = None
    ) -> tuple[list[tuple[str, Any]], list[str]]:
        """Call `name` on each of `nodes` (None: all); gives the replies by node, and the nodes without one."""
        return gen.multi_call(nodes, name, request, timeout)

    @staticmethod
    def abcast(nodes: Iterable[str] | None, name: str, request: Any, timeout: float | None = 5.0) -> None:
        """Cast to `name` on each of `nodes` (None: all connected)."""
        gen.abcast(nodes, name, request, timeout)


def check_constructor(cls: type, start: str) -> None:
    """Refuse a class whose `__init__` needs what the library, which makes the object, does not have."""
    if "__init__" in cls.__dict__ and _required_parameters(cls):
        msg = (
            f"{cls.__qualname__}.__init__ has required parameters, but the library makes the object: "
            f"take them in init(self, arg) and give them to {start}"
        )
        raise TypeError(msg)


def _required_parameters(cls: type) -> bool:
    parameters = list(inspect.signature(cls.__dict__["__init__"]).parameters.values())[1:]
    return any(one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD} for one in parameters)


def _settings(cls: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Give the checked options of a start: those of the class, under those that were given."""
    settings: dict[str, Any] = {}
    if issubclass(cls, GenServer):
        # of a state machine these may be states, and only the options are asked
        for name, default in CLASS_OPTIONS.items():
            value = getattr(cls, name)
            if value != default:
                settings[name] = value
    settings |= cls.options
    settings |= options
    if not settings:
        # most servers: every new process comes here, and each function it calls is a page of memory of its own
        return settings
    check_options(settings)
    if getattr(cls, "_keeps_nothing", False) and (settings.get("record") or keep.keep_of(settings) is not None):
        field = next(field for field in ("record", "restore", "durable") if field in settings)
        raise BadChildSpec(field, settings[field], f"nothing: of a {server_loop.label_of(cls)} no state can be kept")
    why_not = getattr(cls, "_mail_is_lost", "")
    if why_not and mailboxes.is_durable(settings):
        raise BadChildSpec("mailbox", settings["mailbox"], f"'transient': {why_not}")
    if isinstance(settings.get("durable"), str | os.PathLike):
        settings["durable"] = _absolute(settings["durable"])
    return settings


def _absolute(path: str | os.PathLike[str]) -> str:
    """The new process may have another working directory."""
    return os.path.abspath(path)


def check_options(options: dict[str, Any]) -> None:
    """Refuse unknown start options and wrong values of known ones."""
    for key, value in options.items():
        if key not in OPTIONS:
            raise BadChildSpec(key, value, f"one of the options {', '.join(OPTIONS)}")
    keep.check_keep(options)
    check_limits(options)
    check_watchdog(options)
    mailboxes.check_mailbox(options)
    overflow = options.get("overflow", "block")
    if overflow not in {"block", "drop_newest", "error"}:
        raise BadChildSpec("overflow", overflow, "'block', 'drop_newest' or 'error'")


def check_any_name(name: Any) -> None:
    """Refuse what cannot be a name of any kind."""
    if name is None:
        return
    if isinstance(name, str):
        check_name(name)
        return
    if isinstance(name, Via) and not hasattr(name.registry, "register_name"):
        msg = f"{name!r}: a process takes its name in Registry, or in a class with register_name(key, pid)"
        raise TypeError(msg)
    if isinstance(name, Via) and (check_key := getattr(name.registry, "check_key", None)) is not None:
        check_key(name.key)
    if not isinstance(name, Via | Global):
        check_name(name)


def check_timeout(timeout: Any) -> None:
    """Refuse what is no number of seconds."""
    if timeout is not None and not is_seconds(timeout):
        msg = f"timeout is seconds (a number >= 0) or None for ever, not {timeout!r}"
        raise ValueError(msg)
