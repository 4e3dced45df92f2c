"""The supervision tree of a node, read from its black boxes: no process is asked, a stuck one shows too.

    observe(directory) ──► NodeView ──► walk ──► Step(process, depth, the lines that lead to it)

A process hangs below its reaper: a child below its supervisor, a root below the node. The model is pure data;
whoever draws it (the command line, a live view) only walks it.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import psutil

from otp_runtime.core.limits import Bounds
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.box import Box
from otp_runtime.process import death
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otp_runtime.host.directory import NodeDirectory

Kind = Literal["server", "supervisor", "program", "launcher"]
KINDS: tuple[Kind, ...] = ("server", "supervisor", "program", "launcher")
RESTARTS_MAX = death.KEPT_PER_SERVER


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process as its box tells it.

    `status` is "idle", "busy", "starting", "suspended", "stopped" (by a signal) or "ending"; `busy_seconds` is how
    long the running callback has taken. `restarts` counts the deaths on record that a restart followed (of each
    server the last `RESTARTS_MAX` are kept); None without a name to count by. `rss_bytes` is None when the kernel
    does not tell any more. `limits` has those that are set, by name, in bytes, seconds and descriptors.
    """

    id: int
    parent: int
    kind: Kind
    name: str | None
    label: str
    os_pid: int
    status: str
    busy_seconds: float | None
    trap_exit: bool
    handled: int
    queued_bytes: int
    garbage: int
    rss_bytes: int | None
    restarts: int | None
    started_at: float
    limits: dict[str, float]

    @property
    def title(self) -> str:
        """What people call it: the name, else what runs there."""
        return self.name or self.label or f"<{self.id}>"

    def to_json(self) -> dict[str, Any]:
        """Give plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node: who started it, and all its living processes, by id."""

    name: str
    incarnation: int
    os_pid: int
    started_at: float
    processes: tuple[ProcessView, ...]

    @property
    def tree(self) -> tuple[ProcessView, ...]:
        """The processes that make up the supervision tree: servers and supervisors."""
        return tuple(one for one in self.processes if one.kind in {"server", "supervisor"})

    @property
    def rss_bytes(self) -> int:
        """Memory of all its processes, threads of one OS process counted once."""
        return sum({one.os_pid: one.rss_bytes or 0 for one in self.processes}.values())

    def find(self, process_id: int) -> ProcessView | None:
        """Give the process with this id."""
        return next((one for one in self.processes if one.id == process_id), None)


# -- reading -----------------------------------------------------------------------------------------------------------


def observe(directory: NodeDirectory, *, memory: bool = True) -> NodeView:
    """Read a node's directory. `memory=False` spares the look into /proc for each process's memory."""
    said = Codec().decode((directory.path / "node").read_bytes())
    restarts = _restarts(directory)
    found = []
    for process_id in directory.process_ids():
        box = Box.open(directory.box(process_id))
        if box is None:
            continue
        try:
            if not box.flag(boxes.JUDGED):
                found.append(_view(box, restarts, memory=memory))
        finally:
            box.close()
    return NodeView(said["name"], said["incarnation"], said["os_pid"], said["started_at"], tuple(found))


def _view(box: Box, restarts: Counter[str], *, memory: bool) -> ProcessView:
    identity = box.identity
    os_pid = identity.os_process.pid
    since = box.busy_since
    name = box.name or None
    return ProcessView(
        id=identity.id,
        parent=identity.reaper,
        kind=KINDS[box.kind],
        name=name,
        label=box.label,
        os_pid=os_pid,
        status=_status(box, since),
        busy_seconds=max(0.0, time.monotonic() - since) if since else None,
        trap_exit=bool(box.flag(boxes.TRAP_EXIT)),
        handled=box.handled,
        queued_bytes=box.queued_bytes,
        garbage=box.garbage,
        rss_bytes=_rss_bytes(os_pid) if memory else None,
        restarts=restarts[name] if name else None,
        started_at=identity.started_at,
        limits={field: limit for field, limit in Bounds(*box.limits)._asdict().items() if limit},
    )


def _status(box: Box, busy_since: float) -> str:
    process = box.identity.os_process
    if not process.pid:
        return "starting"
    if kernel.start_time(process.pid) != process.start or kernel.zombie_status(process.pid) is not None:
        return "ending"
    if kernel.is_stopped(process.pid):
        return "stopped"
    if box.flag(boxes.SUSPENDED):
        return "suspended"
    if not box.flag(boxes.READY):
        return "starting"
    return "busy" if busy_since else "idle"


def _rss_bytes(os_pid: int) -> int | None:
    with contextlib.suppress(psutil.Error, ValueError):
        return int(psutil.Process(os_pid).memory_info().rss)
    return None


def _restarts(directory: NodeDirectory) -> Counter[str]:
    """Count, by name, the deaths on record that were followed by a restart."""
    with contextlib.suppress(OSError):
        return Counter(one.server for one in death.records(directory) if one.restart and one.context != "shutdown")
    return Counter()


# -- walking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One process on the way through a tree: how deep it hangs and what is drawn before it."""

    process: ProcessView
    depth: int
    lead: str


def walk(processes: Sequence[ProcessView], lead: str = "") -> Iterator[Step]:
    """Go through a tree, parents first, siblings by title: an order that a restart does not change.

    A process whose parent is not among `processes` is a root.
    """
    known = {one.id for one in processes}
    below: dict[int, list[ProcessView]] = {}
    for one in sorted(processes, key=lambda one: (one.title, one.id)):
        below.setdefault(one.parent if one.parent in known else LAUNCHER_ID, []).append(one)
    yield from _walk_below(below, LAUNCHER_ID, lead, 0)


def _walk_below(below: dict[int, list[ProcessView]], parent: int, lead: str, depth: int) -> Iterator[Step]:
    siblings = below.get(parent, [])
    for number, one in enumerate(siblings, 1):
        last = number == len(siblings)
        yield Step(one, depth, f"{lead}{'└─ ' if last else '├─ '}")
        if one.id != LAUNCHER_ID:
            yield from _walk_below(below, one.id, f"{lead}{'   ' if last else '│  '}", depth + 1)


def describe_status(process: ProcessView) -> str:
    """Say a status, with the time that the running callback has taken."""
    if process.status == "busy" and process.busy_seconds is not None:
        return f"busy {process.busy_seconds:.1f} s"
    return process.status
