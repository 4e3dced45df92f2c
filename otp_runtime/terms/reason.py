"""Why a process ended: exit reasons.

An exit reason is a term. `"normal"`, `"shutdown"` and `("shutdown", term)` are ends that were
meant; everything else is abnormal: `"killed"`, `"noproc"`, `"noconnection"`, any term a program
gave, and three classes for what only an operating-system process can suffer: `Crash`, `Signalled`,
`Exited`.
"""

from __future__ import annotations

import traceback as tracebacks
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Crash", "ExitReason", "Exited", "Signalled", "amount", "crash_of", "describe", "is_abnormal"]

ExitReason: TypeAlias = Any
"""To annotate with: any term may be an exit reason."""

_MAX_TRACEBACK_CHARS = 100_000
_MAX_SHOWN_CHARS = 500


@dataclass(frozen=True, slots=True, repr=False)
class Crash:
    """An exception that nobody caught ended the process.

    `type` is `ValueError` for a builtin, else `module.Class`; `message` is its text; `traceback`
    is the formatted traceback, notes and causes included.
    """

    type: str
    message: str
    traceback: str = ""

    def __repr__(self) -> str:
        return f"Crash({self.type!r}, {_shorten(self.message)!r})"

    def __str__(self) -> str:
        text = f"{self.type}: {_shorten(self.message)}" if self.message else self.type
        return f"exception {text}"


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal from outside ended the process.

    `name` is the signal's (`"SIGSEGV"`), `core` whether a core was dumped, `oom` whether it was
    the kernel's OOM killer that sent it.
    """

    name: str
    core: bool = False
    oom: bool = False

    def __str__(self) -> str:
        by = f"the kernel's OOM killer ({self.name})" if self.oom else self.name
        return f"killed by {by} (core dumped)" if self.core else f"killed by {by}"


@dataclass(frozen=True, slots=True)
class Exited:
    """The process left with this exit code and without a word, 0 included."""

    code: int

    def __str__(self) -> str:
        return f"exit code {self.code}"


def is_abnormal(reason: ExitReason) -> bool:
    """Tell whether `reason` is none of `"normal"`, `"shutdown"` and `("shutdown", term)`.

    >>> is_abnormal("shutdown"), is_abnormal(("shutdown", "moving")), is_abnormal("killed")
    (False, False, True)
    """
    if isinstance(reason, str):
        return reason not in {"normal", "shutdown"}
    if not isinstance(reason, tuple) or len(reason) != 2:
        return True
    return not (isinstance(reason[0], str) and reason[0] == "shutdown")


def crash_of(exc: BaseException) -> Crash:
    """Return the exit reason of a process that `exc` ended.

    Never raises, whatever the exception's own methods do; the traceback keeps its two ends when
    it is longer than 100,000 characters.
    """
    return Crash(type_name(type(exc)), message_of(exc), _format(exc))


def describe(reason: ExitReason) -> str:
    """Return `reason` as one line for people.

    >>> describe(Signalled("SIGSEGV", core=True))
    'killed by SIGSEGV (core dumped)'
    """
    match reason:
        case Crash() | Signalled() | Exited():
            text = str(reason)
        case str():
            text = reason
        case ("shutdown", why):
            text = f"shutdown: {describe(why)}"
        case ("limit", str(field), int() | float() as used, int() | float() as allowed):
            text = f"over its limit {field}: {amount(field, used)} used, {amount(field, allowed)} allowed"
        case _:
            text = _safe(repr, reason)
    return " ".join(_shorten(text).split())


def amount(field: str, number: float) -> str:
    """Return what a limit of this name counts, for people.

    >>> amount("rss_hard", 412_300_000), amount("cpu_seconds", 2.5), amount("open_files", 64)
    ('412.3 MB', '2.5 s', '64')
    """
    if field.startswith("rss"):
        return f"{number / 1e6:.1f} MB"
    return f"{number:g} s" if field.endswith("seconds") else f"{number:g}"


def type_name(cls: type) -> str:
    """Return `ValueError` for a builtin, else `module.Class`."""
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def message_of(exc: BaseException) -> str:
    """Return `str(exc)`, or words about why that raised."""
    return _safe(str, exc)


def _format(exc: BaseException) -> str:
    try:
        text = "".join(tracebacks.format_exception(exc))
    except Exception as error:  # noqa: BLE001 - formatting runs the user's __str__ and attributes
        lines = _safe(lambda tb: "".join(tracebacks.format_tb(tb)), exc.__traceback__)
        text = f"{lines}{type_name(type(exc))}: (formatting it raised {type(error).__name__})\n"
    return cut_middle(text, _MAX_TRACEBACK_CHARS)


def cut_middle(text: str, limit: int) -> str:
    """Return `text`, of which at most `limit` characters are kept, from both ends."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n  … {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 1]}…"


def _safe(show: Any, value: Any) -> str:
    try:
        return str(show(value))
    except Exception as error:  # noqa: BLE001 - a user's __str__ or __repr__ may raise anything
        return f"<{type(value).__name__} whose text raised {type(error).__name__}>"
