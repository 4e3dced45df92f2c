"""System events: what a server tells of its doings while somebody debugs it, and how that reads.

Events are tuples, as in OTP's `sys`:

    ("in", message)                     a message goes to a callback; a call is ("$gen_call", client, request), a cast
                                        ("$gen_cast", request), anything else is the message itself
    ("continue", term)                  a callback returned `continue_=term`
    ("out", value, client, state)       a reply was sent, and the state after it
    ("noreply", state)                  a callback returned without a reply
    ("terminate", reason, state)        the server ends; its `terminate` runs next

A behaviour may have others; they begin with a word too.

>>> describe("counter", parts(("in", ("$gen_cast", "inc"))))
"counter got cast 'inc'"
>>> describe("counter", parts(("noreply", 42)))
'counter new state 42'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["SHOWN_CHARS", "Event", "Statistics", "describe", "parts", "shown"]

Event: TypeAlias = tuple[Any, ...]

SHOWN_CHARS = 2000
"""How much of one term is shown."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a server did since its statistics were turned on; times are seconds since the epoch.

    `cpu_seconds` stands where OTP counts reductions. Replies count as `messages_out`.
    """

    start_time: float
    current_time: float
    cpu_seconds: float
    messages_in: int
    messages_out: int


def parts(event: Event) -> dict[str, Any]:
    """Take an event apart: "event" is its word; "kind", "message", "client", "state" … where it has them."""
    match event:
        case ("in", ("$gen_call", client, request)):
            return {"event": "in", "kind": "call", "message": request, "client": getattr(client, "pid", client)}
        case ("in", ("$gen_cast", request)):
            return {"event": "in", "kind": "cast", "message": request}
        case ("in", message):
            return {"event": "in", "kind": "info", "message": message}
        case ("continue", term):
            return {"event": "continue", "message": term}
        case ("out", value, client, state):
            return {"event": "out", "reply": value, "client": getattr(client, "pid", client), "state": state}
        case ("noreply", state):
            return {"event": "noreply", "state": state}
        case ("terminate", reason, state):
            return {"event": "terminate", "reason": reason, "state": state}
        case (str(word), *rest):
            return {"event": word, "message": tuple(rest)}
        case _:
            return {"event": "event", "message": event}


def describe(server: str, said: dict[str, Any]) -> str:
    """Say in one line what happened, from an event's parts."""
    match said:
        case {"event": "in", "kind": "call", "message": request, "client": client}:
            return f"{server} got call {shown(request)} from {shown(client)}"
        case {"event": "in", "kind": "cast", "message": request}:
            return f"{server} got cast {shown(request)}"
        case {"event": "in", "message": message}:
            return f"{server} got {shown(message)}"
        case {"event": "continue", "message": term}:
            return f"{server} continues with {shown(term)}"
        case {"event": "out", "reply": value, "client": client, "state": state}:
            return f"{server} sent {shown(value)} to {shown(client)}, new state {shown(state)}"
        case {"event": "noreply", "state": state}:
            return f"{server} new state {shown(state)}"
        case {"event": "terminate", "reason": reason, "state": state}:
            return f"{server} ends: {shown(reason)}, state {shown(state)}"
        case _:
            return f"{server} {said['event']} {shown(said['message'])}"


def shown(value: Any) -> str:
    """Give a `repr` that fits a line and never raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not end the server that is looked at
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"
