"""When an OS parent looks at a child, when it takes a sample, and when it recycles: decisions without a clock.

    look     reads what the child's box counts: has it worked since? Costs a few microseconds
    sample   reads what the child and its subprocesses use. Costs some tens
    recycle  a child above its soft limit goes on in a fresh OS process

A child that works is sampled at each look, one that does not only now and then, and the longer nothing happens, the
rarer are the looks: an idle node hardly wakes. A child with limits is looked at more often; the nearer it comes to one,
the sooner again.

>>> from otp_runtime.core.limits import Usage
>>> pulse, is_sampled = looked(begin(IDLY, 0.0), handled=7, is_busy=False, now=1.0)
>>> is_sampled, pulse.due
(True, 2.0)
>>> pulse = sampled(pulse, Usage(rss=9 << 20, cpu=0.2), None, now=1.0)
>>> pulse, is_sampled = looked(pulse, handled=7, is_busy=False, now=2.0)
>>> is_sampled, pulse.due
(False, 4.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from otp_runtime.core.limits import Bounds, Usage

SOONEST_SECONDS: Final = 0.02
MOVED_CPU_SECONDS: Final = 0.05
MOVED_RSS_BYTES: Final = 1 << 20


class Pace(NamedTuple):
    """How often a child is looked at: while it works, at most while it does not, and sampled at least."""

    fastest: float
    slowest: float
    idle_sample: float
    counts: bool = True
    """Whether its box counts what it handles; else only its CPU time tells that it works."""


IDLY: Final = Pace(1.0, 4.0, 30.0)
LIMITED: Final = Pace(0.125, 0.5, 4.0)
UNCOUNTED: Final = Pace(1.0, 30.0, 0.0, counts=False)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One child, as far as its samples go: when it is due, and what was seen last."""

    pace: Pace
    due: float
    period: float
    handled: int = 0
    sampled_at: float = -math.inf
    rss: int = 0
    cpu: float = 0.0
    was_busy: bool = False
    """Whether a callback ran, which has been counted and may since have done more."""

    has_moved: bool = False
    """Whether the last sample told of work that the box does not count: of a thread, of a subprocess."""


def begin(pace: Pace, now: float) -> Pulse:
    """Begin with a child that has just started."""
    return Pulse(pace, _next(pace.fastest, now), pace.fastest)


def looked(pulse: Pulse, *, handled: int, is_busy: bool, now: float) -> tuple[Pulse, bool]:
    """Decide after a look: when the next one is due, and whether a sample is taken now."""
    pace = pulse.pace
    has_worked = is_busy or pulse.was_busy or pulse.has_moved or handled != pulse.handled
    period = pace.fastest if has_worked else min(pulse.period * 2, pace.slowest)
    is_sampled = has_worked or now >= pulse.sampled_at + pace.idle_sample
    return replace(pulse, handled=handled, was_busy=is_busy, period=period, due=_next(period, now)), is_sampled


def sampled(pulse: Pulse, usage: Usage, bounds: Bounds | None, now: float) -> Pulse:
    """Decide after a sample: what moves is looked at soon again, and the sooner the nearer it is to a limit.

    >>> from otp_runtime.core.limits import Bounds, Usage
    >>> before = Pulse(LIMITED, due=10.25, period=0.25, sampled_at=9.9, rss=100)
    >>> round(sampled(before, Usage(rss=200, cpu=0.0), Bounds(rss_soft=300), now=10.0).due, 3)
    10.05
    """
    period, due = pulse.period, pulse.due
    has_moved = (
        usage.cpu - pulse.cpu >= MOVED_CPU_SECONDS or abs(usage.rss - pulse.rss) >= MOVED_RSS_BYTES
    ) and pulse.sampled_at > -math.inf
    if has_moved:
        period = pulse.pace.fastest
        due = min(due, _next(period, now))
    if bounds is not None:
        due = min(due, now + max(SOONEST_SECONDS, _seconds_left(pulse, usage, bounds, now)))
    return replace(pulse, due=due, period=period, sampled_at=now, rss=usage.rss, cpu=usage.cpu, has_moved=has_moved)


def _seconds_left(pulse: Pulse, usage: Usage, bounds: Bounds, now: float) -> float:
    """Give half the time in which the child passes its next limit, if it grows as it has since the last sample."""
    passed = now - pulse.sampled_at
    left = math.inf
    if 0 < passed < math.inf:
        for used, before, limit in (
            (usage.rss, pulse.rss, bounds.rss_soft),
            (usage.rss, pulse.rss, bounds.rss_hard),
            (usage.cpu, pulse.cpu, bounds.cpu_seconds),
        ):
            if used > before and limit > used:
                left = min(left, (limit - used) * passed / (used - before) / 2)
    return left


def _next(period: float, now: float) -> float:
    """Looks fall on multiples of their period, so that one waking sees to many children."""
    return math.floor((now + period) / period) * period


# -- recycling ----------------------------------------------------------------------------------------------

FIRST_WAIT_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Recycling:
    """What came of a child's recycles so far: `wait` is the pause after one that was in vain, longer each time."""

    is_under_way: bool = False
    not_before: float = -math.inf
    wait: float = 0.0


def should_recycle(state: Recycling, bounds: Bounds, usage: Usage, now: float) -> bool:
    """Say whether a child is to be recycled now."""
    return 0 < bounds.rss_soft < usage.rss and not state.is_under_way and now >= state.not_before


def recycled(state: Recycling, *, has_helped: bool, now: float) -> Recycling:
    """Take in how a recycle went: one that was refused, or left the child above its limit, is not tried again soon.

    >>> once = recycled(Recycling(is_under_way=True), has_helped=False, now=0.0)
    >>> once.not_before, recycled(once, has_helped=False, now=60.0).not_before
    (60.0, 180.0)
    """
    if has_helped:
        return Recycling()
    wait = min(max(FIRST_WAIT_SECONDS, state.wait * 2), LONGEST_WAIT_SECONDS)
    return Recycling(not_before=now + wait, wait=wait)


__all__ = [
    "IDLY",
    "LIMITED",
    "UNCOUNTED",
    "Pace",
    "Pulse",
    "Recycling",
    "begin",
    "looked",
    "recycled",
    "sampled",
    "should_recycle",
]
