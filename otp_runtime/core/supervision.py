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

from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core.backoff import Streak, next_wait
from otp_runtime.core.restart import add_restart, should_restart
from otp_runtime.core.stopping import ended_as_told, stop_actions
from otp_runtime.core.strategies import is_auto_shutdown_due, is_coming_back, restart_steps, siblings_of
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
from otp_runtime.core.supervisor_requests import plan_request, start_error
from otp_runtime.core.supervisor_state import (
    AnswerStep,
    Boot,
    Busy,
    Child,
    Down,
    Ended,
    Errand,
    Goal,
    Halt,
    Idle,
    New,
    PauseStep,
    Restart,
    Start,
    StartStep,
    State,
    Step,
    StopStep,
    Waiting,
    child_of,
    find_child,
    is_halting,
    place_of,
)
from otp_runtime.errors import RuntimeBug
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags

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
    return State(flags, tuple(Child(spec) for spec in specs))


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Decide what `event` at `now` (monotonic seconds) changes and what is to be done.

    Returns:
        The next state and the actions, to be performed in their order.

    Raises:
        RuntimeBug: When the event cannot happen in this state; `state` is as it was.
    """
    turn = _Turn(state, now)
    match event:
        case Begin():
            _begin(turn)
        case ChildStarted(child_id, pid):
            _start_succeeded(turn, child_id, pid)
        case ChildIgnored(child_id):
            _start_ignored(turn, child_id)
        case ChildStartFailed(child_id, reason):
            _start_failed(turn, child_id, reason)
        case ChildExited(pid, reason):
            _exited(turn, pid, reason)
        case DeadlinePassed(pid):
            _deadline_passed(turn, pid)
        case Asked(tag, Suspend()) if state.suspended:
            # not counted, and not queued: it would take effect after the resume
            turn.do(Answer(tag, Ok()))
        case Asked() | RetryDue():
            _queue(turn, event)
        case Resumed():
            turn.change(suspended=False)
        case StopRequested(reason):
            _stop_requested(turn, reason)
        case _:
            assert_never(event)
    _advance(turn)
    return turn.state, tuple(turn.actions)


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


class _Turn:
    """One step in the making: the state so far, and the actions so far."""

    __slots__ = ("actions", "now", "state")

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def do(self, *actions: Action) -> None:
        self.actions += actions

    def change(self, **fields: Any) -> None:
        self.state = replace(self.state, **fields)

    def plan(self, steps: Iterable[Step], goal: Goal) -> None:
        self.change(phase=Busy(tuple(steps), goal))

    def put(self, child: Child, **fields: Any) -> Child:
        changed = replace(child, **fields)
        children = self.state.children
        at = place_of(self.state, child.spec.id)
        if at is not None:
            self.change(children=(*children[:at], changed, *children[at + 1 :]))
        return changed

    def drop(self, child: Child) -> None:
        kept = (old for old in self.state.children if old.spec.id != child.spec.id)
        self.change(children=tuple(kept))


def _begin(turn: _Turn) -> None:
    if not isinstance(turn.state.phase, New):
        raise RuntimeBug("a supervisor began twice")
    turn.plan((StartStep(child.spec.id) for child in turn.state.children), Boot())


def _start_succeeded(turn: _Turn, child_id: object, pid: Pid) -> None:
    child, busy = _starting(turn.state, child_id)
    if child_of(turn.state, pid) is not None:
        raise RuntimeBug(f"{pid!r} started for child {child_id!r} and is another child's process")
    restarts = child.streak.restarts if isinstance(busy.goal, Restart) else 0
    turn.put(child, pid=pid, ended=None, due=None, streak=Streak(restarts, turn.now))
    if isinstance(busy.goal, Start):
        turn.do(Answer(busy.goal.tag, Ok(pid)))
    _step_done(turn, busy)


def _start_ignored(turn: _Turn, child_id: object) -> None:
    child, busy = _starting(turn.state, child_id)
    _gone(turn, child)
    if isinstance(busy.goal, Restart):
        turn.do(Release(child_id))
    if isinstance(busy.goal, Start):
        turn.do(Answer(busy.goal.tag, Ok(None)))
    _step_done(turn, busy)


def _start_failed(turn: _Turn, child_id: object, reason: object) -> None:
    child, busy = _starting(turn.state, child_id)
    match busy.goal:
        case Boot():
            _report(turn, "start_error", child, reason)
            _halt(turn, ("shutdown", ("failed_to_start_child", child_id, reason)))
        case Restart() if child.spec.backoff is not None:
            allowed = _count_restart(turn)
            child, wait = _wait_of(turn, child, None)
            _report(turn, "start_error", child, reason, counted=True, wait=wait)
            _restart_or_give_up(turn, child, None, allowed=allowed, wait=wait)
        case Restart():
            turn.put(child, pid="restarting")
            _report(turn, "start_error", child, reason, counted=True)
            turn.do(Retry(child_id))
            turn.change(phase=Idle())
        case Start(tag, new):
            if new:
                turn.drop(child)
            turn.do(Answer(tag, Err(start_error(child_id, reason))))
            turn.change(phase=Idle())
        case Halt():
            _step_done(turn, busy)
        case Errand():
            raise RuntimeBug("a plan without a start had a start step")
        case _:
            assert_never(busy.goal)


def _exited(turn: _Turn, pid: Pid, reason: object) -> None:
    child = child_of(turn.state, pid)
    if child is None or child.ended is not None:
        return  # not a child, or no longer one, or told twice
    match turn.state.phase:
        case Busy(steps=(StopStep(child_id, timed), *_)) as busy if child_id == child.spec.id:
            if timed:
                turn.do(DisarmTimer(pid))
            _stopped(turn, child, reason)
            _step_done(turn, busy)
        case _:
            turn.put(child, ended=Ended(reason, turn.now))
            _queue(turn, ChildExited(pid, reason))


def _queue(turn: _Turn, event: Waiting) -> None:
    if not isinstance(turn.state.phase, Down):
        turn.change(backlog=(*turn.state.backlog, event))


def _deadline_passed(turn: _Turn, pid: Pid) -> None:
    match turn.state.phase:
        case Busy(steps=(StopStep(child_id, timed=True), *rest)) as busy:
            child = child_of(turn.state, pid)
            if child is not None and child.spec.id == child_id:
                turn.do(Kill(pid))
                turn.change(phase=replace(busy, steps=(StopStep(child_id), *rest)))
        case _:
            pass  # it died in time, and the timer's event was already on its way


def _stop_requested(turn: _Turn, reason: object) -> None:
    match turn.state.phase:
        case Down() | Busy(goal=Halt()):
            return
        case Busy(steps=(StartStep(child_id) as first, *_)):
            turn.do(AbortStart(child_id))
            _halt(turn, reason, first)
        case Busy(steps=(first, *rest)):
            # The stop under way is part of the halt; a terminate_child still gets its answer.
            answers = (todo for todo in rest if isinstance(todo, AnswerStep))
            _halt(turn, reason, first, *answers)
        case _:
            _halt(turn, reason)


# --- the plan -----------------------------------------------------------------------------


def _advance(turn: _Turn) -> None:
    """Do what can be done: the plan until a step has to wait, then the backlog in order."""
    while True:
        match turn.state.phase:
            case Busy(steps=(), goal=goal):
                _plan_done(turn, goal)
            case Busy(under_way=False) as busy:
                _take_step(turn, busy)
            case Idle() if turn.state.backlog and not turn.state.suspended:
                first, *rest = turn.state.backlog
                turn.change(backlog=tuple(rest))
                _handle(turn, first)
            case _:
                return


def _take_step(turn: _Turn, busy: Busy) -> None:
    match busy.steps[0]:
        case StopStep(child_id):
            _take_stop(turn, busy, find_child(turn.state, child_id))
        case StartStep(child_id):
            child = _child(turn.state, child_id)
            turn.do(StartChild(child_id, child.spec))
            turn.change(phase=replace(busy, under_way=True))
        case PauseStep(child_id, seconds):
            turn.put(_child(turn.state, child_id), pid="restarting", due=turn.now + seconds)
            turn.do(Retry(child_id, seconds))
            turn.change(phase=Idle())
        case AnswerStep(answer):
            turn.do(answer)
            _step_done(turn, busy)
        case _ as never:
            assert_never(never)


def _take_stop(turn: _Turn, busy: Busy, child: Child | None) -> None:
    """Begin to stop a child, or be done at once where there is no process (any more)."""
    if child is None:
        _step_done(turn, busy)
    elif child.ended is not None:
        _stopped(turn, child, child.ended.reason)
        if isinstance(busy.goal, Errand):
            turn.do(Release(child.spec.id))
        _step_done(turn, busy)
    elif isinstance(child.pid, Pid):
        actions = stop_actions(child.spec, child.pid)
        turn.do(*actions)
        timed = any(isinstance(action, ArmTimer) for action in actions)
        steps = (StopStep(child.spec.id, timed), *busy.steps[1:])
        turn.change(phase=replace(busy, steps=steps, under_way=True))
    else:
        _gone(turn, child)
        if child.pid == "restarting" and isinstance(busy.goal, Errand):
            # nor are the siblings that were to start with it
            down = (one for one in siblings_of(turn.state, child) if _child(turn.state, one).pid is None)
            turn.do(Release(child.spec.id), *map(Release, down))
        _step_done(turn, busy)


def _step_done(turn: _Turn, busy: Busy) -> None:
    turn.plan(busy.steps[1:], busy.goal)


def _plan_done(turn: _Turn, goal: Goal) -> None:
    match goal:
        case Boot():
            turn.change(phase=Idle())
            turn.do(Started())
        case Restart() | Start() | Errand():
            turn.change(phase=Idle())
        case Halt(reason):
            turn.change(phase=Down(), backlog=())
            turn.do(Stop(reason))
        case _:
            assert_never(goal)


def _halt(turn: _Turn, reason: object, *under_way: Step) -> None:
    """Stop all children, last started first, and then the supervisor.

    A step that is under way is finished first; stopping its child again is then no work.
    """
    stops = (StopStep(child.spec.id) for child in reversed(turn.state.children))
    turn.change(phase=Busy((*under_way, *stops), Halt(reason), under_way=bool(under_way)))


# --- the queue ----------------------------------------------------------------------------


def _handle(turn: _Turn, event: Waiting) -> None:
    match event:
        case Asked(tag, request):
            turn.state = plan_request(turn.state, tag, request)
            if isinstance(request, DeleteChild) and find_child(turn.state, request.id) is None:
                # it may have been stopped for a sibling's restart that is still ahead
                turn.do(Release(request.id))
        case RetryDue(child_id):
            child = find_child(turn.state, child_id)
            if child is not None and child.pid == "restarting" and not _is_early(turn, child):
                _retry(turn, child)
        case ChildExited(pid, reason):
            child = child_of(turn.state, pid)
            if child is not None:  # else a stop found it dead and the death is dealt with
                _ended(turn, child, pid, reason)
        case _:
            assert_never(event)


def _ended(turn: _Turn, child: Child, pid: Pid, reason: object) -> None:
    """A child ended by itself: restart it, leave it, or shut down."""
    if should_restart(child.spec.restart, reason):
        allowed = _count_restart(turn)
        siblings = siblings_of(turn.state, child) if allowed else ()
        child, wait = _wait_of(turn, child, turn.now if child.ended is None else child.ended.at)
        _report(turn, "child_terminated", child, reason, counted=True, siblings=siblings, wait=wait)
        _restart_or_give_up(turn, child, pid, allowed=allowed, wait=wait)
        return
    if is_abnormal(reason):
        _report(turn, "child_terminated", child, reason)
    _gone(turn, child)
    if is_auto_shutdown_due(turn.state, child.spec):
        _halt(turn, "shutdown")


def _is_early(turn: _Turn, child: Child) -> bool:
    """Whether a retry is one of an earlier wait, which was cancelled."""
    return child.due is not None and turn.now < child.due


def _retry(turn: _Turn, child: Child) -> None:
    # one that has waited was counted before
    allowed = child.due is not None or _count_restart(turn)
    _restart_or_give_up(turn, child, None, allowed=allowed)


def _wait_of(turn: _Turn, child: Child, died_at: float | None) -> tuple[Child, float]:
    """Give a child with one more restart in a row, and the seconds that it waits for it."""
    streak, wait = next_wait(child.spec.backoff, child.streak, child.spec.id, died_at)
    return turn.put(child, streak=streak), wait


def _restart_or_give_up(turn: _Turn, child: Child, pid: Pid | None, *, allowed: bool, wait: float = 0.0) -> None:
    child = turn.put(child, pid=None, ended=None, due=None)
    if allowed:
        turn.plan(restart_steps(turn.state, child, wait), Restart(child.spec.id))
        return
    reason = "reached_max_restart_intensity"
    _report(turn, "shutdown", child, reason, pid=pid, counted=True)
    _halt(turn, "shutdown")


def _count_restart(turn: _Turn) -> bool:
    flags = turn.state.flags
    counted = add_restart(turn.state.restarts, turn.now, flags.max_restarts, flags.max_seconds)
    turn.change(restarts=counted.restarts)
    return counted.allowed


# --- pieces -------------------------------------------------------------------------------


def _starting(state: State, child_id: object) -> tuple[Child, Busy]:
    """Give the child whose start is under way; anything else is the performer's mistake."""
    match state.phase:
        case Busy(steps=(StartStep(expected), *_)) as busy if expected == child_id:
            return _child(state, child_id), busy
        case _:
            raise RuntimeBug(f"no start of child {child_id!r} is under way")


