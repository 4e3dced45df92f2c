"""System messages: what every behaviour answers, whatever its callbacks do (OTP's `sys`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallbackFailed, OtpError
from otp_runtime.host import box as boxes
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from otp_runtime.behaviours.server_loop import ServerLoop


def handle(loop: ServerLoop, request: Any) -> tuple[int, Any]:
    """Answer a system message: how (a value, or an exception to raise in the caller) and what."""
    match request:
        case "get_state":
            return wire.VALUE, loop.state
        case ("replace_state", function):
            return _replace_state(loop, function)
        case "get_status":
            return wire.VALUE, status_of(loop)
        case "suspend":
            _suspend(loop, suspended=True)
            return wire.VALUE, None
        case "resume":
            _suspend(loop, suspended=False)
            return wire.VALUE, None
        case _:
            return wire.RAISE, OtpError(f"{request!r} is no system message that this process knows")


def _replace_state(loop: ServerLoop, function: Any) -> tuple[int, Any]:
    try:
        loop.state = function(loop.state)
    except Exception as error:  # noqa: BLE001 - OTP: the state stays, the caller hears of it
        return wire.RAISE, CallbackFailed(crash_of(error))
    return wire.VALUE, loop.state


def _suspend(loop: ServerLoop, *, suspended: bool) -> None:
    loop.suspended = suspended
    loop.box.set_flag(boxes.SUSPENDED, int(suspended))


def status_of(loop: ServerLoop) -> dict[str, Any]:
    """Describe a server through its `format_status`, as data."""
    status = loop.formatted({"state": loop.state, "message": None, "reason": None})
    return {
        "pid": loop.context.pid,
        "name": loop.box.name or None,
        "module": loop.box.label,
        "status": "suspended" if loop.suspended else "running",
        "parent": loop.context.pid_of(loop.context.parent),
        "trap_exit": loop.context.trap_exit,
        "handled": loop.handled,
        "queued": len(loop.context.inbox) + len(loop.set_aside),
        "state": status.get("state"),
    }
