"""What is due when: many things, but few times, as those who put them here round the times.

Neither to put something here nor to ask what comes next looks at more than a few of the things: in a process that
forks, to look at an object is to write its count of references, and a written page is a copied page.

>>> agenda = Agenda()
>>> agenda.add(2.0, "b"), agenda.add(1.0, "a"), agenda.add(2.0, "c")
(None, None, None)
>>> agenda.next_due, agenda.take(1.5), agenda.take(2.0), agenda.next_due
(1.0, ['a'], ['b', 'c'], None)
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Agenda(Generic[T]):
    """Things by the time at which they are due; whoever takes one decides whether it is still wanted."""

    __slots__ = ("_by_time", "_times")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._by_time: dict[float, list[T]] = {}
        self._times: list[float] = []

    def add(self, due: float, thing: T) -> None:
        """Put `thing` here for the time `due`."""
        things = self._by_time.get(due)
        if things is None:
            self._by_time[due] = [thing]
            heapq.heappush(self._times, due)
        else:
            things.append(thing)

    @property
    def next_due(self) -> float | None:
        """The time of what is due next, None when there is nothing."""
        return self._times[0] if self._times else None

    def take(self, now: float) -> list[T]:
        """Give all that is due at `now`, earliest first; it is here no longer."""
        taken: list[T] = []
        while self._times and self._times[0] <= now:
            taken += self._by_time.pop(heapq.heappop(self._times))
        return taken


__all__ = ["Agenda"]
