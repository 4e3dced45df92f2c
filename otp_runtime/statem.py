"""What the callbacks of a `GenStateMachine` give and get (OTP's gen_statem): results, actions, event types.

An event has a type and a content. Its type is `Call(client)`, `"cast"`, `"info"`, `"internal"`, `"timeout"`,
`"state_timeout"`, `("timeout", name)`, or `"enter"`. A callback returns one of the results; their `actions` are one
action or a list of them.
"""

from otp_runtime.behaviours.returns import Ignore
from otp_runtime.core.statem_values import (
    Call,
    Cancel,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateTimeout,
    Stop,
    StopAndReply,
    Timeout,
    Update,
)

__all__ = [
    "Call",
    "Cancel",
    "EventTimeout",
    "Hibernate",
    "Ignore",
    "KeepState",
    "KeepStateAndData",
    "NextEvent",
    "NextState",
    "Ok",
    "Postpone",
    "RepeatState",
    "RepeatStateAndData",
    "Reply",
    "StateTimeout",
    "Stop",
    "StopAndReply",
    "Timeout",
    "Update",
]
