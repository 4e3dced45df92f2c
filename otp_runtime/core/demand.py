"""Whether one more process is likely to be started soon: a pure decision from the times of those before.

Starts come in rows: a server that died once dies again, a program that started two processes starts a third. So the
second start within `WINDOW_SECONDS` makes one more expected, for as long; a single one, however late, does not.

>>> from functools import reduce
>>> [is_expected(reduce(started, times, NONE), now=10.0) for times in ([9.0], [8.0, 9.0], [1.0, 9.0])]
[False, True, False]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["NONE", "WINDOW_SECONDS", "Demand", "is_expected", "started"]

WINDOW_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Demand:
    """When the last process was started, and until when one more is expected (monotonic seconds)."""

    last: float = -math.inf
    until: float = -math.inf


NONE: Final = Demand()


def started(demand: Demand, now: float) -> Demand:
    """Take in that a process was started `now`."""
    return Demand(now, now + WINDOW_SECONDS if now - demand.last < WINDOW_SECONDS else demand.until)


def is_expected(demand: Demand, now: float) -> bool:
    """Say whether one more is expected."""
    return now < demand.until
