"""What one more child costs among few and among many: `python scripts/many_children.py [--children 10 2000]`.

Decisions are timed in memory. Starts and restarts are real, and counted in processor time of the supervisor and of the
child (/proc/PID/schedstat), which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import time
from typing import Any

from otp_runtime import Agent, DynamicSupervisor, process
from otp_runtime.core import dynamic
from otp_runtime.core.child_spec import ChildSpec, DynamicFlags
from otp_runtime.core.supervisor_messages import Asked, Begin, ChildExited, ChildStarted, StartChildRequest
from otp_runtime.terms.pid import Pid


def decisions(children: int, rounds: int) -> dict[str, float]:
    """Give microseconds for the decisions about one start and about one restart among so many children."""
    serials = itertools.count(1)
    spec = ChildSpec("id", b"sealed")
    now = 0.0

    def feed(state: dynamic.State, *events: Any) -> tuple[dynamic.State, float]:
        started = time.perf_counter()
        for event in events:
            state, _ = dynamic.step(state, event, now)
        return state, (time.perf_counter() - started) * 1e6

    def start(state: dynamic.State) -> tuple[Pid, dynamic.State, float]:
        pid = Pid("node@host", next(serials), 1)
        return pid, *feed(state, Asked("tag", StartChildRequest(spec)), ChildStarted(None, pid))

    state, _ = feed(dynamic.initial(DynamicFlags(max_seconds=0.5)), Begin())
    pids = []
    for _ in range(children):
        pid, state, _ = start(state)
        pids.append(pid)
    starts, restarts = [], []
    for number in range(rounds):
        now += 1.0
        pid, _, took = start(state)
        starts.append(took)
        at = number % children
        new = Pid("node@host", next(serials), 1)
        state, took = feed(state, ChildExited(pids[at], "boom"), ChildStarted(pids[at], new))
        restarts.append(took)
        pids[at] = new
    return {"decide_start_us": statistics.median(starts), "decide_restart_us": statistics.median(restarts)}


def cpu_ms(pid: Pid) -> float:
    with open(f"/proc/{pid.os_pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e6


def processes(sup: Pid, children: int, rounds: int) -> dict[str, float]:
    """Give milliseconds of processor time for one start and one restart among so many children."""
    for _ in range(children - DynamicSupervisor.count_children(sup).specs):
        DynamicSupervisor.start_child(sup, Agent.child_spec(dict))
    before = cpu_ms(sup)
    pids = [DynamicSupervisor.start_child(sup, Agent.child_spec(dict, name=f"one-{n}")) for n in range(rounds)]
    start, child = (cpu_ms(sup) - before) / rounds, statistics.median(map(cpu_ms, pids))
    before = cpu_ms(sup)
    for number, pid in enumerate(pids):
        process.exit(pid, "kill")
        pid.wait()
        Agent.get(f"one-{number}", len)
    restart = (cpu_ms(sup) - before) / rounds
    for number in range(rounds):
        DynamicSupervisor.terminate_child(sup, process.whereis(f"one-{number}"))
    return {"start_supervisor_ms": start, "start_child_ms": child, "restart_supervisor_ms": restart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, nargs="+", default=[10, 500, 2000], metavar="N")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="real starts; 0 only decides")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("otp_runtime").setLevel(logging.CRITICAL)
    rows = []
    with DynamicSupervisor.start_link(max_restarts=10_000_000) as sup:
        for children in sorted(options.children):
            row = {"children": children, **decisions(children, 300)}
            if options.rounds:
                row |= processes(sup, children, options.rounds)
            rows.append(row)
            if not options.json:
                print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
