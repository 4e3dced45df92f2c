"""Cost against scale as an SVG: small pictures, both axes logarithmic, readable on light and on dark ground.

Written by hand, so that no plotting library is needed. A full line is ours, a dashed one of the same colour the floor.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otp_runtime.cli.bench.machine import Machine
    from scripts.bench.measures import Point
    from scripts.bench.report import Row

TITLES = {
    "clients": ("Call, by clients at once", "µs", "clients"),
    "bytes": ("Echo, by size of the term", "µs", "bytes"),
    "rate-call": ("Call, by calls a second", "µs", "calls a second"),
    "rate-cpu": ("Core used by both ends, by calls a second", "%", "calls a second"),
    "servers": ("Each server, by number of servers", "", "servers"),
    "state": ("Commit, by size of the state", "µs", "bytes"),
    "decision": ("Restart decided, by number of children", "µs", "children"),
}
WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 78, 44
COLUMNS = 2
HEAD = 48
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}
LIGHT = {"ground": "#ffffff", "ink": "#24292f", "soft": "#57606a", "grid": "#d8dee4"}
DARK = {"ground": "#0d1117", "ink": "#e6edf3", "soft": "#9da7b3", "grid": "#30363d"}
LIGHT_LINES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#a40e26", "#57606a")
DARK_LINES = ("#58a6ff", "#f0883e", "#56d364", "#bc8cff", "#ff7b72", "#9da7b3")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a picture: points of scale and figure, ours and the floor's, in the order of scale."""

    name: str
    ours: tuple[tuple[float, float], ...]
    floor: tuple[tuple[float, float], ...]


def curves(rows: Iterable[Row], points: Mapping[str, Point | None]) -> dict[str, list[Curve]]:
    """Sort rows that have a place in the plot into pictures and their lines; times in microseconds where they mix."""
    found: dict[tuple[str, str], list[tuple[float, float, float | None]]] = {}
    for row in rows:
        if point := points.get(row.name):
            factor = 1.0 if point.picture == "servers" else MICROSECONDS.get(row.unit, 1.0)
            floor = None if row.floor is None else row.floor * factor
            found.setdefault((point.picture, point.line), []).append((point.scale, row.ours * factor, floor))
    pictures: dict[str, list[Curve]] = {}
    for (picture, name), values in found.items():
        values.sort()
        ours = tuple((scale, figure) for scale, figure, _ in values if figure > 0)
        floor = tuple((scale, bare) for scale, _, bare in values if bare is not None and bare > 0)
        if ours:
            pictures.setdefault(picture, []).append(Curve(name, ours, floor))
    return pictures


def svg(machine: Machine, rows: Iterable[Row], points: Mapping[str, Point | None]) -> str:
    """Draw every picture that has rows."""
    pictures = {name: found for name, found in curves(rows, points).items() if name in TITLES}
    shown = [name for name in TITLES if name in pictures]
    height = HEAD + HEIGHT * max(1, math.ceil(len(shown) / COLUMNS))
    width = WIDTH * COLUMNS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>What otp_runtime costs, against scale</title><style>{_style()}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        f'<text class="soft" x="16" y="22">{escape(str(machine))}</text>',
        '<text class="soft" x="16" y="39">full line: otp_runtime, medians; dashed, same colour: the floor</text>',
    ]
    if not shown:
        parts.append(f'<text x="16" y="{HEAD + 40}">Nothing that was measured has a scale.</text>')
    for number, name in enumerate(shown):
        x, y = number % COLUMNS * WIDTH, HEAD + number // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_picture(name, pictures[name])}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _style() -> str:
    """Give plain rules, no variables: not every viewer knows those. The ground's colours are the reader's choice."""
    shapes = "svg{font:12px system-ui,sans-serif}.soft{font-size:11px}.title{font-size:14px;font-weight:600}"
    shapes += "polyline{fill:none;stroke-width:2}.floor{stroke-dasharray:4 4;stroke-width:1.3}"
    light, dark = _colours(LIGHT, LIGHT_LINES), _colours(DARK, DARK_LINES)
    return f"{shapes}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _colours(ground: Mapping[str, str], lines: Sequence[str]) -> str:
    rules = f".ground{{fill:{ground['ground']}}}text{{fill:{ground['ink']}}}text.soft{{fill:{ground['soft']}}}"
    rules += f".grid{{stroke:{ground['grid']};stroke-width:1}}"
    for number, colour in enumerate(lines):
        rules += f"text.c{number},circle.c{number}{{fill:{colour}}}polyline.c{number}{{stroke:{colour}}}"
    return rules


def _picture(name: str, lines: Sequence[Curve]) -> str:
    title, unit, scale = TITLES[name]
    values = [*itertools.chain.from_iterable((*line.ours, *line.floor) for line in lines)]
    across = _Axis([x for x, _ in values], LEFT, WIDTH - RIGHT)
    up = _Axis([y for _, y in values], HEIGHT - BOTTOM, TOP)
    parts = [f'<text class="title" x="16" y="18">{escape(title)}</text>', *_legend(lines)]
    for tick in across.ticks:
        at = across.place(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="soft" x="{at:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{_short(tick)}</text>')
    for tick in up.ticks:
        at = up.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>')
        label = f"{_short(tick)} {unit}".strip()
        parts.append(f'<text class="soft" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="soft" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(scale)}</text>')
    for number, line in enumerate(lines):
        colour = f"c{number % len(LIGHT_LINES)}"
        for points, kind in ((line.floor, "floor"), (line.ours, "ours")):
            path = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in points)
            parts.append(f'<polyline class="{kind} {colour}" points="{path}"/>')
        parts.extend(
            f'<circle class="{colour}" cx="{across.place(x):.1f}" cy="{up.place(y):.1f}" r="3"/>' for x, y in line.ours
        )
    return "\n".join(parts)


def _legend(lines: Sequence[Curve]) -> list[str]:
    """Name the lines under the title, two in a row."""
    return [
        f'<text class="c{number % len(LIGHT_LINES)}" x="{16 + number % 2 * 215}" y="{36 + number // 2 * 14}">'
        f"● {escape(line.name)}</text>"
        for number, line in enumerate(lines)
    ]


class _Axis:
    """Places figures between two edges, by their logarithm; a whole power of ten at each end."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low = math.floor(math.log10(min(values)) + 1e-9)
        high = max(math.ceil(math.log10(max(values)) - 1e-9), low + 1)
        self._low, self._high = low, high
        self._first, self._last = first, last
        every = math.ceil((high - low + 1) / 8)
        self.ticks = [10.0**power for power in range(low, high + 1, every)]

    def place(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._first + share * (self._last - self._first)


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
