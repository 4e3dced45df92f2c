"""What a process has open, looked up now and then: of one that is killed nobody can look when it is too late.

A process that ends by itself says what it has open. One that a signal kills cannot, and of a zombie the kernel has
closed all. So its OS parent looks: when it is a second old, at five times that age, at five times that, and so on. The
last look is then never older than four fifths of a life, and what does nothing is not looked at over and over: a look
costs some 40 microseconds, an idle server seven of them in a day.

Whoever looks at children more often anyway (`look`) makes it younger.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from otp_runtime.host import poller
from otp_runtime.host.open_files import open_files
from otp_runtime.process.agenda import Agenda

if TYPE_CHECKING:
    from otp_runtime.process.child import Child
    from otp_runtime.process.offspring import Offspring

FIRST_SECONDS: Final = 1.0
FACTOR: Final = 5.0
_TOGETHER_SECONDS: Final = 0.25
"""Looks fall on multiples of this, a little late if need be: one wake-up for a tree that started at once."""


class Looks:
    """The looks that one OS parent has ahead of it."""

    def __init__(self, offspring: Offspring) -> None:
        """None yet."""
        self._offspring = offspring
        self._due: Agenda[tuple[int, float]] = Agenda()
        self._timer: poller.TimerHandle | None = None

    def begin(self, child: Child) -> None:
        """A child was born."""
        self._add(child.id, FIRST_SECONDS)

    def look(self, child: Child) -> None:
        """Note what a living child has open now."""
        if child.pidfd >= 0:
            child.words["open_files"] = open_files(child.os_process.pid, str(self._offspring.directory.path))
            child.words["open_files_at"] = time.time()

    def _add(self, process_id: int, seconds: float) -> None:
        due = math.ceil((poller.now() + seconds) / _TOGETHER_SECONDS) * _TOGETHER_SECONDS
        self._due.add(due, (process_id, seconds))
        self._arm()

    def _arm(self) -> None:
        due = self._due.next_due
        if due is None:
            return
        if self._timer is not None and self._timer.action is not None:
            if self._timer.due <= due:
                return
            self._timer.cancel()
        self._timer = self._offspring.context.poller.at(due, self._round)

    def _round(self) -> None:
        for process_id, seconds in self._due.take(poller.now()):
            child = self._offspring.children.get(process_id)
            if child is not None:
                self.look(child)
                self._add(process_id, seconds * FACTOR)
        self._arm()
