"""GenStateMachine: a server that is in one of several states, each of which handles events in its own way."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import RESERVED, GenServer, Options, SpecOptions, check_constructor
from otp_runtime.process import primitives as process
from otp_runtime.process import starting

if TYPE_CHECKING:
    from types import EllipsisType
    from typing import TypeAlias

    from otp_runtime.behaviours.statem_server import StatemServer
    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.terms.pid import Pid, Ref, ServerRef

    MaybeNone: TypeAlias = Any

CALLBACK_MODES = ("handle_event_function", "state_functions")

# they ask the class for its settings only, so they do for a class that is no GenServer
_start: Any = GenServer.__dict__["_start"].__func__
_child_spec: Any = GenServer.__dict__["child_spec"].__func__


class GenStateMachine:
    """A state machine: subclass it, write callbacks, start it with `start_link` or as a child of a supervisor.

    It runs in an OS process of its own. It has a *state*, which says what it does with an event, and *data*. A callback
    gets an event (its type and its content) and returns a result of `otp_runtime.statem`: where to go, the new data,
    and actions: reply, postpone the event, insert another, set a time-out.

    `callback_mode`: `"handle_event_function"` (default; one `handle_event(event, content, state, data)`, a state is any
    term) or `"state_functions"` (a method for each state, named like it, `(event, content, data)`; a state is a str).
    `state_enter`: whether a callback is also called with the event `"enter"` and the old state when a state is entered.

    >>> from otp_runtime import GenStateMachine, statem
    >>> class Door(GenStateMachine):
    ...     callback_mode = "state_functions"
    ...     def init(self, arg): return statem.Ok("closed", 0)
    ...     def closed(self, event, content, opened):
    ...         match event, content:
    ...             case "cast", "open": return statem.NextState("open", opened + 1)
    ...             case statem.Call(client), _: return statem.KeepStateAndData(statem.Postpone())
    ...     def open(self, event, content, opened):
    ...         match event, content:
    ...             case statem.Call(client), "times": return statem.KeepStateAndData(statem.Reply(client, opened))
    >>> with Door.start_link() as door:
    ...     GenStateMachine.cast(door, "open")
    ...     GenStateMachine.call(door, "times")
    1
    """

    callback_mode: ClassVar[Literal["handle_event_function", "state_functions"]] = "handle_event_function"
    state_enter: ClassVar[bool] = False

    trap_exit: ClassVar[bool] = False
    """As in `GenServer`: only then `terminate` runs at a supervisor's shutdown."""

    restart: ClassVar[Literal["permanent", "transient", "temporary"]] = "permanent"
    shutdown: ClassVar[float | Literal["brutal_kill"] | None] = 5.0
    backoff: ClassVar[Backoff | None] = None
    """How long a supervisor waits before each restart; None: it does not wait."""
    options: ClassVar[Options] = {}
    _mail_is_lost: ClassVar[str] = "a state machine postpones events inside its process, which go with it"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what would break the library's own names, saying what to write instead."""
        super().__init_subclass__(**kwargs)
        advice = 'A state of that name is possible with callback_mode = "handle_event_function"'
        for name in sorted(RESERVED & cls.__dict__.keys()):
            msg = (
                f"{cls.__qualname__}.{name} would hide GenStateMachine.{name}, which the library uses; name it "
                f"otherwise. {advice}"
            )
            raise TypeError(msg)
        for name in ("restart", "shutdown", "backoff", "options", "trap_exit", "state_enter", "callback_mode"):
            if inspect.isfunction(cls.__dict__.get(name)):
                msg = f"{cls.__qualname__}.{name} is a setting of the class, not a method: write {name} = …. {advice}"
                raise TypeError(msg)
        check_constructor(cls, "start_link(arg)")
        if cls.callback_mode not in CALLBACK_MODES:
            allowed = " or ".join(map(repr, CALLBACK_MODES))
            msg = f"{cls.__qualname__}.callback_mode is {cls.callback_mode!r}; allowed: {allowed}"
            raise TypeError(msg)
        if cls.callback_mode == "state_functions" and "handle_event" in cls.__dict__:
            msg = (
                f"{cls.__qualname__} has handle_event, which is not called with callback_mode = 'state_functions'; "
                "remove one of both"
            )
            raise TypeError(msg)

    @classmethod
    def _hosted_server(cls) -> StatemServer:
        from otp_runtime.behaviours.statem_server import serve_with

        return serve_with(cls)

    # -- starting -------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """Start a machine linked to nobody, and wait until its `init` returned. As `GenServer.start`.

        `init(arg)` runs in the new process; its actions and the first enter call run after the starter went on.
        OTP: gen_statem:start/3.
        """
        return _start(cls, arg, name, timeout, dict(options), link=False)

    @classmethod
    def start_link(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """As `start`, linked to the caller. What a child spec calls. OTP: gen_statem:start_link/3."""
        return _start(cls, arg, name, timeout, dict(options), link=True)

    @classmethod
    def start_monitor(
        cls, arg: Any = None, *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> tuple[Pid | MaybeNone, Ref | MaybeNone]:
        """As `start`, monitored from the first instant; gives the pid and the monitor."""
        pid = _start(cls, arg, name, timeout, dict(options), link=False)
        return pid, None if pid is None else process.monitor_started(pid)

    @classmethod
    async def astart(cls, arg: Any = None, **options: Any) -> Pid | MaybeNone:
        """As `start`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start(arg, **options))

    @classmethod
    async def astart_link(cls, arg: Any = None, **options: Any) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start_link(arg, **options))

    @classmethod
    def child_spec(
        cls,
        arg: Any = None,
        *,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: float | Literal["brutal_kill"] | EllipsisType | None = ...,
        significant: bool = False,
        name: Any = None,
        spare: int = 0,
        backoff: Backoff | EllipsisType | None = ...,
        **options: Unpack[SpecOptions],
    ) -> ChildSpec:
        """Say how a supervisor starts this machine. As `GenServer.child_spec`."""
        return _child_spec(  # type: ignore[no-any-return]
            cls,
            arg,
            id=id,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            name=name,
            spare=spare,
            backoff=backoff,
            **options,
        )

    # -- callbacks ------------------------------------------------------------------------------------------

    def init(self, arg: Any, /) -> Any:
        """Give `statem.Ok(state, data, actions)`, `Ignore()` or `Stop(reason)`, in the new process."""
        msg = f"{type(self).__qualname__} has no init: it must return statem.Ok(state, data)"
        raise NotImplementedError(msg)

    def handle_event(self, event: Any, content: Any, state: Any, data: Any, /) -> Any:
        """Handle an event in `callback_mode` "handle_event_function": give a result of `otp_runtime.statem`.

        `event`: `statem.Call(client)`, `"cast"`, `"info"`, `"internal"`, `"timeout"`, `"state_timeout"`,
        `("timeout", name)`, or `"enter"` with the old state as `content`. Default: crash.
        """
        msg = f"{type(self).__qualname__} has no handle_event, and got the event {event!r} {content!r}"
        raise NotImplementedError(msg)

    def code_change(self, old_vsn: Any, state: Any, data: Any, extra: Any, /) -> Any:
        """Convert state and data of older code: give `statem.Ok(state, data)`. Default: keep them."""
        from otp_runtime.core.statem_values import Ok

        return Ok(state, data)

    def format_status(self, status: dict[str, Any], /) -> dict[str, Any]:
        """Redact what reports and `inspect` show. Default: all of it.

        `status` has "state", "data", "message", "reason", and, as lists of pairs, "queue", "postponed", "timeouts".
        """
        return status

    # -- client functions -----------------------------------------------------------------------------------

    @staticmethod
    def call(
        server: ServerRef,
        request: Any,
        timeout: float | None = None,
        *,
        across_restart: bool = False,
        on_timeout: Literal["kill"] | None = None,
    ) -> Any:
        """Send `request` as an event `statem.Call(client)` and wait for the `statem.Reply`.

        As `GenServer.call`, but `timeout` (seconds) defaults to None, for ever, as in OTP: a machine may well postpone
        a call until it is in another state. OTP: gen_statem:call/3.
        """
        return gen.call(server, request, timeout, across_restart=across_restart, on_timeout=on_timeout)

    @staticmethod
    async def acall(server: ServerRef, request: Any, timeout: float | None = None) -> Any:
        """As `call`, in an event loop, without a thread. Cancelling drops the late reply, not the request."""
        return await gen.acall(server, request, timeout)

    cast = staticmethod(GenServer.cast)
    reply = staticmethod(GenServer.reply)
    stop = staticmethod(GenServer.stop)
    astop = staticmethod(GenServer.astop)
    whereis = staticmethod(GenServer.whereis)
    send_request = staticmethod(GenServer.send_request)
    receive_response = staticmethod(GenServer.receive_response)
    wait_response = staticmethod(GenServer.wait_response)
    wait_any = staticmethod(GenServer.wait_any)
    check_response = staticmethod(GenServer.check_response)
    multi_call = staticmethod(GenServer.multi_call)
    abcast = staticmethod(GenServer.abcast)


NO_STATES = frozenset(vars(GenStateMachine)) | {"terminate"}
"""Names that cannot be those of states in the callback mode "state_functions"."""
