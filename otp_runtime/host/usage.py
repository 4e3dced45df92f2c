"""What an OS process and its descendants use, read from ``/proc`` with as few reads as there can be.

One file, `stat`, tells resident memory, CPU time, start and threads of a process; the kernel's lists of children tell
its descendants without a look at all the others. Where the kernel keeps no such lists, one scan serves a whole round.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from otp_runtime.host.kernel import is_ending, stat_fields

if TYPE_CHECKING:
    from otp_runtime.host.kernel import OsProcess

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PARENT, _CPU, _CPU_END, _THREADS, _START, _RSS = 1, 11, 15, 17, 19, 21


class Used(NamedTuple):
    """Bytes resident (pages that several of them share count for each), CPU seconds, descriptors, descendants."""

    rss: int
    cpu: float
    files: int
    descendants: tuple[int, ...]


class Scan:
    """One round's reader."""

    __slots__ = ("_by_parent",)

    def __init__(self, *, by_lists: bool = True) -> None:
        """Read nothing yet. `by_lists`: go by the kernel's lists of children where it keeps them."""
        self._by_parent: dict[int, list[int]] | None = None if by_lists else _by_parent()

    def used_by(self, process: OsProcess, *, files: bool = False, descendants: bool = True) -> Used | None:
        """Add up what a process and, if asked for, its descendants use; None when it is dead.

        The CPU time of those that ended is in it once somebody of the family has waited for them.
        """
        fields = stat_fields(process.pid)
        if fields is None or is_ending(fields) or int(fields[_START]) != process.start:
            return None
        found: list[int] = []
        rss, cpu, opened = 0, 0, 0
        front = [(process.pid, fields)]
        while front:
            pid, fields = front.pop()
            rss += int(fields[_RSS])
            cpu += sum(map(int, fields[_CPU:_CPU_END]))
            if files:
                opened += open_files(pid)
            if not descendants:
                break
            for child in self._children(pid, int(fields[_THREADS])):
                below = stat_fields(child)
                if below is not None:
                    found.append(child)
                    front.append((child, below))
        return Used(rss * _PAGE, cpu / _TICKS, opened, tuple(found))

    def _children(self, pid: int, threads: int) -> list[int]:
        if self._by_parent is not None:
            return self._by_parent.get(pid, [])
        try:
            tasks = [str(pid)] if threads <= 1 else os.listdir(f"/proc/{pid}/task")
        except OSError:
            return []
        found: list[int] = []
        for task in tasks:
            text = _read(f"/proc/{pid}/task/{task}/children")
            if text is None:
                if not _has_lists():
                    self._by_parent = _by_parent()
                    return self._by_parent.get(pid, [])
                continue
            found += map(int, text.split())
        return found


def open_files(pid: int) -> int:
    """Count the descriptors of a process; 0 when it is gone."""
    path = f"/proc/{pid}/fd"
    try:
        # since Linux 6.2 the size of the directory is their number
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return 0


class Pages(NamedTuple):
    """Bytes that only this process has, and its share of all it has: what several share counts for each in part."""

    unique: int
    share: int


def pages_of(pid: int) -> Pages | None:
    """Add up the memory of a process by whom it is shared with; None when it is gone or may not be looked at.

    Costs some hundreds of microseconds: the kernel goes through all its pages (proc(5), `smaps_rollup`).
    """
    text = _read(f"/proc/{pid}/smaps_rollup")
    if not text:
        return None
    unique = share = 0
    for line in text.splitlines()[1:]:
        field, _, value = line.partition(b":")
        if field in (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb"):
            unique += int(value.split()[0])
        elif field == b"Pss":
            share = int(value.split()[0])
    return Pages(unique * 1024, share * 1024)


def _has_lists() -> bool:
    """Say whether this kernel lists children (CONFIG_PROC_CHILDREN), or only the one asked about is gone."""
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def _by_parent() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(int(entry))) is not None:
            found.setdefault(int(fields[_PARENT]), []).append(int(entry))
    return found


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536)
    except OSError:
        return None
    finally:
        os.close(fd)


__all__ = ["Pages", "Scan", "Used", "open_files", "pages_of"]
