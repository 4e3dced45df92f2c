"""What the callbacks of a state machine give and get: results, actions and event types.

Public as `otp_runtime.statem`. An event has a type and a content; its type is one of

    Call(client)   "cast"   "info"   "internal"   "timeout"   "state_timeout"   ("timeout", name)   "enter"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otp_runtime.core.child_spec import is_seconds
from otp_runtime.core.missing import MISSING

# -- event types -------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class Call:
    """The type of an event that is a call; `client` is who waits for a `Reply`."""

    client: Any


def is_timeout(which: object) -> bool:
    """Say whether `which` names a time-out: `"timeout"`, `"state_timeout"` or `("timeout", name)`."""
    if isinstance(which, str):
        return which in {"timeout", "state_timeout"}
    return isinstance(which, tuple) and len(which) == 2 and which[0] == "timeout"


def is_event_type(type_: object) -> bool:
    """Say whether an event may have this type: any but `"enter"`, which is no event."""
    if isinstance(type_, Call):
        return is_client(type_.client)
    return (isinstance(type_, str) and type_ in {"cast", "info", "internal"}) or is_timeout(type_)


def is_client(client: object) -> bool:
    """Say whether a reply can be sent to `client`."""
    return hasattr(client, "pid") and hasattr(client, "serial")


# -- results -----------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class Ok:
    """From `init`: the first state, the data, and actions to do before the first event."""

    state: Any
    data: Any = None
    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class NextState:
    """Go to `state`. If it is another one, postponed events are retried and the state time-out is cancelled."""

    state: Any
    data: Any
    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class KeepState:
    """Stay, with new data."""

    data: Any
    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class KeepStateAndData:
    """Stay, with the data there is."""

    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class RepeatState:
    """As `KeepState`, with the enter call once more: for a machine with `state_enter`."""

    data: Any
    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class RepeatStateAndData:
    """As `KeepStateAndData`, with the enter call once more."""

    actions: Any = ()


@dataclass(slots=True, unsafe_hash=True)
class Stop:
    """End the machine with `reason`; `terminate` runs. Without `data` the last one is kept."""

    reason: Any = "normal"
    data: Any = MISSING


@dataclass(slots=True, unsafe_hash=True)
class StopAndReply:
    """As `Stop`; first `replies` are sent, one `Reply` or several."""

    reason: Any
    replies: Any = ()
    data: Any = MISSING


# -- actions -----------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class Reply:
    """Reply `value` to the call that `client` waits for."""

    client: Any
    value: Any = None


@dataclass(slots=True, unsafe_hash=True)
class Postpone:
    """Put the event in hand aside and retry it after the next change of state. `Postpone(False)` takes it back."""

    postpone: bool = True


@dataclass(slots=True, unsafe_hash=True)
class NextEvent:
    """Handle this event next, before all that are queued; several keep their order."""

    event: Any
    content: Any = None


@dataclass(slots=True, unsafe_hash=True)
class StateTimeout:
    """In `seconds`, an event `"state_timeout"`, unless the state changes before.

    0: after the events that are queued inside the machine, before any that comes from outside. None: cancel.
    `absolute`: `seconds` is a time of `time.monotonic()`.
    """

    seconds: float | None
    content: Any = None
    absolute: bool = False


@dataclass(slots=True, unsafe_hash=True)
class EventTimeout:
    """In `seconds`, an event `"timeout"`, unless any other event comes before. Fields as in `StateTimeout`."""

    seconds: float | None
    content: Any = None
    absolute: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Timeout:
    """In `seconds`, an event `("timeout", name)`, whatever comes before. Fields as in `StateTimeout`.

    A machine may have any number, by name; the same name again replaces the running one.
    """

    name: Any
    seconds: float | None
    content: Any = None
    absolute: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Cancel:
    """Cancel a time-out: `"state_timeout"`, `"timeout"` or `("timeout", name)`. Nothing happens when none runs."""

    which: Any


@dataclass(slots=True, unsafe_hash=True)
class Update:
    """Give a running time-out another content, at the time it has; when none runs, it is due at once."""

    which: Any
    content: Any = None


@dataclass(slots=True, unsafe_hash=True)
class Hibernate:
    """Free what memory can be freed while the machine waits for its next event. `Hibernate(False)` takes it back."""

    hibernate: bool = True


def is_due_time(seconds: object, *, absolute: bool) -> bool:
    """Say whether `seconds` can be the time of a time-out: a number, not negative if relative; None for never."""
    if seconds is None:
        return True
    if absolute:
        return isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds == seconds  # noqa: PLR0124
    return is_seconds(seconds) or seconds == float("inf")
