"""Samples to rows, rows to a table: no process, no clock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from otp_runtime.cli.bench.rows import compare
from otp_runtime.cli.figures import figure
from scripts.bench.budget import budget_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COLUMNS = ("what", "ours", "p99", "floor", "p99", "ratio", "best", "p99", "must", "aim", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result. `ratio` is the median of the rounds' ratios, `best` our best round over the floor's."""

    name: str
    what: str
    unit: str
    ours: float
    ours_p99: float
    floor: float | None = None
    floor_p99: float | None = None
    ratio: float | None = None
    best: float | None = None
    ratio_p99: float | None = None
    samples: int = 0

    @property
    def value(self) -> float:
        """What the budget limits: the ratio where there is one."""
        return self.ours if self.ratio is None else self.ratio

    @property
    def verdict(self) -> str:
        return budget_of(self.name).verdict(self.value)

    def to_dict(self) -> dict[str, Any]:
        budget = budget_of(self.name)
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"must": budget.must, "aim": budget.aim, "verdict": self.verdict}


def make_row(
    name: str, what: str, unit: str, ours: Sequence[Sequence[float]], floor: Sequence[Sequence[float]] = ()
) -> Row:
    """Make a row of the samples of each round: ours, and where there is one the floor's of the same round."""
    return Row(name, what, unit, **asdict(compare(ours, floor, at_least=budget_of(name).at_least)))


def sections(titles: Mapping[str, Sequence[str]], rows: Iterable[Row]) -> str:
    """Lay rows out in sections, each under its title; `titles` says which rows, by name, belong to each."""
    by_name = {row.name: row for row in rows}
    found = {title: [by_name[name] for name in names if name in by_name] for title, names in titles.items()}
    return "".join(f"\n\n{title}\n\n{table(of_it)}" for title, of_it in found.items() if of_it)


def table(rows: Iterable[Row]) -> str:
    """Lay rows out for people."""
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:-1]), line[-1]]).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    budget = budget_of(row.name)
    sign = "≥" if budget.at_least else "≤"
    return (
        row.what,
        figure(row.ours, row.unit),
        figure(row.ours_p99, row.unit),
        figure(row.floor, row.unit),
        figure(row.floor_p99, row.unit),
        _ratio(row.ratio),
        _ratio(row.best),
        _ratio(row.ratio_p99),
        _limit(sign, budget.must),
        _limit(sign, budget.aim),
        row.verdict,
    )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _limit(sign: str, value: float | None) -> str:
    return "-" if value is None else f"{sign} {value:g}"
