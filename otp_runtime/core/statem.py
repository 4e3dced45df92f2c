"""The rules of a state machine, without a clock, a process or a callback of its own.

    Begun, Arrived(event), Woke() ──► step ──► Run(the callback to run) ──► the performer runs it
                                       ▲                                         │
                                       └───────────── Returned(result) ◄─────────┘

A `Machine` is all there is: state, data, events put aside, time-outs with the times they are due. It is data, so it
can be shown, kept and moved to another process. `step` gives the next machine and what to do, in order: replies to
send, then at most one `Run` or `End`. No `Run` means: wait, for an event or for `next_due(machine)`.

The order after a callback (OTP's): replies; the enter call if the state is another one; the event in hand is put aside
if it was postponed; if the state is another one, all that was put aside is queued again, oldest first; events inserted
by `NextEvent` come before those; time-outs are set; then the first of the queue is handled, or, with an empty queue,
the oldest time-out of no seconds. Only a machine without either waits for what comes from outside.

A callback that raises leaves the machine as it was before the event, so `terminate` sees that state and data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias, assert_never

from otp_runtime.core.missing import MISSING
from otp_runtime.core.statem_values import (
    Cancel,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateTimeout,
    Stop,
    StopAndReply,
    Timeout,
    Update,
    is_client,
    is_due_time,
    is_event_type,
    is_timeout,
)

# -- what a machine is -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its type (see `statem_values`) and its content."""

    type: Any
    content: Any


@dataclass(frozen=True, slots=True)
class Timer:
    """A time-out that runs: the type of its event, when it is due, what it says. No time: it is due at once."""

    which: Any
    due: float | None
    content: Any


@dataclass(frozen=True, slots=True)
class Options:
    """What the actions of one transition asked for so far; the enter call adds to it."""

    postpone: bool = False
    inserted: tuple[Event, ...] = ()
    timers: tuple[Timer | Cancel | Update, ...] = ()
    hibernate: bool = False


@dataclass(frozen=True, slots=True)
class Starting:
    """`init` has returned; its actions are not done yet."""

    actions: Any = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """For an event."""


_WAITING = Waiting()


@dataclass(frozen=True, slots=True)
class Handling:
    """The callback has this event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Entering:
    """The enter call of `state` runs: the transition that `event` (None: `init`) began is not finished."""

    event: Event | None
    state: Any
    data: Any
    options: Options


Phase: TypeAlias = Starting | Waiting | Handling | Entering


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine. `state_enter`, `named_states`: settings of its class (`named_states`: a state is a str)."""

    state: Any
    data: Any
    state_enter: bool = False
    named_states: bool = False
    phase: Phase = Starting()
    queue: tuple[Event, ...] = ()
    postponed: tuple[Event, ...] = ()
    timers: tuple[Timer, ...] = ()
    hibernate: bool = False


# -- what happens to it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """The machine was started: do the actions that `init` gave."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event came from outside."""

    event: Event


@dataclass(frozen=True, slots=True)
class Woke:
    """A time-out may be due."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The callback that `Run` asked for returned."""

    result: Any


Happening: TypeAlias = Begun | Arrived | Woke | Returned

# -- what to do --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """Run the callback of `state` with an event, or with the type `"enter"` and the old state."""

    type: Any
    content: Any
    state: Any
    data: Any


@dataclass(frozen=True, slots=True)
class End:
    """End the machine. `at_fault` is what the callback should not have given, `MISSING` when it asked for the end."""

    reason: Any
    at_fault: Any = MISSING


Action: TypeAlias = Reply | Run | End
Step: TypeAlias = "tuple[Machine, tuple[Action, ...]]"


def step(machine: Machine, happening: Happening, now: float) -> Step:
    """Let something happen to a machine; give the next machine and what to do.

    Raises ValueError, and nothing has happened, when it cannot happen in this phase.
    """
    match happening, machine.phase:
        case Begun(), Starting(actions):
            return _act(machine, None, machine.state, machine.data, Options(), actions, now, enter=True, in_enter=False)
        case Arrived(event), Waiting():
            return _handle(machine, event)
        case Woke(), Waiting():
            return _expire(machine, now)
        case Returned(result), Handling(event):
            return _conclude(machine, event, machine.state, machine.data, Options(), result, now, in_enter=False)
        case Returned(result), Entering(event, state, data, options):
            return _conclude(machine, event, state, data, options, result, now, in_enter=True)
        case _:
            msg = f"{type(happening).__name__} cannot happen while {type(machine.phase).__name__}"
            raise ValueError(msg)