def _child(state: State, child_id: object) -> Child:
    child = find_child(state, child_id)
    if child is None:
        raise RuntimeBug(f"the plan names child {child_id!r}, which is not there")
    return child


def _stopped(turn: _Turn, child: Child, reason: object) -> None:
    match turn.state.phase:
        case Busy(goal=Restart(because)):
            pass
        case _:
            because = None
    if not ended_as_told(child.spec, reason):
        _report(turn, "shutdown_error", child, reason, because=because)
    elif because is not None and isinstance(child.pid, Pid):
        turn.do(Note(child.spec.id, child.pid, reason, turn.state.flags.strategy, because))
    _gone(turn, child)


def _gone(turn: _Turn, child: Child) -> None:
    """A child is down for now: a temporary one is forgotten, any other keeps its place."""
    if child.spec.restart == "temporary":
        turn.drop(child)
    else:
        turn.put(child, pid=None, ended=None, due=None)


def _report(
    turn: _Turn,
    context: ReportContext,
    child: Child,
    reason: object,
    *,
    pid: Pid | None = None,
    counted: bool = False,
    siblings: tuple[Any, ...] = (),
    wait: float = 0.0,
    because: Any = None,
) -> None:
    flags = turn.state.flags
    if pid is None and isinstance(child.pid, Pid):
        pid = child.pid
    count = (len(turn.state.restarts), flags.max_restarts, flags.max_seconds)
    restart = count if counted else None
    turn.do(Report(context, child.spec.id, pid, reason, restart, flags.strategy, siblings, wait, because))
