"""What a test left behind: processes, descriptors, files.

A census before and one after; what is only in the second was leaked. Processes count as left when they descend
from this one, or when their environment or arguments name the directory of the test: a daemon that detached
itself from everything still carries that.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import time
from dataclasses import dataclass, field
from pathlib import Path

from otp_runtime.host import kernel


@dataclass(frozen=True, slots=True)
class Census:
    """What there is: OS processes below this one, and its descriptors by number with what they refer to."""

    processes: frozenset[kernel.OsProcess] = field(default=frozenset())
    descriptors: dict[int, str] = field(default_factory=dict)


def take() -> Census:
    """Count what there is now."""
    return Census(frozenset(descendants()), descriptors())


def since(before: Census, *, wait: float = 0.0) -> list[str]:
    """Name what is there now and was not `before`; empty when nothing leaked.

    `wait`: seconds that processes which are just ending are given.
    """
    processes = [one for one in descendants() if one not in before.processes]
    return [describe(one) for one in outlive(processes, wait)] + opened_since(before.descriptors)


# -- processes ---------------------------------------------------------------------------------------------------------


def descendants() -> list[kernel.OsProcess]:
    """Give the OS processes that descend from this one, zombies included."""
    return _identified(kernel.descendants_of(os.getpid()))


def naming(text: str) -> list[kernel.OsProcess]:
    """Give the OS processes, this one aside, whose environment or arguments contain `text`."""
    wanted = text.encode()
    others = (entry for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid())
    return _identified([int(entry) for entry in others if _mentions(entry, wanted)])


def _mentions(entry: str, wanted: bytes) -> bool:
    for part in ("cmdline", "environ"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if wanted in Path(f"/proc/{entry}/{part}").read_bytes():
                return True
    return False


def _identified(os_pids: list[int]) -> list[kernel.OsProcess]:
    starts = ((os_pid, kernel.start_time(os_pid)) for os_pid in os_pids)
    return [kernel.OsProcess(os_pid, start) for os_pid, start in starts if start is not None]


def outlive(processes: list[kernel.OsProcess], seconds: float) -> list[kernel.OsProcess]:
    """Give those of `processes` that are still there, as processes or as zombies, when `seconds` are over.

    Returns at once when none is left.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = [one for one in processes if kernel.start_time(one.pid) == one.start]
        remaining = deadline - time.monotonic()
        if not left or remaining <= 0:
            return left
        _await_an_end(left, min(remaining, 0.02))


def _await_an_end(processes: list[kernel.OsProcess], seconds: float) -> None:
    """Wait until one of `processes` ends. No event tells that a stranger's zombie is reaped: that takes the clock."""
    poll = select.poll()
    pidfds = []
    for one in processes:
        pidfd = kernel.open_pidfd(one)
        if pidfd is not None:
            pidfds.append(pidfd)
            if not kernel.has_ended(pidfd):
                poll.register(pidfd, select.POLLIN)
    poll.poll(seconds * 1000)
    for pidfd in pidfds:
        os.close(pidfd)


def describe(process: kernel.OsProcess) -> str:
    """Say which process that is, for people."""
    command, state = b"", "gone"
    with contextlib.suppress(OSError, ValueError, IndexError):
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
        state = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    what = command.decode(errors="replace")[:200] or "no arguments"
    return f"process {process.pid} (state {state}): {what}"


# -- descriptors and files ---------------------------------------------------------------------------------------------


def descriptors() -> dict[int, str]:
    """Give this process's open descriptors and what each refers to."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
    return found


def opened_since(before: dict[int, str]) -> list[str]:
    """Name the descriptors that are open now and were not, or referred to something else, in `before`."""
    found = _differences(before)
    if found:
        gc.collect()  # an object in a cycle is no leak yet
        found = _differences(before)
    return found


def _differences(before: dict[int, str]) -> list[str]:
    return [f"descriptor {fd} -> {what}" for fd, what in sorted(descriptors().items()) if before.get(fd) != what]


def files(directory: str | Path) -> list[str]:
    """Give what lies in `directory`, at any depth, as paths relative to it; nothing when it is not there."""
    root = Path(directory)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))
