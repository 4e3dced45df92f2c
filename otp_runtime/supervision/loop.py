"""The process of a supervisor of any kind: library code only, made from data, with one core that decides.

`serve` is its entry. What a kind adds is data: the flags choose the core.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

from otp_runtime.behaviours import (
    gen,
    gen_server,  # noqa: F401 - what most children are: whoever is forked here does not import it again
    system,
    system_messages,
)
from otp_runtime.core import dynamic, supervision
from otp_runtime.core import messages as wire
from otp_runtime.core import supervisor_messages as core
from otp_runtime.core.child_spec import DynamicFlags
from otp_runtime.errors import CodecError, NotSuspended, OtpError, UpgradeFailed
from otp_runtime.host import box as boxes
from otp_runtime.process import boot as booting
from otp_runtime.process.context import ExitSignal
from otp_runtime.supervision import preload, rehearsal  # noqa: F401 - the second says what a spare rehearses
from otp_runtime.supervision.children import Decisions, Performer, job_of_children
from otp_runtime.terms.events import Exit

if TYPE_CHECKING:
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context


def serve(context: Context, boot: Boot, data: dict[str, Any]) -> Any:
    """Be a supervisor: the entry of a process that runs library code only. Gives the exit reason."""
    context.set_trap_exit(True)
    context.box.label = data["label"]
    # before the name: who finds it finds this too
    context.box.partitions = data.get("partitions", 0)
    for name in (data["name"], data.get("partition")):
        failed = None if name is None else booting.take_name(context, boot, name)
        if failed is not None:
            return failed[0]
    specs = tuple(data["specs"])
    preload.preload_dill(f"{context.directory.path}/defs", (spec.start for spec in specs))
    if not boot.fresh:
        preload.preload(name for spec in specs for name in spec.preload)
    decisions: Decisions = dynamic if isinstance(data["flags"], DynamicFlags) else supervision
    state = decisions.initial(data["flags"], specs)
    performer = Performer(context, decisions, state, job_of_children(context), serve)
    performer.extra = data.get("extra")
    # what this process inherited may be older than an upgrade of its supervisor's children
    performer.offspring.nursery.is_stale = boot.fresh
    for spec in specs:
        performer.offspring.nursery.note(spec.preload)
    if len(specs) > 1 or decisions is dynamic:
        performer.offspring.template.expect_many(waits=decisions is dynamic)
    performer.feed(core.Begin())
    try:
        return _loop(context, boot, performer)
    finally:
        performer.offspring.spares.end()
        performer.offspring.template.end()


def _loop(context: Context, boot: Boot, performer: Performer) -> Any:
    ready = False
    while True:
        performer.perform()
        if performer.ended is not None:
            break
        if performer.started and not ready:
            ready = True
            context.box.set_flag(boxes.READY)
            boot.say("ok")
        entry = context.next_message()
        if entry is not None:
            performer.offspring.hear_restarts()
            _handle(context, performer, entry[1])
        elif performer.has_retries:
            # a retry goes through the queue: what was asked meanwhile comes first
            context.pump(0)
            if not context.inbox:
                performer.take_retry()
        else:
            with contextlib.suppress(ExitSignal):
                context.pump(None)
        if context.doomed is not None:
            performer.finish_burials()
            performer.offspring.catch_up()
            return context.doomed[0]
    reason = performer.ended[0]
    boot.say("error", reason)
    return reason


def _handle(context: Context, performer: Performer, envelope: wire.Envelope) -> None:
    if performer.debugger is not None and envelope[0] != wire.SYSTEM:
        performer.debugger.arrived(envelope)
    match envelope:
        case [wire.CALL, caller, serial, request] if isinstance(request, performer.core.REQUESTS):
            if isinstance(request, core.StartChildRequest):
                with contextlib.suppress(ExitSignal):
                    performer.make_room()
                request = performer.shared(request)
            performer.feed(core.Asked((caller, serial), cast("core.Request", request)))
        case [wire.CALL, caller, serial, request]:
            error = OtpError(f"{performer.who()} is a supervisor and does not understand {request!r}")
            gen.send_reply(context, caller, serial, wire.RAISE, error)
        case [wire.SEND, Exit(pid=pid, reason=reason)]:
            if context.key_of(pid) == context.parent:
                performer.feed(core.StopRequested(reason))
        case [wire.SYSTEM, caller, serial, request]:
            _system(context, performer, caller, serial, request)
        case _:
            context.node.warn(f"{performer.who()} is a supervisor and ignored the message {envelope[-1]!r:.200}")


def _system(context: Context, performer: Performer, caller: int, serial: int, request: Any) -> None:
    how = wire.VALUE
    value: Any = None
    match request:
        case _ if wire.is_handover(request):
            from otp_runtime.process import handover

            handover.serve(performer.offspring, caller, serial, request)
            return
        case ("terminate", reason):
            performer.feed(core.StopRequested(reason))
        case "get_state" | "get_status":
            value = _status(context, performer)
        case "suspend":
            performer.feed(core.Asked((caller, serial), core.Suspend()))
            return
        case "resume":
            performer.feed(core.Resumed())
        case ("debug", "install", *_) | ("replace_state", _) | ("run", _):
            how, value = wire.RAISE, system.refusal(performer.who())
        case ("change_code", *_):
            suspended = performer.state.suspended
            text = "a supervisor has no code of yours to change: upgrade its children, or restart it"
            how, value = wire.RAISE, UpgradeFailed(text) if suspended else NotSuspended(performer.who())
        case ("debug", *what):
            how, value = system_messages.answer_debug(performer, tuple(what))
        case _:
            error = OtpError(f"{request!r} is no system message that a supervisor knows")
            how, value = wire.RAISE, error
    context.box.set_flag(boxes.SUSPENDED, int(performer.state.suspended))
    try:
        gen.send_reply(context, caller, serial, how, value)
    except CodecError as error:
        gen.send_reply(context, caller, serial, wire.RAISE, error)


def _status(context: Context, performer: Performer) -> dict[str, Any]:
    state = performer.state
    return {
        "pid": context.pid,
        "name": context.box.name or None,
        "module": context.box.label,
        "status": "suspended" if state.suspended else "running",
        **performer.core.describe(state),
        "restarts": len(state.restarts),
        "queued": sum(1 for _ in state.backlog),
        "debug": [] if performer.debugger is None else performer.debugger.what_is_on(),
        "children": list(performer.core.children_of(state)),
    }
