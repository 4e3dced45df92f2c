"""A log of what came into a mailbox: how messages survive SIGKILL of the server that had read them already.

       0  magic     8  the marks, 8 bytes each; from 128 the letters that were taken out of turn
    4096  what was in the mailbox, byte by byte, as it came

The kernel moves the bytes: splice(2) from the FIFO to the end of the file. Whatever it has taken out of the one is in
the other when a process is killed, so the size of the file says where it ends, and the next splice goes on there, in
the middle of a frame if need be. A `read` and a copy instead lose what lies between the two. The bytes are not mapped,
so a full disk is an error and no SIGBUS; the marks are, and are reserved before.

A mark is one store. What they mean is `process.mail`'s.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import time
from typing import NamedTuple

from otp_runtime.host.directory import DirectoryUnusable, reserve

MAGIC = 0x4C49414D42544F31
HEADER = 4096
DONE, BEGUN, COMMITS, COMMIT, TRIED, TRIES, EPOCH, READING, TAKEN = range(1, 10)
"""Where the marks are, counted in numbers. Of a letter, DONE and those with a number of one more, 0 for none.

DONE: all letters before it are handled. BEGUN: the one in hand. COMMITS, COMMIT: which letter's state is kept when
that generation is. TRIED, TRIES: which was tried again, and how often. EPOCH: what the numbers of letters count from.
READING: the one that was being decoded by a successor. TAKEN: how many follow in the list of those out of turn.
"""

_FRESH = struct.Struct("9Q")
_TAKEN_AT = 16
TAKEN_MAX = HEADER // 8 - _TAKEN_AT
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_COPY = 1 << 20
DRAIN_STEPS = 64
"""How often at most what is left in a mailbox is moved: somebody may write all the time."""

_splice, _pread = os.splice, os.pread
_NONBLOCK = os.SPLICE_F_NONBLOCK


class NoRoom(OSError):
    """There is no room for what is in a mailbox; it stays there. The text says where."""


class MailFile:
    """The log of one mailbox, open for the one process that writes it."""

    __slots__ = ("_fd", "_map", "end", "marks", "path")

    def __init__(self, path: str, fd: int) -> None:
        """Use `open`."""
        self.path = path
        self._take_on(fd)

    def _take_on(self, fd: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, HEADER)
        self.marks = memoryview(self._map).cast("Q")
        self.end = os.lseek(fd, 0, os.SEEK_END)

    @classmethod
    def open(cls, path: str) -> MailFile:
        """Open the log at `path`; make it when it is not there.

        Raises `DirectoryUnusable` when there is no room for it, OSError when something else is in its place.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fd = _make(f"{path}.new")
            os.rename(f"{path}.new", path)
        if os.fstat(fd).st_size < HEADER or _pread(fd, 8, 0) != struct.pack("Q", MAGIC):
            os.close(fd)
            msg = f"{path} is no mailbox"
            raise OSError(msg)
        return cls(path, fd)

    def close(self) -> None:
        """Unmap and close."""
        self.marks.release()
        self._map.close()
        os.close(self._fd)

    # -- what came ------------------------------------------------------------------------------------------

    def take(self, fifo: int, size: int) -> bytes:
        """Move what is in a mailbox to the end of the log, at most `size` bytes, and give it.

        Raises BlockingIOError when there is nothing, `NoRoom` when nothing could be moved.
        """
        try:
            moved = _splice(fifo, self._fd, size, flags=_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom(error.errno, f"no room in {self.path} for what is in the mailbox") from error
            raise
        if not moved:
            raise BlockingIOError
        chunk = _pread(self._fd, moved, self.end)
        self.end += moved
        return chunk

    def read_all(self) -> bytes:
        """Give what the log holds."""
        pieces = []
        at = HEADER
        while at < self.end:
            pieces.append(_pread(self._fd, self.end - at, at))
            at += len(pieces[-1])
        return b"".join(pieces)

    def strike(self, at: int) -> None:
        """Make the byte at `at` no beginning of a frame: who reads the log again skips there as well."""
        os.pwrite(self._fd, b"\0", at)

    # -- what is over ---------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Empty the log: all letters in it are handled. The bytes go first: an empty log's marks mean nothing."""
        os.ftruncate(self._fd, HEADER)
        self.end = os.lseek(self._fd, HEADER, os.SEEK_SET)
        self.reset()

    def reset(self) -> None:
        """Count letters from 0 again."""
        marks = self.marks
        for mark in (BEGUN, COMMITS, TRIED, READING, TAKEN, DONE):
            marks[mark] = 0
        marks[EPOCH] = time.time_ns()

    def replace(self, frames: list[bytes], *, begun: bool) -> None:
        """Put a log of `frames` alone in its place, at once or not at all; `begun`: the first letter is in hand.

        Raises OSError when there is no room: the log is as it was.
        """
        larger = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(larger)
        fd = _make(larger)
        try:
            for frame in frames:
                _write(fd, frame)
            os.pwrite(fd, struct.pack("Q", int(begun)), BEGUN * 8)
            os.rename(larger, self.path)
        except OSError:
            os.close(fd)
            os.unlink(larger)
            raise
        self.close()
        self._take_on(fd)

    # -- out of turn ----------------------------------------------------------------------------------------

    def taken(self) -> set[int]:
        """Give the letters that were taken out of turn."""
        return set(self.marks[_TAKEN_AT : _TAKEN_AT + self.marks[TAKEN]])

    def note_taken(self, number: int) -> bool:
        """Mark a letter as taken out of turn; False when there is no room for one more mark."""
        count = self.marks[TAKEN]
        if count >= TAKEN_MAX:
            return False
        self.marks[_TAKEN_AT + count] = number
        self.marks[TAKEN] = count + 1
        return True


def _make(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        reserve(fd, HEADER, path)
        os.pwrite(fd, struct.pack("Q", MAGIC), 0)
        os.pwrite(fd, struct.pack("Q", time.time_ns()), EPOCH * 8)
        os.lseek(fd, HEADER, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return fd


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# -- for the OS parent, whose server is dead ---------------------------------------------------------------


def drain(fifo: int, path: str) -> None:
    """Move all that is in a dead server's mailbox to its log; what finds no room stays where it is."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.lseek(fd, 0, os.SEEK_END) == HEADER:
            # it may have died while it emptied the log: then the marks are of what is gone, and not of what comes now
            os.pwrite(fd, _FRESH.pack(0, 0, 0, 0, 0, 0, time.time_ns(), 0, 0), DONE * 8)
        for _ in range(DRAIN_STEPS):
            _splice(fifo, fd, _COPY, flags=_NONBLOCK)
    except OSError:
        # empty, most of the time
        return
    finally:
        os.close(fd)


class InHand(NamedTuple):
    """Which letter a dead server had in hand: its number, what that counts from, and whether it was only read."""

    epoch: int
    number: int
    is_reading: bool


def in_hand(path: str) -> InHand | None:
    """Say which letter a dead server had in hand, or could not read; None when there was none."""
    header = read(path, HEADER)
    if len(header) < HEADER:
        return None
    marks = memoryview(header).cast("Q")
    if marks[READING]:
        return InHand(marks[EPOCH], marks[READING] - 1, is_reading=True)
    begun = marks[BEGUN]
    return InHand(marks[EPOCH], begun - 1, is_reading=False) if begun > marks[DONE] else None


def read(path: str, size: int = -1) -> bytes:
    """Give the file as it is, or its beginning; nothing when it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


__all__ = ["DirectoryUnusable", "InHand", "MailFile", "NoRoom", "drain", "in_hand", "read"]
