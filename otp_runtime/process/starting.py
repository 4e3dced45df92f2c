"""Asking for a new process: by the launcher, or by turning this very process into it.

A start function of a child spec runs in the *new* process. The first start that it reaches finds the slot open
and takes it: the process becomes that server. Everywhere else a start asks the launcher for a fork.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from otp_runtime.errors import AlreadyStarted, DurableStateError, InitFailed, NoNode, StartTimeout
from otp_runtime.process import boot, links, node
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.job import Job
from otp_runtime.terms.pid import Pid

NOT_IMPORTED = frozenset(("__main__", "__mp_main__", "builtins"))

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.context import Context


def start_job(
    mode: Literal["plain", "start", "supervisor"],
    function: Callable[..., Any] | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    label: str,
    link: bool,
    timeout: float | None = None,
    name: str = "",
    shutdown: float | None = 5.0,
    body: bytes | None = None,
    hold: bool = True,
    program: int | None = None,
    parent: int | None = None,
) -> Any:
    """Have a process started and wait until it is; gives its pid, None when it ignored.

    With `hold=False` a link is the new process's alone: it ends with this one, and not the other way round.
    `program`: whose root it is (default: this program's); 0 makes it the node's. `parent`: whose exit ends it.
    """
    boot.refuse_start_while_loading()
    context = current()
    if body is None:
        assert function is not None
        body = context.node.seal(function, args, kwargs, label)
    if parent is None:
        parent = (context.node.program or context.id) if link else LAUNCHER_ID
    job = Job(
        mode=mode,
        body=body,
        label=label,
        parent=parent,
        links=(parent,) if link else (),
        timeout=timeout,
        path=tuple([_absolute(entry) for entry in sys.path]),
        log_level=logging.getLogger().getEffectiveLevel(),
        program=context.node.program if program is None else program,
        name=name,
        shutdown=shutdown,
        imports=_modules_of(function, args),
    )
    word = node.ask_launcher(["start", job.to_term()], None)
    return _conclude(context, word, link=link and hold, timeout=timeout, label=label, shutdown=shutdown)


def _absolute(entry: str) -> str:
    """Give a directory that is found from everywhere; nearly all are that already."""
    return entry if type(entry) is str and entry[:1] == "/" else os.path.abspath(entry)


def _modules_of(function: Any, args: tuple[Any, ...]) -> tuple[str, ...]:
    """Give the importable modules that define what is started."""
    things = (getattr(function, "__self__", None), function, *args)
    modules = (getattr(thing, "__module__", None) for thing in things if isinstance(thing, type) or callable(thing))
    return tuple(dict.fromkeys(name for name in modules if name is not None and name not in NOT_IMPORTED))


def _conclude(
    context: Context, word: list[Any], *, link: bool, timeout: float | None, label: str, shutdown: float | None
) -> Any:
    match word:
        case ["ok", Pid() as pid]:
            context.node.started[pid.id] = shutdown
            if link:
                hold_link(context, pid)
            return pid
        case ["ignore"]:
            return None
        case ["error", reason]:
            raise start_error(reason, label, timeout)
        case _:
            msg = f"unexpected word {word!r} from the launcher"
            raise NoNode(context.node.name, msg)


def hold_link(context: Context, pid: Pid) -> None:
    """Hold this process's end of a link to one that it has just started."""
    peer = context.peer(pid.id)
    if peer is None:
        context.arrive_exit(pid.id, context.epitaph(pid.id), by_link=True)
    else:
        links.hold(context, peer)
    if context.doomed is not None:
        # it died at once, and nothing else would wake this process to die of that
        context.pump(0)


def start_error(reason: Any, label: str, timeout: float | None) -> Exception:
    """Give the exception for a start that failed with `reason`."""
    match reason:
        case ("already_started", Pid() as pid):
            return AlreadyStarted(pid)
        case "timeout":
            return StartTimeout(label, timeout)
        case ("durable_state", str() as path, str() as why):
            return DurableStateError(path, why)
        case _:
            return InitFailed(reason)


async def in_event_loop(start: Callable[[], Any]) -> Any:
    """Run a start without blocking the event loop.

    The start runs in a worker thread *as this thread's process*? No: a thread is a process of its own. What it
    started is linked to the program, so the worker may end; links of a server are taken over by the caller.
    """
    import asyncio

    context = current()
    pid = await asyncio.get_running_loop().run_in_executor(None, start)
    if isinstance(pid, Pid) and not context.is_program:
        hold_link(context, pid)
    return pid
