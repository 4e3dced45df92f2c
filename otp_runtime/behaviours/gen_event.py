"""GenEvent: an event manager, a process to which handlers are added that all see its events (OTP's gen_event)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer, Options, SpecOptions, check_constructor
from otp_runtime.process import ending
from otp_runtime.process import primitives as process

if TYPE_CHECKING:
    from types import EllipsisType

    from otp_runtime.behaviours.gen import RequestId
    from otp_runtime.behaviours.returns import NoReply, Ok, Reply, Stop
    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.terms.pid import Pid, Ref, ServerRef

    MaybeNone: TypeAlias = Any
    Handler: TypeAlias = "type[EventHandler] | tuple[type[EventHandler], Any]"


@dataclass(slots=True, unsafe_hash=True)
class RemoveHandler:
    """From a handler's callback: remove me; `terminate("remove_handler", state)` runs. `reply`: to `GenEvent.call`."""

    reply: Any = None


@dataclass(slots=True, unsafe_hash=True)
class SwapHandler:
    """From a handler's callback: put another handler in my place.

    `terminate(arg, state)` runs, and the new handler's `init((new_arg, what terminate returned))`. `handler`: a class,
    or `(class, id)`. `reply`: to a `GenEvent.call`.
    """

    arg: Any
    state: Any
    handler: Any
    new_arg: Any = None
    reply: Any = None


CALLBACKS = ("init", "handle_event", "handle_call", "handle_info", "terminate", "code_change", "format_status")


class EventHandler:
    """What is done with events: subclass it, and add the class to an event manager.

    All handlers of a manager run in its process, one after the other, the newest first. `self` lives there and holds
    what cannot be sent; `state` is data. A handler that raises, or returns what it may not, is removed and reported;
    the manager and the other handlers live on.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what cannot work: coroutines, and objects that need more than the library gives."""
        super().__init_subclass__(**kwargs)
        for name in CALLBACKS:
            if inspect.iscoroutinefunction(cls.__dict__.get(name)):
                msg = (
                    f"{cls.__qualname__}.{name} is `async def`, but the handlers of an event manager share one process "
                    "and run one after the other: write `def`, and cast what may take long to a server"
                )
                raise TypeError(msg)
        check_constructor(cls, "add_handler(manager, handler, arg)")

    def init(self, arg: Any, /) -> Any | Ok[Any] | Stop[Any]:
        """Give the first state, or `Ok(state, hibernate=True)`; `Stop(reason)` refuses. Default: `arg`.

        After a swap `arg` is a pair: what the swap gave, and what the old handler's `terminate` returned.
        """
        return arg

    def handle_event(self, event: Any, state: Any, /) -> NoReply[Any] | RemoveHandler | SwapHandler:
        """Handle what `notify` and `sync_notify` brought: `NoReply(state)` goes on. Default: crash."""
        msg = f"{type(self).__qualname__} has no handle_event, and was notified of {event!r}"
        raise NotImplementedError(msg)

    def handle_call(self, request: Any, state: Any, /) -> Reply[Any, Any] | RemoveHandler | SwapHandler:
        """Answer a `GenEvent.call`: `Reply(value, state)`, `Reply.error(exception, state)`. Default: crash."""
        msg = f"{type(self).__qualname__} has no handle_call, and was called with {request!r}"
        raise NotImplementedError(msg)

    def handle_info(self, message: Any, state: Any, /) -> NoReply[Any] | RemoveHandler | SwapHandler:
        """Handle any other message that the manager got. As `handle_event`. Default: warn, drop."""
        import logging

        from otp_runtime.behaviours.returns import NoReply

        logging.getLogger("otp_runtime").warning(
            "%s has no handle_info and dropped the message %r", type(self).__qualname__, message
        )
        return NoReply(state)

    def terminate(self, arg: Any, state: Any, /) -> Any:
        """Clean up; what it returns is given to `delete_handler`'s caller, or to the handler swapped in.

        `arg`: what `delete_handler` or a swap gave; `"remove_handler"`; `("stop", reason)` when the process that
        supervised the handler ended; `("error", reason)` after a fault of this handler; `"stop"` when the manager ends.
        """
        return None

    def code_change(self, old_vsn: Any, state: Any, extra: Any, /) -> Any:
        """Convert a state of older code. Default: keep it."""
        return state

    def format_status(self, status: dict[str, Any], /) -> dict[str, Any]:
        """Redact what reports and `inspect` show: `status` has "state", "message", "reason". Default: all of it."""
        return status


