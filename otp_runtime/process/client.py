"""The caller's side of a request: `Client`, and the wait for a reply."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallingSelf, CallTimeout, CodecError, MailboxFull, NoNode, NoProcess, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.host import pipe, poller
from otp_runtime.process import names
from otp_runtime.process.context import Context, ExitSignal, Slot
from otp_runtime.process.current import current, has_ended, peek
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.process.peers import Peer

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    V = TypeVar("V")

USUAL_SECONDS = 1e9
"""Timeouts below it need no second look; NaN and infinity are not below it."""


@dataclass(slots=True, unsafe_hash=True)
class Client(Generic[V]):
    """Who asked: what `handle_call` is given, and `GenServer.reply` takes. Can be sent and kept."""

    pid: Pid
    serial: int


def caller(server: Any, message: Any) -> Context:
    """Give the process that calls; when its node has ended, the call fails as one to a lost node does."""
    try:
        return current()
    except NoNode as error:
        if not has_ended():
            raise
        raise ServerDown("noconnection", server, message, detail="the node has ended") from error


def deadline_of(timeout: float | None, started: float) -> float | None:
    """Give the monotonic time at which `timeout` seconds are over; None for ever."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
        msg = f"timeout is seconds (a number) or None for ever, not {timeout!r}"
        raise TypeError(msg)
    return None if timeout == math.inf else started + timeout


def request(server: Any, message: Any, timeout: float | None, kind: int = wire.CALL) -> Any:
    """Send a request and wait for its reply: the one call protocol of all behaviours."""
    context = peek() or caller(server, message)
    started = poller.now()
    usual = type(timeout) is float and 0.0 <= timeout < USUAL_SECONDS
    deadline = started + timeout if usual else deadline_of(timeout, started)  # type: ignore[operator]
    own, peer = context.pid, None
    if type(server) is Pid and server.incarnation == own.incarnation and server.node == own.node:
        peer = context.peers.get(server.id)
    if peer is None:
        peer = names.find(context, server, deadline, message)
    if peer.id == context.id:
        raise CallingSelf(server, message, 0.0)
    serial = context.next_serial()
    try:
        payload = context.parcels.encode([kind, context.id, serial, message])
    except CodecError:
        context.codec.encode(message, "request")
        raise
    chunk = None
    is_sent = peer.write_now(payload)
    if is_sent:
        chunk = context.spinner.read(context.fd, pipe.READ_SIZE)
        if chunk is None:
            chunk = _sleep(context, deadline)
        if chunk is not None and chunk[4:6] == wire.REPLY_HEAD and not context.unframer.half:
            # the reply is all that came: the common case, without a slot
            answer = pipe.only(chunk)
            try:
                reply = None if answer is None else context.codec.decode(answer)
            except CodecError:
                reply = None  # it is counted as garbage, below
            if reply is not None and reply[1] == serial and reply[2] == wire.VALUE:
                return reply[3]
    slot = Slot(peer)
    context.pending[serial] = slot
    try:
        if not is_sent:
            transmit(context, peer, payload, deadline, server, message, started)
        if chunk is not None:
            context.feed(chunk)
        _await(context, slot, deadline, must_sleep=not is_sent)
    finally:
        del context.pending[serial]
    if slot.done and slot.failure is None and slot.how == wire.VALUE:
        return slot.value
    return _failed(slot, server, message, started)


def _sleep(context: Context, deadline: float | None) -> bytes | None:
    """Give what comes if nothing else happens, without a slot."""
    return context.sleep_and_read(None if deadline is None else max(0.0, deadline - poller.now()))


def transmit(
    context: Context, peer: Peer, payload: bytes, deadline: float | None, server: Any, message: Any, started: float
) -> None:
    """Send an encoded request; that there is no room in time is a `CallTimeout`, as the whole call has one limit."""
    try:
        context.transmit(peer, payload, deadline, policy=2 if peer.policy == 2 else 0)
    except MailboxFull as error:
        if peer.policy == 2:
            raise
        detail = why_silent(peer) or "its mailbox is full"
        raise CallTimeout(server, message, poller.now() - started, detail=detail) from error


def _await(context: Context, slot: Slot, deadline: float | None, *, must_sleep: bool) -> None:
    """Wait for a reply: spin a little, then sleep; sleep first after a request that takes its time to be read."""
    read = context.spinner.read
    fd = context.fd
    rounds = 0
    while not slot.done:
        chunk = None if must_sleep or context.sleeps_at_once() else read(fd, pipe.READ_SIZE)
        must_sleep = False
        if chunk is not None:
            context.feed(chunk)
            rounds += 1
            if rounds & 63 or slot.done:
                continue
        now = poller.now()
        left = None if deadline is None else deadline - now
        if left is not None and left <= 0:
            return
        context.pump(left)
        if context.doomed is not None and not context.is_program:
            raise ExitSignal(context.doomed[0])


def _failed(slot: Slot, server: Any, message: Any, started: float) -> Any:
    elapsed = poller.now() - started
    if not slot.done:
        raise CallTimeout(server, message, elapsed, detail=why_silent(slot.peer))
    if slot.failure is not None:
        if slot.failure[0] == "noproc" and slot.peer is not None and slot.peer.relay is not None:
            raise NoProcess(server, message, elapsed)
        raise ServerDown(slot.failure[0], server, message, elapsed)
    raise slot.value


def why_silent(peer: Peer | None) -> str:
    """Say why a server does not answer, as far as its box tells; "" when it does not."""
    if peer is not None and peer.is_reachable and peer.box.flag(boxes.SUSPENDED):
        return "it is suspended, and handles no messages before system.resume"
    return ""
