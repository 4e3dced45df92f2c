"""The loop of a server that is recorded: the same rules, and what it is about to handle is written down first.

Classes of their own, so that a server which is not recorded pays nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.keeping import Keeper
from otp_runtime.behaviours.keeping_loop import KeepingLoop
from otp_runtime.behaviours.recording import Recorder
from otp_runtime.behaviours.server_loop import ServerLoop
from otp_runtime.core.keep import keep_of

if TYPE_CHECKING:
    from otp_runtime.core import messages as wire
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context

_CHANGES_STATE = ("replace_state", "change_code")


class RecordedKeeper(Keeper):
    """A keeper that remembers that it committed."""

    has_committed = False

    def commit(self, state: Any) -> None:
        """See `Keeper.commit`."""
        super().commit(state)
        self.has_committed = True

    def known(self) -> bytes | None:
        """Give the encoded state that the callback gave, where it is the one that was committed, and whole."""
        return self._last if self._is_every and not hasattr(self.loop.server, "kept_form") else None


class Recording(ServerLoop):
    """What all of them have in common."""

    is_plain = False

    def __init__(self, context: Context, server: Any, options: dict[str, Any]) -> None:
        """See `ServerLoop`."""
        super().__init__(context, server, options)
        self.recorder = Recorder(self)

    def _start(self, boot: Boot, result: Any) -> bool:
        self.recorder.check(result)
        return super()._start(boot, result)

    def _loop(self) -> None:
        self.recorder.open(self.state)
        super()._loop()

    def _answer(self, payload: bytes, envelope: wire.Envelope) -> bool:
        self.recorder.note("handle_call", (), payload, envelope)
        goes_on = super()._answer(payload, envelope)
        self._returned()
        return goes_on

    def _run(self, name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> None:
        self.recorder.note(name, args, payload, envelope)
        super()._run(name, args, payload, envelope)
        self._returned()

    def _answer_system(self, envelope: wire.Envelope, how: int, value: Any) -> None:
        super()._answer_system(envelope, how, value)
        request = envelope[3]
        if isinstance(request, tuple) and request and request[0] in _CHANGES_STATE:
            self.recorder.rebase(self.state)

    def _returned(self) -> None:
        """A callback returned: see whether its state was committed."""


class CommittedRecording(Recording):
    """A recording that begins anew with each commit."""

    keeper: RecordedKeeper

    def _returned(self) -> None:
        if self.keeper.has_committed:
            self.keeper.has_committed = False
            self.recorder.rebase(self.state, self.keeper.known())


class RecordingLoop(Recording):
    """One server that is recorded, and whose state is not kept."""


class KeepingRecordingLoop(KeepingLoop, CommittedRecording):
    """One server that is recorded from its last good state on."""

    keeper_class = RecordedKeeper
    keeper: RecordedKeeper


def recording(options: dict[str, Any], *, is_async: bool) -> type[Recording]:
    """Choose the class of the loop of a server that is recorded."""
    keeps = keep_of(options) is not None
    if is_async:
        # the event loop's modules weigh more than all else that a server has
        from otp_runtime.behaviours import async_recording_loop as a

        return a.AsyncKeepingRecordingLoop if keeps else a.AsyncRecordingLoop
    return KeepingRecordingLoop if keeps else RecordingLoop


__all__ = ["recording"]
