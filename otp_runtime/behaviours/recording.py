"""What a server with `record=True` has beside its loop: it writes down what it is about to handle.

    the loop begins ──► a round: the state ──► message ──► entry ──► callback ──► committed? ──► a new round
                                                 ▲                                   │ no
                                                 └───────────────────────────────────┘

An entry is written before its callback runs, so that whatever the callback does to the process, the entry is there. A
round begins where the state is known and nothing is under way: when the server begins, after a callback in which its
state was committed, after a system message that changed the state, and when the round is full. The state that a round
begins with is the whole one, also of a state machine, of which less is kept.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.returns import Ok
from otp_runtime.errors import CodecError, ExitWith
from otp_runtime.host import poller
from otp_runtime.host.recording_file import BASE, CONTINUE, LOST, MESSAGE, OPAQUE, RecordingFile
from otp_runtime.process import places, recordings

if TYPE_CHECKING:
    from otp_runtime.behaviours.recording_loop import Recording
    from otp_runtime.core import messages as wire


class Recorder:
    """The recording of one server, from the inside."""

    def __init__(self, loop: Recording) -> None:
        """Record what `loop` handles; nothing is opened yet."""
        self._loop = loop
        self._file: RecordingFile | None = None
        self._base: bytes | None = None

    def check(self, result: Any) -> None:
        """Make the start fail when the state that `init` gave is one that no replay could start from."""
        state = result.state if isinstance(result, Ok) else result
        try:
            self._loop.context.codec.encode(state, "state")
        except CodecError as error:
            raise ExitWith(("bad_state", error.path)) from error

    def open(self, state: Any) -> None:
        """Begin, with the state that the server has."""
        context = self._loop.context
        about = recordings.About(
            server=self._loop.box.name or self._loop.box.label,
            id=context.id,
            node=context.node.name,
            incarnation=context.node.incarnation,
            clock=(time.time(), poller.now()),
            path=tuple(sys.path),
            directory=os.getcwd(),
        )
        try:
            said = recordings.encode_about(context.codec, about, self._loop.cls, self._loop.arg)
            self._file = RecordingFile(places.recording_of(context.place), said)
        except (CodecError, OSError) as error:
            self._give_up(error)
        self.rebase(state)

    def note(self, name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> None:
        """The callback `name` is about to run."""
        if self._file is None:
            return
        kind = MESSAGE
        if name == "handle_continue" or not payload:
            kind, payload = self._encoded(name, args, envelope)
        payload = bytes(payload)
        try:
            if not self._file.append(kind, payload, poller.now()):
                self.rebase(self._loop.state)
                if self._file is not None and not self._file.append(kind, payload, poller.now()):
                    text = f"a message of {len(payload):,} bytes, which is too large to be recorded"
                    self._file.append(OPAQUE, text.encode(), poller.now())
        except OSError as error:
            self._give_up(error)

    def _encoded(self, name: str, args: tuple[Any, ...], envelope: wire.Envelope) -> tuple[int, bytes]:
        codec = self._loop.context.codec
        try:
            if name == "handle_continue":
                return CONTINUE, codec.encode(args[0], "continue_")
            return MESSAGE, codec.encode(envelope, "message")
        except CodecError as error:
            # a term of this process's own, which never had to travel
            return (CONTINUE if name == "handle_continue" else OPAQUE), recordings.unreadable(str(error))

    def rebase(self, state: Any, data: bytes | None = None) -> None:
        """Begin a round with `state`; `data` is the state, where it is encoded already."""
        file = self._file
        if file is None:
            return
        try:
            if data is None:
                data = self._loop.context.codec.encode(state, "state")
            if data == self._base:
                file.begin_again()
            else:
                file.begin(BASE, data, poller.now())
                self._base = data
        except CodecError as error:
            # of a server whose states are not kept it is not asked that they can be
            self._base = None
            file.begin(LOST, f"the state it had then cannot be encoded: {error}".encode(), poller.now())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Nobody may die for want of room for a recording."""
        self._loop.context.node.warn(f"{self._loop.box.name or self._loop.box.label}: it is not recorded: {error}")
        if self._file is not None:
            self._file.close(forget=True)
            self._file = None


__all__ = ["Recorder"]
