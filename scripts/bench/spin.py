"""The spin before sleep: what a call takes and what it burns, at rates from 1 to 100,000 a second, beside bare pipes.

A caller that calls at a steady rate sleeps between its calls. Where the rests are short, spinning saves the waking of a
core; where they are long, it must burn nothing. The processor's time is that of both ends, the caller's rests included.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

from otp_runtime import GenServer
from otp_runtime.cli.bench.floor import REQUEST
from scripts.bench.measures import Measure, Point, Rig, Round, Samples
from scripts.bench.parts import Parts
from scripts.bench.placed import PLACEMENTS, WHERE, os_pid_of

if TYPE_CHECKING:
    from collections.abc import Callable

RATES = (1, 10, 100, 1_000, 10_000, 100_000)
SECONDS = 1.0
FEWEST, MOST = 4, 20_000
PR_SET_TIMERSLACK = 29
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def _at_rate(rate: int, placement: str) -> Callable[[Rig], dict[str, Round]]:
    def measure(rig: Rig) -> dict[str, Round]:
        seconds = SECONDS / 4 if rig.quick else SECONDS
        count = min(MOST, max(FEWEST, int(rate * seconds)))

        def paced(os_pid: int, call: Callable[[], Any]) -> tuple[Samples, float]:
            rig.place(placement, os_pid)
            return _paced(call, rate, count, os_pid)

        try:
            ours, bare = [
                paced(os_pid_of(rig.echo), lambda: GenServer.call(rig.echo, REQUEST)),
                paced(rig.ping_pong.os_pid, rig.ping_pong.call),
            ]
        finally:
            rig.place("free", os_pid_of(rig.echo))
        return {"call": (ours[0], bare[0]), "cpu": ([ours[1]], [bare[1]])}

    return measure


def _paced(call: Callable[[], Any], rate: int, count: int, os_pid: int) -> tuple[Samples, float]:
    """Call at a steady rate, or as fast as it goes; give microseconds of each, and the percentage of a core used."""
    clock = time.perf_counter_ns
    period = 1e9 / rate
    samples = []
    _prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # else each rest is 50 us too long
    try:
        used, began = _cpu_ns(os_pid), clock()
        for number in range(count):
            rest = began + number * period - clock()
            if rest > 0:
                time.sleep(rest / 1e9)
            started = clock()
            call()
            samples.append((clock() - started) / 1000)
        took = max(clock() - began, count * period)
        return samples, (_cpu_ns(os_pid) - used) / took * 100
    finally:
        _prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)


def _cpu_ns(os_pid: int) -> int:
    """Give the time on a core of this thread and of another process."""
    total = time.thread_time_ns()
    with open(f"/proc/{os_pid}/schedstat") as file:
        return total + int(file.read().split()[0])


def _name(rate: int) -> str:
    return f"{rate // 1000}k" if rate >= 1000 else str(rate)


MEASURES = tuple(
    Measure(
        f"spin-{name}-{_name(rate)}-{part}",
        f"{rate:,}/s, {WHERE[placement]}: {what}",
        unit,
        take,
        every=1_000,
        cores=1 + (placement == "own"),
        point=Point(f"rate-{part}", WHERE[placement], rate),
        long=rate < 100,
    )
    for name, placement in PLACEMENTS.items()
    for rate in RATES
    for parts in [Parts(_at_rate(rate, placement))]
    for part, what, unit in (("call", "call", "us"), ("cpu", "core used", "%"))
    for take in [parts.of(part)]
)
