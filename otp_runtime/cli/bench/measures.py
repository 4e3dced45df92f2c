"""What is measured, each beside its floor. A measure gives the samples of one round: ours, and the floor's right after.

`MEASURES` are those of `otp bench`; the benchmark of the project itself builds on the same and has more.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.cli.bench.floor import REQUEST, Forks, OneWay, PingPong
from otp_runtime.cli.bench.server import Echo
from otp_runtime.errors import ServerDown
from otp_runtime.supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.terms.pid import Pid

NAME = "bench_echo"
RESTARTED = "bench_restarted"
WARM_UP = 20
REFILL_SECONDS = 0.05
"""Deaths and starts in a row find a process forked ahead when there was time to fork it."""

T = TypeVar("T")

Samples = list[float]
Round = tuple[Samples, Samples]
"""Ours and the floor's; the second is empty where there is no floor."""


class Rig:
    """The processes that are measured, made when first asked for."""

    def __init__(self, *, quick: bool) -> None:
        """`quick`: few samples in a round."""
        self.quick = quick
        self._stack = contextlib.ExitStack()
        self.cpus = sorted(os.sched_getaffinity(0))
        self._turn = False
        reports = logging.getLogger("otp_runtime")
        self._stack.callback(reports.setLevel, reports.level)
        reports.setLevel(logging.CRITICAL)  # each kill would be reported

    def close(self) -> None:
        """End them."""
        os.sched_setaffinity(0, self.cpus)
        self._stack.close()

    def keep(self, resource: contextlib.AbstractContextManager[T]) -> T:
        """Hold what another file measures until the end."""
        return self._stack.enter_context(resource)

    @functools.cached_property
    def echo(self) -> Pid:
        """A server that answers what it was asked."""
        pid: Pid = self.keep(Echo.start_link(name=NAME))
        return pid

    @functools.cached_property
    def ping_pong(self) -> PingPong:
        """The same without the library."""
        return self.keep(contextlib.closing(PingPong()))

    @functools.cached_property
    def one_way(self) -> OneWay:
        """A process that counts what it is sent."""
        return self.keep(contextlib.closing(OneWay()))

    @functools.cached_property
    def forks(self) -> Forks:
        """A process that forks."""
        return self.keep(contextlib.closing(Forks()))

    @functools.cached_property
    def supervisor(self) -> Pid:
        """A supervisor of the server that is killed."""
        children = [Echo.child_spec(name=RESTARTED)]
        flags: dict[str, Any] = {"strategy": "one_for_one", "max_restarts": 1_000_000}
        pid: Pid = self.keep(Supervisor.start_link(children, **flags))
        return pid

    def place(self, placement: str, os_pid: int, *beside: int) -> None:
        """Put this process and `os_pid` onto one core, or each onto its own, or leave them to the scheduler.

        Those `beside` this process go where it goes.
        """
        here, there = {
            "free": (self.cpus, self.cpus),
            "one": (self.cpus[-1:], self.cpus[-1:]),
            "own": (self.cpus[-1:], self.cpus[-2:-1]),
        }[placement]
        for one in (0, *beside):
            os.sched_setaffinity(one, here)
        os.sched_setaffinity(os_pid, there)

    def in_turns(self, ours: Callable[[], Samples], floor: Callable[[], Samples]) -> Round:
        """Take both, in the other order every other time: what drifts then hits both alike."""
        self._turn = not self._turn
        if self._turn:
            return ours(), floor()
        bare = floor()
        return ours(), bare


@dataclass(frozen=True, slots=True)
class Point:
    """Where a row stands in the plot: in which picture, on which line, at which scale."""

    picture: str
    line: str
    scale: float


@dataclass(frozen=True, slots=True)
class Measure:
    """One row to be: in `every`-th rounds only, where one round takes long; `cores` it cannot do without.

    `lacks` says what else is missing here to take it, or nothing; a row that is `long` is not taken in quick runs.
    """

    name: str
    what: str
    unit: str
    take: Callable[[Any], Round]
    repeat: int = 1
    every: int = 1
    cores: int = 1
    point: Point | None = None
    lacks: Callable[[], str] = str
    long: bool = False

    def missing(self, rig: Rig) -> str:
        """Say why it cannot be taken here and now; nothing when it can."""
        if len(rig.cpus) < self.cores:
            return f"it takes {self.cores} cores"
        if self.long and rig.quick:
            return "it takes long: not in a quick run"
        return self.lacks()

    def round(self, rig: Rig) -> Round:
        """Take one round's samples."""
        rounds = [self.take(rig) for _ in range(1 if rig.quick else self.repeat)]
        return [s for ours, _ in rounds for s in ours], [s for _, floor in rounds for s in floor]


Taken = dict[str, tuple[list[Samples], list[Samples]]]
"""By the name of a measure the samples of its rounds, ours and the floor's."""


