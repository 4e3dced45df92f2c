"""Starting a gateway: a child of a supervisor like any other, which then becomes a fresh interpreter.

A fork has what its parent had. The gateway has an event loop, a connection and a client that must be nobody else's, so
after its fork it calls exec(2): the OS process, its box and its mailbox stay, everything in memory goes.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.core import membership
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.watchdog import LOOK_SECONDS
from otp_runtime.host import interpreter, kernel
from otp_runtime.host.box import Box
from otp_runtime.process import boot as booting

if TYPE_CHECKING:
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context

MODULE = "otp_runtime.cluster.gateway_process"
ID = "gateway"
STOP_SECONDS = 5.0
GRACE_SECONDS = 0.5


def child_spec(lease: float) -> ChildSpec:
    """Say how the supervisor starts the gateway of a node with that lease."""
    return ChildSpec(id=ID, start=(start_link, (lease,), {}), restart="permanent", shutdown=STOP_SECONDS)


def start_link(lease: float) -> Any:
    """Become the gateway of this node. Only a supervisor's new process may."""
    if not booting.take_slot():
        msg = "a gateway is started by Node.start(name, cluster=...)"
        raise RuntimeError(msg)
    raise booting.Become(functools.partial(_become, lease))


def _become(lease: float, context: Context, boot: Boot) -> NoReturn:
    reaper = Box.open(context.directory.box(context.box.identity.reaper))
    assert reaper is not None
    parent = reaper.identity.os_process
    # one that a signal stopped gives no name up when its lease is over: another one has to be there before that
    context.box.watchdog = max(LOOK_SECONDS, lease * membership.MARGIN), GRACE_SECONDS
    boot.send(["watch"])
    os.set_inheritable(boot.fileno(), True)
    # the closing of its own lane raises it, and what is ignored stays so until the interpreter listens again
    signal.signal(kernel.LANE_SIGNAL, signal.SIG_IGN)
    words = [context.directory.path, context.id, boot.fileno(), parent.pid, parent.start, context.parent]
    os.execve(sys.executable, interpreter.words_of(MODULE, words), interpreter.environment())
