"""Warm spares: processes forked ahead, which have done all of the boot that is nobody's in particular.

    parent: fork ──► spare: descriptors, signals, mailbox, lane, its link to the parent; waits for an order
    a start: box renamed ──► order (a job) ──► spare: name, arguments, init ──► "ok"     … a new spare, a little later

A spare is a process of the node whose box nobody can find yet: it lies beside the place where boxes are looked for, and
is moved there when the spare is used. So no list shows it, and nobody can send it anything. It ends as every child
does when its OS parent does: the kernel signals it, and its end of the pipe says so too.

It holds the code that its parent had when it was forked, so an upgrade ends the spares, for good: what is started then
comes from a zygote.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.host.pages import HotPages
from otp_runtime.process import boot, current, names
from otp_runtime.process.context import Context
from otp_runtime.process.job import Job
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.offspring import Child, Offspring

REFILL_SECONDS: Final = 0.003
"""How long after a use a new spare is forked: the fork must not be in the way of the start that has just begun."""

MISFORTUNE_SECONDS: Final = 1.0
"""The same after a spare died unused: whatever kills them must not be fed."""

ORDER_MAX: Final = 32_768
"""A longer order may not fit into the pipe at once, and its start is forked as if there were no spare."""

LENGTH: Final = struct.Struct("<I")


class Spares:
    """The spares of one OS parent."""

    def __init__(self, offspring: Offspring) -> None:
        """None are kept until somebody wants one."""
        self._offspring = offspring
        self._ready: dict[int, tuple[Child, int]] = {}
        self._wanted = 0
        self._timer: poller.TimerHandle | None = None
        self._hot_pages = HotPages()

    @property
    def is_ready(self) -> bool:
        """Whether there is a spare to be used."""
        return bool(self._ready)

    def want(self, count: int) -> None:
        """Keep so many from now on, or more if more were wanted before."""
        if count > self._wanted:
            self._wanted = count
            self._refill_in(0.0)

    def retire(self) -> None:
        """End all, and fork no more."""
        self._wanted = 0
        for child, _orders in self._ready.values():
            kernel.send_signal(child.pidfd, signal.SIGKILL)

    def end(self) -> None:
        """At the end of the parent: leave nothing behind."""
        self.retire()
        for number, (child, _orders) in self._ready.items():
            os.waitpid(child.os_process.pid, 0)
            self._offspring.directory.forget_spare(number)
        self._ready.clear()

    # -- use ------------------------------------------------------------------------------------------------

    def take(self, job: Job) -> Child | None:
        """Have a spare do `job`; None when there is none that can."""
        if not self._ready or not self._wanted:
            return None
        data = self._offspring.context.codec.encode(job.to_term())
        if len(data) > ORDER_MAX:
            return None
        for number in list(self._ready):
            child, orders = self._ready[number]
            self._hot_pages.learn()
            if not kernel.has_ended(child.pidfd) and self._order(child, job, orders, LENGTH.pack(len(data)) + data):
                del self._ready[number]
                self._refill_in(REFILL_SECONDS)
                return child
        return None

    def _order(self, child: Child, job: Job, orders: int, data: bytes) -> bool:
        """Make a spare a process that can be found, and tell it what it is; False when it is gone."""
        directory = self._offspring.directory
        hidden, found = directory.spare(child.id), directory.box(child.id)
        box = Box.open(hidden)
        if box is None:
            return False
        os.rename(hidden, found)
        box.path = found
        box.settle(job.label, time.time())
        try:
            os.write(orders, data)
        except OSError:
            os.rename(found, hidden)
            box.close()
            return False
        os.close(orders)
        child.settle(job, box)
        return True

    # -- birth and death ------------------------------------------------------------------------------------

    def _refill_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._offspring.context.poller.at(poller.now() + seconds, self._refill)

    def _refill(self) -> None:
        """Fork one; another one a little later, so that what else there is to do comes in between."""
        self._timer = None
        if len(self._ready) >= self._wanted:
            return
        try:
            self._fork()
        except OSError as error:
            self._offspring.context.node.warn(f"cannot keep a spare process: {error}{kernel.shortage(error)}")
            self._refill_in(MISFORTUNE_SECONDS)
            return
        if len(self._ready) < self._wanted:
            self._refill_in(REFILL_SECONDS)

    def _fork(self) -> None:
        from otp_runtime.process.offspring import Child

        context, directory = self._offspring.context, self._offspring.directory
        number = directory.next_id()
        pipes: list[int] = []
        try:
            box = Box.create(directory.spare(number), number, context.id, boxes.KIND_SERVER, time.time())
            directory.make_mailbox(number)
            heard, says = os.pipe()
            pipes += [heard, says]
            reads, orders = os.pipe()
            pipes += [reads, orders]
            kernel.keep_descriptors_spare(orders)
            here = kernel.own_process()
            os_pid = current.fork_for_child()
        except OSError:
            for fd in pipes:
                os.close(fd)
            directory.forget_spare(number)
            raise
        if os_pid == 0:
            run(context.node, box, here, says, reads)
        for fd in (says, reads):
            os.close(fd)
        for fd in (heard, orders):
            os.set_blocking(fd, False)
        child = Child(number, context.pid_of(number), None, None)
        child.boot_fd = heard
        child.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        box.inhabit(child.os_process)
        box.close()
        child.words["gone"] = lambda: self._gone(number)
        self._ready[number] = child, orders
        self._offspring.adopt(child)
        child.on_word = lambda _word: self._booted(child)
        self._offspring.listen_to_boot(child)

    def _booted(self, child: Child) -> None:
        """A spare waits for its job: what this process shares with it now, it shares until the spare is used."""
        self._offspring.ignore_boot(child)
        self._hot_pages.copy()

    def _gone(self, number: int) -> None:
        """A spare ended unused: killed, or retired."""
        _child, orders = self._ready.pop(number)
        os.close(orders)
        self._offspring.directory.forget_spare(number)
        self._refill_in(MISFORTUNE_SECONDS)


# -- the spare itself --------------------------------------------------------------------------------------------------


def run(node: NodeHandle, box: Box, reaper: kernel.OsProcess, says: int, reads: int) -> NoReturn:
    """Be a spare: the child of a fork. Boot as far as it goes, wait for a job, do it. Never returns."""
    status = 1
    try:
        identity = box.identity
        boot.part_from_parent(box, reaper, {says, reads})
        kernel.set_title("otp:spare")
        kernel.raise_own_oom_score(boot.OOM_SCORE)
        boot.write_native_stacks(node, identity.id)
        context = Context(node, identity.id, box, is_program=False, parent=identity.reaper)
        current.enter(node)
        current.become(context)
        boot.listen_to_signals(context, reaper)
        context.link_back(identity.reaper)
        _rehearse(context)
        boot.Boot(node, says).send(["spare"])
        job = _await_order(context, reads)
        if job is not None:
            box.path = node.directory.box(identity.id)
            boot.dress(node, job, identity.id)
            status = boot.do_job(context, job, says, _no_supervisor)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        with contextlib.suppress(BaseException):
            node.warn(f"internal error in a spare process, please report it:\n{crash_of(error).traceback}")
    finally:
        os._exit(status)


def _rehearse(context: Context) -> None:
    """Go once through what a start goes through: it copies the pages that are shared with the parent until then."""
    context.codec.decode(context.codec.encode(Job("start", b"", "", 0).to_term()))
    names.rehearse(context.directory)


def _await_order(context: Context, reads: int) -> Job | None:
    """Wait for the job; None when there will be none: the parent is gone, or told this process to end."""
    data = b""
    open_ = [True]

    def read(_events: int) -> None:
        nonlocal data
        chunk = os.read(reads, ORDER_MAX + LENGTH.size)
        data += chunk
        open_[0] = bool(chunk)

    context.poller.watch(reads, poller.READABLE, read)
    while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        context.pump(None)
        if context.doomed is not None or not open_[0]:
            return None
    context.poller.forget(reads)
    os.close(reads)
    term: list[Any] = context.codec.decode(data[LENGTH.size :])
    return Job.from_term(term)


def _no_supervisor(*_args: Any) -> NoReturn:
    msg = "supervisors are not made of spares"
    raise RuntimeError(msg)


def sweep(directory: NodeDirectory, supervisor: int) -> None:
    """Remove what the spares of a dead supervisor leave: they are dead as well."""
    for number in directory.spare_ids():
        box = Box.open(directory.spare(number))
        if box is not None:
            if box.identity.reaper == supervisor:
                directory.forget_spare(number)
            box.close()
