"""The name table's rules: what a name may be, and how a name and its owner are written down.

A local name is a symbolic link in a directory of the node, and its owner the target of that
link. So two things need a spelling:

- *a file name* for every name: the name itself, in which `/`, `%`, control characters and a
  leading `.` are written `%XX`. So no name is hidden, `.` or `..`, and a file that begins with
  `.` is never a name;
- *a link target* for every owner: the id of a process in decimal, or `restarting:` and the id of
  the supervisor that is bringing the process back, and behind a colon that of the dead process
  if its mailbox outlives it.

>>> file_name_of("cache/1"), name_of("cache%2F1")
('cache%2F1', 'cache/1')
>>> format_owner(ComingBack(7)), parse_owner("12")
('restarting:7', Held(id=12))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

__all__ = [
    "MAX_NAME_BYTES",
    "ComingBack",
    "Held",
    "Owner",
    "check_name",
    "file_name_of",
    "format_owner",
    "is_name",
    "name_of",
    "parse_owner",
]

MAX_NAME_BYTES: Final = 200

_MAX_FILE_NAME_BYTES: Final = 255  # NAME_MAX, the same on every Linux file system
_ESCAPED: Final = re.compile(r"\A\.|[/%\x00-\x1f\x7f]")
_ESCAPE: Final = re.compile(r"%([0-9A-F]{2})")
_RESTARTING: Final = "restarting:"
_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Held:
    """The name belongs to the process with this id."""

    id: int


@dataclass(frozen=True, slots=True)
class ComingBack:
    """The process that had the name died; the supervisor with this id is restarting it.

    `mailbox`: the id of the process whose mailbox is there meanwhile, as it outlives its server; 0 when none does.
    """

    supervisor: int
    mailbox: int = field(default=0, compare=False)


Owner: TypeAlias = Held | ComingBack


def check_name(name: object) -> str:
    """Return `name` when it may be a local name.

    Raises:
        TypeError: It is not a `str`.
        ValueError: It is a `str` that may not be a name; the text says why.
    """
    if not isinstance(name, str):
        message = f"a local name is a str, not {type(name).__name__}: {name!r}"
        raise TypeError(message)
    fault = _fault(name)
    if fault is not None:
        raise ValueError(f"bad local name {name[:40]!r}: {fault}")
    return str(name)


def is_name(name: object) -> bool:
    """Whether `name` may be a local name."""
    return isinstance(name, str) and _fault(name) is None


def file_name_of(name: str) -> str:
    """Give the file that stands for a checked `name`."""
    return _escape(check_name(name))


def name_of(file_name: str) -> str | None:
    """Give the name that a file stands for; None for a file that stands for none."""
    name = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), file_name)
    return name if is_name(name) and _escape(name) == file_name else None


def format_owner(owner: Owner) -> str:
    """Write an owner as a link target."""
    match owner:
        case Held(process):
            return str(process)
        case ComingBack(supervisor, 0):
            return f"{_RESTARTING}{supervisor}"
        case ComingBack(supervisor, mailbox):
            return f"{_RESTARTING}{supervisor}:{mailbox}"
        case _:
            assert_never(owner)


def parse_owner(target: str) -> Owner | None:
    """Read a link target; None for one that nobody here wrote."""
    number = target.removeprefix(_RESTARTING)
    if number == target:
        return Held(int(number)) if _NUMBER.fullmatch(number) else None
    supervisor, _, mailbox = number.partition(":")
    if not _NUMBER.fullmatch(supervisor) or (number != supervisor and not _NUMBER.fullmatch(mailbox)):
        return None
    return ComingBack(int(supervisor), int(mailbox or 0))


def _fault(name: str) -> str | None:
    if not name:
        return "it is empty"
    if "\0" in name:
        return "it has a NUL character"
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "it cannot be written in UTF-8"
    if size_bytes > MAX_NAME_BYTES:
        return f"it has {size_bytes} bytes in UTF-8 and {MAX_NAME_BYTES} are allowed"
    if len(_escape(name).encode()) > _MAX_FILE_NAME_BYTES:
        return "it has too many '/', '%' and control characters: each takes three bytes on disk"
    return None


def _escape(name: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", name)
