"""The supervisor's decisions: `step(state, event, now) -> (state, actions)`.

Nothing here touches a process. The performer (`otp_runtime.supervision.children`) starts
processes, sends signals and runs timers as the actions say, and feeds what comes of it back
as events. Events, requests and actions are in `otp_runtime.core.supervisor_messages`, the
states in `otp_runtime.core.supervisor_state`; what a performer needs is exported from here.

Theory of operation
===================

OTP's supervisor *blocks* in a start function and in a shutdown, and whatever arrives
meanwhile waits in its mailbox. A supervisor that watches operating-system processes may not
block, so the waiting is part of the state::

            Begin                    no step left
      New ---------> Busy(Boot) -------------------> Idle <-------------------.
                        |  a child fails              |  exit, retry, request |
                        v                             v                       | no step left
      Down <-------- Busy(Halt) <-------------- Busy(Restart | Start | Errand)
        Stop(reason)     ^   StopRequested, limit reached, auto shutdown
                         '-- (from everywhere)

`Busy` holds a plan: steps, done one at a time, the first one being under way. A `StopStep`
waits for a child's death, a `StartStep` for the end of its `init`, an `AnswerStep` waits for
nothing. While a plan runs, requests, retries and deaths are kept in the backlog, in order, and
handled when it is done, as a busy supervisor's mailbox would. One thing is known at once: a
child that dies is *marked* dead, so that a `StopStep` that reaches it later does not wait for
a process that is gone; the death is then that step's and is not handled again.

Where this is better than OTP: a supervisor that is told to stop while a child hangs in its
`init` does not wait for it. `StopRequested` aborts the start under way (`AbortStart`) and
stops the rest, ahead of the backlog; if the start had completed after all, the child is
stopped like any other. Requests still unanswered then are not answered: their callers see the
supervisor end.

The rules
=========

What ends                  what follows
=========================  =================================================================
permanent child            restart, whatever the reason
transient child            restart if abnormal, else it stays stopped with its spec
temporary child            never a restart; its spec goes
significant child          that is not restarted: shut down, as `auto_shutdown` says
a stopped, listed child    nothing: being told to stop counts as no incident
=========================  =================================================================

Restart of                 stops, last started first           starts, in start order
=========================  ==================================  =============================
one_for_one                nothing                             the child
rest_for_one               those after it                      the child and those after it
one_for_all                all others                          all
=========================  ==================================  =============================

- Stopped temporary siblings are gone; every other sibling starts, also one that had finished,
  ignored, or been stopped by hand.
- Before each attempt one incident is counted. One too many: the supervisor reports, stops its
  children and exits `"shutdown"`.
- A failed attempt leaves the child that failed `"restarting"` and those after it down. The
  retry, for that child and with the same strategy, goes through the queue without a delay.
- A child with a `backoff` waits before each attempt, a failed one too. Its siblings are stopped
  before the wait and started after it. Meanwhile the supervisor is idle, and the child
  `"restarting"`: it can be terminated, a restart of which it is part starts it at once, and a
  stop does not wait for it. The incident is counted before the wait.
- Suspended, it handles neither deaths nor requests; what had begun is finished, a stop obeyed.
- Stopping is in reverse start order, one after another, each with its own budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core import turns
from otp_runtime.core.backoff import Streak
from otp_runtime.core.persistent import evolve
from otp_runtime.core.roster import Roster
from otp_runtime.core.strategies import is_coming_back
from otp_runtime.core.supervisor_messages import (
    AbortStart,
    Action,
    Answer,
    ArmTimer,
    Asked,
    Begin,
    ChildCount,
    ChildExited,
    ChildIgnored,
    ChildInfo,
    ChildStarted,
    ChildStartFailed,
    CountChildren,
    DeadlinePassed,
    DeleteChild,
    DisarmTimer,
    Err,
    Event,
    GetChildspec,
    Kill,
    Note,
    Ok,
    Release,
    Report,
    ReportContext,
    Request,
    RestartChild,
    RestartCount,
    Resumed,
    Retry,
    RetryDue,
    SendExit,
    StartChild,
    StartChildRequest,
    Started,
    Stop,
    StopRequested,
    Suspend,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.core.supervisor_plans import (
    Turn,
    child_in,
    gone,
    halt,
    pid_of,
    plan_done,
    step_done,
    stopped,
    take_step,
)
from otp_runtime.core.supervisor_queue import ended, handle, restart_or_give_up, wait_of
from otp_runtime.core.supervisor_requests import start_error
from otp_runtime.core.supervisor_state import (
    AnswerStep,
    Boot,
    Busy,
    Child,
    Down,
    Ended,
    Errand,
    Halt,
    Idle,
    New,
    Restart,
    Start,
    StartStep,
    State,
    StopStep,
    child_of,
    is_halting,
)
from otp_runtime.errors import RuntimeBug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags
    from otp_runtime.terms.pid import Pid

__all__ = [
    "REQUESTS",
    "AbortStart",
    "Action",
    "Answer",
    "ArmTimer",
    "Asked",
    "Begin",
    "Child",
    "ChildCount",
    "ChildExited",
    "ChildIgnored",
    "ChildInfo",
    "ChildStartFailed",
    "ChildStarted",
    "CountChildren",
    "DeadlinePassed",
    "DeleteChild",
    "DisarmTimer",
    "Err",
    "Event",
    "GetChildspec",
    "Kill",
    "Note",
    "Ok",
    "Release",
    "Report",
    "ReportContext",
    "Request",
    "RestartChild",
    "RestartCount",
    "Resumed",
    "Retry",
    "RetryDue",
    "SendExit",
    "StartChild",
    "StartChildRequest",
    "Started",
    "State",
    "Stop",
    "StopRequested",
    "Suspend",
    "TerminateChild",
    "WhichChildren",
    "child_of",
    "children_of",
    "describe",
    "initial",
    "is_coming_back",
    "is_halting",
    "is_start_asked_for",
    "key_of",
    "step",
]

REQUESTS = (
    WhichChildren,
    CountChildren,
    GetChildspec,
    StartChildRequest,
    TerminateChild,
    RestartChild,
    DeleteChild,
)
"""What may be asked."""


# --- public -------------------------------------------------------------------------------


def initial(flags: SupervisorFlags, specs: Iterable[ChildSpec]) -> State:
    """Make the state of a supervisor that has not begun; flags and specs are checked already."""
    return State(flags, Roster.of(Child(spec) for spec in specs))


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Decide what `event` at `now` (monotonic seconds) changes and what is to be done.

    Returns:
        The next state and the actions, to be performed in their order.

    Raises:
        RuntimeBug: When the event cannot happen in this state; `state` is as it was.
    """
    return turns.step(_RULES, Turn(state, now), event)


