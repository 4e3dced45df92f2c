"""Ten, a hundred, a thousand servers under one supervisor: started, called, weighed, stopped."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from otp_runtime import DynamicSupervisor, GenServer
from otp_runtime.cli.bench.floor import REQUEST
from otp_runtime.cli.bench.server import Echo
from scripts.bench.measures import Measure, Point, Rig, Round
from scripts.bench.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COUNTS = (10, 100, 1_000)
WHAT = {
    "start": ("start of each (floor: fork)", "ms"),
    "call": ("first call of each", "us"),
    "call-again": ("second call of each", "us"),
    "uss": ("unique memory of each", "MB"),
    "pss": ("memory of each, what they share divided", "MB"),
    "stop": ("stop of each, all at once (floor: kill + reap)", "ms"),
    "total": ("started, called, stopped", "s"),
}
LINES = {
    "start": "start, ms",
    "stop": "stop, ms",
    "call": "first call, µs",
    "uss": "unique memory, MB",
    "pss": "with its share, MB",
}
"""What of it is in the plot, and how it is called there."""


def _crowd(count: int) -> Callable[[Rig], dict[str, Round]]:
    def measure(rig: Rig) -> dict[str, Round]:
        bare = [rig.forks.once() for _ in range(10)]
        sup = DynamicSupervisor.start_link()
        started = time.perf_counter()
        servers = [DynamicSupervisor.start_child(sup, Echo) for _ in range(count)]
        start = time.perf_counter() - started
        first, second = [[_call(server) for server in servers] for _ in range(2)]
        unique, proportional = _memory([server.os_pid for server in servers])
        stopping = time.perf_counter()
        DynamicSupervisor.stop(sup)
        stop = time.perf_counter() - stopping
        forked = [fork * 1000 for fork, _ in bare]
        reaped = [reap * 1000 for _, reap in bare]
        return {
            "start": ([start / count * 1000], [statistics.median(forked)]),
            "call": (first, []),
            "call-again": (second, []),
            "uss": ([unique / count / 1e6], []),
            "pss": ([proportional / count / 1e6], []),
            "stop": ([stop / count * 1000], [statistics.median(reaped)]),
            "total": ([start + sum(first) / 1e6 + stop], []),
        }

    return measure


def _call(server: object) -> float:
    """Call once; give the microseconds."""
    started = time.perf_counter_ns()
    assert GenServer.call(server, REQUEST) == REQUEST
    return (time.perf_counter_ns() - started) / 1000


def _memory(os_pids: Iterable[int]) -> tuple[int, int]:
    """Give the bytes that processes have for themselves, and with their share of what several have."""
    unique = proportional = 0
    for os_pid in os_pids:
        with open(f"/proc/{os_pid}/smaps_rollup") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in {"Private_Clean", "Private_Dirty", "Private_Hugetlb"}:
                    unique += int(rest.split()[0]) * 1024
                elif name == "Pss":
                    proportional += int(rest.split()[0]) * 1024
    return unique, proportional


MEASURES = tuple(
    Measure(
        f"crowd-{count}-{part}",
        f"{count:,} servers: {what}",
        unit,
        take,
        every={10: 4, 100: 8}.get(count, 1_000),
        point=Point("servers", LINES[part], count) if part in LINES else None,
        long=count == max(COUNTS),
    )
    for count in COUNTS
    for parts in [Parts(_crowd(count))]
    for part, (what, unit) in WHAT.items()
    for take in [parts.of(part)]
)
