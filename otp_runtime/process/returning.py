"""Sending by name to a server that its supervisor is bringing back, and whose mailbox outlives it.

A name that is coming back says whose mailbox is there meanwhile (`core.names.ComingBack`). What fits into one frame is
written there at once; for more, and without room, the sender waits for the successor. To a mailbox that does not
outlive its server nothing of this applies: what is cast during a restart is dropped, as in OTP.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from otp_runtime.core.names import ComingBack, Held
from otp_runtime.errors import CallError, CallTimeout, MailboxFull
from otp_runtime.host import pipe, poller
from otp_runtime.process import names
from otp_runtime.terms.pid import Pid, Via

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


def leave(context: Context, server: Any, payload: bytes, timeout: float | None) -> bool:
    """Leave a message for a server that has just been looked for in vain; False when nobody is bringing it back.

    Waits up to `timeout` seconds for room, or for the successor; then raises `MailboxFull`.
    """
    server = _local_name(server)
    if server is None:
        return False
    started = poller.now()
    pause = names.WAIT_SECONDS
    while True:
        match names.owner_of(context.directory, server):
            case ComingBack(mailbox=int(mailbox)) if mailbox:
                if _write(context, mailbox, payload):
                    return True
            case Held(process_id):
                known = context.peers.get(process_id)
                if known is None or known.id not in context.dying:
                    return _send(context, server, payload, timeout, started)
                if not known.survives:
                    return False
            case _:
                return False
        left = None if timeout is None else started + timeout - poller.now()
        if left is not None and left <= 0:
            raise MailboxFull(server, None, poller.now() - started)
        context.pump(pause if left is None else min(pause, left))
        pause = min(pause * 2, names.WAIT_SECONDS_MAX)


def drop_in(context: Context, server: Any, payload: bytes) -> None:
    """As `leave`, without waiting: what finds no room is lost. For a timer whose time has come."""
    name = _local_name(server)
    owner = None if name is None else names.owner_of(context.directory, name)
    if isinstance(owner, ComingBack) and owner.mailbox:
        _write(context, owner.mailbox, payload)


def _local_name(server: Any) -> str | None:
    """Give the local name that a reference means: that of a partition, too."""
    if isinstance(server, Via):
        with contextlib.suppress(CallError, TypeError):
            server = names.whereis_via(server)
    return server if isinstance(server, str) else None


def _write(context: Context, mailbox: int, payload: bytes) -> bool:
    """Write into the mailbox of a dead process; False when it has no room, or is not there any more."""
    if len(payload) > pipe.PAYLOAD_MAX:
        return False
    with contextlib.suppress(OSError):
        fd = os.open(context.directory.mailbox(mailbox), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, pipe.whole(payload))
        finally:
            os.close(fd)
        return True
    return False


def _send(context: Context, server: str, payload: bytes, timeout: float | None, started: float) -> bool:
    """Send to who has the name by now."""
    try:
        peer = names.find(context, server, None, wait=False)
    except CallError:
        return leave(context, server, payload, _left(timeout, started))
    deadline = None if timeout is None else started + timeout
    context.transmit(peer, payload, deadline, policy=peer.policy)
    if peer.missed:
        follow(context, server, peer, payload, _left(timeout, started))
    return True


def follow(context: Context, server: Any, peer: Peer, payload: bytes, timeout: float | None) -> None:
    """Send again to a name what its process was not sent as it died, or not all of.

    What came of it in part the successor drops for this. Sent to a pid it is lost, as in OTP.
    """
    if not peer.survives or isinstance(server, Pid):
        return
    started = poller.now()
    deadline = None if timeout is None else started + timeout
    while True:
        try:
            peer = names.find(context, server, deadline)
        except CallTimeout as error:
            raise MailboxFull(server, None, poller.now() - started) from error
        except CallError:
            return
        context.transmit(peer, payload, deadline, policy=peer.policy)
        if not (peer.missed and peer.survives):
            return


def _left(timeout: float | None, started: float) -> float | None:
    return None if timeout is None else max(0.0, started + timeout - poller.now())
