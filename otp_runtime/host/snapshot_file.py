"""A mapped file of kept states: what survives SIGKILL of the server that wrote it.

       0  magic, version     8  room of a slot     16  the streak     24  how far the server got, whether it redacts
    4096  the slots, one after the other; in each
              0  length, length of the version, parent, checksum, generation
             64  the version of the class, then the state

A slot is written so that it is whole or none: first its generation becomes 0, then the bytes go in, then the numbers,
and the generation last. A process that SIGKILL ends between two of these stores has made all before it and none after
it, and the kernel keeps what was stored. The checksum is for what nobody expects. What belongs to a slot lies together,
as each page that a write touches costs a cold server more than the bytes do.

A file that has become too small is replaced by a larger one, made beside it and renamed over it, which the kernel does
at once or not at all. The file is reserved before it is mapped, 0600, and made by the server that keeps a state, in the
place that its OS parent gave it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from typing import NamedTuple
from zlib import adler32

from otp_runtime.host.directory import make_mapped

MAGIC = 0x53544F42
VERSION = 1
SLOTS = 3
SHOWN_MAX = 65_536

_HEADER = 4096
_ROOM_AT, _STREAK_AT, _PHASE_AT, _REDACTED_AT, _FACTS_END = 8, 16, 24, 25, 32
_GENERATION_AT, _DATA_AT = 32, 64
_HEAD = struct.Struct("II")
# native numbers: each is one store, where the portable ones are written byte by byte
_NUMBER = struct.Struct("Q")
_NUMBERS = struct.Struct("5Q")
_pack_number, _pack_numbers = _NUMBER.pack_into, _NUMBERS.pack_into
_PAGE = 4096
_LARGE = 1 << 20


class Saved(NamedTuple):
    """A kept state and what it is: its generation and the one before it, the class's version, both encoded."""

    generation: int
    parent: int
    vsn: bytes
    body: bytes


class _Numbers(NamedTuple):
    """What stands before a slot's bytes, in the order in which it is written."""

    length: int
    vsn_length: int
    parent: int
    checksum: int
    generation: int

    def is_of(self, data: bytes | memoryview) -> bool:
        """Whether the checksum is that of `data` and of these numbers."""
        return self.checksum == adler32(data) ^ (self.generation ^ self.parent << 11 ^ self.length << 7) & 0xFFFFFFFF


