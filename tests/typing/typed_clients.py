"""Typed clients as a type checker sees them: both ends of each method are exact. Checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from otp_runtime import Client, Down, Exit, GenServer, NoReply, Pid, Reply, ServerRef, Stop, Supervisor
from otp_runtime.typed import CallClient, CastClient, call, cast, info


class Counter(GenServer[int]):
    """The counter of the guide, and every form that a method may have."""

    def init(self, start: int) -> int:
        """The state is the count."""
        return start

    @cast
    def inc(self, state: int, by: int = 1) -> int:
        """Give the new state."""
        return state + by

    @cast
    def keep(self, state: int) -> NoReply[int]:
        """Give a NoReply."""
        return NoReply(state, timeout=1.0)

    @cast
    def end(self, state: int, reason: str) -> int | Stop[int]:
        """Give either."""
        return state if reason == "no" else Stop(reason)

    @cast
    def end_now(self, state: int) -> Stop[int]:
        """Only ever stop."""
        return Stop("normal", state)

    @cast
    async def sleep(self, state: int, *seconds: float) -> int:
        """A coroutine."""
        return state

    @cast
    async def sleep_or_end(self, state: int, *, reason: str | None = None) -> NoReply[int] | Stop[int]:
        """A coroutine that gives either."""
        return NoReply(state) if reason is None else Stop(reason)

    @call
    def val(self, state: int) -> Reply[int, int]:
        """Reply."""
        return Reply(state, state)

    @call
    def text(self, state: int, prefix: str, *, width: int = 0) -> Reply[str | None, int] | Stop[int]:
        """Reply or stop."""
        if width < 0:
            return Stop("narrow", state)
        return Reply(f"{prefix}{state:{width}}" if prefix else None, state)

    @call
    def refuse(self, state: int) -> Reply[list[int], int]:
        """Raise in the caller."""
        return Reply([state], state) if state else Reply.error(KeyError("none"), state)

    @call
    async def slow(self, state: int, by: int) -> Reply[bytes, int]:
        """A coroutine."""
        return Reply(bytes(by), state)

    @call.later
    def wait(self, client: Client[int], state: int) -> NoReply[int]:
        """Answer some time."""
        GenServer.reply(client, state)
        return NoReply(state)

    @call.later
    def wait_or_not(self, client: Client[str], state: int, n: int) -> NoReply[int] | Reply[str, int]:
        """Answer now or some time."""
        return NoReply(state) if n else Reply("now", state)

    @call.later
    async def wait_async(self, client: Client[float], state: int) -> NoReply[int]:
        """Answer some time, in a coroutine."""
        return NoReply(state)


class Louder(Counter):
    """Overrides, and what `super()` gives."""

    @cast
    def inc(self, state: int, by: int = 1) -> int:
        """The base's new state, once more."""
        return super().inc(super().inc(state, by), by)

    @call
    def val(self, state: int) -> Reply[int, int]:
        """The base's reply, changed."""
        reply = super().val(state)
        return Reply(reply.value * 10, reply.state)

    @call
    async def slow(self, state: int, by: int) -> Reply[bytes, int]:
        """The base's coroutine."""
        return await super().slow(state, by)

    @call.later
    def wait(self, client: Client[int], state: int) -> NoReply[int]:
        """The base's."""
        return super().wait(client, state)


class Table(GenServer[dict[str, list[int]]]):
    """A state with parameters of its own."""

    @cast
    def put(self, state: dict[str, list[int]], key: str, *numbers: int) -> dict[str, list[int]]:
        """Give a new dict."""
        return {**state, key: [*numbers]}

    @call
    def get(self, state: dict[str, list[int]], key: str) -> Reply[list[int] | None, dict[str, list[int]]]:
        """Reply with an Optional."""
        return Reply(state.get(key), state)

    @info(Down)
    def on_down(self, message: Down, state: dict[str, list[int]]) -> dict[str, list[int]]:
        """A type."""
        return {**state, str(message.reason): []}

    @info((Down, Exit))
    def on_end(self, message: Down | Exit, state: dict[str, list[int]]) -> NoReply[dict[str, list[int]]]:
        """Types."""
        return NoReply(state)

    @info(("done", ...))
    async def on_done(self, message: Any, state: dict[str, list[int]]) -> dict[str, list[int]]:
        """Any other pattern."""
        return state


async def main(server: ServerRef) -> None:
    """Call them all."""
    n: int = Counter.val("counter")
    n = Counter.val.options(timeout=1.0, across_restart=True, on_timeout="kill")("counter")
    n = await Counter.val.acall("counter")
    print(n)
    assert_type(Counter.val(server), int)
    assert_type(await Counter.val.acall(server), int)
    assert_type(Counter.text(server, "x"), str | None)
    assert_type(Counter.text(server, prefix="x", width=3), str | None)
    assert_type(Counter.refuse(server), list[int])
    assert_type(Counter.slow(server, 3), bytes)
    assert_type(await Counter.slow.acall(server, by=3), bytes)
    assert_type(Counter.wait(server), int)
    assert_type(Counter.wait_or_not(server, 1), str)
    assert_type(Counter.wait_async(server), float)
    assert_type(Louder.val(server), int)
    assert_type(Louder.slow(server, 3), bytes)
    assert_type(Louder.wait(server), int)
    assert_type(Table.get(server, "key"), list[int] | None)

    Counter.inc("counter")
    Counter.inc("counter", 2)
    Counter.inc.options(timeout=None)("counter", by=2)
    Counter.keep(server)
    Counter.end(server, "now")
    Counter.end_now(server)
    Counter.sleep(server, 0.1, 2)
    Counter.sleep_or_end(server, reason="now")
    Table.put(server, "key", 1, 2, 3)

    tell: CallClient[[], int] = Counter.val
    count: CastClient[[int]] = Counter.inc
    tell(server)
    count(server, 1)

    assert_type(Counter().val(3), Reply[int, int])
    assert_type(Counter().inc(3, by=2), int)


def start() -> None:
    """Typed servers start and are supervised as all are."""
    with Counter.start_link(0, name="counter") as counter:
        pid: Pid = counter
        Counter.inc(pid)
    with Supervisor.start_link([Counter.child_spec(0), Table], strategy="one_for_one") as sup:
        print(Supervisor.which_children(sup))
