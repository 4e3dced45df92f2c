"""Frames of nodes that are not known yet: the frame was faster than the table's news of its sender.

What waits is bounded, whoever says to be the sender: frames of a node that never comes give way to later ones.
"""

from __future__ import annotations

from typing import Any

FRAMES_MAX = 10_000
BYTES_MAX = 64 * 1024 * 1024


class Early:
    """The frames that wait, by node and epoch.

    >>> early = Early()
    >>> early.keep([1, 0, "b@host", 7, 41, 9, None, b""], 30)
    >>> [frame[5] for frame in early.take("b@host", 41)], early.take("b@host", 41)
    ([9], [])
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self._of: dict[tuple[str, int], list[tuple[list[Any], int]]] = {}
        self._cut: set[tuple[str, int]] = set()
        self._frames = self._bytes = 0

    def keep(self, fields: list[Any], size: int) -> None:
        """Keep a frame of `size` bytes. When there is no room, what waits for the node that came first goes."""
        key = fields[2], fields[4]
        if key in self._cut:
            return
        while self._of and (self._frames >= FRAMES_MAX or self._bytes + size > BYTES_MAX):
            oldest = next(iter(self._of))
            if oldest == key:
                # in order or not at all: what comes after a gap is not kept either
                self._cut.add(key)
                return
            self._forget(oldest)
        self._of.setdefault(key, []).append((fields, size))
        self._frames += 1
        self._bytes += size

    def take(self, node: str, epoch: int) -> list[list[Any]]:
        """Give what came of that epoch of a node, in order; what came of earlier ones is forgotten."""
        found = [fields for fields, _size in self._of.get((node, epoch), ())]
        for key in [key for key in self._of if key[0] == node and key[1] <= epoch]:
            self._forget(key)
        return found

    def clear(self) -> None:
        """Forget all of it: this node's own epoch is over, and it was sent to that one."""
        self._of.clear()
        self._cut.clear()
        self._frames = self._bytes = 0

    def _forget(self, key: tuple[str, int]) -> None:
        gone = self._of.pop(key)
        self._cut.discard(key)
        self._frames -= len(gone)
        self._bytes -= sum(size for _fields, size in gone)
