"""The marks `@call`, `@call.later`, `@cast` and `@info`, and what a type checker makes of them.

Each is overloaded by what the method returns, so that both ends are exact: the client's value on the class, and on an
instance what the implementation returns, which is what `super().method(...)` needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from otp_runtime.behaviours.typed_methods import CallMethod, CastMethod, InfoMethod, LaterMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Concatenate

    from otp_runtime.behaviours.returns import NoReply, Reply, Stop
    from otp_runtime.process.client import Client

S = TypeVar("S")
V = TypeVar("V")
M = TypeVar("M")
N = TypeVar("N")
P = ParamSpec("P")


class _Call:
    """Mark a method as the answer to a call: `(self, state, *args)` gives `Reply(value, state)` or `Stop(…)`.

    On the class it is the client, `Counter.val(server, *args)`, with `.options(timeout=, across_restart=,
    on_timeout=)` and `.acall`; on an instance the implementation. `async def` is allowed. The request on the wire is
    `(name, args, kwargs)`.

    >>> from otp_runtime import GenServer, Reply
    >>> from otp_runtime.typed import call, cast
    >>> class Counter(GenServer[int]):
    ...     def init(self, start: int) -> int: return start
    ...     @cast
    ...     def inc(self, state: int, by: int = 1) -> int: return state + by
    ...     @call
    ...     def val(self, state: int) -> Reply[int, int]: return Reply(state, state)
    >>> with Counter.start_link(40) as counter:
    ...     Counter.inc(counter, by=2)
    ...     Counter.val(counter)
    42
    """

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, S, P], Reply[V, S]], /
    ) -> CallMethod[Concatenate[S, P], P, V, Reply[V, S]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, S, P], Reply[V, S] | Stop[S]], /
    ) -> CallMethod[Concatenate[S, P], P, V, Reply[V, S] | Stop[S]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, S, P], Coroutine[Any, Any, Reply[V, S]]], /
    ) -> CallMethod[Concatenate[S, P], P, V, Coroutine[Any, Any, Reply[V, S]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, S, P], Coroutine[Any, Any, Reply[V, S] | Stop[S]]], /
    ) -> CallMethod[Concatenate[S, P], P, V, Coroutine[Any, Any, Reply[V, S] | Stop[S]]]: ...

    def __call__(self, function: Any, /) -> Any:
        """Mark a method as the answer to a call: see the class."""
        return CallMethod(function)

    @overload
    def later(
        self, function: Callable[Concatenate[Any, Client[V], S, P], NoReply[S]], /
    ) -> CallMethod[Concatenate[Client[V], S, P], P, V, NoReply[S]]: ...
    @overload
    def later(
        self, function: Callable[Concatenate[Any, Client[V], S, P], Reply[V, S] | NoReply[S] | Stop[S]], /
    ) -> CallMethod[Concatenate[Client[V], S, P], P, V, Reply[V, S] | NoReply[S] | Stop[S]]: ...
    @overload
    def later(
        self, function: Callable[Concatenate[Any, Client[V], S, P], Coroutine[Any, Any, NoReply[S]]], /
    ) -> CallMethod[Concatenate[Client[V], S, P], P, V, Coroutine[Any, Any, NoReply[S]]]: ...
    @overload
    def later(
        self,
        function: Callable[Concatenate[Any, Client[V], S, P], Coroutine[Any, Any, Reply[V, S] | NoReply[S] | Stop[S]]],
        /,
    ) -> CallMethod[Concatenate[Client[V], S, P], P, V, Coroutine[Any, Any, Reply[V, S] | NoReply[S] | Stop[S]]]: ...

    def later(self, function: Any, /) -> Any:
        """Mark a method that may answer later: `(self, client, state, *args)` gives `NoReply(state)`.

        Whoever has `client`, a `Client[V]`, answers with `GenServer.reply(client, value)`, from any process.
        """
        return LaterMethod(function)

    def __repr__(self) -> str:
        return "<typed.call>"


call = _Call()


@overload
def cast(
    function: Callable[Concatenate[Any, S, P], Coroutine[Any, Any, S]], /
) -> CastMethod[S, P, Coroutine[Any, Any, S]]: ...
@overload
def cast(
    function: Callable[Concatenate[Any, S, P], Coroutine[Any, Any, S | NoReply[S] | Stop[S]]], /
) -> CastMethod[S, P, Coroutine[Any, Any, S | NoReply[S] | Stop[S]]]: ...
@overload
def cast(function: Callable[Concatenate[Any, S, P], S], /) -> CastMethod[S, P, S]: ...
@overload
def cast(function: Callable[Concatenate[Any, S, P], NoReply[S]], /) -> CastMethod[S, P, NoReply[S]]: ...
@overload
def cast(
    function: Callable[Concatenate[Any, S, P], S | NoReply[S] | Stop[S]], /
) -> CastMethod[S, P, S | NoReply[S] | Stop[S]]: ...


def cast(function: Any, /) -> Any:
    """Mark a method as what a cast does: `(self, state, *args)` gives the new state, `NoReply(…)` or `Stop(…)`.

    On the class it is the client, `Counter.inc(server, *args)`, which gives None at once, with
    `.options(timeout=)`; on an instance the implementation. `async def` is allowed. See `call`.
    """
    return CastMethod(function)


class InfoMark(Generic[M]):
    """`@info(pattern)`, before it meets its method."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def __set_name__(self, owner: Any, name: str) -> None:
        # it stands in a class, so it met no method: written without its pattern; `typed_dispatch.equip` says so
        owner._has_typed_methods = True  # noqa: SLF001 - told to the class that will look

    @overload
    def __call__(
        self, function: Callable[[Any, M, S], Coroutine[Any, Any, S]], /
    ) -> InfoMethod[M, S, Coroutine[Any, Any, S]]: ...
    @overload
    def __call__(
        self, function: Callable[[Any, M, S], Coroutine[Any, Any, S | NoReply[S] | Stop[S]]], /
    ) -> InfoMethod[M, S, Coroutine[Any, Any, S | NoReply[S] | Stop[S]]]: ...
    @overload
    def __call__(self, function: Callable[[Any, M, S], S], /) -> InfoMethod[M, S, S]: ...
    @overload
    def __call__(self, function: Callable[[Any, M, S], NoReply[S]], /) -> InfoMethod[M, S, NoReply[S]]: ...
    @overload
    def __call__(
        self, function: Callable[[Any, M, S], S | NoReply[S] | Stop[S]], /
    ) -> InfoMethod[M, S, S | NoReply[S] | Stop[S]]: ...

    def __call__(self, function: Any, /) -> Any:
        """Mark the method."""
        return InfoMethod(function, self._pattern)


@overload
def info(pattern: type[M], /) -> InfoMark[M]: ...
@overload
def info(pattern: tuple[type[M], type[N]], /) -> InfoMark[M | N]: ...
@overload
def info(pattern: Any, /) -> InfoMark[Any]: ...


def info(pattern: Any, /) -> Any:
    """Mark a method for messages that fit `pattern`: `(self, message, state)` gives what a `@cast` method does.

    `pattern` is one as everywhere: a type (`@info(Down)`), a tuple of types, a predicate, or a value with `...`
    inside (`@info("timeout")`, `@info(("done", ...))`); `@info(...)` takes every message. The first method that
    fits is run, those of a subclass first, then in the order in which they stand in the class; what fits none
    goes to `handle_info`. On the class it is the mark itself: any message is sent with `process.send`.
    """
    return InfoMark(pattern)
