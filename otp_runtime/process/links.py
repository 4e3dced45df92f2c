"""A link that breaks interrupts: the end of a linked process reaches one that is busy with its own code.

A process that waits sees a death by the pidfd in its poller. One that computes looks at no poller, so the kernel has to
knock: a process with a link holds the other's control lane open for writing, and with `O_ASYNC` on that descriptor a
FIFO signals its writers when its last reader goes (the kernel's pipe_release), and that reader is the linked process.
Its lane closes a little before it is a zombie, and the verdict comes a little after. The lane and not the mailbox: a
FIFO signals its writers at every read as well, and a lane is read once in a while, a mailbox with every message.

What cannot be interrupted is ended by the OS parent, as with any exit signal. Only C code that never lets Python run
its signal handlers hears of nothing until it returns: nobody but the process itself knows whom it is linked to. What
was sent before the death comes before it: with something unread on the control lane, an unlink or an order perhaps, the
next wait decides.

Only for a process that does not trap exits: another one gets a message, which can wait. The OS parent needs none of
this, as its death has a signal of its own.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from fcntl import F_GETFL, F_SETFL, fcntl
from struct import pack
from typing import TYPE_CHECKING

from otp_runtime.host import kernel
from otp_runtime.process.peers import VERDICT_SECONDS

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


def hold(context: Context, peer: Peer) -> None:
    """Hold this process's end of a link."""
    peer.linked = True
    if context.is_program or peer.relay is not None or peer.id == context.box.identity.reaper:
        return
    with suppress(OSError):
        lane = peer.open_lane(context.directory)
        fcntl(lane, kernel.F_SETSIG, int(kernel.LANE_SIGNAL))
        # the main thread's id is the process's
        fcntl(lane, kernel.F_SETOWN_EX, pack("ii", kernel.F_OWNER_TID, os.getpid()))
        fcntl(lane, F_SETFL, fcntl(lane, F_GETFL) | os.O_ASYNC)
    # it may have gone before the kernel was asked to knock
    heed(context)


def heed(context: Context, *, may_read: bool = False) -> None:
    """See whether a linked process is gone, and if so let that act on this one, which may have to die of it.

    Called by a signal handler, in the middle of whatever this process does: so it changes nothing but
    `context.doomed`, and reads the control lane only if it may, in user code. The death is concluded, for monitors and
    callers, by the next wait.
    """
    if context.trap_exit:
        return
    for peer in list(context.peers.values()):
        if peer.relay is not None or not peer.linked or peer.id == context.box.identity.reaper:
            continue
        if _has_no_reader(peer) and _ends(peer):
            reason = context.fate_of(peer)
            if may_read:
                context.read_lane()
            if context.doomed is not None or not context.has_read_lane():
                return
            if peer.linked:
                context.arrive_exit(peer.id, reason, by_link=True)
    if context.doomed is not None:
        context.tell_parent_of(context.box, context.id, context.doomed[0])


def _has_no_reader(peer: Peer) -> bool:
    if peer.lane_fd < 0:
        return True
    poll = select.poll()
    poll.register(peer.lane_fd, 0)
    return any(events & select.POLLERR for _fd, events in poll.poll(0))


def _ends(peer: Peer) -> bool:
    """Wait for the moment between the closing of its descriptors and the end of a process."""
    poll = select.poll()
    poll.register(peer.pidfd, select.POLLIN)
    return bool(poll.poll(VERDICT_SECONDS * 1000))
