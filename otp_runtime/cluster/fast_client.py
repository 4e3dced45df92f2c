"""The NATS client with two shortcuts for what passes between nodes: without them a call takes half as long again.

    receiving   a message for one of our own subjects is handled where its bytes arrive, not behind a stream, a
                parser, a queue and a task; what is anything else, or not yet whole, goes the client's way
    sending     a message is written to the socket at once, not at the flusher's next turn

Order is kept: one connection, one thread, and the client's way ends in the same handler. Both reach into nats-py, which
has no door here. Where it is not as expected, nothing is tapped, `publish_now` says no, and all goes the client's way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client
from nats.errors import Error as NatsError

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_BUFFER_MAX = 1 << 20
STATUS_HEAD = b"NATS/1.0 503"
AWAITING_CONTROL_LINE = 1


class NoTls(NatsError):
    """A server that speaks without TLS, where that was asked for."""


class FastClient(Client):
    """A client whose `direct` subjects are handled where they are read."""

    is_tls_required = False
    """Whether nothing is to be said to a server that speaks without TLS."""

    @property
    def spoke_tls(self) -> bool:
        """Whether the server said that it speaks TLS."""
        return bool(self._server_info.get("tls_required"))

    def __init__(self) -> None:
        """Connect as any client."""
        super().__init__()
        self.direct: dict[bytes, Callable[[bytes, bytes, bool], None]] = {}
        self._writer: Any = None
        self._corked: list[bytes] | None = None

    def _connect_command(self) -> bytes:
        """Give what the server is told first, the password too: so to none that only says that it has no TLS."""
        if self.is_tls_required and not self.spoke_tls:
            msg = "TLS was asked for, and the server speaks without: nothing was told it"
            raise NoTls(msg)
        return super()._connect_command()

    async def subscribe_directly(self, subject: str, handler: Callable[[bytes, bytes, bool], None]) -> None:
        """Call `handler(subject, data, is_nobody)`; the last says that it is the server's word for "no responders"."""

        async def unused(_message: Any) -> None:
            """Messages do not come this way."""

        subscription = await self.subscribe(subject, cb=unused, pending_msgs_limit=0, pending_bytes_limit=0)
        self.direct[b"%d" % subscription._id] = handler  # noqa: SLF001 - what the server calls it

    def tap(self) -> None:
        """Take the shortcuts from now on. Called once, when connected."""
        try:
            streams: Any = self._transport
            reader, self._writer = streams._io_reader, streams._io_writer  # noqa: SLF001
            transport = self._writer.transport
            is_tls = transport.get_extra_info("sslcontext") is not None
            transport.set_protocol(_Tap(self, transport.get_protocol(), reader._buffer, self._ps, is_tls=is_tls))  # noqa: SLF001
        except AttributeError:
            self._writer = None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self.direct.get(b"%d" % sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            handler(bytes(subject), bytes(data), bool(headers) and headers.startswith(STATUS_HEAD))

    def publish_now(self, head: bytes, payload: bytes) -> bool:
        """Write a message, `head` being all before its length; False when it has to wait for the socket."""
        writer = self._writer
        if writer is None or not self.is_connected or writer.transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            return False
        message = b"%b %d\r\n%b\r\n" % (head, len(payload), payload)
        if self._corked is not None:
            self._corked.append(message)
        else:
            writer.write(message)
        return True

    async def drained(self) -> bool:
        """Wait until the socket takes more; False where nobody can tell."""
        if self._writer is None or not self.is_connected:
            return False
        await self._writer.drain()
        return bool(self._writer.transport.get_write_buffer_size() <= WRITE_BUFFER_MAX)

    def cork(self) -> None:
        """Hold what is published now until `uncork`, so that many small messages are one write."""
        self._corked = []

    def uncork(self) -> None:
        """Write what was held."""
        held, self._corked = self._corked, None
        if held and self._writer is not None:
            self._writer.write(held[0] if len(held) == 1 else b"".join(held))


class _Tap(asyncio.Protocol):
    """Stands before the client's own protocol and takes out whole messages for direct subjects."""

    def __init__(self, client: FastClient, behind: Any, unread: bytearray, parser: Any, *, is_tls: bool) -> None:
        self._direct = client.direct
        self._behind = behind
        self._unread = unread
        self._parser = parser
        self._is_tls = is_tls

    def data_received(self, data: bytes) -> None:
        at = 0
        parser = self._parser
        if not (self._unread or parser.buf) and parser.state == AWAITING_CONTROL_LINE:
            at = self._take(data)
        if at < len(data):
            self._behind.data_received(data[at:] if at else data)

    def _take(self, data: bytes) -> int:
        """Handle the messages at the beginning of `data` that are whole and ours; give where the rest begins."""
        at, size = 0, len(data)
        while data.startswith(b"MSG ", at):
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            # subject, sid, perhaps a reply subject, length
            words = data[at:line_end].split(b" ")
            handler = self._direct.get(words[2])
            start = line_end + 2
            end = start + int(words[-1])
            if handler is None or end + 2 > size:
                break
            handler(words[1], data[start:end], False)
            at = end + 2
        return at

    def connection_made(self, transport: Any) -> None:
        self._behind.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)

    def eof_received(self) -> Any:
        goes_on = self._behind.eof_received()
        # TLS has no half that stays open, and would say so in the log
        return goes_on and not self._is_tls

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()
