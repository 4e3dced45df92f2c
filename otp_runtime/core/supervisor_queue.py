"""What a static supervisor does about what waited in its queue: requests, retries, and the ends of children.

What is decided becomes a plan (`otp_runtime.core.supervisor_plans`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from otp_runtime.core.backoff import next_wait
from otp_runtime.core.restart import should_restart
from otp_runtime.core.strategies import is_auto_shutdown_due, restart_steps, siblings_of
from otp_runtime.core.supervisor_messages import Asked, ChildExited, DeleteChild, Release, RetryDue
from otp_runtime.core.supervisor_plans import Turn, gone, halt
from otp_runtime.core.supervisor_requests import plan_request
from otp_runtime.core.supervisor_state import Child, Restart, Waiting, child_of, find_child
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from otp_runtime.terms.pid import Pid

__all__ = ["ended", "handle", "restart_or_give_up", "wait_of"]


def handle(turn: Turn, event: Waiting) -> None:
    """Handle what is next, while nothing is under way."""
    match event:
        case Asked(tag, request):
            turn.state = plan_request(turn.state, tag, request)
            if isinstance(request, DeleteChild) and find_child(turn.state, request.id) is None:
                # it may have been stopped for a sibling's restart that is still ahead
                turn.do(Release(request.id))
        case RetryDue(child_id):
            child = find_child(turn.state, child_id)
            if child is not None:
                _retry(turn, child)
        case ChildExited(pid, reason):
            child = child_of(turn.state, pid)
            if child is not None:  # else a stop found it dead and the death is dealt with
                ended(turn, child, pid, reason)
        case _:
            assert_never(event)


def ended(turn: Turn, child: Child, pid: Pid, reason: object) -> None:
    """A child ended by itself: restart it, leave it, or shut down."""
    if should_restart(child.spec.restart, reason):
        allowed = turn.count_restart()
        siblings = siblings_of(turn.state, child) if allowed else ()
        child, wait = wait_of(turn, child, turn.now if child.ended is None else child.ended.at)
        turn.report("child_terminated", child.spec.id, pid, reason, counted=True, siblings=siblings, wait=wait)
        restart_or_give_up(turn, child, pid, allowed=allowed, wait=wait)
        return
    if is_abnormal(reason):
        turn.report("child_terminated", child.spec.id, pid, reason)
    gone(turn, child)
    if is_auto_shutdown_due(turn.state, child.spec):
        halt(turn, "shutdown")


def _retry(turn: Turn, child: Child) -> None:
    """A child is due to be tried again, if it still is `"restarting"` and this is not of a wait that was cancelled."""
    if child.pid != "restarting" or (child.due is not None and turn.now < child.due):
        return
    # one that has waited was counted before
    allowed = child.due is not None or turn.count_restart()
    restart_or_give_up(turn, child, None, allowed=allowed)


def wait_of(turn: Turn, child: Child, died_at: float | None) -> tuple[Child, float]:
    """Give a child with one more restart in a row, and the seconds that it waits for it."""
    streak, wait = next_wait(child.spec.backoff, child.streak, child.spec.id, died_at)
    return (child if streak is child.streak else turn.put(child, streak=streak)), wait


def restart_or_give_up(turn: Turn, child: Child, pid: Pid | None, *, allowed: bool, wait: float = 0.0) -> None:
    """Plan a restart that is `allowed`, or the end of the supervisor; `pid` is what has just died."""
    child = turn.put(child, pid=None, ended=None, due=None)
    if allowed:
        turn.plan(restart_steps(turn.state, child, wait), Restart(child.spec.id))
        return
    reason = "reached_max_restart_intensity"
    turn.report("shutdown", child.spec.id, pid, reason, counted=True)
    halt(turn, "shutdown")
