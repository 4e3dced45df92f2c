"""Who watches whom across nodes: the table of a gateway. Decides nothing but who is to be told.

A process watches another node's process once, however many monitors and links it has on it: it keeps those itself.
So a *watcher* is `(node, epoch, id)`, what it watches its *key*: an id, or a local name. A name means whoever has it
when a message arrives; who had it before is then watched no longer.

Mutable, like `core.inbox`: it changes with nearly every message.
"""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Key", "Watcher", "Watches"]

Key: TypeAlias = "int | str"
Watcher: TypeAlias = "tuple[str, int, int]"


class Watches:
    """Processes elsewhere that watch processes here, and processes here that watch some elsewhere.

    >>> watches = Watches()
    >>> watches.add(("b@host", 8, 30), "counter", 12)
    True
    >>> watches.died(12)
    [(('b@host', 8, 30), 'counter')]
    >>> watches.died(12)
    []
    """

    __slots__ = ("_by_node", "_by_target", "_interest", "_outgoing", "_target")

    def __init__(self) -> None:
        # watcher -> what it watches here, and the process that is
        self._target: dict[tuple[Watcher, Key], int] = {}
        self._by_target: dict[int, dict[tuple[Watcher, Key], None]] = {}
        self._by_node: dict[tuple[str, int], dict[tuple[Watcher, Key], None]] = {}
        # (node, epoch) -> the processes here that have to hear when it is lost
        self._interest: dict[tuple[str, int], set[int]] = {}
        self._outgoing: dict[int, dict[tuple[str, int, Key], None]] = {}

    # -- of those elsewhere -------------------------------------------------------------------------------------

    def add(self, watcher: Watcher, key: Key, target: int) -> bool:
        """Let `watcher` watch process `target`, which it knows by `key`; say whether `target` is newly watched."""
        entry = (watcher, key)
        before = self._target.get(entry)
        if before == target:
            return False
        if before is not None:
            self._drop(entry)
        is_new = target not in self._by_target
        self._target[entry] = target
        self._by_target.setdefault(target, {})[entry] = None
        self._by_node.setdefault(watcher[:2], {})[entry] = None
        return is_new

    def remove(self, watcher: Watcher, key: Key) -> None:
        """Let `watcher` watch `key` no longer."""
        if (watcher, key) in self._target:
            self._drop((watcher, key))

    def died(self, target: int) -> list[tuple[Watcher, Key]]:
        """Give who is to be told that `target` died, and by what each knew it; they watch it no longer."""
        told = list(self._by_target.get(target, ()))
        for entry in told:
            self._drop(entry)
        return told

    def watchers_of(self, node: str, epoch: int, key: Key) -> list[Watcher]:
        """Give who of that epoch of a node watches `key`."""
        return [watcher for watcher, known in self._by_node.get((node, epoch), ()) if known == key]

    def is_watched(self, target: int) -> bool:
        """Say whether anybody elsewhere watches `target`."""
        return target in self._by_target

    def _drop(self, entry: tuple[Watcher, Key]) -> None:
        target = self._target.pop(entry)
        _forget(self._by_target, target, entry)
        _forget(self._by_node, entry[0][:2], entry)

    # -- of those here ------------------------------------------------------------------------------------------

    def watch(self, watcher: int, node: str, epoch: int, key: Key) -> bool:
        """Process `watcher` of this node watches `key` of another; say whether it is the first that it watches."""
        is_new = watcher not in self._outgoing
        self._interest.setdefault((node, epoch), set()).add(watcher)
        self._outgoing.setdefault(watcher, {})[node, epoch, key] = None
        return is_new

    def told(self, watcher: int, node: str, epoch: int, key: Key) -> None:
        """Process `watcher` was told that what it watched is dead."""
        watched = self._outgoing.get(watcher)
        if watched is not None:
            watched.pop((node, epoch, key), None)

    def gave_up(self, watcher: int) -> list[tuple[str, int, Key]]:
        """Process `watcher` died: give what it watched."""
        for interested in self._interest.values():
            interested.discard(watcher)
        return list(self._outgoing.pop(watcher, ()))

    def lost(self, node: str, epoch: int) -> list[int]:
        """Give the processes here that have to hear that the epoch of a node is over; nobody there watches any more."""
        for entry in list(self._by_node.get((node, epoch), ())):
            self._drop(entry)
        told = sorted(self._interest.pop((node, epoch), ()))
        for watcher in told:
            watched = self._outgoing.get(watcher, {})
            for key in [key for key in watched if key[:2] == (node, epoch)]:
                del watched[key]
        return told

    def nodes_watched(self) -> list[tuple[str, int]]:
        """Give the nodes in whose loss somebody here has an interest, with their epochs."""
        return [place for place, interested in self._interest.items() if interested]


def _forget(index: dict[Any, dict[tuple[Watcher, Key], None]], place: Any, entry: tuple[Watcher, Key]) -> None:
    entries = index[place]
    del entries[entry]
    if not entries:
        del index[place]
