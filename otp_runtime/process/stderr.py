"""The last that a server wrote to standard error, for the record of its death; and all of it still where it belongs.

What explains a death is often there and nowhere else: "double free or corruption" is written by the C library, to
descriptor 2, a moment before it aborts. So descriptor 2 of a server is a file of the node, which outlives it::

    Python's sys.stderr ──────────────► standard error of the program, at once, as ever
            └─ its last 2 KiB ──► p/ID.printed
    C libraries, subprocesses ──► fd 2 = err/ID ──► the launcher ──► standard error of the program
                                     └── its last 2 KiB ──► the record of the death

The launcher is told by inotify who has written, so that an idle server costs an empty file and nobody a wake-up. What
has been passed on is given back to the file system. Where there is no inotify, nothing is taken apart and nothing kept.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from otp_runtime.host import inotify, poller

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.context import Context

TAIL_BYTES: Final = 2048
_PENDING_MAX: Final = 256
_PIPE_CHUNK_BYTES: Final = select.PIPE_BUF
_FILE_CHUNK_BYTES: Final = 1 << 17
_TURN_SECONDS: Final = 0.01
_BETWEEN_TURNS_SECONDS: Final = 0.001
_GIVE_BACK_BYTES: Final = 1 << 18
_PATIENCE_SECONDS: Final = 0.5
_UNREAD_MAX: Final = 1 << 24
_REMEMBERED_MAX: Final = 512

_program_stderr = -1
"""Once descriptor 2 is a file: the standard error of the program."""


# -- in a server -------------------------------------------------------------------------------------------


def keep(directory: NodeDirectory, process_id: int) -> None:
    """From now on keep the last that this process writes to standard error."""
    global _program_stderr
    try:
        kept = os.open(directory.errors(process_id), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # nobody forwards, or there is no room: it stays as it is
    try:
        if _program_stderr < 0:
            _program_stderr = os.dup(2)
        os.dup2(kept, 2)
    except OSError:
        return
    finally:
        os.close(kept)
    if sys.stderr is not None:
        sys.stderr = KeptStream(_program_stderr, directory.printed(process_id))


def standard_streams() -> tuple[int, ...]:
    """Give the descriptors of this process that are nobody's doing."""
    return (0, 1, 2, _program_stderr) if _program_stderr >= 0 else (0, 1, 2)


