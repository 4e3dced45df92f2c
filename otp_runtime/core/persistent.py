"""Values that grow without being copied whole: what a pure core keeps of thousands of children.

A core's state is a value, so every change makes a new one. With a tuple or a dict that costs as much as there are
elements. These two share with the old value all that did not change:

- `Table` maps integers to values. It is a row of small dicts, and a change copies the row and one dict;
- `Queue` is first in, first out. It is two linked lists, one of them turned around when the other is used up.

>>> table = Table.of({7: "a", 3: "b"}).put(5, "c").drop(7)
>>> list(table.values()), len(table), table.get(7)
(['b', 'c'], 2, None)
>>> queue = Queue().push("a").push("b")
>>> first, rest = queue.pop()
>>> first, list(rest)
('a', ['b'])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Queue", "Table"]

V = TypeVar("V")

_BUCKETS: Final = 128  # a power of two; at 2,000 elements a change copies 128 pointers and a dict of 16


@dataclass(frozen=True, slots=True)
class Table(Generic[V]):
    """An immutable map from integers of 0 or more; make one with `Table()` or `Table.of(...)`."""

    _buckets: tuple[dict[int, V], ...] = ({},) * _BUCKETS
    _size: int = 0

    @classmethod
    def of(cls, items: Mapping[int, V]) -> Table[V]:
        """Make a table of many items at once."""
        buckets: list[dict[int, V]] = [{} for _ in range(_BUCKETS)]
        for key, value in items.items():
            buckets[key % _BUCKETS][key] = value
        return cls(tuple(buckets), len(items))

    def get(self, key: int) -> V | None:
        """Give the value of `key`, None when it has none."""
        return self._buckets[key % _BUCKETS].get(key)

    def put(self, key: int, value: V) -> Table[V]:
        """Give a table in which `key` has this value."""
        old = self._buckets[key % _BUCKETS]
        return self._with({**old, key: value}, key, 0 if key in old else 1)

    def drop(self, key: int) -> Table[V]:
        """Give a table without `key`."""
        old = self._buckets[key % _BUCKETS]
        if key not in old:
            return self
        return self._with({one: value for one, value in old.items() if one != key}, key, -1)

    def _with(self, bucket: dict[int, V], key: int, more: int) -> Table[V]:
        at = key % _BUCKETS
        return Table((*self._buckets[:at], bucket, *self._buckets[at + 1 :]), self._size + more)

    def __len__(self) -> int:
        return self._size

    def values(self) -> Iterator[V]:
        """Give all values, smallest key first."""
        everything = {key: value for bucket in self._buckets for key, value in bucket.items()}
        return (everything[key] for key in sorted(everything))


@dataclass(frozen=True, slots=True)
class Queue(Generic[V]):
    """An immutable queue; make one with `Queue()`."""

    _front: Any = None  # (next out, (…, None)), or None
    _back: Any = None  # (last in, (…, None)), or None

    def push(self, value: V) -> Queue[V]:
        """Give a queue with `value` at its end."""
        return Queue(self._front, (value, self._back))

    def pop(self) -> tuple[V, Queue[V]]:
        """Give the first value and the queue without it; the queue is not empty."""
        front, back = self._front, self._back
        if front is None:
            while back is not None:
                front, back = (back[0], front), back[1]
        value, rest = front
        return value, Queue(rest, back)

    def __bool__(self) -> bool:
        return self._front is not None or self._back is not None

    def __iter__(self) -> Iterator[V]:
        queue = self
        while queue:
            value, queue = queue.pop()
            yield value
