"""What a type checker must refuse of typed clients: an error that does not come makes its comment an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime import Client, Down, Exit, GenServer, NoReply, Reply
from otp_runtime.typed import call, cast, info

if TYPE_CHECKING:
    from otp_runtime import ServerRef


class Counter(GenServer[int]):
    """Nothing is wrong here."""

    @cast
    def inc(self, state: int, by: int = 1) -> int:
        """Count."""
        return state + by

    @call
    def val(self, state: int) -> Reply[int, int]:
        """Tell."""
        return Reply(state, state)

    @call.later
    def wait(self, client: Client[int], state: int, more: str) -> NoReply[int]:
        """Tell later."""
        GenServer.reply(client, state)
        return NoReply(state)

    @info(Down)
    def on_down(self, message: Down, state: int) -> int:
        """Hear."""
        return state


async def callers(server: ServerRef) -> None:
    """Wrong arguments and wrong uses of what comes back."""
    Counter.inc(server, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Counter.inc(server, 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Counter.inc(server, speed=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Counter.inc()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Counter.inc(3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Counter.val(server, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Counter.wait(server)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Counter.val.acall(server, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Counter.val.options(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Counter.inc.options(across_restart=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    text: str = Counter.val(server)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    later: str = Counter.wait(server, "x")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text, later)
    Counter().val("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Wrong(GenServer[int]):
    """Methods that do not return what their mark asks for."""

    @call  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def no_reply(self, state: int) -> int:
        """A call replies."""
        return state

    @call  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def nobody(self, state: int) -> NoReply[int]:
        """Nobody could answer: that is `@call.later`."""
        return NoReply(state)

    @call  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def other_state(self, state: int) -> Reply[int, str]:
        """The state is another type's."""
        return Reply(1, "x")

    @cast  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def forgets(self, state: int) -> str:
        """As here."""
        return str(state)

    @cast  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def replies(self, state: int) -> Reply[int, int]:
        """Nobody waits for it."""
        return Reply(state, state)

    @call.later  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def without_client(self, state: int) -> NoReply[int]:
        """It has nobody to answer."""
        return NoReply(state)

    @info(Exit)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def on_exit(self, message: Down, state: int) -> int:
        """The pattern lets through what the method does not take."""
        return state


class Narrower(Counter):
    """Overrides that a client of the base class cannot use."""

    @cast
    def inc(self, state: int, by: str = "") -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Other arguments."""
        return state


def untyped(state: Any) -> None:
    """Nothing is known, nothing is refused."""
    print(state)
