"""What a gateway sends to other nodes, in the order it was handed in."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError

from otp_runtime.cluster import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.cluster.session import Session
    from otp_runtime.core.membership import Member

PENDING_BYTES = 4 * 1024 * 1024
"""So much may wait for the connection; beyond that the mailbox is not read, and senders wait for room in it."""

FLUSH_SECONDS = 1


class Place:
    """Where another node is reached: its subject, and the private one on which the server says that nobody is."""

    __slots__ = ("bounce", "epoch", "head", "incarnation", "subject")

    def __init__(self, cluster: str, node: str, member: Member, bounce: str) -> None:
        """Of an epoch of `node`; `bounce` is the private subject."""
        self.epoch = member.epoch
        self.incarnation = member.incarnation
        self.subject = protocol.node_subject(cluster, node, member.epoch)
        self.bounce = bounce
        self.head = f"PUB {self.subject} {bounce}".encode()


class Outgoing:
    """Writes to the socket at once while that takes it; what has to wait, and all behind it, waits here."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` is told what was dropped."""
        self.on_room: Callable[[], None] = lambda: None
        self._warn = warn
        self._session: Session | None = None
        self._waiting: collections.deque[tuple[Place, bytes]] = collections.deque()
        self._bytes = 0
        self._to_send = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def begin(self, session: Session) -> None:
        """Send through `session` from now on."""
        self._session = session

    def publish(self, place: Place, frame: bytes) -> None:
        """Send a frame, now or when there is room."""
        session = self._session
        if not self._waiting and session is not None and session.nc.publish_now(place.head, frame):
            return
        self._waiting.append((place, frame))
        self._bytes += len(frame)
        self._sent.clear()
        self._to_send.set()

    def is_full(self) -> bool:
        """Say whether nothing more should be taken in until `on_room` is called."""
        return self._bytes > PENDING_BYTES and self._session is not None

    def hold(self) -> None:
        """Let many small frames be one write: until `release`."""
        if self._session is not None:
            self._session.nc.cork()

    def release(self) -> None:
        """Write what was held."""
        if self._session is not None:
            self._session.nc.uncork()

    async def run(self) -> None:
        """Send what waits, as the socket takes it; ends when the connection does."""
        session = self._session
        assert session is not None
        while not session.lost.is_set():
            await self._to_send.wait()
            self._to_send.clear()
            while self._waiting:
                place, frame = self._waiting[0]
                if not session.nc.publish_now(place.head, frame):
                    if not await session.nc.drained():
                        try:
                            await session.nc.publish(place.subject, frame, reply=place.bounce)
                            await session.nc.flush()
                        except (NatsError, OSError, TimeoutError) as error:
                            if session.nc.is_closed:
                                return
                            self._warn(f"a message was dropped: {error!r}")
                    else:
                        continue
                self._waiting.popleft()
                self._bytes -= len(frame)
            self._sent.set()
            self.on_room()

    async def flush(self) -> None:
        """Before the end: wait a moment until all is sent."""
        session = self._session
        if session is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._sent.wait()
                    await session.nc.flush(FLUSH_SECONDS)

    def drop(self) -> None:
        """The connection is lost: so is what waits for it."""
        self._session = None
        self._waiting.clear()
        self._bytes = 0
        self._sent.set()
        self.on_room()
