"""OTP's `sys`: look into any server, hold it, debug it, change its state or its code, without a word of its callbacks.

Public as `otp_runtime.system`. Every behaviour answers, also while it is suspended or hibernates. All functions take
`timeout` (5.0 seconds; None for ever) and raise as `GenServer.call` does: `NoProcess`, `CallTimeout`, `ServerDown`,
`CallingSelf`; a plain process, which has no loop that could answer, is an `OtpError`. The server always finishes the
callback that runs. What is queued before it:

    keeps mailbox order   get_state, replace_state, suspend, change_code, terminate, install
    overtakes it          resume, get_status, trace, log, log_to_file, statistics, remove, no_debug

Debugging costs a server nothing while it is off. The events it sees are described in `otp_runtime.core.debug`:
`("in", message)`, `("out", reply, client, state)`, `("noreply", state)` and a few more.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal, overload

from otp_runtime.behaviours import gen
from otp_runtime.core import messages as wire
from otp_runtime.core.debug import Event, Statistics
from otp_runtime.errors import CallbackFailed, NoProcess
from otp_runtime.host import box as boxes
from otp_runtime.process import client, names

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.terms.pid import Pid, ServerRef

WATCHED = "$otp_trace"
"""What a message to a watcher begins with."""

LOG_EVENTS = 10
"""How many events `log(server, True)` keeps."""


# -- the state ---------------------------------------------------------------------------------------------


def get_state(server: ServerRef, timeout: float | None = 5.0) -> Any:
    """Give the server's state; of a supervisor, what `get_status` gives. OTP: sys:get_state/1,2.

    Raises as `GenServer.call`, and `CodecError` when the state cannot be sent; the server goes on.
    """
    return _ask(server, "get_state", timeout)


def replace_state(server: ServerRef, fun: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Make `fun(state)`, computed in the server, its state; gives the new one. OTP: sys:replace_state/2,3.

    Raises `CallbackFailed(reason)` when `fun` raised: the state is unchanged and the server goes on. A supervisor
    refuses with `CallbackFailed`: it runs no code but the library's.
    """
    _check_runs_functions(server)
    return _ask(server, ("replace_state", fun), timeout)


def get_status(server: ServerRef, timeout: float | None = 5.0) -> dict[str, Any]:
    """Describe the server: "status" ("running", "suspended"), "state" (through `format_status`), "queued" and more.

    Overtakes what is queued, but waits for the callback that runs. OTP: sys:get_status/1,2.
    """
    return gen.request_past_queue(server, "get_status", timeout)  # type: ignore[no-any-return]


# -- holding it --------------------------------------------------------------------------------------------


def suspend(server: ServerRef, timeout: float | None = 5.0) -> None:
    """Let the server handle system messages only; all others wait, in order, for `resume`. OTP: sys:suspend/1,2.

    Not counted: one `resume` undoes any number. A suspended server still obeys `stop` and its parent's exit. A
    supervisor finishes what it has begun, then restarts and answers nothing; the death of a child waits.
    """
    _ask(server, "suspend", timeout)


def resume(server: ServerRef, timeout: float | None = 5.0) -> None:
    """Let a suspended server go on; a server timeout starts afresh. Overtakes what is queued. OTP: sys:resume/1,2."""
    gen.request_past_queue(server, "resume", timeout)


def change_code(server: ServerRef, old_vsn: Any = None, extra: Any = None, timeout: float | None = 5.0) -> None:
    """Let `code_change(old_vsn, state, extra)` convert the state of a suspended server. OTP: sys:change_code/4,5.

    Raises `NotSuspended` when it is running; `UpgradeFailed(reason)` when `code_change` raised, returned
    `Stop(reason)`, or returned what no callback of its kind may (reason `("bad_return_value", value)`): the state is
    as it was, the server still suspended. A supervisor has no code of yours: `UpgradeFailed`.
    """
    _ask(server, ("change_code", old_vsn, extra), timeout)


def terminate(server: ServerRef, reason: Any = "normal", timeout: float | None = 5.0) -> None:
    """Order the server to end with `reason`, and go on; its `terminate` runs. `GenServer.stop` waits for the end.

    OTP: sys:terminate/2,3.
    """
    _ask(server, ("terminate", reason), timeout)


# -- debugging ---------------------------------------------------------------------------------------------


def trace(server: ServerRef, flag: bool, timeout: float | None = 5.0) -> None:
    """Print every event of the server, a line each, from now on; False: no more. OTP: sys:trace/2,3.

    The *server* prints, as in OTP, but to its standard error: standard output is the program's own. What
    `format_status` redacts is redacted. `otp trace NAME` shows the same in another terminal.
    """
    _debug(server, ("trace", _flag(flag)), timeout)


