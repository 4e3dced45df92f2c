"""The loop of a server with a watchdog: the same rules, and what an OS parent needs to see whether it hangs.

A class of its own, so that a server without one pays nothing for it; and a server with one pays next to nothing, as
every loop notes its callbacks in its box anyway. What is added: `init` and system messages count as callbacks, an
async server notes when its event loop waits, and signals show stacks and answer whether Python still runs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.server_loop import ServerLoop
from otp_runtime.core import messages as wire
from otp_runtime.host import kernel, poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.host.box import Box
    from otp_runtime.process.boot import Boot

_DEBUGGERS = ("pdb", "bdb", "ipdb", "IPython", "pudb", "pydevd", "debugpy", "_pydevd_bundle")
_TRACERS = ("coverage",)
"""What traces every line and is no debugger."""


class Watched(ServerLoop):
    """What both loops have in common."""

    _stacks_fd = -1

    def run(self, boot: Boot, name: Any, arg: Any) -> Any:
        """Live, watched from the first; give the exit reason."""
        self.settled()
        boot.send(["watch"])
        return super().run(boot, name, arg)

    def live(self, boot: Boot, arg: Any) -> Any:
        """Run `init`, which counts as a callback, and the loop; give the exit reason."""
        if boot.succession is None:
            self.box.enter_callback(poller.now(), 0, b"")
        return super().live(boot, arg)

    def settled(self) -> None:
        """Say in the box that this process is watched, and be ready to show its stacks."""
        settings = self.options["watchdog"]
        path = self.context.directory.native_stack(self.context.id)
        if self._stacks_fd >= 0:
            os.close(self._stacks_fd)
        self._stacks_fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # chained to the default action: the signal that shows the stacks ends the process, with nothing between
        faulthandler.unregister(kernel.STACKS_SIGNAL)
        signal.signal(kernel.STACKS_SIGNAL, signal.SIG_DFL)
        faulthandler.register(kernel.STACKS_SIGNAL, self._stacks_fd, all_threads=True, chain=True)
        signal.signal(kernel.ANSWER_SIGNAL, self._answer_watchdog)
        note_debugging(self.box)
        self._note_turns()
        self.box.watchdog = (float(settings.busy), float(settings.grace))

    def _note_turns(self) -> None:
        """Note when the loop waits, and since when it does not."""
        self.box.note_loop(is_async=False)
        self.box.note_turn(poller.now())
        self.context.poller.note_waits(self.box.note_turn)

    def _answer_watchdog(self, _number: int, frame: Any) -> None:
        with contextlib.suppress(ValueError):
            self.box.answer(debugged=is_debugged(frame))

    def _start(self, boot: Boot, result: Any) -> bool:
        is_server = super()._start(boot, result)
        self.box.leave_callback()
        return is_server

    def _system(self, envelope: wire.Envelope) -> None:
        if wire.is_handover(envelope[3]):
            # parked it waits, with a time limit of its own; what runs of the user's is noted there
            super()._system(envelope)
            return
        self.box.enter_callback(poller.now(), self.handled, b"")
        super()._system(envelope)
        self.box.leave_callback()


# -- debuggers ---------------------------------------------------------------------------------------------


class _Noting:
    """Calls what it stands for, and notes that; with no frame of its own between, for a debugger stops in its caller's.

    That is why `__call__` is a property: the note is made while the call is looked up.
    """

    def __init__(self, note: Callable[[], None], wrapped: Any) -> None:
        self._note = note
        self.wrapped = wrapped

    @property
    def __call__(self) -> Any:
        self._note()
        return self.wrapped


def note_debugging(box: Box) -> None:
    """Let what a debugger begins with be noted in the box: what is debugged may take as long as it likes.

    `breakpoint()` counts for the callback that called it; a trace function (pdb, pydevd) until it is taken away.
    """

    def note_breakpoint() -> None:
        # in a fork of the user's own there is no box
        with contextlib.suppress(ValueError):
            if os.environ.get("PYTHONBREAKPOINT") != "0":
                box.note_breakpoint()

    settrace = getattr(sys.settrace, "__wrapped__", sys.settrace)

    @functools.wraps(settrace)
    def noting_trace(function: Any, /) -> None:
        with contextlib.suppress(ValueError):
            box.note_tracing(is_on=_is_debugger(function))
        settrace(function)

    sys.breakpointhook = _Noting(note_breakpoint, getattr(sys.breakpointhook, "wrapped", sys.breakpointhook))
    sys.settrace = noting_trace
    box.note_tracing(is_on=_is_debugger(sys.gettrace()))


def is_debugged(frame: Any) -> bool:
    """Say whether a debugger has this process in hand: it traces the main thread, or is what the main thread runs."""
    if _is_debugger(sys.gettrace()):
        return True
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def _is_debugger(trace: Any) -> bool:
    owner = getattr(trace, "__self__", trace)
    module = getattr(trace, "__module__", None) or type(owner).__module__
    return trace is not None and str(module).partition(".")[0] not in _TRACERS


def watched(loop: type[ServerLoop], *, is_async: bool) -> type[ServerLoop]:
    """Give the class of a loop that does what `loop` does, watched."""
    mixin: type[ServerLoop] = Watched
    if is_async:
        from otp_runtime.behaviours.watched_async import WatchedAsync as mixin  # noqa: N813 - one of two
    return type(f"Watched{loop.__name__}", (mixin, loop), {})
