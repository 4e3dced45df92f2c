"""The server that is measured: it answers what it was asked and counts what it was told."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from otp_runtime import GenServer, NoReply, Reply

if TYPE_CHECKING:
    from otp_runtime import Client


class Echo(GenServer[int]):
    """`call` gives the request back, "count" the casts so far, "os_pid" the process that answers."""

    def init(self, arg: Any) -> int:
        return 0

    def handle_cast(self, request: Any, state: int) -> NoReply[int]:
        return NoReply(state + 1)

    def handle_call(self, request: Any, client: Client[Any], state: int) -> Reply[Any, int]:
        if request == "count":
            return Reply(state, 0)
        if request == "os_pid":
            return Reply(os.getpid(), state)
        return Reply(request, state)


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
