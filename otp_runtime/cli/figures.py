"""Figures for people: samples to a percentile, a value to text. No process, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def percentile(samples: Iterable[float], percent: float) -> float:
    """Give the sample that `percent` of all samples do not exceed.

    >>> percentile(range(100), 99)
    99
    """
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def figure(value: float | None, unit: str) -> str:
    """Give a value with its unit, in three digits or so; "-" for None.

    >>> figure(12.345, "us"), figure(1234.5, "k/s"), figure(None, "us")
    ('12.3 us', '1,234 k/s', '-')
    """
    if value is None:
        return "-"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
