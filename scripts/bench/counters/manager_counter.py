"""The counter in a multiprocessing manager: a process of its own, that nobody watches."""

from __future__ import annotations

import os
import platform
import signal
import time
from multiprocessing.managers import BaseManager

from reporting import STARTS, calls, median_ms, tell, timed, unique_bytes, until_answered


class Counter:
    def __init__(self) -> None:
        self._value = 0

    def inc(self) -> int:
        self._value += 1
        return self._value

    def os_pid(self) -> int:
        return os.getpid()


class Manager(BaseManager):
    pass


Manager.register("Counter", Counter)


def main() -> None:
    tell(version=f"Python {platform.python_version()}")
    started: list[tuple[Manager, Counter]] = []

    def start() -> None:
        manager = Manager()
        manager.start()
        started.append((manager, manager.Counter()))  # type: ignore[attr-defined]
        started[-1][1].inc()

    start()
    calls(started[0][1].inc)
    tell(note="no casts; nobody restarts it: the caller starts another")
    tell(start=median_ms([timed(start) for _ in range(STARTS)]))
    tell(memory=unique_bytes([counter.os_pid() for _, counter in started]) / len(started) / 1e6)

    def restart() -> float:
        manager, counter = started.pop()
        victim = counter.os_pid()
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        try:
            until_answered(counter.os_pid, victim, seconds=0)
        except TimeoutError:  # it will not come back
            start()
        until_answered(started[-1][1].os_pid, victim)
        took = time.perf_counter() - began
        manager.shutdown()
        return took

    tell(restart=median_ms([restart() for _ in range(STARTS // 2)]))
    for manager, _ in started:
        manager.shutdown()


if __name__ == "__main__":
    main()
