"""Samples to one line: ours, the floor's, and how they compare. No process, no clock."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otp_runtime.cli.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Line:
    """`ours` and `floor` are medians of all samples; `p99` is the worst hundredth: of a rate the least.

    `ratio` is the median of the rounds' ratios: what disturbs one round moves it little. `best` is our best round over
    the floor's. None where there is no floor.
    """

    ours: float
    ours_p99: float
    samples: int
    floor: float | None = None
    floor_p99: float | None = None
    ratio: float | None = None
    best: float | None = None
    ratio_p99: float | None = None


def compare(ours: Sequence[Sequence[float]], floor: Sequence[Sequence[float]] = (), *, at_least: bool = False) -> Line:
    """Compare the samples of each round: ours, and where there is one the floor's of the same round.

    `at_least`: more is better.

    >>> compare([[20.0], [900.0], [30.0]], [[10.0], [10.0], [10.0]]).ratio
    3.0
    """
    mine = [sample for samples in ours for sample in samples]
    mine_p99 = percentile(mine, 1 if at_least else 99)
    if not floor:
        return Line(statistics.median(mine), mine_p99, len(mine))
    bare = [sample for samples in floor for sample in samples]
    bare_p99 = percentile(bare, 1 if at_least else 99)
    medians = [statistics.median(samples) for samples in ours]
    bare_medians = [statistics.median(samples) for samples in floor]
    ratios = [a / b for a, b in zip(medians, bare_medians, strict=True)]
    best = max if at_least else min
    return Line(
        statistics.median(mine),
        mine_p99,
        len(mine),
        statistics.median(bare),
        bare_p99,
        statistics.median(ratios),
        best(medians) / best(bare_medians),
        mine_p99 / bare_p99,
    )
