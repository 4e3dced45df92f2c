"""Which state is "last good": the decisions about kept states, as values.

A kept state is a *generation*: a number that grows, and the number of the generation it followed, its *parent*. There
is room for three: the last good one, the one before it, and the one being written::

        slot 0         slot 1         slot 2
      [ 7 after 6 ]  [ 5 after 4 ]  [ 6 after 5 ]      newest 7, its parent 6, the next goes into slot 1
      [ 7 after 6 ]  [ 8 after 7 ]  [ 6 after 5 ]      newest 8, its parent 7, the next goes into slot 2

A server that dies again and again before one callback returned has, it seems, a state that kills it. After as many
deaths as it may have it goes one generation back, and after as many more it starts fresh. How far back it is and how
many deaths it had there is its *streak*, which ends when a callback has returned *and* the state that it gave is
kept. So a server that went back and builds on generation 6 writes 8 after 6; 7, which killed it, is nobody's parent,
and until 8 is there the streak says that 7 is not to be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from otp_runtime.core.keep import Every

if TYPE_CHECKING:
    from otp_runtime.core.keep import Commit, Restore

SLOTS: Final = 3
FRESH_LEVEL: Final = 2

UNUSED, IN_USE, RETURNED = range(3)
"""How far a server got with the state it was given: nowhere yet, it has it, a callback returned since."""


class Slot(NamedTuple):
    """What a slot holds: generation 0 is none."""

    generation: int = 0
    parent: int = 0


Slots: TypeAlias = tuple[Slot, Slot, Slot]
EMPTY: Final[Slots] = (Slot(), Slot(), Slot())


def newest_of(slots: Slots) -> int:
    """Give the newest generation, 0 when there is none."""
    return max(slots)[0]


# -- writing -----------------------------------------------------------------------------------------------

Turns: TypeAlias = "tuple[int, int, int, int, int]"
"""What the next write is: its generation, its parent, its slot; then the slots of the two writes after it."""


def turns_of(slots: Slots, current: int) -> Turns:
    """Say what a server that builds on generation `current` (0: on none) writes next, and where.

    Neither the newest generation is overwritten, as a server killed in the middle of the writing comes back with it;
    nor the current one; nor, where they are the same, the one before.
    """
    newest = max(slots)
    spared = {newest[0], current, newest[1] if newest[0] == current else 0} - {0}
    free, *others = sorted(range(SLOTS), key=lambda at: (slots[at][0] in spared, slots[at][0]))
    # the current one is overwritten last: it is the parent of the one to be
    second, third = sorted(others, key=lambda at: (slots[at][0] == current != 0, slots[at][0]))
    return newest[0] + 1, current, free, second, third


def turn(turns: Turns) -> Turns:
    """Give what comes after the next write: it is the newest and the current one by then.

    A plain tuple, made after every callback of a server that keeps its state.
    """
    generation, _parent, slot, second, third = turns
    return generation + 1, generation, second, third, slot


# -- restoring ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Streak:
    """How many generations back a server is, and how often it died there without one callback having returned."""

    level: int = 0
    crashes: int = 0

    def to_int(self) -> int:
        """Give it as a number that fits into eight bytes."""
        return self.level << 32 | self.crashes

    @classmethod
    def from_int(cls, number: int) -> Streak:
        """Read what `to_int` gave."""
        return cls(number >> 32, number & 0xFFFFFFFF)

    def after_crash(self) -> Streak:
        """Give the streak after one more such death."""
        return Streak(self.level, self.crashes + 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to start from: the slots to be tried in this order, none for a fresh state.

    `step` says what is to be reported: "previous" when the server goes a generation back, "fresh" when it gives up
    what is kept.
    """

    slots: tuple[int, ...]
    streak: Streak
    step: Literal["", "previous", "fresh"] = ""


def choose(restore: Restore, slots: Slots, streak: Streak, limit: int) -> Choice:
    """Choose the state that a server starts with, after `streak`; `limit` is its `max_state_crashes`."""
    if restore == "fresh" or not newest_of(slots):
        return Choice((), streak)
    stepped = streak.crashes >= limit and streak.level < FRESH_LEVEL
    if stepped:
        streak = Streak(streak.level + 1)
    back = streak.level + (restore == "previous")
    candidates = () if streak.level >= FRESH_LEVEL else _line(slots)[back:]
    step: Literal["", "previous", "fresh"] = ""
    if stepped:
        step = "previous" if candidates else "fresh"
    return Choice(candidates, streak, step)


def _line(slots: Slots) -> tuple[int, ...]:
    """Give the slots of the newest generation and those before it, newest first."""
    where = {slot.generation: at for at, slot in enumerate(slots) if slot.generation}
    line = []
    generation = newest_of(slots)
    while generation in where:
        line.append(where.pop(generation))
        generation = slots[line[-1]].parent
    return tuple(line)


# -- committing --------------------------------------------------------------------------------------------


def is_due(commit: Commit, callbacks: int, seconds: float) -> bool:
    """Whether to commit, `callbacks` returned and `seconds` after the last time."""
    match commit:
        case "every":
            return True
        case "manual":
            return False
        case Every(count=int(count)):
            return callbacks >= count
        case Every(seconds=wait):
            return wait is not None and seconds >= wait


__all__ = [
    "EMPTY",
    "IN_USE",
    "RETURNED",
    "SLOTS",
    "UNUSED",
    "Choice",
    "Slot",
    "Slots",
    "Streak",
    "Turns",
    "choose",
    "is_due",
    "newest_of",
    "turn",
    "turns_of",
]