def take(rig: Rig, measures: Iterable[Measure], rounds: int, until: float = 0.0) -> Taken:
    """Measure in so many rounds, each measure in turn, and then on until a monotonic time."""
    measures = tuple(measures)
    taken: Taken = {measure.name: ([], []) for measure in measures}
    number = 0
    while number < rounds or time.monotonic() < until:
        for measure in measures:
            if number % measure.every == 0:
                ours, floor = measure.round(rig)
                taken[measure.name][0].append(ours)
                taken[measure.name][1].append(floor)
        number += 1
    return taken


# -- calls and casts ---------------------------------------------------------------------------------------------------


def time_each(function: Callable[[], Any], count: int, rest: float = 0.0, *, warm_up: int = WARM_UP) -> Samples:
    """Give the microseconds of each of `count` calls of `function`."""
    for _ in range(0 if rest else warm_up):
        function()
    clock = time.perf_counter_ns
    samples = []
    for _ in range(count):
        if rest:
            time.sleep(rest)
        started = clock()
        function()
        samples.append((clock() - started) / 1000)
    return samples


def call(
    rig: Rig, placement: str, floor_placement: str, server: Any, count: int, rest: float = 0.0, request: Any = REQUEST
) -> Round:
    """Give microseconds a call, and those of a round trip over bare pipes."""

    def ours() -> Samples:
        rig.place(placement, os_pid)
        return time_each(lambda: GenServer.call(server, request), count, rest)

    def floor() -> Samples:
        rig.place(floor_placement, rig.ping_pong.os_pid)
        return time_each(rig.ping_pong.call, count, rest)

    os_pid = rig.echo.os_pid
    assert os_pid is not None
    try:
        return rig.in_turns(ours, floor)
    finally:
        rig.place("free", os_pid)


def many_calls(placement: str, floor_placement: str) -> Callable[[Rig], Round]:
    """Give a `take` of calls whose ends are placed so."""
    return lambda rig: call(rig, placement, floor_placement, rig.echo, 100 if rig.quick else 500)


def cast(rig: Rig) -> Round:
    """Give thousands a second of casts handled, and of bare frames counted."""
    count = 2_000 if rig.quick else 20_000

    def ours() -> Samples:
        server = rig.echo
        GenServer.call(server, "count")
        started = time.perf_counter()
        for number in range(count):
            GenServer.cast(server, number)
        handled = GenServer.call(server, "count", timeout=60)
        elapsed = time.perf_counter() - started
        assert handled == count
        return [count / elapsed / 1000]

    return rig.in_turns(ours, lambda: [rig.one_way.rate(count) / 1000])


# -- life and death ----------------------------------------------------------------------------------------------------


def kill_to_answer(name: str) -> float:
    """Kill a supervised `Echo`; give the milliseconds until a fresh process answers under its name."""
    victim = GenServer.call(name, "os_pid")
    started = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    fresh = victim
    while fresh == victim:
        with contextlib.suppress(ServerDown):  # the call was on its way to the dead
            fresh = GenServer.call(name, "os_pid")
    return (time.perf_counter() - started) * 1000


def restarts(forks: Callable[[Any], Forks]) -> Callable[[Rig], Round]:
    """Give a `take`: milliseconds from kill -9 to an answer, and those of a fork and a kill of one of `forks`."""

    def ours() -> Samples:
        time.sleep(REFILL_SECONDS)
        return [kill_to_answer(RESTARTED)]

    def take_round(rig: Rig) -> Round:
        _ = rig.supervisor
        return rig.in_turns(ours, lambda: [sum(forks(rig).once()) * 1000])

    return take_round


def starts(forks: Callable[[Any], Forks]) -> Callable[[Rig], Round]:
    """Give a `take`: milliseconds until one more server has started, and those of one of `forks`."""

    def ours() -> Samples:
        time.sleep(REFILL_SECONDS)
        started = time.perf_counter()
        server = Echo.start_link()
        elapsed = time.perf_counter() - started
        GenServer.stop(server)
        return [elapsed * 1000]

    return lambda rig: rig.in_turns(ours, lambda: [forks(rig).once()[0] * 1000])


BARE: Final = operator.attrgetter("forks")
"""Whose forks a start is compared with: those of an interpreter that has msgpack and nothing else."""

CALL_ONE_CORE = Measure("call-one-core", "call, both on one core", "us", many_calls("one", "one"))
CALL_OWN_CORES = Measure("call-own-cores", "call, each on its own core", "us", many_calls("own", "own"), cores=2)
CAST = Measure("cast", "casts handled (floor: frames one way)", "k/s", cast, every=2)
RESTART = Measure("restart", "kill -9 to a fresh answer (floor: fork + reap)", "ms", restarts(BARE), repeat=4)
START = Measure("start", "start one more server (floor: fork)", "ms", starts(BARE), repeat=4)

MEASURES = (CALL_ONE_CORE, CALL_OWN_CORES, CAST, START, RESTART)
RATES = frozenset({CAST.name})
"""Those of which more is better."""
