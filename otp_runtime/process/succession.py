"""The successor of a handover: a new OS process that becomes a process which exists already.

Until its OS parent says so it is an *understudy*: a process of the node with a number of its own, so that what
`init` does through the library (calls, above all) has a mailbox to be answered in, and takes nothing out of the
mailbox that it is going to have. `self()` gives the pid that it will have. At the switch the understudy ends
`"shutdown"`, and with it what it had begun for itself: the timers, monitors and links that count are the predecessor's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import time
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.box import Box
from otp_runtime.host.fates import DEAD
from otp_runtime.process import boot as booting
from otp_runtime.process import current, estate, places
from otp_runtime.process.context import Context
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.job import Job
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from otp_runtime.process.handle import NodeHandle

BEGIN, GO = b"b", b"g"


class Succession:
    """The successor's side of a handover, as what it runs sees it: `Boot.succession`."""

    def __init__(self, node: NodeHandle, number: int, order: dict[str, Any], job: Job, boot: booting.Boot) -> None:
        """`number` is the understudy's id, `order` what the OS parent wrote: see `handover.Handover`."""
        self.node = node
        self.number = number
        self.job = job
        self.id: int = order["id"]
        self.reaper = kernel.OsProcess(*order["reaper"])
        self.is_fresh: bool = order["fresh"]
        self.extra: bytes = order["extra"]
        self.context: Context | None = None
        self.taken = False
        self._understudy = current.current()
        self._dead: list[int] = []
        self._estate: dict[str, Any] = {}
        self._boot = boot
        self._told = os.open(node.directory.handover(number, "told"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def has_lasting_mail(self) -> bool:
        """Whether the mailbox of the process that this becomes is a durable one."""
        box = Box.open(self.node.directory.box(self.id))
        assert box is not None
        try:
            return bool(box.flag(boxes.MAILBOX))
        finally:
            box.close()

    def await_estate(self) -> dict[str, Any]:
        """Say that the code is loaded, wait until the predecessor has parked, and read what it left."""
        self._boot.send(["loaded"])
        self._await(BEGIN)
        path = self.node.directory.handover(self.number, "estate")
        with open(path, "rb") as file:
            left: dict[str, Any] = self.node.codec.decode(file.read())
        os.unlink(path)
        return left

    def open(self, data: dict[str, Any]) -> Context:
        """Open the mailbox beside the predecessor, without reading it, and take up what it owned."""
        box = Box.open(self.node.directory.box(self.id))
        assert box is not None
        self._estate = data
        self.context = Context(self.node, self.id, box, is_program=False, parent=self.job.parent)
        self.context.place = places.place_of(self.node.directory, self.job, self.id)
        if data["mail"] is not None:
            from otp_runtime.process.mail import Mail

            Mail.attach(self.context).inherit(data["mail"])
        self._dead = estate.take_up(self.context, data)
        return self.context

    def await_switch(self) -> Context:
        """Say that all is ready, and wait until this is the process. From here on there is no way back."""
        assert self.context is not None
        self._boot.send(["ready"])
        self._await(GO)
        self.taken = True
        context, understudy = self.context, self._understudy
        context.box.label = understudy.box.label
        context.box.limits = understudy.box.limits
        context.box.set_flag(boxes.OVERFLOW, understudy.box.flag(boxes.OVERFLOW))
        if understudy.box.flag(boxes.TABLES):
            context.box.set_flag(boxes.TABLES)
        os.close(self._told)
        booting.report_as(self.node, self.job, self.id)
        booting.write_native_stacks(self.node, self.id)
        current.become(context)
        self._dismiss(understudy)
        booting.listen_to_signals(context, self.reaper)
        context.interrupts = True
        estate.conclude(context, self._estate, self._dead)
        return context

    def serves(self) -> None:
        """Say that all is taken over."""
        self._boot.say("serves")

    def _dismiss(self, understudy: Context) -> None:
        elsewhere = f"{self.node.directory.box(self.number)}.verdict"
        self.node.directory.seal_fate(self.number, DEAD)
        understudy.box.judge(self.node.codec.encode("shutdown"), elsewhere)
        current.forget(understudy)
        understudy.close()
        self.node.directory.forget(self.number)

    def _await(self, word: bytes) -> None:
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        while True:
            with contextlib.suppress(BlockingIOError):
                said = os.read(self._told, 1)
                if said == word:
                    return
                if said:
                    os._exit(1)
            poll.poll()


def run(node: NodeHandle, number: int, order: dict[str, Any]) -> NoReturn:
    """Be the successor: the child of a fork. Never returns."""
    status = 1
    try:
        job = dataclasses.replace(Job.from_term(order["job"]), links=())
        reaper = kernel.OsProcess(*order["reaper"])
        said = os.open(node.directory.handover(number, "said"), os.O_WRONLY | os.O_CLOEXEC)
        boot = booting.Boot(node, said)
        try:
            node.directory.make_mailbox(number)
            box = Box.create(node.directory.box(number), number, LAUNCHER_ID, boxes.KIND_THREAD, time.time())
        except OSError as error:
            # no room: no fault of ours, and the predecessor goes on
            node.directory.forget(number)
            boot.say("error", crash_of(error))
            os._exit(status)
        booting.take_over(node, job, box, reaper, {said})
        understudy = Context(node, number, box, is_program=True)
        understudy.pid = understudy.pid_of(order["id"])
        box.set_flag(boxes.READY, boxes.PLAIN)
        current.enter(node)
        current.become(understudy)
        succession = boot.succession = Succession(node, number, order, job, boot)
        reason = booting.live(understudy, boot, job, _no_supervisor)
        if succession.taken:
            status = booting.end(current.current(), boot, reason)
        else:
            boot.say("error", reason)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        with contextlib.suppress(BaseException):
            node.warn(f"internal error in a successor, please report it:\n{crash_of(error).traceback}")
    finally:
        os._exit(status)


def _no_supervisor(*_args: Any) -> NoReturn:
    msg = "a supervisor is not handed over"
    raise RuntimeError(msg)
