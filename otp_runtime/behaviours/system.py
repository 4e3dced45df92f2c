"""OTP's `sys`: look into any server, hold it, change its state or its code, without a word of its callbacks.

Public as `otp_runtime.system`. Requests wait in the server's mailbox, so a busy server answers late, except those
that must work past a flood: `resume` and `get_status` go over the control lane, in front of everything queued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import gen
from otp_runtime.core import messages as wire
from otp_runtime.process import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.terms.pid import ServerRef


def get_state(server: ServerRef, timeout: float | None = 5.0) -> Any:
    """Give the server's state. Raises as `GenServer.call`, and `CodecError` when the state cannot be sent."""
    return _ask(server, "get_state", timeout)


def replace_state(server: ServerRef, fun: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Make `fun(state)`, computed in the server, its state; gives the new one.

    Raises `CallbackFailed(reason)` when `fun` raised: the state is unchanged and the server goes on.
    """
    return _ask(server, ("replace_state", fun), timeout)


def get_status(server: ServerRef, timeout: float | None = 5.0) -> dict[str, Any]:
    """Describe the server: "status" ("running", "suspended"), "state" (through `format_status`), "queued" and more.

    Overtakes what is queued, but waits for the callback that runs.
    """
    return gen.request_past_queue(server, "get_status", timeout)  # type: ignore[no-any-return]


def suspend(server: ServerRef, timeout: float | None = 5.0) -> None:
    """Let the server handle system messages only; all others wait, in order, for `resume`.

    Not counted: one `resume` undoes any number. A suspended server still obeys `stop` and its parent's exit.
    """
    _ask(server, "suspend", timeout)


def resume(server: ServerRef, timeout: float | None = 5.0) -> None:
    """Let a suspended server go on; a server timeout starts afresh. Overtakes what is queued."""
    gen.request_past_queue(server, "resume", timeout)


def change_code(server: ServerRef, old_vsn: Any = None, extra: Any = None, timeout: float | None = 5.0) -> None:
    """Let `code_change(old_vsn, state, extra)` convert the state of a suspended server.

    Raises `NotSuspended` when it is running; `UpgradeFailed(reason)` when `code_change` raised or returned
    `Stop(reason)`: the state is as it was, the server still suspended.
    """
    _ask(server, ("change_code", old_vsn, extra), timeout)


def terminate(server: ServerRef, reason: Any = "normal", timeout: float | None = 5.0) -> None:
    """Order the server to end with `reason`, and go on; its `terminate` runs. `GenServer.stop` waits for the end."""
    _ask(server, ("terminate", reason), timeout)


def _ask(server: ServerRef, request: Any, timeout: float | None) -> Any:
    return client.request(server, request, timeout, kind=wire.SYSTEM)


__all__ = ["change_code", "get_state", "get_status", "replace_state", "resume", "suspend", "terminate"]
