"""The performer: does what the supervisor core says, and tells it what came of it.

    event ──► core.step ──► new state, actions ──► queue ──► performed here ──► event …

A death is decided on before it is judged (see `process.offspring`): by the time a watcher hears of it, the dead
process's name says whether it is coming back.
"""

from __future__ import annotations

import collections
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.core import messages as wire
from otp_runtime.core import supervision as core
from otp_runtime.errors import CodecError
from otp_runtime.host import poller
from otp_runtime.process import death
from otp_runtime.process.job import Job
from otp_runtime.process.offspring import Child, Offspring, close_box, keep_record, report
from otp_runtime.terms.reason import Crash, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import Pid


class Performer:
    """The children of one supervisor, as processes."""

    def __init__(self, context: Context, state: core.State, job: dict[str, Any], serve: Callable[..., Any]) -> None:
        """`job` holds what every child is given: path, log level; `serve` runs a nested supervisor."""
        self.context = context
        self.state = state
        self.ended: tuple[Any] | None = None
        self.started = False
        self._job = job
        self._actions: collections.deque[core.Action] = collections.deque()
        self._retries: collections.deque[Any] = collections.deque()
        self._starting: dict[int, Any] = {}
        self._running: dict[int, Child] = {}
        self._timers: dict[int, poller.TimerHandle] = {}
        self._dead: dict[int, Child] = {}
        self._failed: dict[Any, Child] = {}
        self.offspring = Offspring(context, serve, self._on_word, self._on_death)

    def feed(self, event: core.Event) -> None:
        """Let the core decide on an event; what it says is done at the next `perform`."""
        self.state, actions = core.step(self.state, event, poller.now())
        self._actions.extend(actions)

    def perform(self) -> None:
        """Do all that was decided."""
        while True:
            while self._actions:
                self._do(self._actions.popleft())
            reaped = self.offspring.take_reaped()
            if not reaped and not self._actions:
                self._forget_the_handled()
                return
            for child in reaped:
                self._after_death(child)

    def take_retry(self) -> bool:
        """Feed one retry that is due; say whether there was one."""
        if not self._retries:
            return False
        self.feed(core.RetryDue(self._retries.popleft()))
        return True

    @property
    def has_retries(self) -> bool:
        """Whether a failed start waits to be tried again."""
        return bool(self._retries)

    # -- actions --------------------------------------------------------------------------------------------

    def _do(self, action: core.Action) -> None:
        match action:
            case core.StartChild(id=child_id, spec=spec):
                self._start(child_id, spec)
            case core.AbortStart(id=child_id):
                self._abort(child_id)
            case core.SendExit(pid=pid, reason=reason):
                if (child := self._running.get(pid.id)) is not None:
                    self.offspring.send_exit(child, reason)
            case core.Kill(pid=pid):
                if (child := self._running.get(pid.id)) is not None:
                    self.offspring.kill(child)
            case core.ArmTimer(pid=pid, seconds=seconds):
                due = poller.now() + seconds
                self._timers[pid.id] = self.context.poller.at(due, lambda: self._deadline(pid))
            case core.DisarmTimer(pid=pid):
                if (timer := self._timers.pop(pid.id, None)) is not None:
                    timer.cancel()
            case core.Retry(id=child_id):
                self._retries.append(child_id)
            case core.Answer(tag=tag, result=result):
                self._answer(tag, result)
            case core.Report():
                self._report(action)
            case core.Started():
                self.started = True
            case core.Stop(reason=reason):
                self.ended = (reason,)

    def _deadline(self, pid: Pid) -> None:
        self._timers.pop(pid.id, None)
        self.feed(core.DeadlinePassed(pid))

    def _start(self, child_id: Any, spec: ChildSpec) -> None:
        assert isinstance(spec.start, bytes)
        job = Job(
            mode="start",
            body=spec.start,
            label=str(child_id),
            parent=self.context.id,
            links=(self.context.id,),
            name=child_id if isinstance(child_id, str) else "",
            shutdown=None,
            **self._job,
        )
        self._fork(child_id, job)

    def _fork(self, child_id: Any, job: Job) -> None:
        telemetry.emit("supervisor.start_child", id=child_id)
        child = self.offspring.start(job)
        if isinstance(child, Crash):
            self.feed(core.ChildStartFailed(child_id, child))
        else:
            self._starting[child.id] = child_id

    def _abort(self, child_id: Any) -> None:
        for process_id, starting in self._starting.items():
            if starting == child_id and (child := self.offspring.children.get(process_id)) is not None:
                self.offspring.kill(child)

    def _answer(self, tag: Any, result: core.Ok | core.Err) -> None:
        caller, serial = tag
        peer = self.context.peer(caller)
        if peer is None:
            return
        how, value = (wire.VALUE, result.value) if isinstance(result, core.Ok) else (wire.RAISE, result.error)
        try:
            payload = self.context.codec.encode([wire.REPLY, serial, how, value])
        except CodecError as error:
            payload = self.context.codec.encode([wire.REPLY, serial, wire.RAISE, error])
        self.context.post(peer, payload)

    # -- what came of it ------------------------------------------------------------------------------------

    def _on_word(self, child: Child, _word: list[Any]) -> None:
        """A child's `init` returned: it is started."""
        child_id = self._starting.pop(child.id, None)
        if child_id is not None:
            self._running[child.id] = child
            self.feed(core.ChildStarted(child_id, child.pid))

    def _on_death(self, child: Child, reason: Any) -> bool:
        """A child was reaped: decide; say whether it is coming back."""
        self._dead[child.id] = child
        if child.id in self._starting:
            return self._start_ended(child, reason)
        if child.id not in self._running:
            return False
        del self._running[child.id]
        if (timer := self._timers.pop(child.id, None)) is not None:
            timer.cancel()
        known = core.child_of(self.state, child.pid)
        self.feed(core.ChildExited(child.pid, reason))
        if not self._report_now() and is_abnormal(reason):
            # decided later, behind what the supervisor is busy with; `why` can tell already
            keep_record(self.offspring, child, reason, supervisor=self.who())
        return known is not None and self._may_come_back(known.spec.id)

    def _start_ended(self, child: Child, reason: Any) -> bool:
        child_id = self._starting.pop(child.id)
        outcome = child.outcome or ["error", reason]
        match outcome:
            case ["ok", *_]:
                # it started and died before its word was read: both happened, in this order
                self.feed(core.ChildStarted(child_id, child.pid))
                self.feed(core.ChildExited(child.pid, reason))
            case ["ignore"]:
                self.feed(core.ChildIgnored(child_id))
            case ["supervisor", data]:
                self._become_supervisor(child_id, child, data)
                return False
            case ["error", why]:
                self._failed[child_id] = child
                self.feed(core.ChildStartFailed(child_id, why))
        self._report_now()
        return self._may_come_back(child_id)

    def _may_come_back(self, child_id: Any) -> bool:
        """Whether to wait for this child's name: when the supervisor itself ends, that is decided by its reaper."""
        return core.is_coming_back(self.state, child_id) or core.is_halting(self.state)

    def _become_supervisor(self, child_id: Any, child: Child, data: dict[str, Any]) -> None:
        """The start function turned out to start a supervisor: fork it from this process, which is clean."""
        assert child.job is not None
        body = self.context.codec.encode(data)
        name = data["name"] if isinstance(data["name"], str) else ""
        job = dataclasses.replace(child.job, mode="supervisor", body=body, label=data["label"], name=name)
        self._fork(child_id, job)

    def _after_death(self, child: Child) -> None:
        if core.child_of(self.state, child.pid) is not None:
            # its death waits in the backlog, and its report with it
            return
        self._dead.pop(child.id, None)
        self._failed = {key: dead for key, dead in self._failed.items() if dead is not child}
        close_box(child)

    def _forget_the_handled(self) -> None:
        """Let go of the dead that waited in the backlog and were handled now."""
        for child in list(self._dead.values()):
            if child.id not in self.offspring.children:
                self._after_death(child)

    def _report_now(self) -> bool:
        """Write the records before the verdict: whoever hears of a death can ask `why`. Say whether there were any."""
        reports = [action for action in self._actions if isinstance(action, core.Report)]
        for action in reports:
            self._actions.remove(action)
            self._report(action)
        return bool(reports)

    # -- reports --------------------------------------------------------------------------------------------

    def _report(self, action: core.Report) -> None:
        telemetry.emit("supervisor.report", context=action.context, id=action.child_id, reason=action.reason)
        if action.context == "shutdown":
            self._report_giving_up(action)
            return
        child = self._failed.get(action.child_id) if action.pid is None else self._dead.get(action.pid.id)
        if child is None or child.box is None:
            self.context.node.warn(f"{action.child_id}: {action.context}: {action.reason!r}")
            return
        report(self.offspring, child, action.reason, **self._facts(action))

    def _facts(self, action: core.Report) -> dict[str, Any]:
        restart = None
        if action.restart is not None:
            number, of, seconds = action.restart
            restart = {"n": number, "of": of, "seconds": seconds}
        return {
            "supervisor": self.who(),
            "strategy": action.strategy,
            "siblings": [str(one) for one in action.siblings],
            "restart": restart,
            "context": action.context,
        }

    def _report_giving_up(self, action: core.Report) -> None:
        box = self.context.box
        number, of, seconds = action.restart or (0, 0, 0.0)
        record = death.Death(
            server=box.name or box.label,
            id=self.context.id,
            os_pid=box.identity.os_process.pid,
            reason=action.reason,
            kind="exception",
            strategy=action.strategy,
            siblings=[str(child.spec.id) for child in self.state.children],
            restart={"n": number, "of": of, "seconds": seconds},
            started_at=box.identity.started_at,
            died_at=time.time(),
            context="shutdown",
        )
        death.keep(self.context.directory, record)
        death.note_giving_up(self.context.directory, record)
        death.log(self.context.directory, record)

    def who(self) -> str:
        """Say which supervisor this is, for people."""
        return self.context.box.name or f"{self.context.box.label} {self.context.pid!r}"


def job_of_children(context: Context) -> dict[str, Any]:
    """Give what every child of this supervisor inherits."""
    import logging

    return {"path": tuple(sys.path), "log_level": logging.getLogger().level, "program": context.node.program}


__all__ = ["Performer", "job_of_children"]
