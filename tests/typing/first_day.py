"""What a user's first programs look like to a type checker: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any

from otp_runtime import Agent, Client, GenServer, NoReply, Pid, Reply, Supervisor


class Counter(GenServer[int]):
    """A typed counter."""

    def init(self, start: int, /) -> int:
        """The state is the count."""
        return start

    def handle_cast(self, request: str, state: int, /) -> NoReply[int]:
        """Count."""
        return NoReply(state + 1)

    def handle_call(self, request: str, client: Client[int], state: int, /) -> Reply[int, int]:
        """Tell."""
        return Reply(state, state)


class Bare(GenServer):
    """Without a type parameter the state is Any."""

    async def handle_call(self, request: Any, client: Client, state: Any, /) -> Reply:
        """A callback may be async."""
        return Reply(state, state)


def main() -> None:
    """Start, call, stop."""
    with Counter.start_link(0, name="counter", overflow="error") as counter:
        GenServer.cast(counter, "inc")
        pid: Pid = counter
        print(GenServer.call(pid, "val"))
    children = [Counter.child_spec(0, name="counter", restart="transient"), Bare, (Bare, 1)]
    with Supervisor.start_link(children, strategy="one_for_one", max_restarts=3) as sup:
        print(Supervisor.which_children(sup))
    with Agent.start_link(lambda: 1) as agent:
        n: int = Agent.get(agent, lambda state: int(state) + 1)
        print(n)
