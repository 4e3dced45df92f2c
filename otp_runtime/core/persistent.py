"""Values that change without being copied whole: what a pure core keeps of thousands of children.

A core's state is a value, so every change makes a new one. With a tuple or a dict that costs as much as there are
elements. These two share with the old value all that did not change:

- `Table` maps integers to values. It is a tree of small tuples, and a change copies those on the way to one leaf;
- `Queue` is first in, first out. It is two linked lists, one of them turned around when the other is used up.

Of any other value `evolve` gives one with some fields changed.

>>> table = Table.of({7: "a", 3: "b"}).put(5, "c").drop(7)
>>> list(table.values()), len(table), table.get(7)
(['b', 'c'], 2, None)
>>> queue = Queue().push("a").push("b")
>>> first, rest = queue.pop()
>>> first, list(rest)
('a', ['b'])
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Queue", "Table", "evolve"]

T = TypeVar("T")
V = TypeVar("V")

_Leaf: TypeAlias = "tuple[int, V, _Leaf[V]] | None"
"""A key, its value, and the rest of the list."""

_WIDTH: Final = 16
_LEAVES: Final = _WIDTH**3
_NO_TWIG: Final = (None,) * _WIDTH
_NO_BRANCH: Final = (_NO_TWIG,) * _WIDTH
_NO_ROOT: Final = (_NO_BRANCH,) * _WIDTH


def evolve(value: T, **fields: Any) -> T:
    """Give a value that is the same but for some fields, as `dataclasses.replace` does of any, at half the cost.

    For a dataclass with slots of its own only, all of whose fields are given when it is made.

    >>> from otp_runtime.core.demand import Demand
    >>> evolve(Demand(1.0, 2.0), until=3.0)
    Demand(last=1.0, until=3.0)
    """
    cls: Any = type(value)
    changed: T = cls(*[fields.pop(name) if name in fields else getattr(value, name) for name in cls.__slots__])
    if fields:
        msg = f"{cls.__name__} has no field {', '.join(fields)}"
        raise TypeError(msg)
    return changed


@dataclass(frozen=True, slots=True)
class Table(Generic[V]):
    """An immutable map from integers of 0 or more; make one with `Table()` or `Table.of(...)`.

    Three levels of 16 lead to 4,096 leaves, chosen by the last bits of the key; a leaf is a linked list, of one
    element as a rule. A change copies three tuples of 16. Few, because each element of a copied tuple is touched for
    its count of references, and in a process that forks all the time a touched page is a copied page.
    """

    _root: tuple[tuple[tuple[_Leaf[V], ...], ...], ...] = _NO_ROOT
    _size: int = 0

    @classmethod
    def of(cls, items: Mapping[int, V]) -> Table[V]:
        """Make a table of many items."""
        table: Table[V] = cls()
        for key, value in items.items():
            table = table.put(key, value)
        return table

    def get(self, key: int) -> V | None:
        """Give the value of `key`, None when it has none."""
        leaf = self._leaf(key)
        while leaf is not None:
            if leaf[0] == key:
                return leaf[1]
            leaf = leaf[2]
        return None

    def put(self, key: int, value: V) -> Table[V]:
        """Give a table in which `key` has this value."""
        leaf = self._leaf(key)
        return self._with(_put(leaf, key, value), key, 1 if _without(leaf, key) is leaf else 0)

    def drop(self, key: int) -> Table[V]:
        """Give a table without `key`."""
        leaf = self._leaf(key)
        rest = _without(leaf, key)
        return self if rest is leaf else self._with(rest, key, -1)

    def _leaf(self, key: int) -> _Leaf[V]:
        at, at_twig, at_leaf = _way(key)
        return self._root[at][at_twig][at_leaf]

    def _with(self, leaf: _Leaf[V], key: int, more: int) -> Table[V]:
        at, at_twig, at_leaf = _way(key)
        branch = self._root[at]
        twig = branch[at_twig]
        twig = (*twig[:at_leaf], leaf, *twig[at_leaf + 1 :])
        branch = (*branch[:at_twig], twig, *branch[at_twig + 1 :])
        return Table((*self._root[:at], branch, *self._root[at + 1 :]), self._size + more)

    def __len__(self) -> int:
        return self._size

    def values(self) -> Iterator[V]:
        """Give all values, smallest key first."""
        twigs = (twig for branch in self._root if branch is not _NO_BRANCH for twig in branch if twig is not _NO_TWIG)
        everything: dict[int, V] = {}
        for first in itertools.chain.from_iterable(twigs):
            leaf = first
            while leaf is not None:
                everything[leaf[0]], leaf = leaf[1], leaf[2]
        return (everything[key] for key in sorted(everything))


def _way(key: int) -> tuple[int, int, int]:
    """Say where on each level the way to a key's leaf goes on."""
    at = key % _LEAVES
    return at // (_WIDTH * _WIDTH), at // _WIDTH % _WIDTH, at % _WIDTH


def _put(leaf: _Leaf[V], key: int, value: V) -> _Leaf[V]:
    """Give a leaf in which `key` has this value; smaller keys come first, so that equal tables are made equal."""
    if leaf is None or key < leaf[0]:
        return key, value, leaf
    if leaf[0] == key:
        return key, value, leaf[2]
    return leaf[0], leaf[1], _put(leaf[2], key, value)


def _without(leaf: _Leaf[V], key: int) -> _Leaf[V]:
    """Give a leaf without `key`: the same one when it has no such key."""
    if leaf is None:
        return None
    if leaf[0] == key:
        return leaf[2]
    rest = _without(leaf[2], key)
    return leaf if rest is leaf[2] else (leaf[0], leaf[1], rest)


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
