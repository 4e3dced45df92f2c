"""A program's part in an embedded engine: from before its node joins until after it has ended.

    take_part ──► thread: the keeper's pidfd ──ready──► take_part
                                                └ whoever of the programs comes first starts another, the rest find it

The program does it, and no process of its node: what those start falls to a supervisor, and ends with the node.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from otp_runtime.cluster import engine
from otp_runtime.errors import NoNode
from otp_runtime.host import kernel

if TYPE_CHECKING:
    from otp_runtime.process.handle import NodeHandle

AGAIN_SECONDS = 1.0
"""After this an engine that did not start is tried again."""


class Attendance:
    """Keeps the engine of `cluster` alive for one node, whose guard is the OS process `guard`."""

    def __init__(self, handle: NodeHandle, guard: int, cluster: str) -> None:
        """Find the engine, or start it. Raises `NoNode`."""
        self._handle = handle
        self._base = handle.directory.path.parent
        self._guard = kernel.OsProcess(guard, kernel.start_time(guard) or 0)
        self._cluster = cluster
        try:
            engine.take_part(self._base, cluster, handle.name, self._guard)
        except BaseException:
            engine.part(self._base, cluster, handle.name)
            raise
        self._is_over = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._attend, name="otp_runtime-engine", daemon=True)
        self._thread.start()

    def part(self) -> None:
        """The node has ended: see `engine.part`."""
        os.eventfd_write(self._is_over, 1)
        self._thread.join()
        os.close(self._is_over)
        engine.part(self._base, self._cluster, self._handle.name)

    def forget(self) -> None:
        """This is a fork of the program, and the thread is not here."""
        os.close(self._is_over)

    def _attend(self) -> None:
        # the signals of the program are its first thread's
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._wait_for_keeper():
            try:
                engine.take_part(self._base, self._cluster, self._handle.name, self._guard)
            except NoNode as error:
                if not engine.lives(self._guard):
                    return
                self._handle.warn(f"the engine has ended, and was not started again: {error}")
                if self._wait(AGAIN_SECONDS):
                    return

    def _wait_for_keeper(self) -> bool:
        """Wait until there is no keeper any more; False when the node has ended."""
        said = engine.EngineDirectory(self._base, self._cluster).read()
        pidfd = None if said is None else kernel.open_pidfd(kernel.OsProcess(*said["keeper"]))
        if pidfd is None:
            return not self._wait(0.0)
        try:
            return not self._wait(None, pidfd)
        finally:
            os.close(pidfd)

    def _wait(self, seconds: float | None, *fds: int) -> bool:
        """Wait until the node has ended, or for one of `fds`, so many seconds; say whether it has."""
        poll = select.poll()
        for fd in (self._is_over, *fds):
            poll.register(fd, select.POLLIN)
        return self._is_over in {fd for fd, _events in poll.poll(None if seconds is None else seconds * 1000)}
