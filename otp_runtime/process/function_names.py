"""Functions by name, and the list of those that a node runs for others: code never crosses nodes, its name does.

A name is "module:qualname", of what another process finds by importing the module: "shop.reports:daily",
"shop.carts:Cart.start_link". What a node allows is given to `Node.start(..., erpc=(…))`, and only there.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from otp_runtime.errors import NotAllowed

_PART = r"[^\W\d]\w*"
_NAME: Final = re.compile(rf"{_PART}(\.{_PART})*:{_PART}(\.{_PART})*")
_MAINS: Final = ("__main__", "__mp_main__")


@dataclass(frozen=True, slots=True)
class Named:
    """Stands where a function or a class is an argument: in a child spec that goes to another node."""

    name: str


def name_of(function: Any) -> str:
    """Give the name of a function, or of a class, that can be imported; a text is one already.

    Raises TypeError for what is none, ValueError for a lambda, for what a function made, and for what is a script's.
    """
    if isinstance(function, str):
        return _checked(function)
    module: Any
    qualname: Any
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and hasattr(function, "__name__"):
        module, qualname = owner.__module__, f"{owner.__qualname__}.{function.__name__}"
    else:
        module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not callable(function) or not isinstance(module, str) or not isinstance(qualname, str):
        msg = f"a function that runs on another node is given as itself or as 'module:function', not {function!r}"
        raise TypeError(msg)
    if module in _MAINS or _find(sys.modules.get(module), qualname) != function:
        msg = (
            f"{function!r} cannot be imported by another node: functions do not cross nodes, only their names do. "
            "Put it into a module that both have (no lambda, nothing that a function made, nothing of the main script)"
        )
        raise ValueError(msg)
    return f"{module}:{qualname}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.partition(":")[0] in _MAINS:
        msg = f"a function of another node is named 'module:function', as 'shop.reports:daily', not {name!r}"
        raise ValueError(msg)
    return name


def names_of(functions: Any) -> tuple[str, ...]:
    """Give the names of all that a node is to allow. Raises TypeError, ValueError."""
    if isinstance(functions, str) or not isinstance(functions, Iterable):
        msg = f"erpc is the functions that other nodes may run here, as ('shop.reports:daily',), not {functions!r}"
        raise TypeError(msg)
    return tuple(sorted({name_of(one) for one in functions}))


def is_allowed(allowed: Iterable[str], name: str) -> bool:
    """Say whether a name is in a list; a class that is allows its `start_link`.

    >>> is_allowed({"shop:Cart"}, "shop:Cart.start_link")
    True
    """
    return name in allowed or (name.endswith(".start_link") and name.removesuffix(".start_link") in allowed)


def find(name: str, allowed: Iterable[str], node: str) -> Callable[..., Any]:
    """Give what a name means in this process, importing its module. Raises `NotAllowed`, and what the import raises."""
    if not is_allowed(allowed, name):
        raise NotAllowed(name, node)
    module, _, qualname = _checked(name).partition(":")
    found = _find(importlib.import_module(module), qualname)
    if callable(found):
        return found  # type: ignore[no-any-return]
    msg = f"{node} allows {name}, but there is no such function: {module} has no {qualname}"
    raise LookupError(msg)


def _find(found: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
