"""Being told which files of a directory are written to (inotify(7)), and giving back what was read of one."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
from typing import Final

_IN_MODIFY: Final = 0x2
_IN_Q_OVERFLOW: Final = 0x4000
_KEEP_SIZE_AND_PUNCH_HOLE: Final = 0x1 | 0x2
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 65_536


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def watch_writes(directory: str) -> int:
    """Open a descriptor that is readable when a file of `directory` was written to. Raises OSError."""
    fd = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd >= 0 and _libc().inotify_add_watch(fd, os.fsencode(directory), _IN_MODIFY) >= 0:
        return int(fd)
    number = ctypes.get_errno()
    if fd >= 0:
        os.close(fd)
    raise OSError(number, f"cannot watch {directory}: {os.strerror(number)}")


def written(fd: int) -> set[str] | None:
    """Give the names of the files that were written to since the last call; None: there were too many to tell.

    Reads once: who writes without a pause would make a second read find something, and a third. What is left keeps the
    descriptor readable.
    """
    names: set[str] = set()
    data = b""
    with contextlib.suppress(BlockingIOError):
        data = os.read(fd, _READ_BYTES)
    at = 0
    while at < len(data):
        _watch, mask, _cookie, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        if mask & _IN_Q_OVERFLOW:
            return None
        names.add(os.fsdecode(data[at : at + size].rstrip(b"\0")))
        at += size
    return names


def give_back(fd: int, size: int) -> None:
    """Free the first `size` bytes of a file and let it keep its length: offsets in it mean what they meant."""
    _libc().fallocate(fd, _KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size))
