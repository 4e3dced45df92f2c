"""Patterns: what `receive`, `Registry.match` and the test helpers select by.

A pattern is one of

- a type: an instance of it fits; a tuple of only types: an instance of any of them;
- a predicate, that is any other callable: fits when it returns something true. One that raises
  `AttributeError`, `TypeError` or `LookupError` does not fit: it was written for another shape;
- a value: an equal one fits. Inside it `...` is anything, `Bind("a")` anything as well, but the
  same in every place that has that name, and a type or predicate is itself compared as a value
  would be. Tuples, lists and dicts fit part by part, and so do dataclass instances and
  `NamedTuple`s, which have to be of the same class.

Equal means `==`, except that a bool is never equal to a number: `True` and `1` are different
terms, `1` and `1.0` are the same.

>>> fits = compile_pattern(("done", ...))
>>> fits(("done", 42)), fits(("failed", 42))
(True, False)
>>> compile_pattern((Bind("a"), Bind("a")))((1, 2))
False
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import EllipsisType
from typing import Any, TypeAlias

__all__ = ["Bind", "Pattern", "bindings_of", "compile_pattern"]

Pattern: TypeAlias = Any
_Bindings: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bind:
    """Anything; but where the same name stands twice, both have to be equal."""

    name: str


def compile_pattern(pattern: Pattern) -> Callable[[Any], bool]:
    """Make a function that says whether a value fits `pattern`.

    The function never raises what a predicate raises for a value of another shape; any other
    exception of a predicate is a mistake in it and comes through.
    """
    match pattern:
        case type():
            return lambda value: isinstance(value, pattern)
        case tuple() if _is_only_types(pattern):
            return lambda value: isinstance(value, pattern)
        case EllipsisType() | Bind():
            return lambda _value: True
        case _ if callable(pattern) and not is_dataclass(pattern):
            return _guarded(pattern)
        case _:
            return lambda value: _fits(pattern, value, {})


def bindings_of(pattern: Pattern, value: object) -> dict[str, Any] | None:
    """Give what each `Bind` of `pattern` stands for in `value`; None when it does not fit."""
    bindings: _Bindings = {}
    if isinstance(pattern, Bind) or not _is_selector(pattern):
        return bindings if _fits(pattern, value, bindings) else None
    return bindings if compile_pattern(pattern)(value) else None


def _guarded(predicate: Callable[[Any], object]) -> Callable[[Any], bool]:
    def fits(value: object) -> bool:
        try:
            return bool(predicate(value))
        except (AttributeError, TypeError, LookupError):
            return False

    return fits


def _is_selector(pattern: object) -> bool:
    """Whether the pattern asks something of the whole value instead of resembling it."""
    if isinstance(pattern, type) or _is_only_types(pattern):
        return True
    return callable(pattern) and not is_dataclass(pattern)


def _is_only_types(pattern: object) -> bool:
    if type(pattern) is not tuple or not pattern:
        return False
    return all(isinstance(part, type) for part in pattern)


def _fits(pattern: object, value: object, bindings: _Bindings) -> bool:
    """Whether `value` resembles `pattern`; `bindings` collects what the names stand for."""
    match pattern:
        case EllipsisType():
            return True
        case Bind(name):
            if name in bindings:
                return _fits(bindings[name], value, {})
            bindings[name] = value
            return True
        case tuple() | list():
            return _fits_sequence(pattern, value, bindings)
        case Mapping():
            return _fits_mapping(pattern, value, bindings)
        case _ if is_dataclass(pattern) and not isinstance(pattern, type):
            return _fits_dataclass(pattern, value, bindings)
        case _:
            return _is_equal(pattern, value)


def _fits_sequence(pattern: tuple[Any, ...] | list[Any], value: object, bindings: _Bindings) -> bool:
    if not isinstance(value, (tuple, list)) or not _is_same_kind(pattern, value):
        return False
    if len(pattern) != len(value):
        return False
    return all(_fits(part, of, bindings) for part, of in zip(pattern, value, strict=True))


def _is_same_kind(pattern: tuple[Any, ...] | list[Any], value: object) -> bool:
    """A plain tuple fits a NamedTuple, a NamedTuple only its own class; no tuple fits a list."""
    if type(pattern) in {tuple, list}:
        return isinstance(value, type(pattern))
    return type(value) is type(pattern)


def _fits_mapping(pattern: Mapping[Any, Any], value: object, bindings: _Bindings) -> bool:
    if not isinstance(value, Mapping) or len(pattern) != len(value):
        return False
    return all(key in value and _fits(part, value[key], bindings) for key, part in pattern.items())


def _fits_dataclass(pattern: object, value: object, bindings: _Bindings) -> bool:
    if type(value) is not type(pattern):
        return False
    names = (field.name for field in fields(pattern) if field.compare)  # type: ignore[arg-type]
    return all(_fits(getattr(pattern, name), getattr(value, name), bindings) for name in names)


def _is_equal(pattern: object, value: object) -> bool:
    if isinstance(pattern, bool) != isinstance(value, bool):
        return False
    try:
        return bool(pattern == value)
    except (TypeError, ValueError):  # an array's `==` has no truth: then it is not this value
        return False
