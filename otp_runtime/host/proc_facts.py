"""What `/proc` and the kernel tell an OS parent of a process that may be hung; best effort, no process is asked."""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

MAX_THREADS = 32
_NANO = 1e-9
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def take_stops(stopped: set[int]) -> None:
    """Keep in `stopped` the OS pids of the children that a signal has stopped: one look for all of them."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)) is not None:
            if found.si_code == os.CLD_CONTINUED:
                stopped.discard(found.si_pid)
            else:
                stopped.add(found.si_pid)


class Status(NamedTuple):
    """What the kernel says of a process's main thread: it runs, it is stopped by a signal; and of a tracer."""

    runs: bool
    stopped: bool
    traced: bool


def status_of(os_pid: int) -> Status:
    """Say how the main thread of a process is, and whether a tracer is attached: a native debugger, strace."""
    lines = _read(f"/proc/{os_pid}/status").splitlines()
    said = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    state, traced = said.get("State", "?")[:1], said.get("TracerPid", "0") != "0"
    return Status(state == "R", state == "T" and not traced, traced)


def main_thread_times(os_pid: int) -> tuple[float, float]:
    """Give how long the main thread of a process has run, and how long it has waited for a core; seconds."""
    words = _read(f"/proc/{os_pid}/schedstat").split()
    if len(words) >= 2 and words[0] != "0":
        return int(words[0]) * _NANO, int(words[1]) * _NANO
    # a kernel without these figures: what all threads have run
    fields = _read(f"/proc/{os_pid}/stat").rpartition(")")[2].split()
    return ((int(fields[11]) + int(fields[12])) * _TICK if len(fields) > 12 else 0.0), 0.0


def threads_of(os_pid: int) -> list[dict[str, Any]]:
    """Give each thread of a process: its name, its state's letter, where in the kernel it waits ("" if not told)."""
    found = []
    with contextlib.suppress(OSError):
        for thread in sorted(os.listdir(f"/proc/{os_pid}/task"), key=int)[:MAX_THREADS]:
            base = f"/proc/{os_pid}/task/{thread}"
            before, _, after = _read(f"{base}/stat").rpartition(")")
            waits = _read(f"{base}/wchan")
            state = after.split()[0] if after.strip() else "?"
            found.append({"name": before.partition("(")[2], "state": state, "waits_in": "" if waits == "0" else waits})
    return found


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 8192).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
