"""The server's side of typed methods: which marked method a message is for, and what its result means.

A class that has marked methods, or inherits some, gets a `Dispatch` in the place of `handle_call`, `handle_cast` and
(with an `@info` method) `handle_info`. It runs the marked method that a message names and hands everything else to the
callback that it stands in front of: the one written in the same class, else the next one of the class's bases, as
`super()` would. So nothing of the server's loop knows of typed methods, and both styles mix.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any, cast

from otp_runtime.behaviours.returns import Ignore, NoReply, Ok, Reply, Stop
from otp_runtime.behaviours.server_loop import CALLBACKS, label_of
from otp_runtime.behaviours.typed_marks import InfoMark
from otp_runtime.behaviours.typed_methods import CallMethod, InfoMethod, Marked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SETTINGS = ("restart", "shutdown", "options", "trap_exit", "start_link", "child_spec")
_CONTROL = (NoReply, Stop, Reply, Ok, Ignore)


# -- when a class is made ----------------------------------------------------------------------------------


def equip(cls: type) -> None:
    """Check the marked methods of a new class and put the dispatchers where they belong.

    Raises `TypeError`: a mark on a callback or a setting, too few parameters, an unmarked override of a marked
    method, an `@info` without its pattern.
    """
    for name, value in list(cls.__dict__.items()):
        _check(cls, name, value)
    methods = methods_of(cls)
    callbacks = ["handle_call", "handle_cast"]
    if any(method.kind == "info" for method in methods.values()):
        callbacks.append("handle_info")
    for callback in callbacks:
        written = cls.__dict__.get(callback)
        if isinstance(written, Dispatch):
            continue
        if written is not None or not isinstance(inspect.getattr_static(cls, callback), Dispatch):
            setattr(cls, callback, Dispatch(callback, written))


def _check(cls: type, name: str, value: Any) -> None:
    if isinstance(value, InfoMark):
        msg = f"{cls.__qualname__}.{name}: write @info(pattern), e.g. @info(Down); @info(...) takes every message"
        raise TypeError(msg)
    inherited = next((base.__dict__[name] for base in cls.__mro__[1:] if name in base.__dict__), None)
    if not isinstance(value, Marked):
        if isinstance(inherited, Marked):
            msg = (
                f"{cls.__qualname__}.{name} overrides a {inherited.decorator} method, whose clients would not reach it:"
                f" mark it {inherited.decorator} too, or name it otherwise"
            )
            raise TypeError(msg)
        return
    if name in CALLBACKS or name in _SETTINGS:
        msg = f"{cls.__qualname__}.{name} is no name for a {value.decorator} method: the library uses it"
        raise TypeError(msg)
    if isinstance(inherited, Marked) and inherited.kind != value.kind:
        msg = f"{cls.__qualname__}.{name} is a {value.decorator} method and overrides a {inherited.decorator} method"
        raise TypeError(msg)
    if wrong := value.check_shape():
        msg = f"{cls.__qualname__}.{name}: {wrong}"
        raise TypeError(msg)


def methods_of(cls: type) -> dict[str, Marked]:
    """Give the marked methods of a class by name: those of a subclass first, then in the order they stand in."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        for name, value in base.__dict__.items():
            found.setdefault(name, value)
    return {name: value for name, value in found.items() if isinstance(value, Marked)}


# -- when a message comes ----------------------------------------------------------------------------------


class Dispatch:
    """Stands for a callback. Holds nothing but data and the callback it hides, so that a class can be shipped."""

    def __init__(self, callback: str, written: Callable[..., Any] | None) -> None:
        """`written`: what the class itself has under the name of the callback."""
        self.callback = callback
        self.__wrapped__ = written

    def __get__(self, server: Any, owner: type | None = None) -> Any:
        if server is None:
            return self
        is_async = _table(type(server)).is_async
        handle = _HANDLERS[self.callback]
        return (
            functools.partial(_awaited, handle, self, server) if is_async else functools.partial(handle, self, server)
        )

    def __call__(self, server: Any, *args: Any) -> Any:
        """`Base.handle_call(self, request, client, state)`: Python's older form of `super()`."""
        return self.__get__(server)(*args)

    def behind(self, server: Any) -> Callable[..., Any]:
        """Give the callback that this one stands in front of, bound."""
        if self.__wrapped__ is not None:
            return cast("Callable[..., Any]", self.__wrapped__.__get__(server))
        bases = iter(type(server).__mro__)
        for base in bases:
            if base.__dict__.get(self.callback) is self:
                break
        for base in bases:
            if self.callback in base.__dict__:
                return cast("Callable[..., Any]", base.__dict__[self.callback].__get__(server))
        raise AttributeError(self.callback)  # no GenServer: it has all of them

    def pass_on(self, server: Any, message: Any, *rest: Any) -> Any:
        """Give a message that is for no marked method to the callback behind."""
        callback = self.behind(server)
        if _is_request(message) and _is_default(callback):
            raise NotImplementedError(_unknown(server, self.callback.removeprefix("handle_"), message))
        return callback(message, *rest)


