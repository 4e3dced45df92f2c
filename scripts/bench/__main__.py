"""`python -m scripts.bench`: measure, print, and end with 1 when something costs more than it may."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import sys
from typing import Any

from scripts.bench.measures import MEASURES, Measure, Rig, chosen, load_before
from scripts.bench.report import Row, make_row, table

ROUNDS, QUICK_ROUNDS = 32, 3
NOISY_PERCENT = 10


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    measures = chosen(options.only)
    if not measures:
        names = ", ".join(measure.name for measure in MEASURES)
        print(f"bench: no measure is named {' or '.join(options.only)}; there are {names}", file=sys.stderr)
        return 2
    machine = _machine()
    rows = run(measures, options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS), quick=options.quick)
    failed = [row.name for row in rows if row.verdict == "fail"]
    if options.json:
        print(json.dumps({"machine": machine, "rows": [row.to_dict() for row in rows]}, indent=2))
    else:
        _print(machine, rows, failed)
    return int(bool(failed))


def run(measures: list[Measure], rounds: int, *, quick: bool) -> list[Row]:
    """Measure in rounds, each measure in turn, and give a row for each."""
    logging.getLogger("otp_runtime").setLevel(logging.CRITICAL)  # each kill would be reported
    taken: dict[str, tuple[list[Any], list[Any]]] = {measure.name: ([], []) for measure in measures}
    with contextlib.closing(Rig(quick=quick)) as rig:
        possible = [measure for measure in measures if rig.have_cores(measure.cores)]
        for number in range(rounds):
            for measure in possible:
                if number % measure.every == 0:
                    ours, floor = measure.round(rig)
                    taken[measure.name][0].append(ours)
                    taken[measure.name][1].append(floor)
    return [
        make_row(measure.name, measure.what, measure.unit, ours, floor if floor[0] else ())
        for measure in possible
        for ours, floor in [taken[measure.name]]
    ]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench",
        description="Measure on this machine, as ratios to bare processes and pipes.",
        epilog="Measures: " + ", ".join(measure.name for measure in MEASURES),
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run, is it far off?")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="measures that begin so; repeatable"
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_positive, help=f"rounds (default {ROUNDS}, quick {QUICK_ROUNDS})"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "busy_percent": round(load_before(), 1),
    }


def _print(machine: dict[str, Any], rows: list[Row], failed: list[str]) -> None:
    print(f"{machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}", end="")
    print(f"; {machine['busy_percent']} % busy with other work" if machine["busy_percent"] >= NOISY_PERCENT else "")
    print("Ratios to the floor: median of the rounds' ratios, best round / best round, p99 / p99.\n")
    print(table(rows))
    print(f"\nbench: over budget: {', '.join(failed)}" if failed else "\nbench: all within budget")


if __name__ == "__main__":
    sys.exit(main())
