"""The few Linux calls Python has no name for, and facts about OS processes read from ``/proc``.

An OS process is never a bare number here: numbers are reused. It is a pid *and* its start time, and the
order matters: open the pidfd first, compare start times second (`open_pidfd`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import select
import signal
import sys
import time
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit, setrlimit
from typing import Any, NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
F_SETSIG = 10
F_SETOWN_EX = 15
F_OWNER_TID = 0
_TIOCNOTTY = 0x5422  # not so on MIPS and SPARC; importing termios for it would map a library into every process
_PF_EXITING = 4

LANE_SIGNAL = signal.SIGRTMIN + 5
"""Sent by the kernel to the owner of a control lane when something was written to it."""

PARENT_DEATH_SIGNAL = signal.SIGRTMIN + 6
"""Sent by the kernel when the OS parent died; catchable, so that a trapping server can clean up."""

STACKS_SIGNAL = signal.SIGRTMIN + 7
"""Lets a watched server write its stacks down, from C and without the GIL, and end."""

ANSWER_SIGNAL = signal.SIGRTMIN + 8
"""Asks a watched server whether it still runs Python."""

OLDEST_KERNEL = (5, 4)
SPARE_DESCRIPTORS = 16
END_SECONDS = 1.0
"""How long the end of what was killed is waited for at most: the kernel may be at work in its name."""

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC


class UnsupportedSystem(OSError):
    """This machine lacks what the runtime stands on; the text says what."""


class OsProcess(NamedTuple):
    """An OS process: its number and the clock ticks after boot at which it started."""

    pid: int
    start: int


@functools.cache
def libc() -> ctypes.CDLL:
    """Give the C library, for what Python has no name for."""
    return ctypes.CDLL(None, use_errno=True)


_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000


@functools.cache
def _mmap() -> Any:
    """Give mmap(2) itself."""
    mmap = libc().mmap
    size, number = ctypes.c_size_t, ctypes.c_int
    mmap.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_long)
    mmap.restype = ctypes.c_void_p
    return mmap


def map_over(mapping: mmap.mmap, fd: int, offset: int) -> None:
    """Put pages of a file, private and to be written, in the place of those of a mapping. Raises OSError."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    flags = mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
    if _mmap()(address, len(mapping), mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset) != address:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def _prctl(option: int, value: int) -> None:
    if libc().prctl(option, value, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}): {os.strerror(errno)}")


def become_subreaper() -> None:
    """Let orphaned descendants of this process fall to it, and not to init (prctl(2))."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_terminal() -> None:
    """Have no terminal any more, nor will what this process forks: none opens /dev/tty, or is stopped for using one.

    A session of its own would do that too. But Linux shares the processor among sessions first (sched(7), autogroup),
    and a turn that a process yields goes to nobody in another one: a caller would wait for the server on its core.
    Whoever calls this was spawned with SIGTTOU blocked, which stopped it until now.
    """
    with contextlib.suppress(OSError), open("/dev/tty", "rb", buffering=0) as terminal:
        fcntl.ioctl(terminal, _TIOCNOTTY)
    for fd in (1, 2):
        # where /dev/tty is hidden, or is not for this process
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _TIOCNOTTY)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})


def die_with_parent(parent: OsProcess) -> bool:
    """Ask for `PARENT_DEATH_SIGNAL` when the parent dies; False when it is dead already.

    The signal follows the *thread* that forked, so fork only from a main thread. Compare with the parent
    expected, never with 1: in a container the orphan's new parent may be anybody.
    """
    _prctl(PR_SET_PDEATHSIG, PARENT_DEATH_SIGNAL)
    return os.getppid() == parent.pid


def check_system() -> None:
    """Raise `UnsupportedSystem` unless this is Linux >= 5.4 with Python >= 3.11 and a usable /proc."""
    if sys.platform != "linux":
        msg = f"otp_runtime needs Linux >= 5.4 (pidfd, child subreapers); this is {sys.platform}"
        raise UnsupportedSystem(msg)
    release = _release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if version < OLDEST_KERNEL:
        msg = f"otp_runtime needs Linux >= 5.4; this kernel is {release}"
        raise UnsupportedSystem(msg)
    if not Path("/proc/self/stat").exists():
        msg = "otp_runtime needs /proc; mount it (mount -t proc proc /proc)"
        raise UnsupportedSystem(msg)


def _release() -> str:
    return os.uname().release


def start_time(pid: int) -> int | None:
    """Give the start time of `pid` in clock ticks after boot; None when there is no such process."""
    fields = stat_fields(pid)
    return None if fields is None else int(fields[19])


def own_process() -> OsProcess:
    """Give this process."""
    pid = os.getpid()
    return OsProcess(pid, start_time(pid) or 0)


def zombie_status(pid: int) -> int | None:
    """Give the wait status of a zombie (field 52 of its stat, readable by the same user), else None."""
    fields = stat_fields(pid)
    if fields is None or fields[0] not in {"Z", "X"}:
        return None
    return int(fields[49])


def is_ending(fields: list[str] | None) -> bool:
    """Say of `stat_fields` whether the process is a zombie, on its way to be one (PF_EXITING), or not there."""
    return fields is None or fields[0] in {"Z", "X"} or bool(int(fields[6]) & _PF_EXITING)


def is_stopped(pid: int) -> bool:
    """Say whether `pid` is stopped by a signal or a tracer."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] in {"T", "t"}


