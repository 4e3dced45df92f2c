"""Servers that are measured beside `otp_runtime.cli.bench.server.Echo`: one to be upgraded, one that keeps a state."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otp_runtime import GenServer, Reply
from otp_runtime.cli.bench.server import Echo

if TYPE_CHECKING:
    from otp_runtime import Client


class Upgraded(Echo):
    """An Echo whose code is not the library's, which no upgrade replaces."""


def kept_state(size: int) -> dict[str, Any]:
    """Make a state of about so many bytes."""
    return {"calls": 0, **{f"field {number}": f"{number:032}" for number in range(size // 42)}}


class Kept(GenServer[dict[str, Any]]):
    """Its state is a dict of about so many bytes, and changes with every call; started with `restore` or without."""

    def init(self, size: int) -> dict[str, Any]:
        return kept_state(size)

    def handle_call(self, request: Any, client: Client[Any], state: dict[str, Any]) -> Reply[Any, dict[str, Any]]:
        match request:
            case ("commit", count, changing):
                return Reply(self._commit(count, changing, state), state)
            case _:
                return Reply(request, {**state, "calls": state["calls"] + 1})

    def _commit(self, count: int, changing: bool, state: dict[str, Any]) -> float:
        """Commit `count` times; give the microseconds of each."""
        states = [{**state, "calls": number} for number in (-1, -2 if changing else -1)] * 2
        for one in states:
            self.commit(one)
        started = time.perf_counter()
        for number in range(count):
            self.commit(states[number & 1])
        return (time.perf_counter() - started) / count * 1e6


class Caller(GenServer[None]):
    """A client: told a server, a number and a time, it calls so often from then on; gives the microseconds of each."""

    def handle_call(self, request: Any, client: Client[Any], state: None) -> Reply[list[float], None]:
        server, count, at = request
        clock = time.perf_counter_ns
        samples = []
        time.sleep(max(0, at - clock()) / 1e9)
        for number in range(count):
            started = clock()
            GenServer.call(server, number)
            samples.append((clock() - started) / 1000)
        return Reply(samples, None)
