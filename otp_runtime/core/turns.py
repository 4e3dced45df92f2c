"""One step of a supervisor in the making, static or dynamic: what the two cores have in common.

A core is a table of `Rules`, one for each kind of event. `step` takes a *turn* through the rule for the event that
came, and then on with what waits. What a turn decides it does to its state, which is a value; what is to be done
outside it collects as actions. When a rule raises, the turn is gone, and the state is as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, assert_never

from otp_runtime.core.persistent import evolve
from otp_runtime.core.restart import add_restart
from otp_runtime.core.supervisor_messages import (
    Action,
    Answer,
    Asked,
    Begin,
    ChildExited,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    DeadlinePassed,
    Event,
    Ok,
    Report,
    ReportContext,
    Resumed,
    RetryDue,
    StopRequested,
    Suspend,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.core import dynamic_state, supervisor_state
    from otp_runtime.terms.pid import Pid

__all__ = ["Rules", "Turn", "step"]

S = TypeVar("S", bound="supervisor_state.State | dynamic_state.State")
T = TypeVar("T", bound="Turn[Any]")


class Turn(Generic[S]):
    """The state so far, and the actions so far."""

    __slots__ = ("actions", "now", "state")

    def __init__(self, state: S, now: float) -> None:
        """Begin with a state at `now` (monotonic seconds)."""
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def do(self, *actions: Action) -> None:
        """Have something done, behind what was decided before."""
        self.actions += actions

    def change(self, **fields: Any) -> None:
        """Change fields of the state."""
        self.state = evolve(self.state, **fields)

    def queue(self, event: Asked | RetryDue | ChildExited) -> None:
        """Keep an event for when what is under way is done."""
        self.change(backlog=self.state.backlog.push(event))

    def count_restart(self) -> bool:
        """Count one incident; False when it is one too many."""
        flags = self.state.flags
        counted = add_restart(self.state.restarts, self.now, flags.max_restarts, flags.max_seconds)
        self.change(restarts=counted.restarts)
        return counted.allowed

    def report(
        self,
        context: ReportContext,
        child_id: Any,
        pid: Pid | None,
        reason: object,
        *,
        counted: bool = False,
        siblings: tuple[Any, ...] = (),
        wait: float = 0.0,
        because: Any = None,
    ) -> None:
        """Have something reported; `counted` says whether the incident was."""
        flags = self.state.flags
        restart = (len(self.state.restarts), flags.max_restarts, flags.max_seconds) if counted else None
        self.do(Report(context, child_id, pid, reason, restart, flags.strategy, siblings, wait, because))


@dataclass(frozen=True, slots=True)
class Rules(Generic[T]):
    """What a core does about each kind of event; a *key* is what `StartChild` called the child."""

    begin: Callable[[T], None]
    started: Callable[[T, Any, Pid], None]
    ignored: Callable[[T, Any], None]
    failed: Callable[[T, Any, object], None]
    exited: Callable[[T, Pid, object], None]
    deadline: Callable[[T, Pid], None]
    stop: Callable[[T, object], None]
    is_over: Callable[[Any], bool]
    """Whether the supervisor, by its state, does nothing any more about what is asked."""

    advance: Callable[[T], None]
    """Goes on with what waits, until something is under way that has to be waited for."""


def step(rules: Rules[T], turn: T, event: Event) -> tuple[Any, tuple[Action, ...]]:
    """Decide what `event` changes and what is to be done: give the next state and the actions."""
    match event:
        case Begin():
            rules.begin(turn)
        case ChildStarted(key, pid):
            rules.started(turn, key, pid)
        case ChildIgnored(key):
            rules.ignored(turn, key)
        case ChildStartFailed(key, reason):
            rules.failed(turn, key, reason)
        case ChildExited(pid, reason):
            rules.exited(turn, pid, reason)
        case DeadlinePassed(pid):
            rules.deadline(turn, pid)
        case Asked(tag, Suspend()) if turn.state.suspended:
            # not counted, and not queued: it would take effect after the resume
            turn.do(Answer(tag, Ok()))
        case Asked() | RetryDue():
            if not rules.is_over(turn.state):
                turn.queue(event)
        case Resumed():
            turn.change(suspended=False)
        case StopRequested(reason):
            rules.stop(turn, reason)
        case _:
            assert_never(event)
    rules.advance(turn)
    return turn.state, tuple(turn.actions)
