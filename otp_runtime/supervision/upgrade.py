"""Hot code upgrade: a server goes on, same pid, same mailbox, in a new OS process with the code now on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import gen
from otp_runtime.core import messages as wire
from otp_runtime.core import supervision as core
from otp_runtime.errors import CallingSelf, CallTimeout, NoProcess, ServerDown, UpgradeFailed
from otp_runtime.host import box as boxes
from otp_runtime.host import poller
from otp_runtime.process import client, names
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer
    from otp_runtime.terms.pid import ServerRef

ANSWER_SECONDS = 1.0
"""How much later than the time given the OS parent's own time-out is waited for: its answer says more."""


def upgrade(server_or_supervisor: ServerRef, *, extra: Any = None, timeout: float | None = None) -> None:
    """Let a server go on with the code now on disk, in a fresh OS process: same pid, name, mailbox, links, timers.

    Its OS parent does it. The new process imports the code; the old one ends its callback, runs `release(state)` if
    it has one, and hands over; the new one runs `init(arg)`, which opens what belongs on `self`, then
    `code_change(old_vsn, state, extra)`, where `old_vsn` is the old class's `vsn` attribute (None without one), and
    goes on with what `code_change` gave. No message is lost or doubled and no call fails; callers wait a little.

    Of a supervisor: its children are upgraded one after another in start order, nested supervisors' too; the
    supervisors themselves run library code only and stay. Restarts use the new code from then on.

    `extra` is what `code_change` is given; `timeout` is seconds for each server (default None: for ever).

    Raises `UpgradeFailed(reason)`: the old code serves on with its state (of a supervisor: in the child that failed and
    those after it, while those before it run the new code; the reason is `("failed_to_upgrade_child", id, reason)`).
    `NoProcess`, `CallingSelf`, `CodecError` (`extra` cannot be sent). OTP: release_handler, sys:change_code/4.
    """
    context = client.caller(server_or_supervisor, "upgrade")
    started = poller.now()
    deadline = client.deadline_of(timeout, started)
    peer = names.find(context, server_or_supervisor, deadline, "upgrade")
    encoded = context.codec.encode(extra, "extra")
    _tell_launcher(context)
    _upgrade(context, peer, server_or_supervisor, context.next_serial() << 24 | context.id & 0xFFFFFF, encoded, timeout)


def _tell_launcher(context: Context) -> None:
    """Have what the launcher has forked ahead ended: it may have imported the code that was on disk before."""
    launcher = context.peer(LAUNCHER_ID)
    if launcher is not None:
        context.post(launcher, context.codec.encode([wire.CAST, ["upgraded"]]))


def recycle(server: ServerRef, *, timeout: float | None = None) -> None:
    """Let a server go on in a new OS process with the code that its OS parent has: `upgrade` without new code.

    `code_change` does not run. What a budget does to a server that has grown too large, between two messages.
    """
    context = client.caller(server, "recycle")
    peer = names.find(context, server, client.deadline_of(timeout, poller.now()), "recycle")
    _hand_over(context, peer, server, None, b"", timeout)


def _upgrade(context: Context, peer: Peer, server: Any, batch: int, extra: bytes, timeout: float | None) -> None:
    if peer.box.kind == boxes.KIND_SUPERVISOR:
        _upgrade_children(context, peer.pid, batch, extra, timeout)
    else:
        _hand_over(context, peer, server, batch, extra, timeout)


def _upgrade_children(context: Context, supervisor: Pid, batch: int, extra: bytes, timeout: float | None) -> None:
    for child_id, pid, _type in reversed(gen.call(supervisor, core.WhichChildren(), timeout)):
        if not isinstance(pid, Pid):
            continue
        peer = context.peer(pid.id)
        if peer is None or peer.box.flag(boxes.READY) == boxes.PLAIN:
            # a task is none that is upgraded; who has just died is started from whatever code is in force then
            continue
        try:
            _upgrade(context, peer, pid, batch, extra, timeout)
        except UpgradeFailed as error:
            if _stays(error.reason):
                continue
            raise UpgradeFailed(("failed_to_upgrade_child", child_id, error.reason)) from error
    # what it restarts runs the new code, nested supervisors too, even if it has no server of its own
    _ask(supervisor, _request(supervisor.id, batch=batch, extra=b"", timeout=timeout), timeout)


def _stays(reason: Any) -> bool:
    """Say whether a child has no code of the user's to be upgraded: a registry, an event manager."""
    return isinstance(reason, tuple) and reason[:1] == ("cannot_be_handed_over",)


def _hand_over(
    context: Context, peer: Peer, server: Any, batch: int | None, extra: bytes, timeout: float | None
) -> None:
    if peer.id == context.id:
        raise CallingSelf(server, "upgrade", 0.0)
    if peer.box.kind != boxes.KIND_SERVER:
        raise UpgradeFailed("not_a_server")
    reaper = context.pid_of(peer.box.identity.reaper)
    _ask(reaper, _request(peer.id, batch=batch, extra=extra, timeout=timeout), timeout)


def _request(process_id: int, *, batch: int | None, extra: bytes, timeout: float | None) -> tuple[Any, ...]:
    """Make the system message that asks an OS parent to hand its child `process_id` over.

    Its own id: to go over to the code on disk for all that it starts from now on. `batch` None: to the code it has (a
    recycle). Else to the code on disk: all handovers of one number get the same. `extra` is encoded already: a parent
    must not meet a user's classes.
    """
    return (wire.HANDOVER, process_id, batch, extra, timeout)


def _ask(reaper: Pid, request: Any, timeout: float | None) -> None:
    limit = None if timeout is None else timeout + ANSWER_SECONDS
    try:
        client.request(reaper, request, limit, kind=wire.SYSTEM)
    except CallTimeout as error:
        raise UpgradeFailed("timeout") from error
    except (NoProcess, ServerDown) as error:
        raise UpgradeFailed(error.reason) from error


__all__ = ["recycle", "upgrade"]
