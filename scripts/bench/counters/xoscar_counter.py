"""The counter as an xoscar actor, in a process of a pool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from reporting import CALLS, STARTS, acalls, median_ms, need, tell, unique_bytes

need("xoscar")

import xoscar as xo  # noqa: E402


class Counter(xo.Actor):
    def __init__(self) -> None:
        super().__init__()
        self._value = 0

    def inc(self) -> int:
        self._value += 1
        return self._value

    def value(self) -> int:
        return self._value

    def os_pid(self) -> int:
        return os.getpid()


async def main() -> None:
    pool = await xo.create_actor_pool("127.0.0.1", n_process=1, auto_recover="actor")
    address = pool.external_address
    strategy = xo.allocate_strategy.ProcessIndex(1)
    counter = await xo.create_actor(Counter, address=address, uid="counter", allocate_strategy=strategy)
    await acalls(counter.inc)

    before = await counter.value()
    began = time.perf_counter()
    for _ in range(CALLS):
        await counter.inc.tell()
    while await counter.value() < before + CALLS:
        pass
    tell(cast=CALLS / (time.perf_counter() - began))

    starts, os_pids = [], []
    for number in range(STARTS // 2):
        began = time.perf_counter()
        sub = await pool.append_sub_pool()
        one = await xo.create_actor(Counter, address=sub, uid=f"counter {number}")
        await one.inc()
        starts.append(time.perf_counter() - began)
        os_pids.append(await one.os_pid())
    tell(start=median_ms(starts))
    tell(memory=unique_bytes(os_pids) / len(os_pids) / 1e6)

    tell(restart=median_ms([await _restart(counter) for _ in range(3)]))
    await pool.stop()


async def _restart(counter: Any) -> float:
    victim = await counter.os_pid()
    began = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    while True:
        try:
            if await asyncio.wait_for(counter.os_pid(), 1) != victim:
                return time.perf_counter() - began
        except Exception:  # noqa: BLE001 - it says in many ways that it is not back yet
            await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(main())
