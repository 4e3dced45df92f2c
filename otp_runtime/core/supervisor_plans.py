"""A supervisor's plan: steps that are taken one at a time, each of which may have to be waited for.

What `otp_runtime.core.supervision` decides becomes a plan, and here it is carried out: a child is told to stop or to
start, a wait begins, a request is answered. The last plan of all is the halt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from otp_runtime.core import turns
from otp_runtime.core.persistent import Queue, evolve
from otp_runtime.core.stopping import ended_as_told, stop_actions
from otp_runtime.core.strategies import siblings_of
from otp_runtime.core.supervisor_messages import (
    ArmTimer,
    Note,
    Release,
    Retry,
    StartChild,
    Started,
    Stop,
)
from otp_runtime.core.supervisor_state import (
    AnswerStep,
    Boot,
    Busy,
    Child,
    Down,
    Errand,
    Goal,
    Halt,
    Idle,
    PauseStep,
    Restart,
    Start,
    StartStep,
    State,
    Step,
    StopStep,
    find_child,
)
from otp_runtime.errors import RuntimeBug
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Turn", "child_in", "gone", "halt", "pid_of", "plan_done", "step_done", "stopped", "take_step"]


class Turn(turns.Turn[State]):
    """One step of a static supervisor in the making."""

    __slots__ = ()

    def plan(self, steps: Iterable[Step], goal: Goal) -> None:
        """Do this next, one step after another."""
        self.change(phase=Busy(tuple(steps), goal))

    def put(self, child: Child, **fields: Any) -> Child:
        """Change fields of a child; give it as it is now."""
        changed = evolve(child, **fields)
        self.change(children=self.state.children.put(changed))
        return changed

    def drop(self, child: Child) -> None:
        """Forget a child."""
        self.change(children=self.state.children.drop(child.spec.id))


def take_step(turn: Turn, busy: Busy) -> None:
    """Begin the first step of a plan; one that waits for nothing is done by that."""
    match busy.steps[0]:
        case StopStep(child_id):
            _take_stop(turn, busy, find_child(turn.state, child_id))
        case StartStep(child_id):
            child = child_in(turn.state, child_id)
            turn.do(StartChild(child_id, child.spec))
            turn.change(phase=evolve(busy, under_way=True))
        case PauseStep(child_id, seconds):
            turn.put(child_in(turn.state, child_id), pid="restarting", due=turn.now + seconds)
            turn.do(Retry(child_id, seconds))
            turn.change(phase=Idle())
        case AnswerStep(answer):
            turn.do(answer)
            step_done(turn, busy)
        case _ as never:
            assert_never(never)


def _take_stop(turn: Turn, busy: Busy, child: Child | None) -> None:
    """Begin to stop a child, or be done at once where there is no process (any more)."""
    if child is None:
        step_done(turn, busy)
    elif child.ended is not None:
        stopped(turn, child, child.ended.reason)
        if isinstance(busy.goal, Errand):
            turn.do(Release(child.spec.id))
        step_done(turn, busy)
    elif isinstance(child.pid, Pid):
        actions = stop_actions(child.spec, child.pid)
        turn.do(*actions)
        timed = any(isinstance(action, ArmTimer) for action in actions)
        steps = (StopStep(child.spec.id, timed), *busy.steps[1:])
        turn.change(phase=evolve(busy, steps=steps, under_way=True))
    else:
        gone(turn, child)
        if child.pid == "restarting" and isinstance(busy.goal, Errand):
            # nor are the siblings that were to start with it
            down = (one for one in siblings_of(turn.state, child) if child_in(turn.state, one).pid is None)
            turn.do(Release(child.spec.id), *map(Release, down))
        step_done(turn, busy)


def step_done(turn: Turn, busy: Busy) -> None:
    """The first step is done: on with the rest."""
    turn.plan(busy.steps[1:], busy.goal)


def plan_done(turn: Turn, goal: Goal) -> None:
    """No step is left."""
    match goal:
        case Boot():
            turn.change(phase=Idle())
            turn.do(Started())
        case Restart() | Start() | Errand():
            turn.change(phase=Idle())
        case Halt(reason):
            turn.change(phase=Down(), backlog=Queue())
            turn.do(Stop(reason))
        case _:
            assert_never(goal)


def halt(turn: Turn, reason: object, *under_way: Step) -> None:
    """Stop all children, last started first, and then the supervisor.

    A step that is under way is finished first; stopping its child again is then no work.
    """
    stops = (StopStep(child.spec.id) for child in reversed(turn.state.children))
    turn.change(phase=Busy((*under_way, *stops), Halt(reason), under_way=bool(under_way)))


# --- children -----------------------------------------------------------------------------


def child_in(state: State, child_id: object) -> Child:
    """Give a child that must be there."""
    child = find_child(state, child_id)
    if child is None:
        raise RuntimeBug(f"the plan names child {child_id!r}, which is not there")
    return child


def stopped(turn: Turn, child: Child, reason: object) -> None:
    """A child that was to be stopped is dead, of `reason`: report that if it is no good end."""
    match turn.state.phase:
        case Busy(goal=Restart(because)):
            pass
        case _:
            because = None
    if not ended_as_told(child.spec, reason):
        turn.report("shutdown_error", child.spec.id, pid_of(child), reason, because=because)
    elif because is not None and isinstance(child.pid, Pid):
        turn.do(Note(child.spec.id, child.pid, reason, turn.state.flags.strategy, because))
    gone(turn, child)


def gone(turn: Turn, child: Child) -> None:
    """A child is down for now: a temporary one is forgotten, any other keeps its place."""
    if child.spec.restart == "temporary":
        turn.drop(child)
    else:
        turn.put(child, pid=None, ended=None, due=None)


def pid_of(child: Child) -> Pid | None:
    """Give the process of a child, None when it has none."""
    return child.pid if isinstance(child.pid, Pid) else None
