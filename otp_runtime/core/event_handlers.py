"""The list of handlers of an event manager: who is asked, in which order, and how they are named.

A handler is named by its class, or by `(class, id)` where a class is installed more than once. As in OTP nothing
forbids the same name twice: the newest, which comes first, is the one that is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Name: TypeAlias = "type | tuple[type, Any]"


@dataclass(frozen=True, slots=True)
class Entry:
    """An installed handler. `key` tells entries apart, `supervisor` is the pid of who added it with supervision."""

    key: int
    cls: type
    id: Any
    state: Any
    supervisor: Any = None

    @property
    def name(self) -> Name:
        """What it goes by."""
        return self.cls if self.id is None else (self.cls, self.id)


Entries: TypeAlias = tuple[Entry, ...]
"""All handlers, the newest first: the order in which they see an event."""


def split(name: Name) -> tuple[type, Any]:
    """Give class and id of a name; the id is None without one."""
    return name if isinstance(name, tuple) else (name, None)


def find(entries: Entries, name: Name) -> Entry | None:
    """Give the handler of that name that was added last."""
    cls, id_ = split(name)
    return next((entry for entry in entries if entry.cls is cls and entry.id == id_), None)


def next_key(entries: Entries) -> int:
    """Give a key that none of them has."""
    return max((entry.key for entry in entries), default=0) + 1


def added(entries: Entries, entry: Entry) -> Entries:
    """Give the list with a new handler, which comes first."""
    return (entry, *entries)


def without(entries: Entries, entry: Entry) -> Entries:
    """Give the list without a handler."""
    return tuple(one for one in entries if one.key != entry.key)


def replaced(entries: Entries, entry: Entry, by: Entry) -> Entries:
    """Give the list with one handler in the place of another."""
    return tuple(by if one.key == entry.key else one for one in entries)


def supervised_by(entries: Entries, pid: Any) -> Entries:
    """Give the handlers that end with `pid`."""
    return tuple(entry for entry in entries if entry.supervisor == pid)