def stat_fields(pid: int) -> list[str] | None:
    """Give the fields of `/proc/PID/stat` from the third on, the state; None when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", _READ)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # the command may hold blanks and parentheses: the fields begin behind the last one
    return text[text.rindex(b")") + 2 :].decode().split()


def open_pidfd(process: OsProcess) -> int | None:
    """Open a descriptor that becomes readable when `process` ends; None when it is gone, or no number of a process."""
    if process.pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if start_time(process.pid) != process.start:
        os.close(pidfd)
        return None
    return pidfd


def has_ended(pidfd: int) -> bool:
    """Say whether the process behind `pidfd` has ended (a zombie has)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def is_running(pidfd: int) -> bool:
    """Say whether a child of this process has neither ended nor been stopped; it can be reaped afterwards as before."""
    try:
        return os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False


def send_signal(pidfd: int, signum: int) -> bool:
    """Send a signal to the process behind `pidfd`; False when it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    return True


def parent_of(pid: int) -> int | None:
    """Give the number of the OS process whose child `pid` is now; None when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return None


def children_of(pid: int) -> list[int]:
    """Give the OS pids of the children of a single-threaded process, zombies included."""
    try:
        text = read_whole(f"/proc/{pid}/task/{pid}/children")
    except FileNotFoundError:
        return _children_by_scan(pid)
    return [int(word) for word in text.split()]


def read_whole(path: str) -> bytes:
    """Read a file of the kernel's: all of it, and nothing is built around it, as a death waits for this."""
    fd = os.open(path, _READ)
    try:
        text = chunk = os.read(fd, 65536)
        while chunk:
            chunk = os.read(fd, 65536)
            text += chunk
    finally:
        os.close(fd)
    return text


class ChildCount:
    """Tells an OS parent whether it has just the children that it knows, or somebody else's fell to it.

    The kernel lists the children in the order in which they came, and takes half a millisecond for two thousand. But
    it remembers how far a file of this kind was read. So the file is kept open, read to its end: while there are as
    many children or fewer, to read on finds nothing, and costs no more than following so many pointers does.
    """

    __slots__ = ("_counted", "_fd")

    def __init__(self) -> None:
        """Open the list of this process, which has one thread, and count nothing yet."""
        pid = os.getpid()
        self._counted = -1
        try:
            self._fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def is_just(self, known: int) -> bool:
        """Say whether this process has no children but `known` of them, zombies included.

        False where the kernel does not tell.
        """
        if self._fd < 0:
            return False
        if known == self._counted:
            if not os.read(self._fd, 4096):
                return True
            self._counted = -1
            return False
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._counted = 0
        while text := os.read(self._fd, 65536):
            self._counted += text.count(b" ")
        return self._counted == known

    def close(self) -> None:
        """Close the list."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _children_by_scan(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(int(entry))
            if fields is not None and int(fields[1]) == pid:
                found.append(int(entry))
    return found


def descendants_of(pid: int) -> list[int]:
    """Give all descendants of `pid`, nearest first."""
    by_parent: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_fields(int(entry))
            if fields is not None:
                by_parent.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    front = [pid]
    while front:
        front = [child for parent in front for child in by_parent.get(parent, ())]
        found += front
    return found


def kill_descendants() -> None:
    """Kill whatever hangs below this process, furthest first: should it be killed itself, who is left ends the rest."""
    for os_pid in reversed(descendants_of(os.getpid())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(os_pid, signal.SIGKILL)


def end_descendants() -> None:
    """Kill and reap until nothing hangs below this child subreaper, to which falls who loses its parent meanwhile."""
    deadline = time.monotonic() + END_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                kill_descendants()
                os.sched_yield()


def raise_descriptor_limit() -> None:
    """Lift the soft limit of open files to the hard one: a node of many servers needs many."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            setrlimit(RLIMIT_NOFILE, (hard, hard))


