"""Timers: messages that are sent later. Each is kept by the process that will get its message, in its own heap.

    to oneself          own heap                                      no other process has a part in it
    to another pid      [TIMER …] ──► the receiver's heap             ends with the receiver, not with the sender
    to a local name     the launcher's heap ──► whoever has the name  looked up when the time has come
    to any other name   own heap ──► whoever has the name             ends with the sender
    to another node     own heap ──► the process there                ends with the sender: clocks do not travel

Times are monotonic: a clock that is set moves none. A receiver that is busy takes its timers when it looks again.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.core.ticks import ticks_due
from otp_runtime.errors import CallError, CodecError, MailboxFull
from otp_runtime.host import poller
from otp_runtime.process import names, returning, route
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.terms.pid import Global, Pid, Ref, Remote, Via

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


DUE = "$timer_due"
"""What a process that waits for a timer of its own is told."""


@dataclass(slots=True, unsafe_hash=True)
class Timer:
    """A message that will be sent, once or every `interval` seconds. Equal to itself wherever it was sent.

    `ref` is what a message of `start_timer` carries; `due` the monotonic time of the (first) message.
    """

    ref: Ref
    due: float = field(compare=False)
    dest: Any = field(compare=False)
    interval: float = field(compare=False, default=0.0)
    cancelled: bool = field(compare=False, default=False)
    is_keeper: bool = field(compare=False, default=False)
    """Whether `dest` is a process that only waits for this timer: `otp_runtime.timer.apply_after` and its kin."""

    @property
    def key(self) -> tuple[int, int]:
        """What the process that keeps it knows it by."""
        return self.ref.id, self.ref.serial


def send_after(dest: Any, message: Any, seconds: float) -> Timer:
    """Send `message` to `dest` in `seconds` seconds (a number >= 0, monotonic time). OTP: erlang:send_after/3.

    `dest`: a server reference. A pid's timer is kept by that process and ends with it, not with the caller; a name is
    looked up when the time has come, and the message is lost when nobody has it then. Raises `CodecError` at once when
    the message cannot be sent. The message is the one of now: changing it later changes nothing.
    """
    check_seconds(seconds)
    return _arm(Timer(current().make_ref(), poller.now() + seconds, dest), message)


def start_timer(dest: Any, message: Any, seconds: float) -> Timer:
    """As `send_after`, but what arrives is `("timeout", timer.ref, message)`. OTP: erlang:start_timer/3.

    So a receiver can tell the timer it waits for from one that it cancelled too late.
    """
    check_seconds(seconds)
    timer = Timer(current().make_ref(), poller.now() + seconds, dest)
    return _arm(timer, ("timeout", timer.ref, message))


def send_interval(dest: Any, message: Any, seconds: float) -> Timer:
    """Send `message` every `seconds` seconds (> 0), first in `seconds`. See `otp_runtime.timer.send_interval`."""
    check_interval(seconds)
    return _arm(Timer(current().make_ref(), poller.now() + seconds, dest, seconds), message)


def arm_keeper(pid: Pid, due: float, interval: float) -> Timer:
    """Let a process that waits for nothing else get `DUE` at a time, and with an interval again and again."""
    return _arm(Timer(current().make_ref(), due, pid, interval, is_keeper=True), DUE)


def cancel_timer(timer: Timer) -> float | None:
    """Cancel a timer; give the seconds that were left, None when it had expired or was cancelled before.

    None does not mean that the message was handled: it may lie in the mailbox. Of an interval, the seconds to its next
    message. OTP: erlang:cancel_timer/1.
    """
    left = read_timer(timer)
    timer.cancelled = True
    if left is None:
        return None
    context = current()
    if _is_own(context, timer):
        handle = context.timers.pop(timer.key, None)
        if handle is None:
            return None
        handle.cancel()
    elif type(timer.dest) is Pid:
        peer = local_peer(context, timer.dest)
        if peer is None:
            return None
        context.transmit(peer, context.codec.encode([wire.CANCEL, *timer.key]), None)
        if timer.is_keeper:
            context.signal_exit(peer, "shutdown")
    else:
        _cast_launcher(context, ["cancel_later", *timer.key])
    return left


def read_timer(timer: Timer) -> float | None:
    """Give the seconds left of a timer; None when it has expired, was cancelled, or its process is dead.

    Of an interval, the seconds to its next message. OTP: erlang:read_timer/1.
    """
    if not isinstance(timer, Timer):
        msg = f"timer is what send_after, start_timer or send_interval gave, not {timer!r}"
        raise TypeError(msg)
    context = current()
    if timer.cancelled or (type(timer.dest) is Pid and timer.dest != context.pid and _is_dead(context, timer.dest)):
        return None
    if _is_own(context, timer) and timer.key not in context.timers:
        return None
    now = poller.now()
    due = ticks_due(timer.due, timer.interval, 0, now)[1] if timer.interval and timer.due <= now else timer.due
    return due - now if due > now else None


def check_seconds(seconds: Any) -> None:
    """Refuse what is no length of time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        msg = f"seconds is a number >= 0, not {seconds!r}"
        raise ValueError(msg)


