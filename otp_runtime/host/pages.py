"""Pages of memory that a fork shares, and that cost a fault and a copy each when they are written the next time.

A Python process writes where it only reads: every object it looks at is counted. So an OS parent that has just forked
pays for some hundred pages at the next thing it does. If that is a restart, somebody waits for it. So it learns which
pages it writes between two forks, and copies them as soon as it has nothing else to do: `HotPages`.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from typing import Final

from otp_runtime.host import kernel

_MADV_POPULATE_WRITE = 23
"""Linux 5.14; before that pages are copied one by one, when they are written."""

_PRESENT = 1 << 63
_OF_A_FILE = 1 << 61
_MAPPED_HERE_ONLY = 1 << 56
_LOOKED_AT = _PRESENT | _OF_A_FILE | _MAPPED_HERE_ONLY
_PRIVATE = _PRESENT | _MAPPED_HERE_ONLY
_ENTRY_BYTES = 8

LESSONS: Final = 4
"""How often is learnt: what a process writes for a start and for a death is the same each time."""

Run = tuple[int, int]
"""Address and length in bytes of pages that lie side by side."""


class HotPages:
    """The pages that an OS parent writes for its children, for it to have them as its own before it needs them.

    A page is a process's own once it has written it, or once all others that shared it have. So a lesson is taken
    with a fork at hand that does nothing: its pages and this process's are then told apart. The same pages are made
    this process's own when the next fork has come so far; those that the fork has written cost no copy.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._runs: list[Run] = []
        self._lessons = 0

    def learn(self) -> None:
        """Learn what is this process's own just before an idle fork is used."""
        if self._lessons < LESSONS:
            self._lessons += 1
            self._runs = private()

    def copy(self) -> None:
        """Have what was learnt as its own."""
        copy(self._runs)


def private() -> list[Run]:
    """Give the pages that this process wrote and shares with no other (proc_pid_pagemap(5)); none where not told."""
    runs: list[Run] = []
    with contextlib.suppress(OSError):
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, end in _writable():
                size = (end - start) // mmap.PAGESIZE * _ENTRY_BYTES
                entries = os.pread(pagemap, size, start // mmap.PAGESIZE * _ENTRY_BYTES)
                _add_runs(runs, start, memoryview(entries[: len(entries) // _ENTRY_BYTES * _ENTRY_BYTES]).cast("Q"))
        finally:
            os.close(pagemap)
    return runs


def copy(runs: list[Run]) -> None:
    """Make pages private again that a fork has shared since; best effort."""
    libc = kernel.libc()
    for address, length in runs:
        if libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_POPULATE_WRITE) != 0:
            # an old kernel, or memory that was given back meanwhile
            continue


def _writable() -> list[Run]:
    """Give the beginnings and ends of the mappings that are this process's own to write."""
    found = []
    for line in kernel.read_whole("/proc/self/maps").splitlines():
        addresses, access, _rest = line.split(b" ", 2)
        if access == b"rw-p":
            start, _, end = addresses.partition(b"-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _add_runs(runs: list[Run], start: int, entries: memoryview[int]) -> None:
    begun = -1
    for at, entry in enumerate(entries):
        if entry & _LOOKED_AT == _PRIVATE:
            if begun < 0:
                begun = at
        elif begun >= 0:
            runs.append((start + begun * mmap.PAGESIZE, (at - begun) * mmap.PAGESIZE))
            begun = -1
    if begun >= 0:
        runs.append((start + begun * mmap.PAGESIZE, (len(entries) - begun) * mmap.PAGESIZE))
