"""System messages: what every behaviour answers, whatever its callbacks do (OTP's `sys`)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.returns import Ignore, NoReply, Ok, RaiseInCaller, Reply, Stop
from otp_runtime.core import messages as wire
from otp_runtime.errors import CallbackFailed, NotSuspended, OtpError, UpgradeFailed
from otp_runtime.host import box as boxes
from otp_runtime.process import boot as booting
from otp_runtime.process.context import ExitSignal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from otp_runtime.behaviours.debugging import Subject
    from otp_runtime.behaviours.server_loop import ServerLoop


def handle(loop: ServerLoop, request: Any) -> tuple[int, Any]:
    """Answer a system message: how (a value, or an exception to raise in the caller) and what.

    An async `code_change` gives an awaitable of both instead, as the value.
    """
    match request:
        case "get_state":
            return wire.VALUE, seen_state(loop)
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
        case ("change_code", old_vsn, extra):
            return _change_code(loop, old_vsn, extra)
        case ("debug", *what):
            return answer_debug(loop, tuple(what))
        case ("terminate", _reason):
            # the loop ends after the answer
            return wire.VALUE, None
        case ("run", function):
            return wire.VALUE, loop.run_function(function)
        case _:
            return wire.RAISE, OtpError(f"{request!r} is no system message that this process knows")


def seen_state(loop: ServerLoop) -> Any:
    """Give the state as its user knows it: a behaviour of the library's may keep more beside (OTP's callback)."""
    look = getattr(loop.server, "system_get_state", None)
    return loop.state if look is None else look(loop.state)


def answer_debug(subject: Subject, what: tuple[Any, ...]) -> tuple[int, Any]:
    """Answer a request about trace, log, statistics or debug functions."""
    from otp_runtime.behaviours import debugging

    try:
        return wire.VALUE, debugging.handle(subject, what)
    except OSError as error:
        return wire.RAISE, error


def _replace_state(loop: ServerLoop, function: Any) -> tuple[int, Any]:
    replace = getattr(loop.server, "system_replace_state", None)
    try:
        loop.state = function(loop.state) if replace is None else replace(function, loop.state)
    except ExitSignal:
        raise
    except BaseException as error:  # noqa: BLE001 - OTP: the state stays, the caller hears of it
        return wire.RAISE, CallbackFailed(booting.reason_of(error, loop.context))
    return wire.VALUE, seen_state(loop)


def _suspend(loop: ServerLoop, *, suspended: bool) -> None:
    loop.suspended = suspended
    loop.box.set_flag(boxes.SUSPENDED, int(suspended))


def _change_code(loop: ServerLoop, old_vsn: Any, extra: Any) -> tuple[int, Any]:
    """Let `code_change` convert the state; one that fails leaves the state as it was, and the server suspended."""
    if not loop.suspended:
        return wire.RAISE, NotSuspended(loop.box.name or loop.context.pid)
    try:
        result = loop.server.code_change(old_vsn, loop.state, extra)
    except ExitSignal:
        raise
    except BaseException as error:  # noqa: BLE001 - OTP: the old code goes on, the caller hears of it
        return wire.RAISE, UpgradeFailed(booting.reason_of(error, loop.context))
    if inspect.isawaitable(result):
        return wire.VALUE, _change_code_async(loop, result)
    return _take_changed(loop, result)


async def _change_code_async(loop: ServerLoop, changing: Awaitable[Any]) -> tuple[int, Any]:
    try:
        result = await changing
    except ExitSignal:
        raise
    except BaseException as error:  # noqa: BLE001 - OTP: the old code goes on, the caller hears of it
        return wire.RAISE, UpgradeFailed(booting.reason_of(error, loop.context))
    return _take_changed(loop, result)


def _take_changed(loop: ServerLoop, result: Any) -> tuple[int, Any]:
    try:
        loop.state = changed_state(result)
    except booting.BadReturn as error:
        return wire.RAISE, UpgradeFailed(error.reason)
    return wire.VALUE, None


def changed_state(result: Any) -> Any:
    """Give the state that `code_change` returned, or raise `BadReturn` when it refused or may not return that."""
    match result:
        case Stop():
            raise booting.BadReturn(result.reason)
        case Reply() | NoReply() | RaiseInCaller() | Ignore():
            raise booting.BadReturn(("bad_return_value", result))
        case Ok():
            return result.state
        case _:
            return result


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
        "mailbox": loop.mailbox,
        "queued": len(loop.context.inbox) + len(loop.set_aside),
        "debug": [] if loop.debugger is None else loop.debugger.what_is_on(),
        "state": status.get("state"),
    }
