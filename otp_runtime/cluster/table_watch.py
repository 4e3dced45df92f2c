"""How a gateway hears of changes in the cluster's table, and how it notices that it no longer does.

What delivers the changes lives on one of the engine's servers, and may be lost with it while this node's connection, to
another server, is well. So each renewal of the node's own lease has to be heard as well: one that is not within
`ECHO_SECONDS` means that this node is blind. It looks at the whole table then, and listens anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from otp_runtime.host.poller import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from otp_runtime.cluster.session import Session

ALL = "*.>"
ECHO_SECONDS = 0.5
LOOK_SECONDS = 0.25
FIRST_SECONDS = 2.0


class TableWatch:
    """What one session hears of the table."""

    def __init__(self, session: Session, on_entry: Callable[[Any], None], known: Callable[[], Iterable[str]]) -> None:
        """`on_entry` is told of each record; `known` gives the keys of those it believes to be there."""
        self._session = session
        self._on_entry = on_entry
        self._known = known
        self._watch: Any = None
        self._seen = 0
        self._expected: tuple[int, float] | None = None

    async def open(self) -> None:
        """Begin to listen."""
        self._watch = await self._session.kv.watch(ALL)

    async def take_stock(self, sift: Callable[[list[Any]], Awaitable[list[Any]]]) -> None:
        """Tell of all that is there, and that `sift` leaves."""
        for entry in await sift(await self._first(self._watch)):
            self._tell(entry)

    async def _first(self, watch: Any) -> list[Any]:
        """Give what is there, in the order it was written, up to this node's own record as it was last renewed.

        So nothing is missing that was written before it, whichever server tells, and however far behind it is. The
        client's own mark for "that was all" may come before the first record.
        """
        session, found = self._session, []
        revision = session.revision
        async with asyncio.timeout(FIRST_SECONDS):
            while True:
                entry = await watch.updates(timeout=FIRST_SECONDS)
                if entry is not None:
                    found.append(entry)
                    if entry.key == session.key and (entry.revision or 0) >= revision:
                        return found

    def expect(self, revision: int) -> None:
        """The node's own record was written with this revision: that has to be heard soon."""
        if self._seen < revision and self._expected is None:
            self._expected = revision, now() + ECHO_SECONDS

    async def run(self) -> None:
        """Tell of each change until the session is lost."""
        while not self._session.lost.is_set():
            with contextlib.suppress(TimeoutError):
                entry = await self._watch.updates(timeout=LOOK_SECONDS)
                if entry is not None:
                    self._tell(entry)
            if self._expected is not None and now() >= self._expected[1]:
                await self._listen_anew()

    def _tell(self, entry: Any) -> None:
        self._seen = max(self._seen, entry.revision or 0)
        if self._expected is not None and self._seen >= self._expected[0]:
            self._expected = None
        if not self._session.lost.is_set():
            self._on_entry(entry)

    async def _listen_anew(self) -> None:
        """Replace the watch; while the table does not answer, try again until the lease decides."""
        assert self._expected is not None
        self._expected = self._expected[0], now() + ECHO_SECONDS
        session = self._session
        try:
            watch = await session.kv.watch(ALL)
            entries = await self._first(watch)
            entries += await self._look_up(set(self._known()) - {entry.key for entry in entries})
        except (NatsError, JetStreamError, TimeoutError):
            # nobody takes watchers now; what was known can be asked for, as long as the table has a leader
            with contextlib.suppress(NatsError, JetStreamError, TimeoutError):
                for entry in await self._look_up(self._known()):
                    self._tell(entry)
            return
        old, self._watch = self._watch, watch
        with contextlib.suppress(NatsError):
            await old.stop()
        for entry in entries:
            self._tell(entry)

    async def _look_up(self, keys: Iterable[str]) -> list[Any]:
        """Give the records of some keys, as the leader has them; of one that is not there the record of its end."""
        found = []
        for key in keys:
            operation = "DEL"
            with contextlib.suppress(KeyNotFoundError):
                entry = await self._session.kv.get(key)
                if entry.value:
                    found.append(entry)
                    continue
                operation = "PURGE"
            revision = max(self._seen, self._session.revision)
            found.append(KeyValue.Entry("", key, None, revision, None, None, operation))
        return found
