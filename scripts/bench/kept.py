"""States that are kept: one of 1 KB, one that is on disk before the reply; and servers that are recorded."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING, Any

from otp_runtime import GenServer
from otp_runtime.cli.bench.floor import REQUEST
from scripts.bench.measures import SIZES, Measure, Point, Rig, Round, beside_unkept, commits_of, time_each
from scripts.bench.server import Kept, kept_state

if TYPE_CHECKING:
    from otp_runtime import Pid
    from otp_runtime.core.keep import Restore


DURABLE = "bench_durable"


@functools.cache
def _folder(rig: Rig) -> str:
    """A directory on the disk of the working directory, not in memory: waiting for it is what is measured."""
    return rig.keep(tempfile.TemporaryDirectory(dir=".", prefix=".bench-"))


@functools.cache
def _durable(rig: Rig) -> Pid:
    options: dict[str, Any] = {"durable": os.path.join(_folder(rig), "states.db"), "name": DURABLE}
    return rig.keep(Kept.start_link(SIZES["1k"], **options))


def _call_durable(rig: Rig) -> Round:
    server = _durable(rig)
    count = 5 if rig.quick else 20
    state = repr(kept_state(SIZES["1k"])).encode()
    fd = os.open(os.path.join(_folder(rig), "bare"), os.O_CREAT | os.O_WRONLY, 0o600)

    def bare() -> None:
        os.pwrite(fd, state, 0)
        os.fsync(fd)

    try:
        return rig.in_turns(
            lambda: time_each(lambda: GenServer.call(server, REQUEST), count, warm_up=2),
            lambda: time_each(bare, count, warm_up=2),
        )
    finally:
        os.close(fd)


@functools.cache
def _recorded(rig: Rig, restore: Restore) -> Pid:
    return rig.keep(Kept.start_link(SIZES["1k"], record=True, restore=restore))


MEASURES = (
    Measure(
        "commit-1k",
        "commit of 1 KB, changed (floor: pack and copy)",
        "us",
        commits_of("1k", 400),
        point=Point("state", "commit", 1e3),
    ),
    Measure(
        "call-recorded",
        "call, recorded (floor: not), both on one core",
        "us",
        lambda rig: beside_unkept(rig, _recorded(rig, "fresh")),
    ),
    Measure(
        "call-kept-recorded",
        "call, 1 KB kept and recorded (floor: neither)",
        "us",
        lambda rig: beside_unkept(rig, _recorded(rig, "last_good")),
    ),
    Measure("call-durable", "call, 1 KB of state on disk first (floor: write and fsync)", "us", _call_durable, every=4),
)
