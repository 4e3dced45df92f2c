"""When an interval ticks: counted from its first tick, so that a late one makes none later.

>>> ticks_due(first=10.0, interval=2.0, fired=1, now=15.0)
(2, 16.0)
"""

from __future__ import annotations

import math

__all__ = ["CATCH_UP_TICKS", "ticks_due"]

CATCH_UP_TICKS = 1000
"""How many missed ticks are made up for at once; of a process that slept longer the earlier ones are lost."""


def ticks_due(first: float, interval: float, fired: int, now: float) -> tuple[int, float]:
    """Give how many ticks are due at `now`, of which `fired` were before, and the time of the next.

    Tick number n (from 0) is due at `first + n * interval`.
    """
    reached = max(fired, math.floor((now - first) / interval) + 1)
    # what the division rounds must not give a next tick that lies in the past: that would be an endless loop
    while first + reached * interval <= now:
        reached += 1
    return reached - fired, first + reached * interval
