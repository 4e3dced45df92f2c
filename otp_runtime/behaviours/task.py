"""Task: a function that runs in a process of its own, and whose value is awaited.

    owner ── async_(fun, *args) ──► task: an OS process, linked to the owner and monitored by it
      │  goes on with its own work     │ fun(*args)
      └─ await_(task) ◄─── value ──────┘   or its exit reason

How to supervise: `TaskSupervisor` for tasks of which more are started as the program runs, `Task.child_spec` for one
that a supervisor starts. Time-outs: of the wait, in seconds; the task goes on unless it is shut down. When not to use
it: a task that must keep a state is a `GenServer`; a pure-Python function of a few microseconds costs more to start
(a fork, milliseconds) than to run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal

from otp_runtime.behaviours import gen_server, task_owner
from otp_runtime.behaviours.task_stream import stream
from otp_runtime.core import messages as wire
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.tasks import TaskDone, TaskExit, after_shutdown
from otp_runtime.errors import TaskExited
from otp_runtime.host import poller
from otp_runtime.process import boot, task_body
from otp_runtime.process import primitives as process
from otp_runtime.process.client import deadline_of
from otp_runtime.process.context import Slot
from otp_runtime.process.current import current
from otp_runtime.process.starting import start_job
from otp_runtime.terms.pid import Pid, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import EllipsisType
    from typing import TypeAlias

    from typing_extensions import TypeVar

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.tasks import How, Result
    from otp_runtime.process.context import Context

    MaybeNone: TypeAlias = Any

    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    V = TypeVar("V")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task(Generic[V]):
    """A task under way: its process, the reference of its reply and its monitor, and who may await it.

    Made by `Task.async_`. It can be kept and sent, but only its owner gets its result.

    >>> from otp_runtime import Task
    >>> double = Task.async_(lambda n: n * 2, 21)
    >>> Task.await_(double)
    42
    """

    pid: Pid | MaybeNone
    ref: Ref
    owner: Pid
    label: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"<Task {self.label} {self.pid!r}>"

    # -- starting -------------------------------------------------------------------------------------------

    @staticmethod
    def async_(fun: Callable[..., T], /, *args: Any) -> Task[T]:
        """Run `fun(*args)` in a new process, whose result this one awaits later.

        `fun` may be a lambda or a closure. The task is linked to the caller, its owner: it ends when the owner is
        killed or crashes, and when it crashes so does an owner that does not trap exits (one that does, and a
        program, gets an `Exit` message). It is monitored as well: when it ends before its result was taken, the owner
        gets `Down(task.ref, task.pid, reason)`, so that a server can collect the result in `handle_info`.

        Raises `CodecError` when `fun` or an argument cannot travel, `InitFailed` when there is no room for a process.
        EX: Task.async/1,3.
        """
        return start_task(task_owner.launch_linked, fun, args)

    @staticmethod
    def start(fun: Callable[..., Any], /, *args: Any) -> Pid:
        """Run `fun(*args)` in a new process that nobody awaits, linked to nobody; gives its pid. EX: Task.start/1,3."""
        return _start_alone(fun, args, link=False)

    @staticmethod
    def start_link(fun: Callable[..., Any], /, *args: Any) -> Pid:
        """As `start`, linked to the caller. What a child spec calls. EX: Task.start_link/1,3."""
        if boot.take_slot():
            task_body.serve((), task_body.run_alone, current().parent, fun, *args)
        return _start_alone(fun, args, link=True)

    @staticmethod
    def child_spec(
        fun: Callable[..., Any],
        /,
        *args: Any,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] = "temporary",
        shutdown: float | Literal["brutal_kill"] | EllipsisType | None = ...,
        significant: bool = False,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """Say how a supervisor starts this task: `start_link(fun, *args)`, in the new process.

        `id` defaults to "Task", `restart` to "temporary" (it is not run again), `shutdown` to 5.0 seconds.
        `backoff`: how long to wait before it is run again, where it is.
        """
        return ChildSpec(
            id="Task" if id is None else id,
            start=(Task.start_link, (fun, *args), {}),
            restart=restart,
            shutdown=5.0 if shutdown is ... else shutdown,
            significant=significant,
            backoff=backoff,
        )

    @staticmethod
    def completed(value: T) -> Task[T]:
        """Give a task without a process, whose result is there: for a function that sometimes needs none.

        >>> Task.await_(Task.completed(7))
        7
        """
        context = current()
        ref = context.make_ref()
        slot = context.pending[ref.serial] = Slot(None)
        slot.deliver(wire.VALUE, value)
        return Task(None, ref, context.pid, "completed")

    # -- awaiting -------------------------------------------------------------------------------------------

    @staticmethod
    def await_(task: Task[T], timeout: float | None = 5.0) -> T:
        """Wait for the value of a task; only its owner may.

        `timeout` is seconds (None: for ever). Raises `TaskExited(reason)` when it ended without a value (with its
        traceback as a note when it crashed), `CallTimeout`, and ValueError in a process that is not the owner. An
        owner that does not catch these exits with their reason. After `CallTimeout` the task still runs, but its
        result is given up: a late reply is dropped. Awaited a second time it is never there: `CallTimeout`, when the
        time is over. EX: Task.await/2.
        """
        context = task_owner.own(task, "Task.await_")
        started = poller.now()
        deadline = deadline_of(timeout, started)
        slot = task_owner.slot_of(context, task)
        if slot is None and deadline is None:
            raise task_owner.timed_out(task, started, None)
        is_there = task_owner.wait(context, lambda: slot is not None and slot.done, deadline)
        task_owner.forget(context, task)
        if not is_there or slot is None:
            raise task_owner.timed_out(task, started, slot)
        value: T = _value_of(slot)
        return value

    @staticmethod
    def await_many(tasks: Iterable[Task[T]], timeout: float | None = 5.0) -> list[T]:
        """Wait for the values of several tasks; gives them in the order of `tasks`.

        `timeout` is for all together. The first that ends without a value raises at once, as in `await_`; the results
        of the others are given up then, and after `CallTimeout`. EX: Task.await_many/2.
        """
        wanted = _listed(tasks, "Task.await_many")
        started = poller.now()
        deadline = deadline_of(timeout, started)
        if not wanted:
            return []
        context = _own_all(wanted, "Task.await_many")
        slots = {task: task_owner.slot_of(context, task) for task in wanted}
        try:
            while True:
                # also what had failed before this was called
                for slot in slots.values():
                    if slot is not None and slot.failure is not None:
                        _value_of(slot)
                missing = [task for task, slot in slots.items() if slot is None or not slot.done]
                if not missing:
                    return [_value_of(slot) for task in wanted if (slot := slots[task]) is not None]
                if deadline is None and (taken := [task for task in missing if slots[task] is None]):
                    raise task_owner.timed_out(taken[0], started, None)
                undone = [slot for task in missing if (slot := slots[task]) is not None]
                if not task_owner.wait_first(context, undone, deadline):
                    raise task_owner.timed_out(missing[0], started, slots[missing[0]])
        finally:
            for task in slots:
                task_owner.forget(context, task)

    @staticmethod
    def yield_(task: Task[T], timeout: float | None = 5.0) -> Result[T] | None:
        """Wait for a task as long as `timeout`, and say what came of it without raising.

        Gives `TaskDone(value)`, `TaskExit(reason)`, or None when it still runs: then it can be asked for again, or
        be shut down. Afterwards its result is taken, and this waits in vain. EX: Task.yield/2.

        >>> task = Task.async_(int)
        >>> Task.yield_(task) or Task.shutdown(task)
        TaskDone(value=0)
        """
        return Task.yield_many([task], timeout)[0][1]

    @staticmethod
    def yield_many(
        tasks: Iterable[Task[T]],
        timeout: float | None = 5.0,
        *,
        limit: int | None = None,
        on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
    ) -> list[tuple[Task[T], Result[T] | None]]:
        """Wait for several tasks as long as `timeout`; gives each with its result, as `yield_`, in the order given.

        `limit`: do not wait for more than so many results. `on_timeout`: what becomes of those that have none when
        the wait is over: "nothing", "ignore" (as `Task.ignore`) or "kill_task" (as `shutdown(task, "brutal_kill")`).
        EX: Task.yield_many/2.
        """
        wanted = _listed(tasks, "Task.yield_many")
        deadline = deadline_of(timeout, poller.now())
        _check_one_of("on_timeout", on_timeout, ("nothing", "ignore", "kill_task"))
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            msg = f"limit is a number of results above 0, or None for all, not {limit!r}"
            raise ValueError(msg)
        if not wanted:
            return []
        context = _own_all(wanted, "Task.yield_many" if len(wanted) > 1 else "Task.yield_")
        slots = {task: task_owner.slot_of(context, task) for task in wanted}
        enough = len(slots) if limit is None else min(limit, len(slots))
        if deadline is None:
            # what was taken before is never there
            enough = min(enough, sum(slot is not None for slot in slots.values()))

        def is_over() -> bool:
            return sum(slot is not None and slot.done for slot in slots.values()) >= enough

        task_owner.wait(context, is_over, deadline)
        found: dict[Task[T], Result[T] | None] = {}
        for task, slot in slots.items():
            if slot is not None and slot.done:
                task_owner.forget(context, task)
                found[task] = task_owner.result_of(slot)
            elif on_timeout == "nothing":
                found[task] = None
            else:
                found[task] = Task.ignore(task) if on_timeout == "ignore" else Task.shutdown(task, "brutal_kill")
        return [(task, found[task]) for task in wanted]

    def __await__(self) -> Generator[Any, None, V]:
        """Wait in an event loop, without a thread: `value = await task`. Raises `TaskExited`, ValueError.

        There is no time limit: use `asyncio.timeout`. Cancelling the wait leaves the task as it is: it can be awaited
        again, or shut down.
        """
        return self._await_in_loop().__await__()

    async def _await_in_loop(self) -> V:
        context = task_owner.own(self, "await")
        slot = task_owner.slot_of(context, self)
        if slot is None:
            raise task_owner.timed_out(self, poller.now(), None)
        if not slot.done:
            await _arrival(context, slot, self)
        task_owner.forget(context, self)
        value: V = _value_of(slot)
        return value

    # -- letting go -----------------------------------------------------------------------------------------

    @staticmethod
    def shutdown(task: Task[T], timeout: float | Literal["brutal_kill"] | None = 5.0) -> Result[T] | None:
        """End a task, and wait until its process is gone.

        It is unlinked and sent the exit signal `"shutdown"`; after `timeout` seconds (None: never) it is killed. With
        `"brutal_kill"` it is killed at once. Gives `TaskDone(value)` when it had replied before, None when it ended of
        what it was sent, and `TaskExit(reason)` otherwise: `"killed"` when it did not obey in time, `"noproc"` when
        its result was taken before and it is gone. EX: Task.shutdown/2.
        """
        context = task_owner.own(task, "Task.shutdown")
        how: How = "shutdown"
        deadline = None
        if timeout == "brutal_kill":
            how = "brutal_kill"
        else:
            gen_server.check_timeout(timeout)
            deadline = deadline_of(timeout, poller.now())
        reason: Any = "noproc"
        if task.pid is not None:
            process.unlink(task.pid)
            how, reason = _end(context, task.pid, how, deadline)
        slot = task_owner.forget(context, task)
        if slot is None or not slot.done:
            return after_shutdown(how, reason)
        result: Result[T] = task_owner.result_of(slot)
        return after_shutdown(how, result.reason) if isinstance(result, TaskExit) else result

    @staticmethod
    def ignore(task: Task[T]) -> Result[T] | None:
        """Let a task go on without its owner: unlinked, unmonitored, its result dropped.

        Gives `TaskDone(value)` or `TaskExit(reason)` when it has ended already, else None. EX: Task.ignore/1.
        """
        context = task_owner.own(task, "Task.ignore")
        context.drain()
        context.pump(0)
        if task.pid is not None:
            process.unlink(task.pid)
        slot = task_owner.forget(context, task)
        return task_owner.result_of(slot) if slot is not None and slot.done else None

    # -- streams --------------------------------------------------------------------------------------------

    @staticmethod
    def async_stream(
        items: Iterable[Any],
        fun: Callable[[Any], T],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
    ) -> Generator[Result[T], None, None]:
        """Run `fun(item)` for each item, each in a task of its own, and yield the results as they come.

        Lazy: nothing starts before the first result is asked for, and an item is taken from `items`, which may be
        endless, only when there is room for its task. `max_concurrency`: so many run at once (default: the CPUs this
        process may use). `ordered`: yield in the order of `items`, keeping what comes early (True), or as they end.
        `timeout`: the seconds each task has (default 5.0; None: for ever); the time in which you hold the generator
        does not count. A task that overruns makes the stream raise `CallTimeout`, or with `on_timeout="kill_task"` is
        killed and yields `TaskExit("timeout")`.

        Yields `TaskDone(value)` and `TaskExit(reason)`, or `TaskExit((item, reason))` with `zip_input_on_exit`. The
        tasks belong to the process that iterates. When it traps exits, or is a program, a crash is a `TaskExit`; a
        server that does not trap exits dies with the task, by the link. When the generator ends, however it ends
        (closed early, the loop left by `break` or an exception), the tasks that still run are killed first.

        Raises ValueError for a wrong option, at once; in the iteration what `items` raises. EX: Task.async_stream/3.

        >>> list(Task.async_stream([1, 2], lambda n: n * n))
        [TaskDone(value=1), TaskDone(value=4)]
        """
        return stream(
            items,
            fun,
            task_owner.launch_linked,
            task_owner.launch_bound,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )


def start_task(launch: task_owner.Launch, fun: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
    """Start a task by `launch`, monitored by this process, which owns it."""
    check_function(fun)
    context = current()
    pid, serial, slot = task_owner.begin(context, launch, fun, args)
    ref = Ref(context.node.name, context.node.incarnation, context.id, serial)
    task_owner.watch(context, ref, pid, slot)
    return Task(pid, ref, context.pid, task_body.label_of(fun))


def check_function(fun: Any) -> None:
    """Refuse what cannot be called, before a process is started for it."""
    if not callable(fun):
        msg = f"a task runs a function, and {fun!r} is none: give a callable, and its arguments after it"
        raise TypeError(msg)


def _start_alone(fun: Callable[..., Any], args: tuple[Any, ...], *, link: bool) -> Pid:
    check_function(fun)
    label = f"Task {task_body.label_of(fun)}"
    pid: Pid = start_job("plain", task_body.run_alone, (current().id, fun, *args), {}, label=label, link=link)
    return pid


def _listed(tasks: Iterable[Task[T]], what: str) -> list[Task[T]]:
    if isinstance(tasks, Task):
        msg = f"{what} needs several tasks, and got one, {tasks!r}: put it into a list"
        raise TypeError(msg)
    return list(tasks)


def _own_all(tasks: list[Task[Any]], what: str) -> Context:
    for task in tasks:
        task_owner.own(task, what)
    return current()


def _value_of(slot: Slot) -> Any:
    match task_owner.result_of(slot):
        case TaskDone(value=value):
            return value
        case TaskExit(reason=reason):
            raise TaskExited(reason)


async def _arrival(context: Context, slot: Slot, task: Task[Any]) -> None:
    if slot.on_done is not None:
        msg = f"{task!r} is being awaited already"
        raise RuntimeError(msg)
    import asyncio

    from otp_runtime.process import bridge

    arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    slot.on_done = arrive
    try:
        async with bridge.awake(context):
            await arrived
    finally:
        slot.on_done = None


def _end(context: Context, pid: Pid, how: How, deadline: float | None) -> tuple[How, Any]:
    """End a task's process and wait for its end; give how it went, and the reason it ended with."""
    peer = context.peer(pid.id)
    if peer is None:
        return how, "noproc"
    ended: list[Any] = []
    peer.waiters.append(ended.append)
    if peer.id not in context.dying:
        context.signal_exit(peer, "kill" if how == "brutal_kill" else "shutdown")
    if not task_owner.wait(context, lambda: bool(ended), deadline if how == "shutdown" else None):
        how = "late_kill"
        context.signal_exit(peer, "kill")
        task_owner.wait(context, lambda: bool(ended), None)
    return how, ended[0]


def _check_one_of(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        msg = f"{what} is {' or '.join(map(repr, allowed))}, not {value!r}"
        raise ValueError(msg)
