"""The counter as a global of the one process of a ProcessPoolExecutor."""

from __future__ import annotations

import os
import platform
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from reporting import CALLS, STARTS, calls, median_ms, tell, timed, unique_bytes

value = 0


def inc() -> int:
    global value
    value += 1
    return value


def main() -> None:
    tell(version=f"Python {platform.python_version()}")
    pools: list[ProcessPoolExecutor] = []

    def start() -> None:
        pools.append(ProcessPoolExecutor(1))
        pools[-1].submit(inc).result()

    start()
    calls(lambda: pools[0].submit(inc).result())
    began = time.perf_counter()
    for future in [pools[0].submit(inc) for _ in range(CALLS)]:
        future.result()
    tell(cast=CALLS / (time.perf_counter() - began))
    tell(note="a death breaks the pool: the caller makes another")
    tell(start=median_ms([timed(start) for _ in range(STARTS)]))
    tell(memory=unique_bytes([pool.submit(os.getpid).result() for pool in pools]) / len(pools) / 1e6)

    def restart() -> float:
        pool = pools.pop()
        victim = pool.submit(os.getpid).result()
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        try:
            while True:
                pool.submit(inc).result()
        except BrokenProcessPool:
            start()
        took = time.perf_counter() - began
        pool.shutdown()
        return took

    tell(restart=median_ms([restart() for _ in range(STARTS // 2)]))
    for pool in pools:
        pool.shutdown()


if __name__ == "__main__":
    main()
