"""Class methods that a subclass may override with parameters of its own, to a type checker's satisfaction.

`start_link(cls, path, size)` in a subclass has other parameters than the base class's, as it is meant to. A checker
would refuse that of a method; of an attribute that may as well be `Any` it does not, and still checks every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

if TYPE_CHECKING:

    class Overridable(Generic[P, R_co]):
        """A class method, to a type checker."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
            """Call the class method."""
            ...

    def overridable(method: Callable[Concatenate[Any, P], R_co], /) -> Overridable[P, R_co] | Any:
        """Make a class method that a subclass may override with other parameters."""

else:
    overridable = classmethod
