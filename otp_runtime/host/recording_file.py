"""A mapped file of what a server received since a state it had: what survives SIGKILL of the server that wrote it.

       0  magic, version     8  the round, and in which area it is     16  room of an area     24  length of the next
    4096  what the server is: its class, the argument of `init`, encoded
       …  two areas, in each
              the base: the state that the server had when the round began
              the entries: what it was about to handle since, one after the other

A *round* begins with a base. It is written into the other area and becomes the current one by one store at its end, as
does a round that begins anew with the same base. An entry belongs to the current round or is none: it is written with
its bytes first, the numbers after them, the round last of all. So whoever is killed between two stores leaves whole
entries, and either the old round or the new one. The checksum is for what nobody expects.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import adler32

from otp_runtime.host.directory import make_mapped

if TYPE_CHECKING:
    import mmap

MAGIC = 0x524F5442
VERSION = 1
BASE, LOST, MESSAGE, CONTINUE, OPAQUE = range(5)
"""Kinds: a state; why there is none; an envelope; the term of a continue; why a message could not be recorded."""

ENTRIES_MAX = 1 << 20
"""Bytes of entries that one round may have."""

ENTRY_MAX = 16 << 20
"""Bytes of one entry, alone in its round."""

_HEADER = 4096
_CURRENT_AT, _ROOM_AT, _ABOUT_AT = 8, 16, 24
_PAGE = 4096
_FIRST_ROOM = 65_536
_HEAD = struct.Struct("II")
# native numbers: each is one store
_NUMBER = struct.Struct("Q")
_ENTRY = struct.Struct("dQIIQ")
_pack_number, _pack_entry = _NUMBER.pack_into, _ENTRY.pack_into
_ENTRY_SIZE = _ENTRY.size


class Entry(NamedTuple):
    """What a server was about to handle: its kind, its bytes, and when (monotonic seconds)."""

    kind: int
    data: bytes
    at: float


class Recording(NamedTuple):
    """What a file says. `base` is BASE with a state, or LOST with a text that says why there is none."""

    about: bytes
    base: Entry
    entries: tuple[Entry, ...]


class RecordingFile:
    """The recording of one server, mapped."""

    __slots__ = ("_about", "_areas_at", "_end", "_entries_at", "_map", "_number", "_room", "_since", "path")

    def __init__(self, path: str, about: bytes) -> None:
        """Make the file at `path`, in the place of one that is there; `about` says of what server it is.

        Raises OSError when there is no room for it.
        """
        self.path = path
        self._about = about
        self._areas_at = _HEADER + _pages(len(about))
        self._number = 0
        self._room = _FIRST_ROOM
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._map = self._make(_FIRST_ROOM)
        self._end = self._entries_at = self._since = 0
        self.begin(LOST, b"nothing was recorded yet", 0.0)
        os.rename(f"{path}.new", path)

    def _make(self, room: int) -> mmap.mmap:
        """Map a draft whose areas have `room` bytes."""
        draft = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        mapped = make_mapped(draft, self._areas_at + 2 * room)
        _HEAD.pack_into(mapped, 0, MAGIC, VERSION)
        _pack_number(mapped, _ROOM_AT, room)
        _pack_number(mapped, _ABOUT_AT, len(self._about))
        mapped[_HEADER : _HEADER + len(self._about)] = self._about
        return mapped

    def begin(self, kind: int, data: bytes, at: float) -> None:
        """Begin a round: `data` is the state, or with LOST a text. Raises OSError when there is no room."""
        length = len(data)
        if _ENTRY_SIZE + length > self._room:
            self._grow(_ENTRY_SIZE + length)
        number = self._number + 1
        area = 1 - (self._number_and_area() & 1)
        start = self._areas_at + area * self._room
        self._put(start, kind, data, at, number)
        _pack_number(self._map, _CURRENT_AT, number << 1 | area)
        self._number = number
        self._entries_at = self._end = start + _aligned(_ENTRY_SIZE + length)
        self._since = start

    def begin_again(self) -> None:
        """Begin a round with the same base."""
        current = self._number_and_area() + 2
        _pack_number(self._map, _CURRENT_AT, current)
        self._number = current >> 1
        self._end = self._entries_at

    def append(self, kind: int, data: bytes, at: float) -> bool:
        """Add an entry; False when the round is full. Raises OSError when there is no room for a larger file."""
        length = len(data)
        end = self._end + _ENTRY_SIZE + length
        if end - self._entries_at > ENTRIES_MAX and not (self._end == self._entries_at and length <= ENTRY_MAX):
            return False
        if end - self._since > self._room:
            self._grow(end - self._since)
        self._put(self._end, kind, data, at, self._number)
        self._end += _aligned(_ENTRY_SIZE + length)
        return True

    def _put(self, start: int, kind: int, data: bytes, at: float, number: int) -> None:
        mapped = self._map
        length = len(data)
        mapped[start + _ENTRY_SIZE : start + _ENTRY_SIZE + length] = data
        _pack_entry(mapped, start, at, length, adler32(data), kind, number)

    def _number_and_area(self) -> int:
        return int(_NUMBER.unpack_from(self._map, _CURRENT_AT)[0])

    def _grow(self, needed: int) -> None:
        """Go on in a larger file that has the current area of this one."""
        room = _pages(needed * 2 if needed < ENTRIES_MAX else needed + needed // 4)
        current = self._number_and_area()
        area = current & 1
        larger = self._make(room)
        old, new = self._areas_at + area * self._room, self._areas_at + area * room
        used = self._end - self._since if self._since else 0
        larger[new : new + used] = self._map[old : old + used]
        _pack_number(larger, _CURRENT_AT, current)
        os.rename(f"{self.path}.new", self.path)
        self._map.close()
        self._map, self._room = larger, room
        self._entries_at += new - self._since
        self._end += new - self._since
        self._since = new

    def close(self, *, forget: bool = False) -> None:
        """Unmap; `forget` removes the file."""
        self._map.close()
        if forget:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def read(path: str) -> Recording:
    """Read a recording. Raises OSError, and ValueError, which says why, when it cannot be read."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < _HEADER or _HEAD.unpack_from(data)[0] != MAGIC:
        msg = f"{path} is no recording"
        raise ValueError(msg)
    (version,) = struct.unpack_from("I", data, 4)
    if version != VERSION:
        msg = f"{path} is a recording in format {version}, and this version of otp_runtime reads {VERSION}"
        raise ValueError(msg)
    current, room, length = struct.unpack_from("3Q", data, _CURRENT_AT)
    number, area = current >> 1, current & 1
    start = _HEADER + _pages(length) + area * room
    end = start + room
    base, at = _entry(data, start, end)
    if base is None:
        msg = f"{path} is damaged: the state it starts from is not whole"
        raise ValueError(msg)
    entries: list[Entry] = []
    while True:
        entry, at = _entry(data, at, end, number)
        if entry is None:
            return Recording(data[_HEADER : _HEADER + length], base, tuple(entries))
        entries.append(entry)


