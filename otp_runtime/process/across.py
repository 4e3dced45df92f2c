"""A call whose caller waits on when its server dies: `call(..., across_restart=True)`.

Where the mailbox dies with the server, the request is sent once more when the name is back. Where it outlives it, the
request is in there still: it is not sent again, and the successor answers it in its turn. That a caller waits on the
request's serial says, as what others had asked is dropped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallingSelf, CallTimeout, NoProcess, ServerDown
from otp_runtime.host import pipe, poller
from otp_runtime.process import client, names
from otp_runtime.process.context import ExitSignal, Slot
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


def request(server: Any, message: Any, timeout: float | None) -> Any:
    """As `client.request`, across a death of the server. Raises what that raises."""
    context = client.caller(server, message)
    started = poller.now()
    deadline = client.deadline_of(timeout, started)
    peer = names.find(context, server, deadline, message)
    if peer.survives and type(server) is not Pid and peer.id != context.id:
        return _Waiting(context, server, message, started, deadline).run(peer)
    try:
        return client.request(server, message, _left(deadline))
    except ServerDown:
        return client.request(server, message, _left(deadline))


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - poller.now())


class _Waiting:
    """One such call to a server whose mailbox outlives it."""

    def __init__(self, context: Context, server: Any, message: Any, started: float, deadline: float | None) -> None:
        self.context = context
        self.server = server
        self.message = message
        self.started = started
        self.deadline = deadline
        self.serial = context.next_serial() | wire.ACROSS
        # no peer's: nobody's death fails it
        self.slot = Slot(None)
        self.reason: Any = None

    def run(self, peer: Peer) -> Any:
        payload = self.context.pack([wire.CALL, self.context.id, self.serial, self.message], self.message, "request")
        # held open, the mailbox is there as long as this caller waits, whoever dies
        mailbox = os.dup(peer.fd)
        self.context.pending[self.serial] = self.slot
        try:
            self._wait(peer, payload, mailbox)
        finally:
            del self.context.pending[self.serial]
            os.close(mailbox)
        if self.slot.how == wire.RAISE:
            raise self.slot.value
        return self.slot.value

    def _wait(self, peer: Peer, payload: bytes, mailbox: int) -> None:
        sent_again = False
        is_sent = False
        while True:
            if not is_sent:
                peer.missed = False
                client.transmit(self.context, peer, payload, self.deadline, self.server, self.message, self.started)
                is_sent = not peer.missed
            self._await(peer)
            if self.slot.done:
                return
            peer = self._successor()
            if self.slot.done:
                return
            if not (peer.survives and os.path.sameopenfile(peer.fd, mailbox)):
                # another mailbox: what was asked is gone with the old one
                if sent_again:
                    raise self._down()
                sent_again, is_sent = True, False

    def _await(self, peer: Peer) -> None:
        """Wait for the reply, or the death of the server."""
        context, slot = self.context, self.slot
        gone: list[Any] = []
        peer.waiters.append(gone.append)
        try:
            if context.peers.get(peer.id) is not peer:
                gone.append(context.epitaph(peer.id))
            while not (slot.done or gone):
                chunk = None if context.sleeps_at_once() else context.spinner.read(context.fd, pipe.READ_SIZE)
                if chunk is not None:
                    context.feed(chunk)
                    continue
                left = _left(self.deadline)
                if left == 0.0:
                    raise CallTimeout(
                        self.server, self.message, poller.now() - self.started, detail=client.why_silent(peer)
                    )
                context.pump(left)
                if context.doomed is not None and not context.is_program:
                    raise ExitSignal(context.doomed[0])
        finally:
            if gone.append in peer.waiters:
                peer.waiters.remove(gone.append)
        if gone:
            self.reason = gone[0]

    def _successor(self) -> Peer:
        try:
            peer = names.find(self.context, self.server, self.deadline, self.message)
        except NoProcess:
            raise self._down() from None
        if peer.id == self.context.id:
            raise CallingSelf(self.server, self.message, 0.0)
        return peer

    def _down(self) -> ServerDown:
        return ServerDown(self.reason, self.server, self.message, poller.now() - self.started)
