"""Making servers fail: from inside, as their own code would, and from outside, as the world does.

From inside means by a system message `("run", function)`: it keeps mailbox order, works on every behaviour without
its help, and whatever the function raises ends the server as an exception of a callback would.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallTimeout, NoProcess, ServerDown
from otp_runtime.host import kernel, poller
from otp_runtime.process import client, names
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.terms.events import Down
from otp_runtime.testing.gates import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.peers import Peer
    from otp_runtime.terms.pid import Pid, ServerRef

TIMEOUT = 10.0
OOM_HEADROOM_BYTES = 64 << 20
_MIB = 1 << 20


# -- that end it -------------------------------------------------------------------------------------------------------


def crash(server: ServerRef, exception: BaseException | type[BaseException], *, timeout: float = TIMEOUT) -> Pid:
    """Raise `exception` inside `server`, in mailbox order, as if a callback had; give the pid that died.

    Returns after its `Down`, so its name is free or coming back by then. `SystemExit` and `ExitWith` end it as they
    do in a callback. Raises AssertionError when it lived on for `timeout` seconds, `NoProcess` when there is none.
    """
    return _die_running(server, functools.partial(_raise, exception), timeout)


def segfault(server: ServerRef, *, timeout: float = TIMEOUT) -> Pid:
    """Let `server` read address 0: the kernel ends it with SIGSEGV. As `crash`."""
    return _die_running(server, _read_address_0, timeout)


def oom(server: ServerRef, *, timeout: float = TIMEOUT) -> Pid:
    """Let `server` run out of memory: it is given a limit (RLIMIT_AS) and allocates until Python raises MemoryError.

    What a `MemoryError` is to a server: reason `Crash("MemoryError", …)`. The kernel's own OOM killer is
    `sigkill`'s relative: it gives `Signalled("SIGKILL", oom=True)`, and cannot be asked for from here. As `crash`.
    """
    return _die_running(server, _exhaust_memory, timeout)


def sigkill(server: ServerRef, *, timeout: float = TIMEOUT) -> Pid:
    """Send SIGKILL to the OS process of `server`, as the world outside does; give the pid that died. As `crash`."""
    peer = _find(server)
    ref = process.monitor(peer.pid)
    peer.send_signal(signal.SIGKILL)
    return _await_down(peer.pid, ref, timeout)


# -- that only stop it -------------------------------------------------------------------------------------------------


def hang(server: ServerRef, *, timeout: float = TIMEOUT) -> Pid:
    """Let `server` block for ever inside a callback, deaf to exit signals as a C call is; give its pid.

    Returns when it hangs. Only SIGKILL ends it: `sigkill`, its supervisor after the shutdown time, or its watchdog.
    """
    context = current()
    peer = _find(server)
    with Gate() as reached:
        message = ("run", functools.partial(_block, reached))
        payload = context.codec.encode([wire.SYSTEM, context.id, context.next_serial(), message])
        context.transmit(peer, payload, poller.now() + timeout)
        reached.wait_arrival(timeout)
    return peer.pid


def freeze(server: ServerRef, *, timeout: float = TIMEOUT) -> Pid:
    """Stop the OS process of `server` with SIGSTOP; give its pid when the kernel says that it is stopped.

    It is alive, keeps its name and takes nothing in. `thaw` lets it go on; a watchdog ends it after its `busy` time.
    """
    peer = _find(server)
    peer.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + timeout
    while not kernel.is_stopped(peer.box.identity.os_process.pid):
        if time.monotonic() > deadline or peer.has_ended():
            msg = f"{server!r} was sent SIGSTOP and is not stopped after {timeout:g} s"
            raise AssertionError(msg)
        os.sched_yield()  # only a parent is told of a stop
    return peer.pid


def thaw(server: ServerRef) -> Pid:
    """Let a frozen server go on (SIGCONT); give its pid."""
    peer = _find(server)
    peer.send_signal(signal.SIGCONT)
    return peer.pid


# -- helpers -----------------------------------------------------------------------------------------------------------


def _find(server: ServerRef) -> Peer:
    return names.find(current(), server, None, wait=False)


def _die_running(server: ServerRef, function: Callable[[], Any], timeout: float) -> Pid:
    pid = _find(server).pid
    ref = process.monitor(pid)
    try:
        client.request(pid, ("run", function), timeout, kind=wire.SYSTEM)
    except (ServerDown, NoProcess):
        return _await_down(pid, ref, timeout)
    except CallTimeout as error:
        msg = f"{server!r} was to end and is alive after {timeout:g} s"
        raise AssertionError(msg) from error
    finally:
        process.demonitor(ref)
    msg = f"{server!r} was to end and answered instead"
    raise AssertionError(msg)


def _await_down(pid: Pid, ref: Any, timeout: float) -> Pid:
    try:
        process.receive(lambda message: isinstance(message, Down) and message.ref == ref, timeout)
    except TimeoutError as error:
        msg = f"{pid!r} was to end and there is no Down after {timeout:g} s"
        raise AssertionError(msg) from error
    return pid


# What runs in the server. Module functions: they travel by name, also to a server that cannot load a pickle by value.


def _raise(exception: BaseException | type[BaseException]) -> None:
    raise exception


def _read_address_0() -> None:
    ctypes.string_at(0)


def _exhaust_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        used_bytes = int(file.read().split()[0]) * resource.getpagesize()
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + OOM_HEADROOM_BYTES, hard))
    hoard = []
    while True:
        hoard.append(bytearray(_MIB))


def _block(reached: Gate) -> None:
    reached.arrive()
    while True:
        signal.pause()
