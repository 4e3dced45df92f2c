"""Which children a restart concerns, and when an end is the supervisor's end too.

OTP's three strategies as questions about a `State`; nothing is changed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core.restart import should_restart
from otp_runtime.core.supervisor_state import (
    Busy,
    Child,
    Down,
    Halt,
    New,
    PauseStep,
    StartStep,
    State,
    Step,
    StopStep,
    find_child,
)

if TYPE_CHECKING:
    from otp_runtime.core.child_spec import ChildSpec

__all__ = ["is_auto_shutdown_due", "is_coming_back", "restart_steps", "siblings_of"]


def restart_steps(state: State, failed: Child, wait: float = 0.0) -> tuple[Step, ...]:
    """Plan the restart of `failed`: stop its siblings, last started first, wait, then start all.

    Stopped temporary siblings are gone; every other one starts, whatever it was before.
    """
    group = _group(state, failed)
    stops = (StopStep(child.spec.id) for child in reversed(group) if child is not failed)
    starts = (StartStep(child.spec.id) for child in group if child.spec.restart != "temporary")
    pause = (PauseStep(failed.spec.id, wait),) if wait > 0 else ()
    return (*stops, *pause, *starts)


def siblings_of(state: State, failed: Child) -> tuple[Any, ...]:
    """Give the ids of the other children that a restart of `failed` stops and starts."""
    ids = (child.spec.id for child in _group(state, failed))
    return tuple(child_id for child_id in ids if child_id != failed.spec.id)


def is_coming_back(state: State, child_id: object) -> bool:
    """Whether a process for this child is on its way, so that waiting for its name makes sense.

    That is: a plan starts it, it is `"restarting"`, it is down and will start with a sibling that is `"restarting"`, or
    it is dead and will be restarted as soon as the supervisor gets to it.
    """
    child = find_child(state, child_id)
    match state.phase:
        case Down() | Busy(goal=Halt()):
            return False
        case New():
            return child is not None
        case Busy(steps=steps) if any(isinstance(todo, StartStep) and todo.id == child_id for todo in steps):
            return True
    if child is None:
        return False
    if child.ended is not None:
        return should_restart(child.spec.restart, child.ended.reason)
    if child.pid is None:
        return any(one.pid == "restarting" and child in _group(state, one) for one in state.children)
    return child.pid == "restarting"


def is_auto_shutdown_due(state: State, ended: ChildSpec) -> bool:
    """Whether the end of this child, which stays down, ends the supervisor."""
    if not ended.significant:
        return False
    match state.flags.auto_shutdown:
        case "never":
            return False
        case "any_significant":
            return True
        case "all_significant":
            significant = (child for child in state.children if child.spec.significant)
            return all(child.pid is None for child in significant)
        case _ as never:
            assert_never(never)


def _group(state: State, failed: Child) -> tuple[Child, ...]:
    """The children that a restart of `failed` concerns, in start order."""
    match state.flags.strategy:
        case "one_for_one":
            return (failed,)
        case "one_for_all":
            return tuple(state.children)
        case "rest_for_one":
            return state.children.since(failed.spec.id)
        case _ as never:
            assert_never(never)
