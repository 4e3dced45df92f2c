"""The guard: does nothing but watch. Ends what is left of a node and removes its directory.

    program ──spawns──► guard (child subreaper) ──forks──► launcher ──forks──► roots ──fork──► …

It imports what all of them run before it forks the launcher: what it never looks at again it has in common with them.

When the program dies, the launcher stops its roots and ends; when the launcher ends, or does not within
`PROGRAM_SECONDS`, everything that fell to the guard is given `ORPHAN_SECONDS`, killed and reaped. The guard's
end is the end of the node: its directory is gone by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import sys
import time
from typing import Any

from otp_runtime.host import kernel, siblings
from otp_runtime.host.directory import NodeDirectory
from otp_runtime.host.interpreter import READY_FD

PROGRAM_SECONDS = 1.4
"""What the launcher has, when the program was killed, to stop its roots and end."""

ORPHAN_SECONDS = 0.9
"""What the roots have, when the launcher was killed."""


def main(argv: list[str]) -> int:
    """Guard the node in directory `argv[0]` for the program `argv[1]` that started at `argv[2]`.

    `argv[3]` names what prepares the launcher, `argv[4]` the supervisor's entry, as "module:function": this floor
    knows nothing of those above.
    """
    path, program_pid, program_start, launcher_entry, supervisor_entry = argv
    kernel.leave_terminal()
    directory = NodeDirectory(path)
    directory.identify()
    lock = os.open(f"{path}/guard", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    kernel.become_subreaper()
    kernel.raise_descriptor_limit()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    me = kernel.own_process()
    program = kernel.OsProcess(int(program_pid), int(program_start))
    siblings.hooks_in_child()
    gc.disable()
    # before the fork: a page that the launcher writes has an old version, which then is not the only server's alone
    run_launcher = _load(launcher_entry)(_load(supervisor_entry))
    gc.enable()
    launcher_pid = os.fork()
    if launcher_pid == 0:
        # a group whose OS parent stays: of one that the program leaves alone, the kernel hangs up on who was stopped
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.close(lock)
        run_launcher(path, me, READY_FD)
        os._exit(1)
    os.close(READY_FD)
    in_time = _watch(program, launcher_pid)
    _end_everything(launcher_pid, ORPHAN_SECONDS if in_time else 0.0)
    directory.remove()
    return 0


def _load(entry: str) -> Any:
    module, _, function = entry.partition(":")
    return getattr(importlib.import_module(module), function)


def _watch(program: kernel.OsProcess, launcher_pid: int) -> bool:
    """Wait until the launcher is dead, or the program is and the launcher had its time; say which by True or False."""
    launcher = os.pidfd_open(launcher_pid)
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    pidfd = kernel.open_pidfd(program)
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    deadline: float | None = None if pidfd is not None else time.monotonic() + PROGRAM_SECONDS
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {fd for fd, _event in poll.poll(left)}
        if launcher in ready:
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        for fd in ready:
            poll.unregister(fd)
        if pidfd in ready and deadline is None:
            deadline = time.monotonic() + PROGRAM_SECONDS


def _end_everything(launcher_pid: int, grace: float) -> None:
    """Give what fell to the guard a moment, then kill and reap all of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with contextlib.suppress(ProcessLookupError):
        os.kill(launcher_pid, signal.SIGKILL)
    deadline = time.monotonic() + grace
    while kernel.children_of(os.getpid()):
        if time.monotonic() >= deadline:
            kernel.kill_descendants()
        _reap_within(0.02)


def _reap_within(seconds: float) -> None:
    """Reap whoever is dead; wait a moment for the next death."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    signal.sigtimedwait({signal.SIGCHLD}, seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
