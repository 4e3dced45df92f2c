"""What becomes of a server's messages when it dies: the options, and the decision about the message in hand.

    mailbox     "transient" (what waited is lost, as in OTP) or "durable" (the successor handles it)
    redeliver   of a durable one: how often the message in hand at a death is tried again before it is a dead letter

>>> check_mailbox({"redeliver": 1})
Traceback (most recent call last):
    ...
otp_runtime.errors.BadChildSpec: bad child spec: redeliver=1; allowed: 0 without mailbox='durable'
>>> fate_of(Hand(tries=0), redeliver=1), fate_of(Hand(tries=1), redeliver=1)
(<Fate.AGAIN: 'again'>, <Fate.DEAD: 'dead'>)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from otp_runtime.errors import BadChildSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

Mailbox: TypeAlias = Literal["transient", "durable"]

MAILBOXES: Final = ("transient", "durable")
OPTIONS: Final = ("mailbox", "redeliver")
"""The options of a start or a child spec that say what becomes of messages."""

TRANSIENT: Final = "transient"
DURABLE: Final = "durable"


def is_durable(options: Mapping[str, Any]) -> bool:
    """Say whether checked `options` ask for a mailbox that outlives its server."""
    return bool(options.get("mailbox", TRANSIENT) == DURABLE)


def check_mailbox(options: Mapping[str, Any]) -> None:
    """Raise `BadChildSpec` with the first of these options that is wrong."""
    mailbox = options.get("mailbox", TRANSIENT)
    if not isinstance(mailbox, str) or mailbox not in MAILBOXES:
        raise BadChildSpec("mailbox", mailbox, " or ".join(map(repr, MAILBOXES)))
    redeliver = options.get("redeliver", 0)
    if not isinstance(redeliver, int) or isinstance(redeliver, bool) or redeliver < 0:
        raise BadChildSpec("redeliver", redeliver, "an integer of 0 or more")
    if redeliver and mailbox != DURABLE:
        raise BadChildSpec("redeliver", redeliver, "0 without mailbox='durable'")


class Fate(enum.Enum):
    """What becomes of the message that a server had in hand when it died."""

    HANDLED = "handled"
    AGAIN = "again"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Hand:
    """The message that was in hand: how often it was tried again, and what is known of it.

    `is_committed`: the state that its callback gave was kept, so it counts as handled. `is_call`: somebody waited for
    an answer; `is_awaited`: and waits on, as the call was made with `across_restart=True`.
    """

    tries: int = 0
    is_committed: bool = False
    is_call: bool = False
    is_awaited: bool = False


def fate_of(hand: Hand, redeliver: int) -> Fate:
    """Decide. A call whose caller was told of the death is not tried again: nobody would hear the answer.

    One whose caller waits on is tried once even without `redeliver`: `across_restart` allows that.
    """
    if hand.is_committed:
        return Fate.HANDLED
    allowed = redeliver
    if hand.is_call:
        allowed = max(redeliver, 1) if hand.is_awaited else 0
    return Fate.AGAIN if hand.tries < allowed else Fate.DEAD
