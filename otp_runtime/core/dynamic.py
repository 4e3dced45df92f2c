"""The dynamic supervisor's decisions: `step(state, event, now) -> (state, actions)`.

Events, requests and actions are those of the static supervisor (`otp_runtime.core.supervisor_messages`), and the same
performer does what is decided. Here the children have no order and no names: each is known by its process, is started
by request and restarted alone. There may be thousands, so that nothing but a list of them, a count of them and the
end of the supervisor looks at them all.

Theory of operation
===================

Like Elixir's, a dynamic supervisor does one thing at a time::

                     start_child, a restart
            .-------------------------------- Starting
      New --+--> Idle <-----------------------'  |
            '---------------------------------- Stopping     terminate_child
                  |                              |
                  '------------> Halting <-------'           StopRequested, limit reached
                                    |  no child, no start left
                                    v
                                  Down                       Stop(reason)

What happens while it is `Starting` or `Stopping` waits in the backlog, in order, as in a busy process's mailbox:
deaths, requests and retries. A death is marked at once all the same: a stop does not wait for a process that is gone.

The rules
=========

- permanent: restarted whatever the reason; transient: if abnormal; temporary: never. One that is not restarted is
  forgotten, and so is one whose start or restart ignored, and one that was terminated.
- Before each attempt one incident is counted. One too many: the supervisor reports, stops all and exits `"shutdown"`.
- A failed attempt leaves the child `"restarting"`, known by the process it last had; the retry goes through the queue,
  without a delay. It counts for `max_children`, can be terminated, and is then not tried again.
- A child with a `backoff` waits before each attempt, a failed one too, known by the process it last had. The others
  are served meanwhile, and a stop does not wait for it. The incident is counted before the wait.
- `max_children` is compared before a start; what is too many is refused and not queued.
- All children are stopped at once, each with its own budget. A start that is under way is aborted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core.backoff import Streak, next_wait
from otp_runtime.core.dynamic_state import (
    Again,
    Child,
    Down,
    Ended,
    Fresh,
    Halting,
    Idle,
    New,
    Starting,
    State,
    Stopping,
    Waiting,
    find_child,
    is_coming_back,
    is_halting,
    key_of,
)
from otp_runtime.core.persistent import Queue, Table
from otp_runtime.core.restart import add_restart, should_restart
from otp_runtime.core.stopping import ended_as_told, stop_actions
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
    DisarmTimer,
    Err,
    Event,
    Kill,
    Ok,
    Release,
    Report,
    ReportContext,
    Request,
    Resumed,
    Retry,
    RetryDue,
    StartChild,
    StartChildRequest,
    Started,
    Stop,
    StopRequested,
    Suspend,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.core.supervisor_requests import start_error
from otp_runtime.errors import MaxChildren, NotFound, RuntimeBug
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.core.child_spec import ChildSpec, DynamicFlags
    from otp_runtime.terms.pid import Pid

__all__ = [
    "REQUESTS",
    "Child",
    "State",
    "children_of",
    "describe",
    "initial",
    "is_coming_back",
    "is_halting",
    "is_start_asked_for",
    "key_of",
    "step",
]

REQUESTS = (WhichChildren, CountChildren, StartChildRequest, TerminateChild)
"""What may be asked; `TerminateChild` names the child by its pid."""


# --- public -------------------------------------------------------------------------------


def initial(flags: DynamicFlags, specs: tuple[ChildSpec, ...] = ()) -> State:
    """Make the state of a supervisor that has not begun; the flags are checked already, and there are no children."""
    if specs:
        raise RuntimeBug("a dynamic supervisor begins without children")
    return State(flags)


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
        case ChildStarted(key, pid):
            _start_succeeded(turn, key, pid)
        case ChildIgnored(key):
            _start_ignored(turn, key)
        case ChildStartFailed(key, reason):
            _start_failed(turn, key, reason)
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


def is_start_asked_for(state: State) -> bool:
    """Whether the start that is under way was asked for by a caller: it is told, and nobody else need be."""
    return isinstance(state.phase, Starting) and isinstance(state.phase.goal, Fresh)


def children_of(state: State) -> Iterator[tuple[Any, Pid | None, str]]:
    """Give (id in the spec, process, type) of each child, oldest process first."""
    return ((one.spec.id, None if one.restarting else one.pid, one.spec.type) for one in state.children.values())


def describe(state: State) -> dict[str, Any]:
    """Say the flags, for `get_status`."""
    flags = state.flags
    return {
        "strategy": flags.strategy,
        "max_restarts": flags.max_restarts,
        "max_seconds": flags.max_seconds,
        "max_children": flags.max_children,
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

    def put(self, child: Child) -> None:
        self.change(children=self.state.children.put(child.pid.id, child))

    def drop(self, child: Child) -> None:
        self.change(children=self.state.children.drop(child.pid.id))


def _begin(turn: _Turn) -> None:
    if not isinstance(turn.state.phase, New):
        raise RuntimeBug("a supervisor began twice")
    turn.change(phase=Idle())
    turn.do(Started())


def _start_succeeded(turn: _Turn, key: object, pid: Pid) -> None:
    starting = _starting(turn, key)
    if turn.state.children.get(pid.id) is not None:
        raise RuntimeBug(f"{pid!r} started and is another child's process")
    child = Child(starting.spec, pid, streak=Streak(0, turn.now))
    match starting.goal:
        case Again(old):
            before = find_child(turn.state, old)
            if before is not None:  # else the supervisor is halting
                child = replace(child, streak=replace(before.streak, since=turn.now))
            turn.change(children=turn.state.children.drop(old.id))
        case Fresh(tag):
            _answer_start(turn, tag, Ok(pid))
        case _ as never:
            assert_never(never)
    turn.put(_told_to_stop(turn, child) if is_halting(turn.state) else child)
    _done(turn)


def _start_ignored(turn: _Turn, key: object) -> None:
    match _starting(turn, key).goal:
        case Again(old):
            turn.change(children=turn.state.children.drop(old.id))
            if not is_halting(turn.state):  # else it is the business of whoever restarts this supervisor
                turn.do(Release(old))
        case Fresh(tag):
            _answer_start(turn, tag, Ok(None))
        case _ as never:
            assert_never(never)
    _done(turn)


def _start_failed(turn: _Turn, key: object, reason: object) -> None:
    starting = _starting(turn, key)
    match starting.goal:
        case Again() if is_halting(turn.state):
            pass
        case Again(old) if starting.spec.backoff is not None:
            allowed = _count_restart(turn)
            before = find_child(turn.state, old)
            if before is None:
                raise RuntimeBug(f"{old!r} is restarted and is not there")
            child, wait = _wait_of(before, None)
            _report(turn, "start_error", starting.spec, None, reason, counted=True, wait=wait)
            _restart_or_give_up(turn, child, None, allowed=allowed, wait=wait)
            return
        case Again(old):
            _report(turn, "start_error", starting.spec, None, reason, counted=True)
            turn.do(Retry(old))
        case Fresh(tag):
            _answer_start(turn, tag, Err(start_error(starting.spec.id, reason)))
        case _ as never:
            assert_never(never)
    _done(turn)


def _answer_start(turn: _Turn, tag: Any, result: Ok | Err) -> None:
    if not is_halting(turn.state):  # else its caller sees the supervisor end
        turn.do(Answer(tag, result))


def _exited(turn: _Turn, pid: Pid, reason: object) -> None:
    child = find_child(turn.state, pid)
    if child is None or child.restarting or child.ended is not None:
        return  # not a child, or no longer one, or told twice
    match turn.state.phase:
        case Idle() if not turn.state.suspended:
            _ended(turn, child, reason, turn.now)
        case Stopping(stopping) if stopping == pid:
            _stopped(turn, child, reason)
            _done(turn)
        case Halting(under_way=under_way):
            _stopped(turn, child, reason)
            if isinstance(under_way, Stopping) and under_way.pid == pid:
                _done(turn)
        case _:
            turn.put(replace(child, ended=Ended(reason, turn.now)))
            _queue(turn, ChildExited(pid, reason))


def _queue(turn: _Turn, event: Waiting) -> None:
    if not is_halting(turn.state):
        turn.change(backlog=turn.state.backlog.push(event))


def _deadline_passed(turn: _Turn, pid: Pid) -> None:
    child = find_child(turn.state, pid)
    if child is not None and child.timed:  # else it died in time, and the timer's event was already on its way
        turn.do(Kill(pid))
        turn.put(replace(child, timed=False))


def _stop_requested(turn: _Turn, reason: object) -> None:
    match turn.state.phase:
        case Down() | Halting():
            return
        case Starting() as starting:
            turn.do(AbortStart(starting.id))
            _halt(turn, reason, starting)
        case Stopping() as stopping:
            _halt(turn, reason, stopping)
        case _:
            _halt(turn, reason)


# --- what waits ---------------------------------------------------------------------------


def _advance(turn: _Turn) -> None:
    """Handle what waits, in order, until something is under way again."""
    while True:
        match turn.state.phase:
            case Idle() if turn.state.backlog and not turn.state.suspended:
                first, rest = turn.state.backlog.pop()
                turn.change(backlog=rest)
                _handle(turn, first)
            case Halting(reason, under_way=None) if not turn.state.children:
                turn.change(phase=Down())
                turn.do(Stop(reason))
            case _:
                return


def _handle(turn: _Turn, event: Waiting) -> None:
    match event:
        case Asked(tag, request):
            _asked(turn, tag, request)
        case RetryDue(key):
            child = find_child(turn.state, key)
            if child is not None and child.restarting:
                # one that has waited was counted before
                allowed = child.counted or _count_restart(turn)
                _restart_or_give_up(turn, replace(child, counted=False), None, allowed=allowed)
        case ChildExited(pid, reason):
            child = find_child(turn.state, pid)
            if child is not None and child.ended is not None:  # else a stop found it dead: the death is dealt with
                _ended(turn, replace(child, ended=None), reason, child.ended.at)
        case _:
            assert_never(event)


def _asked(turn: _Turn, tag: Any, request: Request) -> None:
    match request:
        case WhichChildren():
            turn.do(Answer(tag, Ok(_which(turn.state))))
        case CountChildren():
            turn.do(Answer(tag, Ok(_count(turn.state))))
        case StartChildRequest(spec):
            limit = turn.state.flags.max_children
            if limit is not None and len(turn.state.children) >= limit:
                turn.do(Answer(tag, Err(MaxChildren(limit))))
            else:
                _start(turn, spec, Fresh(tag))
        case TerminateChild(pid):
            child = find_child(turn.state, pid)
            if child is None:
                turn.do(Answer(tag, Err(NotFound(pid))))
            else:
                _terminate(turn, tag, child)
        case Suspend():
            turn.change(suspended=True)
            turn.do(Answer(tag, Ok()))
        case _:
            raise RuntimeBug(f"a dynamic supervisor does not know {request!r}")


def _which(state: State) -> tuple[ChildInfo, ...]:
    """List the children; their ids mean nothing here, so none is shown, as in Elixir."""
    children = state.children.values()
    return tuple((None, "restarting" if child.restarting else child.pid, child.spec.type) for child in children)


def _count(state: State) -> ChildCount:
    children = list(state.children.values())
    types = [child.spec.type for child in children]
    active = sum(not child.restarting and child.ended is None for child in children)
    return len(types), active, types.count("supervisor"), types.count("worker")


def _terminate(turn: _Turn, tag: Any, child: Child) -> None:
    if child.restarting or child.ended is not None:
        _down_already(turn, child)
        turn.do(Answer(tag, Ok()))
        return
    turn.put(_told_to_stop(turn, child))
    turn.change(phase=Stopping(child.pid, tag))


def _ended(turn: _Turn, child: Child, reason: object, died_at: float) -> None:
    """A child ended by itself: restart or forget it."""
    if should_restart(child.spec.restart, reason):
        allowed = _count_restart(turn)
        child, wait = _wait_of(child, died_at)
        _report(turn, "child_terminated", child.spec, child.pid, reason, counted=True, wait=wait)
        _restart_or_give_up(turn, child, child.pid, allowed=allowed, wait=wait)
        return
    if is_abnormal(reason):
        _report(turn, "child_terminated", child.spec, child.pid, reason)
    turn.drop(child)


def _wait_of(child: Child, died_at: float | None) -> tuple[Child, float]:
    """Give a child with one more restart in a row, and the seconds that it waits for it."""
    streak, wait = next_wait(child.spec.backoff, child.streak, child.spec.id, died_at)
    return replace(child, streak=streak), wait


def _restart_or_give_up(turn: _Turn, child: Child, pid: Pid | None, *, allowed: bool, wait: float = 0.0) -> None:
    if allowed and wait > 0:
        turn.put(replace(child, restarting=True, counted=True))
        turn.change(phase=Idle())
        turn.do(Retry(child.pid, wait))
        return
    if allowed:
        turn.put(replace(child, restarting=True))
        _start(turn, child.spec, Again(child.pid))
        return
    _report(turn, "shutdown", child.spec, pid, "reached_max_restart_intensity", counted=True)
    turn.drop(child)
    _halt(turn, "shutdown")


def _count_restart(turn: _Turn) -> bool:
    flags = turn.state.flags
    counted = add_restart(turn.state.restarts, turn.now, flags.max_restarts, flags.max_seconds)
    turn.change(restarts=counted.restarts)
    return counted.allowed


# --- pieces -------------------------------------------------------------------------------


def _start(turn: _Turn, spec: ChildSpec, goal: Fresh | Again) -> None:
    starting = Starting(spec, goal)
    turn.change(phase=starting)
    turn.do(StartChild(starting.id, spec))


def _starting(turn: _Turn, key: object) -> Starting:
    """Give the start that is under way; anything else is the performer's mistake."""
    match turn.state.phase:
        case (Starting() as starting) | Halting(under_way=Starting() as starting) if starting.id == key:
            return starting
        case _:
            raise RuntimeBug(f"no start of {key!r} is under way")


