"""The loop of an async server with a watchdog: see `watched_loop`; and the event loop's turns are noted.

    select (box: -1) ──► a turn: whatever is ready runs (box: since when) ──► select …

So it costs nothing while the loop waits, and a loop that does not come back to its `select` shows since when.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.async_loop import AsyncServerLoop
from otp_runtime.behaviours.watched_loop import Watched, is_debugged
from otp_runtime.core import messages as wire
from otp_runtime.host import poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.boot import Boot

SHOWN_TASKS = 20
SHOWN_FRAMES = 100


class WatchedAsync(Watched, AsyncServerLoop):
    """What is added for an async server."""

    async def _live(self, boot: Boot, arg: Any) -> Any:
        self._loop_of_tasks = loop = asyncio.get_running_loop()
        self._main_task = asyncio.current_task(loop)
        # the selector is private, but the one place where an event loop waits; a loop without one (uvloop) turns unseen
        selector = getattr(loop, "_selector", None)
        if selector is not None:
            selector.select = functools.partial(self._select, selector.select)
            self.box.note_turn(poller.now())
        return await super()._live(boot, arg)

    def _note_turns(self) -> None:
        self.box.note_loop(is_async=True)

    def _select(self, select: Callable[[float | None], Any], timeout: float | None = None) -> Any:
        self.box.note_turn(-1.0)
        try:
            return select(timeout)
        finally:
            self.box.note_turn(poller.now())

    async def _system_async(self, envelope: wire.Envelope) -> None:
        if wire.is_handover(envelope[3]):
            await super()._system_async(envelope)
            return
        self.box.enter_callback(poller.now(), self.handled, b"")
        await super()._system_async(envelope)
        self.box.leave_callback()

    def _answer_watchdog(self, number: int, frame: Any) -> None:
        """Show what the coroutines await, too: a stack of C calls and threads does not."""
        if not is_debugged(frame):
            with contextlib.suppress(Exception):
                # what an earlier question, after which all went well, has left
                os.ftruncate(self._stacks_fd, 0)
                os.write(self._stacks_fd, self._awaited(frame).encode(errors="replace"))
        super()._answer_watchdog(number, frame)

    def _awaited(self, frame: Any) -> str:
        lines: list[str] = []
        tasks = sorted(asyncio.all_tasks(self._loop_of_tasks), key=lambda task: task is not self._main_task)
        for task in tasks[:SHOWN_TASKS]:
            who = "Callback" if task is self._main_task else f"Task {task.get_name()}"
            lines.append(f"{who} (awaits, most recent call first):")
            coroutine = task.get_coro()
            # one that runs awaits nothing: its frames are on the stack
            runs = getattr(coroutine, "cr_running", False)
            chain = _calls(frame) if runs else reversed(_chain(coroutine))
            lines += [f'  File "{code.co_filename}", line {line} in {code.co_name}' for code, line in chain]
        return "\n".join((*lines, "", ""))


def _calls(frame: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    while frame is not None and len(found) < SHOWN_FRAMES:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def _chain(awaitable: Any) -> list[tuple[Any, Any]]:
    """Give code and line of each coroutine that one awaits, the outermost first."""
    found: list[tuple[Any, Any]] = []
    while awaitable is not None and len(found) < SHOWN_FRAMES:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is None:
            frame = getattr(awaitable, "ag_frame", None)
        if frame is not None:
            found.append((frame.f_code, frame.f_lineno))
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
    return found
