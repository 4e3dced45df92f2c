"""All that is measured, in sections, in the order in which it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.bench import c_floor, decisions, kept, lifecycle, measures, placed, scale, spin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.bench.measures import Measure

_OLD = {measure.name: measure for measure in measures.MEASURES}


def _beginning(*beginnings: str) -> tuple[Measure, ...]:
    return tuple(measure for name, measure in _OLD.items() if name.startswith(beginnings))


_SORTED = {
    "Calls": (*_beginning("call-one", "call-own", "call-free"), *c_floor.MEASURES),
    "Calls of other kinds": _beginning("call-name", "call-tuple", "call-rested"),
    "Casts": (*_beginning("cast"), *placed.CASTS),
    "Many clients": placed.FAN_IN,
    "Large terms": (*placed.ECHO, *placed.ARRAYS),
    "Names": _beginning("lookup", "registry"),
    "Kept states": (*_beginning("call-kept", "commit"), *kept.MEASURES),
    "Life and death": (*_beginning("start", "restart", "upgrade", "recycle"), *lifecycle.MEASURES),
    "Decisions": decisions.MEASURES,
    "Many servers": scale.MEASURES,
    "The spin": spin.MEASURES,
}
_REST = tuple(m for m in measures.MEASURES if not any(m in section for section in _SORTED.values()))
SECTIONS: dict[str, tuple[Measure, ...]] = {**_SORTED, "A server and a node": _REST}
SUITE: tuple[Measure, ...] = tuple(measure for section in SECTIONS.values() for measure in section)


def chosen(only: Iterable[str]) -> list[Measure]:
    """Give the measures whose name begins with one of `only`; all when it is empty."""
    beginnings = tuple(only)
    return [m for m in SUITE if not beginnings or m.name.startswith(beginnings)]


def section_of(name: str) -> str:
    return next(title for title, section in SECTIONS.items() if any(measure.name == name for measure in section))
