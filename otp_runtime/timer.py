"""OTP's `timer`: messages later or at intervals, functions later or at intervals, and how long something took.

Times come first, in seconds (float, monotonic). Who does what when the time has come:

    send_after, send_interval     the receiver puts the message into its own mailbox; no other process has a part in it
    apply_after                   a process of its own, started now, which waits and then runs the function
    apply_interval, apply_repeatedly   such a process too, which starts one more for every run of the function
    exit_after, kill_after        as apply_after

So a function never runs in the caller, whose state it cannot touch: to do something in a server later, send it a
message. A function that raises ends its own process, with a report, and nothing else.

>>> from otp_runtime import process, timer
>>> tick = timer.send_interval(0.005, "tick")
>>> [process.receive("tick") for _ in range(3)]
['tick', 'tick', 'tick']
>>> timer.cancel(tick)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from otp_runtime.errors import ReceiveTimeout
from otp_runtime.host import poller
from otp_runtime.process import primitives as process
from otp_runtime.process import timers
from otp_runtime.process.current import current
from otp_runtime.process.starting import start_job
from otp_runtime.process.timers import Timer
from otp_runtime.terms.events import Down

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.terms.pid import Pid, ServerRef

V = TypeVar("V")

__all__ = [
    "Timer",
    "apply_after",
    "apply_interval",
    "apply_repeatedly",
    "cancel",
    "exit_after",
    "kill_after",
    "send_after",
    "send_interval",
    "sleep",
    "tc",
]


# -- messages ----------------------------------------------------------------------------------------------


@overload
def send_after(seconds: float, message: Any, /) -> Timer: ...
@overload
def send_after(seconds: float, dest: ServerRef, message: Any, /) -> Timer: ...
def send_after(seconds: float, /, *rest: Any) -> Timer:
    """Send a message in `seconds` seconds: `process.send_after`, time first. Without `dest`, to oneself.

    OTP: timer:send_after/2,3.
    """
    dest, message = _destination(rest)
    return timers.send_after(dest, message, seconds)


@overload
def send_interval(seconds: float, message: Any, /) -> Timer: ...
@overload
def send_interval(seconds: float, dest: ServerRef, message: Any, /) -> Timer: ...
def send_interval(seconds: float, /, *rest: Any) -> Timer:
    """Send a message every `seconds` seconds (> 0), first in `seconds`. Without `dest`, to oneself.

    Message n is due at start + n × `seconds`: no interval drifts, however late a message was taken. A receiver that was
    busy finds one for each tick it missed, of the last 1,000. It ends with `cancel`, and with its receiver; to a
    local name it goes on for ever, lost while nobody has the name. Each is a copy. OTP: timer:send_interval/2,3.
    """
    dest, message = _destination(rest)
    return timers.send_interval(dest, message, seconds)


def _destination(rest: tuple[Any, ...]) -> tuple[Any, Any]:
    match rest:
        case (message,):
            return current().pid, message
        case (dest, message):
            return dest, message
        case _:
            msg = f"give (seconds, message) or (seconds, dest, message), not {len(rest) + 1} arguments"
            raise TypeError(msg)


def cancel(timer: Timer) -> bool:
    """End a timer of any kind; say whether there was something left to end. OTP: timer:cancel/1.

    Nothing more is sent then and no function begun, but for what became due at that very moment in the process that
    keeps the timer. A message may lie in the mailbox, and a function that runs is not interrupted.
    """
    return timers.cancel_timer(timer) is not None


# -- functions ---------------------------------------------------------------------------------------------


def apply_after(seconds: float, fun: Callable[..., Any], /, *args: Any) -> Timer:
    """Run `fun(*args)` in `seconds` seconds, in a process of its own, linked to nobody. OTP: timer:apply_after/3.

    The process is started now: it costs its memory while it waits. `fun` may be a lambda or a closure.
    """
    timers.check_seconds(seconds)
    return _keeper(_once, seconds, 0.0, fun, args)


def apply_interval(seconds: float, fun: Callable[..., Any], /, *args: Any) -> Timer:
    """Run `fun(*args)` every `seconds` seconds (> 0), each time in a new process, until `cancel`.

    A run that takes longer than `seconds` does not hold up the next: they run side by side.
    OTP: timer:apply_interval/3.
    """
    timers.check_interval(seconds)
    return _keeper(_every, seconds, seconds, fun, args)


def apply_repeatedly(seconds: float, fun: Callable[..., Any], /, *args: Any) -> Timer:
    """As `apply_interval`, but a run waits for the end of the one before; late ones follow at once.

    OTP: timer:apply_repeatedly/3.
    """
    timers.check_interval(seconds)
    return _keeper(_one_by_one, seconds, seconds, fun, args)


def exit_after(seconds: float, pid: Pid, reason: Any) -> Timer:
    """Send `pid` an exit signal with `reason` in `seconds` seconds; cancel it in time. OTP: timer:exit_after/3."""
    return apply_after(seconds, process.exit, pid, reason)


def kill_after(seconds: float, pid: Pid) -> Timer:
    """Kill `pid` in `seconds` seconds. OTP: timer:kill_after/2."""
    return exit_after(seconds, pid, "kill")


def _keeper(keep: Callable[..., Any], seconds: float, interval: float, fun: Callable[..., Any], args: Any) -> Timer:
    """Start the process that waits, and let it get a message whenever the time has come."""
    if not callable(fun):
        msg = f"fun is called when the time has come, and is not callable: {fun!r}"
        raise TypeError(msg)
    due = poller.now() + seconds
    label = f"timer {getattr(fun, '__qualname__', type(fun).__qualname__)}"
    pid: Pid = start_job("plain", keep, (fun, args), {}, label=label, link=False)
    return timers.arm_keeper(pid, due, interval)


def _once(fun: Callable[..., Any], args: tuple[Any, ...]) -> None:
    process.receive(timers.DUE)
    fun(*args)


def _every(fun: Callable[..., Any], args: tuple[Any, ...]) -> None:
    while True:
        process.receive(timers.DUE)
        process.spawn(fun, *args)


def _one_by_one(fun: Callable[..., Any], args: tuple[Any, ...]) -> None:
    while True:
        process.receive(timers.DUE)
        _, ref = process.spawn_monitor(fun, *args)
        process.receive(lambda message, ref=ref: isinstance(message, Down) and message.ref == ref)


# -- time --------------------------------------------------------------------------------------------------


def sleep(seconds: float | None) -> None:
    """Wait for `seconds` seconds, None for ever, and take in meanwhile what arrives; messages stay queued.

    Unlike `time.sleep`, an exit signal ends it at once. OTP: timer:sleep/1.
    """
    if seconds is not None:
        timers.check_seconds(seconds)
    try:
        process.receive(_Nothing, seconds)
    except ReceiveTimeout:
        return


class _Nothing:
    """No message is one of these."""


def tc(fun: Callable[..., V], /, *args: Any) -> tuple[float, V]:
    """Run `fun(*args)` here and now; give the seconds it took and what it gave. OTP: timer:tc/2.

    >>> tc(sum, [1, 2])[1]
    3
    """
    started = poller.now()
    value = fun(*args)
    return poller.now() - started, value
