"""Several rows from one measurement: what it gives is taken part by part, and then it is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.bench.measures import Rig, Round


class Parts:
    """`of(part)` is the `take` of a row: it measures when its part was taken already, or there is none yet."""

    def __init__(self, measure: Callable[[Rig], dict[str, Round]]) -> None:
        self._measure = measure
        self._left: dict[str, Round] = {}

    def of(self, part: str) -> Callable[[Rig], Round]:
        def take(rig: Rig) -> Round:
            if part not in self._left:
                self._left = self._measure(rig)
            return self._left.pop(part)

        return take
