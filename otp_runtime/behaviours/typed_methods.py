"""A marked method: the client on the class, the implementation on an instance.

    Counter.inc("counter", 2) ──► ("inc", (2,), {}) ──► handle_cast ──► inc(self, state, 2) ──► the new state

The descriptors that stand in the class. What a caller gets from them is in `typed_clients`, who runs the
implementation in the server in `typed_dispatch`, and the marks themselves, with their types, in `typed_marks`.
"""

from __future__ import annotations

import inspect
import types
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from otp_runtime.behaviours.typed_clients import CallClient, CastClient
from otp_runtime.core.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate

S = TypeVar("S")
P = ParamSpec("P")
I = ParamSpec("I")  # noqa: E741 - the implementation's parameters, beside P, the client's
V_co = TypeVar("V_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)


class Marked:
    """A method with a mark. Holds nothing but data and the function, so a class that has it can be shipped."""

    kind: str = ""
    decorator: str = ""
    given: tuple[str, ...] = ("self", "state")
    """What the server gives the method, before the client's arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not isinstance(function, types.FunctionType):
            msg = f"{self.decorator} marks a method, a plain function in the class body, not {function!r}"
            raise TypeError(msg)
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __set_name__(self, owner: Any, name: str) -> None:
        # checked when the class is made, by `typed_dispatch.equip`: an exception here would arrive as RuntimeError
        self.name = name
        owner._has_typed_methods = True  # noqa: SLF001 - told to the class that will look

    def __get__(self, instance: Any, owner: type, /) -> Any:
        return self._on_class(owner) if instance is None else types.MethodType(self.function, instance)

    def _on_class(self, owner: type) -> Any:
        return self

    @cached_property
    def is_async(self) -> bool:
        """Whether the implementation is to be awaited."""
        return inspect.iscoroutinefunction(self.function)

    def __getstate__(self) -> dict[str, Any]:
        """What is computed from the function is computed again."""
        return {key: self.__dict__[key] for key in ("function", "name", "__doc__", "__wrapped__", *self.also_kept)}

    also_kept: tuple[str, ...] = ()

    def check_shape(self) -> str:
        """Say what is wrong with the method's parameters; "" when nothing is."""
        parameters = list(inspect.signature(self.function).parameters.values())
        kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
        leading = [one for one in parameters[: len(self.given)] if one.kind in kinds]
        if len(leading) < len(self.given):
            return f"a {self.decorator} method takes ({', '.join(self.given)}, …)"
        return ""

    @cached_property
    def own_signature(self) -> inspect.Signature:
        """The parameters that the client gives."""
        signature = inspect.signature(self.function)
        own = list(signature.parameters.values())[len(self.given) :]
        return signature.replace(parameters=own, return_annotation=inspect.Signature.empty)

    @cached_property
    def client_signature(self) -> inspect.Signature:
        """The same, behind the server."""
        own = self.own_signature.parameters
        server = inspect.Parameter("server_" if "server" in own else "server", inspect.Parameter.POSITIONAL_ONLY)
        return self.own_signature.replace(parameters=[server, *own.values()])

    @cached_property
    def _arity(self) -> tuple[int, int]:
        """How few and how many positional arguments are right whatever they are; (1, 0) when that says too little."""
        fewest = most = 0
        for one in self.own_signature.parameters.values():
            if one.kind is one.VAR_POSITIONAL:
                most = 1_000_000
            elif one.kind is one.KEYWORD_ONLY and one.default is one.empty:
                return 1, 0
            elif one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}:
                most += 1
                fewest += one.default is one.empty
        return fewest, most

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Say whether arguments certainly fit: the common case, without binding them."""
        fewest, most = self._arity
        return not kwargs and fewest <= len(args) <= most


class CallMethod(Marked, Generic[I, P, V_co, R_co]):
    """A method marked `@call`."""

    kind = "call"
    decorator = "@call"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type, /) -> CallClient[P, V_co]: ...
        @overload
        def __get__(self, instance: object, owner: type, /) -> Callable[I, R_co]: ...
        def __get__(self, instance: Any, owner: type, /) -> Any: ...

    def _on_class(self, owner: type) -> Any:
        return CallClient(self, owner)

    @property
    def takes_client(self) -> bool:
        """Whether the implementation is given the client, to answer later."""
        return False


class LaterMethod(CallMethod[I, P, V_co, R_co]):
    """A method marked `@call.later`."""

    decorator = "@call.later"
    given = ("self", "client", "state")

    @property
    def takes_client(self) -> bool:
        """It is given the client."""
        return True


class CastMethod(Marked, Generic[S, P, R_co]):
    """A method marked `@cast`."""

    kind = "cast"
    decorator = "@cast"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type, /) -> CastClient[P]: ...
        @overload
        def __get__(self, instance: object, owner: type, /) -> Callable[Concatenate[S, P], R_co]: ...
        def __get__(self, instance: Any, owner: type, /) -> Any: ...

    def _on_class(self, owner: type) -> Any:
        return CastClient(self, owner)


class InfoMethod(Marked, Generic[M_contra, S, R_co]):
    """A method marked `@info(pattern)`; it has no client, as `process.send` sends any message."""

    kind = "info"
    decorator = "@info(pattern)"
    given = ("self", "message", "state")
    also_kept = ("pattern",)

    def __init__(self, function: Callable[..., Any], pattern: Any) -> None:
        super().__init__(function)
        self.pattern = pattern

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type, /) -> InfoMethod[M_contra, S, R_co]: ...
        @overload
        def __get__(self, instance: object, owner: type, /) -> Callable[[M_contra, S], R_co]: ...
        def __get__(self, instance: Any, owner: type, /) -> Any: ...

    @cached_property
    def fits(self) -> Callable[[Any], bool]:
        """Say whether a message is for this method."""
        return compile_pattern(self.pattern)