class GenEvent:
    """An event manager. Everybody notifies it; what then happens is up to the handlers that were added.

    >>> from otp_runtime import EventHandler, GenEvent, NoReply, Reply
    >>> class Counter(EventHandler):
    ...     def init(self, start): return start
    ...     def handle_event(self, event, count): return NoReply(count + 1)
    ...     def handle_call(self, request, count): return Reply(count, count)
    >>> with GenEvent.start_link() as manager:
    ...     GenEvent.add_handler(manager, Counter, 0)
    ...     GenEvent.notify(manager, "something")
    ...     GenEvent.call(manager, Counter, "how many")
    1

    `handler`, everywhere: a subclass of `EventHandler`, or `(class, id)` to have several of one class. `manager` is a
    server reference. Functions raise as `GenServer.call` when there is no manager or it dies.
    """

    # -- starting -------------------------------------------------------------------------------------------

    @staticmethod
    def start(*, name: Any = None, timeout: float | None = None, **options: Unpack[Options]) -> Pid | MaybeNone:
        """Start a manager without handlers, linked to nobody. Raises `AlreadyStarted`. OTP: gen_event:start/1."""
        return _server().start(name=name, timeout=timeout, **options)

    @staticmethod
    def start_link(*, name: Any = None, timeout: float | None = None, **options: Unpack[Options]) -> Pid | MaybeNone:
        """As `start`, linked to the caller. What a child spec calls."""
        return _server().start_link(name=name, timeout=timeout, **options)

    @staticmethod
    def start_monitor(
        *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> tuple[Pid | MaybeNone, Ref | MaybeNone]:
        """As `start`, monitored from the first instant."""
        return _server().start_monitor(name=name, timeout=timeout, **options)  # type: ignore[no-any-return]

    @staticmethod
    def child_spec(
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
        """Say how a supervisor starts a manager. `id` defaults to the local `name`, else "GenEvent".

        A manager that is restarted has no handlers: let those who added them add them again, or add them from a server
        under the same supervisor (`rest_for_one`) with `add_sup_handler`.
        """
        if id is None:
            id = name if isinstance(name, str) else "GenEvent"
        return _server().child_spec(  # type: ignore[no-any-return]
            id=id,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            name=name,
            backoff=backoff,
            spare=spare,
            **options,
        )

    @staticmethod
    def stop(
        manager: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False
    ) -> None:
        """Stop the manager and wait until it is gone; `terminate("stop", state)` of every handler runs first."""
        ending.stop(manager, reason, timeout, missing_ok=missing_ok)

    # -- events ---------------------------------------------------------------------------------------------

    @staticmethod
    def notify(manager: ServerRef, event: Any, timeout: float | None = 5.0) -> None:
        """Send `event` to all handlers and go on. As `GenServer.cast`. OTP: gen_event:notify/2."""
        gen.cast(manager, ("notify", event), timeout)

    @staticmethod
    def sync_notify(manager: ServerRef, event: Any, timeout: float | None = None) -> None:
        """Send `event` to all handlers and wait until all have handled it. OTP: gen_event:sync_notify/2."""
        gen.call(manager, ("sync_notify", event), timeout)

    @staticmethod
    def call(manager: ServerRef, handler: Handler, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask one handler; its `handle_call` runs.

        Raises `NoHandler(handler)`; `HandlerFailed(handler, reason)` when it failed, which also removed it.
        OTP: gen_event:call/4.
        """
        return gen.call(manager, ("call", _checked(handler), request), timeout)

    @staticmethod
    async def acall(manager: ServerRef, handler: Handler, request: Any, timeout: float | None = 5.0) -> Any:
        """As `call`, in an event loop, without a thread."""
        return await gen.acall(manager, ("call", _checked(handler), request), timeout)

    @staticmethod
    def send_request(manager: ServerRef, handler: Handler, request: Any) -> RequestId:
        """Ask one handler and go on; the reply is awaited later, as one to `GenServer.send_request`."""
        return gen.send_request(manager, ("call", _checked(handler), request))

    receive_response = staticmethod(GenServer.receive_response)
    wait_response = staticmethod(GenServer.wait_response)
    wait_any = staticmethod(GenServer.wait_any)
    check_response = staticmethod(GenServer.check_response)
    whereis = staticmethod(GenServer.whereis)

    # -- handlers -------------------------------------------------------------------------------------------

    @staticmethod
    def add_handler(manager: ServerRef, handler: Handler, arg: Any = None) -> None:
        """Add a handler; its `init(arg)` runs in the manager. It sees events before the handlers that are there.

        Raises `HandlerFailed(handler, reason)` when `init` raised or returned `Stop(reason)`. As in OTP nothing
        forbids adding the same handler twice. OTP: gen_event:add_handler/3.
        """
        gen.call(manager, ("add_handler", _checked(handler), arg, None), None)

    @staticmethod
    def add_sup_handler(manager: ServerRef, handler: Handler, arg: Any = None) -> None:
        """As `add_handler`, and tie the handler to the calling process, by a link between it and the manager.

        When this process ends, the handler is removed: `terminate(("stop", reason), state)` runs. When the handler is
        removed, this process gets the message `("gen_event_EXIT", handler, reason)`: `"normal"` (deleted, or by its
        own wish), `"shutdown"` (the manager ends in order), `("swapped", new_handler, pid or None)`, or the reason of
        its fault. OTP: gen_event:add_sup_handler/3.
        """
        gen.call(manager, ("add_handler", _checked(handler), arg, process.self()), None)

    @staticmethod
    def delete_handler(manager: ServerRef, handler: Handler, arg: Any = None) -> Any:
        """Remove a handler: `terminate(arg, state)` runs. Gives what that returned.

        Raises `NoHandler(handler)`; `HandlerFailed` when `terminate` raised: the handler is removed all the same.
        OTP: gen_event:delete_handler/3.
        """
        return gen.call(manager, ("delete_handler", _checked(handler), arg), None)

    @staticmethod
    def swap_handler(manager: ServerRef, old: tuple[Handler, Any], new: tuple[Handler, Any]) -> None:
        """Replace a handler: `old` is `(handler, arg)`, `new` is `(handler, new_arg)`.

        `terminate(arg, state)` of the old runs, then `init((new_arg, value))` of the new, with what `terminate`
        returned as `value`: `"error"` when there was no such handler, its `Crash` when it raised. A supervised handler
        stays supervised. Raises `HandlerFailed` when the new `init` failed: the old one is gone then.
        OTP: gen_event:swap_handler/3.
        """
        gen.call(manager, ("swap_handler", *_pair(old, "old"), *_pair(new, "new"), None), None)

    @staticmethod
    def swap_sup_handler(manager: ServerRef, old: tuple[Handler, Any], new: tuple[Handler, Any]) -> None:
        """As `swap_handler`; the new handler is tied to the calling process, as by `add_sup_handler`."""
        gen.call(manager, ("swap_handler", *_pair(old, "old"), *_pair(new, "new"), process.self()), None)

    @staticmethod
    def which_handlers(manager: ServerRef) -> list[Any]:
        """List the handlers, in the order in which they see an event: the newest first."""
        return gen.call(manager, "which_handlers", None)  # type: ignore[no-any-return]


def _server() -> Any:
    from otp_runtime.behaviours.event_manager import EventManager

    return EventManager


def _checked(handler: Any) -> Any:
    """Refuse what names no handler."""
    cls = handler[0] if isinstance(handler, tuple) and len(handler) == 2 else handler
    if isinstance(cls, type) and issubclass(cls, EventHandler):
        return handler
    msg = f"a handler is a subclass of EventHandler, or (class, id); not {handler!r}"
    raise TypeError(msg)


def _pair(pair: Any, which: str) -> tuple[Any, Any]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        msg = f"{which} is a pair (handler, arg), not {pair!r}"
        raise TypeError(msg)
    return _checked(pair[0]), pair[1]
