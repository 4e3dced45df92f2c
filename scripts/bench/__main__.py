"""`python -m scripts.bench`: measure, print, and end with 1 when something costs more than it may."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from otp_runtime.cli.bench.machine import Machine
from otp_runtime.cli.bench.measures import take
from scripts.bench.markdown import page_tables, put
from scripts.bench.measures import Measure, Rig
from scripts.bench.plot import svg
from scripts.bench.report import Row, make_row, sections
from scripts.bench.suite import SECTIONS, SUITE, chosen

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUNDS, QUICK_ROUNDS = 32, 3


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    measures = chosen(options.only)
    strange = [name for name in options.only if not chosen([name])]
    if strange:
        names = ", ".join(measure.name for measure in SUITE)
        print(f"bench: no measure is named {' or '.join(strange)}; there are {names}", file=sys.stderr)
        return 2
    machine = Machine.here()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    rows, skipped = run(measures, rounds, quick=options.quick)
    missed = [row.name for row in rows if row.verdict == "misses"]
    if options.plot:
        points = {measure.name: measure.point for measure in measures}
        Path(options.plot).write_text(svg(machine, rows, points), encoding="utf-8")
    if options.page:
        page = Path(options.page)
        page.write_text(put(page.read_text(encoding="utf-8"), "bench", page_tables(machine, rows, skipped)), "utf-8")
    if options.json:
        result = {"machine": machine.to_dict(), "rows": [row.to_dict() for row in rows], "skipped": skipped}
        print(json.dumps(result, indent=2))
    elif options.markdown:
        print(page_tables(machine, rows, skipped))
    else:
        _print(machine, rows, skipped, missed)
    return int(bool(missed))


def run(measures: Iterable[Measure], rounds: int, *, quick: bool) -> tuple[list[Row], dict[str, str]]:
    """Measure in rounds, each measure in turn. Give a row for each, and why the others were not taken."""
    with contextlib.closing(Rig(quick=quick)) as rig:
        skipped = {measure.name: why for measure in measures if (why := measure.missing(rig))}
        possible = [measure for measure in measures if measure.name not in skipped]
        taken = take(rig, possible, rounds)
    rows = [
        make_row(measure.name, measure.what, measure.unit, ours, floor if floor[0] else ())
        for measure in possible
        for ours, floor in [taken[measure.name]]
    ]
    return rows, skipped


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench",
        description="Measure on this machine, as ratios to bare processes and pipes.",
        epilog="Measures: " + ", ".join(measure.name for measure in SUITE),
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run, is it far off?")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print the tables of docs/guide/performance.md")
    parser.add_argument("--page", metavar="FILE", help="also put those tables between the marks of a page")
    parser.add_argument("--plot", metavar="FILE", help="also write pictures of cost against scale, as SVG")
    parser.add_argument(
        "--only",
        metavar="NAME[,NAME]",
        action="extend",
        type=_names,
        default=[],
        help="measures that begin so; repeatable",
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_positive, help=f"rounds (default {ROUNDS}, quick {QUICK_ROUNDS})"
    )
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _print(machine: Machine, rows: list[Row], skipped: dict[str, str], missed: list[str]) -> None:
    print(machine)
    print("Ratios to the floor: median of the rounds' ratios, best round / best round, p99 / p99.")
    print(sections({title: [measure.name for measure in section] for title, section in SECTIONS.items()}, rows))
    for why in sorted(set(skipped.values())):
        print(f"\nnot measured, {why}: {', '.join(name for name, reason in skipped.items() if reason == why)}")
    print(f"\nbench: misses what it must cost: {', '.join(missed)}" if missed else "\nbench: all holds")


if __name__ == "__main__":
    sys.exit(main())