def key_of(state: State, pid: Pid) -> Any:
    """Give the id of the child whose process is `pid`, also when that has just died; else None."""
    child = child_of(state, pid)
    return None if child is None else child.spec.id


def is_start_asked_for(state: State) -> bool:
    """Whether the start that is under way was asked for by a caller: it is told, and nobody else need be."""
    return isinstance(state.phase, Busy) and isinstance(state.phase.goal, Start)


def children_of(state: State) -> Iterator[tuple[Any, Any, str]]:
    """Give (id, process, type) of each child, in start order."""
    return ((child.spec.id, child.pid, child.spec.type) for child in state.children)


def describe(state: State) -> dict[str, Any]:
    """Say the flags, for `get_status`."""
    flags = state.flags
    return {
        "strategy": flags.strategy,
        "max_restarts": flags.max_restarts,
        "max_seconds": flags.max_seconds,
        "auto_shutdown": flags.auto_shutdown,
    }


# --- events -------------------------------------------------------------------------------


def _begin(turn: Turn) -> None:
    if not isinstance(turn.state.phase, New):
        raise RuntimeBug("a supervisor began twice")
    turn.plan((StartStep(child.spec.id) for child in turn.state.children), Boot())


def _start_succeeded(turn: Turn, child_id: object, pid: Pid) -> None:
    child, busy = _starting(turn.state, child_id)
    if child_of(turn.state, pid) is not None:
        raise RuntimeBug(f"{pid!r} started for child {child_id!r} and is another child's process")
    restarts = child.streak.restarts if isinstance(busy.goal, Restart) else 0
    turn.put(child, pid=pid, ended=None, due=None, streak=Streak(restarts, turn.now))
    if isinstance(busy.goal, Start):
        turn.do(Answer(busy.goal.tag, Ok(pid)))
    step_done(turn, busy)


