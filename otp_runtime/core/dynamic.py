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

from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core import turns
from otp_runtime.core.backoff import Streak
from otp_runtime.core.dynamic_queue import ended, handle, restart_or_give_up, wait_of
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
    find_child,
    is_coming_back,
    is_halting,
    key_of,
)
from otp_runtime.core.dynamic_stops import Turn, done, halt, stopped, told_to_stop
from otp_runtime.core.persistent import evolve
from otp_runtime.core.supervisor_messages import (
    AbortStart,
    Action,
    Answer,
    ChildExited,
    CountChildren,
    Err,
    Event,
    Kill,
    Ok,
    Release,
    Retry,
    StartChildRequest,
    Started,
    Stop,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.core.supervisor_requests import start_error
from otp_runtime.errors import RuntimeBug

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
    return turns.step(_RULES, Turn(state, now), event)


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


def _begin(turn: Turn) -> None:
    if not isinstance(turn.state.phase, New):
        raise RuntimeBug("a supervisor began twice")
    turn.change(phase=Idle())
    turn.do(Started())


def _start_succeeded(turn: Turn, key: object, pid: Pid) -> None:
    starting = _starting(turn, key)
    if turn.state.children.get(pid.id) is not None:
        raise RuntimeBug(f"{pid!r} started and is another child's process")
    child = Child(starting.spec, pid, streak=Streak(0, turn.now))
    match starting.goal:
        case Again(old):
            before = find_child(turn.state, old)
            if before is not None:  # else the supervisor is halting
                child = evolve(child, streak=evolve(before.streak, since=turn.now))
            turn.change(children=turn.state.children.drop(old.id))
        case Fresh(tag):
            _answer_start(turn, tag, Ok(pid))
        case _ as never:
            assert_never(never)
    turn.put(told_to_stop(turn, child) if is_halting(turn.state) else child)
    done(turn)


def _start_ignored(turn: Turn, key: object) -> None:
    match _starting(turn, key).goal:
        case Again(old):
            turn.change(children=turn.state.children.drop(old.id))
            if not is_halting(turn.state):  # else it is the business of whoever restarts this supervisor
                turn.do(Release(old))
        case Fresh(tag):
            _answer_start(turn, tag, Ok(None))
        case _ as never:
            assert_never(never)
    done(turn)


def _start_failed(turn: Turn, key: object, reason: object) -> None:
    starting = _starting(turn, key)
    match starting.goal:
        case Again() if is_halting(turn.state):
            pass
        case Again(old) if starting.spec.backoff is not None:
            allowed = turn.count_restart()
            before = find_child(turn.state, old)
            if before is None:
                raise RuntimeBug(f"{old!r} is restarted and is not there")
            child, wait = wait_of(before, None)
            turn.report("start_error", starting.spec.id, None, reason, counted=True, wait=wait)
            restart_or_give_up(turn, child, None, allowed=allowed, wait=wait)
            return
        case Again(old):
            turn.report("start_error", starting.spec.id, None, reason, counted=True)
            turn.do(Retry(old))
        case Fresh(tag):
            _answer_start(turn, tag, Err(start_error(starting.spec.id, reason)))
        case _ as never:
            assert_never(never)
    done(turn)


def _answer_start(turn: Turn, tag: Any, result: Ok | Err) -> None:
    if not is_halting(turn.state):  # else its caller sees the supervisor end
        turn.do(Answer(tag, result))


def _exited(turn: Turn, pid: Pid, reason: object) -> None:
    child = find_child(turn.state, pid)
    if child is None or child.restarting or child.ended is not None:
        return  # not a child, or no longer one, or told twice
    match turn.state.phase:
        case Idle() if not turn.state.suspended:
            ended(turn, child, reason, turn.now)
        case Stopping(stopping) if stopping == pid:
            stopped(turn, child, reason)
            done(turn)
        case Halting(under_way=under_way):
            stopped(turn, child, reason)
            if isinstance(under_way, Stopping) and under_way.pid == pid:
                done(turn)
        case _:
            turn.put(evolve(child, ended=Ended(reason, turn.now)))
            turn.queue(ChildExited(pid, reason))


def _deadline_passed(turn: Turn, pid: Pid) -> None:
    child = find_child(turn.state, pid)
    if child is not None and child.timed:  # else it died in time, and the timer's event was already on its way
        turn.do(Kill(pid))
        turn.put(evolve(child, timed=False))


def _stop_requested(turn: Turn, reason: object) -> None:
    match turn.state.phase:
        case Down() | Halting():
            return
        case Starting() as starting:
            turn.do(AbortStart(starting.id))
            halt(turn, reason, starting)
        case Stopping() as stopping:
            halt(turn, reason, stopping)
        case _:
            halt(turn, reason)


def _advance(turn: Turn) -> None:
    """Handle what waits, in order, until something is under way again."""
    while True:
        match turn.state.phase:
            case Idle() if turn.state.backlog and not turn.state.suspended:
                first, rest = turn.state.backlog.pop()
                turn.change(backlog=rest)
                handle(turn, first)
            case Halting(reason, under_way=None) if not turn.state.children:
                turn.change(phase=Down())
                turn.do(Stop(reason))
            case _:
                return


def _starting(turn: Turn, key: object) -> Starting:
    """Give the start that is under way; anything else is the performer's mistake."""
    match turn.state.phase:
        case (Starting() as starting) | Halting(under_way=Starting() as starting) if starting.id == key:
            return starting
        case _:
            raise RuntimeBug(f"no start of {key!r} is under way")


_RULES = turns.Rules(
    begin=_begin,
    started=_start_succeeded,
    ignored=_start_ignored,
    failed=_start_failed,
    exited=_exited,
    deadline=_deadline_passed,
    stop=_stop_requested,
    is_over=is_halting,
    advance=_advance,
)
