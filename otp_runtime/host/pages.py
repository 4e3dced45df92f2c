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
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from otp_runtime.host import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

_MADV_POPULATE_WRITE = 23
"""Linux 5.14; before that pages are copied one by one, when they are written."""

_PRESENT = 1 << 63
_OF_A_FILE = 1 << 61
_MAPPED_HERE_ONLY = 1 << 56
_LOOKED_AT = _PRESENT | _OF_A_FILE | _MAPPED_HERE_ONLY
_PRIVATE = _PRESENT | _MAPPED_HERE_ONLY
_ENTRY_BYTES = 8

_BLOCK_BYTES: Final = 16
_BLOCK_BYTES_MAX: Final = 512
_BYTES_HEAD: Final = 33
_POOL_BYTES: Final = 16384
_POOL_HEAD_BYTES: Final = 48
_HOLES_MAX: Final = 20_000
"""How Python's allocator divides memory for small objects, and what a bytes object has beside its bytes.

Where these are otherwise, less is filled, or more to no purpose, but never more than so many blocks of a size."""

LESSONS: Final = 4
"""How often is learnt: what a process writes for a start and for a death is the same each time."""

_kept: list[object] = []
"""What must stay where it is for ever."""

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


def fill_holes() -> None:
    """Fill what is free between the small objects of this process, for good.

    Python's allocator first gives out the free blocks of half-filled pools, which lie all over the memory. With these
    filled, what a fork of this process makes lies together in fresh pools, and it copies that many pages less.
    """
    for size in range(_BLOCK_BYTES * 3, _BLOCK_BYTES_MAX + 1, _BLOCK_BYTES):
        for _ in range(_HOLES_MAX):
            _kept.append(b"\0" * (size - _BYTES_HEAD))
            if id(_kept[-1]) % _POOL_BYTES == _POOL_HEAD_BYTES:
                # the first block of a pool: there were no half-filled ones any more
                break


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


def pack(names: Iterable[str]) -> None:
    """Lay the code of functions side by side, in memory of its own; `names` are as "module:Class.function".

    A function is given a copy of its code. The old code is kept, as its memory would be given out again, page by page.
    """
    for name in names:
        function = _function_of(name)
        if function is not None:
            _kept.append(function.__code__)
            function.__code__ = _copy_of(function.__code__)


def _function_of(name: str) -> FunctionType | None:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) else None


def _copy_of(code: CodeType) -> CodeType:
    """Copy code, and that of the functions that are made in it."""
    inner = tuple(_copy_of(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_consts=inner)