def _start_ignored(turn: Turn, child_id: object) -> None:
    child, busy = _starting(turn.state, child_id)
    gone(turn, child)
    if isinstance(busy.goal, Restart):
        turn.do(Release(child_id))
    if isinstance(busy.goal, Start):
        turn.do(Answer(busy.goal.tag, Ok(None)))
    step_done(turn, busy)


def _start_failed(turn: Turn, child_id: object, reason: object) -> None:
    child, busy = _starting(turn.state, child_id)
    match busy.goal:
        case Boot():
            turn.report("start_error", child.spec.id, pid_of(child), reason)
            halt(turn, ("shutdown", ("failed_to_start_child", child_id, reason)))
        case Restart() if child.spec.backoff is not None:
            allowed = turn.count_restart()
            child, wait = wait_of(turn, child, None)
            turn.report("start_error", child.spec.id, pid_of(child), reason, counted=True, wait=wait)
            restart_or_give_up(turn, child, None, allowed=allowed, wait=wait)
        case Restart():
            turn.put(child, pid="restarting")
            turn.report("start_error", child.spec.id, pid_of(child), reason, counted=True)
            turn.do(Retry(child_id))
            turn.change(phase=Idle())
        case Start(tag, new):
            if new:
                turn.drop(child)
            turn.do(Answer(tag, Err(start_error(child_id, reason))))
            turn.change(phase=Idle())
        case Halt():
            step_done(turn, busy)
        case Errand():
            raise RuntimeBug("a plan without a start had a start step")
        case _:
            assert_never(busy.goal)


def _exited(turn: Turn, pid: Pid, reason: object) -> None:
    child = child_of(turn.state, pid)
    if child is None or child.ended is not None:
        return  # not a child, or no longer one, or told twice
    match turn.state.phase:
        case Idle() if not turn.state.suspended:
            ended(turn, child, pid, reason)
        case Busy(steps=(StopStep(child_id, timed), *_)) as busy if child_id == child.spec.id:
            if timed:
                turn.do(DisarmTimer(pid))
            stopped(turn, child, reason)
            step_done(turn, busy)
        case _:
            turn.put(child, ended=Ended(reason, turn.now))
            turn.queue(ChildExited(pid, reason))


def _deadline_passed(turn: Turn, pid: Pid) -> None:
    match turn.state.phase:
        case Busy(steps=(StopStep(child_id, timed=True), *rest)) as busy:
            child = child_of(turn.state, pid)
            if child is not None and child.spec.id == child_id:
                turn.do(Kill(pid))
                turn.change(phase=evolve(busy, steps=(StopStep(child_id), *rest)))
        case _:
            pass  # it died in time, and the timer's event was already on its way


def _stop_requested(turn: Turn, reason: object) -> None:
    match turn.state.phase:
        case Down() | Busy(goal=Halt()):
            return
        case Busy(steps=(StartStep(child_id) as first, *_)):
            turn.do(AbortStart(child_id))
            halt(turn, reason, first)
        case Busy(steps=(first, *rest)):
            # The stop under way is part of the halt; a terminate_child still gets its answer.
            answers = (todo for todo in rest if isinstance(todo, AnswerStep))
            halt(turn, reason, first, *answers)
        case _:
            halt(turn, reason)


# --- what waits ---------------------------------------------------------------------------


def _advance(turn: Turn) -> None:
    """Do what can be done: the plan until a step has to wait, then the backlog in order."""
    while True:
        match turn.state.phase:
            case Busy(steps=(), goal=goal):
                plan_done(turn, goal)
            case Busy(under_way=False) as busy:
                take_step(turn, busy)
            case Idle() if turn.state.backlog and not turn.state.suspended:
                first, rest = turn.state.backlog.pop()
                turn.change(backlog=rest)
                handle(turn, first)
            case _:
                return


def _starting(state: State, child_id: object) -> tuple[Child, Busy]:
    """Give the child whose start is under way; anything else is the performer's mistake."""
    match state.phase:
        case Busy(steps=(StartStep(expected), *_)) as busy if expected == child_id:
            return child_in(state, child_id), busy
        case _:
            raise RuntimeBug(f"no start of child {child_id!r} is under way")


_RULES = turns.Rules(
    begin=_begin,
    started=_start_succeeded,
    ignored=_start_ignored,
    failed=_start_failed,
    exited=_exited,
    deadline=_deadline_passed,
    stop=_stop_requested,
    is_over=lambda state: isinstance(state.phase, Down),
    advance=_advance,
)
