"""The owner's half of a task: the slot where its result will lie, the monitor, the wait.

The reply of a task is a call's reply: it names the serial under which its owner keeps a slot (`Context.pending`), so
a late one finds no slot and is dropped. A slot is made before the process is, and filled by whatever comes first, the
reply or the death. `Task.ref` is that serial as a reference, and the monitor's as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.core.tasks import TaskDone, TaskExit
from otp_runtime.errors import CallTimeout
from otp_runtime.host import poller
from otp_runtime.process import primitives as process
from otp_runtime.process.context import Context, ExitSignal, Slot
from otp_runtime.process.current import current
from otp_runtime.process.starting import start_job
from otp_runtime.process.task_body import label_of, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from otp_runtime.behaviours.task import Task
    from otp_runtime.core.tasks import Result
    from otp_runtime.terms.pid import Pid, Ref

    Launch: TypeAlias = Callable[[Context, int, Callable[..., Any], tuple[Any, ...]], Pid]
    """Start the process of a task: owner, serial, function, arguments."""


def launch_linked(context: Context, serial: int, fun: Callable[..., Any], args: tuple[Any, ...]) -> Pid:
    """Start a task's process, linked to its owner."""
    return _launch(context, serial, fun, args, hold=True)


def launch_bound(context: Context, serial: int, fun: Callable[..., Any], args: tuple[Any, ...]) -> Pid:
    """Start a task's process, which ends with its owner; its own end is no exit signal there."""
    return _launch(context, serial, fun, args, hold=False)


def _launch(context: Context, serial: int, fun: Callable[..., Any], args: tuple[Any, ...], *, hold: bool) -> Pid:
    label = f"Task {label_of(fun)}"
    pid: Pid = start_job("plain", run, (context.id, serial, fun, *args), {}, label=label, link=True, hold=hold)
    return pid


def begin(context: Context, launch: Launch, fun: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Pid, int, Slot]:
    """Start a task; give its pid, the serial of its slot, and the slot, which will be filled in any case."""
    serial = context.next_serial()
    slot = context.pending[serial] = Slot(None)
    try:
        pid = launch(context, serial, fun, args)
    except BaseException:
        del context.pending[serial]
        raise
    slot.peer = context.peer(pid.id)
    if slot.peer is None:
        # it has lived its whole life meanwhile; its reply, if any, lies in the mailbox
        context.drain()
        slot.fail(context.epitaph(pid.id))
    return pid, serial, slot


def watch(context: Context, ref: Ref, pid: Pid, slot: Slot) -> None:
    """Monitor a task that `begin` has started, under its own reference."""
    if slot.peer is not None:
        slot.peer.monitors[ref] = pid
    else:
        reason = slot.failure[0] if slot.failure is not None else context.epitaph(pid.id)
        context.enqueue(process.Down(ref, pid, reason))


def own(task: Task[Any], what: str) -> Context:
    """Give the process that runs here, which must be the task's owner. Raises ValueError; TypeError for no task."""
    context = current()
    if not hasattr(task, "owner"):
        msg = f"{what} needs what Task.async_ gave, a Task, and got {task!r}"
        raise TypeError(msg)
    if task.owner != context.pid:
        msg = (
            f"{what}: {task!r} belongs to {task.owner!r}, which started it, and was asked for by {context.pid!r}; "
            "only its owner gets its result: await it there and send the value on"
        )
        raise ValueError(msg)
    return context


def slot_of(context: Context, task: Task[Any]) -> Slot | None:
    """Give the slot of a task; None when its result was taken or given up."""
    return context.pending.get(task.ref.serial)


def forget(context: Context, task: Task[Any]) -> Slot | None:
    """Let go of a task: a reply that comes now is dropped, and no `Down` of it is left. Give the slot it had."""
    process.demonitor(task.ref, flush=True)
    if task.pid is not None:
        context.node.started.pop(task.pid.id, None)
    return context.pending.pop(task.ref.serial, None)


def result_of(slot: Slot) -> Result[Any]:
    """Read a slot that is filled."""
    return TaskDone(slot.value) if slot.failure is None else TaskExit(slot.failure[0])


def wait(context: Context, is_over: Callable[[], bool], deadline: float | None) -> bool:
    """Take in what happens until `is_over()` or the deadline; say whether it is."""
    while not is_over():
        left = None if deadline is None else deadline - poller.now()
        if left is not None and left <= 0:
            # what lies in the mailbox came in time
            context.drain()
            context.pump(0)
            return is_over()
        context.pump(left)
        if context.doomed is not None and not context.is_program:
            raise ExitSignal(context.doomed[0])
    return True


def wait_first(context: Context, slots: Iterable[Slot], deadline: float | None) -> bool:
    """Wait until any slot is filled."""
    watched = list(slots)
    return wait(context, lambda: any(slot.done for slot in watched), deadline)


def timed_out(task: Task[Any], started: float, slot: Slot | None) -> CallTimeout:
    """Give the error of a wait that took too long."""
    if slot is None:
        detail = "its result was taken, or given up, before"
    else:
        detail = "it goes on, and what it will reply is dropped; Task.yield_ waits without giving up"
    return CallTimeout(task, None, poller.now() - started, detail=detail)
