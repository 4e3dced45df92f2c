"""The loop of a server with `async def` callbacks: the same rules, inside one event loop for the server's life.

One callback at a time all the same: tasks that the server makes run while a callback awaits and while the mailbox is
empty. The event loop watches one descriptor of ours, the poller's, which is readable whenever anything is to be done.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import handing_over, system_messages
from otp_runtime.behaviours.returns import MISSING
from otp_runtime.behaviours.server_loop import End, EndAsync, ServerLoop
from otp_runtime.core import messages as wire
from otp_runtime.host import box as boxes
from otp_runtime.host import poller
from otp_runtime.process import boot as booting
from otp_runtime.process import bridge
from otp_runtime.process.context import ExitSignal

if TYPE_CHECKING:
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context


class AsyncServerLoop(ServerLoop):
    """One async server."""

    def __init__(self, context: Context, server: Any, options: dict[str, Any]) -> None:
        """See `ServerLoop`."""
        super().__init__(context, server, options)
        self._failure: BaseException | None = None
        self._wake: asyncio.Event

    def live(self, boot: Boot, arg: Any) -> Any:
        """Run `init` and the loop inside an event loop of its own; give the exit reason."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(self._task_failed)
        try:
            return loop.run_until_complete(self._live(boot, arg))
        except End as end:
            return end.reason
        except ExitSignal as signal:
            return signal.reason
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()

    def _task_failed(self, loop: asyncio.AbstractEventLoop, details: dict[str, Any]) -> None:
        error = details.get("exception")
        if isinstance(error, Exception):
            self._failure = error
            self._wake.set()
        else:
            loop.default_exception_handler(details)

    async def _live(self, boot: Boot, arg: Any) -> Any:
        self._wake = asyncio.Event()
        try:
            if boot.succession is not None:
                await handing_over.succeed(self, boot.succession)
            else:
                result = self.server.init(arg)
                if inspect.isawaitable(result):
                    result = await result
                if not await self._begin(boot, result):
                    return "normal"
        except End as end:
            return end.reason
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            return self._failed_init(boot, error)
        asyncio.get_running_loop().set_task_factory(self._make_task)
        try:
            async with bridge.awake(self.context):
                await self._loop_async()
        except EndAsync as end:
            return await self._terminate_async(end.reason)
        except End as end:
            return end.reason

    async def _begin(self, boot: Boot, result: Any) -> bool:
        return self._start(boot, result)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        """An exception in a task that nobody awaits crashes the server, as one in a callback does.

        Whoever awaits it is woken in this turn of the event loop; so look in the next one whether it was taken.
        """
        if not task.cancelled():
            task.get_loop().call_soon(self._crash_if_untaken, task)

    def _crash_if_untaken(self, task: asyncio.Task[Any]) -> None:
        if getattr(task, "_log_traceback", False):
            self._failure = task.exception()
            self._wake.set()

    async def _loop_async(self) -> None:
        while True:
            if self._failure is not None:
                self._crashed(self._failure)
            if self.continue_ is not MISSING:
                term, self.continue_ = self.continue_, MISSING
                envelope = [wire.SEND, ("continue", term)]
                await self._run_callback("handle_continue", (term, self.state), b"", envelope)
                continue
            payload, envelope = self._next() or await self._wait_async()
            if envelope[0] == wire.SYSTEM:
                await self._system_async(envelope)
                continue
            prepared = self._prepare(envelope)
            if prepared is not None:
                await self._run_callback(prepared[0], prepared[1], payload, envelope)

    async def _run_callback(self, name: str, args: tuple[Any, ...], payload: bytes, envelope: wire.Envelope) -> None:
        self._enter(payload, envelope)
        try:
            result = getattr(self.server, name)(*args)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
            self._crashed(error)
        else:
            self._apply(name, result, envelope)
        self.box.leave_callback()
        self.message = None
        # tasks that this server made run between callbacks, also under a full mailbox
        await asyncio.sleep(0)

    async def _wait_async(self) -> tuple[bytes, wire.Envelope]:
        context = self.context
        deadline = None if self.timeout is None or self.suspended else poller.now() + self.timeout
        context.on_arrival = self._wake.set
        if self.hibernating:
            self._hibernate()
        try:
            while True:
                if context.doomed is not None:
                    raise self._doomed()
                if self._failure is not None:
                    self._crashed(self._failure)
                context.pump(0)
                entry = self._next()
                if entry is not None:
                    return entry
                left = None if deadline is None else deadline - poller.now()
                if left is not None and left <= 0:
                    return b"", [wire.SEND, "timeout"]
                if (due := context.poller.next_due()) is not None:
                    # a timer that a callback set: the event loop knows only of those it was told of on the way
                    soon = max(0.0, due - poller.now())
                    left = soon if left is None else min(left, soon)
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), left)
                except TimeoutError:
                    continue
        finally:
            context.on_arrival = None
            if self.hibernating:
                self.box.set_flag(boxes.HIBERNATING, 0)

    async def _terminate_async(self, reason: Any) -> Any:
        try:
            await self.server.terminate(reason, self.state)
        except BaseException as error:  # noqa: BLE001 - OTP: what terminate raises is the exit reason
            booting.note_words(error)
            reason = booting.reason_of(error, self.context)
        self._say_last_reply()
        return reason

    async def _system_async(self, envelope: wire.Envelope) -> None:
        self.message = envelope
        if wire.is_handover(envelope[3]):
            # meanwhile the event loop stands still, and the tasks with it: they go on if the server does
            await handing_over.hand_over(self, envelope)
            self.message = None
            return
        how, value = system_messages.handle(self, envelope[3])
        if inspect.isawaitable(value):
            how, value = await value
        self._answer_system(envelope, how, value)

    def _terminate(self, terminate: Any, reason: Any) -> None:
        if inspect.iscoroutinefunction(terminate):
            raise EndAsync(reason)
        super()._terminate(terminate, reason)