def next_run(machine: Machine) -> Run | None:
    """Give the callback that a machine waits for to return; None when it waits for an event."""
    match machine.phase:
        case Handling(event):
            return Run(event.type, event.content, machine.state, machine.data)
        case Entering(_, state, data):
            return Run("enter", machine.state, state, data)
        case Starting() | Waiting():
            return None
        case _:
            assert_never(machine.phase)


def next_due(machine: Machine) -> float | None:
    """Give the time of the time-out that is due first, None when none runs."""
    return min((timer.due for timer in machine.timers if timer.due is not None), default=None)


# -- an event begins ---------------------------------------------------------------------------------------


def _handle(machine: Machine, event: Event, timers: tuple[Timer, ...] | None = None) -> Step:
    state, data = machine.state, machine.data
    machine = Machine(
        state,
        data,
        machine.state_enter,
        machine.named_states,
        Handling(event),
        machine.queue,
        machine.postponed,
        machine.timers if timers is None else timers,
    )
    return machine, (Run(event.type, event.content, state, data),)


def _expire(machine: Machine, now: float) -> Step:
    """Handle the time-out that was due first. The others, if due too, wake the machine again."""
    due = next_due(machine)
    if due is None or due > now:
        return machine, ()
    first = next(timer for timer in machine.timers if timer.due == due)
    return _handle(machine, Event(first.which, first.content), _without(machine.timers, first.which))


# -- a callback returned -----------------------------------------------------------------------------------


def _conclude(
    machine: Machine,
    event: Event | None,
    state: Any,
    data: Any,
    options: Options,
    result: Any,
    now: float,
    *,
    in_enter: bool,
) -> Step:
    """Do what a callback of `state` returned."""
    enter = False
    actions: Any
    match result:
        case NextState(to_state, data_, actions):
            enter = not is_same(state, to_state)
            if enter and in_enter:
                return _end_badly(machine, state, data, "bad_state_enter_return_from_state_function", result)
            if machine.named_states and not isinstance(to_state, str):
                return _end_badly(machine, state, data, "bad_return_from_state_function", result)
            state, data = to_state, data_
        case KeepState(data_, actions):
            data = data_
        case KeepStateAndData(actions):
            pass
        case RepeatState(data_, actions):
            data, enter = data_, True
        case RepeatStateAndData(actions):
            enter = True
        case Stop(reason, data_):
            return _at(machine, state, data if data_ is MISSING else data_), (End(reason),)
        case StopAndReply(reason, replies, data_):
            machine = _at(machine, state, data if data_ is MISSING else data_)
            return machine, _last_words(reason, _listed(replies))
        case _:
            return _end_badly(machine, state, data, "bad_return_from_state_function", result)
    return _act(machine, event, state, data, options, actions, now, enter=enter, in_enter=in_enter)


def _last_words(reason: Any, replies: list[Any]) -> tuple[Action, ...]:
    for number, reply in enumerate(replies):
        if not isinstance(reply, Reply) or not is_client(reply.client):
            bad = End(("bad_reply_action_from_state_function", reply), reply)
            return (*replies[:number], bad)
    return (*replies, End(reason))


def _act(
    machine: Machine,
    event: Event | None,
    state: Any,
    data: Any,
    options: Options,
    actions: Any,
    now: float,
    *,
    enter: bool,
    in_enter: bool,
) -> Step:
    """Take the actions in; then make the enter call if there is to be one, else the transition."""
    replies: list[Action] = []
    for action in _listed(actions):
        if isinstance(action, Reply) and is_client(action.client):
            replies.append(action)
            continue
        taken = _take(options, action, now)
        not_here = in_enter and isinstance(action, Postpone | NextEvent) and action != Postpone(False)
        if taken is None or not_here:
            word = "bad_state_enter_action_from_state_function" if not_here else "bad_action_from_state_function"
            ended, (end,) = _end_badly(machine, state, data, word, action)
            return ended, (*replies, end)
        options = taken
    if enter and machine.state_enter:
        entering = replace(machine, phase=Entering(event, state, data, options))
        return entering, (*replies, Run("enter", machine.state, state, data))
    moved, then = _transition(machine, event, state, data, options)
    return moved, (*replies, *then)


