"""A term in several pieces: what it says, and the large buffers in it, which nobody has to copy into that.

    head      the term, in which an index stands for each buffer
    buffers   *own* ones, bytes or a bytearray, which their receiver gets as its own; and views, of what a pickled
              object put aside (pickle protocol 5), which it may read where it lies

A parcel is made to be sent at once: until it is written somewhere, its buffers are the sender's own memory. As one
piece, `flat`, it can lie anywhere and be decoded as well.

    0xC1 | version | 0 0 | count | length of the head | count x (length << 1 | is own) | head | buffer | buffer ...

0xC1 is the byte that msgpack never uses, so no other term begins with it. Every buffer begins at a page, to be mapped.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["APART_FROM", "Buffer", "Layout", "Parcel", "flatten", "layout_of", "pieces_of", "unflatten"]

MAGIC: Final = 0xC1
VERSION: Final = 1
APART_FROM: Final = 256 * 1024
"""From how many bytes on a buffer lies apart: below it, one more file costs more than one more copy."""

_FIXED = struct.Struct("<BBHIQ")
_ENTRY = struct.Struct("<Q")
_PAGE: Final = 4096


Buffer: TypeAlias = bytes | bytearray | memoryview
"""A view is one of bytes, in one dimension."""


class Parcel(bytes):
    """The head of a term, and its buffers; its length is that of all of it."""

    buffers: Sequence[Buffer]

    def __len__(self) -> int:
        """Count the bytes of all pieces, which is what it takes to send and to keep it."""
        return super().__len__() + sum(map(len, self.buffers))

    def __bytes__(self) -> bytes:
        """Give it in one piece."""
        return flatten(self)

    def __hash__(self) -> int:
        """Two parcels are never the same."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Two parcels are never the same."""
        return self is other

    @property
    def head(self) -> bytes:
        """The term without its buffers."""
        return self[:]

    @classmethod
    def of(cls, head: bytes, buffers: Sequence[Buffer]) -> Parcel:
        """Put one together."""
        made = cls(head)
        made.buffers = buffers
        return made


class Layout(NamedTuple):
    """Where the pieces lie."""

    head: slice
    buffers: list[slice]
    is_own: list[bool]


def pieces_of(payload: bytes) -> list[tuple[int, Buffer]]:
    """Give what a payload, a parcel or not, looks like as one piece: where each part of it begins, and the part."""
    parcel = payload if type(payload) is Parcel else None
    head = payload if parcel is None else parcel.head
    buffers = () if parcel is None else parcel.buffers
    entries = [_ENTRY.pack(len(one) << 1 | (type(one) is not memoryview)) for one in buffers]
    start = b"".join((_FIXED.pack(MAGIC, VERSION, 0, len(buffers), len(head)), *entries))
    pieces: list[tuple[int, Buffer]] = [(0, start), (len(start), head)]
    at = len(start) + len(head)
    for buffer in buffers:
        at = _page_from(at)
        pieces.append((at, buffer))
        at += len(buffer)
    return pieces


def layout_of(start: bytes, size: int) -> Layout | int:
    """Read where everything lies, from the first bytes of `size` in all.

    Gives the number of bytes that it takes when `start` is too short; raises `ValueError` when this is no parcel.
    """
    if len(start) < _FIXED.size:
        if size < _FIXED.size:
            raise _not_one("too short")
        return _FIXED.size
    magic, version, zero, count, length = _FIXED.unpack_from(start)
    at: int = _FIXED.size + count * _ENTRY.size
    if magic != MAGIC or version != VERSION or zero or at + length > size:
        raise _not_one("not one of ours")
    if len(start) < at:
        return at
    head = slice(at, at + length)
    at += length
    buffers, is_own = [], []
    for index in range(count):
        (entry,) = _ENTRY.unpack_from(start, _FIXED.size + index * _ENTRY.size)
        at = _page_from(at)
        buffers.append(slice(at, at + (entry >> 1)))
        is_own.append(bool(entry & 1))
        at += entry >> 1
        if at > size:
            raise _not_one("cut short")
    return Layout(head, buffers, is_own)


def flatten(parcel: Parcel) -> bytes:
    """Give a parcel as one piece."""
    joined: list[Buffer] = []
    at = 0
    for start, piece in pieces_of(parcel):
        joined += (bytes(start - at), piece)
        at = start + len(piece)
    return b"".join(joined)


def unflatten(data: bytes) -> Parcel:
    """Give what `flatten` made one piece of; raises `ValueError` when it did not."""
    layout = layout_of(data, len(data))
    if isinstance(layout, int):
        raise _not_one("cut short")
    # each a piece of its own: what is read where it lies may look at whose memory that is
    return Parcel.of(data[layout.head], [data[piece] for piece in layout.buffers])


def _page_from(at: int) -> int:
    return -(-at // _PAGE) * _PAGE


def _not_one(why: str) -> ValueError:
    return ValueError(f"no parcel: {why}")
