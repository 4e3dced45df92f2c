"""Functions that the tests run in processes of their own. Importable and light: their imports are paid per process."""

import contextlib
import os
import signal
import sys
import time

from otp_runtime import ExitWith, process

REASONS = ("normal", "shutdown", ("shutdown", "moving"), "killed", "kill", "custom", ("a", 1, [2, {"b": None}]))


def linger():
    """Wait for exit signals, for ever."""
    process.receive("never sent")


def echo_to(to):
    """Send back what comes, without trapping exits."""
    while True:
        process.send(to, process.receive())


def trap(to):
    """Trap exits and tell of every message, until told to end."""
    process.trap_exit(True)
    process.send(to, "ready")
    while (message := process.receive()) != "end":
        process.send(to, ("got", message))


def link_then_tell(other, to):
    """Link, and tell of what comes of it."""
    process.trap_exit(True)
    process.link(other)
    process.send(to, "ready")
    process.send(to, ("got", process.receive()))


def link_untrapped(other, to):
    """Link without trapping."""
    process.link(other)
    process.send(to, "ready")
    linger()


def link_then(other, to, busy):
    """Link without trapping, and be busy."""
    process.link(other)
    process.send(to, "busy")
    busy()


def compute():
    """Never look up."""
    while True:
        sum(range(1000))


def sleep():
    """In C code that a signal interrupts."""
    time.sleep(60)


def swallow():
    """Whatever interrupts it."""
    while True:
        with contextlib.suppress(BaseException):
            compute()


def work_here_and_there():
    """In turns in its own code and the library's, which the signal meets in either."""
    me = process.self()
    while True:
        process.alive(me)
        sum(range(10))


def trap_and_look_later(other, to, hold):
    """Link, trapping, and look at no message before the gate opens."""
    process.trap_exit(True)
    process.link(other)
    hold.wait()
    process.send(to, ("got", process.receive()))


def link_and_unlink(other, to, hold):
    """Be linked for a moment, without trapping."""
    process.link(other)
    process.unlink(other)
    hold.wait()
    process.send(to, ("got", "through"))


def exit_with(reason):
    """Exit of a reason."""
    raise ExitWith(reason)


def on_order(reason):
    """Exit of a reason when told to."""
    process.receive("go")
    raise ExitWith(reason)


def raise_value_error():
    """Crash."""
    raise ValueError("boom")


def raise_unspeakable():
    """Crash with an exception whose text cannot be made, and that cannot be pickled."""

    class UnspeakableError(Exception):
        def __init__(self, lock):
            self.lock = lock

        def __str__(self):
            raise RuntimeError("no text")

    raise UnspeakableError(sys.stdin)


def sys_exit(code):
    """Leave as programs do."""
    sys.exit(code)


def die_by(signum):
    """Leave as nobody wants to."""
    os.kill(os.getpid(), signum)
    signal.pause()


def swallow_everything(to):
    """A loop that catches all that can be caught."""
    process.send(to, "busy")
    while True:
        try:  # noqa: SIM105 - likewise
            sum(range(1000))
        except:  # noqa: E722, S110 - the point of the test
            pass


def swallow_while_blocked(to):
    """A wait that catches all that can be caught."""
    process.send(to, "busy")
    while True:
        try:  # noqa: SIM105 - likewise
            process.receive("never sent")
        except:  # noqa: E722, S110 - the point of the test
            pass


def send_numbered(to, count):
    """Send so many messages, numbered."""
    me = process.self()
    for number in range(count):
        process.send(to, (me, number))


def echo():
    """Send every message back to who sent it."""
    while True:
        sender, message = process.receive()
        process.send(sender, message)


def pass_on(to):
    """Send on the first message."""
    process.send(to, process.receive())
