"""Segments: large terms under way, each in a file of the node's directory, which is memory where that is a tmpfs.

    sender     lay ──► seg/<receiver>.<sender>.<number> ──► a frame that names it
    receiver   take ──► read or mapped ──► the name is removed, at once: nothing of it outlives who uses it

What a file looks like: `terms.parcel`. Buffers that may be read where they lie are *mapped*, each by itself and as long
as something refers to it; all else is read.

A page of a new file costs more than what is written into it: the kernel has to find and clear one. So a sender keeps
the last segments for itself, under a second name, `<sender>.<sender>.<number>`, and lays the next term into one that
nobody uses any more. That is the kernel's word, not the receiver's: the receiver has taken the first name away, and the
kernel grants a write lease (fcntl(2)) only on a file that no other process has open or mapped. Who is killed holds
nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import stat
import time
from typing import TYPE_CHECKING, Final

from otp_runtime.host import kernel
from otp_runtime.terms.parcel import Layout, Parcel, layout_of, pieces_of

if TYPE_CHECKING:
    from otp_runtime.terms.parcel import Buffer

KEPT_MAX: Final = 2
"""One that its receiver still looks at, as an idle server does at its last message, and one for the next term."""
KEPT_BYTES: Final = 32 << 20
KEPT_SECONDS: Final = 1.0
WASTE_MAX: Final = 4
"""A segment is not used for a term of less than so manieth of its size."""
MAPPED_MAX: Final = 1024
"""How many buffers a process has mapped at once: the kernel allows 65,530 mappings, the heap's included."""

ROOM_PARTS: Final = 8
"""What is left up to the half is for several processes."""
ROOM_SECONDS: Final = 1.0

_START = 4096
_ZEROS = memoryview(bytes(4096))
_IOV_MAX = 1024


class Segments:
    """The segments that one process lays."""

    kept_seconds = KEPT_SECONDS

    def __init__(self, root: str, owner: int) -> None:
        """`root` is the directory where segments lie, `owner` the id of the process."""
        self._root = root
        self._owner = owner
        self._kept: dict[str, int] = {}
        """Name and size of each that is kept; with no descriptor of it open."""
        self.used_at = 0.0

    def lay(self, payload: bytes, receiver: int, number: int) -> str | None:
        """Lay a payload into a segment and give its path; None when there is no room (it then travels in frames)."""
        path = f"{self._root}/{receiver}.{self._owner}.{number}"
        pieces = pieces_of(payload)
        size = pieces[-1][0] + len(pieces[-1][1])
        self.used_at = time.monotonic()
        try:
            if not self._lay_again(path, pieces, size):
                self._lay_anew(path, pieces, size, number)
        except OSError:
            return None
        return path

    def _lay_again(self, path: str, pieces: list[tuple[int, Buffer]], size: int) -> bool:
        """Lay into a segment that is kept, when one fits and nobody uses it."""
        for name, kept_size in self._kept.items():
            if size <= kept_size <= size * WASTE_MAX and (fd := _open_unused(name)) is not None:
                try:
                    _write(fd, pieces)
                finally:
                    os.close(fd)
                os.link(name, path)
                return True
        return False

    def _lay_anew(self, path: str, pieces: list[tuple[int, Buffer]], size: int, number: int) -> None:
        draft = f"{path}~"
        fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, pieces)
            if size <= KEPT_BYTES // KEPT_MAX and not _is_scarce(fd) and self._has_place():
                name = f"{self._root}/{self._owner}.{self._owner}.{number}"
                os.link(draft, name)
                self._kept[name] = size
            os.rename(draft, path)
        except OSError:
            os.unlink(draft)
            raise
        finally:
            os.close(fd)

    def _has_place(self) -> bool:
        """Say whether one more may be kept; make room for it by one that is not used, and does not fit any more."""
        if len(self._kept) < KEPT_MAX:
            return True
        for name in self._kept:
            if (fd := _open_unused(name)) is not None or not os.path.exists(name):
                self._drop(name)
                if fd is not None:
                    os.close(fd)
                return True
        return False

    @property
    def are_kept(self) -> bool:
        """Say whether segments are kept for the next terms."""
        return bool(self._kept)

    def drop(self) -> None:
        """Keep none any more."""
        for name in list(self._kept):
            self._drop(name)

    def _drop(self, name: str) -> None:
        del self._kept[name]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _open_unused(name: str) -> int | None:
    """Open a segment that is kept when its receiver has taken it, and nobody has it open or mapped; else None."""
    import fcntl

    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_nlink == 1:
            # were it opened while the lease is held, the kernel would tell by SIGIO, which ends a process
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return fd
    except OSError:
        """It is in use; or on a file system that has no leases."""
    os.close(fd)
    return None


