"""Other processes as this one knows them: an open mailbox, a mapped box, a pidfd, what waits to be sent.

What is sent *back* (a reply, an exit signal) never blocks its sender: it waits in the peer's outbox, in the
sender's memory, and everything later for that peer waits behind it.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe
from otp_runtime.host.box import QUEUED, Box
from otp_runtime.host.pipe import FRAME_MAX, MAGIC, SHORT_HEADS, WHOLE, pack_header
from otp_runtime.terms.parcel import Parcel

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.sending import Sending
    from otp_runtime.terms.pid import Pid, Ref

BIRTH_SECONDS = 1.0
VERDICT_SECONDS = 0.5
VERDICT_POLL_SECONDS = 0.0002
NO_LIMIT = 1 << 64

_write = os.write


class Peer:
    """One other process: how to write to it, how its death will be told, who here wants to know."""

    relay: Peer | None = None
    """Of a process of another node: the gateway, which takes what `wrap` makes of a payload. See `process.route`."""

    __slots__ = (
        "aborting",
        "box",
        "counts",
        "fd",
        "id",
        "is_reachable",
        "lane_fd",
        "limit",
        "linked",
        "missed",
        "monitors",
        "noticed_at",
        "os_process",
        "outbox",
        "pid",
        "pidfd",
        "policy",
        "waiters",
    )

    survives = False
    """Whether its mailbox outlives it."""

    def __init__(self, pid: Pid, box: Box, fd: int, pidfd: int, os_process: kernel.OsProcess) -> None:
        """Use `open_peer`."""
        self.missed = False
        self.pid = pid
        self.id = pid.id
        self.box = box
        self.fd = fd
        self.lane_fd = -1
        self.pidfd = pidfd
        self.os_process = os_process
        self.policy = box.flag(boxes.OVERFLOW)
        self.limit = box.mailbox_limit or NO_LIMIT
        self.counts = box.counts
        self.outbox: deque[bytes] = deque()
        self.aborting = False
        self.is_reachable = True
        self.linked = False
        self.monitors: dict[Ref, Any] = {}
        self.waiters: list[Any] = []
        self.noticed_at = 0.0

    @property
    def is_watched(self) -> bool:
        """Say whether anybody here wants to be told of this peer's death."""
        return self.linked or bool(self.monitors) or bool(self.waiters) or bool(self.outbox)

    def wrap(self, payload: bytes) -> bytes:
        """Give what the relay is sent in place of `payload`."""
        return payload

    def write_now(self, payload: bytes) -> bool:
        """Write a payload if it fits into one frame and nothing waits before it; False when it was not written."""
        size = len(payload) + 4
        if size > FRAME_MAX or self.outbox:
            return False
        try:
            _write(self.fd, (SHORT_HEADS[size] if size < 256 else pack_header(MAGIC, WHOLE, size)) + payload)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True
        return True

    def try_write(self, frame: bytes) -> bool:
        """Write one frame; False when there is no room. To a dead peer everything can be written: it is dropped."""
        try:
            _write(self.fd, frame)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True
        return True

    def flush(self) -> bool:
        """Write what waits; say whether the outbox is empty now."""
        outbox = self.outbox
        while outbox:
            if len(outbox) > 1 and len(outbox[0]) == FRAME_MAX == len(outbox[1]):
                if not self.try_write_run():
                    return False
            elif not self.try_write(outbox[0]):
                return False
            else:
                outbox.popleft()
        return True

    def try_write_run(self) -> bool:
        """Write the full frames at the head of the outbox, as many as there is room for; False when there is none left.

        In one system call, so that the reader is woken once: see `pipe.write_run`.
        """
        outbox = self.outbox
        run = list(itertools.takewhile(_is_full_frame, itertools.islice(outbox, pipe.RUN_MAX)))
        try:
            written = pipe.write_run(self.fd, run)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            written = len(run)
        for _ in range(written):
            outbox.popleft()
        return written == len(run)

    def write_lane(self, directory: NodeDirectory, frame: bytes) -> bool:
        """Write to the control lane, which wakes the peer at once; False when it cannot be reached."""
        try:
            os.write(self.open_lane(directory), frame)
        except OSError:
            return False
        return True

    def open_lane(self, directory: NodeDirectory) -> int:
        """Give the descriptor of the control lane, open for writing; raises OSError when nobody reads it any more."""
        if self.lane_fd < 0:
            self.lane_fd = os.open(directory.lane(self.id), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return self.lane_fd

    def is_full(self) -> bool:
        """Say whether the peer has drained more than its mailbox may hold and not handled it yet."""
        return self.counts[QUEUED] >= self.limit

    def follow(self) -> bool:
        """Go over to the OS process that lives in the box now; False when that is the one known already, or dead.

        A handover names the successor in the box before the predecessor ends.
        """
        if self.box.flag(boxes.JUDGED) or self.box.identity.os_process == self.os_process:
            return False
        found = _open_pidfd(self.box)
        if found is None:
            return False
        with suppress(OSError):
            os.close(self.pidfd)
        self.pidfd, self.os_process = found
        return True

    def has_ended(self) -> bool:
        """Say whether the process has ended, not only handed over."""
        if not kernel.has_ended(self.pidfd):
            return False
        known = self.os_process
        current = self.box.identity.os_process
        if current == known or kernel.start_time(current.pid) != current.start:
            return True
        return kernel.zombie_status(current.pid) is not None

    def send_signal(self, number: int) -> None:
        """Send a signal to the OS process that this is, also while it is being handed over.

        The box is read again behind the signal: it may have named a successor in between, who is then meant too.
        """
        known = self.os_process
        while True:
            current = self.box.identity.os_process
            if current == known:
                kernel.send_signal(self.pidfd, number)
            elif (pidfd := kernel.open_pidfd(current)) is not None:
                kernel.send_signal(pidfd, number)
                os.close(pidfd)
            if self.box.identity.os_process == current:
                return

    def close(self) -> None:
        """Close what is open."""
        for fd in (self.fd, self.lane_fd, self.pidfd):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self.fd = self.lane_fd = self.pidfd = -1
        # whoever waits to write what is in the old one sees that it was not written
        self.outbox = deque()


class LastingPeer(Peer):
    """A process whose mailbox outlives it: to who is dead nothing is written all the same, as its successor reads it.

    `missed` says that something was not written, because it died.
    """

    __slots__ = ()
    survives = True

    def write_now(self, payload: bytes) -> bool:
        """As `Peer.write_now`; False when it is dead."""
        return not self.box.flag(boxes.JUDGED) and super().write_now(payload)

    def try_write(self, frame: bytes) -> bool:
        """As `Peer.try_write`; False when it is dead."""
        return not self.box.flag(boxes.JUDGED) and super().try_write(frame)

    def try_write_run(self) -> bool:
        """As `Peer.try_write_run`; False when it is dead."""
        return not self.box.flag(boxes.JUDGED) and super().try_write_run()


def _is_full_frame(frame: bytes) -> bool:
    return len(frame) == FRAME_MAX


def open_peer(directory: NodeDirectory, pid: Pid) -> Peer | None:
    """Open another process; None when it is dead, or never was."""
    box = Box.open(directory.box(pid.id))
    if box is None:
        return None
    if box.flag(boxes.JUDGED) or not _is_born(box):
        box.close()
        return None
    found = _open_pidfd(box)
    if found is None:
        box.close()
        return None
    pidfd, os_process = found
    try:
        fd = os.open(directory.mailbox(pid.id), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # no reader any more: it is dying, and its pidfd and its reaper will say of what
        fd = -1
    if fd < 0 and box.flag(boxes.JUDGED):
        os.close(pidfd)
        box.close()
        return None
    kind = LastingPeer if box.flag(boxes.MAILBOX) else Peer
    peer = kind(pid, box, fd if fd >= 0 else _nowhere(), pidfd, os_process)
    peer.is_reachable = fd >= 0
    return peer


def _open_pidfd(box: Box) -> tuple[int, kernel.OsProcess] | None:
    """Open the OS process that lives in a box; None when it is gone, and nobody has taken its place."""
    process = box.identity.os_process
    while (pidfd := kernel.open_pidfd(process)) is None:
        before, process = process, box.identity.os_process
        if process == before:
            return None
    return pidfd, process


def _is_born(box: Box) -> bool:
    """Wait for the moment between the making of a box and the fork of its process."""
    until = monotonic() + BIRTH_SECONDS
    while box.identity.os_process.pid == 0:
        if monotonic() > until or box.flag(boxes.JUDGED):
            return False
        os.sched_yield()
    return True


def await_verdict(box: Box) -> None:
    """Wait for the moment between the reaping of a process and its verdict: after that its name is free."""
    until = monotonic() + VERDICT_SECONDS
    while not box.flag(boxes.JUDGED) and monotonic() < until:
        sleep(VERDICT_POLL_SECONDS)


def _nowhere() -> int:
    """Give a descriptor that swallows what is written: the mailbox of a process that is dying."""
    return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)


def frames_for(
    process: Sending, payload: bytes, sender: int, receiver: int, number: int, *, survives: bool = False
) -> list[bytes]:
    """Cut a payload into what can be written: one frame, many, or one that names a segment.

    Into a mailbox that `survives` goes all of it: a segment belongs to one life of its receiver.
    """
    is_parcel = type(payload) is Parcel
    if len(payload) <= pipe.PAYLOAD_MAX:
        return [pipe.whole(payload)]
    if (is_parcel or len(payload) >= pipe.SEGMENT_FROM) and not survives:
        path = process.segments.lay(payload, receiver, number)
        if path is not None:
            return [pipe.segment(path)]
    return pipe.parts(bytes(payload) if is_parcel else payload, sender, number)
