"""The counter as a Ray actor: a process of a local cluster."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

from reporting import CALLS, calls, median_ms, need, tell, timed, unique_bytes, until_answered

need("ray")

os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # silent, and at home

import ray  # noqa: E402


@ray.remote(num_cpus=0, max_restarts=-1)
class Counter:
    def __init__(self) -> None:
        self._value = 0

    def inc(self) -> int:
        self._value += 1
        return self._value

    def os_pid(self) -> int:
        return os.getpid()


def main() -> None:
    ray.init(
        num_cpus=1,
        _temp_dir=os.environ.get("RAY_TMPDIR"),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
    )
    counter: Any = Counter.remote()
    calls(lambda: ray.get(counter.inc.remote()), CALLS // 4)

    began = time.perf_counter()
    for _ in range(CALLS):
        last = counter.inc.remote()
    ray.get(last)
    tell(cast=CALLS / (time.perf_counter() - began))

    actors: list[Any] = []

    def start() -> None:
        actors.append(Counter.remote())
        ray.get(actors[-1].inc.remote())

    tell(start=median_ms([timed(start) for _ in range(4)]))
    tell(memory=unique_bytes([ray.get(actor.os_pid.remote()) for actor in actors]) / len(actors) / 1e6)

    def restart() -> float:
        victim = ray.get(counter.os_pid.remote())
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        until_answered(lambda: ray.get(counter.os_pid.remote(), timeout=10), victim)
        return time.perf_counter() - began

    tell(restart=median_ms([restart() for _ in range(3)]))
    ray.shutdown()


if __name__ == "__main__":
    main()
