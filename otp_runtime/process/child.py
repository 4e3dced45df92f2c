"""A child as its OS parent knows it: which process, what it was to do, what it has said, what is in its black box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.box import Box

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.host import poller
    from otp_runtime.process.job import Job
    from otp_runtime.terms.pid import Pid


NOBODY: Final[frozenset[int]] = frozenset()


class Child:
    """A process this one forked, or one that fell to it."""

    __slots__ = (
        "_box",
        "_box_path",
        "boot_data",
        "boot_fd",
        "comes_back",
        "died_at",
        "doom",
        "handed",
        "hang",
        "heirs",
        "id",
        "job",
        "limit",
        "on_word",
        "os_process",
        "outcome",
        "pid",
        "pidfd",
        "root",
        "rusage",
        "status",
        "told",
        "words",
    )

    def __init__(self, process_id: int, pid: Pid, job: Job | None, box: Box | None) -> None:
        """See `Offspring.start`."""
        self.id = process_id
        self.pid = pid
        self.job = job
        self._box = box
        self._box_path = None if box is None else box.path
        self.os_process = kernel.OsProcess(0, 0)
        self.pidfd = -1
        self.boot_fd = -1
        self.boot_data = b""
        self.outcome: list[Any] | None = None
        self.doom: tuple[Any] | None = None
        self.hang: tuple[str, str] | None = None
        self.limit: poller.TimerHandle | None = None
        self.handed: list[str] = []

        self.on_word: Callable[[list[Any]], None] | None = None
        self.heirs = NOBODY
        self.root: Child | None = None
        self.comes_back = False
        self.status = 0
        self.told = False
        self.died_at = 0.0
        self.rusage: Any = None
        self.words: dict[str, Any] = {}

    @property
    def box(self) -> Box | None:
        """Its black box, mapped again if it was at rest; None of a process that is not the node's."""
        if self._box is None and self._box_path is not None:
            self._box = Box.open(self._box_path)
        return self._box

    def settle(self, job: Job, box: Box) -> None:
        """A spare is used: from now on it is a child like others."""
        self.job, self._box, self._box_path = job, box, box.path
        self.on_word = None
        self.words.clear()

    def rest(self) -> None:
        """Unmap the box until it is asked for: every mapping makes every later fork dearer."""
        if self._box is not None:
            self._box.close()
            self._box = None

    def has_finished(self) -> bool:
        """Whether it is a task that has given its value, and is about to end. Leaves the box at rest if it was."""
        at_rest = self._box is None
        finished = self.box is not None and bool(self.box.flag(boxes.FINISHED))
        if at_rest:
            self.rest()
        return finished

    def close_box(self) -> None:
        """Unmap the box for good."""
        self.rest()
        self._box_path = None
