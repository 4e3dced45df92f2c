"""TaskSupervisor: tasks that are the children of a dynamic supervisor.

What: a function in a process of its own, as with `Task`, whose OS parent is a supervisor: tasks are listed, limited in
number, stopped with the tree, and may run unlinked to whoever awaits them.

    >>> from otp_runtime import Task, TaskSupervisor
    >>> with TaskSupervisor.start_link() as sup:
    ...     task = TaskSupervisor.async_nolink(sup, lambda n: n * 2, 21)
    ...     Task.await_(task)
    42

Client and server: the owner starts and awaits, in its own process; the supervisor only starts, lists and stops. How to
supervise: as any child, `TaskSupervisor.child_spec(name="tasks")`; give it a name, and start tasks by that. Time-outs:
`Task`'s. When not to use it: for a script that just wants results, `Task.async_` needs no supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otp_runtime.behaviours import task as tasks
from otp_runtime.behaviours.task_stream import stream
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.process import starting, task_body
from otp_runtime.process.current import current
from otp_runtime.supervision import launch as launching
from otp_runtime.supervision.dynamic_supervisor import DynamicSupervisor
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from otp_runtime.behaviours.task import Task
    from otp_runtime.behaviours.task_owner import Launch
    from otp_runtime.core.child_spec import Restart, Shutdown
    from otp_runtime.core.tasks import Result
    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import ServerRef

T = TypeVar("T")


class TaskSupervisor(DynamicSupervisor):
    """A supervisor of tasks. Started, named, asked and stopped as a `DynamicSupervisor`. EX: Task.Supervisor.

    `max_children` limits how many tasks there may be at once; the one too many raises `MaxChildren` in its starter.
    """

    @staticmethod
    def async_(
        sup: ServerRef, fun: Callable[..., T], /, *args: Any, shutdown: float | Literal["brutal_kill"] | None = 5.0
    ) -> Task[T]:
        """Start a task under `sup`, linked to the caller, which owns and awaits it as one of `Task.async_`.

        `shutdown` is the seconds it has when the supervisor stops it (None: for ever), or "brutal_kill". Raises
        `MaxChildren`, `NoProcess` when there is no such supervisor. EX: Task.Supervisor.async/3.
        """
        return tasks.start_task(_launcher(sup, shutdown, bind=True, hold=True), fun, args)

    @staticmethod
    def async_nolink(
        sup: ServerRef, fun: Callable[..., T], /, *args: Any, shutdown: float | Literal["brutal_kill"] | None = 5.0
    ) -> Task[T]:
        """As `async_`, not linked to the caller: neither takes the other along.

        For work that may fail: the caller learns of a crash by `Task.await_` or `Task.yield_`, or by
        `Down(task.ref, task.pid, reason)` in its mailbox. EX: Task.Supervisor.async_nolink/3.
        """
        return tasks.start_task(_launcher(sup, shutdown, bind=False, hold=False), fun, args)

    @staticmethod
    def start_child(
        sup: ServerRef,
        fun: Callable[..., Any],
        /,
        *args: Any,
        restart: Literal["permanent", "transient", "temporary"] = "temporary",
        shutdown: float | Literal["brutal_kill"] | None = 5.0,
    ) -> Pid:
        """Start a task under `sup` that nobody awaits; gives its pid.

        With `restart="transient"` a task that crashes is run again, with "permanent" whatever its end. Raises
        `MaxChildren`. EX: Task.Supervisor.start_child/3.
        """
        tasks.check_function(fun)
        body = (task_body.run_alone, current().id, fun, *args)
        return _start(sup, fun, ((), *body), restart, shutdown)

    @staticmethod
    def children(sup: ServerRef) -> list[Pid]:
        """List the tasks that run. EX: Task.Supervisor.children/1."""
        return [one.pid for one in DynamicSupervisor.which_children(sup) if isinstance(one.pid, Pid)]

    @staticmethod
    def async_stream(
        sup: ServerRef,
        items: Iterable[Any],
        fun: Callable[[Any], T],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
        shutdown: float | Literal["brutal_kill"] | None = 5.0,
    ) -> Generator[Result[T], None, None]:
        """As `Task.async_stream`, with tasks under `sup`. Raises `MaxChildren` in the iteration.

        EX: Task.Supervisor.async_stream/4.
        """
        return stream(
            items,
            fun,
            _launcher(sup, shutdown, bind=True, hold=True),
            _launcher(sup, shutdown, bind=True, hold=False),
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )

    @staticmethod
    def async_stream_nolink(
        sup: ServerRef,
        items: Iterable[Any],
        fun: Callable[[Any], T],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
        shutdown: float | Literal["brutal_kill"] | None = 5.0,
    ) -> Generator[Result[T], None, None]:
        """As `async_stream`, but a task that crashes is a `TaskExit` also for a process that does not trap exits.

        The tasks still end when the process that iterates is killed or crashes. EX: async_stream_nolink/4.
        """
        launch = _launcher(sup, shutdown, bind=True, hold=False)
        return stream(
            items,
            fun,
            launch,
            launch,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )


def _launcher(sup: ServerRef, shutdown: Shutdown, *, bind: bool, hold: bool) -> Launch:
    """Give the function that starts a task's process under `sup`.

    `bind`: the task ends with its owner; `hold`: and the owner with the task.
    """

    def launch(context: Context, serial: int, fun: Callable[..., Any], args: tuple[Any, ...]) -> Pid:
        links = (context.node.program or context.id,) if bind else ()
        pid = _start(sup, fun, (links, task_body.run, context.id, serial, fun, *args), "temporary", shutdown)
        if hold:
            starting.hold_link(context, pid)
        return pid

    return launch


def _start(sup: ServerRef, fun: Callable[..., Any], args: tuple[Any, ...], restart: Restart, shutdown: Shutdown) -> Pid:
    there = launching.elsewhere(sup)
    if there is not None:
        msg = (
            f"{sup!r} is on {there.node}, and a task is a function: functions do not cross nodes. "
            "erpc.call and erpc.cast run one that the other node allows"
        )
        raise ValueError(msg)
    spec = ChildSpec(
        id=f"Task {task_body.label_of(fun)}",
        start=(task_body.serve, args, {}),
        restart=restart,
        shutdown=shutdown,
    )
    pid: Pid = DynamicSupervisor.start_child(sup, spec)
    return pid
