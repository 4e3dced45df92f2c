"""The black box: one mapped file per process that outlives it.

It costs a memory write, not a message, and survives SIGKILL. The process itself writes its state and its
last words; the reaper adds the verdict; whoever watches reads. Offsets (little endian):

       0  magic, version, kind          40  flags, one byte each, written by anybody who owns them
      64  own id, reaper, OS process   104  busy since, handled, queued bytes, garbage frames, mailbox limit
     152  partitions                      160  limits: soft and hard bytes, CPU seconds, descriptors
     208  watchdog: busy, grace, loop since, breakpoint, answer, traced, async
     256  name     512  label         1024  the message in hand (its first bytes)
    3072  last words                  7168  verdict

A value that must be read whole is written before the flag that announces it.
"""

from __future__ import annotations

import mmap
import os
import struct
from mmap import mmap as map_memory
from struct import pack_into
from typing import NamedTuple

from otp_runtime.host.directory import make_mapped
from otp_runtime.host.kernel import OsProcess

SIZE = 8192
MAGIC = 0x50544F42
VERSION = 1

KIND_SERVER, KIND_SUPERVISOR, KIND_THREAD, KIND_LAUNCHER = range(4)

_HEAD = struct.Struct("<IHH")
_IDENTITY = struct.Struct("<QQQQd")
_F64 = struct.Struct("<d")
_WATCHDOG = struct.Struct("<dd")
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")
_U16 = struct.Struct("<H")
_GLANCE = struct.Struct("<dQQ")
_LOOP_HEAD = struct.Struct("<dQ")
_LOOP_WATCH = struct.Struct("<dQQ??")

TRAP_EXIT, KILL_REQUESTED, SPOKEN, JUDGED, SUSPENDED, OVERFLOW, READY, SIGNALLED, HIBERNATING, THREADS = range(40, 50)
TABLES, FINISHED = 50, 51
MAILBOX, KEEPS = 58, 60
SERVES, PLAIN = 1, 2
"""Values of READY: a behaviour, which answers system messages; a process that only runs a function."""

IS_HELD = 2
"""Value of MAILBOX: it is durable, and the OS parent holds it open."""

_IDENTITY_AT = 64
_OS_PID_AT = 80
_STARTED_AT = 96
_HOT_AT = 104
_QUEUED_AT = 120
_GARBAGE_AT = 128
_LIMIT_AT = 136
_HAND_SIZE_AT = 144
_HOT_SIZE = _HAND_SIZE_AT + 8 - _HOT_AT
_BUSY_SINCE, _HANDLED, QUEUED, _HAND_SIZE = 0, 1, 2, (_HAND_SIZE_AT - _HOT_AT) // 8
_PARTITIONS_AT = 152
_LIMITS = struct.Struct("<QQdQ")
_LIMITS_AT = 160
_GLANCE_SIZE = _LIMITS_AT + _LIMITS.size
_WATCHDOG_AT, _LOOP_SINCE_AT, _BREAKPOINT_AT, _ANSWER_AT, _TRACED_AT, _ASYNC_AT = 208, 224, 232, 240, 248, 249
_NAME_AT, _NAME_MAX = 256, 254
_LABEL_AT, _LABEL_MAX = 512, 510
_HAND_AT, _HAND_MAX = 1024, 2048
_WORDS_AT, _WORDS_MAX = 3072, 4092
_VERDICT_AT, _VERDICT_MAX = 7168, 1020
_ELSEWHERE = 0xFFFFFFFF

OVERFLOW_POLICIES = ("block", "drop_newest", "error")


class Identity(NamedTuple):
    """Whose box this is."""

    id: int
    reaper: int
    os_process: OsProcess
    started_at: float


class Glance(NamedTuple):
    """What can be seen of a box from outside: see the properties of `Box`."""

    kind: int
    is_ready: bool
    is_plain: bool
    busy_since: float
    handled: int
    queued_bytes: int
    limits: tuple[int, int, float, int]


