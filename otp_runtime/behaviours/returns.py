"""What callbacks return. A missing part is a private sentinel, never None: `reply=None` replies None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from otp_runtime.core.missing import MISSING as MISSING  # noqa: PLC0414 - also from here
from otp_runtime.core.missing import Missing

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T")
    S = TypeVar("S", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    S = TypeVar("S")
    V = TypeVar("V")


@dataclass(slots=True, unsafe_hash=True)
class Ok(Generic[S]):
    """From `init`: the state, and what comes next.

    `timeout`: seconds after which, without any message, `handle_info("timeout", state)` is called. `continue_`: a term
    for `handle_continue`, before the first message. `hibernate`: free what memory can be freed while waiting.
    """

    state: S
    timeout: float | None = None
    continue_: Any = MISSING
    hibernate: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Reply(Generic[V, S]):
    """From `handle_call`: reply `value` to the caller, go on with `state`. Other fields as in `Ok`.

    The reply is sent before `handle_continue` runs.
    """

    value: V
    state: S
    timeout: float | None = None
    continue_: Any = MISSING
    hibernate: bool = False

    @staticmethod
    def error(exception: BaseException, state: T) -> Reply[Any, T]:
        """Raise `exception` in the caller without ending the server."""
        return RaiseInCaller(exception, state)


@dataclass(slots=True, unsafe_hash=True)
class RaiseInCaller(Reply[Any, Any]):
    """See `Reply.error`: `value` is the exception. A Reply, so that a method that promises one may give it."""


@dataclass(slots=True, unsafe_hash=True)
class NoReply(Generic[S]):
    """Go on with `state`; a caller, if any, is answered later by `GenServer.reply`. Other fields as in `Ok`."""

    state: S
    timeout: float | None = None
    continue_: Any = MISSING
    hibernate: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Stop(Generic[S]):
    """End the server with `reason`: `terminate` runs, then `reply` (if given) is sent, then the process ends.

    Without `state` the last one is kept.
    """

    reason: Any
    state: S | Missing = MISSING
    reply: Any = MISSING


@dataclass(slots=True, unsafe_hash=True)
class Ignore:
    """From `init`: do not start; `start_link` gives None."""
