"""The loop of an async server whose state is kept: `keeping_loop` inside an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.async_loop import AsyncServerLoop
from otp_runtime.behaviours.keeping_loop import Keeping

if TYPE_CHECKING:
    from otp_runtime.process.boot import Boot


class AsyncKeepingLoop(Keeping, AsyncServerLoop):
    """One async server whose state is kept."""

    async def _begin(self, boot: Boot, result: Any) -> bool:
        return await super()._begin(boot, await self.keeper.begin(result))

    async def _loop_async(self) -> None:
        self._keep(self.keeper.take_up, self.state)
        await super()._loop_async()
