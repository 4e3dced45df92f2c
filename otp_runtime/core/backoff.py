"""How long a supervisor waits before it starts a child again that keeps ending.

The n-th restart in a row waits `first * factor ** (n - 1)` seconds, but at most `cap`, and up to the fraction `jitter`
of that more or less:

>>> [round(wait_before(Backoff(first=0.1, factor=2.0, cap=1.0, jitter=0.0), "db", n), 3) for n in range(1, 7)]
[0.1, 0.2, 0.4, 0.8, 1.0, 1.0]

Restarts are *in a row* while the child does not live for `cap` seconds, the longest wait; a child that did begins
again at `first`. So one that crashes again and again waits at least half of the time in the end, however long it takes
to crash.

Nothing here is random: what the jitter makes of a wait is a hash of (seed, child id, n), so the same specification
waits the same. Who gives no seed gets one, drawn where the specification is handed to a supervisor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["FIRST", "Backoff", "Streak", "next_wait", "wait_before"]

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a supervisor waits before the restarts of a child: `backoff=` of a child spec.

    Making one checks nothing; whatever hands it to a supervisor does.

    Attributes:
        first: Seconds before the first restart in a row; above 0.
        factor: What each wait is multiplied with for the next; 1.0 or more.
        cap: Seconds that no wait exceeds (but for the jitter), `first` or more. A child that has lived that long
            begins again at `first`.
        jitter: The fraction of a wait that is added or taken away, from 0.0 to 1.0, so that many children that fell
            together do not come back together.
        seed: An integer that decides the jitter; None: one is drawn when the child is given to its supervisor.
    """

    first: float = 0.1
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Streak:
    """How a child has fared: `restarts` of it in a row, and `since` when its process runs (monotonic seconds)."""

    restarts: int = 0
    since: float = 0.0


FIRST: Final = Streak()
"""Of a child that has not been restarted."""


def next_wait(backoff: Backoff | None, streak: Streak, child_id: Any, died_at: float | None) -> tuple[Streak, float]:
    """Give the streak with one more restart in it, and the seconds that it waits.

    `died_at` is when the process ended; None when it did not even start.
    """
    if backoff is None:
        return streak, 0.0
    is_over = died_at is not None and died_at - streak.since >= backoff.cap
    restarts = 1 if is_over else streak.restarts + 1
    return Streak(restarts, streak.since), wait_before(backoff, child_id, restarts)


def wait_before(backoff: Backoff, child_id: Any, restarts: int) -> float:
    """Give the seconds before restart number `restarts` in a row."""
    try:
        wait = min(backoff.cap, backoff.first * backoff.factor ** (restarts - 1))
    except OverflowError:
        wait = backoff.cap
    if backoff.jitter == 0:
        return float(wait)
    return wait * (1 + backoff.jitter * (2 * _fraction(f"{backoff.seed}/{child_id!r}/{restarts}") - 1))


def _fraction(text: str) -> float:
    """Give a number from 0 to 1 that looks random and is decided by `text`: FNV-1a, then splitmix64's last steps."""
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = (number ^ byte) * 0x100000001B3 & _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return (number ^ number >> 31) / _MASK
