"""A stream of tasks as a state: how many run at once, which result is delivered when, when it is over.

    source ──Take──► task ──Replied──► settled ──Deliver──► consumer
                       └────Ended────► room for the next

An item is taken from the source only when there is room for its task, and only between deliveries: a consumer that
does not ask for more gets no more started. Room is made by the *end* of a task's process, not by its reply, so there
are never more processes than allowed. In order, results that came early wait for those before them; their number is
not bounded, as in Elixir: while the first is slow, others go on.

Invariants: no more than `max_concurrency` running; each position taken is delivered once; in order if `ordered`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, assert_never

from otp_runtime.core.tasks import TaskDone, TaskExit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Action",
    "Begin",
    "Deliver",
    "Ended",
    "Event",
    "Finish",
    "GiveUp",
    "Kill",
    "Replied",
    "SourceEnded",
    "State",
    "Take",
    "Taken",
    "TimeUp",
    "step",
]


@dataclass(frozen=True, slots=True)
class State:
    """Where a stream stands; positions count the items from 0."""

    max_concurrency: int
    ordered: bool = True
    on_timeout: Literal["exit", "kill_task"] = "exit"
    taken: int = 0
    delivered: int = 0
    running: frozenset[int] = frozenset()
    timed_out: frozenset[int] = frozenset()
    settled: Mapping[int, TaskDone[Any] | TaskExit] = field(default_factory=dict)
    """Results that are not delivered yet, in the order they came."""
    waiting: frozenset[int] = frozenset()
    """Positions of running tasks without a result."""
    is_taking: bool = False
    is_exhausted: bool = False


# -- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The consumer asks for the first result."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An item was taken and its task started."""


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """There are no more items."""


@dataclass(frozen=True, slots=True)
class Replied:
    """A task returned `value`."""

    position: int
    value: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """A task's process is gone; `reason` is its result when it had not replied."""

    position: int
    reason: Any


@dataclass(frozen=True, slots=True)
class TimeUp:
    """A task has had its time."""

    position: int


Event: TypeAlias = Begin | Taken | SourceEnded | Replied | Ended | TimeUp


# -- actions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """Take the next item and start its task, as number `position`; answered by `Taken` or `SourceEnded`."""

    position: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give a result to the consumer, and go on when it asks for more."""

    position: int
    result: TaskDone[Any] | TaskExit


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a task; answered by `Ended`."""

    position: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the stream with a time-out."""

    position: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All is delivered and every task's process is gone."""


Action: TypeAlias = Take | Deliver | Kill | GiveUp | Finish


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """Decide what an event means. Raises ValueError for one that cannot be, and leaves the state untouched."""
    match event:
        case Begin():
            if state.taken or state.is_taking or state.is_exhausted:
                raise ValueError(f"the stream has begun: {state}")
        case Taken():
            if not state.is_taking:
                raise ValueError(f"no item was asked for: {state}")
            here = {state.taken}
            state = dataclasses.replace(
                state,
                taken=state.taken + 1,
                is_taking=False,
                running=state.running | here,
                waiting=state.waiting | here,
            )
        case SourceEnded():
            state = dataclasses.replace(state, is_taking=False, is_exhausted=True)
        case Replied(position=position, value=value):
            _check_running(state, position)
            state = _settle(state, position, TaskDone(value))
        case Ended(position=position, reason=reason):
            _check_running(state, position)
            late = position in state.timed_out
            state = _settle(state, position, TaskExit("timeout" if late else reason))
            gone = {position}
            state = dataclasses.replace(state, running=state.running - gone, timed_out=state.timed_out - gone)
        case TimeUp(position=position):
            return _time_up(state, position)
        case _:
            assert_never(event)
    return _go_on(state)


def _check_running(state: State, position: int) -> None:
    if position not in state.running:
        raise ValueError(f"no task {position} runs: {state}")


def _settle(state: State, position: int, result: TaskDone[Any] | TaskExit) -> State:
    """Note a result; the first one of a task counts."""
    if position not in state.waiting:
        return state
    return dataclasses.replace(state, waiting=state.waiting - {position}, settled={**state.settled, position: result})


def _time_up(state: State, position: int) -> tuple[State, tuple[Action, ...]]:
    if position not in state.waiting or position in state.timed_out:
        return state, ()
    if state.on_timeout == "exit":
        return state, (GiveUp(position),)
    return dataclasses.replace(state, timed_out=state.timed_out | {position}), (Kill(position),)


def _go_on(state: State) -> tuple[State, tuple[Action, ...]]:
    actions: list[Action] = []
    settled = dict(state.settled)
    delivered = state.delivered
    while settled and (not state.ordered or delivered in settled):
        position = delivered if state.ordered else next(iter(settled))
        actions.append(Deliver(position, settled.pop(position)))
        delivered += 1
    state = dataclasses.replace(state, settled=settled, delivered=delivered)
    if state.is_exhausted:
        if not state.running:
            actions.append(Finish())
    elif not state.is_taking and len(state.running) < state.max_concurrency:
        actions.append(Take(state.taken))
        state = dataclasses.replace(state, is_taking=True)
    return state, tuple(actions)
