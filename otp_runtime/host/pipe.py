"""Frames: how bytes travel through a mailbox.

    magic 0xC1 | kind | length of the whole frame (u16) | payload          at most PIPE_BUF bytes

Every frame is written by ONE write of at most PIPE_BUF bytes, which the kernel makes atomic (pipe(7)): a
writer that is killed leaves the frame in the pipe or not, never half of it. No lock is there to be left
held. Only a run of full frames, of a term that takes many, is one write of as many pages (see `write_run`).
0xC1 is the one byte that msgpack never uses, so what is no frame of ours is found at once: the reader
skips to the next frame, counts, and goes on.

A payload too large for one frame travels as WHOLE frames do, in parts: sender, message number, part n of m.
One such term at a time per sender and receiver; a part with a new message number drops that sender's
unfinished one. From `SEGMENT_FROM` bytes the payload lies in a file of the node's directory (memory, where
that is a tmpfs) and the frame only names it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import Any, Final

MAGIC: Final = 0xC1
WHOLE, PART, SEGMENT, ABORT = range(4)

_HEADER = struct.Struct("<BBH")
_PART = struct.Struct("<QIII")
_PART_HEAD = struct.Struct("<HHQIII")
_ABORT = struct.Struct("<QQ")
FRAME_MAX = 4096
PAYLOAD_MAX = FRAME_MAX - _HEADER.size
_PART_DATA = PAYLOAD_MAX - _PART.size
READ_SIZE = 65536
RUN_MAX: Final = 16
"""So many full frames fill an empty mailbox."""
SEGMENT_FROM = 128 * 1024
TERM_MAX = 1 << 30

pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_unpack_head = struct.Struct("<HH").unpack_from
WHOLE_WORD = int.from_bytes(bytes([MAGIC, WHOLE]), "little")
PART_WORD = WHOLE_WORD + (PART << 8)
SHORT: Final = 256
SHORT_HEADS: Final = tuple(pack_header(MAGIC, WHOLE, size) for size in range(SHORT))
"""The heads of short whole frames, by their length: looking one up takes a third of packing it."""


def waiting_bytes(path: str) -> int:
    """Count the bytes that lie unread in a FIFO, frames' heads included; 0 when nobody reads it."""
    import fcntl
    import termios

    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        count = bytearray(4)
        fcntl.ioctl(fd, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder)
    except OSError:
        return 0
    finally:
        os.close(fd)


def whole(payload: bytes) -> bytes:
    """Make the frame of a payload that fits into one."""
    return pack_header(MAGIC, WHOLE, len(payload) + 4) + payload