def about(path: str) -> bytes:
    """Read of what server a recording is; b"" of none."""
    with open(path, "rb") as file:
        header = file.read(_HEADER)
        if len(header) < _HEADER or _HEAD.unpack_from(header) != (MAGIC, VERSION):
            return b""
        return file.read(*_NUMBER.unpack_from(header, _ABOUT_AT))


def _entry(data: bytes, at: int, end: int, number: int | None = None) -> tuple[Entry | None, int]:
    """Give the entry at `at`, if it is a whole one of round `number`, and where the next one is."""
    if at + _ENTRY_SIZE > end:
        return None, at
    when, length, checksum, kind, found = _ENTRY.unpack_from(data, at)
    payload = data[at + _ENTRY_SIZE : at + _ENTRY_SIZE + length]
    whole = found and at + _ENTRY_SIZE + length <= end and adler32(payload) == checksum
    if not whole or number not in {None, found}:
        return None, at
    return Entry(kind, payload, when), at + _aligned(_ENTRY_SIZE + length)


def _aligned(size: int) -> int:
    return size + 7 & ~7


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


__all__ = [
    "BASE",
    "CONTINUE",
    "ENTRIES_MAX",
    "ENTRY_MAX",
    "LOST",
    "MESSAGE",
    "OPAQUE",
    "Entry",
    "Recording",
    "RecordingFile",
    "about",
    "read",
]
