"""What a dynamic supervisor does about what waited in its queue: requests, retries, and the ends of children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core.backoff import next_wait
from otp_runtime.core.dynamic_state import Again, Child, Fresh, Idle, Starting, State, Waiting, find_child
from otp_runtime.core.dynamic_stops import Turn, halt, terminate
from otp_runtime.core.persistent import evolve
from otp_runtime.core.restart import should_restart
from otp_runtime.core.supervisor_messages import (
    Answer,
    Asked,
    ChildCount,
    ChildExited,
    ChildInfo,
    CountChildren,
    Err,
    Ok,
    Request,
    Retry,
    RetryDue,
    StartChild,
    StartChildRequest,
    Suspend,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.errors import MaxChildren, NotFound, RuntimeBug
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.terms.pid import Pid

__all__ = ["ended", "handle", "restart_or_give_up", "wait_of"]


def handle(turn: Turn, event: Waiting) -> None:
    """Handle what is next, while nothing is under way."""
    match event:
        case Asked(tag, request):
            _asked(turn, tag, request)
        case RetryDue(key):
            child = find_child(turn.state, key)
            if child is not None and child.restarting:
                # one that has waited was counted before
                allowed = child.counted or turn.count_restart()
                restart_or_give_up(turn, evolve(child, counted=False), None, allowed=allowed)
        case ChildExited(pid, reason):
            child = find_child(turn.state, pid)
            if child is not None and child.ended is not None:  # else a stop found it dead: the death is dealt with
                ended(turn, evolve(child, ended=None), reason, child.ended.at)
        case _:
            assert_never(event)


def ended(turn: Turn, child: Child, reason: object, died_at: float) -> None:
    """A child ended by itself: restart or forget it."""
    if should_restart(child.spec.restart, reason):
        allowed = turn.count_restart()
        child, wait = wait_of(child, died_at)
        turn.report("child_terminated", child.spec.id, child.pid, reason, counted=True, wait=wait)
        restart_or_give_up(turn, child, child.pid, allowed=allowed, wait=wait)
        return
    if is_abnormal(reason):
        turn.report("child_terminated", child.spec.id, child.pid, reason)
    turn.drop(child)


def wait_of(child: Child, died_at: float | None) -> tuple[Child, float]:
    """Give a child with one more restart in a row, and the seconds that it waits for it."""
    streak, wait = next_wait(child.spec.backoff, child.streak, child.spec.id, died_at)
    return evolve(child, streak=streak), wait


def restart_or_give_up(turn: Turn, child: Child, pid: Pid | None, *, allowed: bool, wait: float = 0.0) -> None:
    """Begin a restart that is `allowed`, now or after a wait, or the end of the supervisor; `pid` has just died."""
    if allowed and wait > 0:
        turn.put(evolve(child, restarting=True, counted=True))
        turn.change(phase=Idle())
        turn.do(Retry(child.pid, wait))
        return
    if allowed:
        turn.put(evolve(child, restarting=True))
        _start(turn, child.spec, Again(child.pid))
        return
    turn.report("shutdown", child.spec.id, pid, "reached_max_restart_intensity", counted=True)
    turn.drop(child)
    halt(turn, "shutdown")


def _start(turn: Turn, spec: ChildSpec, goal: Fresh | Again) -> None:
    starting = Starting(spec, goal)
    turn.change(phase=starting)
    turn.do(StartChild(starting.id, spec))


# --- requests -----------------------------------------------------------------------------


def _asked(turn: Turn, tag: Any, request: Request) -> None:
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
                terminate(turn, tag, child)
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