class SnapshotFile:
    """The kept states of one server, mapped."""

    __slots__ = ("_map", "_room", "path")

    def __init__(self, path: str, mapped: mmap.mmap) -> None:
        """Wrap a mapping; see `open`."""
        self.path = path
        self._map = mapped
        self._room: int = _NUMBER.unpack_from(mapped, _ROOM_AT)[0]

    @classmethod
    def open(cls, path: str) -> SnapshotFile:
        """Map the file at `path`; make it, and the directories it lies in, when it is not there.

        Raises `DirectoryUnusable` when there is no room for it, OSError when something else is in its place.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return cls(path, _make(path, _PAGE))
        try:
            size = os.fstat(fd).st_size
            header = os.pread(fd, _HEADER, 0)
            found = _format_of(header)
            if found is not None and found != VERSION:
                msg = f"{path} is written in format {found}, and this version of otp_runtime reads {VERSION}"
                raise OSError(msg)
            if found is None or size != _size(*_NUMBER.unpack_from(header, _ROOM_AT)):
                msg = f"{path} is no file of kept states: whoever needs no state may remove it"
                raise OSError(msg)
            return cls(path, mmap.mmap(fd, size))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap."""
        self._map.close()

    # -- the server's luck ----------------------------------------------------------------------------------

    @property
    def streak(self) -> int:
        """How often the server died with its state, as a number; written at once."""
        return int(_NUMBER.unpack_from(self._map, _STREAK_AT)[0])

    @streak.setter
    def streak(self, number: int) -> None:
        _pack_number(self._map, _STREAK_AT, number)

    @property
    def phase(self) -> int:
        """How far the server got with its state."""
        return int(self._map[_PHASE_AT])

    @phase.setter
    def phase(self, phase: int) -> None:
        self._map[_PHASE_AT] = phase

    def redact(self, flag: bool) -> None:
        """Say whether the state may be shown only through the server's own `format_status`."""
        self._map[_REDACTED_AT] = flag

    # -- slots ----------------------------------------------------------------------------------------------

    def slots(self) -> list[tuple[int, int]]:
        """Give (generation, parent) of each slot; (0, 0) of one that is empty or not whole."""
        found = [(self._start(at), self._numbers(at)) for at in range(SLOTS)]
        return [
            (numbers.generation, numbers.parent) if self._is_whole(start, numbers) else (0, 0)
            for start, numbers in found
        ]

    def _start(self, at: int) -> int:
        return _HEADER + at * self._room

    def _numbers(self, at: int) -> _Numbers:
        return _Numbers._make(_NUMBERS.unpack_from(self._map, self._start(at)))

    def _is_whole(self, start: int, numbers: _Numbers) -> bool:
        if not numbers.generation or numbers.vsn_length > numbers.length or numbers.length > self._room - _DATA_AT:
            return False
        with memoryview(self._map) as view, view[start + _DATA_AT : start + _DATA_AT + numbers.length] as data:
            return numbers.is_of(data)

    def read(self, at: int) -> Saved:
        """Give what is in a slot that is whole."""
        numbers = self._numbers(at)
        start = self._start(at) + _DATA_AT
        middle, end = start + numbers.vsn_length, start + numbers.length
        return Saved(numbers.generation, numbers.parent, self._map[start:middle], self._map[middle:end])

    def write(self, at: int, generation: int, parent: int, vsn: bytes, body: bytes) -> None:
        """Keep a state in a slot. Raises `DirectoryUnusable` when there is no room; the other slots are as before."""
        data = vsn + body
        length = len(data)
        if length > self._room - _DATA_AT:
            self._grow(at, length)
        mapped = self._map
        start = _HEADER + at * self._room
        _pack_number(mapped, start + _GENERATION_AT, 0)
        mapped[start + _DATA_AT : start + _DATA_AT + length] = data
        checksum = adler32(data) ^ (generation ^ parent << 11 ^ length << 7) & 0xFFFFFFFF
        # written one after the other, the generation last
        _pack_numbers(mapped, start, length, len(vsn), parent, checksum, generation)

    def _grow(self, spare: int, length: int) -> None:
        """Replace the file by one whose slots have room for `length` bytes; slot `spare` is not needed any more."""
        larger = f"{self.path}.new"
        wanted = _DATA_AT + (length * 2 if length < _LARGE else length + length // 4)
        room = -(-wanted // _PAGE) * _PAGE
        with contextlib.suppress(FileNotFoundError):
            os.unlink(larger)
        mapped = _make(larger, room)
        mapped[_STREAK_AT:_FACTS_END] = self._map[_STREAK_AT:_FACTS_END]
        for at in range(SLOTS):
            numbers, old, new = self._numbers(at), self._start(at), _HEADER + at * room
            size = _DATA_AT + numbers.length
            if at != spare and numbers.generation and size <= self._room:
                mapped[new : new + size] = self._map[old : old + size]
        os.rename(larger, self.path)
        self.close()
        self._map = mapped
        self._room = room


def _size(room: int) -> int:
    return _HEADER + SLOTS * room


def _make(path: str, room: int) -> mmap.mmap:
    mapped = make_mapped(path, _size(room))
    _pack_number(mapped, _ROOM_AT, room)
    _HEAD.pack_into(mapped, 0, MAGIC, VERSION)
    return mapped


def _format_of(header: bytes) -> int | None:
    """Give the format in which a file of kept states is written; None of any other file."""
    if len(header) < _HEADER or _HEAD.unpack_from(header)[0] != MAGIC:
        return None
    return int(_HEAD.unpack_from(header)[1])


# -- for the OS parent, whose server is dead ---------------------------------------------------------------


class Remains(NamedTuple):
    """What a dead server kept: its streak, how far it got, and the newest state.

    `body` is None when there is none, when it is longer than `SHOWN_MAX`, or when it may not be shown.
    """

    streak: int
    phase: int
    body: bytes | None


def look(path: str) -> Remains | None:
    """See what a dead server kept; None when there is no such file. Reads little, whatever the size of the state."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        header = os.pread(fd, _HEADER, 0)
        if _format_of(header) != VERSION:
            return None
        (streak,) = _NUMBER.unpack_from(header, _STREAK_AT)
        body = None if header[_REDACTED_AT] else _newest_body(fd, *_NUMBER.unpack_from(header, _ROOM_AT))
        return Remains(streak, header[_PHASE_AT], body)
    finally:
        os.close(fd)


def _newest_body(fd: int, room: int) -> bytes | None:
    starts = [_HEADER + at * room for at in range(SLOTS)]
    found = [(_Numbers._make(_NUMBERS.unpack(os.pread(fd, _NUMBERS.size, start))), start) for start in starts]
    numbers, start = max(found, key=lambda slot: slot[0].generation)
    if not numbers.generation or numbers.length > SHOWN_MAX:
        return None
    data = os.pread(fd, numbers.length, start + _DATA_AT)
    return data[numbers.vsn_length :] if numbers.is_of(data) else None


def set_streak(path: str, number: int) -> None:
    """Write the streak of a dead server."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, _NUMBER.pack(number), _STREAK_AT)
    finally:
        os.close(fd)


def forget(path: str) -> None:
    """Remove the file, if there is one."""
    for name in (path, f"{path}.new"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