def _done(turn: _Turn) -> None:
    """What was under way is done; a stop is answered."""
    match turn.state.phase:
        case Halting() as halting:
            if isinstance(halting.under_way, Stopping):
                turn.do(Answer(halting.under_way.tag, Ok()))
            turn.change(phase=replace(halting, under_way=None))
        case Stopping(_pid, tag):
            turn.do(Answer(tag, Ok()))
            turn.change(phase=Idle())
        case _:
            turn.change(phase=Idle())


def _halt(turn: _Turn, reason: object, under_way: Starting | Stopping | None = None) -> None:
    """Stop all children at once, and then the supervisor."""
    stopping = under_way.pid if isinstance(under_way, Stopping) else None
    left: dict[int, Child] = {}
    for child in turn.state.children.values():
        if child.pid == stopping:
            left[child.pid.id] = child
        elif child.restarting or child.ended is not None:
            _report_end(turn, child)
        else:
            left[child.pid.id] = _told_to_stop(turn, child)
    turn.change(children=Table.of(left), backlog=Queue(), phase=Halting(reason, under_way))


def _told_to_stop(turn: _Turn, child: Child) -> Child:
    actions = stop_actions(child.spec, child.pid)
    turn.do(*actions)
    return replace(child, timed=any(isinstance(action, ArmTimer) for action in actions))


def _stopped(turn: _Turn, child: Child, reason: object) -> None:
    """A child that was told to stop has ended."""
    if child.timed:
        turn.do(DisarmTimer(child.pid))
    _report_end(turn, replace(child, ended=Ended(reason)))
    turn.drop(child)


def _down_already(turn: _Turn, child: Child) -> None:
    """There is no process (any more) to be stopped."""
    _report_end(turn, child)
    turn.drop(child)
    turn.do(Release(child.pid))


def _report_end(turn: _Turn, child: Child) -> None:
    if child.ended is not None and not ended_as_told(child.spec, child.ended.reason):
        _report(turn, "shutdown_error", child.spec, child.pid, child.ended.reason)


def _report(
    turn: _Turn,
    context: ReportContext,
    spec: ChildSpec,
    pid: Pid | None,
    reason: object,
    *,
    counted: bool = False,
    wait: float = 0.0,
) -> None:
    flags = turn.state.flags
    restart = (len(turn.state.restarts), flags.max_restarts, flags.max_seconds) if counted else None
    turn.do(Report(context, spec.id, pid, reason, restart, flags.strategy, wait=wait))