def check_interval(seconds: Any) -> None:
    """Refuse what is no time between two ticks."""
    check_seconds(seconds)
    if seconds == 0:
        msg = "seconds of an interval is a number > 0, not 0"
        raise ValueError(msg)


def local_peer(context: Context, pid: Pid) -> Peer | None:
    """Give the peer behind a pid; None when it is dead or dying."""
    peer = context.peer(context.key_of(pid))
    return None if peer is None or peer.id in context.dying else peer


# -- arming ------------------------------------------------------------------------------------------------


def _is_own(context: Context, timer: Timer) -> bool:
    """Say whether this process keeps the timer."""
    if type(timer.dest) is Pid and not route.is_elsewhere(context, timer.dest):
        return timer.dest == context.pid
    return type(timer.dest) is not str and timer.ref.id == context.id


def _is_dead(context: Context, pid: Pid) -> bool:
    return not route.is_elsewhere(context, pid) and local_peer(context, pid) is None


def _arm(timer: Timer, message: Any) -> Timer:
    if not isinstance(timer.dest, Pid | str | Global | Via | Remote):
        raise names.no_reference(timer.dest)
    context = current()
    payload = context.encode_with([wire.SEND, message], message, "message")
    is_elsewhere = route.is_elsewhere(context, timer.dest)
    if is_elsewhere and (peer := context.peer(timer.dest)) is not None:
        peer.wrap(payload)  # what may not leave the node is refused now, not when the time has come
    if is_elsewhere or (type(timer.dest) is not Pid and type(timer.dest) is not str):
        context.arm(timer.key, timer.due, functools.partial(send_to_name, context, timer.dest, payload), timer.interval)
    elif _is_own(context, timer):
        # read anew each time, so that no two messages share what is in them
        context.arm(timer.key, timer.due, functools.partial(context.put_copy, payload), timer.interval)
    elif type(timer.dest) is Pid:
        peer = local_peer(context, timer.dest)
        if peer is not None:
            envelope = [wire.TIMER, *timer.key, [timer.due, timer.interval], payload]
            context.transmit(peer, context.codec.encode(envelope), None)
    else:
        _cast_launcher(context, ["send_later", timer.dest, timer.due, timer.interval, *timer.key, payload])
    return timer


def send_to_name(context: Context, dest: Any, payload: bytes) -> None:
    """Send to whoever has a name now, if there is anybody and room."""
    try:
        peer = names.find(context, dest, None, wait=False)
    except CallError:
        returning.drop_in(context, dest, payload)
        return
    with contextlib.suppress(CallError, CodecError, MailboxFull):
        if peer.id == context.id:
            context.send_to_self(payload)
        else:
            context.post(peer, payload)


def _cast_launcher(context: Context, request: Any) -> None:
    peer = context.peer(LAUNCHER_ID)
    if peer is not None:
        context.transmit(peer, context.codec.encode([wire.CAST, request]), None)
