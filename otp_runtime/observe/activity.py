"""What the processes of a node do just now: two looks at their boxes and at /proc, and what changed between them.

    Watcher(directory).look() ──► Picture(node, activities, seconds since the look before)

Nobody is asked, as in `observe`: a server that hangs shows as well as any other, and none does more for being watched.
What goes by the second (processor, messages) is None at the first look: there is nothing to compare with yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otp_runtime.core.watchdog import Watchdog
from otp_runtime.host import kernel, pipe
from otp_runtime.host.box import BoxView
from otp_runtime.host.usage import Pages, Scan, Used, pages_of
from otp_runtime.observe.tree import observe

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.observe.tree import NodeView, ProcessView

HUNG_SECONDS = Watchdog().busy
PAGES_SECONDS = 5.0
"""How long the memory of a process that has done nothing is taken for what it was."""


@dataclass(frozen=True, slots=True)
class Activity:
    """One process and what it does.

    `state` is its status, or "hung": one callback, or the event loop of an async server, has taken longer than its
    watchdog allows; where it has none, than `HUNG_SECONDS`, which may be on purpose. `cpu_percent` is of one core.
    `mailbox_bytes` wait to be handled, read already or not. Processor and memory are with those of its subprocesses,
    unless it is a supervisor, whose children count for themselves.
    """

    process: ProcessView
    state: str
    cpu_percent: float | None
    handled_per_second: float | None
    mailbox_bytes: int
    unique_bytes: int | None
    share_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Give plain data: the process's, and what it does."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "process"}
        return self.process.to_json() | own


@dataclass(frozen=True, slots=True)
class Picture:
    """A node at one moment. `seconds` since the look before; None at the first."""

    node: NodeView
    activities: tuple[Activity, ...]
    seconds: float | None

    @property
    def cpu_percent(self) -> float | None:
        """What all processes used of one core, threads of one OS process counted once."""
        used = {one.process.os_pid: one.cpu_percent for one in self.activities if one.cpu_percent is not None}
        return sum(used.values()) if self.seconds is not None else None

    @property
    def unique_bytes(self) -> int:
        """What would be free if the node ended, all but the pages that only several of it share."""
        return sum({one.process.os_pid: one.unique_bytes or 0 for one in self.activities}.values())


@dataclass(slots=True)
class _Known:
    """What was seen of an OS process at the last look."""

    process: kernel.OsProcess
    used: Used
    pages: Pages | None
    pages_at: float


class Watcher:
    """Looks at a node again and again, and compares. Runs in whoever looks; need not be a process of the node."""

    def __init__(self, directory: NodeDirectory) -> None:
        """Look at nothing yet."""
        self._directory = directory
        self._known: dict[int, _Known] = {}
        self._handled: dict[int, int] = {}
        self._at: float | None = None

    def look(self) -> Picture:
        """Look now. Raises FileNotFoundError when the node is gone."""
        now = time.monotonic()
        view = observe(self._directory, memory=False)
        seconds = None if self._at is None else max(now - self._at, 1e-3)
        scan = Scan()
        known: dict[int, _Known] = {}
        seen = []
        for process in view.processes:
            os_pid = process.os_pid
            if os_pid and os_pid not in known and (used := self._used(scan, process)) is not None:
                known[os_pid] = used
            seen.append(self._activity(process, known.get(os_pid), seconds, now))
        self._known, self._at = known, now
        self._handled = {one.id: one.handled for one in view.processes}
        processes = tuple(one.process for one in seen)
        return Picture(dataclasses.replace(view, processes=processes), tuple(seen), seconds)

    def _used(self, scan: Scan, process: ProcessView) -> _Known | None:
        start = kernel.start_time(process.os_pid)
        if start is None:
            return None
        os_process = kernel.OsProcess(process.os_pid, start)
        used = scan.used_by(os_process, descendants=process.kind == "server")
        if used is None:
            return None
        now = time.monotonic()
        before = self._known.get(process.os_pid)
        if before is not None and before.process == os_process:
            is_quiet = before.used == used and now - before.pages_at < PAGES_SECONDS
            if is_quiet:
                return _Known(os_process, used, before.pages, before.pages_at)
        return _Known(os_process, used, _pages(process.os_pid, used), now)

    def _activity(self, process: ProcessView, known: _Known | None, seconds: float | None, now: float) -> Activity:
        cpu = rate = None
        if seconds is not None and known is not None:
            before = self._known.get(process.os_pid)
            # one that came since the last look has used all that it has used since then
            was = before.used.cpu if before is not None and before.process == known.process else 0.0
            cpu = round(max(0.0, known.used.cpu - was) / seconds * 100, 1)
        if seconds is not None:
            rate = round(max(0, process.handled - self._handled.get(process.id, 0)) / seconds, 1)
        pages = None if known is None else known.pages
        return Activity(
            process=dataclasses.replace(process, rss_bytes=None if known is None else known.used.rss),
            state=_state(self._directory, process, now),
            cpu_percent=cpu,
            handled_per_second=rate,
            mailbox_bytes=process.queued_bytes + _waiting_bytes(self._directory, process),
            unique_bytes=None if pages is None else pages.unique,
            share_bytes=None if pages is None else pages.share,
        )


def _pages(os_pid: int, used: Used) -> Pages | None:
    found = [pages for pid in (os_pid, *used.descendants) if (pages := pages_of(pid)) is not None]
    return Pages(sum(one.unique for one in found), sum(one.share for one in found)) if found else None


def _waiting_bytes(directory: NodeDirectory, process: ProcessView) -> int:
    """Count what lies in the mailbox; not of one that is ending, whose mailbox may be its successor's already."""
    return 0 if process.status == "ending" else pipe.waiting_bytes(directory.mailbox(process.id))


def _state(directory: NodeDirectory, process: ProcessView, now: float) -> str:
    if process.kind != "server" or process.status not in {"busy", "idle", "starting"}:
        return process.status
    with contextlib.suppress(OSError):
        view = BoxView(directory.box(process.id))
        try:
            allowed = view.watchdog()[0] or HUNG_SECONDS
            loop = view.loop()
        finally:
            view.close()
        since = loop.loop_since if loop.is_async and loop.loop_since > 0 else loop.busy_since
        if since > 0 and now - since > allowed:
            return "hung"
    return process.status
