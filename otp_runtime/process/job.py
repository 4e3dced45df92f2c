"""What a new process is to do, as data that travels to whoever forks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Job:
    """A new process's first orders.

    `mode`: "plain" runs a function and ends; "start" runs a start function, and the first `start_link` that it
    reaches turns the process into that server; "supervisor" runs a supervisor from data alone.
    `body` is sealed: only the new process opens it.
    """

    mode: Literal["plain", "start", "supervisor"]
    body: bytes
    label: str
    parent: int
    """Id of the process that OTP calls the parent: whose exit signal ends a trapping server."""
    links: tuple[int, ...] = ()
    timeout: float | None = None
    path: tuple[str, ...] = ()
    """The asker's `sys.path`."""
    log_level: int = 30
    program: int = 0
    """Id of the program whose root this is, 0 when it is none."""
    name: str = ""
    shutdown: float | None = 5.0
    supervisors: tuple[int, ...] = field(default=())
    """Ids of the supervisors above, nearest first."""
    fresh: bool = False
    """Whether a supervisor must not use the modules that its OS parent imported: they are older than an upgrade."""
    imports: tuple[str, ...] = ()
    """Modules that what it runs needs, as far as that is known: a process forked ahead may import them ahead."""
    place: tuple[str, ...] = ()
    """Where a state is kept that outlives the process: see `places`. Empty for what no supervisor starts."""

    def to_term(self) -> list[Any]:
        """Give plain data."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def from_term(cls, term: list[Any]) -> Job:
        """Read what `to_term` gave."""
        values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in term]
        return cls(*values)
