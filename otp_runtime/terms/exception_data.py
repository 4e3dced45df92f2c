"""Exceptions as data: an exception always arrives, whatever its class does.

Pickle makes an exception by calling its class with `args`; where `__init__` wants something else,
that fails in the *receiver*. Here its parts travel (class, `args`, attributes, cause, traceback as
text), and it is put together without the class's `__init__`. When the class cannot be found, a
`RemoteError` with type, message and traceback takes its place.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, TypeGuard

from msgpack import ExtType

from otp_runtime.errors import RemoteError
from otp_runtime.terms.classes import set_state, state_of, static_base
from otp_runtime.terms.extensions import CODE, TUPLE
from otp_runtime.terms.reason import cut_middle, message_of, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXCEPTION", "MAX_CAUSES", "MAX_EXCEPTIONS", "build_exception", "expand_exception"]

MAX_CAUSES = 8
"""So many exceptions of a chain of causes travel."""

MAX_EXCEPTIONS = 32
"""So many exceptions inside one exception travel, in causes, arguments and groups; then texts."""

EXCEPTION = ExtType(CODE, b"X")

_MAX_TRACEBACK_CHARS = 100_000
_MAX_PART_DEPTH = 16

# What the builtin exceptions keep in their C structure, beside `args` and `__dict__`.
_MEMBERS: tuple[tuple[type[BaseException], tuple[str, ...]], ...] = (
    (OSError, ("errno", "strerror", "filename", "filename2")),
    (ImportError, ("msg", "name", "path")),
    (
        SyntaxError,
        ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
    ),
    (UnicodeDecodeError, ("encoding", "object", "start", "end", "reason")),
    (UnicodeEncodeError, ("encoding", "object", "start", "end", "reason")),
    (UnicodeTranslateError, ("object", "start", "end", "reason")),
    (StopIteration, ("value",)),
    (SystemExit, ("code",)),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
)


def expand_exception(
    exc: BaseException, class_ref: Callable[[type], Any], fix: Callable[[Any], Any] | None = None
) -> list[Any]:
    """Return `exc` as a marked list of its parts.

    `class_ref` returns what stands for a class on the wire; where it raises, the parts will give
    a `RemoteError`. `fix` makes a term of a part that may not be one. Exceptions among the parts
    are expanded too, 32 in all, and so is a chain of 8 causes.
    """
    return _Expansion(class_ref, fix or _as_it_is).expand(exc)


class _Expansion:
    """Expands one exception and those inside it.

    `raise New(old) from old` holds `old` twice, and its `old` again: without a count in common,
    a chain of n such exceptions would be 2 ** n of them, and one that holds itself endless.
    """

    def __init__(self, class_ref: Callable[[type], Any], fix: Callable[[Any], Any]) -> None:
        self._class_ref = class_ref
        self._fix = fix
        self._left = MAX_EXCEPTIONS
        self._around: list[BaseException] = []

    def expand(self, exc: BaseException, causes: int = MAX_CAUSES) -> list[Any]:
        self._left -= 1
        self._around.append(exc)
        cause = exc.__cause__
        expanded = [
            EXCEPTION,
            _class_or_none(type(exc), self._class_ref),
            [self._part(arg) for arg in exc.args],
            {name: self._part(value) for name, value in state_of(exc).items()},
            {name: self._part(value) for name, value in _members_of(exc)},
            self.expand(cause, causes - 1) if causes and self._may_expand(cause) else None,
            exc.__suppress_context__,
            type_name(type(exc)),
            cut_middle(message_of(exc), _MAX_TRACEBACK_CHARS),
            _traceback_of(exc),
        ]
        self._around.pop()
        return expanded

    def _part(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, BaseException):
            return self.expand(value) if self._may_expand(value) else message_of(value)
        if depth < _MAX_PART_DEPTH:
            if type(value) is list:
                return [self._part(item, depth + 1) for item in value]
            if type(value) is tuple:
                return [TUPLE, *(self._part(item, depth + 1) for item in value)]
        return self._fix(value)

    def _may_expand(self, exc: BaseException | None) -> TypeGuard[BaseException]:
        known = any(exc is outer for outer in self._around)
        return exc is not None and self._left > 0 and not known


def build_exception(parts: list[Any], find: Callable[[Any], type | None]) -> BaseException:
    """Return the exception with these parts; `find` gives the class of a class reference.

    A traceback becomes a note. Raises `TypeError` or `ValueError` when these are no parts.
    """
    reference, args, state, members, cause, suppress, name, message, text = parts
    if type(args) is not list or type(state) is not dict or type(members) is not dict:
        error = "an exception has a list of arguments and two dicts"
        raise TypeError(error)
    made = _build(find(reference), args, state, members)
    if made is None:
        made = RemoteError(str(name), str(message), str(text))
    elif text:
        BaseException.add_note(made, f"In the other process:\n{str(text).rstrip()}")
    if cause is not None:
        if not isinstance(cause, BaseException):
            error = "the cause of an exception is an exception"
            raise TypeError(error)
        made.__cause__ = cause
    made.__suppress_context__ = bool(suppress)
    return made


def _build(cls: type | None, args: list[Any], state: dict[str, Any], members: dict[str, Any]) -> BaseException | None:
    """Make an instance by the builtin's `__new__`; None when `cls` does not take these parts."""
    if cls is None or not issubclass(cls, BaseException):
        return None
    try:
        made: BaseException = static_base(cls).__new__(cls, *args)
        made.args = tuple(args)
        _set_members(made, members)
        set_state(made, state)
    except Exception:  # noqa: BLE001 - the class changed, or the bytes lie: RemoteError says it
        return None
    return made


def _members_of(exc: BaseException) -> list[tuple[str, Any]]:
    found = []
    for base, names in _MEMBERS:
        if isinstance(exc, base):
            values = ((name, getattr(base, name).__get__(exc)) for name in names)
            found += [(name, value) for name, value in values if value is not None]
    return found


def _set_members(exc: BaseException, members: dict[str, Any]) -> None:
    for base, names in _MEMBERS:
        if isinstance(exc, base):
            for name in names:
                if name in members:
                    getattr(base, name).__set__(exc, members[name])


def _class_or_none(cls: type, class_ref: Callable[[type], Any]) -> Any:
    try:
        return class_ref(cls)
    except Exception:  # noqa: BLE001 - no name and no shipper, or dill failed: text is left
        return None


def _traceback_of(exc: BaseException) -> str:
    if exc.__traceback__ is None:
        return ""
    try:
        frames = "".join(traceback.format_tb(exc.__traceback__))
    except Exception as error:  # noqa: BLE001 - reading source lines may fail in many ways
        frames = f"  (formatting it raised {type(error).__name__})\n"
    text = f"Traceback (most recent call last):\n{frames}{type_name(type(exc))}: {message_of(exc)}"
    return cut_middle(text, _MAX_TRACEBACK_CHARS)


def _as_it_is(value: Any) -> Any:
    return value
