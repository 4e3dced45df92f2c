"""An OS parent looks after those of its children that have a watchdog: performs what `core.watchdog` decides.

    child                                            OS parent
    ─────                                            ─────────
    settings into its box, "watch" in the boot pipe ► looks at the box, every quarter of a second
    runs callbacks, notes them in its box             suspects the same thing for `busy`: asks
    answers, if it still runs Python  ◄── ANSWER ──   notes what /proc says; condemns
    writes its stacks, from C, and ends ◄─ STACKS ─   after `grace` seconds: SIGKILL

One round for all, and nothing at all without a watched child. The child dies of the very signal that made it show its
stacks, so one that was stopped runs not one line more of its own code when it is woken for that.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otp_runtime import telemetry
from otp_runtime.core import stacks, watchdog
from otp_runtime.host import kernel, poller, proc_facts
from otp_runtime.host.box import BoxView

if TYPE_CHECKING:
    from otp_runtime.host.box import Loop
    from otp_runtime.process.child import Child
    from otp_runtime.process.offspring import Offspring

_LIBRARY = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(os.__file__)) + os.sep,
)
DUMP_MAX = 100_000


class _Watched:
    """One child that is looked at."""

    __slots__ = ("child", "view", "watch")

    def __init__(self, child: Child, view: BoxView, settings: watchdog.Watchdog) -> None:
        self.child = child
        self.view = view
        self.watch = watchdog.Watch(settings)


class Watchman:
    """Looks after the watched children of one OS parent."""

    def __init__(self, offspring: Offspring) -> None:
        """Nobody is watched yet."""
        self._offspring = offspring
        self._directory = offspring.directory
        self._poller = offspring.context.poller
        self._watched: dict[int, _Watched] = {}
        self._stopped: set[int] = set()
        self._timer: poller.TimerHandle | None = None

    def begin(self, child: Child) -> None:
        """Look after a child from now on, if its box says that it is to be watched."""
        if child.id in self._watched:
            return
        try:
            view = BoxView(self._directory.box(child.id))
        except OSError as error:
            self._offspring.context.node.warn(f"{child.pid!r} goes without its watchdog: {error}")
            return
        busy, grace = view.watchdog()
        if not busy:
            view.close()
            return
        self._watched[child.id] = _Watched(child, view, watchdog.Watchdog(busy, grace))
        self._look_by(poller.now() + watchdog.LOOK_SECONDS)

    def forget(self, child: Child) -> None:
        """Look no more: it is dead, condemned, or about to be another OS process."""
        self._stopped.discard(child.os_process.pid)
        if (watched := self._watched.pop(child.id, None)) is not None:
            watched.view.close()
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def saw_stopped(self, child: Child) -> bool:
        """Say whether it was stopped at the last look: the kernel tells of that once, and it was told to this one."""
        return child.os_process.pid in self._stopped

    # -- looking --------------------------------------------------------------------------------------------

    def _look_by(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.due <= due:
                return
            self._timer.cancel()
        self._timer = self._poller.at(due, self._look)

    def _look(self) -> None:
        assert self._timer is not None
        now = poller.now()
        late, self._timer = now - self._timer.due, None
        proc_facts.take_stops(self._stopped)
        due = now + watchdog.LOOK_SECONDS
        for watched in list(self._watched.values()):
            due = min(due, self._look_at(watched, now, late))
        if self._watched:
            # what takes so long here is no lateness of the next look
            self._look_by(max(due, now + 0.001))

    def _is_left_alone(self, child: Child, loop: Loop) -> bool:
        """It is being stopped, or parked for a handover: both have a time limit of their own, once no callback runs."""
        if child.doom is not None or child.pidfd < 0:
            return True
        is_idle = not loop.busy_since and child.os_process.pid not in self._stopped
        # one without a job is to succeed another, and waits for it
        return is_idle and (child.told or child.job is None or child.id in self._offspring.handovers)

    def _look_at(self, watched: _Watched, now: float, late: float) -> float:
        """Look at one child; give when it must be looked at next."""
        os_pid = watched.child.os_process.pid
        loop = watched.view.loop()
        if self._is_left_alone(watched.child, loop):
            watched.watch = watchdog.Watch(watched.watch.settings, not_before=now)
            return math.inf
        seen = watchdog.Seen(
            busy_since=loop.busy_since,
            loop_since=loop.loop_since,
            handled=loop.handled,
            breakpoint_at=loop.breakpoint_at,
            answer=loop.answer,
            is_async=loop.is_async,
            spoken=loop.spoken,
            traced=loop.traced,
            stopped=os_pid in self._stopped,
        )
        if watchdog.is_unsuspicious(watched.watch, seen):
            return math.inf
        if watched.watch.suspicion is not None or seen.stopped:
            seen = replace(seen, measure=watchdog.Measure(now, *proc_facts.main_thread_times(os_pid)))
        if watchdog.is_due(watched.watch, now):
            status = proc_facts.status_of(os_pid)
            stopped, traced = seen.stopped and (status.stopped or status.traced), seen.traced or status.traced
            seen = replace(seen, traced=traced, stopped=stopped, runs=status.runs)
        watched.watch, verdict = watchdog.look(watched.watch, seen, now, late)
        match verdict:
            case watchdog.Wait(until=until):
                return until
            case watchdog.Ask(until=until):
                kernel.send_signal(watched.child.pidfd, kernel.ANSWER_SIGNAL)
                return until
            case watchdog.Condemn():
                self._condemn(watched, verdict)
                return math.inf

    # -- ending it ------------------------------------------------------------------------------------------

    def _condemn(self, watched: _Watched, verdict: watchdog.Condemn) -> None:
        """Let it show its stacks, which ends it; kill it if it cannot."""
        child, grace = watched.child, watched.watch.settings.grace
        child.hang = ("hang", verdict.kind)
        child.words["hang"] = {
            "what": verdict.what,
            "seconds": round(verdict.seconds, 3),
            "answered": verdict.answered,
            "found": watchdog.explain(verdict),
            "advice": watchdog.advise(verdict),
            "threads": proc_facts.threads_of(child.os_process.pid),
        }
        self.forget(child)
        kernel.send_signal(child.pidfd, kernel.STACKS_SIGNAL)
        if verdict.kind == "stopped":
            kernel.send_signal(child.pidfd, signal.SIGCONT)
        telemetry.emit("supervisor.hang", id=child.id, kind=verdict.kind, what=verdict.what, seconds=verdict.seconds)

        def execute() -> None:
            if child.pidfd >= 0:
                kernel.send_signal(child.pidfd, signal.SIGKILL)

        self._poller.at(poller.now() + grace, execute)


def gather(child: Child, path: str) -> None:
    """Read the stacks that a hung child showed, now that it is dead, into what is known of its end."""
    facts = child.words["hang"]
    dump = ""
    with contextlib.suppress(OSError):
        dump = Path(path).read_text(encoding="utf-8", errors="replace")[:DUMP_MAX]
    found = stacks.parse(dump)
    at = None
    order = (stacks.CALLBACK, stacks.CURRENT) if facts["what"] == "callback" else (stacks.CURRENT, stacks.CALLBACK)
    for who in (*order, "Task"):
        if at is None and (at := stacks.where(found.get(who, []), _LIBRARY)) is not None:
            child.words["traceback"] = stacks.as_traceback(found[who], _LIBRARY)
    if at is None and (current := found.get(stacks.CURRENT)):
        # it was idle: then a line of the library is where it was
        at = stacks.where(current[:1], ())
    facts["at"] = at
    if not dump:
        facts["found"] += "; it showed no stacks within its grace"
