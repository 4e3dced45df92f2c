"""The tables of docs/guide/performance.md, and putting them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp_runtime.cli.figures import figure
from scripts.bench.budget import budget_of
from scripts.bench.suite import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otp_runtime.cli.bench.machine import Machine
    from scripts.bench.report import Row

HEAD = ("what", "median", "p99", "floor", "ratio", "must", "")


def page_tables(machine: Machine, rows: Sequence[Row], skipped: Mapping[str, str]) -> str:
    """Give a table for each section that has rows, the machine above them."""
    by_name = {row.name: row for row in rows}
    parts = [f"Measured on: {machine}."]
    for title, measures in SECTIONS.items():
        if of_it := [by_name[measure.name] for measure in measures if measure.name in by_name]:
            parts.append(f"**{title}**\n\n" + table(HEAD, map(_cells, of_it)))
    if skipped:
        parts.append(
            "Not measured: " + "; ".join(sorted({f"{_names(why, skipped)}: {why}" for why in skipped.values()})) + "."
        )
    return "\n\n".join(parts)


def put(page: str, name: str, text: str) -> str:
    """Give the page with `text` between the two marks of that name, instead of what stood there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no marks {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in (head, ["---", *["---:"] * (len(head) - 2), "---"], *lines)
    )


def _names(why: str, skipped: Mapping[str, str]) -> str:
    return ", ".join(name for name, reason in skipped.items() if reason == why)


def _cells(row: Row) -> tuple[str, ...]:
    budget = budget_of(row.name)
    must = "" if budget.must is None else f"{'≥' if budget.at_least else '≤'} {budget.must:g}"
    return (
        row.what,
        figure(row.ours, row.unit).replace(" us", " µs"),
        figure(row.ours_p99, row.unit).replace(" us", " µs"),
        figure(row.floor, row.unit).replace(" us", " µs") if row.floor is not None else "",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        must,
        {"aim": "holds, aim too"}.get(row.verdict, row.verdict),
    )
