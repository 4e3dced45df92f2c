"""What an OS parent does for its children's durable mailboxes: it holds them open, so that they outlive their readers.

    child says "mailbox" ──► held: the FIFO has a reader now that does not die with the child
    child dies           ──► it will be restarted: what is in the FIFO goes to the log, and the FIFO stays
                             it will not: all of it is forgotten
    successor starts     ──► it gets the same FIFO under its own id

So what is sent by name while no process lives lies in the FIFO, and whoever was in the middle of a large term goes on.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from otp_runtime.host import box as boxes
from otp_runtime.host import mail_file
from otp_runtime.process import letters, places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.host.box import Box
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.places import Place


class HeldMailboxes:
    """The durable mailboxes of one OS parent's children, by their places."""

    def __init__(self, directory: NodeDirectory) -> None:
        """Hold none."""
        self._directory = directory
        self._held: dict[str, int] = {}
        self._ids: dict[str, list[int]] = {}
        self._burying = ""
        self._is_forgotten = False

    def make(self, place: Place, process_id: int, box: Box) -> None:
        """Make mailbox and lane of a process that is about to start: the mailbox that its place has, if it has one."""
        if self.has(place):
            os.link(places.fifo_of(place), self._directory.mailbox(process_id))
            os.mkfifo(self._directory.lane(process_id), 0o600)
            self._hold(place, process_id)
            box.set_flag(boxes.MAILBOX, boxes.IS_HELD)
        else:
            self._directory.make_mailbox(process_id)

    def has(self, place: Place) -> bool:
        """Say whether whoever starts at a place gets the mailbox of a predecessor."""
        return bool(place) and os.path.exists(places.fifo_of(place))

    def hold(self, place: Place, process_id: int, box: Box) -> None:
        """A child says that its mailbox is a durable one."""
        os.makedirs(os.path.dirname(place[0]), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(self._directory.mailbox(process_id), places.fifo_of(place))
        self._hold(place, process_id)
        box.set_flag(boxes.MAILBOX, boxes.IS_HELD)

    def _hold(self, place: Place, process_id: int) -> None:
        if place[0] not in self._held:
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            self._held[place[0]] = os.open(self._directory.mailbox(process_id), flags)
        ids = self._ids.setdefault(place[0], [])
        if process_id not in ids:
            ids.append(process_id)

    def _unlink(self, ids: list[int]) -> None:
        for process_id in ids:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory.mailbox(process_id))

    def note_death(self, place: Place, reason: Any, at: float, *, was_ready: bool) -> None:
        """A child with a durable mailbox is dead; if it had a message in hand, its successor will ask why."""
        found = mail_file.in_hand(places.mail_of(place))
        if found is not None and (was_ready or found.is_reading):
            letters.note_death(place, found.epoch, found.number, reason, at)

    def discard(self, place: Place, process_id: int) -> None:
        """A child has ended normally by itself and will be restarted: drop what waited, but not what will."""
        places.forget_mail(place)
        with contextlib.suppress(OSError):
            os.link(self._directory.mailbox(process_id), places.fifo_of(place))
        with contextlib.suppress(BlockingIOError, KeyError):
            while os.read(self._held[place[0]], 1 << 20):
                pass

    def wait(self, place: Place, process_id: int, *, has_name: bool) -> None:
        """A child will be restarted: what waits for it goes to the log, and what comes now stays in the mailbox.

        `has_name`: who looks for its name finds its id; else, as it died too soon, that of an earlier one.
        """
        if (fd := self._held.get(place[0])) is not None:
            mail_file.drain(fd, places.mail_of(place))
        ids = self._ids.get(place[0], [])
        over = [one for one in ids if (one == process_id) != has_name]
        self._ids[place[0]] = [one for one in ids if one not in over]
        self._unlink(over)

    def let_go(self, place: Place, *, is_kept: bool) -> None:
        """A child will not be restarted by this process; what it left is kept for another supervisor, or forgotten."""
        fd = self._held.pop(place[0], None)
        if fd is not None:
            if is_kept:
                mail_file.drain(fd, places.mail_of(place))
            os.close(fd)
        self._unlink(self._ids.pop(place[0], []))
        if not is_kept:
            places.forget_mail(place)

    def forget(self, place: Place) -> None:
        """There is no such child any more."""
        if place[0] == self._burying:
            self._is_forgotten = True
            return
        places.forget(place)
        self.let_go(place, is_kept=False)

    @contextlib.contextmanager
    def burying(self, place: Place) -> Iterator[None]:
        """For the time of the block forget nothing of a child that has died: it may be needed to say of what."""
        self._burying, self._is_forgotten = place[0], False
        try:
            yield
        finally:
            self._burying = ""
            if self._is_forgotten:
                self.forget(place)
