"""A database of kept states, that outlives the node: SQLite, one row for each slot of a server.

A state is written in one transaction with `synchronous=FULL`: when `write` returns, it is on the disk, and a killed
process, a killed tree or a machine that loses power leaves the state before it or this one, whole. The database is in
WAL mode, so that who looks never waits for who writes; it and what SQLite lays beside it are 0600.

A server *holds* the row of its key while it lives: two servers that would write over each other's state do not start.

A database that is removed or replaced while servers use it is another file under the same path: what is written into
the old one is lost. Each server sees that by the inode, and opens the new one. What SQLite lays beside a database
belongs to one file and would spoil another, so whoever opens first removes what it knows to be the old one's; the old
connection is never closed, as closing would remove what lies there by path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sqlite3
import time
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from otp_runtime.errors import DurableStateError
from otp_runtime.host import kernel
from otp_runtime.host.snapshot_file import Saved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WAIT_SECONDS = 5.0
FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS state (
    node TEXT NOT NULL, key TEXT NOT NULL, slot INTEGER NOT NULL, generation INTEGER NOT NULL, parent INTEGER NOT NULL,
    vsn BLOB NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL, class TEXT NOT NULL, saved_at REAL NOT NULL,
    PRIMARY KEY (node, key, slot));
CREATE TABLE IF NOT EXISTS holder (
    node TEXT NOT NULL, key TEXT NOT NULL, boot TEXT NOT NULL, os_pid INTEGER NOT NULL, start INTEGER NOT NULL,
    process TEXT NOT NULL, PRIMARY KEY (node, key));
"""
_INSERT = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Row(NamedTuple):
    """The newest state of one server, for people."""

    node: str
    key: str
    generation: int
    class_name: str
    saved_at: float
    size: int
    holder: int
    """OS pid of the process that holds it now; 0 when nobody does."""


class _Holder(NamedTuple):
    os_pid: int
    start: int
    process: str


