"""How a counter tells what it measured: a line of JSON for each figure, as soon as it has it.

So a library that hangs in its restart has told of its calls before. What is measured, everywhere the same:

    call     microseconds of one round trip: median and 99 of 100
    cast     casts a second, from the first until the last was handled
    start    milliseconds until one more counter answers
    restart  milliseconds from kill -9 until a fresh counter answers
    memory   megabytes of its own that one more idle counter takes
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

MISSING = 3
CALLS, CASTS, STARTS = 2_000, 10_000, 10


def tell(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


def need(package: str) -> str:
    """Tell the version of a package; end, saying so, where it is not installed."""
    try:
        tell(version=f"{package} {version(package)}")
    except ImportError:  # PackageNotFoundError is one
        tell(missing=f"{package} is not installed")
        sys.exit(MISSING)
    return package


def tell_calls(samples: Iterable[float]) -> None:
    """Tell of round trips, given in seconds."""
    ordered = sorted(samples)
    tell(call=[ordered[len(ordered) // 2] * 1e6, ordered[int(len(ordered) * 0.99)] * 1e6])


def calls(call: Callable[[], Any], count: int = CALLS) -> None:
    """Call, first to warm up, and tell what each took."""
    for _ in range(count // 10):
        call()
    tell_calls([timed(call) for _ in range(count)])


async def acalls(call: Callable[[], Awaitable[Any]], count: int = CALLS) -> None:
    for _ in range(count // 10):
        await call()
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        await call()
        samples.append(time.perf_counter() - started)
    tell_calls(samples)


def timed(function: Callable[[], Any]) -> float:
    """Give the seconds that it took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def unique_bytes(os_pids: Iterable[int]) -> int:
    """Give the memory that processes have for themselves."""
    total = 0
    for os_pid in os_pids:
        with open(f"/proc/{os_pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Private")) * 1024
    return total


def median_ms(seconds: Iterable[float]) -> float:
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1000


def until_answered(call: Callable[[], Any], old: Any, errors: type[Exception] = Exception, seconds: float = 20) -> None:
    """Call until another than the `old` process answers; each answer is a process id."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if call() != old:
                return
        except errors:
            time.sleep(0.0005)
    raise TimeoutError