@overload
def log(server: ServerRef, flag: Literal["get"], timeout: float | None = 5.0) -> list[Event]: ...
@overload
def log(server: ServerRef, flag: bool | Literal["print"] | tuple[bool, int], timeout: float | None = 5.0) -> None: ...
def log(server: ServerRef, flag: Any, timeout: float | None = 5.0) -> list[Event] | None:
    """Keep the last events in the server. OTP: sys:log/2,3.

    `flag`: True keeps the last 10, `(True, n)` the last n; False forgets them; "get" gives them, oldest first (an
    empty list when nothing is kept); "print" prints them to the server's standard error. Events are kept as they were
    then, redacted by `format_status`; what cannot be sent is kept as its `repr`.
    """
    match flag:
        case "get" | "print":
            what: Any = flag
        case bool():
            what = LOG_EVENTS if flag else 0
        case (True, int(most)) if most > 0 and not isinstance(most, bool):
            what = most
        case _:
            msg = f"flag is True, (True, n) with n > 0, False, 'get' or 'print', not {flag!r}"
            raise ValueError(msg)
    return _debug(server, ("log", what), timeout)  # type: ignore[no-any-return]


def log_to_file(server: ServerRef, path: str | os.PathLike[str] | Literal[False], timeout: float | None = 5.0) -> None:
    """Write every event to a file, which is made anew; False: no more. OTP: sys:log_to_file/2,3.

    A relative `path` is meant from the directory of this process. Raises `OSError` when it cannot be opened.
    """
    where = None if path is False else os.path.abspath(os.fspath(path))
    _debug(server, ("log_to_file", where), timeout)


@overload
def statistics(
    server: ServerRef, flag: Literal["get"] = "get", timeout: float | None = 5.0
) -> Statistics | Literal["no_statistics"]: ...
@overload
def statistics(server: ServerRef, flag: bool, timeout: float | None = 5.0) -> None: ...
def statistics(server: ServerRef, flag: Any = "get", timeout: float | None = 5.0) -> Any:
    """Count what the server does. OTP: sys:statistics/2,3.

    `flag`: True starts counting afresh, False ends it, "get" gives `Statistics(start_time, current_time, cpu_seconds,
    messages_in, messages_out)`, or "no_statistics" when nobody counts.
    """
    return _debug(server, ("statistics", flag if flag == "get" else _flag(flag, "True, False or 'get'")), timeout)


def install(
    server: ServerRef,
    fun: Callable[[Any, Event, str], Any],
    state: Any = None,
    *,
    id: Any = None,
    timeout: float | None = 5.0,
) -> None:
    """Let `fun(state, event, name)` see every event, in the server, before the server goes on. OTP: sys:install/2,3.

    It gives its next state; "done", or an exception, removes it, and the server goes on. `name` is the server's local
    name, else its pid as text. `fun` may be a lambda or a closure. `id` names it for `remove` (default: `fun` itself);
    what is installed already stays as it is. The event is the server's own: do not change what is in it. A supervisor
    refuses with `CallbackFailed`.
    """
    if not callable(fun):
        msg = f"fun is called with (state, event, name), and is not callable: {fun!r}"
        raise TypeError(msg)
    _check_runs_functions(server)
    _ask(server, ("debug", "install", _key(fun) if id is None else id, fun, state), timeout)


def remove(server: ServerRef, fun: Any, timeout: float | None = 5.0) -> None:
    """Take a debug function out again: `fun`, or its `id`. Nothing when it is not there. OTP: sys:remove/2,3."""
    _debug(server, ("remove", _key(fun) if callable(fun) else fun), timeout)


def no_debug(server: ServerRef, timeout: float | None = 5.0) -> None:
    """Turn off all debugging of the server, whoever turned it on. OTP: sys:no_debug/1,2."""
    _debug(server, ("no_debug",), timeout)


def watch(server: ServerRef, watcher: Pid, flag: bool = True, timeout: float | None = 5.0) -> None:
    """Send every event to `watcher` as `("$otp_trace", facts)`, all text; what `otp trace` uses. Not OTP's.

    Never slows the server: a watcher that does not keep up misses events and is told how many ("dropped").
    """
    _debug(server, ("watch", watcher.id, _flag(flag)), timeout)


def _flag(flag: Any, allowed: str = "True or False") -> bool:
    if not isinstance(flag, bool):
        msg = f"flag is {allowed}, not {flag!r}"
        raise TypeError(msg)
    return flag


def refusal(supervisor: Any) -> CallbackFailed:
    """Give the error for a function that was meant for a supervisor."""
    return CallbackFailed(f"{supervisor} is a supervisor: it runs no code but the library's, and takes no function")


def _check_runs_functions(server: ServerRef) -> None:
    """Refuse to send a function to a supervisor: to read it would be to run it."""
    with contextlib.suppress(NoProcess):
        peer = names.find(client.caller(server, None), server, None, wait=False)
        if peer.box.kind == boxes.KIND_SUPERVISOR:
            raise refusal(peer.box.name or peer.pid)


def _key(fun: Any) -> str:
    """Name a function so that this process and the server mean the same by it."""
    code = getattr(fun, "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None else ""
    owner = fun if hasattr(fun, "__qualname__") else type(fun)
    return f"{owner.__module__}.{owner.__qualname__}{line}"


def _ask(server: ServerRef, request: Any, timeout: float | None) -> Any:
    return client.request(server, request, timeout, kind=wire.SYSTEM)


def _debug(server: ServerRef, request: tuple[Any, ...], timeout: float | None) -> Any:
    return gen.request_past_queue(server, ("debug", *request), timeout)


__all__ = [
    "Event",
    "Statistics",
    "change_code",
    "get_state",
    "get_status",
    "install",
    "log",
    "log_to_file",
    "no_debug",
    "remove",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "terminate",
    "trace",
]
