"""The performer: does what a supervisor core says, and tells it what came of it.

    event ──► core.step ──► new state, actions ──► queue ──► performed here ──► event …

A death is decided on before it is judged (see `process.burials`): by the time a watcher hears of it, the dead
process's name says whether it is coming back.

Static and dynamic supervisors differ only in their core: both speak the language of `core.supervisor_messages`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from otp_runtime import telemetry
from otp_runtime.core import messages as wire
from otp_runtime.core import supervisor_messages as core
from otp_runtime.core.roster import Roster
from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import poller
from otp_runtime.process import death
from otp_runtime.process.burials import keep_record, report
from otp_runtime.process.client import Client
from otp_runtime.process.job import Job
from otp_runtime.process.offspring import Offspring
from otp_runtime.supervision.child_places import ChildPlaces
from otp_runtime.supervision.launch import start_with
from otp_runtime.supervision.preload import preload_for
from otp_runtime.terms.events import Exit
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import Crash, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.behaviours.debugging import Debugger
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.process.child import Child
    from otp_runtime.process.context import Context

LEAVING_SECONDS: Final = 0.5
"""How long a supervisor without room waits for a task that is as good as gone; it may have been stopped meanwhile."""

ERRANDS_SECONDS: Final = 0.01
"""How long what nobody waits for is put off at most while a start is under way, which somebody may wait for."""

MANY_CHILDREN: Final = 256
"""Of so many children not each is looked at when one is refused."""


class Decisions(Protocol):
    """What the performer needs of a core: the modules `core.supervision` and `core.dynamic`.

    A child goes by its *key*: what `StartChild` calls it, and its outcome. Only the core knows what that is.
    """

    @property
    def REQUESTS(self) -> tuple[type, ...]:  # noqa: N802 - a constant of a module
        """The requests it answers."""

    def initial(self, flags: Any, specs: tuple[ChildSpec, ...], /) -> Any:
        """Make the first state."""

    def step(self, state: Any, event: core.Event, now: float, /) -> tuple[Any, tuple[core.Action, ...]]:
        """Decide."""

    def key_of(self, state: Any, pid: Pid, /) -> Any:
        """Give the key of the child whose process is `pid`, also when that has just died; else None."""

    def is_coming_back(self, state: Any, key: Any, /) -> bool:
        """Say whether a process for a child is on its way."""

    def is_halting(self, state: Any, /) -> bool:
        """Say whether the supervisor is on its way out."""

    def is_start_asked_for(self, state: Any, /) -> bool:
        """Say whether the start that is under way was asked for by a caller."""

    def children_of(self, state: Any, /) -> Iterable[tuple[Any, Any, str]]:
        """Give (id, process, type) of each child."""

    def describe(self, state: Any, /) -> dict[str, Any]:
        """Give the flags by name."""


class Performer:
    """The children of one supervisor, as processes."""

    def __init__(
        self, context: Context, decisions: Decisions, state: Any, job: dict[str, Any], serve: Callable[..., Any]
    ) -> None:
        """Take the decisions of one kind of supervisor, from `state` on.

        `job` holds what every child is given: path, log level; `serve` runs a nested supervisor.
        """
        self.context = context
        self.extra: bytes | None = None
        """Arguments, sealed, that every start gets in front of its own."""
        self.core = decisions
        self.box = context.box
        self.state = state
        self.ended: tuple[Any] | None = None
        self.started = False
        self.debugger: Debugger | None = None
        self._progress = logging.getLogger("otp_runtime.progress")
        self._job = job
        self._actions: collections.deque[core.Action] = collections.deque()
        self._retries: collections.deque[Any] = collections.deque()
        self._starting: dict[int, Any] = {}
        self._running: dict[int, Child] = {}
        self._timers: dict[int, poller.TimerHandle] = {}
        self._dead: dict[int, Child] = {}
        self._records: list[Callable[[], object]] = []
        self._failed: Child | None = None
        self._awaited: dict[Any, list[Child]] = {}
        self._spares_wanted = 0
        self._errands: poller.TimerHandle | None = None
        self._asked_for: core.StartChildRequest | None = None
        self.offspring = Offspring(context, serve, self._on_word, self._on_death)
        self._places = ChildPlaces(
            context.place, by_id=isinstance(state.children, Roster), forget=self.offspring.mailboxes.forget
        )

    def feed(self, event: core.Event) -> None:
        """Let the core decide on an event; what it says is done at the next `perform`."""
        before = self.state.children
        self.state, actions = self.core.step(self.state, event, poller.now())
        self._actions.extend(actions)
        self._places.dropped(before, self.state.children)

    def perform(self) -> None:
        """Do all that was decided."""
        while True:
            while self._actions:
                action = self._actions.popleft()
                if not (isinstance(action, core.StartChild) and self.offspring.spares.is_ready):
                    self.finish_burials()
                self._do(action)
            self.finish_burials()
            reaped = self.offspring.burials.take_reaped()
            if not reaped and not self._actions:
                self._run_errands()
                self._forget_the_handled()
                return
            for child in reaped:
                self._after_death(child)

    def _run_errands(self) -> None:
        """Do what was put off; while a start is under way a little later, as it would take its processor away."""
        if not self._starting or self.ended is not None:
            self.offspring.catch_up()
        elif self.offspring.has_errands and self._errands is None:
            self._errands = self.context.poller.at(poller.now() + ERRANDS_SECONDS, self._errands_due)

    def _errands_due(self) -> None:
        self._errands = None
        self.offspring.catch_up()

    def finish_burials(self) -> None:
        """Write the records of the dead, and judge them: whoever hears of a death can ask `why`."""
        records, self._records = self._records, []
        for write in records:
            write()
        self.offspring.burials.judge_buried()

    def make_room(self) -> None:
        """Before a start is refused for want of room: take in the end of tasks that have given their value.

        In Erlang a process is gone in the microsecond after its last word; an OS process takes milliseconds, in which
        the owner of a task, its value in hand, asks for the next one.
        """
        most = getattr(self.state.flags, "max_children", None)
        if most is None or not most <= len(self.state.children) <= MANY_CHILDREN:
            return
        leaving = {child.id for child in self._running.values() if child.has_finished()}
        deadline = poller.now() + LEAVING_SECONDS
        while leaving & self._running.keys() and self.context.doomed is None:
            left = deadline - poller.now()
            if left <= 0:
                return
            self.context.pump(left)

    def shared(self, request: core.StartChildRequest) -> core.StartChildRequest:
        """Give a request to start what was asked for before as that one: children of one kind share a specification.

        A thousand of them hold a kilobyte less each, which no fork has to copy the page table of.
        """
        known = self._asked_for
        if known != request or known is None or type(known.spec.id) is not type(request.spec.id):
            self._asked_for = known = request
        return known

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
            case core.StartChild(id=key, spec=spec):
                self._start(key, spec)
            case core.AbortStart(id=key):
                self._abort(key)
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
            case core.Retry(id=key, after=0.0):
                self._retries.append(key)
            case core.Retry(id=key, after=seconds):
                self.context.poller.at(poller.now() + seconds, lambda: self._retries.append(key))
            case core.Release(id=key):
                for child in self._awaited.pop(key, ()):
                    self.offspring.burials.release(child)
            case core.Answer(tag=tag, result=result):
                self._answer(tag, result)
            case core.Report():
                self._report(action)
            case core.Note():
                self._note(action)
            case core.Started():
                self.started = True
            case core.Stop(reason=reason):
                self.ended = (reason,)

    def _deadline(self, pid: Pid) -> None:
        self._timers.pop(pid.id, None)
        self.feed(core.DeadlinePassed(pid))

    def _start(self, key: Any, spec: ChildSpec) -> None:
        assert isinstance(spec.start, bytes)
        if not self.offspring.nursery.is_used:
            preload_for(spec)
        self.offspring.nursery.note(spec.preload)
        if spec.spare and not self.offspring.nursery.is_used:
            self._spares_wanted = max(self._spares_wanted, spec.spare)
        body = spec.start
        if self.extra is not None:
            body = self.context.node.seal(start_with, (self.extra, spec.start), {}, "extra arguments")
        job = Job(
            mode="start",
            body=body,
            label=str(spec.id),
            parent=self.context.id,
            links=(self.context.id,),
            # as plain text, whatever else it is: it is told to processes that know no classes of yours
            name=str.__str__(spec.id) if isinstance(spec.id, str) else "",
            shutdown=None,
            place=self._places.of_start(key),
            **self._job,
        )
        telemetry.emit("supervisor.start_child", id=spec.id)
        self._fork(key, job, comes_back=spec.restart != "temporary" and spec.backoff is None)

    def _fork(self, key: Any, job: Job, *, comes_back: bool) -> None:
        child = self.offspring.start(job)
        if isinstance(child, Crash):
            self.feed(core.ChildStartFailed(key, child))
        else:
            child.comes_back = comes_back
            self._starting[child.id] = key

    def _abort(self, key: Any) -> None:
        for process_id, starting in self._starting.items():
            if starting == key and (child := self.offspring.children.get(process_id)) is not None:
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
        self.context.box.set_flag(boxes.SUSPENDED, int(self.state.suspended))
        self.context.post(peer, payload)
        if self.debugger is not None:
            self.debugger.event(("out", value, Client(peer.pid, serial), self.shown_state()))

    # -- what came of it ------------------------------------------------------------------------------------

    def _on_word(self, child: Child, _word: list[Any]) -> None:
        """A child's `init` returned: it is started."""
        if child.id in self._starting:
            self._has_started(child)

    def _has_started(self, child: Child) -> None:
        key = self._starting.pop(child.id)
        self._running[child.id] = child
        self._awaited.pop(key, None)
        self._places.started(key, child)
        self.offspring.spares.want(self._spares_wanted)
        self._report_progress(child)
        self.feed(core.ChildStarted(key, child.pid))
        if self.debugger is not None:
            self.debugger.event(("noreply", self.shown_state()))

    def _on_death(self, child: Child, reason: Any) -> bool:
        """A child was reaped: decide; say whether it is coming back."""
        self._dead[child.id] = child
        if child.id in self._starting:
            coming_back = self._start_ended(child, reason)
        else:
            coming_back = child.id in self._running and self._ended(child, reason)
        self.offspring.burials.is_halting = self.core.is_halting(self.state)
        return coming_back

    def _ended(self, child: Child, reason: Any) -> bool:
        del self._running[child.id]
        if (timer := self._timers.pop(child.id, None)) is not None:
            timer.cancel()
        key = self.core.key_of(self.state, child.pid)
        if self.debugger is not None:
            self.debugger.event(("in", Exit(child.pid, reason)))
        self.feed(core.ChildExited(child.pid, reason))
        if not self._report_soon() and is_abnormal(reason):
            # decided later, behind what the supervisor is busy with; `why` can tell already
            self._records.append(functools.partial(keep_record, self.offspring, child, reason, supervisor=self.who()))
        return key is not None and self._may_come_back(key, child)

    def _start_ended(self, child: Child, reason: Any) -> bool:
        outcome = child.outcome or ["error", reason]
        if outcome[0] == "ok":
            # it started and died before its word was read: both happened, in this order
            self._has_started(child)
            return self._ended(child, reason)
        key = self._starting.pop(child.id)
        match outcome:
            case ["ignore"]:
                self.feed(core.ChildIgnored(key))
                if isinstance(key, Pid):
                    self._places.gone(key.id)
            case ["supervisor", data]:
                self._become_supervisor(key, child, data)
                return False
            case ["error", why]:
                self._failed = child
                self.feed(core.ChildStartFailed(key, why))
        if not self._report_now() and self._failed is not None and is_abnormal(reason):
            # who asked for the start is told, and nobody else; `why` knows it all the same
            keep_record(self.offspring, child, reason, supervisor=self.who(), context="start_error")
        self._failed = None
        return self._may_come_back(key, child)

    def _may_come_back(self, key: Any, dead: Child) -> bool:
        """Whether to wait for this child's name: when the supervisor itself ends, that is decided by its reaper."""
        if self.core.is_coming_back(self.state, key):
            self._awaited.setdefault(key, []).append(dead)
            return True
        return self.core.is_halting(self.state)

    def _become_supervisor(self, key: Any, child: Child, data: dict[str, Any]) -> None:
        """The start function turned out to start a supervisor: fork it from this process, which is clean."""
        assert child.job is not None
        body = self.context.codec.encode(data)
        name = data["name"] if isinstance(data["name"], str) else ""
        fresh = self.offspring.nursery.is_used
        job = dataclasses.replace(child.job, mode="supervisor", body=body, label=data["label"], name=name, fresh=fresh)
        self._fork(key, job, comes_back=False)

    def _after_death(self, child: Child) -> None:
        if self.core.key_of(self.state, child.pid) is not None:
            # its death waits in the backlog, and its report with it
            return
        self._dead.pop(child.id, None)
        if not (
            self._places.by_id or self.core.is_coming_back(self.state, child.pid) or self.core.is_halting(self.state)
        ):
            self._places.gone(child.id)
        child.close_box()

    def _forget_the_handled(self) -> None:
        """Let go of the dead that waited in the backlog and were handled now."""
        for child in list(self._dead.values()):
            if child.id not in self.offspring.children:
                self._after_death(child)

    def _report_soon(self) -> bool:
        """Have a death recorded before its verdict, but behind what is started now; say whether there is a record."""
        records = self._take_records()
        if all(isinstance(action, core.Note) or action.context == "child_terminated" for action in records):
            self._records += [functools.partial(self._do, action) for action in records]
        else:
            # that it gives up must be known before names are freed
            self._make(records)
        return bool(records)

    def _report_now(self) -> bool:
        records = self._take_records()
        self._make(records)
        return bool(records)

    def _take_records(self) -> list[core.Report | core.Note]:
        records = [action for action in self._actions if isinstance(action, core.Report | core.Note)]
        for action in records:
            self._actions.remove(action)
        return records

    def _make(self, records: list[core.Report | core.Note]) -> None:
        for action in records:
            self._do(action)

    # -- being debugged -------------------------------------------------------------------------------------

    def formatted(self, status: dict[str, Any]) -> dict[str, Any]:
        """Redact nothing: there is no state of a user's here. What is shown is who runs."""
        return {**status, "state": self.shown_state()}

    def watch_events(self, debugger: Debugger | None) -> None:
        """Tell `debugger` of every event from now on; None: tell nobody."""
        self.debugger = debugger

    def shown_state(self) -> list[tuple[Any, Any]]:
        """Say which process each child has; of a dynamic supervisor several may have one id."""
        return [(child_id, pid) for child_id, pid, _type in self.core.children_of(self.state)]

    # -- reports --------------------------------------------------------------------------------------------

    def _report_progress(self, child: Child) -> None:
        """Report a start that succeeded: as OTP, at level info, but debug for one that somebody asked for."""
        level = logging.DEBUG if self.core.is_start_asked_for(self.state) else logging.INFO
        if not self._progress.isEnabledFor(level):
            return
        assert child.box is not None
        assert child.job is not None
        facts = {
            "report": "progress",
            "supervisor": self.who(),
            "child": child.job.label,
            "server": child.box.name or child.box.label or repr(child.pid),
            "pid": repr(child.pid),
            "os_pid": child.os_process.pid,
        }
        text = f"supervisor {facts['supervisor']} started {facts['server']} {facts['pid']} (OS pid {facts['os_pid']})"
        self.context.node.report(self._progress.name, level, text, facts)

    def _report(self, action: core.Report) -> None:
        telemetry.emit("supervisor.report", context=action.context, id=action.child_id, reason=action.reason)
        if action.context == "shutdown":
            self._report_giving_up(action)
            return
        child = self._failed if action.pid is None else self._dead.get(action.pid.id)
        if child is None:
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
            "backoff": action.wait or None,
            "context": action.context,
            "because": None if action.because is None else str(action.because),
        }

    def _note(self, action: core.Note) -> None:
        """Keep on record why a child was stopped that had done nothing: nobody need be told."""
        child = self._dead.get(action.pid.id)
        if child is not None:
            facts = {"supervisor": self.who(), "strategy": action.strategy, "because": str(action.because)}
            keep_record(self.offspring, child, action.reason, context="stopped", **facts)

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
            siblings=list(dict.fromkeys(map(str, (action.child_id, *self._child_ids())))),
            restart={"n": number, "of": of, "seconds": seconds},
            started_at=box.identity.started_at,
            died_at=time.time(),
            context="shutdown",
        )
        death.keep(self.context.directory, record)
        death.note_giving_up(self.context.directory, record)
        for errand in (death.log, death.forget_oldest):
            self.offspring.put_off(functools.partial(errand, self.context.directory, record))

    def _child_ids(self) -> Iterable[Any]:
        return (child_id for child_id, _pid, _type in self.core.children_of(self.state))

    def who(self) -> str:
        """Say which supervisor this is, for people."""
        return self.context.box.name or f"{self.context.box.label} {self.context.pid!r}"


def job_of_children(context: Context) -> dict[str, Any]:
    """Give what every child of this supervisor inherits."""
    return {"path": tuple(sys.path), "log_level": logging.getLogger().level, "program": context.node.program}


__all__ = ["Performer", "job_of_children"]
