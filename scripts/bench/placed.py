"""Casts, clients at the same time and large terms, each in the three placements."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import time
from typing import TYPE_CHECKING

from otp_runtime import GenServer
from otp_runtime.cli.bench.floor import FanIn, Large, OneWay
from scripts.bench.measures import Measure, Point, Rig, Round, Samples, time_each
from scripts.bench.server import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime import Pid

CLIENTS = (1, 4, 16)
SIZES = {"1k": 1_000, "100k": 100_000, "10m": 10_000_000}
CALLS = {"1k": 200, "100k": 50, "10m": 1}
HEAD_START_NS = 5_000_000
"""In that time every client is told to begin, so that they begin together."""
PLACEMENTS = {"one-core": "one", "own-cores": "own", "free": "free"}
WHERE = {"one": "all on one core", "own": "the server on a core of its own", "free": "placed freely"}


@functools.cache
def _callers(rig: Rig, count: int) -> list[Pid]:
    return [rig.keep(Caller.start_link()) for _ in range(count)]


@functools.cache
def _fan_in_floor(rig: Rig, count: int) -> FanIn:
    return rig.keep(contextlib.closing(FanIn(count)))


@functools.cache
def _large_floor(rig: Rig) -> Large:
    """The floor of large terms; it and ours have seen the largest then.

    From its first large piece on, malloc keeps the memory of smaller ones: an echo of 100 KB takes a third less.
    """
    floor = rig.keep(contextlib.closing(Large()))
    largest = bytes(max(SIZES.values()))
    assert floor.call(largest) == GenServer.call(rig.echo, largest, timeout=60) == largest
    return floor


def os_pid_of(server: Pid) -> int:
    assert server.os_pid is not None
    return server.os_pid


def _casts(placement: str) -> Callable[[Rig], Round]:
    """Give thousands of casts a second, from the first until the last was handled."""

    def take(rig: Rig) -> Round:
        count = 2_000 if rig.quick else 10_000
        floor: OneWay = rig.one_way

        def ours() -> Samples:
            rig.place(placement, os_pid_of(rig.echo))
            GenServer.call(rig.echo, "count")
            started = time.perf_counter()
            for number in range(count):
                GenServer.cast(rig.echo, number)
            handled = GenServer.call(rig.echo, "count", timeout=60)
            elapsed = time.perf_counter() - started
            assert handled == count
            return [count / elapsed / 1000]

        def bare() -> Samples:
            rig.place(placement, floor.os_pid)
            return [floor.rate(count) / 1000]

        try:
            return rig.in_turns(ours, bare)
        finally:
            rig.place("free", os_pid_of(rig.echo))

    return take


def _fan_in(clients: int, placement: str) -> Callable[[Rig], Round]:
    """Give the microseconds of each call of clients that all call at the same time."""

    def take(rig: Rig) -> Round:
        count = (800 if rig.quick else 3_200) // clients
        callers, floor = _callers(rig, clients), _fan_in_floor(rig, clients)
        os_pids = [os_pid_of(caller) for caller in callers]

        def ours() -> Samples:
            rig.place(placement, os_pid_of(rig.echo), *os_pids)
            at = time.perf_counter_ns() + HEAD_START_NS
            waiting = [GenServer.send_request(caller, (rig.echo, count, at)) for caller in callers]
            return [sample for rid in waiting for sample in GenServer.receive_response(rid, 60)]

        def bare() -> Samples:
            rig.place(placement, floor.os_pid, *floor.clients)
            return floor.run(count, time.perf_counter_ns() + HEAD_START_NS)

        try:
            return rig.in_turns(ours, bare)
        finally:
            rig.place("free", os_pid_of(rig.echo), *os_pids)

    return take


def _echo(size: str, placement: str) -> Callable[[Rig], Round]:
    def take(rig: Rig) -> Round:
        term = os.urandom(SIZES[size])
        count = max(1, CALLS[size] // (4 if rig.quick else 1))
        floor = _large_floor(rig)
        warm = size == "10m"  # two dozen more of these would take a second

        def ours() -> Samples:
            rig.place(placement, os_pid_of(rig.echo))
            return time_each(lambda: GenServer.call(rig.echo, term, timeout=60), count, warm_up=1 if warm else 5)

        def bare() -> Samples:
            rig.place(placement, floor.os_pid)
            return time_each(lambda: floor.call(term), count, warm_up=1 if warm else 5)

        try:
            return rig.in_turns(ours, bare)
        finally:
            rig.place("free", os_pid_of(rig.echo))

    return take


def no_numpy() -> str:
    return "" if importlib.util.find_spec("numpy") else "numpy is not installed"


def _array(*, there_and_back: bool) -> Callable[[Rig], Round]:
    """Send 10 MB of a numpy array: as an echo, or one way, until the server has handled it."""

    def take(rig: Rig) -> Round:
        numpy = importlib.import_module("numpy")
        data = os.urandom(SIZES["10m"])
        term = ("array", numpy.frombuffer(data, dtype="u1").copy())
        floor = _large_floor(rig)

        def echo() -> object:
            return GenServer.call(rig.echo, term, timeout=60)

        def tell() -> object:
            GenServer.cast(rig.echo, term, timeout=60)
            return GenServer.call(rig.echo, "count", timeout=60)

        return rig.in_turns(
            lambda: time_each(echo if there_and_back else tell, CALLS["10m"], warm_up=3),
            lambda: time_each(lambda: floor.call(data), CALLS["10m"], warm_up=1),
        )

    return take


CASTS = tuple(
    Measure(
        f"cast-{name}",
        f"casts handled, {WHERE[placement]}",
        "k/s",
        _casts(placement),
        every=4,
        cores=1 + (placement == "own"),
    )
    for name, placement in PLACEMENTS.items()
    if placement != "free"
)
FAN_IN = tuple(
    Measure(
        f"fan-in-{clients}-{name}",
        f"call, {clients} client{'s' * (clients > 1)} at once, {WHERE[placement]}",
        "us",
        _fan_in(clients, placement),
        every=4,
        cores=1 + (placement == "own"),
        point=Point("clients", WHERE[placement], clients),
    )
    for name, placement in PLACEMENTS.items()
    for clients in CLIENTS
)
ECHO = tuple(
    Measure(
        f"echo-{size}-{name}",
        f"echo of {size.upper()}B, {WHERE[placement]}".replace("KB", " KB").replace("MB", " MB"),
        "us",
        _echo(size, placement),
        every=8 if size == "10m" else 4,
        cores=1 + (placement == "own"),
        point=Point("bytes", WHERE[placement], SIZES[size]),
    )
    for name, placement in PLACEMENTS.items()
    for size in SIZES
)
ARRAYS = (
    Measure(
        "array-10m-echo",
        "echo of 10 MB in a numpy array, placed freely (floor: as bytes)",
        "us",
        _array(there_and_back=True),
        every=8,
        lacks=no_numpy,
    ),
    Measure(
        "array-10m-one-way",
        "10 MB in a numpy array, until handled (floor: echo as bytes)",
        "us",
        _array(there_and_back=False),
        every=8,
        lacks=no_numpy,
    ),
)
