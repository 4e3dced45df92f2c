"""Who holds a lock, and who waits for it: first come, first served.

A *ticket* stands for one request, whoever made it. The functions change nothing; they give the new state, and the
ticket that holds the lock from then on, if that is new.

>>> queue, granted = ask({}, "k", "a")
>>> queue, waiting = ask(queue, "k", "b")
>>> granted, waiting
('a', None)
>>> give_back(queue, "k", "a")
({'k': ('b',)}, 'b')
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias, TypeVar

__all__ = ["Locks", "ask", "give_back"]

Ticket = TypeVar("Ticket", bound=Hashable)
Locks: TypeAlias = Mapping[Hashable, tuple[Ticket, ...]]
"""For each lock that is held: its holder, then those who wait, in the order in which they came."""


def ask(locks: Locks[Ticket], key: Hashable, ticket: Ticket) -> tuple[Locks[Ticket], Ticket | None]:
    """Let `ticket` have the lock, or wait for it."""
    queue = (*locks.get(key, ()), ticket)
    return {**locks, key: queue}, ticket if len(queue) == 1 else None


def give_back(locks: Locks[Ticket], key: Hashable, ticket: Ticket) -> tuple[Locks[Ticket], Ticket | None]:
    """Let `ticket` hold the lock no longer, or wait no longer; one that does neither changes nothing."""
    queue = locks.get(key, ())
    left = tuple(one for one in queue if one != ticket)
    others = {name: waiting for name, waiting in locks.items() if name != key}
    if not left:
        return others, None
    return {**others, key: left}, left[0] if left[0] != queue[0] else None
