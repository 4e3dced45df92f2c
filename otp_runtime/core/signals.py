"""What an exit signal, a broken link or a late unlink does to a process.

OTP's table, for a receiver that is not the sender:

==================  ======================  =============================
signal              traps exits             does not trap exits
==================  ======================  =============================
exit, `"kill"`      dies, `"killed"`        dies, `"killed"`
exit, `"normal"`    message `Exit`          nothing
exit, other X       message `Exit`          dies with X
link, `"normal"`    message `Exit`          nothing
link, other X       message `Exit`          dies with X
==================  ======================  =============================

*exit* is a signal that somebody sent, *link* the end of a linked process. `"kill"` is special
only when it was sent: a process that ended with the reason `"kill"` breaks its links with
`"kill"`, which can be trapped, and one that was killed breaks them with `"killed"`. The
one thing a process can do to itself that nobody else can is to exit with `"normal"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "Decision",
    "Deliver",
    "Die",
    "Ignore",
    "on_exit_signal",
    "on_link_to_dead",
    "on_parent_exit",
]


@dataclass(frozen=True, slots=True)
class Die:
    """The process ends with `reason`."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Deliver:
    """The process gets an `Exit` message with the sender and the signal's reason."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing happens."""


Decision: TypeAlias = Die | Deliver | Ignore


def on_exit_signal(
    trap_exit: bool, reason: object, *, from_self: bool = False, kind: Literal["exit", "link"]
) -> Decision:
    """Decide what a signal does to a process.

    Args:
        trap_exit: Whether the receiver traps exits.
        reason: The reason the signal carries.
        from_self: Whether the receiver sent it to itself.
        kind: `"exit"` when it was sent, `"link"` when a linked process ended.
    """
    if kind == "exit" and _is(reason, "kill"):
        return Die("killed")
    if trap_exit:
        return Deliver()
    if _is(reason, "normal") and not (from_self and kind == "exit"):
        return Ignore()
    return Die(reason)


def on_parent_exit(trap_exit: bool, reason: object, *, kind: Literal["exit", "link"]) -> Decision:
    """Decide what an exit signal from the parent does to a behaviour (a GenServer and its kin).

    As for anybody else, but a behaviour that traps exits does not get the message: it stops
    with that reason, `"normal"` too, and its `terminate` runs first.
    """
    decision = on_exit_signal(trap_exit, reason, kind=kind)
    return Die(reason) if isinstance(decision, Deliver) else decision


def on_link_to_dead() -> Literal["noproc"]:
    """Give the reason that a link to a process that is gone breaks with at once.

    Whether the linker traps exits or not it gets an `Exit` message with it: OTP raises
    `noproc` in a linker that does not trap, a difference that only invites races.
    """
    return "noproc"


def _is(reason: object, word: str) -> bool:
    return isinstance(reason, str) and reason == word
