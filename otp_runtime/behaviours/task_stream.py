"""A stream of tasks: performs what `core.task_stream` decides, as a generator."""

from __future__ import annotations

import collections
import math
import os
from typing import TYPE_CHECKING, Any, Literal

from otp_runtime.behaviours import task_owner
from otp_runtime.core import task_stream as core
from otp_runtime.core.child_spec import is_seconds
from otp_runtime.core.tasks import TaskExit
from otp_runtime.errors import CallTimeout
from otp_runtime.host import poller
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current, peek

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from otp_runtime.behaviours.task_owner import Launch
    from otp_runtime.core.tasks import Result
    from otp_runtime.process.context import Context, Slot
    from otp_runtime.terms.pid import Pid


def stream(
    items: Iterable[Any],
    fun: Callable[[Any], Any],
    launch_linked: Launch,
    launch_bound: Launch,
    *,
    max_concurrency: int | None,
    ordered: bool,
    timeout: float | None,
    on_timeout: Literal["exit", "kill_task"],
    zip_input_on_exit: bool,
) -> Generator[Result[Any], None, None]:
    """See `Task.async_stream`. Checks everything now; starts nothing before the first result is asked for.

    `launch_linked` is for an owner that does not trap exits, `launch_bound` for one that does.
    """
    if max_concurrency is None:
        max_concurrency = len(os.sched_getaffinity(0))
    if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
        msg = f"max_concurrency is a number of tasks above 0, or None for one per CPU, not {max_concurrency!r}"
        raise ValueError(msg)
    if timeout is not None and timeout != math.inf and not is_seconds(timeout):
        msg = f"timeout is seconds (a number >= 0) or None for ever, not {timeout!r}"
        raise ValueError(msg)
    if on_timeout not in {"exit", "kill_task"}:
        msg = f"on_timeout is 'exit' or 'kill_task', not {on_timeout!r}"
        raise ValueError(msg)
    if not callable(fun):
        msg = f"a stream runs a function of one item, and {fun!r} is none"
        raise TypeError(msg)
    state = core.State(max_concurrency, ordered=ordered, on_timeout=on_timeout)
    seconds = None if timeout == math.inf else timeout
    source = iter(items)

    def results() -> Generator[Result[Any], None, None]:
        context = current()
        launch = launch_bound if context.trap_exit else launch_linked
        running = _Stream(context, source, fun, launch, state, seconds, zip_input=zip_input_on_exit)
        try:
            yield from running.results()
        finally:
            running.close()

    return results()


class _Running:
    """One task of a stream whose process has not ended."""

    __slots__ = ("due", "pid", "position", "serial", "slot")

    def __init__(self, position: int, pid: Pid, serial: int, slot: Slot, due: float | None) -> None:
        self.position = position
        self.pid = pid
        self.serial = serial
        self.slot = slot
        self.due = due


class _Stream:
    """The tasks of one stream, as processes, in the process that iterates."""

    def __init__(
        self,
        context: Context,
        source: Iterator[Any],
        fun: Callable[[Any], Any],
        launch: Launch,
        state: core.State,
        seconds: float | None,
        *,
        zip_input: bool,
    ) -> None:
        self._context = context
        self._source = source
        self._fun = fun
        self._launch = launch
        self._state = state
        self._seconds = seconds
        self._zip_input = zip_input
        self._items: dict[int, Any] = {}
        self._running: dict[int, _Running] = {}
        self._actions: collections.deque[core.Action] = collections.deque()
        self._events: collections.deque[core.Event] = collections.deque([core.Begin()])

    # -- the loop -------------------------------------------------------------------------------------------

    def results(self) -> Generator[Result[Any], None, None]:
        """Yield the results until all are delivered."""
        while True:
            while self._actions:
                match self._actions.popleft():
                    case core.Deliver(position=position, result=result):
                        asked = poller.now()
                        yield self._shown(position, result)
                        self._resume(poller.now() - asked)
                    case core.Take(position=position):
                        self._take(position)
                    case core.Kill(position=position):
                        self._kill(self._running[position])
                    case core.GiveUp(position=position):
                        detail = f"it is number {position} of a stream; on_timeout='kill_task' gives a TaskExit instead"
                        raise CallTimeout(self._running[position].pid, None, self._seconds, detail=detail)
                    case core.Finish():
                        return
            self._wait()
            while self._events:
                self._state, actions = core.step(self._state, self._events.popleft())
                self._actions.extend(actions)

    def _shown(self, position: int, result: Result[Any]) -> Result[Any]:
        if not self._zip_input:
            return result
        item = self._items.pop(position)
        return TaskExit((item, result.reason)) if isinstance(result, TaskExit) else result

    def _resume(self, held: float) -> None:
        """Go on after the consumer held the generator: its time is not the tasks'."""
        if peek() is not self._context:
            msg = f"a stream of tasks belongs to {self._context.pid!r}, which began it; {process.self()!r} cannot go on"
            raise ValueError(msg)
        for task in self._running.values():
            if task.due is not None:
                task.due += held

    def _wait(self) -> None:
        """Wait until there is an event."""
        while not self._events:
            due = min((task.due for task in self._running.values() if task.due is not None), default=None)
            if not task_owner.wait(self._context, lambda: bool(self._events), due):
                now = poller.now()
                for task in self._running.values():
                    if task.due is not None and task.due <= now:
                        task.due = None
                        self._events.append(core.TimeUp(task.position))

    # -- tasks ----------------------------------------------------------------------------------------------

    def _take(self, position: int) -> None:
        try:
            item = next(self._source)
        except StopIteration:
            self._events.append(core.SourceEnded())
            return
        if self._zip_input:
            self._items[position] = item
        pid, serial, slot = task_owner.begin(self._context, self._launch, self._fun, (item,))
        due = None if self._seconds is None else poller.now() + self._seconds
        task = self._running[position] = _Running(position, pid, serial, slot, due)
        self._events.append(core.Taken())
        self._hear(task)

    def _hear(self, task: _Running) -> None:
        """Make events of a task's reply and of its end, whichever have happened already."""
        slot = task.slot

        def settled() -> None:
            if slot.failure is None:
                task.due = None
                self._events.append(core.Replied(task.position, slot.value))

        if slot.done:
            settled()
        else:
            slot.on_done = settled
        if slot.peer is not None:
            slot.peer.waiters.append(lambda reason: self._ended(task, reason))
        else:
            self._ended(task, slot.failure[0] if slot.failure is not None else "normal")

    def _ended(self, task: _Running, reason: Any) -> None:
        del self._running[task.position]
        self._forget(task)
        self._events.append(core.Ended(task.position, reason))

    def _forget(self, task: _Running) -> None:
        self._context.pending.pop(task.serial, None)
        self._context.node.started.pop(task.pid.id, None)

    def _kill(self, task: _Running) -> None:
        peer = task.slot.peer
        if peer is None or peer.id in self._context.dying:
            return
        if peer.linked:
            # a kill of our own must not come back by the link
            process.unlink(task.pid)
        self._context.signal_exit(peer, "kill")

    # -- the end --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill what still runs and wait until it is gone: no process and no message of the stream is left."""
        for task in self._running.values():
            task.slot.on_done = None
        for task in list(self._running.values()):
            self._kill(task)
        if peek() is self._context and self._context.doomed is None and not self._context.node.gone:
            task_owner.wait(self._context, lambda: not self._running, None)
        for task in self._running.values():
            self._forget(task)
