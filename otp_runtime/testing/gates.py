"""Holding a process in the middle of what it does, until the test lets go. Two FIFOs, no clock.

    the server: gate.wait()  ── one byte ──► arrivals ──► the test: gate.wait_arrival()
                             ◄── end of file, or one byte ── release ◄── gate.open(), gate.admit()

Only the path travels: a closure that uses a gate can be sent to any process of the machine. When the test's
process ends, however it ends, the kernel closes the release end, and nobody stays held.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import tempfile
import time
from typing import Self


class Gate:
    """A closed gate: see `gate`. In the process that made it, a context manager that opens and removes it."""

    def __init__(self) -> None:
        """Close a new gate."""
        self.path = tempfile.mkdtemp(prefix="otp-gate-")
        os.mkfifo(f"{self.path}/arrivals", 0o600)
        os.mkfifo(f"{self.path}/release", 0o600)
        self._arrivals = os.open(f"{self.path}/arrivals", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._release = os.open(f"{self.path}/release", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._owner = os.getpid()

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.path = path
        self._arrivals = self._release = self._owner = -1

    # -- in the process that is held -----------------------------------------------------------------------------------

    def wait(self) -> None:
        """Say that this process has arrived, and wait until the gate opens or lets one through."""
        self.arrive()
        try:
            fd = os.open(f"{self.path}/release", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        try:
            while True:
                # end of file: open for all; a byte: for one. A rival may take the byte that woke this one.
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 1)
                    return
                poll.poll()
        finally:
            os.close(fd)

    def arrive(self) -> None:
        """Say that this process has arrived, and go on."""
        with contextlib.suppress(OSError):  # an opened gate wants nobody to report
            fd = os.open(f"{self.path}/arrivals", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, b"x")
            finally:
                os.close(fd)

    # -- in the test ---------------------------------------------------------------------------------------------------

    def wait_arrival(self, timeout: float = 5.0) -> None:
        """Wait until a process has arrived, at most `timeout` seconds; then AssertionError. Counts each once."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._arrivals, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._arrivals, 1)
                return
        msg = f"nobody arrived at the gate within {timeout:g} s"
        raise AssertionError(msg)

    def admit(self) -> None:
        """Let one process through, now or when it comes; the others stay."""
        os.write(self._release, b"x")

    def open(self) -> None:
        """Let everybody through, now and later."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.path}/release")  # first: who comes later must not wait for a writer
        if self._release >= 0:
            os.close(self._release)
            self._release = -1

    def close(self) -> None:
        """Open the gate and remove it."""
        if self._owner != os.getpid():
            return
        self.open()
        if self._arrivals >= 0:
            os.close(self._arrivals)
            self._arrivals = -1
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def gate() -> Gate:
    """Make a closed gate.

    >>> from otp_runtime import Agent
    >>> from otp_runtime.testing import gate
    >>> with Agent.start_link(int) as agent, gate() as hold:
    ...     Agent.cast(agent, lambda state: hold.wait() or state + 1)
    ...     hold.wait_arrival()  # the agent is in mid-callback now
    ...     hold.open()
    ...     Agent.get(agent, lambda state: state)
    1
    """
    return Gate()
