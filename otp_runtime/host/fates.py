"""Who is dead, for those who look without asking: one word for every process id that a node ever gave.

    0   alive, or never was          n > 1   dead, and the process n is bringing it back
    1   dead

The OS parent writes the word before the verdict, so whoever was told of a death finds it here. A word is never
taken back, as ids are not used twice; but who is not brought back after all is plainly dead from then on. Where a
supervisor that is bringing somebody back dies itself, its own word says whether it comes back: follow the chain. It
ends, as a supervisor is older than its children.

Reading is a memory read. The file grows before an id is given, so no id that anybody knows lies outside it.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory

ALIVE: Final = 0
DEAD: Final = 1


class Fates:
    """The words, mapped. Holds a descriptor as long as it lives."""

    __slots__ = ("_path", "words")

    def __init__(self, directory: NodeDirectory) -> None:
        """Map the words of a node; raises `FileNotFoundError` when the node is gone."""
        self._path = directory.fates
        self.words = memoryview(b"").cast("Q")
        self.grow()

    def grow(self) -> None:
        """Map again: an id was met that lies beyond what is mapped."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        # the mapping lives as long as the view does
        self.words = memoryview(mapped).cast("Q")

    def fate(self, process_id: int) -> int:
        """Give the word of a process."""
        if process_id >= len(self.words):
            self.grow()
        return self.words[process_id]

    def is_coming_back(self, process_id: int) -> bool:
        """Say whether a process is dead and somebody who lives is bringing it back."""
        fate = self.fate(process_id)
        return fate > DEAD and not self.is_gone(fate)

    def is_gone(self, process_id: int) -> bool:
        """Say whether a process is dead and nobody is bringing it back."""
        fate = self.fate(process_id)
        while fate > DEAD:
            fate = self.fate(fate)
        return fate == DEAD
