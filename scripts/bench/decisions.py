"""The supervisor's decision alone: a child died, another is to be started. No process and no clock."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from msgpack import unpackb

from otp_runtime.cli.bench.floor import CALL, REQUEST, frame
from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags
from otp_runtime.core.supervision import Begin, ChildExited, ChildStarted, StartChild, initial, step
from otp_runtime.terms.pid import Pid
from scripts.bench.measures import Measure, Point, Rig, Round, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = (10, 1_000)
BATCH = 10


class Decider:
    """A supervisor's core with so many children, of which one dies and is started again and again."""

    def __init__(self, children: int) -> None:
        flags = SupervisorFlags("one_for_one", max_restarts=3, max_seconds=5)
        self._serials = itertools.count(1)
        self._now = 0.0
        self._state = initial(flags, [ChildSpec(number, start=(dict, (), {})) for number in range(children)])
        asked = self._feed(Begin())
        while asked:
            self._victim = self._pid()
            asked = self._feed(ChildStarted(asked[0], self._victim))

    def once(self) -> None:
        """Let the last child die, and start: two decisions."""
        self._now += 60
        (again,) = self._feed(ChildExited(self._victim, "killed"))
        self._victim = self._pid()
        self._feed(ChildStarted(again, self._victim))

    def _feed(self, event: Any) -> list[Any]:
        self._state, actions = step(self._state, event, self._now)
        return [action.id for action in actions if isinstance(action, StartChild)]

    def _pid(self) -> Pid:
        return Pid("bench@here", next(self._serials), 1)


def _decide(children: int) -> Callable[[Rig], Round]:
    decider = None

    def take(rig: Rig) -> Round:
        nonlocal decider
        one = decider = decider or Decider(children)
        batches = 10 if rig.quick else 60
        return rig.in_turns(lambda: _each(one.once, batches), lambda: _each(_pack, batches))

    return take


def _each(function: Callable[[], None], batches: int) -> Samples:
    samples = []
    for _ in range(batches):
        started = time.perf_counter_ns()
        for _ in range(BATCH):
            function()
        samples.append((time.perf_counter_ns() - started) / BATCH / 1000)
    return samples


def _pack() -> None:
    unpackb(frame(CALL, 2, 100_000, REQUEST)[4:])


MEASURES = tuple(
    Measure(
        f"decision-{children}",
        f"decide a restart, {children:,} children (floor: pack and unpack a frame)",
        "us",
        _decide(children),
        every=4,
        point=Point("decision", "a restart decided", children),
    )
    for children in COUNTS
)
