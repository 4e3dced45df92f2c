"""Agent: a server that only keeps a state, handled by functions that its callers send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer, Options
from otp_runtime.behaviours.returns import NoReply, Reply, Stop
from otp_runtime.process import ending

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import EllipsisType
    from typing import TypeAlias

    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.terms.pid import Pid, ServerRef

    MaybeNone: TypeAlias = Any

S = TypeVar("S")
V = TypeVar("V")


class _AgentServer(GenServer[Any]):
    """The agent's process."""

    _label: ClassVar[str] = "Agent"
    hands_over: ClassVar[bool] = True

    def init(self, fun: Callable[[], Any], /) -> Any:
        return fun()

    def handle_call(self, request: Any, client: Client[Any], state: Any, /) -> Any:
        match request:
            case ("get", fun):
                return Reply(fun(state), state)
            case ("update", fun):
                return Reply(None, fun(state))
            case ("get_and_update", fun):
                result = fun(state)
                if isinstance(result, tuple) and len(result) == 2:
                    return Reply(*result)
                return Stop(("bad_return_value", result))
            case _:
                return super().handle_call(request, client, state)

    def handle_cast(self, request: Any, state: Any, /) -> Any:
        match request:
            case ("cast", fun):
                return NoReply(fun(state))
            case _:
                return super().handle_cast(request, state)


class Agent:
    """A process that keeps a state. The functions, lambdas and closures too, run in the agent, one at a time.

    >>> from otp_runtime import Agent
    >>> with Agent.start_link(lambda: 41) as agent:
    ...     Agent.update(agent, lambda n: n + 1)
    ...     Agent.get(agent, lambda n: n)
    42

    Use it for a state that is shared and small; keep work that may fail or take long out of the functions, as a
    function that raises ends the agent, and the others wait while one runs. Then a `GenServer` is the better home.
    """

    @staticmethod
    def start(
        fun: Callable[[], Any], *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """As `start_link`, linked to nobody."""
        return _AgentServer.start(fun, name=name, timeout=timeout, **options)

    @staticmethod
    def start_link(
        fun: Callable[[], Any], *, name: Any = None, timeout: float | None = None, **options: Unpack[Options]
    ) -> Pid | MaybeNone:
        """Start an agent linked to the caller; `fun()` runs in it and gives the first state.

        Options as `GenServer.start_link`. Raises `AlreadyStarted`, `InitFailed(Crash(…))` when `fun` raises,
        `StartTimeout`. EX: Agent.start_link/2.
        """
        return _AgentServer.start_link(fun, name=name, timeout=timeout, **options)

    @staticmethod
    def child_spec(
        fun: Callable[[], Any] = dict,
        *,
        id: Any = None,
        restart: Any = None,
        shutdown: Any = ...,
        significant: bool = False,
        name: Any = None,
        timeout: float | None = None,
        spare: int = 0,
        backoff: Backoff | EllipsisType | None = ...,
        **options: Unpack[Options],
    ) -> ChildSpec:
        """Say how a supervisor starts this agent. `id` defaults to the local `name`, else "Agent"."""
        more: Any = dict(options) if timeout is None else {**options, "timeout": timeout}
        if id is None:
            id = name if isinstance(name, str) else "Agent"
        return _AgentServer.child_spec(
            fun,
            id=id,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            name=name,
            backoff=backoff,
            spare=spare,
            **more,
        )

    @staticmethod
    def get(agent: ServerRef, fun: Callable[[Any], V], timeout: float | None = 5.0) -> V:
        """Give `fun(state)`, computed in the agent. Raises as `GenServer.call`; `ServerDown` when `fun` raised."""
        return gen.call(agent, ("get", fun), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def update(agent: ServerRef, fun: Callable[[Any], Any], timeout: float | None = 5.0) -> None:
        """Make `fun(state)` the state; returns when it is."""
        gen.call(agent, ("update", fun), timeout)

    @staticmethod
    def get_and_update(agent: ServerRef, fun: Callable[[Any], tuple[V, Any]], timeout: float | None = 5.0) -> V:
        """Let `fun(state)` give `(reply, new state)`; gives the reply. Anything but a pair ends the agent."""
        return gen.call(agent, ("get_and_update", fun), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def cast(agent: ServerRef, fun: Callable[[Any], Any]) -> None:
        """Make `fun(state)` the state, some time; returns at once."""
        gen.cast(agent, ("cast", fun))

    @staticmethod
    def stop(
        agent: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False
    ) -> None:
        """Stop the agent and wait until it is gone. As `GenServer.stop`."""
        ending.stop(agent, reason, timeout, missing_ok=missing_ok)
