"""What `Class.method` is when the method is marked: a function of the server and the method's own arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from otp_runtime.behaviours import gen
from otp_runtime.core.child_spec import is_seconds
from otp_runtime.errors import CallTimeout, ServerDown
from otp_runtime.host import poller
from otp_runtime.process import primitives as process

if TYPE_CHECKING:
    import inspect
    import types

    from otp_runtime.behaviours.typed_methods import Marked
    from otp_runtime.terms.pid import ServerRef

P = ParamSpec("P")
V_co = TypeVar("V_co", covariant=True)


class _Client:
    """What `Class.method` is: a function of the server and the method's own arguments."""

    __slots__ = ("_method", "_owner", "_settings")

    def __init__(self, method: Marked, owner: type, settings: dict[str, Any] | None = None) -> None:
        self._method = method
        self._owner = owner
        self._settings: dict[str, Any] = {"timeout": 5.0} if settings is None else settings

    @property
    def __name__(self) -> str:
        return self._method.name

    @property
    def __signature__(self) -> inspect.Signature:
        return self._method.client_signature

    def __repr__(self) -> str:
        return f"<client {self._label()}{self.__signature__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _find_client, (self._owner, self._method.name, self._settings)

    def _label(self) -> str:
        return f"{self._owner.__qualname__}.{self._method.name}"

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Give what goes over the wire; what does not fit the method's signature is refused here, in the caller."""
        if not self._method.takes(args, kwargs):
            try:
                self._method.own_signature.bind(*args, **kwargs)
            except TypeError as error:
                msg = f"{self._label()}{self.__signature__}: {error}"
                raise TypeError(msg) from None
        return self._method.name, args, kwargs

    def _with(self, **settings: Any) -> Any:
        given = {key: value for key, value in settings.items() if value is not ...}
        if not is_seconds(given.get("timeout", 0)) and given["timeout"] is not None:
            msg = f"timeout is seconds (a number >= 0) or None for ever, not {given['timeout']!r}"
            raise ValueError(msg)
        if given.get("on_timeout") not in {None, "kill"}:
            msg = f"on_timeout is None or 'kill', not {given['on_timeout']!r}"
            raise ValueError(msg)
        return type(self)(self._method, self._owner, {**self._settings, **given})


def _find_client(owner: type, name: str, settings: dict[str, Any]) -> Any:
    """Make a client again that was sent to another process."""
    return getattr(owner, name).options(**settings)


class CallClient(_Client, Generic[P, V_co]):
    """The client of a `@call` method: `Counter.val("counter")` sends a call and gives the reply."""

    __slots__ = ()

    def __call__(self, server: ServerRef, /, *args: P.args, **kwargs: P.kwargs) -> V_co:
        """Call `server` and give the reply; the method runs there. Raises as `GenServer.call`.

        `TypeError`, before anything is sent, when the arguments do not fit the method's signature.
        """
        return gen.call(server, self._request(args, kwargs), **self._settings)  # type: ignore[no-any-return]

    async def acall(self, server: ServerRef, /, *args: P.args, **kwargs: P.kwargs) -> V_co:
        """As the call itself, in an event loop, without a thread: `GenServer.acall`."""
        request = self._request(args, kwargs)
        timeout = self._settings["timeout"]
        deadline = None if timeout is None else poller.now() + timeout
        try:
            return await gen.acall(server, request, timeout)  # type: ignore[no-any-return]
        except CallTimeout:
            if self._settings.get("on_timeout") == "kill" and (pid := gen.whereis(server)) is not None:
                process.exit(pid, "kill")
            raise
        except ServerDown:
            if not self._settings.get("across_restart"):
                raise
        left = None if deadline is None else max(0.0, deadline - poller.now())
        return await gen.acall(server, request, left)  # type: ignore[no-any-return]

    def options(
        self,
        *,
        timeout: float | types.EllipsisType | None = ...,
        across_restart: bool | types.EllipsisType = ...,
        on_timeout: Literal["kill"] | types.EllipsisType | None = ...,
    ) -> CallClient[P, V_co]:
        """Give this client with other options of `GenServer.call`; those left out stay as they are."""
        return self._with(  # type: ignore[no-any-return]
            timeout=timeout, across_restart=across_restart, on_timeout=on_timeout
        )


class CastClient(_Client, Generic[P]):
    """The client of a `@cast` method: `Counter.inc("counter", 2)` sends a cast and goes on."""

    __slots__ = ()

    def __call__(self, server: ServerRef, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Cast to `server`; the method runs there, some time. Raises as `GenServer.cast`.

        `TypeError`, before anything is sent, when the arguments do not fit the method's signature.
        """
        gen.cast(server, self._request(args, kwargs), **self._settings)

    def options(self, *, timeout: float | types.EllipsisType | None = ...) -> CastClient[P]:
        """Give this client with another `timeout`: seconds to wait for room in a full mailbox."""
        return self._with(timeout=timeout)  # type: ignore[no-any-return]
