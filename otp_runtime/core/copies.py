"""What the scopes of other nodes said of their members: copies, each in the hands of the scope that owns it.

Scopes of one name, one on each node, speak to each other. Whoever owns a member says what becomes of it; nobody else
changes it. Three things are said, and what one scope says to another arrives in order or breaks off:

    WHO                           is answered with HELLO; asked of every node that is there, or comes
    HELLO  all that I have        replaces whatever was known of that scope
    DELTA  what left and joined   said to whoever is known; counts only after a HELLO of that scope

Whoever hears the HELLO of a scope that it did not know says HELLO in turn: so nobody is told of changes without having
what was before them. And it does not matter what was lost while two nodes could not reach each other: each asks when it
sees the other, and both have the same again. A scope that is gone takes what it had along.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

__all__ = ["Change", "Copies", "Member", "pieces", "read"]

Member: TypeAlias = tuple[Pid, bytes]
"""A process that is in a group, and what it brought along."""

PIECE_BYTES: Final = 48_000
"""About so much is said in one message: engines have a limit, and it may be a low one."""


@dataclass(frozen=True, slots=True)
class Change:
    """Who left a group and who joined it; `index` stands for the group, see `core.registry.canonical`."""

    index: Hashable
    group: Any
    left: tuple[Member, ...] = ()
    joined: tuple[Member, ...] = ()


class Copies:
    """All members of other nodes, by the scope that owns them.

    >>> copies, there = Copies(), Pid("b@host", 7, 1)
    >>> copies.hello(there, [Change("g", "g", joined=((Pid("b@host", 9, 1), b""),))])
    [Change(index='g', group='g', left=(), joined=((<9@b@host>, b''),))]
    >>> [change.left for change in copies.lost(there)]
    [((<9@b@host>, b''),)]
    """

    def __init__(self) -> None:
        """Of nobody."""
        self._of: dict[Pid, dict[Hashable, tuple[Any, list[Member]]]] = {}
        self._parts: dict[Pid, list[Change]] = {}

    def scopes(self) -> list[Pid]:
        """Give the scopes that said something and are not gone."""
        return list(self._of)

    def under(self, index: Hashable) -> list[Member]:
        """Give the members of a group."""
        return [member for groups in self._of.values() if index in groups for member in groups[index][1]]

    def hello(
        self, scope: Pid, items: Iterable[Change], *, is_first: bool = True, is_last: bool = True
    ) -> list[Change]:
        """Let this be all that a scope has; give what is different. In parts: nothing before the last is there."""
        parts = [] if is_first else self._parts.get(scope, [])
        parts.extend(items)
        if not is_last:
            self._parts[scope] = parts
            return []
        self._parts.pop(scope, None)
        before = self._of.get(scope, {})
        after: dict[Hashable, tuple[Any, list[Member]]] = {}
        for item in parts:
            after.setdefault(item.index, (item.group, []))[1].extend(item.joined)
        after = {index: found for index, found in after.items() if found[1]}
        self._of[scope] = after
        return list(_differences(before, after))

    def delta(self, scope: Pid, items: Iterable[Change]) -> list[Change]:
        """Let a scope's members change; give what did. Nothing of a scope that has not said HELLO."""
        groups = self._of.get(scope)
        return [] if groups is None else [done for item in items if (done := _apply(groups, item)) is not None]

    def lost(self, scope: Pid) -> list[Change]:
        """A scope is gone: give who left with it."""
        self._parts.pop(scope, None)
        groups = self._of.pop(scope, {})
        return [Change(index, group, left=tuple(members)) for index, (group, members) in groups.items()]


def _apply(groups: dict[Hashable, tuple[Any, list[Member]]], item: Change) -> Change | None:
    _group, members = groups.get(item.index, (item.group, []))
    left = []
    for member in item.left:
        if member in members:
            members.remove(member)
            left.append(member)
    members.extend(item.joined)
    if members:
        groups[item.index] = item.group, members
    else:
        groups.pop(item.index, None)
    return Change(item.index, item.group, tuple(left), item.joined) if left or item.joined else None


def _differences(
    before: dict[Hashable, tuple[Any, list[Member]]], after: dict[Hashable, tuple[Any, list[Member]]]
) -> Iterator[Change]:
    for index in {**before, **after}:
        group = (after.get(index) or before[index])[0]
        old, new = (Counter(side.get(index, (None, []))[1]) for side in (before, after))
        if old != new:
            yield Change(index, group, tuple((old - new).elements()), tuple((new - old).elements()))


# -- as it travels -----------------------------------------------------------------------------------------


def pieces(items: Iterable[tuple[bytes, Iterable[Member], Iterable[Member]]]) -> Iterator[list[list[Any]]]:
    """Give changes, the group encoded, as what travels, in pieces: `[[group, left, joined], …]`, members `[id, value]`.

    There is at least one piece, though it is empty.
    """
    piece: list[list[Any]] = []
    size = 0
    for group, left, joined in items:
        entry: list[list[Any]] | None = None
        for where, members in enumerate((left, joined)):
            for pid, value in members:
                if size > PIECE_BYTES:
                    yield piece
                    piece, size, entry = [], 0, None
                if entry is None:
                    entry = [group, [], []]  # type: ignore[list-item]
                    piece.append(entry)
                    size += len(group)
                entry[1 + where].append([pid.id, value])
                size += len(value) + 16
    yield piece


def read(scope: Pid, items: Any, group_of: Callable[[bytes], tuple[Hashable, Any] | None]) -> list[Change] | None:
    """Undo `pieces`, of what a scope sent; None for what is none. A group that `group_of` cannot read is left out."""
    if type(items) is not list:
        return None
    found = []
    for item in items:
        match item:
            case [bytes() as data, list() as left, list() as joined]:
                sides = [_members(scope, side) for side in (left, joined)]
            case _:
                return None
        if sides[0] is None or sides[1] is None:
            return None
        group = group_of(data)
        if group is not None:
            found.append(Change(*group, sides[0], sides[1]))
    return found


def _members(scope: Pid, side: list[Any]) -> tuple[Member, ...] | None:
    found = []
    for one in side:
        match one:
            case [int() as number, bytes() as value] if type(number) is int and number > 0:
                # a scope speaks for processes of its own life only
                found.append((Pid(scope.node, number, scope.incarnation), value))
            case _:
                return None
    return tuple(found)