def parts(payload: bytes, sender: int, number: int) -> list[bytes]:
    """Cut a payload into the frames in which it travels."""
    count = -(-len(payload) // _PART_DATA)
    # views, so that what is cut is copied once
    view = memoryview(payload)
    return [
        part(view[index * _PART_DATA : (index + 1) * _PART_DATA], sender, number, index, count)
        for index in range(count)
    ]


def part(data: bytes | memoryview, sender: int, number: int, index: int, count: int) -> bytes:
    """Make the frame of one part of a payload."""
    head = _PART_HEAD.pack(PART_WORD, _PART_HEAD.size + len(data), sender, number, index, count)
    return b"".join((head, data))


def write_run(fd: int, frames: list[bytes]) -> int:
    """Write full frames, each of `FRAME_MAX` bytes, in one system call; give how many were written.

    pipe(7) promises nothing of a write longer than PIPE_BUF. But a Linux pipe is a ring of pages, and a non-blocking
    write that fills whole pages holds the ring from the first to the last of them: nobody writes in between, and what
    finds no room ends where a page does, which is where a frame does. Raises BlockingIOError when there is no room.
    """
    return os.writev(fd, frames) // FRAME_MAX


def segment(path: str) -> bytes:
    """Make the frame that names a segment."""
    data = os.path.basename(path).encode()
    return pack_header(MAGIC, SEGMENT, len(data) + 4) + data


def abort(sender: int, before: int) -> bytes:
    """Make the frame that drops a sender's unfinished term, and its segments with numbers below `before`."""
    return pack_header(MAGIC, ABORT, 4 + _ABORT.size) + _ABORT.pack(sender, before)


def only(chunk: bytes) -> bytes | None:
    """Give the payload of a chunk that is one whole frame and nothing else; None otherwise."""
    size = len(chunk)
    if size < SHORT:
        return chunk[4:] if chunk[:4] == SHORT_HEADS[size] else None
    return chunk[4:] if size <= FRAME_MAX and chunk[:4] == pack_header(MAGIC, WHOLE, size) else None


class Unframer:
    """Turns what was read from a mailbox into payloads, one reader's memory of unfinished terms included."""

    __slots__ = ("_partial", "amid", "garbage", "half", "owner", "segments")

    def __init__(self, segments: str, owner: int = 0) -> None:
        """`segments` is the directory in which segments lie, `owner` the id of the process that reads."""
        self.segments = segments
        self.owner = str(owner)
        self.garbage = 0
        self.half = b""
        """What a full read cut off the last frame; empty when the last chunk ended where a frame did."""
        self.amid = False
        """Set when the last chunk ended in the middle of a term: its sender has more to write, and needs a core for it.
        Whoever waits for that takes it back."""
        self._partial: dict[int, tuple[int, int, list[bytes | memoryview]]] = {}

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the payloads that `chunk` completes, in order. Never raises for what the bytes are."""
        size = len(chunk)
        if not self.half:
            payload = only(chunk)
            if payload is not None:
                return [payload]
        else:
            chunk = self.half + chunk
            size = len(chunk)
            self.half = b""
        found: list[bytes] = []
        at = 0
        while at < size:
            # whole frames, and parts, one behind the other: what is nearly always there
            while size - at >= 4:
                head, length = _unpack_head(chunk, at)
                end = at + length
                if end > size or length > FRAME_MAX:
                    break
                if head == WHOLE_WORD and length >= 4:
                    found.append(chunk[at + 4 : end])
                else:
                    end = self._join_run(chunk, at, found) if head == PART_WORD else at
                    if end == at:
                        break
                at = end
            if at >= size:
                break
            if size - at < 4:
                at = self._rest(chunk, at)
                break
            magic, kind, length = _unpack_header(chunk, at)
            if magic != MAGIC or kind > ABORT or not 4 <= length <= FRAME_MAX:
                at = self._skip(chunk, at)
                continue
            end = at + length
            if end > size:
                at = self._rest(chunk, at)
                continue
            if kind == WHOLE:
                found.append(chunk[at + 4 : end])
            else:
                self._special(kind, chunk[at + 4 : end], found)
            at = end
        return found

    def _rest(self, chunk: bytes, at: int) -> int:
        """Keep the beginning of a frame that a full read cut; anything else that is cut is garbage."""
        if len(chunk) >= READ_SIZE:
            self.half = chunk[at:]
            return len(chunk)
        return self._skip(chunk, at)

    def _skip(self, chunk: bytes, at: int) -> int:
        self.garbage += 1
        after = chunk.find(MAGIC, at + 1)
        return len(chunk) if after < 0 else after

    def _special(self, kind: int, data: bytes, found: list[bytes]) -> None:
        payload: bytes | None
        if kind == SEGMENT:
            payload = self._read_segment(data)
        elif kind == ABORT:
            self._abort(data)
            return
        else:
            payload = self._join(data)
            if payload is None:
                return
        if payload:
            found.append(payload)
        else:
            self.garbage += 1

    def _abort(self, data: bytes) -> None:
        """Drop what a sender left: whatever it named in a frame has been read by now, as frames keep their order."""
        if len(data) != _ABORT.size:
            self.garbage += 1
            return
        sender, before = _ABORT.unpack(data)
        self._partial.pop(sender, None)
        self._drop_abandoned(sender, before)

    def _drop_abandoned(self, sender: int, before: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # the node is ending
            self._drop_segments(sender, before)

    def _drop_segments(self, sender: int, before: int) -> None:
        for name in os.listdir(self.segments):
            receiver, _, rest = name.partition(".")
            owner, _, number = rest.partition(".")
            if receiver == self.owner and owner == str(sender) and int(number.rstrip("~") or 0) < before:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.segments}/{name}")

    def _join_run(self, chunk: bytes, at: int, found: list[bytes]) -> int:
        """Take the parts that lie here and go on where their term stopped; give where the first lies that does not."""
        size, view = len(chunk), memoryview(chunk)
        sender, known = -1, None
        while size - at >= _PART_HEAD.size:
            head, length, writer, number, index, count = _PART_HEAD.unpack_from(chunk, at)
            if head != PART_WORD or not _PART_HEAD.size <= length <= FRAME_MAX or at + length > size:
                break
            if writer != sender:
                sender, known = writer, self._partial.get(writer)
            if known is None or known[0] != number or known[1] != count or len(known[2]) != index:
                break
            # a view: the term is copied once, when it is whole
            known[2].append(view[at + _PART_HEAD.size : at + length])
            at += length
            self.amid = index + 1 < count
            if index + 1 == count:
                del self._partial[sender]
                found.append(b"".join(known[2]))
                known = None
        return at

    def _join(self, data: bytes) -> bytes | None:
        if len(data) < _PART.size:
            return b""
        sender, number, index, count = _PART.unpack_from(data)
        known = self._partial.get(sender)
        if index == 0 and 0 < count <= TERM_MAX // _PART_DATA:
            known = self._partial[sender] = (number, count, [])
        if known is None or known[0] != number or known[1] != count or len(known[2]) != index:
            self._partial.pop(sender, None)
            return b""
        known[2].append(data[_PART.size :])
        self.amid = index + 1 < count
        if self.amid:
            return None
        del self._partial[sender]
        return b"".join(known[2])

    def _read_segment(self, data: bytes) -> bytes:
        name = data.decode("ascii", errors="replace")
        if "/" in name or not name[:1].isdigit():
            return b""
        from otp_runtime.host import segments  # only some need it

        return segments.take(f"{self.segments}/{name}")

    def unfinished(self) -> tuple[bytes, list[list[Any]]]:
        """Give, as data, the terms that have come in part; for another reader of the same mailbox to `resume`."""
        partial = self._partial.items()
        return self.half, [[sender, *known, list(map(bytes, had))] for sender, (*known, had) in partial]

    def resume(self, half: bytes, partial: list[list[Any]]) -> None:
        """Go on where another reader stopped."""
        self.half = half
        self._partial = {sender: (number, count, parts) for sender, number, count, parts in partial}

    def forget(self, sender: int) -> None:
        """Drop the unfinished term of a sender that died."""
        self._partial.pop(sender, None)
