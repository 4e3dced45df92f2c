"""Two nodes and, beside them, two bare NATS clients on the same server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

from otp_runtime import GenServer, Node, Remote
from otp_runtime.cli.bench.server import Echo
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.host.directory import base_directory
from otp_runtime.testing import Peer

SERVER = "bench_echo"
SUBJECT = "bench.echo"
WARM_UP = 50


class Nodes:
    """Two programs: one calls, one answers, through the library and without it."""

    def __init__(self) -> None:
        self.cluster = f"bench{os.getpid()}"
        self._stack = contextlib.ExitStack()
        self.caller, self.callee, self.responder = (
            self._stack.enter_context(Peer(f"bench_{name}{os.getpid()}", cluster=f"embedded:{self.cluster}"))
            for name in ("a", "b", "c")
        )
        self.where = self.callee.call(start)
        self.responder.call(respond, self.cluster)

    def calls(self, count: int) -> list[float]:
        """Give the microseconds of each of `count` calls from node to node."""
        taken: list[float] = self.caller.call(call, self.where, count)
        return taken

    def round_trips(self, count: int) -> list[float]:
        """Give the microseconds of each of `count` requests of a bare client to another."""
        taken: list[float] = self.caller.call(request, self.cluster, count)
        return taken

    def cast_rate(self, count: int) -> float:
        """Give the casts a second that the other node handled."""
        taken: float = self.caller.call(cast, self.where, count)
        return taken

    def close(self) -> None:
        self._stack.close()


# -- what runs in the programs ---------------------------------------------------------------------------------


def start() -> str:
    Echo.start(name=SERVER)
    return Node.self()


def call(node: str, count: int) -> list[float]:
    server = Remote(SERVER, node)
    taken = []
    for number in range(count + WARM_UP):
        started = time.perf_counter()
        GenServer.call(server, ["get", number])
        taken.append((time.perf_counter() - started) * 1e6)
    return taken[WARM_UP:]


def cast(node: str, count: int) -> float:
    server = Remote(SERVER, node)
    GenServer.call(server, "count")
    started = time.perf_counter()
    for number in range(count):
        GenServer.cast(server, ["get", number])
    assert GenServer.call(server, "count", 60.0) == count
    return count / (time.perf_counter() - started)


async def _connect(cluster: str) -> Any:
    import nats

    said = EngineDirectory(base_directory(), cluster).read()
    assert said is not None
    return await nats.connect(said["url"], user=said["user"], password=said["password"])


def request(cluster: str, count: int) -> list[float]:
    async def ask() -> list[float]:
        # anew in each round: a client whose loop does not run between rounds answers no pings, and is dropped
        client = await _connect(cluster)
        taken = []
        for _ in range(count + WARM_UP):
            started = time.perf_counter()
            await client.request(SUBJECT, b"x" * 130, timeout=10)
            taken.append((time.perf_counter() - started) * 1e6)
        await client.close()
        return taken[WARM_UP:]

    return asyncio.run(ask())


def respond(cluster: str) -> None:
    """Answer from a thread with an event loop of its own, for as long as the program lives."""
    import threading

    ready = threading.Event()

    async def serve() -> None:
        client = await _connect(cluster)

        async def answer(message: Any) -> None:
            await message.respond(message.data)

        await client.subscribe(SUBJECT, cb=answer)
        await client.flush()
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(10)