def _take(options: Options, action: Any, now: float) -> Options | None:
    """Note what an action other than a reply asks for; None when it is no action."""
    timer: Timer | Cancel | Update | None
    match action:
        case Postpone(bool() as postpone):
            return replace(options, postpone=postpone)
        case Hibernate(bool() as hibernate):
            return replace(options, hibernate=hibernate)
        case NextEvent(type_, content) if is_event_type(type_):
            return replace(options, inserted=(*options.inserted, Event(type_, content)))
        case StateTimeout(seconds, content, absolute):
            timer = _timer("state_timeout", seconds, content, now, absolute=absolute)
        case EventTimeout(seconds, content, absolute):
            timer = _timer("timeout", seconds, content, now, absolute=absolute)
        case Timeout(name, seconds, content, absolute):
            timer = _timer(("timeout", name), seconds, content, now, absolute=absolute)
        case (Cancel(which) | Update(which)) as wish if is_timeout(which):
            timer = wish
        case _:
            return None
    return None if timer is None else replace(options, timers=(*options.timers, timer))


def _timer(which: Any, seconds: Any, content: Any, now: float, *, absolute: bool) -> Timer | Cancel | None:
    if not is_due_time(seconds, absolute=absolute):
        return None
    if seconds is None or seconds == float("inf"):
        return Cancel(which)
    if seconds == 0:
        return Timer(which, None, content)
    return Timer(which, seconds if absolute else now + seconds, content)


def _transition(machine: Machine, event: Event | None, state: Any, data: Any, options: Options) -> Step:
    """Go to `state`; then handle the first of the queue, else the oldest time-out of no seconds, else wait."""
    postponed, queue = machine.postponed, machine.queue
    if options.postpone and event is not None:
        postponed = (*postponed, event)
    timers = _without(machine.timers, "timeout")
    if not is_same(machine.state, state):
        queue, postponed = (*postponed, *queue), ()
        timers = _without(timers, "state_timeout")
    queue = (*options.inserted, *queue)
    if options.timers:
        timers = _set(timers, options.timers)
    following: Event | None = None
    if queue:
        following, queue = queue[0], queue[1:]
    elif (zero := next((timer for timer in timers if timer.due is None), None)) is not None:
        following, timers = Event(zero.which, zero.content), _without(timers, zero.which)
    phase = _WAITING if following is None else Handling(following)
    settings = machine.state_enter, machine.named_states
    moved = Machine(state, data, *settings, phase, queue, postponed, timers, following is None and options.hibernate)
    return moved, () if following is None else (Run(following.type, following.content, state, data),)


def _set(timers: tuple[Timer, ...], asked: tuple[Timer | Cancel | Update, ...]) -> tuple[Timer, ...]:
    """Do what was asked of time-outs; of several wishes for the same one the last counts."""
    for number, wish in enumerate(asked):
        if any(later.which == wish.which for later in asked[number + 1 :]):
            continue
        match wish:
            case Timer():
                timers = (*_without(timers, wish.which), wish)
            case Cancel(which):
                timers = _without(timers, which)
            case Update(which, content):
                if any(timer.which == which for timer in timers):
                    timers = tuple(replace(one, content=content) if one.which == which else one for one in timers)
                else:
                    timers = (*timers, Timer(which, None, content))
            case _:
                assert_never(wish)
    return timers


def _without(timers: tuple[Timer, ...], which: Any) -> tuple[Timer, ...]:
    return tuple(timer for timer in timers if timer.which != which) if timers else timers


# -- ends --------------------------------------------------------------------------------------------------


def _end_badly(machine: Machine, state: Any, data: Any, word: str, value: Any) -> tuple[Machine, tuple[End]]:
    return _at(machine, state, data), (End((word, value), value),)


def _at(machine: Machine, state: Any, data: Any) -> Machine:
    return replace(machine, state=state, data=data, phase=Waiting())


def is_same(old: Any, new: Any) -> bool:
    """Say whether a machine stays where it is: an equal value of the same type, as 1 and True are not."""
    return type(old) is type(new) and bool(old == new)


def _listed(actions: Any) -> list[Any]:
    """Give actions as a list: one alone may stand for itself."""
    return list(actions) if isinstance(actions, list | tuple) else [actions]


__all__ = [
    "Arrived",
    "Begun",
    "End",
    "Event",
    "Machine",
    "Returned",
    "Run",
    "Woke",
    "next_due",
    "next_run",
    "step",
]
