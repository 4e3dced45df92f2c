"""Shared tables: one writer at a time, readers that ask nobody.

    tables/<name>/0          the head of partition 0: one mapped block of words
    tables/<name>/0.<gen>    its log: records, appended; compaction begins the next generation

    head, in words of 8 bytes:   0 open (the magic) or closed (0)     1 stamp: generation << 40 | bytes of the log
                                 2 bytes it had when it began         3 the process that looks after it
                                 4 owner     5 kind                   6 partitions

Reading: compare the first two words with those seen last; when they differ, read what was appended. Writing: hold
`flock` on the head, write behind the end, then store the stamp, one aligned word. So a writer that is killed leaves
nothing: what it wrote lies behind the end and is written over, and the kernel frees the lock with its holder. A log is
an ordinary file, written with `pwrite`: a full disk is an error of the writer's, never a SIGBUS of a reader's.

A table belongs to its owner, a process, and goes when that is dead and not coming back (`sweep`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Final

from otp_runtime.host.directory import reserve
from otp_runtime.host.fates import Fates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.host.directory import NodeDirectory

MAGIC: Final = 0x454C424154
WATCHED_BYTES: Final = 16
_WORDS: Final = 8
_SIZE: Final = _WORDS * 8
_OPEN, _STAMP, _BASE, _KEEPER, _OWNER, _KIND, _PARTITIONS = range(7)
_LENGTH_BITS: Final = 40
_GENERATIONS: Final = 1 << (64 - _LENGTH_BITS)
SLACK_BYTES: Final = 64 * 1024
"""What a log may grow by, beside its double, before it is written anew."""


class TableFile:
    """One partition of a table: its head, mapped, and the way to its log. Holds one descriptor."""

    __slots__ = ("_words", "mapped", "path")

    def __init__(self, path: str, mapped: mmap.mmap) -> None:
        """See `create` and `open`."""
        self.path = path
        self.mapped = mapped
        self._words = memoryview(mapped).cast("Q")

    @classmethod
    def create(cls, path: str, *, owner: int, kind: int, partitions: int, log: bytes) -> TableFile:
        """Make a partition, in the place of one that may be there; `log` is what it begins with."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            reserve(fd, _SIZE, path)
            made = cls(path, mmap.mmap(fd, _SIZE))
        finally:
            os.close(fd)
        words = made._words
        words[_OWNER], words[_KIND], words[_PARTITIONS] = owner, kind, partitions
        before = cls.open(path)
        # a reader of the old log must not take the new one for its continuation
        generation = 0 if before is None else (before.stamp[0] + 1) % _GENERATIONS
        made._begin(generation, log)
        words[_OPEN] = MAGIC
        if before is not None:
            before.close_for_all()
        os.rename(draft, path)
        if before is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(before.log_path(before.stamp[0]))
        return made

    @classmethod
    def open(cls, path: str) -> TableFile | None:
        """Map the head of a partition; None when it is not there or closed."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if os.fstat(fd).st_size < _SIZE:
                return None
            found = cls(path, mmap.mmap(fd, _SIZE))
        finally:
            os.close(fd)
        return found if found.is_open else None

    def close_for_all(self) -> None:
        """Tell everybody who has it mapped that it is over."""
        self._words[_OPEN] = 0

    # -- the head -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it is in use."""
        return self._words[_OPEN] == MAGIC

    @property
    def stamp(self) -> tuple[int, int]:
        """Generation and length of the log."""
        return _split(self._words[_STAMP])

    @property
    def owner(self) -> int:
        """The id of the process whose table it is."""
        return self._words[_OWNER]

    @owner.setter
    def owner(self, process_id: int) -> None:
        self._words[_OWNER] = process_id

    @property
    def keeper(self) -> int:
        """The id of the process that looks after it."""
        return self._words[_KEEPER]

    @keeper.setter
    def keeper(self, process_id: int) -> None:
        self._words[_KEEPER] = process_id

    @property
    def kind(self) -> int:
        """What the owner says it is."""
        return self._words[_KIND]

    @property
    def partitions(self) -> int:
        """How many partitions the table has."""
        return self._words[_PARTITIONS]

    # -- the log --------------------------------------------------------------------------------------------

    def log_path(self, generation: int) -> str:
        """Give the file of the log's `generation`."""
        return f"{self.path}.{generation}"

    def read(self, generation: int, start: int, end: int) -> bytes | None:
        """Read a piece of the log; None when that generation is no more."""
        if start == end:
            return b""
        try:
            fd = os.open(self.log_path(generation), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = b""
            while len(data) < end - start:
                more = os.pread(fd, end - start - len(data), start + len(data))
                if not more:
                    return None
                data += more
        finally:
            os.close(fd)
        return data

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer. Raises `FileNotFoundError` when the table is gone."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            # said, not left to the close: a fork that another thread makes now holds the descriptor too
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def append(self, data: bytes) -> None:
        """Write behind the end, then say so. Only while `locked`. On a full disk OSError, and nothing has changed."""
        generation, length = self.stamp
        fd = os.open(self.log_path(generation), os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._write(fd, data, length)
        finally:
            os.close(fd)
        self._words[_STAMP] = _join(generation, length + len(data))

    @property
    def is_due(self) -> bool:
        """Whether the log has grown so much that it should be written anew."""
        return self.stamp[1] > 2 * self._words[_BASE] + SLACK_BYTES

    def rewrite(self, data: bytes) -> None:
        """Begin the next generation with `data`. Only while `locked`."""
        old = self.stamp[0]
        self._begin((old + 1) % _GENERATIONS, data)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log_path(old))

    def _begin(self, generation: int, data: bytes) -> None:
        path = self.log_path(generation)
        fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            self._write(fd, data, 0)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._words[_BASE] = len(data)
        self._words[_STAMP] = _join(generation, len(data))

    def _write(self, fd: int, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, at)
            if not written:
                raise OSError(errno.ENOSPC, f"no room for {len(data)} bytes of {self.path}")
            at += written
            view = view[written:]


def _join(generation: int, length: int) -> int:
    return generation << _LENGTH_BITS | length


def _split(stamp: int) -> tuple[int, int]:
    return stamp >> _LENGTH_BITS, stamp & ((1 << _LENGTH_BITS) - 1)


def split_watched(watched: bytes) -> tuple[bool, int, int]:
    """Read the watched bytes of a head: is it open, generation, length."""
    return int.from_bytes(watched[:8], "little") == MAGIC, *_split(int.from_bytes(watched[8:], "little"))


def remove(path: str) -> None:
    """Close a table for everybody who reads it, and remove its files."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(path):
            if name.isdecimal() and (file := TableFile.open(f"{path}/{name}")) is not None:
                file.close_for_all()
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def sweep(directory: NodeDirectory) -> None:
    """Remove the tables whose owner is dead and not coming back; what cannot be removed now is met again later."""
    with contextlib.suppress(OSError):
        names = os.listdir(directory.table(""))
        fates = Fates(directory) if names else None
        for name in names:
            path = directory.table(name)
            head = TableFile.open(f"{path}/0")
            if head is not None and fates is not None and fates.is_gone(head.owner):
                remove(path)