class KeptStream(io.TextIOBase):
    """`sys.stderr` of a server: writes whole lines to the program's standard error, and keeps the last of them."""

    errors = "backslashreplace"
    name = "<stderr>"
    mode = "w"
    line_buffering = True

    def __init__(self, fd: int, path: str) -> None:
        """Write to `fd`; the file at `path` is made by the first line."""
        self._to = fd
        self._path = path
        self._pid = os.getpid()
        self._kept = -1
        self._tail = b""
        # pieces of a line; threads may add and take at the same time, and a fork may come in between: so no lock
        self._pending: deque[str] = deque()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What text becomes."""
        return "utf-8"

    def write(self, text: str, /) -> int:
        """Write `text`, at the latest when its line is complete."""
        if not isinstance(text, str):
            msg = f"standard error takes text, not {type(text).__name__}"
            raise TypeError(msg)
        self._pending.append(text)
        if "\n" in text or "\r" in text or len(self._pending) > _PENDING_MAX:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what is not written yet."""
        if not self._pending:
            return
        pieces: list[str] = []
        with suppress(IndexError):
            while True:
                pieces.append(self._pending.popleft())
        data = "".join(pieces).encode(errors=self.errors)
        if not data:
            return
        self._note(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._to, view) :]

    def reconfigure(self, **_options: Any) -> None:
        """Stay as it is: UTF-8, by lines."""

    def _note(self, data: bytes) -> None:
        """Before it is written: whoever reads it may kill this process the moment it sees it."""
        if os.getpid() != self._pid:
            return  # a fork of the server's own
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        with suppress(OSError):
            if self._kept < 0:
                flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
                self._kept = os.open(self._path, flags, 0o600)
            os.pwrite(self._kept, self._tail, 0)

    @property
    def buffer(self) -> Any:
        """What takes bytes; they are not kept."""
        self.flush()
        return open(self._to, "wb", buffering=0, closefd=False)

    def fileno(self) -> int:
        """Give the descriptor of the program's standard error."""
        return self._to

    def isatty(self) -> bool:
        """Say whether that is a terminal."""
        return os.isatty(self._to)

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Stay open, as the standard error of a process does."""
        self.flush()


# -- in its OS parent --------------------------------------------------------------------------------------


def tail(directory: NodeDirectory, process_id: int) -> str | None:
    """Give the last 2 KiB that a dead process wrote to standard error, in whole lines; None when it wrote nothing.

    First what Python wrote, then what C libraries and subprocesses did: which of them was first is not known.
    """
    data = b""
    for path in (directory.printed(process_id), directory.errors(process_id)):
        part = _end_of(path)
        data += part if not data or data.endswith(b"\n") or not part else b"\n" + part
    if len(data) > TAIL_BYTES:
        data = data[-TAIL_BYTES:]
        _cut, newline, whole = data.partition(b"\n")
        data = whole if newline and whole else data
    return data.decode(errors="replace") or None


def _end_of(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, TAIL_BYTES + 1, max(0, os.fstat(fd).st_size - TAIL_BYTES - 1))
    finally:
        os.close(fd)


# -- in the launcher ---------------------------------------------------------------------------------------


class Forwarder:
    """Passes on what was written to the files of a node's servers, to the standard error of this process."""

    def __init__(self, context: Context) -> None:
        """Begin; where the kernel does not tell who writes, see to it that nobody does."""
        self._directory = context.directory
        self._poller = context.poller
        self._sent: dict[str, int] = {}
        self._given_back: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._is_watching = False
        self._turn: poller.TimerHandle | None = None
        self._chunk_bytes = _chunk_bytes_of(2)
        self._told = -1
        try:
            self._told = inotify.watch_writes(self._directory.all_errors)
        except OSError:
            with suppress(OSError):
                os.rmdir(self._directory.all_errors)
            return
        self._poller.watch(self._told, poller.READABLE, lambda _events: self._hear())

    def finish(self) -> None:
        """Pass on what is left, as long as its reader takes something."""
        if self._told < 0:
            return
        self._forward(self._all())
        while self._waiting and _has_room(2, _PATIENCE_SECONDS):
            self._forward(set())

    def _hear(self) -> None:
        written = inotify.written(self._told)
        self._forward(self._all() if written is None else written)

    def _all(self) -> set[str]:
        with suppress(OSError):
            return set(os.listdir(self._directory.all_errors))
        return set()

    def _forward(self, names: set[str]) -> None:
        """Pass on what there is room and time for.

        Neither a reader that takes nothing nor a writer that never stops may hold up the launcher.
        """
        if len(self._sent) > _REMEMBERED_MAX:
            self._forget_the_gone()
        self._waiting |= names
        seconds = _TURN_SECONDS / max(1, len(self._waiting))
        self._waiting -= {name for name in sorted(self._waiting) if self._pass_on(name, seconds)}
        has_room = bool(self._waiting) and _has_room(2)
        if has_room and self._turn is None:
            self._turn = self._poller.at(poller.now() + _BETWEEN_TURNS_SECONDS, self._next_turn)
        self._watch_room(bool(self._waiting) and not has_room)

    def _next_turn(self) -> None:
        self._turn = None
        self._forward(set())

    def _watch_room(self, is_wanted: bool) -> None:
        if is_wanted == self._is_watching:
            return
        self._is_watching = is_wanted
        if is_wanted:
            self._poller.watch(2, poller.WRITABLE, lambda _events: self._forward(set()))
        else:
            self._poller.forget(2)

    def _forget_the_gone(self) -> None:
        for name in self._sent.keys() - self._all():
            for known in (self._sent, self._given_back, self._dropped):
                known.pop(name, None)

    def _pass_on(self, name: str, seconds: float) -> bool:
        """Pass on what one process has written, for so long; say whether that is all."""
        until = poller.now() + seconds
        try:
            fd = os.open(f"{self._directory.all_errors}/{name}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return True  # the file of one that died long ago
        try:
            sent = self._sent.get(name, 0)
            while data := os.pread(fd, self._chunk_bytes, sent):
                if not _has_room(2) or poller.now() > until:
                    self._trim(fd, name, sent)
                    self._drop(fd, name, sent)
                    return False
                if name in self._dropped:
                    sent = self._sent[name] = self._skip(name, sent)
                    continue
                sent += os.write(2, data)
                self._sent[name] = sent
            self._trim(fd, name, sent)
        except OSError:
            # there is no standard error any more: nobody will ever read it
            self._sent[name] = os.fstat(fd).st_size
            self._trim(fd, name, self._sent[name])
        finally:
            os.close(fd)
        return True

    def _drop(self, fd: int, name: str, sent: int) -> None:
        """More comes than is taken: give back all but the end of what is too much, for it lies in memory."""
        size = os.fstat(fd).st_size
        if size - max(sent, self._dropped.get(name, 0)) > _UNREAD_MAX:
            self._dropped[name] = size - _GIVE_BACK_BYTES
            inotify.give_back(fd, size - _GIVE_BACK_BYTES)

    def _skip(self, name: str, sent: int) -> int:
        """Say what was dropped, and give where to go on."""
        dropped = self._dropped.pop(name, 0)
        if dropped > sent:
            os.write(2, f"\n(process {name} wrote {dropped - sent} bytes more than anybody read)\n".encode())
        return max(dropped, sent)

    def _trim(self, fd: int, name: str, sent: int) -> None:
        """Give back what nobody needs, now and then: the tail stays."""
        if sent - self._given_back.get(name, 0) > _GIVE_BACK_BYTES:
            self._given_back[name] = sent - TAIL_BYTES * 2
            inotify.give_back(fd, sent - TAIL_BYTES * 2)


def _chunk_bytes_of(fd: int) -> int:
    """Give how much may be written at once where there is room: into a pipe or terminal what surely fits."""
    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        is_file = False
    return _FILE_CHUNK_BYTES if is_file else _PIPE_CHUNK_BYTES


def _has_room(fd: int, seconds: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
