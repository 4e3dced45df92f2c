"""The counter as an otpylib gen_server: a task of one event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from reporting import CALLS, STARTS, acalls, median_ms, need, tell, unique_bytes

need("otpylib")

from loguru import logger  # noqa: E402
from otpylib import gen_server, process, supervisor  # noqa: E402
from otpylib.gen_server.data import NoReply, Reply  # noqa: E402
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule  # noqa: E402
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend  # noqa: E402
from otpylib.runtime.registry import set_runtime  # noqa: E402


class Counter(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    async def init(self, _arg: Any) -> dict[str, int]:
        return {"value": 0, "id": time.perf_counter_ns()}

    async def handle_call(self, request: Any, _from: Any, state: dict[str, int]) -> Any:
        match request:
            case "boom":
                raise RuntimeError
            case "id":
                return Reply(state["id"]), state
        return Reply(state["value"] + 1), {**state, "value": state["value"] + 1}

    async def handle_cast(self, _request: Any, state: dict[str, int]) -> Any:
        if _request == "boom":
            raise RuntimeError
        return NoReply(), {**state, "value": state["value"] + 1}

    async def handle_info(self, _message: Any, state: dict[str, int]) -> Any:
        return NoReply(), state

    async def terminate(self, _reason: Any, _state: dict[str, int]) -> None:
        pass


class Tree(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    async def init(self, _arg: Any) -> Any:
        child = supervisor.child_spec(id="counter", module=Counter, name="counter")
        return [child], supervisor.options(max_restarts=1_000)

    async def terminate(self, _reason: Any, _state: Any) -> None:
        pass


async def measure(done: asyncio.Future[None]) -> None:
    try:
        await _measure()
    except Exception as error:  # noqa: BLE001 - told to whoever waits
        done.set_exception(error)
    else:
        done.set_result(None)


async def _measure() -> None:
    await supervisor.start_link(Tree, None)
    await acalls(lambda: gen_server.call("counter", "inc", 5.0))

    before = await gen_server.call("counter", "inc", 5.0)
    began = time.perf_counter()
    for _ in range(CALLS):
        await gen_server.cast("counter", "inc")
    assert await gen_server.call("counter", "inc", 30.0) == before + CALLS + 1
    tell(cast=CALLS / (time.perf_counter() - began))
    tell(note="tasks of one event loop: kill -9 ends all, the restart is after an exception")

    starts = []
    for number in range(STARTS):
        began = time.perf_counter()
        await gen_server.start(Counter, None, name=f"counter {number}")
        await gen_server.call(f"counter {number}", "inc", 5.0)
        starts.append(time.perf_counter() - began)
    tell(start=median_ms(starts))
    memory, many = unique_bytes([os.getpid()]), 100
    for _ in range(many):
        await gen_server.start(Counter, None)
    tell(memory=(unique_bytes([os.getpid()]) - memory) / many / 1e6)
    tell(restart=median_ms([await _restart() for _ in range(5)]))


async def _restart() -> float:
    victim = await gen_server.call("counter", "id", 5.0)
    began = time.perf_counter()
    await gen_server.cast("counter", "boom")
    while True:
        try:
            if await gen_server.call("counter", "id", 0.02) != victim:
                return time.perf_counter() - began
        except Exception:  # noqa: BLE001 - it says in many ways that it is not back yet
            await asyncio.sleep(0)


async def main() -> None:
    logger.remove()
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await process.spawn(measure, args=[done], mailbox=True)
    await done
    sys.stdout.flush()
    os._exit(0)  # its shutdown waits for processes that never end


if __name__ == "__main__":
    asyncio.run(main())
