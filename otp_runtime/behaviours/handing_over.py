"""A server that is handed over to another OS process, with new code or the same: both sides of it.

    predecessor                                      successor
    ───────────                                      ─────────
    serves                                           loads the code, makes the server object
    at a message boundary: release(state)
    writes its estate ─────────────────────────────► init(arg): opens what belongs on `self`
    parked                                           code_change(old_vsn, state, extra)
                                                     opens the mailbox, takes up links, timers, inbox …
    ends                 ◄── the OS parent: switch ─► goes on with the next message

Written as coroutines for the sake of async servers; one of a synchronous server never waits in them.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.behaviours import gen
from otp_runtime.behaviours.returns import MISSING, Ignore, NoReply, Ok, RaiseInCaller, Reply, Stop
from otp_runtime.behaviours.system_messages import changed_state
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError
from otp_runtime.host import poller
from otp_runtime.process import boot as booting
from otp_runtime.process import estate
from otp_runtime.process.context import ExitSignal
from otp_runtime.process.parting import Parting
from otp_runtime.process.shipping import is_importable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from otp_runtime.behaviours.server_loop import ServerLoop
    from otp_runtime.process.succession import Succession


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    msg = "a callback that is not `async def` gave something to be awaited"
    raise TypeError(msg)


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


@contextlib.contextmanager
def _callback(loop: ServerLoop) -> Iterator[None]:
    """Note in the box that a callback runs: a watchdog sees then whether it returns."""
    loop.box.enter_callback(poller.now(), loop.handled, b"")
    try:
        yield
    finally:
        loop.box.leave_callback()


# -- the predecessor ---------------------------------------------------------------------------------------


async def hand_over(loop: ServerLoop, envelope: wire.Envelope) -> None:
    """Park this server, at a message boundary; return when it is to go on, and not at all when it was handed over."""
    context = loop.context
    _kind, parent, serial, (_word, number) = envelope
    try:
        parting = Parting(context, number)
    except FileNotFoundError:
        return
    released = False
    try:
        refusal = await _refusal(loop)
        if refusal is None:
            released = await _release(loop)
            parting.stop_listening()
            parting.leave(context.codec.encode(_describe(loop), "estate"))
    except (ExitSignal, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, the old code goes on and the asker hears of it
        released = released or hasattr(loop.server, "release")
        refusal = (_reason_of(loop, error),)
    if refusal is None:
        gen.send_reply(context, parent, serial, wire.VALUE, ["parked"])
        if parting.is_over():
            parting.depart()
    else:
        gen.send_reply(context, parent, serial, wire.VALUE, ["refused", refusal[0]])
    parting.resume()
    if released:
        await _open_again(loop)


async def _refusal(loop: ServerLoop) -> tuple[Any] | None:
    """Say why this server cannot be handed over, before anything of it was touched."""
    context = loop.context
    if context.doomed is not None:
        return (context.doomed[0],)
    if not _hands_over(loop):
        return (("cannot_be_handed_over", loop.box.label),)
    try:
        context.codec.encode(loop.state, "state")
    except CodecError as error:
        return (("bad_state", str(error)),)
    return None


def _hands_over(loop: ServerLoop) -> bool:
    """The library's own servers may keep on `self` what cannot be sent, unless they say otherwise."""
    is_ours = loop.cls.__module__.startswith("otp_runtime.")
    return bool(getattr(loop.cls, "hands_over", not is_ours))


async def _release(loop: ServerLoop) -> bool:
    release = getattr(loop.server, "release", None)
    if release is None:
        return False
    with _callback(loop):
        await _settled(release(loop.state))
    return True


def _reason_of(loop: ServerLoop, error: BaseException) -> Any:
    if isinstance(error, CodecError):
        return ("bad_state", str(error))
    return booting.reason_of(error, loop.context)


def _describe(loop: ServerLoop) -> dict[str, Any]:
    codec = loop.context.codec
    return {
        "vsn": getattr(loop.cls, "vsn", None),
        "class_traps": bool(loop.server.trap_exit),
        "state": codec.encode(loop.state, "state"),
        "timeout": loop.timeout,
        "hibernating": loop.hibernating,
        "handled": loop.handled,
        "suspended": loop.suspended,
        "set_aside": estate.entries(loop.set_aside),
        "context": codec.encode(estate.describe(loop.context), "inbox"),
    }


async def _open_again(loop: ServerLoop) -> None:
    """The upgrade failed: let `init` reopen what `release` gave up. The state stays; what `init` arms does not."""
    context = loop.context
    timers = set(context.timers)
    monitors = {ref for peer in context.peers.values() for ref in peer.monitors}
    try:
        with _callback(loop):
            result = await _settled(loop.server.init(loop.arg))
    except ExitSignal:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the server by OTP's rules
        loop._crashed(error)  # noqa: SLF001 - the other half of the loop
        return
    for key in set(context.timers) - timers:
        context.timers.pop(key).cancel()
    for peer in context.peers.values():
        for ref in set(peer.monitors) - monitors:
            del peer.monitors[ref]
    if isinstance(result, Stop | Ignore):
        reason = result.reason if isinstance(result, Stop) else "normal"
        loop._end(reason)  # noqa: SLF001


# -- the successor -----------------------------------------------------------------------------------------


async def succeed(loop: ServerLoop, succession: Succession) -> None:
    """Become the server that exists already. What is raised before the switch makes the handover fail."""
    if succession.is_fresh and not is_importable(loop.cls):
        name = f"{loop.cls.__module__}.{loop.cls.__qualname__}"
        raise booting.BadReturn(("not_importable", name))
    left = succession.await_estate()
    with _callback(loop):
        _check_init(await _settled(loop.server.init(loop.arg)))
    codec = loop.context.codec
    try:
        context = succession.open(codec.decode(left["context"]))
        with gen.adopting_requests(context) as bereft:
            state = codec.decode(left["state"])
        set_aside = estate.read_entries(context, left["set_aside"])
        extra = codec.decode(succession.extra) if succession.extra else None
    except CodecError as error:
        raise booting.BadReturn(("bad_state", str(error))) from error
    if succession.is_fresh:
        with _callback(loop):
            state = changed_state(await _settled(loop.server.code_change(left["vsn"], state, extra)))
    succession.await_switch()
    loop.context, loop.box = context, context.box
    loop.settled()
    if bereft:
        context.drain()
    for serial, receiver in bereft:
        context.pending[serial].fail(context.epitaph(receiver))
    loop.state = state
    loop.timeout, loop.hibernating, loop.continue_ = left["timeout"], left["hibernating"], MISSING
    loop.handled, loop.suspended = left["handled"], left["suspended"]
    loop.set_aside.extend(set_aside)
    if context.trap_exit == left["class_traps"]:
        # it was the old class's setting, nothing that a callback chose
        context.set_trap_exit(bool(loop.server.trap_exit))
    succession.serves()
    telemetry.emit(
        "server.upgrade" if succession.is_fresh else "server.recycle", server=loop.box.name or loop.box.label
    )


def _check_init(result: Any) -> None:
    match result:
        case Stop():
            raise booting.BadReturn(result.reason)
        case Ignore():
            raise booting.BadReturn("ignore")
        case Reply() | NoReply() | RaiseInCaller():
            raise booting.BadReturn(("bad_return_value", result))
        case Ok() | _:
            # the state that counts is the predecessor's
            return


__all__ = ["at_once", "hand_over", "succeed"]
