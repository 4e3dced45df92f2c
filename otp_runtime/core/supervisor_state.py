"""The state of a supervisor core: its children, and the plan that is running.

The values that `otp_runtime.core.supervision` goes through, and the questions about them that
do not change anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from otp_runtime.core import backoff
from otp_runtime.core.persistent import Queue
from otp_runtime.core.roster import Roster
from otp_runtime.core.supervisor_messages import Answer, Asked, ChildExited, RetryDue

if TYPE_CHECKING:
    from otp_runtime.core.backoff import Streak
    from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags
    from otp_runtime.terms.pid import Pid

__all__ = [
    "AnswerStep",
    "Boot",
    "Busy",
    "Child",
    "Down",
    "Ended",
    "Errand",
    "Goal",
    "Halt",
    "Idle",
    "New",
    "PauseStep",
    "Phase",
    "Restart",
    "Start",
    "StartStep",
    "State",
    "Step",
    "StopStep",
    "Waiting",
    "child_of",
    "find_child",
    "is_halting",
    "is_running",
]


@dataclass(frozen=True, slots=True)
class Ended:
    """A child died with `reason` at the monotonic second `at`, which has not been handled yet."""

    reason: Any
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Child:
    """One child: `pid` is None while it is stopped or starting.

    `due` is set while it is "restarting" and waits, as its `backoff` says: when it is tried, which is counted already.
    """

    spec: ChildSpec
    pid: Pid | Literal["restarting"] | None = None
    ended: Ended | None = None
    streak: Streak = backoff.FIRST
    due: float | None = None


@dataclass(frozen=True, slots=True)
class StopStep:
    """Stop a child and wait for its death; `timed` while its timer runs."""

    id: Any
    timed: bool = False


@dataclass(frozen=True, slots=True)
class StartStep:
    """Start a child and wait for the end of its `init`."""

    id: Any


@dataclass(frozen=True, slots=True)
class PauseStep:
    """Leave the plan here: child `id` is "restarting", and in `seconds` its restart begins anew."""

    id: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class AnswerStep:
    """Answer a request, now that what it asked for is done."""

    answer: Answer


Step: TypeAlias = StopStep | StartStep | PauseStep | AnswerStep


@dataclass(frozen=True, slots=True)
class Boot:
    """The plan starts the supervisor: a failure ends it."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The plan restarts children, because of `id`: a failure is tried again."""

    id: Any


@dataclass(frozen=True, slots=True)
class Start:
    """The plan starts one child for a caller: a failure is the answer; a `new` one then goes."""

    tag: Any
    new: bool


@dataclass(frozen=True, slots=True)
class Errand:
    """The plan has nothing to start."""


@dataclass(frozen=True, slots=True)
class Halt:
    """The plan ends the supervisor with `reason`."""

    reason: Any


Goal: TypeAlias = Boot | Restart | Start | Errand | Halt


@dataclass(frozen=True, slots=True)
class New:
    """Nothing has begun."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Waiting for something to happen."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A plan runs; its first step is `under_way` or yet to be taken."""

    steps: tuple[Step, ...]
    goal: Goal
    under_way: bool = False


@dataclass(frozen=True, slots=True)
class Down:
    """`Stop` was said; whatever still arrives is too late."""


Phase: TypeAlias = New | Idle | Busy | Down
Waiting: TypeAlias = Asked | RetryDue | ChildExited


@dataclass(frozen=True, slots=True)
class State:
    """A supervisor between two events; `children` in start order, `restarts` newest first.

    While `suspended` nothing in the backlog is handled; a plan that runs is finished, and a stop is obeyed.
    """

    flags: SupervisorFlags
    children: Roster = field(default_factory=Roster)
    restarts: tuple[float, ...] = ()
    phase: Phase = New()
    backlog: Queue[Waiting] = field(default_factory=Queue)
    suspended: bool = False


def is_halting(state: State) -> bool:
    """Whether the supervisor is on its way out: what becomes of its children's names its own supervisor decides."""
    match state.phase:
        case Down() | Busy(goal=Halt()):
            return True
        case _:
            return False


def child_of(state: State, pid: Pid) -> Child | None:
    """Give the child whose process is `pid`, also when that has just died; else None."""
    return state.children.of_process(pid)


def find_child(state: State, child_id: object) -> Child | None:
    """Give the child of that id, else None."""
    return state.children.get(child_id)


def is_running(child: Child) -> bool:
    """Whether the child has a process that is not known to be dead."""
    return child.ended is None and child.pid is not None and child.pid != "restarting"
