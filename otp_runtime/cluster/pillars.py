"""What a node stands on: its program, its launcher, its guard. When one falls, the node does."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

from otp_runtime.host import kernel

if TYPE_CHECKING:
    from collections.abc import Callable


class Pillars:
    """The OS processes with which a node ends."""

    def __init__(self, processes: list[kernel.OsProcess]) -> None:
        """Watch them by their pidfds."""
        self._poll = select.poll()
        self._pidfds = [pidfd for one in processes if (pidfd := kernel.open_pidfd(one)) is not None]
        for pidfd in self._pidfds:
            self._poll.register(pidfd, select.POLLIN)

    def have_fallen(self) -> bool:
        """Say whether one of them has ended."""
        return bool(self._poll.poll(0))

    def watch(self, fall: Callable[[], Any]) -> None:
        """Let the running event loop call `fall` when one ends."""
        for pidfd in self._pidfds:
            asyncio.get_running_loop().add_reader(pidfd, fall)

    def forget(self) -> None:
        """Watch them no longer."""
        for pidfd in self._pidfds:
            asyncio.get_running_loop().remove_reader(pidfd)
