"""The predecessor of a handover: it writes down what it has, touches nothing any more, and waits for a word."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.errors import NoNode
from otp_runtime.host import kernel
from otp_runtime.process import current

if TYPE_CHECKING:
    from otp_runtime.process.context import Context


def _refuse() -> NoReturn:
    raise NoNode(None, "this OS process was handed over, and is no process any more")


class Parting:
    """The predecessor's side of one handover."""

    def __init__(self, context: Context, number: int) -> None:
        """Raises `FileNotFoundError` when nobody waits for this handover any more."""
        self._context = context
        self._path = context.directory.handover(number, "estate")
        self._heard: Any = None
        self._word = os.open(context.directory.handover(number, "parting"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def stop_listening(self) -> None:
        """Leave what comes over the control lane to whoever will be this process then."""
        self._heard = signal.signal(kernel.LANE_SIGNAL, signal.SIG_IGN)

    def leave(self, data: bytes) -> None:
        """Write the estate; raises OSError when there is no room."""
        fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]

    def is_over(self) -> bool:
        """Wait for the OS parent's word: True when the successor is the process, False to go on.

        The parent's end is a word too: then the box says who is the process.
        """
        poll = select.poll()
        poll.register(self._word, select.POLLIN)
        poll.poll()
        return self._context.box.identity.os_process != kernel.own_process()

    def resume(self) -> None:
        """Be the process again."""
        os.close(self._word)
        if self._heard is not None:
            signal.signal(kernel.LANE_SIGNAL, self._heard)

    def depart(self) -> NoReturn:
        """End without a word: the process lives on elsewhere, and nothing here may act in its name."""
        current.become(None)
        current.forget(self._context)
        current.enter(None)
        current.join_with(_refuse)
        self._context.close()
        signal.signal(kernel.PARENT_DEATH_SIGNAL, signal.SIG_DFL)
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 - what _exit would skip
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(0)