def keep_descriptors_spare(newest: int) -> None:
    """Raise `OSError` when `newest`, just opened, is among the last few that this process may have.

    Those are for clearing up: a parent that cannot open a file can neither judge nor answer.
    """
    if is_scarce(newest):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def is_scarce(newest: int) -> bool:
    """Say whether `newest`, just opened, is among the last few descriptors that this process may have."""
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return limit != RLIM_INFINITY and newest >= limit - SPARE_DESCRIPTORS


def shortage(error: OSError) -> str:
    """Say what to do about an error that means that this machine, or this user, has no more of something."""
    match error.errno:
        case errno.EMFILE:
            limit = getrlimit(RLIMIT_NOFILE)[0]
            return f" (of {limit}, and each child takes one: raise the limit with `ulimit -n`, or use more supervisors)"
        case errno.ENFILE:
            return " (of the whole machine: raise the sysctl fs.file-max)"
        case errno.EAGAIN:
            limit = getrlimit(RLIMIT_NPROC)[0]
            return f" (this user may have {limit} processes: see `ulimit -u`, the cgroup's pids.max, kernel.pid_max)"
        case errno.ENOMEM:
            return " (memory: see the cgroup's memory.max, and vm.overcommit_memory)"
        case _:
            return ""


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above the standard three that is not in `keep`."""
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    limit = getrlimit(RLIMIT_NOFILE)[0]
    os.closerange(low, max(low, limit if limit > 0 else 1 << 20))


def write_beside(fd: int, data: bytes, reader: int) -> int:
    """Write into the pipe of a process that sleeps, so that it is woken on another core; give how much was written.

    The scheduler wakes a reader on the core of the writer, which it takes to wait for an answer; a writer that goes on
    keeps its reader waiting. So this core is none of those of `reader`, an OS pid, while that is woken. It has them all
    again before the last byte comes: what it sets itself when it has read that is not overruled.
    """
    try:
        cores = os.sched_getaffinity(reader)
        os.sched_setaffinity(reader, cores - {libc().sched_getcpu()})
    except OSError:
        # it has only this core, or it is gone, or that is not for this process to set
        return os.write(fd, data)
    try:
        written = os.write(fd, data[:-1])
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(reader, cores)
    return written + os.write(fd, data[-1:])


def set_title(title: str) -> None:
    """Give this process a short name that `ps`, `top` and `pstree` show (15 bytes of it); best effort."""
    _write("/proc/self/comm", title.encode(errors="replace")[:15])


def title_of(pid: int) -> str:
    """Give the short name of a process; "" when it is gone."""
    try:
        return read_whole(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        return ""


def raise_own_oom_score(by: int) -> None:
    """Make the kernel's OOM killer take this process earlier than its parent; best effort."""
    try:
        score = min(int(read_whole("/proc/self/oom_score_adj")) + by, 1000)
    except (OSError, ValueError):
        return
    _write("/proc/self/oom_score_adj", str(score).encode())


def _write(path: str, data: bytes) -> None:
    """Write a file of the kernel's; best effort. Every new process comes here, so it is built of little."""
    fd = -1
    try:
        fd = os.open(path, _WRITE)
        os.write(fd, data)
    except OSError:
        """It stays as it is."""
    finally:
        if fd >= 0:
            os.close(fd)
