"""The state of a dynamic supervisor's core: children by their process, and what it is waiting for.

The values that `otp_runtime.core.dynamic` goes through, and the questions about them that do not change anything.
Nothing here but `values()` goes through all children: a supervisor has thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from otp_runtime.core import backoff
from otp_runtime.core.persistent import Queue, Table
from otp_runtime.core.restart import should_restart
from otp_runtime.core.supervisor_messages import Asked, ChildExited, RetryDue
from otp_runtime.core.supervisor_state import Down, Ended, Idle, New

if TYPE_CHECKING:
    from otp_runtime.core.backoff import Streak
    from otp_runtime.core.child_spec import ChildSpec, DynamicFlags
    from otp_runtime.terms.pid import Pid

__all__ = [
    "Again",
    "Child",
    "Down",
    "Ended",
    "Fresh",
    "Halting",
    "Idle",
    "New",
    "Phase",
    "Starting",
    "State",
    "Stopping",
    "Waiting",
    "find_child",
    "is_coming_back",
    "is_halting",
    "key_of",
]


@dataclass(frozen=True, slots=True)
class Child:
    """One child, known by `pid`: its process, or while it is `restarting` the last one it had.

    `ended` is set from the death until that is handled, `timed` while the timer of its stop runs, `counted` while it
    waits, as its `backoff` says, for a restart that is counted already.
    """

    spec: ChildSpec
    pid: Pid
    restarting: bool = False
    ended: Ended | None = None
    timed: bool = False
    streak: Streak = backoff.FIRST
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Fresh:
    """The start is for a caller, who waits under `tag`."""

    tag: Any


@dataclass(frozen=True, slots=True)
class Again:
    """The start is a restart of the child that was `pid`."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Starting:
    """Waiting for the end of an `init`."""

    spec: ChildSpec
    goal: Fresh | Again

    @property
    def id(self) -> Pid | None:
        """What `StartChild` and its outcome call this start."""
        return self.goal.pid if isinstance(self.goal, Again) else None


@dataclass(frozen=True, slots=True)
class Stopping:
    """Waiting for the death of one child, for a caller who asked for it under `tag`."""

    pid: Pid
    tag: Any


@dataclass(frozen=True, slots=True)
class Halting:
    """Waiting for the death of all children, and for the end of the start or the stop that was under way."""

    reason: Any
    under_way: Starting | Stopping | None = None


Phase: TypeAlias = New | Idle | Starting | Stopping | Halting | Down
Waiting: TypeAlias = Asked | RetryDue | ChildExited


@dataclass(frozen=True, slots=True)
class State:
    """A dynamic supervisor between two events; `children` by the id of their process, `restarts` newest first.

    While `suspended` nothing in the backlog is handled; what is under way is finished, and a stop is obeyed.
    """

    flags: DynamicFlags
    children: Table[Child] = field(default_factory=Table)
    restarts: tuple[float, ...] = ()
    phase: Phase = field(default_factory=New)
    backlog: Queue[Waiting] = field(default_factory=Queue)
    suspended: bool = False


def find_child(state: State, pid: object) -> Child | None:
    """Give the child known by `pid`, also one that is restarting; else None."""
    number = getattr(pid, "id", None)
    child = state.children.get(number) if isinstance(number, int) else None
    return child if child is not None and child.pid == pid else None


def key_of(state: State, pid: Pid) -> Pid | None:
    """Give what the child whose process is `pid` is known by, also when that has just died; else None."""
    child = find_child(state, pid)
    return None if child is None or child.restarting else pid


def is_coming_back(state: State, key: object) -> bool:
    """Whether a process for the child known by `key` is on its way, so that waiting for its name makes sense."""
    child = find_child(state, key)
    if child is None or is_halting(state):
        return False
    if child.ended is not None:
        return should_restart(child.spec.restart, child.ended.reason)
    return child.restarting


def is_halting(state: State) -> bool:
    """Whether the supervisor is on its way out: what becomes of its children's names its own supervisor decides."""
    return isinstance(state.phase, Halting | Down)
