"""The loop of an async server whose mailbox outlives it: in a file of its own, as it brings the event loop along."""

from __future__ import annotations

from otp_runtime.behaviours.async_loop import AsyncServerLoop
from otp_runtime.behaviours.lasting_loop import Lasting


class AsyncLastingLoop(Lasting, AsyncServerLoop):
    """An async server's."""

    async def _loop_async(self) -> None:
        self.settle()
        await super()._loop_async()
