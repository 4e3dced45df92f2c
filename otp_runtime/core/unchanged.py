"""Which states are the same as before without being encoded: what can never change, and containers of that.

Equality would not do, as `1 == True == 1.0` and they are different states; identity of what can never change does. A
dict that was changed in place has another object under one of its keys, or another key.
"""

from __future__ import annotations

import dataclasses
import enum
from operator import is_
from typing import Any, Final, NamedTuple

from otp_runtime.terms.pid import Pid, Ref

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, Pid, Ref})
_LATE_ATOMS: Final = frozenset(
    {
        "datetime.date",
        "datetime.time",
        "datetime.datetime",
        "datetime.timedelta",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
    }
)
"""By name, as nobody should import these for having a state."""


def is_frozen(value: Any) -> bool:
    """Whether `value` and all in it can never change: the same object is then the same state, unlooked at.

    >>> is_frozen(("apples", 3, frozenset({1}))), is_frozen(("apples", [3]))
    (True, False)
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        cls = type(one)
        if cls in _ATOMS or isinstance(one, enum.Enum):
            continue
        if cls in {tuple, frozenset} or (
            isinstance(one, tuple) and hasattr(cls, "_fields") and not _has_attributes(one)
        ):
            waiting.extend(one)
        elif _is_frozen_dataclass(cls):
            waiting.extend(getattr(one, field.name) for field in dataclasses.fields(cls))
        elif f"{cls.__module__}.{cls.__qualname__}" not in _LATE_ATOMS:
            return False
    return True


def _has_attributes(value: Any) -> bool:
    """Whether an object carries attributes beside what its type holds."""
    return bool(getattr(value, "__dict__", None))


def _is_frozen_dataclass(cls: Any) -> bool:
    parameters = cls.__dict__.get("__dataclass_params__")
    return parameters is not None and bool(parameters.frozen) and cls.__mro__[1:] == (object,)


class Parts(NamedTuple):
    """What a container held when it was looked at: its keys, and under them only what can never change."""

    cls: Any
    keys: tuple[Any, ...]
    values: tuple[Any, ...]


def parts_of(state: Any) -> Parts | None:
    """Take a dict or a list apart, or a dataclass; None when a part of it may change by itself."""
    cls = type(state)
    held = state if cls is dict else _attributes(state)
    if held is not None:
        keys, values = tuple(held), tuple(held.values())
    elif cls is list:
        keys, values = (), tuple(state)
    else:
        return None
    return Parts(cls, keys, values) if is_frozen((keys, values)) else None


def is_same(state: Any, parts: Parts) -> bool:
    """Whether `state` holds the very objects that `parts` names, in the same order.

    >>> state = {"apples": 3}
    >>> parts = parts_of(state)
    >>> is_same(state, parts), is_same({**state, "apples": 3.0}, parts)
    (True, False)
    """
    if type(state) is not parts.cls:
        return False
    if parts.cls is list:
        return len(state) == len(parts.values) and all(map(is_, state, parts.values))
    held = state if parts.cls is dict else vars(state)
    return (
        len(held) == len(parts.keys) and all(map(is_, held.values(), parts.values)) and all(map(is_, held, parts.keys))
    )


def _attributes(state: Any) -> dict[str, Any] | None:
    """Give the attributes of a dataclass that holds nothing but them."""
    cls: Any = type(state)
    is_plain = (
        "__dataclass_params__" in cls.__dict__ and cls.__mro__[1:] == (object,) and "__slots__" not in cls.__dict__
    )
    return vars(state) if is_plain else None


__all__ = ["Parts", "is_frozen", "is_same", "parts_of"]