def glance(path: str) -> Glance | None:
    """Read a box without mapping it: a look that costs some microseconds and leaves nothing; None when it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, _GLANCE_SIZE, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) < _GLANCE_SIZE:
        return None
    ready = data[READY]
    busy_since, handled, queued_bytes = _GLANCE.unpack_from(data, _HOT_AT)
    soft, hard, cpu_seconds, files = _LIMITS.unpack_from(data, _LIMITS_AT)
    return Glance(
        _HEAD.unpack_from(data)[2],
        ready != 0,
        ready == PLAIN,
        busy_since,
        handled,
        queued_bytes,
        (soft, hard, cpu_seconds, files),
    )


class Box:
    """A mapped black box, one's own or another's."""

    __slots__ = ("_loop", "_map", "path")

    def __init__(self, path: str, mapped: mmap.mmap) -> None:
        """Wrap a mapping; see `create` and `open`."""
        self.path = path
        self._map = mapped
        # numbers written through a view cost half of packing them; made by the first callback only
        self._loop: tuple[memoryview[float], memoryview[int]] | None = None

    @classmethod
    def create(cls, path: str, process_id: int, reaper: int, kind: int, started_at: float) -> Box:
        """Make the box of a process that is about to be."""
        box = cls(path, make_mapped(path, SIZE))
        box._begin(process_id, reaper, kind, started_at)
        return box

    @classmethod
    def create_unseen(cls, process_id: int, reaper: int, kind: int, started_at: float) -> Box:
        """Make a box that has no file, for a process that is to do as if it were one."""
        box = cls("", map_memory(-1, SIZE))
        box._begin(process_id, reaper, kind, started_at)
        return box

    def _begin(self, process_id: int, reaper: int, kind: int, started_at: float) -> None:
        _IDENTITY.pack_into(self._map, _IDENTITY_AT, process_id, reaper, 0, 0, started_at)
        _HEAD.pack_into(self._map, 0, MAGIC, VERSION, kind)

    @classmethod
    def open(cls, path: str) -> Box | None:
        """Map another's box; None when it is not there or not a box."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if os.fstat(fd).st_size < SIZE:
                return None
            mapped = map_memory(fd, SIZE)
        finally:
            os.close(fd)
        if _HEAD.unpack_from(mapped, 0)[:2] != (MAGIC, VERSION):
            mapped.close()
            return None
        return cls(path, mapped)

    def close(self) -> None:
        """Unmap."""
        for view in self._loop or ():
            view.release()
        self._loop = None
        self._map.close()

    # -- identity -------------------------------------------------------------------------------------------

    @property
    def kind(self) -> int:
        """One of the KIND_ numbers."""
        return int(_HEAD.unpack_from(self._map, 0)[2])

    @property
    def identity(self) -> Identity:
        """Whose box this is, now: the OS process may change while the process stays."""
        number, reaper, os_pid, start, started_at = _IDENTITY.unpack_from(self._map, _IDENTITY_AT)
        return Identity(number, reaper, OsProcess(os_pid, start), started_at)

    def inhabit(self, process: OsProcess) -> None:
        """Write down the OS process that lives here now."""
        pack_into("<QQ", self._map, _OS_PID_AT, process.pid, process.start)

    def settle(self, label: str, started_at: float) -> None:
        """Say what begins to live here, and when: the process itself was there before."""
        self.label = label
        _F64.pack_into(self._map, _STARTED_AT, started_at)

    @property
    def name(self) -> str:
        """The local name, or ''."""
        return self._text(_NAME_AT)

    @name.setter
    def name(self, name: str) -> None:
        self._set_text(_NAME_AT, _NAME_MAX, name)

    @property
    def label(self) -> str:
        """What runs here, for people: a class's qualified name."""
        return self._text(_LABEL_AT)

    @label.setter
    def label(self, label: str) -> None:
        self._set_text(_LABEL_AT, _LABEL_MAX, label)

    def _text(self, at: int) -> str:
        (length,) = _U16.unpack_from(self._map, at)
        return self._map[at + 2 : at + 2 + length].decode(errors="replace")

    def _set_text(self, at: int, room: int, text: str) -> None:
        data = text.encode(errors="replace")[:room]
        self._map[at + 2 : at + 2 + len(data)] = data
        _U16.pack_into(self._map, at, len(data))

    # -- flags ----------------------------------------------------------------------------------------------

    def flag(self, which: int) -> int:
        """Read a flag byte."""
        return self._map[which]

    def set_flag(self, which: int, value: int = 1) -> None:
        """Write a flag byte."""
        self._map[which] = value

    # -- the loop -------------------------------------------------------------------------------------------

    def enter_callback(self, now: float, handled: int, message: bytes) -> None:
        """Note that a callback begins, and the message it is given."""
        seconds, numbers = self._loop or self._open_loop()
        size = len(message)
        if size > _HAND_MAX:
            message = message[:_HAND_MAX]
            size = len(message)
        self._map[_HAND_AT : _HAND_AT + size] = message
        numbers[_HANDLED] = handled
        numbers[_HAND_SIZE] = size
        seconds[_BUSY_SINCE] = now

    def leave_callback(self) -> None:
        """Note that the loop is idle again."""
        (self._loop or self._open_loop())[0][_BUSY_SINCE] = 0.0

    @property
    def counts(self) -> memoryview[int]:
        """The numbers of the loop, to be looked at again and again: `QUEUED` is one."""
        return (self._loop or self._open_loop())[1]

    def _open_loop(self) -> tuple[memoryview[float], memoryview[int]]:
        part = memoryview(self._map)[_HOT_AT : _HOT_AT + _HOT_SIZE]
        self._loop = part.cast("d"), part.cast("Q")
        return self._loop

    @property
    def busy_since(self) -> float:
        """The monotonic time at which the running callback began; 0.0 when idle."""
        return float(_F64.unpack_from(self._map, _HOT_AT)[0])

    @property
    def handled(self) -> int:
        """How many messages were handed to callbacks."""
        return int(_U64.unpack_from(self._map, _HOT_AT + 8)[0])

    @property
    def message_in_hand(self) -> bytes | None:
        """The first bytes of the message whose callback runs (or ran when the process died)."""
        if self.busy_since == 0.0:
            return None
        (length,) = _U64.unpack_from(self._map, _HAND_SIZE_AT)
        return self._map[_HAND_AT : _HAND_AT + min(length, _HAND_MAX)]

    @property
    def queued_bytes(self) -> int:
        """Bytes that were read from the mailbox and not yet handled."""
        return int(_U64.unpack_from(self._map, _QUEUED_AT)[0])

    @queued_bytes.setter
    def queued_bytes(self, size: int) -> None:
        _U64.pack_into(self._map, _QUEUED_AT, size)

    def holds(self, size: int) -> bool:
        """Say whether that many bytes, or more, were read and not yet handled: what every sender asks first."""
        return (self._loop or self._open_loop())[1][QUEUED] >= size

    @property
    def mailbox_limit(self) -> int:
        """How many bytes may wait before a sender finds the mailbox full; 0 means no limit but the pipe's."""
        return int(_U64.unpack_from(self._map, _LIMIT_AT)[0])

    @mailbox_limit.setter
    def mailbox_limit(self, size: int) -> None:
        _U64.pack_into(self._map, _LIMIT_AT, size)

    @property
    def garbage(self) -> int:
        """How many pieces in the mailbox were no frames of ours."""
        return int(_U64.unpack_from(self._map, _GARBAGE_AT)[0])

    def count_garbage(self) -> None:
        """Count one such piece."""
        _U64.pack_into(self._map, _GARBAGE_AT, self.garbage + 1)

    @property
    def partitions(self) -> int:
        """Into how many partitions a partition supervisor divides its keys; 0 of any other process."""
        return int(_U64.unpack_from(self._map, _PARTITIONS_AT)[0])

    @partitions.setter
    def partitions(self, count: int) -> None:
        _U64.pack_into(self._map, _PARTITIONS_AT, count)

    @property
    def limits(self) -> tuple[int, int, float, int]:
        """What the server and its subprocesses may use, as it told before it was ready; 0 for no limit."""
        soft, hard, cpu_seconds, files = _LIMITS.unpack_from(self._map, _LIMITS_AT)
        return soft, hard, cpu_seconds, files

    @limits.setter
    def limits(self, limits: tuple[int, int, float, int]) -> None:
        _LIMITS.pack_into(self._map, _LIMITS_AT, *limits)

    # -- the watchdog ---------------------------------------------------------------------------------------

    @property
    def watchdog(self) -> tuple[float, float] | None:
        """How long it may be busy, and then has to show its stacks; None of a process that is not watched."""
        busy, grace = _WATCHDOG.unpack_from(self._map, _WATCHDOG_AT)
        return (busy, grace) if busy else None

    @watchdog.setter
    def watchdog(self, settings: tuple[float, float] | None) -> None:
        _WATCHDOG.pack_into(self._map, _WATCHDOG_AT, *(settings or (0.0, 0.0)))

    def note_loop(self, *, is_async: bool) -> None:
        """Note what kind of a loop this is: whose turns `note_turn` tells."""
        self._map[_ASYNC_AT] = is_async

    def note_turn(self, now: float) -> None:
        """Note since when the loop, or the event loop, is awake; -1.0: it waits."""
        _F64.pack_into(self._map, _LOOP_SINCE_AT, now)

    def note_breakpoint(self) -> None:
        """Note that the callback that runs has called `breakpoint()`."""
        _U64.pack_into(self._map, _BREAKPOINT_AT, self.handled + 1)

    def note_tracing(self, *, is_on: bool) -> None:
        """Note that this process is traced line by line, as a debugger written in Python does."""
        self._map[_TRACED_AT] = is_on

    def answer(self, *, debugged: bool) -> None:
        """Answer that this process still runs Python, and whether a debugger has it in hand."""
        (last,) = _U64.unpack_from(self._map, _ANSWER_AT)
        _U64.pack_into(self._map, _ANSWER_AT, (last | 1) + 1 + debugged)

    # -- last words and verdict -----------------------------------------------------------------------------

    def speak(self, words: bytes, elsewhere: str) -> None:
        """Write the last words; what is too long for the box goes into the file `elsewhere`."""
        self._write_long(_WORDS_AT, _WORDS_MAX, words, elsewhere)
        self._map[SPOKEN] = 1

    def last_words(self, elsewhere: str) -> bytes | None:
        """Read the last words; None when the process went without one."""
        return self._read_long(_WORDS_AT, elsewhere) if self._map[SPOKEN] else None

    def judge(self, verdict: bytes, elsewhere: str) -> None:
        """Write the reaper's verdict. From now on a watcher may conclude."""
        self._write_long(_VERDICT_AT, _VERDICT_MAX, verdict, elsewhere)
        self._map[JUDGED] = 1

    def verdict(self, elsewhere: str) -> bytes | None:
        """Read the verdict; None before there is one."""
        return self._read_long(_VERDICT_AT, elsewhere) if self._map[JUDGED] else None

    def _write_long(self, at: int, room: int, data: bytes, elsewhere: str) -> None:
        if len(data) > room:
            fd = os.open(elsewhere, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
            _U32.pack_into(self._map, at, _ELSEWHERE)
            return
        self._map[at + 4 : at + 4 + len(data)] = data
        _U32.pack_into(self._map, at, len(data))

    def _read_long(self, at: int, elsewhere: str) -> bytes:
        (length,) = _U32.unpack_from(self._map, at)
        if length != _ELSEWHERE:
            return self._map[at + 4 : at + 4 + length]
        try:
            with open(elsewhere, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""


class BoxView:
    """Another's box, looked at again and again without being mapped: every mapping makes every later fork dearer."""

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        """Open it; an OSError when it is not there."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def watchdog(self) -> tuple[float, float]:
        """Give how long it may be busy (0.0: it is not watched), and then has to show its stacks."""
        busy, grace = _WATCHDOG.unpack(self._read(_WATCHDOG.size, _WATCHDOG_AT))
        return busy, grace

    def loop(self) -> Loop:
        """Look."""
        head = self._read(_NAME_AT, 0)
        busy_since, handled = _LOOP_HEAD.unpack_from(head, _HOT_AT)
        loop_since, breakpoint_at, answer, traced, is_async = _LOOP_WATCH.unpack_from(head, _LOOP_SINCE_AT)
        spoken = bool(head[SPOKEN])
        return Loop(busy_since, handled, loop_since, breakpoint_at, answer, traced, is_async, spoken)

    def _read(self, size: int, at: int) -> bytes:
        """Read; what somebody has cut off is taken for zeros, a process that does nothing: its OS parent must go on."""
        return os.pread(self._fd, size, at).ljust(size, b"\0")


class Loop(NamedTuple):
    """What a server's loop is doing, as its box says."""

    busy_since: float
    handled: int
    loop_since: float
    breakpoint_at: int
    answer: int
    traced: bool
    is_async: bool
    spoken: bool
