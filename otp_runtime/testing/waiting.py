"""Waiting for what must come: a server that is back, a message. A deadline each, and words about what came instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.errors import ReceiveTimeout
from otp_runtime.host import poller
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current

if TYPE_CHECKING:
    from otp_runtime.core.patterns import Pattern
    from otp_runtime.terms.pid import Pid

FIRST_PAUSE = 0.0005
LONGEST_PAUSE = 0.008


def wait_restarted(name: str, after: Pid | None = None, timeout: float = 5.0) -> Pid:
    """Wait until a process other than `after` has the local `name` and its `init` has returned; give its pid.

    `after` is the pid that the helpers which kill return; None takes whoever has the name. Raises AssertionError
    after `timeout` seconds, saying who has the name then.
    """
    context = current()
    deadline = poller.now() + timeout
    pause = FIRST_PAUSE
    while (left := deadline - poller.now()) > 0:
        pid = process.whereis(name)
        if pid is not None and pid != after and _is_ready(pid):
            return pid
        # nothing tells of a name that changes hands: this process takes in its mail meanwhile, as a call would
        context.pump(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE)
    pid = process.whereis(name)
    who = "nobody has that name" if pid is None else "it is still the old one" if pid == after else "it is not ready"
    msg = f"{name!r} was to come back within {timeout:g} s: {who}"
    raise AssertionError(msg)


def _is_ready(pid: Pid) -> bool:
    info = process.info(pid)
    return info is not None and info.status != "starting"


def assert_receive(pattern: Pattern = None, timeout: float = 1.0) -> Any:
    """Take the first message that fits `pattern` (as `process.receive`) out of this process's mailbox and give it.

    Raises AssertionError after `timeout` seconds, showing what is in the mailbox instead; that stays there.
    """
    try:
        return process.receive(pattern, timeout)
    except ReceiveTimeout:
        waiting = [envelope[-1] for _payload, envelope in current().inbox]
    shown = "".join(f"\n  {message!r:.200}" for message in waiting) or " nothing"
    msg = f"no message fits {pattern!r} within {timeout:g} s; the mailbox holds:{shown}"
    raise AssertionError(msg)
