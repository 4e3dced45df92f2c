"""Servers with typed methods. Importable and light."""

from __future__ import annotations

import asyncio
from typing import Any

from otp_runtime import Client, Down, Exit, GenServer, NoReply, Reply, Stop, process
from otp_runtime.typed import call, cast, info


class Counter(GenServer[int]):
    """The counter of the guide."""

    def init(self, start: int) -> int:
        return start

    @cast
    def inc(self, state: int, by: int = 1, *, times: int = 1) -> int:
        """Count on."""
        return state + by * times

    @cast
    def keep(self, state: int) -> NoReply[int]:
        return NoReply(state)

    @cast
    def end(self, state: int, reason: Any = "normal") -> Stop[int]:
        return Stop(reason, state)

    @cast
    def bad(self, state: int) -> Any:
        return Reply("to whom?", state)

    @call
    def val(self, state: int) -> Reply[int, int]:
        """Tell the count."""
        return Reply(state, state)

    @call
    def add_all(self, state: int, *numbers: int, sign: int = 1) -> Reply[int, int]:
        total = state + sign * sum(numbers)
        return Reply(total, total)

    @call
    def refuse(self, state: int) -> Reply[int, int]:
        return Reply.error(KeyError("refused"), state)

    @call
    def crash(self, state: int) -> Reply[float, int]:
        return Reply(1 / 0, state)

    @call.later
    def later(self, client: Client[int], state: int, more: int) -> NoReply[int]:
        GenServer.reply(client, state + more)
        return NoReply(state)

    @call.later
    def never(self, client: Client[int], state: int) -> NoReply[int]:
        return NoReply(state)


class Mixed(Counter):
    """Typed methods of its own and inherited, beside requests matched by hand."""

    @call
    def val(self, state: int) -> Reply[int, int]:
        return Reply(-super().val(state).value, state)

    @call
    def twice(self, state: int) -> Reply[int, int]:
        return Reply(2 * state, state)

    def handle_call(self, request: Any, client: Client[Any], state: int, /) -> Any:
        match request:
            case "by hand":
                return Reply(("by hand", state), state)
            case ("twice", (), {"by_hand": True}):
                return Reply("never reached", state)
            case _:
                return super().handle_call(request, client, state)

    def handle_cast(self, request: Any, state: int, /) -> Any:
        match request:
            case ("set", number):
                return NoReply(number)
            case _:
                return super().handle_cast(request, state)


class OnTop(Mixed):
    """Handles by hand what `Mixed` would."""

    def handle_call(self, request: Any, client: Client[Any], state: int, /) -> Any:
        if request == "on top":
            return Reply("on top", state)
        return Mixed.handle_call(self, request, client, state)


class ByHand(GenServer[Any]):
    """Not typed."""

    def handle_call(self, request: Any, client: Client[Any], state: Any, /) -> Any:
        return Reply(("by hand", request), state)


class Joined(ByHand, Counter):
    """A plain server first, a typed one second."""


class Listener(GenServer[list[Any]]):
    """Tells what it heard."""

    trap_exit = True

    @info(Down)
    def on_down(self, message: Down, heard: list[Any]) -> list[Any]:
        *heard, client = heard
        GenServer.reply(client, ("down", message.reason))
        return heard

    @info((Exit, KeyError))
    def on_exit(self, message: Exit | KeyError, heard: list[Any]) -> NoReply[list[Any]]:
        return NoReply([*heard, "exit"])

    @info(("done", ...))
    def on_done(self, message: Any, heard: list[Any]) -> list[Any]:
        return [*heard, message]

    @info("stop")
    def on_stop(self, message: str, heard: list[Any]) -> Stop[list[Any]]:
        return Stop("told")

    @info(lambda message: message["number"] > 10)
    def on_large(self, message: Any, heard: list[Any]) -> list[Any]:
        return [*heard, "large"]

    @call.later
    def wait_down(self, client: Client[Any], heard: list[Any], pid: Any) -> NoReply[list[Any]]:
        process.monitor(pid)
        return NoReply([*heard, client])

    @call
    def heard(self, heard: list[Any]) -> Reply[list[Any], list[Any]]:
        return Reply(heard, heard)


class Eavesdropper(Listener):
    """Its own methods come first, and the rest goes to `handle_info`."""

    @info(("done", str))
    def on_done(self, message: Any, heard: list[Any]) -> list[Any]:
        return [*heard, "overridden"]

    @info(("done", 2))
    def on_two(self, message: Any, heard: list[Any]) -> list[Any]:
        return [*heard, "two"]

    def handle_info(self, message: Any, heard: list[Any], /) -> Any:
        return NoReply([*heard, ("rest", message)])


class Asynchronous(GenServer[int]):
    """Awaits; one of its methods does not."""

    @call
    async def val(self, state: int) -> Reply[int, int]:
        await asyncio.sleep(0)
        return Reply(state, state)

    @cast
    async def inc(self, state: int, by: int = 1) -> int:
        await asyncio.sleep(0)
        return state + by

    @cast
    def dec(self, state: int) -> int:
        return state - 1

    @info("tick")
    async def tick(self, message: str, state: int) -> int:
        await asyncio.sleep(0)
        return state + 100
