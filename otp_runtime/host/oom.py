"""Did the kernel end it, and for want of what: evidence about a SIGKILL that nobody of the node sent.

The kernel counts the victims of its OOM killer per memory cgroup, and raises the count before it kills. A count does
not name the victim, so it is taken against one that is not old, and each death uses up one.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from dataclasses import dataclass

from otp_runtime.host import kernel

FRESH_SECONDS = 1.0
"""A count younger than this may already hold the death that is being looked into: the one before it is the base."""

ROUNDED, ROUNDING_SECONDS = 0.85, 0.2
_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified")


@dataclass(slots=True)
class _Count:
    """How many kills of a cgroup were known, lately and before."""

    base: int
    latest: int
    at: float


class OomCounts:
    """What one OS parent knows of the OOM kills in its own memory cgroup and those of its children."""

    def __init__(self, now: float) -> None:
        """Count those of this process's own."""
        self._counts: dict[str, _Count] = {}
        self._known: dict[str, str] = {}
        """The counters of cgroups that were asked for lately, by what the kernel says of a process there."""
        self._own = counter_of(os.getpid())
        self.tells_of_the_dead = not self._own.endswith("memory.oom_control")
        """Whether a zombie still has its cgroup: not in version 1, where a child must be asked while it lives."""
        self.note(self._own, now)

    def of_child(self, os_pid: int, now: float) -> str:
        """Give the file that counts for a child; "" when there is none. Asked while it lives: later is too late."""
        groups = _groups_of(os_pid)
        path = self._known.get(groups)
        if path is None:
            # children are nearly always in one cgroup, and finding its counter takes a dozen system calls
            path = self._known[groups] = _counter_in(groups) or self._own
        if path not in self._counts:
            self.note(path, now)
        return path

    def refresh(self, now: float) -> None:
        """Count anew, for deaths to come."""
        self._known.clear()
        for path in list(self._counts):
            self.note(path, now)

    def note(self, path: str, now: float) -> None:
        """Count the kills of one cgroup."""
        kills = _kills(path) if path else None
        if kills is None:
            # a cgroup that is gone
            self._counts.pop(path, None)
            return
        known = self._counts.get(path)
        if known is None:
            self._counts[path] = _Count(kills, kills, now)
        elif now - known.at >= FRESH_SECONDS:
            known.base, known.latest, known.at = known.latest, kills, now

    def evidence(self, path: str) -> str | None:
        """Say what speaks for it that a child, whose counter this is, was a victim; None when nothing does."""
        known = self._counts.get(path or self._own)
        kills = _kills(path or self._own) if known is not None else None
        if known is None or kills is None or kills <= known.base:
            return None
        text = f"{path or self._own}: oom_kill {known.base} -> {kills}"
        # the next victim needs a kill of its own
        known.base += 1
        known.latest = max(known.latest, known.base)
        return text


def counter_of(os_pid: int) -> str:
    """Give the file that counts the OOM kills of a process's memory cgroup; "" when the kernel does not tell.

    In a container the path may be the host's, of which only an end is mounted here.
    """
    return _counter_in(_groups_of(os_pid))


def _groups_of(os_pid: int) -> str:
    try:
        return os.fsdecode(kernel.read_whole(f"/proc/{os_pid}/cgroup"))
    except OSError:
        return ""


def _counter_in(groups: str) -> str:
    if not groups:
        return ""
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        name = "memory.events" if number == "0" else "memory.oom_control" if "memory" in controllers.split(",") else ""
        if name:
            for root in _ROOTS:
                if found := _nearest(root, path, name):
                    return found
    # in the root cgroup: only the machine as a whole counts
    return "/proc/vmstat" if _kills("/proc/vmstat") is not None else ""


def _nearest(root: str, path: str, name: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for start in range(len(parts) + 1):
        candidate = "/".join((root, *parts[start:], name))
        if os.path.exists(candidate):
            return candidate
    return ""


def _kills(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in kernel.read_whole(path).splitlines():
            key, _, value = line.partition(b" ")
            if key == b"oom_kill":
                return int(value)
    return None


# -- limits of the process itself ---------------------------------------------------------------------------


def peek_cpu_limit(pidfd: int, os_pid: int) -> tuple[float, float] | None:
    """Give the limit of CPU seconds, soft and hard, of a child that was killed and is not reaped; else None."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None and ended.si_code != os.CLD_EXITED and ended.si_status in _CPU_SIGNALS:
            soft, hard = resource.prlimit(os_pid, resource.RLIMIT_CPU)
            if (soft, hard) != (resource.RLIM_INFINITY, resource.RLIM_INFINITY):
                return float(soft), float(hard)
    except OSError:
        pass  # it is gone, or not to be looked at
    return None


_CPU_SIGNALS = (signal.SIGKILL, signal.SIGXCPU)


def cpu_evidence(limits: tuple[float, float], used: float, signum: int) -> str | None:
    """Say what speaks for it that the kernel ended a process for its CPU time; None when nothing does.

    Two clocks: the limit is checked against one that counts ticks, and under load they differ by some percent.
    """
    soft, hard = limits
    if signum == signal.SIGXCPU:
        # it comes of nothing else; the kernel has raised the soft limit by a second since
        return f"RLIMIT_CPU: {used:.2f} s of CPU time used, the soft limit was {soft - 1:g} s"
    if hard < 0 or used < hard * ROUNDED - ROUNDING_SECONDS:
        return None
    return f"RLIMIT_CPU: {used:.2f} s of CPU time used, the hard limit was {hard:g} s"


__all__ = ["OomCounts", "counter_of", "cpu_evidence", "peek_cpu_limit"]
