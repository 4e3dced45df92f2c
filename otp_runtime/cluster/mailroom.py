"""How a gateway reads its mailbox and sees deaths, inside an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgpack

from otp_runtime.core import messages as wire
from otp_runtime.host.poller import now
from otp_runtime.process.context import Context
from otp_runtime.process.sending import DYING_POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.cluster.outgoing import Outgoing

OUT_HEAD = bytes([0x96, wire.OUT])


class GatewayContext(Context):
    """The process that a gateway is: what is on its way out does not go through the inbox."""

    on_out: Callable[[list[Any]], None]

    def _take(self, payload: bytes) -> None:
        if payload[:2] == OUT_HEAD:
            self.on_out(msgpack.unpackb(payload))
        else:
            super()._take(payload)


class Mailroom:
    """Reads while there is room for what has to go out. `handle` is given what came in, and `[EXIT, reason]`."""

    def __init__(self, context: GatewayContext, outgoing: Outgoing, handle: Callable[[list[Any]], None]) -> None:
        """Read for `context`."""
        self._context = context
        self._outgoing = outgoing
        self._handle = handle
        self._is_open = False
        self._alarm: asyncio.TimerHandle | None = None
        outgoing.on_room = self._open_again
        # the event loop looks at it itself
        context.poller.forget(context.fd)

    def open(self) -> None:
        """Begin, or go on."""
        self._is_open = True
        loop = asyncio.get_running_loop()
        loop.add_reader(self._context.poller.fileno(), self._look)
        loop.add_reader(self._context.fd, self._read)
        self._look()
        self._read()

    def _open_again(self) -> None:
        if not self._is_open:
            self.open()

    def mind_the_dying(self) -> None:
        """See to deaths that were noticed elsewhere than here."""
        if self._context.dying and self._alarm is None:
            self._look()

    def _read(self) -> None:
        """The common case: something to send, and nothing else has happened."""
        context = self._context
        self._outgoing.hold()
        try:
            context.read_mailbox()
        finally:
            self._outgoing.release()
        if context.inbox or context.dying or self._outgoing.is_full():
            self._look()

    def _look(self) -> None:
        context = self._context
        context.pump(0)
        while (entry := context.next_message()) is not None:
            self._handle(entry[1])
        if context.doomed is not None:
            self._handle([wire.EXIT, context.doomed[0]])
        loop = asyncio.get_running_loop()
        if self._is_open and self._outgoing.is_full():
            self._is_open = False
            loop.remove_reader(context.poller.fileno())
            loop.remove_reader(context.fd)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = context.poller.next_due()
        if context.dying or due is not None:
            pause = DYING_POLL_SECONDS if context.dying else max(0.0, (due or 0.0) - now())
            self._alarm = loop.call_later(pause, self._look)
