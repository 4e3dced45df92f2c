"""A thread's process inside an asyncio event loop: one descriptor registered with the loop, no thread per call.

Only what runs in an event loop imports asyncio here: a process without one is not to carry its megabytes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import NoProcess
from otp_runtime.host import poller
from otp_runtime.process import names
from otp_runtime.process.sending import DYING_POLL_SECONDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


class _Reader:
    """Keeps a context awake while somebody in the loop waits for something of it."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self.context = context
        self.loop = loop
        self.users = 0
        self.alarm: asyncio.TimerHandle | None = None

    def awake(self) -> None:
        self.context.pump(0)
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if self.users and (self.context.dying or self.context.poller.next_due() is not None):
            due = self.context.poller.next_due()
            pause = DYING_POLL_SECONDS if self.context.dying else max(0.0, (due or 0.0) - poller.now())
            self.alarm = self.loop.call_later(pause, self.awake)


_readers: dict[int, _Reader] = {}


@contextlib.asynccontextmanager
async def awake(context: Context) -> AsyncIterator[None]:
    """Take in this process's mail as the event loop runs, for the time of the block."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    reader = _readers.get(context.id)
    if reader is None or reader.loop is not loop:
        reader = _readers[context.id] = _Reader(context, loop)
    if reader.users == 0:
        loop.add_reader(context.poller.fileno(), reader.awake)
    reader.users += 1
    reader.awake()
    try:
        yield
    finally:
        reader.users -= 1
        if reader.users == 0:
            loop.remove_reader(context.poller.fileno())
            _readers.pop(context.id, None)


async def find(context: Context, server: Any, deadline: float | None, request: Any) -> Peer:
    """As `names.find`, without blocking the event loop while a name is coming back."""
    from asyncio import sleep

    pause = names.WAIT_SECONDS
    while True:
        try:
            return names.find(context, server, deadline, request, wait=False)
        except NoProcess:
            if not names.is_coming_back(context, server):
                raise
            if deadline is not None and poller.now() >= deadline:
                raise
        await sleep(pause)
        pause = min(pause * names.WAIT_GROWTH, names.WAIT_SECONDS_MAX)
