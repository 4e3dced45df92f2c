"""What a regression is: ratios then and now, a share that is lost. No process, no clock."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.bench.budget import budget_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ALLOWED_LOSS = 0.25
ALLOWED_SPREAD = 0.25
STEADY = "-one-core"
OTHERS = ("-own-cores", "-free")
"""Placements whose floor is mostly the waking of a core, which varies twofold from minute to minute."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the file holds: the ratios to compare with, and which lines are not guarded and why."""

    machine: str
    guarded: Mapping[str, float]
    left_out: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Baseline:
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["machine"], found["guarded"], found["left_out"])

    def write(self, path: Path) -> None:
        found: dict[str, Any] = {"machine": self.machine, "guarded": self.guarded, "left_out": self.left_out}
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Best:
    """The best round's median of ours and of the floor, which need not be of the same round."""

    ours: float
    floor: float

    def or_better(self, other: Best | None, *, at_least: bool) -> Best:
        if other is None:
            return self
        best = max if at_least else min
        return Best(best(self.ours, other.ours), best(self.floor, other.floor))


def steady(name: str) -> str:
    """Give the line whose floor a line is compared with: that of the same kind with both ends on one core."""
    for ending in OTHERS:
        if name.endswith(ending):
            return name.removesuffix(ending) + STEADY
    return name


def ratios(bests: Mapping[str, Best]) -> dict[str, float]:
    """Give each line's ratio to a floor that is steady, where that was measured."""
    return {name: best.ours / bests.get(steady(name), best).floor for name, best in bests.items()}


def loss(name: str, then: float, now: float) -> float:
    """Give which share of a ratio was lost: 0.25 is a quarter more to pay, or a fifth less handled; below 0: won."""
    return (then / now if budget_of(name).at_least else now / then) - 1


def losses(then: Mapping[str, float], now: Mapping[str, float], allowed: float = ALLOWED_LOSS) -> dict[str, float]:
    """Give the lines that lost more than is allowed, and how much; lines that were not measured have lost nothing."""
    found = {name: loss(name, ratio, now[name]) for name, ratio in then.items() if name in now}
    return {name: lost for name, lost in found.items() if lost > allowed}


def baseline_of(machine: str, series: Sequence[Mapping[str, float]], left_out: Mapping[str, str]) -> Baseline:
    """Make the file's content from several series: medians of what is steady; what is not is left out and said so."""
    guarded: dict[str, float] = {}
    noisy: dict[str, str] = {}
    for name in series[0]:
        of_it = [one[name] for one in series]
        spread = max(of_it) / min(of_it) - 1
        if spread > ALLOWED_SPREAD:
            noisy[name] = f"varied by {spread:.0%} in {len(of_it)} series on one machine"
        else:
            guarded[name] = round(statistics.median(of_it), 3)
    return Baseline(machine, guarded, {**left_out, **noisy})
