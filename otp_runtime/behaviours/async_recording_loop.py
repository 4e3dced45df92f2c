"""The loops of async servers that are recorded: in a file of their own, as they bring the event loop along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.async_keeping_loop import AsyncKeepingLoop
from otp_runtime.behaviours.async_loop import AsyncServerLoop
from otp_runtime.behaviours.recording_loop import CommittedRecording, RecordedKeeper, Recording

if TYPE_CHECKING:
    from otp_runtime.core import messages as wire


class _AsyncRecording(Recording, AsyncServerLoop):
    async def _loop_async(self) -> None:
        self.recorder.open(self.state)
        await super()._loop_async()

    async def _run_callback(self, name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> None:
        self.recorder.note(name, args, payload, envelope)
        await super()._run_callback(name, args, payload, envelope)
        self._returned()


class AsyncRecordingLoop(_AsyncRecording):
    """One async server that is recorded, and whose state is not kept."""


class AsyncKeepingRecordingLoop(AsyncKeepingLoop, _AsyncRecording, CommittedRecording):
    """One async server that is recorded from its last good state on."""

    keeper_class = RecordedKeeper
    keeper: RecordedKeeper