class _Table:
    """What a class has marked, looked up once."""

    def __init__(self, cls: type) -> None:
        methods = methods_of(cls)
        self.methods = methods
        self.infos = [method for method in methods.values() if isinstance(method, InfoMethod)]
        self.is_async = any(method.is_async for method in methods.values()) or any(
            inspect.iscoroutinefunction(inspect.unwrap(base.__dict__[callback]))
            for base in cls.__mro__
            for callback in _HANDLERS
            if base.__dict__.get(callback) is not None
        )

    def asked(self, kind: str, request: Any) -> Any:
        """Give the method that a request names, else None."""
        if _is_request(request):
            method = self.methods.get(request[0])
            if method is not None and method.kind == kind:
                return method
        return None


_TABLES: weakref.WeakKeyDictionary[type, _Table] = weakref.WeakKeyDictionary()


def _table(cls: type) -> _Table:
    table = _TABLES.get(cls)
    if table is None:
        table = _TABLES[cls] = _Table(cls)
    return table


def _is_request(request: Any) -> bool:
    return (
        type(request) is tuple
        and len(request) == 3
        and type(request[0]) is str
        and type(request[1]) is tuple
        and type(request[2]) is dict
    )


def _handle_call(dispatch: Dispatch, server: Any, request: Any, client: Any, state: Any, /) -> Any:
    method: CallMethod[..., ..., Any, Any] | None = _table(type(server)).asked("call", request)
    if method is None:
        return dispatch.pass_on(server, request, client, state)
    _name, args, kwargs = request
    if method.takes_client:
        return method.function(server, client, state, *args, **kwargs)
    return method.function(server, state, *args, **kwargs)


def _handle_cast(dispatch: Dispatch, server: Any, request: Any, state: Any, /) -> Any:
    method = _table(type(server)).asked("cast", request)
    if method is None:
        return dispatch.pass_on(server, request, state)
    _name, args, kwargs = request
    return _as_return(method.function(server, state, *args, **kwargs))


def _handle_info(dispatch: Dispatch, server: Any, message: Any, state: Any, /) -> Any:
    for method in _table(type(server)).infos:
        if method.fits(message):
            return _as_return(method.function(server, message, state))
    return dispatch.behind(server)(message, state)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "handle_call": _handle_call,
    "handle_cast": _handle_cast,
    "handle_info": _handle_info,
}


async def _awaited(handle: Callable[..., Any], *args: Any) -> Any:
    """A callback of a class with any `async def` method: the server's loop then is an event loop."""
    result = handle(*args)
    return await result if inspect.isawaitable(result) else result


def _as_return(result: Any) -> Any:
    """Read what a `@cast` or `@info` method gave: a bare value is the new state."""
    if inspect.iscoroutine(result):
        return _as_return_later(result)
    return result if isinstance(result, _CONTROL) else NoReply(result)


async def _as_return_later(coroutine: Any) -> Any:
    return _as_return(await coroutine)


# -- a request that nothing is there for -------------------------------------------------------------------


def _is_default(callback: Any) -> bool:
    from otp_runtime.behaviours.gen_server import GenServer

    return getattr(callback, "__func__", None) in {GenServer.handle_call, GenServer.handle_cast}


def _unknown(server: Any, kind: str, request: Any) -> str:
    methods = methods_of(type(server))
    label = label_of(type(server))
    known = _listed(name for name, method in methods.items() if method.kind == kind)
    said = {"call": "called with", "cast": "cast"}[kind]
    other = methods.get(request[0])
    hint = f"; {request[0]} is marked {other.decorator}" if other is not None else ""
    return f"{label} has no @{kind} method {request[0]!r} (it has {known}{hint}), and was {said} {request!r}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
