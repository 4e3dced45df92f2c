"""`otp bench`: a few measures in some seconds, in a node of its own that no other command sees."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output
from otp_runtime.cli.bench.machine import Machine
from otp_runtime.cli.bench.measures import MEASURES, RATES, Rig, take
from otp_runtime.cli.bench.rows import compare
from otp_runtime.cli.failures import DONE, CommandError
from otp_runtime.cli.figures import figure
from otp_runtime.errors import OtpError
from otp_runtime.process.node import Node
from otp_runtime.testing.nodes import private_directory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otp_runtime.cli.bench.measures import Measure, Taken
    from otp_runtime.cli.bench.rows import Line

ROUNDS_LEAST = 3
NODE = "bench"


def measure(options: argparse.Namespace) -> int:
    """Measure what was chosen for so many seconds, each in turn with its floor, and print how they compare."""
    machine = Machine.here()
    if not options.json:
        print(machine)
        print(output.Painter()(f"measuring for some {options.seconds:g} s …", "dim"), flush=True)
    chosen = [one for one in MEASURES if options.only is None or one.name.startswith(tuple(options.only))]
    taken, skipped = _take(chosen, options.seconds)
    lines = {one: compare(*taken[one.name], at_least=one.name in RATES) for one in chosen if one.name in taken}
    if options.json:
        rows = [_as_json(one, line) for one, line in lines.items()]
        output.print_json({"machine": machine.to_dict(), "rows": rows, "skipped": skipped})
        return DONE
    _print(lines, skipped)
    return DONE


def _take(measures: Sequence[Measure], seconds: float) -> tuple[Taken, dict[str, str]]:
    """Take the samples, and say why others were not. Raises `CommandError` when no node can run."""
    try:
        with private_directory(), Node.start(NODE), contextlib.closing(Rig(quick=True)) as rig:
            skipped = {one.name: why for one in measures if (why := one.missing(rig))}
            possible = [one for one in measures if one.name not in skipped]
            return take(rig, possible, ROUNDS_LEAST, time.monotonic() + seconds), skipped
    except (OtpError, OSError) as error:
        raise CommandError(f"{error}; otp doctor says what this machine lacks") from error


def _as_json(measure: Measure, line: Line) -> dict[str, Any]:
    about = {"name": measure.name, "what": measure.what, "unit": measure.unit}
    return about | {"more_is_better": measure.name in RATES} | asdict(line)


def _print(lines: dict[Measure, Line], skipped: dict[str, str]) -> None:
    paint = output.Painter()
    rows = [[paint(word, "bold") for word in ("WHAT", "OURS", "P99", "FLOOR", "P99", "RATIO", "BEST", "SAMPLES")]]
    for one, line in lines.items():
        shown = [line.ours, line.ours_p99, line.floor, line.floor_p99]
        ratios = ["-" if ratio is None else f"{ratio:.2f}" for ratio in (line.ratio, line.best)]
        rows.append([one.what, *(figure(value, one.unit) for value in shown), *ratios, str(line.samples)])
    print()
    for text in output.table(rows, right=(1, 2, 3, 4, 5, 6, 7)):
        print(text)
    for name, why in skipped.items():
        print(paint(f"not measured: {name}, {why}", "yellow"))
    print()
    print("floor: the same work without the library, over bare pipes and forks, in turns with ours.")
    print("ratio: ours to that, the median of the rounds; best: our best round to the floor's best.")
    if RATES & {one.name for one in lines}:
        print("of casts, k/s, more is better; of all else less.")
