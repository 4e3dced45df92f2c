"""`python -m scripts.bench.check`: has anything become more than a quarter dearer than it was? Ratios, never times.

The ratios to compare with are in baseline.json. Every line is measured in several rounds, ours and the floor in turns,
and the best of each counts: other work on the machine only ever makes a round slower. A line that seems to have lost is
measured again, twice, before it is believed. Lines that vary by themselves are not guarded; the file names them. And
where others want all the cores there are, no round is free of them: then the verdict is that there is none.

    make bench-check                    compare; ends with 1 and names what was lost, with 3 when it cannot tell
    make bench-check ARGS=--update      write the file anew: after a change that is meant, on a quiet machine
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from otp_runtime.cli.bench.machine import Machine, others_runnable
from scripts.bench.budget import budget_of
from scripts.bench.guard import ALLOWED_LOSS, Baseline, Best, baseline_of, loss, losses, ratios, steady
from scripts.bench.measures import Measure, Rig
from scripts.bench.suite import SUITE, chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE = Path(__file__).with_name("baseline.json")
ROUNDS, QUICK_ROUNDS = 12, 4
SERIES = 5
AGAIN = 3
UNDECIDED = 3
ABSOLUTE = {"MB"}
"""Units of figures that are compared themselves: memory does not depend on what else runs."""
UNGUARDED = {
    "spin*": "a matter of rates and of the scheduler, not of one cost",
    "crowd*": "measured as start, stop and call already",
    "idle*": "has no floor, and takes seconds",
    "many": "measured as start, stop and call already",
    "call-durable": "waits for the disk",
    "call-rested": "waits for sleeping cores",
    "fan-in-4*": "which of many gets one of few cores is the scheduler's choice",
    "fan-in-16*": "which of many gets one of few cores is the scheduler's choice",
    "upgrade-pause": "the longest of many calls: whatever else ran is in it",
    "recycle-pause": "the longest of many calls: whatever else ran is in it",
    "import": "mostly what the system has of files in memory",
    "c-*": "the calls of call-*, beside another floor",
    "cast": "both cores without others, for tens of milliseconds: rare where there is other work",
    "cast-own-cores": "both cores without others, for tens of milliseconds: rare where there is other work",
    "array-10m-*": "takes numpy, and a core without others for tens of milliseconds",
    "echo-10m-*": "a core without others, for tens of milliseconds: rare where there is other work",
}


def main(arguments: list[str] | None = None, file: Path = FILE) -> int:
    options = _options(arguments)
    machine = Machine.here()
    print(machine)
    if options.update:
        return _update(file, machine, options.rounds)
    baseline = Baseline.read(file)
    guarded = [measure for measure in chosen(options.only) if measure.name in baseline.guarded]
    if not guarded:
        print(f"bench-check: nothing that is guarded begins with {' or '.join(options.only)}", file=sys.stderr)
        return 2
    with contextlib.closing(Rig(quick=True)) as rig:
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        bests, skipped = measured(rig, _with_floors(guarded), rounds)
        then = {measure.name: baseline.guarded[measure.name] for measure in guarded}
        others = 0.0
        for _ in range(AGAIN - 1):
            doubtful = losses(then, ratios(bests))
            if not doubtful:
                break
            others = others_runnable()
            bests, _ = measured(rig, _with_floors(m for m in guarded if m.name in doubtful), 2 * rounds, bests)
            others = max(others, others_runnable())
    crowded = others >= len(os.sched_getaffinity(0))
    return _tell(baseline, guarded, ratios(bests), skipped, whole=not options.only, crowded=crowded)


def _with_floors(measures: Iterable[Measure]) -> list[Measure]:
    """Add the lines whose floors these are compared with."""
    names = {name for measure in measures for name in (measure.name, steady(measure.name))}
    return [measure for measure in SUITE if measure.name in names]


def measured(
    rig: Rig, measures: Iterable[Measure], rounds: int, so_far: Mapping[str, Best] | None = None
) -> tuple[dict[str, Best], dict[str, str]]:
    """Measure in turns; give the best of each line, also of what was measured so far, and why others were not."""
    bests = dict(so_far or {})
    skipped = {measure.name: why for measure in measures if (why := measure.missing(rig))}
    for _ in range(rounds):
        for measure in measures:
            if measure.name in skipped:
                continue
            ours, floor = measure.round(rig)
            if measure.unit in ABSOLUTE:
                floor = [1.0]
            if not floor:
                skipped[measure.name] = "has no floor"
                continue
            now = Best(statistics.median(ours), statistics.median(floor))
            at_least = budget_of(measure.name).at_least
            bests[measure.name] = now.or_better(bests.get(measure.name), at_least=at_least)
    return bests, skipped


def _update(file: Path, machine: Machine, rounds: int | None) -> int:
    measures = [m for m in SUITE if not any(fnmatch.fnmatchcase(m.name, pattern) for pattern in UNGUARDED)]
    series = []
    skipped: dict[str, str] = {}
    for number in range(SERIES):
        print(f"series {number + 1} of {SERIES}", flush=True)
        with contextlib.closing(Rig(quick=True)) as rig:
            bests, skipped = measured(rig, measures, rounds or ROUNDS)
        series.append(ratios(bests))
    baseline = baseline_of(str(machine), series, UNGUARDED | skipped)
    baseline.write(file)
    print(f"bench-check: {len(baseline.guarded)} lines guarded, {len(baseline.left_out)} left out, in {file.name}")
    return 0


def _tell(
    baseline: Baseline,
    guarded: list[Measure],
    now: dict[str, float],
    skipped: dict[str, str],
    *,
    whole: bool,
    crowded: bool,
) -> int:
    lost = losses({measure.name: baseline.guarded[measure.name] for measure in guarded}, now)
    print(f"Ratios to the floor on one core, best of all rounds; the file is of {baseline.machine}.\n")
    width = max(len(measure.name) for measure in guarded)
    mark = "in doubt" if crowded else "LOST"
    for measure in guarded:
        name = measure.name
        if name in now:
            then, ratio = baseline.guarded[name], now[name]
            change = f"{loss(name, then, ratio):+5.0%}" + (f"  {mark}" if name in lost else "")
            print(f"{name:<{width}}  then {then:8.3f}  now {ratio:8.3f}  {change}")
    for name, why in skipped.items():
        print(f"{name:<{width}}  not measured: {why}")
    if whole:
        print(f"{'left out':<{width}}  {', '.join(baseline.left_out)}: why is in the file")
    unknown = baseline.guarded.keys() - {measure.name for measure in SUITE}
    if whole and unknown:
        print(f"\nbench-check: nobody measures {', '.join(sorted(unknown))} any more: --update", file=sys.stderr)
        return 1
    if not lost:
        print(f"\nbench-check: nothing lost more than {ALLOWED_LOSS:.0%}")
        return 0
    if crowded:
        text = f"{', '.join(lost)} may have lost, but others want all cores there are: try when it is quiet"
        print(f"\nbench-check: no verdict: {text}", file=sys.stderr)
        return UNDECIDED
    print(file=sys.stderr)
    for name, share in lost.items():
        then, ratio = baseline.guarded[name], now[name]
        print(f"bench-check: {name}: {then:.3f} of the floor then, {ratio:.3f} now, {share:.0%} worse", file=sys.stderr)
    return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.check", description="Compare ratios with a file.")
    parser.add_argument("--update", action="store_true", help="measure in several series and write the file")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds")
    parser.add_argument(
        "--only", metavar="NAME[,NAME]", type=lambda text: text.split(","), default=[], help="lines that begin so"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
