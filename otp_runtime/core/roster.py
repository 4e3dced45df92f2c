"""The children of a static supervisor: in start order, and found by id or process without a look at the others.

A `Roster` is a value. A change gives a new one, which shares with the old one all that did not change, so that a
decision costs the same among ten and among thousands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otp_runtime.core.persistent import Table
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otp_runtime.core.supervisor_state import Child

__all__ = ["Roster"]

_HASH_BITS: Final = (1 << 30) - 1


@dataclass(frozen=True, slots=True)
class Roster:
    """An immutable row of children; make one with `Roster.of`.

    Each child has a number, larger than that of those before it, which it keeps while others come and go.
    """

    _by_number: Table[Child] = field(default_factory=Table)
    _numbers: Table[tuple[tuple[Any, int], ...]] = field(default_factory=Table)  # by the hash of the id
    _by_process: Table[int] = field(default_factory=Table)
    _next: int = 0

    @classmethod
    def of(cls, children: Iterable[Child]) -> Roster:
        """Make a roster of children of different ids, in their order."""
        roster = cls()
        for child in children:
            roster = roster.add(child)
        return roster

    def get(self, child_id: object) -> Child | None:
        """Give the child of that id, else None."""
        number = self._number_of(child_id)
        return None if number is None else self._by_number.get(number)

    def of_process(self, pid: Pid) -> Child | None:
        """Give the child whose process is `pid`, else None."""
        number = self._by_process.get(pid.id)
        child = None if number is None else self._by_number.get(number)
        return child if child is not None and child.pid == pid else None

    def since(self, child_id: object) -> tuple[Child, ...]:
        """Give the child of that id, which is there, and all after it."""
        children = tuple(self)
        ids = [child.spec.id for child in children]
        return children[ids.index(child_id) :]

    def add(self, child: Child) -> Roster:
        """Give a roster with one more child, of an id that is not there, at the end."""
        key = _key(child.spec.id)
        numbers = self._numbers.put(key, (*(self._numbers.get(key) or ()), (child.spec.id, self._next)))
        by_number = self._by_number.put(self._next, child)
        by_process = self._by_process
        if isinstance(child.pid, Pid):
            by_process = by_process.put(child.pid.id, self._next)
        return Roster(by_number, numbers, by_process, self._next + 1)

    def put(self, child: Child) -> Roster:
        """Give a roster in which `child` stands for the one of its id; the same roster when there is none."""
        number = self._number_of(child.spec.id)
        old = None if number is None else self._by_number.get(number)
        if number is None or old is None:
            return self
        by_process = self._by_process
        if child.pid != old.pid:
            if isinstance(old.pid, Pid):
                by_process = by_process.drop(old.pid.id)
            if isinstance(child.pid, Pid):
                by_process = by_process.put(child.pid.id, number)
        return Roster(self._by_number.put(number, child), self._numbers, by_process, self._next)

    def drop(self, child_id: object) -> Roster:
        """Give a roster without the child of that id."""
        number = self._number_of(child_id)
        child = None if number is None else self._by_number.get(number)
        if number is None or child is None:
            return self
        key = _key(child_id)
        others = tuple(one for one in self._numbers.get(key) or () if one[1] != number)
        numbers = self._numbers.put(key, others) if others else self._numbers.drop(key)
        by_process = self._by_process.drop(child.pid.id) if isinstance(child.pid, Pid) else self._by_process
        return Roster(self._by_number.drop(number), numbers, by_process, self._next)

    def _number_of(self, child_id: object) -> int | None:
        for known, number in self._numbers.get(_key(child_id)) or ():
            if known == child_id:
                return number
        return None

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Child]:
        """Give the children in start order."""
        return self._by_number.values()

    def __reversed__(self) -> Iterator[Child]:
        return reversed(tuple(self))


def _key(child_id: object) -> int:
    return hash(child_id) & _HASH_BITS
