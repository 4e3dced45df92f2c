"""A task seen from inside: what runs in its process. Light, as each task pays for what it imports.

owner                                      the task's process
─────                                      ──────────────────
slot for the reply, start ───────────────► is the owner alive? run the function
slot ◄──────────────────────────── REPLY   value; wait until all of it is on its way
Down ◄──────────────────────────── death   end, "normal"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.errors import ExitWith
from otp_runtime.host import box as boxes
from otp_runtime.process import boot as booting
from otp_runtime.process.current import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context


def run(owner: int, serial: int, fun: Callable[..., Any], /, *args: Any) -> None:
    """Run a function and send its value to process `owner`, which awaits it under `serial`.

    An owner that is dead already wants no result: then the function does not run.
    """
    context = current()
    if context.peer(owner) is None:
        raise ExitWith(("shutdown", context.epitaph(owner)))
    value = run_alone(owner, fun, *args)
    payload = context.pack([wire.REPLY, serial, wire.VALUE, value], value, "value of the task")
    peer = context.peer(owner)
    if peer is None:
        return
    # before the value: whoever has that may count on the place of this one
    context.box.set_flag(boxes.FINISHED)
    # never held back by a full inbox, as any reply; but a process that is about to end owes all of it first, to an
    # owner that may be busy for long
    context.post(peer, payload)
    while peer.outbox and context.peers.get(owner) is peer:
        context.pump(None)


def run_alone(starter: int, fun: Callable[..., Any], /, *args: Any) -> Any:
    """Run a function; when it fails, the report will say what it was called with, and for whom."""
    try:
        return fun(*args)
    except BaseException:
        booting.note_words(None, message=_described(starter, fun, args))
        raise


def _described(starter: int, fun: Callable[..., Any], args: tuple[Any, ...]) -> str:
    name = label_of(fun)
    try:
        call = f"{name}({', '.join(map(repr, args))})"
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not hide what it should have shown
        call = f"{name}(…) (repr raised {error!r})"
    return f"{call[: booting.SHOWN_MAX - 100]}, started by {current().pid_of(starter)!r}"


def label_of(fun: Any) -> str:
    """Name a function, for people."""
    return str(getattr(fun, "__qualname__", None) or type(fun).__qualname__)


# -- under a supervisor ------------------------------------------------------------------------------------


def serve(links: tuple[int, ...], function: Callable[..., Any], *args: Any) -> Any:
    """Turn this new process, a supervisor's child, into a task: raises to unwind the start function.

    Started is started: `function(*args)`, one of the two above, runs after that was said. `links` are the processes
    it is linked to beside its supervisor.
    """
    raise booting.Become(lambda context, boot: _live(context, boot, links, function, args))


def _live(
    context: Context, boot: Boot, links: tuple[int, ...], function: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    try:
        for other in links:
            context.link_back(other)
        context.box.set_flag(boxes.READY, boxes.PLAIN)
        boot.say("ok")
        if context.doomed is not None:
            return context.doomed[0]
        function(*args)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        booting.note_words(error)
        return booting.reason_of(error, context)
    return "normal"
