"""What each measure may cost: the limit that must hold, and the one to aim for. None: for information only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a ratio to the floor, or of an absolute figure where there is no floor to compare with."""

    must: float | None = None
    aim: float | None = None
    at_least: bool = False

    def verdict(self, value: float) -> str:
        """Say "aim" when the aim is met too, "holds", "misses", or "" when there is no limit."""
        if self.must is None:
            return ""
        if self._holds(value, self.aim):
            return "aim"
        return "holds" if self._holds(value, self.must) else "misses"

    def _holds(self, value: float, limit: float | None) -> bool:
        if limit is None:
            return False
        return value >= limit if self.at_least else value <= limit


# "many" is what one of the servers takes: a thousand may take 10 s.
BUDGETS = {
    "call-one-core": Budget(1.8, 1.4),
    "call-own-cores": Budget(0.5, 0.2),
    "call-free": Budget(0.5, 0.15),
    "call-name": Budget(),
    "call-tuple": Budget(),
    "call-rested": Budget(),
    "cast": Budget(0.4, 0.6, at_least=True),
    "call-kept": Budget(1.4, 1.15),
    "call-recorded": Budget(),
    "call-kept-recorded": Budget(),
    "commit-same": Budget(0.8),
    "commit-same-10m": Budget(),
    "commit-100k": Budget(),
    "commit-10m": Budget(),
    "lookup": Budget(2.0, 1.1),
    "registry": Budget(0.2, 0.6, at_least=True),
    "registry-write": Budget(),
    "cluster": Budget(2.0, 1.2),
    "cluster-cast": Budget(),
    "restart": Budget(),
    "restart-equal": Budget(1.8, 0.6),
    "start": Budget(2.0, 0.5),
    "start-equal": Budget(2.0, 0.5),
    "upgrade-pause": Budget(),
    "recycle-pause": Budget(),
    "memory": Budget(3.0, 1.6),
    "memory-next": Budget(),
    "many": Budget(10.0, 4.0),
    "idle": Budget(1.0, 0.1),
    "idle-rested": Budget(1.0, 0.1),
    "restart-spare": Budget(1.8, 0.6),
    "start-spare": Budget(2.0, 0.5),
    "crowd-1000-total": Budget(10.0, 4.0),
    "crowd-10-uss": Budget(3.0, 1.6),
    "crowd-100-uss": Budget(3.0, 1.6),
    "crowd-1000-uss": Budget(3.0, 1.6),
    "cast-one-core": Budget(at_least=True),
    "cast-own-cores": Budget(at_least=True),
}


def budget_of(name: str) -> Budget:
    """Give what a measure may cost; one that is not listed is for information only."""
    return BUDGETS.get(name, Budget())