class DurableStore:
    """One server's part of a database."""

    def __init__(self, path: str, node: str, key: str, class_name: str, process: str) -> None:
        """Open the database, making it when it is not there, and hold `key` of `node` for `process`.

        `process` names the server, `<node's incarnation>.<id>`: another OS process of the same one may take over.
        A holder of another node, which may be ending, is waited for. Raises `DurableStateError`.
        """
        self.path = path
        self._key = (node, key)
        self._class_name = class_name
        self._process = process
        self._inodes: dict[str, tuple[int, int] | None] = {}
        self._is_strange = False
        with _named_errors(path):
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        self._connection = connection = _open(self.path, self._inodes)
        try:
            self._hold(self._process)
        except BaseException:
            connection.close()
            raise
        self._inodes = {suffix: _inode(self.path + suffix) for suffix in ("", *_BESIDE)}
        return connection

    def has_moved(self) -> bool:
        """Whether another file, or none, is now where the database was."""
        return _inode(self.path) != self._inodes[""]

    def open_again(self) -> str:
        """Go on in the file that is there now, made if there is none; say what became of the old one.

        What the old one held must be written again; the first `write` replaces all that the new one has of this
        server, whose generations are of another history. Raises `DurableStateError`.
        """
        how = "replaced" if os.path.exists(self.path) else "removed"
        abandoned.append(self._connection)
        with _named_errors(self.path):
            self._connection = self._open()
        self._is_strange = True
        return how

    def _hold(self, process: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while (holder := self._take(process)) is not None:
            # a tree that was killed a moment ago is still ending; within one node nobody is waited for
            is_of_this_node = holder.process.partition(".")[0] == process.partition(".")[0]
            if is_of_this_node or not _await_end(holder, deadline - time.monotonic()):
                reason = f"{self._key[1]!r} is kept by another server, OS process {holder.os_pid}"
                raise DurableStateError(self.path, f"{reason}: give one of them a name of its own")

    def _take(self, process: str) -> _Holder | None:
        """Make `process` the holder, unless another one lives: then give that."""
        me = kernel.own_process()
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            found = self._connection.execute(
                "SELECT boot, os_pid, start, process FROM holder WHERE node = ? AND key = ?", self._key
            ).fetchone()
            if found is not None and found[3] != process and _is_alive(*found[:3]):
                return _Holder(*found[1:])
            self._connection.execute(
                "INSERT OR REPLACE INTO holder VALUES (?, ?, ?, ?, ?, ?)",
                (*self._key, _boot_id(), me.pid, me.start, process),
            )
        return None

    def read(self) -> dict[int, Saved]:
        """Give what each slot holds, oldest first. Raises `DurableStateError`, also when something is not whole."""
        with _named_errors(self.path):
            rows = self._connection.execute(
                "SELECT slot, generation, parent, vsn, body, checksum FROM state WHERE node = ? AND key = ? "
                "ORDER BY generation",
                self._key,
            ).fetchall()
        saved = {}
        for slot, generation, parent, vsn, body, checksum in rows:
            if zlib.crc32(body, zlib.crc32(vsn)) != checksum:
                raise DurableStateError(self.path, f"the state of {self._key[1]!r} is damaged")
            saved[slot] = Saved(generation, parent, vsn, body)
        return saved

    def write(self, slot: int, saved: Saved) -> None:
        """Put a state into a slot; when this returns, it is on the disk. Raises `DurableStateError`."""
        checksum = zlib.crc32(saved.body, zlib.crc32(saved.vsn))
        row = (*self._key, slot, *saved, checksum, self._class_name, time.time())
        with _named_errors(self.path):
            if not self._is_strange:
                self._connection.execute(_INSERT, row)
                return
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM state WHERE node = ? AND key = ?", self._key)
                self._connection.execute(_INSERT, row)
            self._is_strange = False

    def close(self) -> None:
        """Close the database; what is kept stays."""
        self._connection.close()


# -- for who looks from outside ----------------------------------------------------------------------------


def rows_of(path: str) -> list[Row]:
    """List the newest state of each server in a database. Raises `DurableStateError`."""
    with _named_errors(path), contextlib.closing(_open(path)) as connection:
        found = connection.execute(
            "SELECT state.node, state.key, max(generation), class, saved_at, length(body), boot, os_pid, start "
            "FROM state LEFT JOIN holder USING (node, key) GROUP BY state.node, state.key ORDER BY 1, 2"
        ).fetchall()
    return [_row(*one) for one in found]


def _row(*facts: Any) -> Row:
    node, key, generation, class_name, saved_at, size, boot, os_pid, start = facts
    holder = os_pid if boot is not None and _is_alive(boot, os_pid, start) else 0
    return Row(node, key, generation, class_name, saved_at, size, holder)


def body_of(path: str, row: Row) -> bytes:
    """Give the newest state of a row, encoded. Raises `DurableStateError`."""
    with _named_errors(path), contextlib.closing(_open(path)) as connection:
        found: Any = connection.execute(
            "SELECT body FROM state WHERE node = ? AND key = ? AND generation = ?", (row.node, row.key, row.generation)
        ).fetchone()
    if found is None:
        raise DurableStateError(path, f"the state of {row.key!r} has just changed; look again")
    return bytes(found[0])


def drop(path: str, row: Row) -> None:
    """Forget all states of a row. Raises `DurableStateError`."""
    with _named_errors(path), contextlib.closing(_open(path)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in ("state", "holder"):
            connection.execute(f"DELETE FROM {table} WHERE node = ? AND key = ?", (row.node, row.key))  # noqa: S608


# -- pieces ------------------------------------------------------------------------------------------------


_BESIDE = ("-wal", "-shm")
abandoned: list[sqlite3.Connection] = []
"""Connections to files that are gone from their paths: open as long as the process lives, see above."""


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_dev


def _make(path: str, known: Mapping[str, tuple[int, int] | None]) -> None:
    """See to it that there is a file, and nothing beside it of another one: of one that is gone, or that is known."""
    directory = Path(path).parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.exists(path) and not _stale(path, known):
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for one in _stale(path, known):
            os.unlink(one)
        # SQLite gives what it lays beside the database the same mode
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    finally:
        os.close(fd)


def _stale(path: str, known: Mapping[str, tuple[int, int] | None]) -> list[str]:
    is_gone = not os.path.exists(path)
    there = {suffix: _inode(path + suffix) for suffix in _BESIDE}
    return [
        path + suffix
        for suffix, inode in there.items()
        if inode is not None and (is_gone or inode == known.get(suffix))
    ]


def _open(path: str, known: Mapping[str, tuple[int, int] | None] = MappingProxyType({})) -> sqlite3.Connection:
    _make(path, known)
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found not in {0, FORMAT}:
            raise DurableStateError(path, f"it is written in format {found}, and this version reads {FORMAT}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not found:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _named_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise DurableStateError(path, str(error)) from error


def _is_alive(boot: str, os_pid: int, start: int) -> bool:
    pidfd = kernel.open_pidfd(kernel.OsProcess(os_pid, start)) if boot == _boot_id() else None
    if pidfd is None:
        return False
    try:
        return not kernel.has_ended(pidfd)
    finally:
        os.close(pidfd)


def _await_end(holder: _Holder, seconds: float) -> bool:
    """Wait for the end of a process; say whether it ended in time."""
    pidfd = kernel.open_pidfd(kernel.OsProcess(holder.os_pid, holder.start))
    if pidfd is None:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
    finally:
        os.close(pidfd)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