def take(path: str) -> bytes:
    """Give the payload that a segment holds, and remove it; empty when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return _read(fd)
    except (OSError, ValueError):
        return b""
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    """Read a payload; raises `ValueError` when what lies there is none."""
    size = os.fstat(fd).st_size
    start = os.pread(fd, _START, 0)
    layout = layout_of(start, size)
    if not isinstance(layout, Layout):
        layout = layout_of(os.pread(fd, layout, 0), size)
        assert isinstance(layout, Layout)
    head = _read_piece(fd, layout.head)
    if not layout.buffers:
        return head
    buffers = [
        _read_piece(fd, piece) if is_own else _map_piece(fd, piece)
        for piece, is_own in zip(layout.buffers, layout.is_own, strict=True)
    ]
    return Parcel.of(head, buffers)


def _read_piece(fd: int, piece: slice) -> bytes:
    size = piece.stop - piece.start
    data = os.pread(fd, size, piece.start)
    while len(data) < size:  # the kernel gives 2 GiB at most
        more = os.pread(fd, size - len(data), piece.start + len(data))
        if not more:
            message = "cut short"
            raise ValueError(message)
        data += more
    return data


def _map_piece(fd: int, piece: slice) -> Buffer:
    """Give a buffer where it lies; a copy where too many are held, or memory of this kind is scarce."""
    if Mapped.count >= MAPPED_MAX or piece.start % mmap.PAGESIZE or not _room.take(fd, piece.stop - piece.start):
        return _read_piece(fd, piece)
    try:
        return memoryview(Mapped.of(fd, piece)).toreadonly()
    except OSError:
        return _read_piece(fd, piece)


class Mapped(mmap.mmap):
    """Part of a file, mapped without a descriptor, as long as something refers to it.

    Python's own mapping of a file holds a descriptor for each (up to 3.12). So this is one of no file, and the pages of
    the file are put in its place. They are private: whoever gets round the read-only views of it writes for himself.
    """

    count = 0

    @classmethod
    def of(cls, fd: int, piece: slice) -> Mapped:
        """Map a piece, which begins at a page. Raises OSError."""
        length = piece.stop - piece.start
        made = cls(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
        Mapped.count += 1
        kernel.map_over(made, fd, piece.start)
        return made

    def __del__(self) -> None:
        """It is unmapped."""
        Mapped.count -= 1


def _is_scarce(fd: int) -> bool:
    """Say whether the file system is more than half full: then its pages are needed for what is under way."""
    return _bytes_to_half(fd) < 0


def _bytes_to_half(fd: int) -> int:
    found = os.fstatvfs(fd)
    return (found.f_bavail - found.f_blocks // 2) * found.f_frsize


class _Room:
    """How much more may be kept mapped before the file system is asked again: that costs as much as all the rest."""

    __slots__ = ("_left", "_until")

    def __init__(self) -> None:
        self._left = 0
        self._until = 0.0

    def take(self, fd: int, size: int) -> bool:
        """Count a piece; False when memory of this kind is scarce."""
        now = time.monotonic()
        if now > self._until or size > self._left:
            self._left = _bytes_to_half(fd) // ROOM_PARTS
            self._until = now + ROOM_SECONDS
        if size > self._left:
            return False
        self._left -= size
        return True


_room = _Room()


def _write(fd: int, pieces: list[tuple[int, Buffer]]) -> None:
    """Write pieces, each where it belongs, if possible with one system call."""
    joined: list[Buffer] = []
    at = 0
    for start, piece in pieces:
        if start > at:
            joined.append(_ZEROS[: start - at])
        joined.append(piece)
        at = start + len(piece)
    if len(joined) <= _IOV_MAX and os.pwritev(fd, joined, 0) == at:
        return
    for start, piece in pieces:
        _write_piece(fd, piece, start)


def _write_piece(fd: int, piece: Buffer, at: int) -> None:
    view = memoryview(piece)
    while view:
        written = os.pwrite(fd, view, at)
        at += written
        view = view[written:]
