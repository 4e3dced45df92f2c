"""An OS parent's eye on its children: samples of what they use, and what becomes of one that uses too much.

    timer ──► glance at the boxes that are due ──► core.vitals: who is sampled? ──► /proc ──► the last minute, kept
                                                   core.limits: above a limit?  ──► recycled, or killed

Nothing here waits. A glance leaves a box unmapped (every mapping makes every later fork dearer), and what a child's
subprocesses use is read through the kernel's lists of children: no scan of all processes, where there are such lists.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.core import vitals as core
from otp_runtime.core.limits import Bounds, Over, Usage, passed
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, oom, pipe, poller
from otp_runtime.host.usage import Scan
from otp_runtime.process.agenda import Agenda
from otp_runtime.terms.reason import amount

if TYPE_CHECKING:
    from otp_runtime.host.kernel import OsProcess
    from otp_runtime.process.child import Child
    from otp_runtime.process.offspring import Offspring

KEPT_SECONDS = 60.0
SAMPLE_SECONDS = 1.0
"""At most so often a sample is kept; limits are looked at more often."""

RECYCLE_SECONDS = 30.0
"""What a recycle may take, the callback included that runs when it begins; then it is given up."""

AGAIN_SECONDS = 1.0


class _Watched:
    """One child, and what is known of it."""

    __slots__ = (
        "bounds",
        "child",
        "counter",
        "cpu",
        "cpu_before",
        "kept",
        "kept_at",
        "kept_cpu",
        "process",
        "pulse",
        "recycling",
    )

    def __init__(self, child: Child, pulse: core.Pulse) -> None:
        self.child = child
        self.pulse = pulse
        self.bounds: Bounds | None = None
        self.recycling = core.Recycling()
        self.process: OsProcess = child.os_process
        self.cpu = self.cpu_before = 0.0
        self.kept: list[tuple[float, int, float, int]] = []  # some bytes each: a deque of one has room for 64
        self.kept_at = -SAMPLE_SECONDS
        self.kept_cpu = 0.0
        self.counter = ""


class Vitals:
    """The children of one OS parent, watched."""

    def __init__(self, offspring: Offspring) -> None:
        """Watch nobody yet."""
        self._offspring = offspring
        self._context = offspring.context
        self._watched: dict[int, _Watched] = {}
        self._due: Agenda[int] = Agenda()
        self._timer: poller.TimerHandle | None = None
        self._ooms = oom.OomCounts(poller.now())
        self._refreshed_at = poller.now()

    # -- who is watched -------------------------------------------------------------------------------------

    def begin(self, child: Child) -> None:
        """A child was forked: its limits count from `init` on."""
        one = self._watched[child.id] = _Watched(child, core.begin(core.LIMITED, poller.now()))
        self._expect(one)

    def started(self, child: Child) -> None:
        """The `init` of a child returned."""
        one = self._watched.get(child.id)
        if one is not None:
            self._note_counter(one, poller.now())

    def dying(self, child: Child) -> None:
        """A child is dead and not reaped: note what is gone with that."""
        one = self._watched.pop(child.id, None)
        if one is None:
            return
        since = time.time() - KEPT_SECONDS
        child.words["samples"] = [
            {"t": t, "rss": rss, "cpu": cpu, "mailbox": mailbox} for t, rss, cpu, mailbox in one.kept if t >= since
        ]
        child.words["counter"] = one.counter
        if self._ooms.tells_of_the_dead:
            child.words["counter"] = self._ooms.of_child(child.os_process.pid, poller.now())
        child.words["cpu_limits"] = oom.peek_cpu_limit(child.pidfd, child.os_process.pid)

    def forget(self, process_id: int) -> None:
        """A child never came to life."""
        self._watched.pop(process_id, None)

    def explain(self, child: Child, signum: int) -> bool:
        """Look into the death of a child by a signal that nobody here sent; say whether it was the OOM killer.

        What speaks for it is kept for the record.
        """
        limits = child.words.pop("cpu_limits", None)
        evidence = None
        if limits is not None and child.rusage is not None:
            evidence = oom.cpu_evidence(limits, child.rusage.ru_utime + child.rusage.ru_stime, signum)
        was_oom = False
        if evidence is None and signum == signal.SIGKILL:
            evidence = self._ooms.evidence(child.words.get("counter", ""))
            was_oom = evidence is not None
        if evidence is not None:
            child.words["evidence"] = evidence
        return was_oom

    def _note_counter(self, one: _Watched, now: float) -> None:
        """Note what counts the OOM kills where a child is now: it may have moved."""
        if self._ooms.tells_of_the_dead:
            return
        os_pid = one.child.os_process.pid
        counter = self._ooms.of_child(os_pid, now)
        if counter != one.counter and not kernel.is_ending(kernel.stat_fields(os_pid)):
            # one that ends is in the root of all already
            one.counter = counter

    # -- rounds ---------------------------------------------------------------------------------------------

    def _expect(self, one: _Watched) -> None:
        """See to it that a child is looked at when it is due."""
        self._due.add(one.pulse.due, one.child.id)
        self._arm(one.pulse.due)

    def _arm(self, due: float) -> None:
        if self._timer is not None and self._timer.action is not None:
            if self._timer.due <= due:
                return
            self._timer.cancel()
        self._timer = self._context.poller.at(due, self._round)

    def _round(self) -> None:
        now = poller.now()
        scan = Scan()
        for process_id in self._due.take(now):
            one = self._watched.get(process_id)
            # it may be dead, or due at another time by now
            if one is not None and one.pulse.due <= now:
                self._look(one, scan, now)
                self._due.add(one.pulse.due, process_id)
        if now - self._refreshed_at >= SAMPLE_SECONDS:
            self._refreshed_at = now
            self._ooms.refresh(now)
        if (due := self._due.next_due) is not None:
            self._arm(due)

    def _look(self, one: _Watched, scan: Scan, now: float) -> None:
        glance = boxes.glance(self._context.directory.box(one.child.id))
        if glance is None:
            one.pulse = dataclasses.replace(one.pulse, due=now + one.pulse.pace.slowest)
            return
        one.bounds = Bounds(*glance.limits) if any(glance.limits) else None
        pace = _pace_of(glance)
        if pace is not one.pulse.pace:
            one.pulse = dataclasses.replace(one.pulse, pace=pace, period=pace.fastest)
        is_busy = glance.busy_since > 0.0 or not glance.is_ready
        one.pulse, is_sampled = core.looked(one.pulse, handled=glance.handled, is_busy=is_busy, now=now)
        if is_sampled:
            self._sample(one, glance, scan, now)

    def _sample(self, one: _Watched, glance: boxes.Glance, scan: Scan, now: float) -> None:
        usage = self._usage_of(one, scan, has_family=glance.kind != boxes.KIND_SUPERVISOR)
        if usage is None:
            return
        one.pulse = core.sampled(one.pulse, usage, one.bounds, now)
        if now - one.kept_at >= SAMPLE_SECONDS * 0.9:
            self._keep(one, usage, glance.queued_bytes, now)
        if one.bounds is not None:
            self._enforce(one, one.bounds, usage, now)

    def _usage_of(self, one: _Watched, scan: Scan, *, has_family: bool = True) -> Usage | None:
        process = one.child.os_process
        if process != one.process:
            # it was handed over: what the process has used is what its OS processes have used
            one.process, one.cpu_before, one.cpu = process, one.cpu_before + one.cpu, 0.0
        files = one.bounds is not None and one.bounds.open_files > 0
        used = scan.used_by(process, files=files, descendants=has_family)
        if used is None:
            return None
        one.cpu = used.cpu
        return Usage(used.rss, one.cpu_before + used.cpu, used.files)

    def _keep(self, one: _Watched, usage: Usage, queued_bytes: int, now: float) -> None:
        share = 0.0
        if one.kept:
            share = max(0.0, usage.cpu - one.kept_cpu) / (now - one.kept_at)
        one.kept_at, one.kept_cpu = now, usage.cpu
        mailbox = queued_bytes + pipe.waiting_bytes(self._context.directory.mailbox(one.child.id))
        one.kept.append((time.time(), usage.rss, round(share, 3), mailbox))
        while one.kept[0][0] < one.kept[-1][0] - KEPT_SECONDS:
            del one.kept[0]
        self._note_counter(one, now)

    # -- limits ---------------------------------------------------------------------------------------------

    def _enforce(self, one: _Watched, bounds: Bounds, usage: Usage, now: float) -> None:
        over = passed(bounds, usage)
        if over is not None:
            self._kill(one, over)
        elif core.should_recycle(one.recycling, bounds, usage, now):
            self._recycle(one, bounds, usage)

    def _kill(self, one: _Watched, over: Over) -> None:
        used = round(over.used, 2) if over.field == "cpu_seconds" else over.used
        if self._offspring.execute(one.child, ("limit", over.field, used, over.allowed)):
            telemetry.emit("server.limit", server=self._who(one), field=over.field, used=used, allowed=over.allowed)

    def _recycle(self, one: _Watched, bounds: Bounds, usage: Usage) -> None:
        child = one.child
        if child.told or child.id in self._offspring.handovers:
            return
        from otp_runtime.process import handover

        begun = poller.now()
        one.recycling = dataclasses.replace(one.recycling, is_under_way=True)

        def answer(refusal: tuple[Any] | None) -> None:
            if self._watched.get(child.id) is one:
                self._recycled(one, bounds, usage, begun, refusal)
                child.rest()

        handover.begin(self._offspring, child.id, answer, timeout=RECYCLE_SECONDS)

    def _recycled(self, one: _Watched, bounds: Bounds, before: Usage, begun: float, refusal: tuple[Any] | None) -> None:
        now = poller.now()
        child = one.child
        is_ending = child.told or child.doom is not None or "sentence" in child.words
        if refusal is not None and (is_ending or refusal[0] in ("noproc", "upgrading", "not_a_server")):
            # it is stopped or dies, it is being handed over by somebody else, or it is in `init`
            one.recycling = dataclasses.replace(one.recycling, is_under_way=False, not_before=now + AGAIN_SECONDS)
            return
        after = self._usage_of(one, Scan()) if refusal is None else None
        has_helped = refusal is None and (after is None or after.rss <= bounds.rss_soft)
        one.recycling = core.recycled(one.recycling, has_helped=has_helped, now=now)
        if after is not None:
            # what the fresh process uses is where its growth begins
            one.pulse = core.sampled(one.pulse, after, None, now)
            self._expect(one)
        self._report_recycle(one, bounds, before, after, now - begun, refusal)

    def _report_recycle(
        self,
        one: _Watched,
        bounds: Bounds,
        before: Usage,
        after: Usage | None,
        seconds: float,
        refusal: tuple[Any] | None,
    ) -> None:
        who = self._who(one)
        above = f"{amount('rss_soft', before.rss)} used, rss_soft is {amount('rss_soft', bounds.rss_soft)}"
        wait = f"; it serves on, and is not tried again for {one.recycling.wait:g} s"
        if refusal is not None:
            text = f"{who} could not be recycled ({above}): {refusal[0]!r}{wait}"
        elif one.recycling.wait and after is not None:
            text = (
                f"{who} was recycled in vain ({above}): in a fresh process too it uses "
                f"{amount('rss_soft', after.rss)}, its state is too large or rss_soft too small{wait}"
            )
        else:
            now_used = "" if after is None else f", now {amount('rss_soft', after.rss)}"
            text = f"{who} was recycled in {seconds * 1000:.1f} ms ({above}{now_used})"
        facts = {
            "report": "recycle",
            "server": who,
            "pid": repr(one.child.pid),
            "os_pid": one.child.os_process.pid,
            "used": before.rss,
            "allowed": bounds.rss_soft,
            "used_after": None if after is None else after.rss,
            "seconds": round(seconds, 6),
            "refusal": None if refusal is None else repr(refusal[0]),
        }
        self._context.node.report("otp_runtime.recycle", 30 if one.recycling.wait else 20, text, facts)
        telemetry.emit("supervisor.recycle", **{key: value for key, value in facts.items() if key != "report"})

    def _who(self, one: _Watched) -> str:
        box = one.child.box
        return repr(one.child.pid) if box is None else box.name or box.label


def _pace_of(glance: boxes.Glance) -> core.Pace:
    if glance.kind == boxes.KIND_SUPERVISOR or glance.is_plain:
        return core.UNCOUNTED
    return core.LIMITED if any(glance.limits) else core.IDLY


__all__ = ["Vitals"]
