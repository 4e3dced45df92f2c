"""From start to end: stop, start and restart from a spare, importing the library."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime import DynamicSupervisor, GenServer, OtpError, Supervisor
from otp_runtime.cli.bench.measures import REFILL_SECONDS, kill_to_answer
from otp_runtime.cli.bench.server import Echo
from scripts.bench.measures import Measure, Rig, Round, Samples

if TYPE_CHECKING:
    from otp_runtime import Pid

SPARED = "bench_spared"


def no_spares() -> str:
    """Say so where a child spec does not know `spare` yet."""
    options: dict[str, Any] = {"spare": 1}
    try:
        Echo.child_spec(name=SPARED, **options)
    except (OtpError, TypeError, ValueError) as error:
        return f"child_spec knows no spare=: {str(error).splitlines()[0]}"
    return ""


@functools.cache
def _spared(rig: Rig) -> None:
    options: dict[str, Any] = {"spare": 1}
    flags: dict[str, Any] = {"strategy": "one_for_one", "max_restarts": 1_000_000}
    rig.keep(Supervisor.start_link([Echo.child_spec(name=SPARED, **options)], **flags))


def _restart(rig: Rig) -> Round:
    """Give milliseconds from kill -9 until a fresh process answers, which waited as a spare."""
    _spared(rig)

    def ours() -> Samples:
        time.sleep(REFILL_SECONDS)
        return [kill_to_answer(SPARED)]

    return rig.in_turns(ours, lambda: [sum(rig.equals.once()) * 1000])


@functools.cache
def _nursery(rig: Rig) -> Pid:
    return rig.keep(DynamicSupervisor.start_link())


def _start(rig: Rig) -> Round:
    """Give milliseconds until `start_child` of a supervisor that has a spare gives the new server."""
    options: dict[str, Any] = {"spare": 1}
    sup, spec = _nursery(rig), Echo.child_spec(**options)

    def ours() -> Samples:
        time.sleep(REFILL_SECONDS)
        started = time.perf_counter()
        server = DynamicSupervisor.start_child(sup, spec)
        elapsed = time.perf_counter() - started
        DynamicSupervisor.terminate_child(sup, server)
        return [elapsed * 1000]

    if not DynamicSupervisor.count_children(sup).active:
        DynamicSupervisor.start_child(sup, spec)  # from now on there is a spare
    return rig.in_turns(ours, lambda: [rig.equals.once()[0] * 1000])


def _stop(rig: Rig) -> Round:
    def ours() -> Samples:
        server = Echo.start_link()
        GenServer.call(server, None)
        started = time.perf_counter()
        GenServer.stop(server)
        return [(time.perf_counter() - started) * 1000]

    return rig.in_turns(ours, lambda: [rig.forks.once()[1] * 1000])


def _import(rig: Rig) -> Round:
    return rig.in_turns(lambda: [_python("from otp_runtime import GenServer, Supervisor")], lambda: [_python("")])


def _python(program: str) -> float:
    """Run a fresh interpreter; give the milliseconds until it ended."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    return (time.perf_counter() - started) * 1000


MEASURES = (
    Measure("stop", "stop one server (floor: kill + reap)", "ms", _stop, repeat=4),
    Measure(
        "restart-spare",
        "kill -9 to an answer of a spare (floor: fork + reap, of a supervisor's size)",
        "ms",
        _restart,
        repeat=4,
        lacks=no_spares,
    ),
    Measure(
        "start-spare",
        "start one more server from a spare (floor: fork, of a supervisor's size)",
        "ms",
        _start,
        repeat=4,
        lacks=no_spares,
    ),
    Measure("import", "a program that imports the library and ends (floor: one that does not)", "ms", _import, every=2),
)
