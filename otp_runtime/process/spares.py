"""Warm spares: processes forked ahead, which have done all of the boot that is nobody's in particular.

    parent: fork ──► spare: descriptors, signals, mailbox, lane, its link to the parent; waits for an order
    a death: a job, announced ──► spare: reads it, opens whom it will be linked to, is dressed
    a start: box renamed ──► order (a job, "go") ──► spare: name, arguments, init ──► "ok"  … a new spare, soon

A spare is a process of the node whose box nobody can find yet: it lies beside the place where boxes are looked for, and
is moved there when the spare is used. So no list shows it, and nobody can send it anything. It ends as every child
does when its OS parent does: the kernel signals it, and its end of the pipe says so too.

It holds the code that its parent had when it was forked, so an upgrade ends the spares, for good: what is started then
comes from a zygote.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import struct
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from otp_runtime.core import demand
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.process import boot, current
from otp_runtime.process.child import Child
from otp_runtime.process.context import Context
from otp_runtime.process.job import Job
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.offspring import Offspring

REFILL_SECONDS: Final = 0.003
"""How long after a use a new spare is forked: the fork must not be in the way of the start that has just begun."""

QUIET_SECONDS: Final = 0.01
"""How long nothing must have been started before a spare is forked that no child spec asks for."""

MISFORTUNE_SECONDS: Final = 1.0
"""The same after a spare died unused: whatever kills them must not be fed."""

ORDER_MAX: Final = 32_768
"""A longer order may not fit into the pipe at once, and its start is forked as if there were no spare."""

LENGTH: Final = struct.Struct("<I")
GO: Final = LENGTH.pack(0)
"""Ends an order, which is the last job that was named before it. A job that is named is only an announcement."""


rehearsal: Rehearsal | None = None
"""What a spare does while nobody waits for it."""


class Rehearsal(NamedTuple):
    """How a spare goes through what it will go through as a server, in a context that is thrown away after that."""

    write: Callable[[NodeHandle], bytes]
    """In the OS parent: give the text, all that is not done by a server itself."""
    play: Callable[[Context, bytes], None]


def rehearse_with(write: Callable[[NodeHandle], bytes], play: Callable[[Context, bytes], None]) -> None:
    """Set `rehearsal`."""
    global rehearsal
    rehearsal = Rehearsal(write, play)


class Preparation(NamedTuple):
    """What a spare does before it waits for its order."""

    path: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """What it imports, with that `sys.path`."""
    script: bytes = b""
    """What it rehearses."""
    links: tuple[int, ...] = ()
    """To whom it will be linked, as far as that is known: they are opened ahead."""


@dataclass(slots=True)
class _Spare:
    """A spare that waits for its order."""

    child: Child
    orders: int
    box: Box
    path: tuple[str, ...]
    """The `sys.path` with which it imports what it may need; () when it imports nothing."""
    modules: tuple[str, ...]
    has_booted: bool = False
    heard: bytes = b""
    """The words of the job that was announced to it last."""
    is_old: bool = False
    """Whether what it has imported may be other code than is on disk now."""

    def suits(self, job: Job) -> bool:
        """Say whether it can do a job, and keeps it waiting for nothing that the job would not wait for itself."""
        if self.is_old or self.path not in {(), job.path}:
            return False
        return self.has_booted or set(self.modules) <= set(job.imports)

    def tell(self, words: bytes, *, beside: bool) -> bool:
        """Write to it; False when it is gone, or cannot take all: then it is ended, as it would wait for the rest.

        `beside`: this process goes on, and does not wait for what comes of it.
        """
        try:
            if beside:
                written = kernel.write_beside(self.orders, words, self.child.os_process.pid)
            else:
                written = os.write(self.orders, words)
            if written == len(words):
                return True
        except OSError:
            pass  # its end of the pipe is closed, or the pipe full
        self.end()
        return False

    def end(self) -> None:
        """Kill it, unless it is reaped already and waited for until what it left has ended."""
        if self.child.pidfd >= 0:
            kernel.send_signal(self.child.pidfd, signal.SIGKILL)


class Spares:
    """The spares of one OS parent: those of its child specs, and one more when starts come in rows."""

    def __init__(self, offspring: Offspring) -> None:
        """None are kept until somebody wants one."""
        self._offspring = offspring
        self._ready: dict[int, _Spare] = {}
        self._declared = 0
        self._demand = demand.NONE
        self._preparation = Preparation()
        self._is_retired = False
        self._said: tuple[Job, bytes] | None = None
        self._timer: poller.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a spare to be used."""
        return bool(self._ready)

    def want(self, count: int) -> None:
        """Keep so many from now on, or more if more were wanted before: `spare=` of a child spec."""
        if count > self._declared:
            self._declared = count
            self._refill_in(0.0)

    def note(self, job: Job) -> None:
        """A process was started: the next one may be like it."""
        self._demand = demand.started(self._demand, poller.now())
        self._preparation = self._preparation._replace(path=job.path, modules=job.imports, links=job.links)
        if self._missing() > 0:
            self._refill_in(REFILL_SECONDS)

    def renew(self) -> None:
        """Use none that has imported what is older than the code on disk; there may be others later."""
        for spare in self._ready.values():
            if spare.modules:
                spare.is_old = True
                spare.end()

    def retire(self) -> None:
        """End all, and fork no more."""
        self._is_retired = True
        for spare in self._ready.values():
            spare.end()

    def end(self) -> None:
        """At the end of the parent: leave nothing behind."""
        self.retire()
        for number, spare in self._ready.items():
            if spare.child.pidfd >= 0:
                os.waitpid(spare.child.os_process.pid, 0)
            self._offspring.directory.forget_spare(number)
        self._ready.clear()

    # -- use ------------------------------------------------------------------------------------------------

    def take(self, job: Job) -> Child | None:
        """Have a spare do `job`; None when there is none that can."""
        if not self._ready or self._is_retired:
            return None
        words = self._words_for(job)
        if not words:
            return None
        for spare in sorted(self._ready.values(), key=lambda one: one.heard != words):
            if spare.suits(job) and self._is_awake(spare) and self._order(spare, job, words):
                del self._ready[spare.child.id]
                return spare.child
        return None

    def announce(self, job: Job) -> None:
        """Tell a spare what it will probably be ordered to do: it gets ready, while that is decided upon."""
        if not self._ready or self._is_retired:
            return
        words = self._words_for(job)
        for spare in self._ready.values():
            is_ready = words and spare.has_booted and spare.suits(job) and self._is_awake(spare)
            if is_ready and (spare.heard == words or spare.tell(words, beside=True)):
                spare.heard = words
                return

    def _words_for(self, job: Job) -> bytes:
        """Give what a spare is told of a job, nothing when it can be told to none.

        Of the last job it is known: one that was announced is told next.
        """
        if len(job.body) > ORDER_MAX:
            return b""
        if self._said is None or self._said[0] != job:
            self._said = job, _marshalled(job)
        return self._said[1]

    def _is_awake(self, spare: _Spare) -> bool:
        """Say whether a spare is there; one that somebody has stopped is ended, as it would keep its job waiting."""
        is_awake = kernel.is_running(spare.child.pidfd) and not self._offspring.watchman.saw_stopped(spare.child)
        if not is_awake:
            spare.end()
        return is_awake

    def _order(self, spare: _Spare, job: Job, words: bytes) -> bool:
        """Make a spare a process that can be found, and tell it what it is; False when it is gone.

        Of what was announced nobody waits for the news, and there is more to do here: it is a restart.
        """
        was_announced = spare.heard == words
        directory, box = self._offspring.directory, spare.box
        hidden, found = directory.spare(spare.child.id), directory.box(spare.child.id)
        os.rename(hidden, found)
        box.path = found
        box.settle(job.label, time.time())
        if not spare.tell(GO if was_announced else words + GO, beside=was_announced):
            os.rename(found, hidden)
            return False
        os.close(spare.orders)
        spare.child.settle(job, box)
        if was_announced:
            self._offspring.listen_to_boot_later(spare.child)
        else:
            self._offspring.listen_to_boot(spare.child)
        return True

    # -- birth and death ------------------------------------------------------------------------------------

    def _missing(self) -> int:
        """Give how many there should be beside those that there are."""
        if self._is_retired:
            return 0
        expected = int(demand.is_expected(self._demand, poller.now()))
        return max(self._declared, expected) - len(self._ready)

    def _refill_in(self, seconds: float) -> None:
        """Look in so many seconds, or sooner if that was said before, whether one is missing or one too many."""
        due = poller.now() + seconds
        if self._timer is not None:
            if self._timer.due <= due:
                return
            self._timer.cancel()
        self._timer = self._offspring.context.poller.at(due, self._refill)

    def _refill(self) -> None:
        """Fork one; another one a little later, so that what else there is to do comes in between."""
        self._timer = None
        if self._missing() <= 0:
            self._dismiss()
            return
        quiet_at = self._demand.last + QUIET_SECONDS
        if len(self._ready) >= self._declared and (left := quiet_at - poller.now()) > 0:
            # while one start follows the other, a fork ahead would only be in the way of the next
            self._refill_in(left)
            return
        try:
            self._fork()
        except OSError as error:
            self._offspring.context.node.warn(f"cannot keep a spare process: {error}{kernel.shortage(error)}")
            self._refill_in(MISFORTUNE_SECONDS)
            return
        if self._missing() > 0:
            self._refill_in(REFILL_SECONDS)
        elif len(self._ready) > self._declared:
            self._refill_in(self._demand.until - poller.now())

    def _dismiss(self) -> None:
        """End one that was expected to be used, and was not; look again later while it may yet be."""
        if len(self._ready) <= self._declared:
            return
        if demand.is_expected(self._demand, poller.now()):
            self._refill_in(self._demand.until - poller.now())
            return
        number = next(iter(self._ready))
        self._ready[number].end()

    def _fork(self) -> None:
        context, directory = self._offspring.context, self._offspring.directory
        if rehearsal is not None and not self._preparation.script:
            self._preparation = self._preparation._replace(script=rehearsal.write(context.node))
        preparation = self._preparation
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
            template = self._offspring.template
            forked = template.fork_spare(number, says, reads, preparation)
            os_pid = current.fork_for_child() if forked is None else forked
        except OSError:
            for fd in pipes:
                os.close(fd)
            directory.forget_spare(number)
            raise
        if os_pid == 0:
            run(context.node, box, here, says, reads, preparation)
        for fd in (says, reads):
            os.close(fd)
        for fd in (heard, orders):
            os.set_blocking(fd, False)
        child = Child(number, context.pid_of(number), None, None)
        child.boot_fd = heard
        child.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        box.inhabit(child.os_process)
        child.words["gone"] = lambda: self._gone(number)
        path = preparation.path if preparation.modules else ()
        self._ready[number] = _Spare(child, orders, box, path, preparation.modules)
        self._offspring.adopt(child)
        child.on_word = lambda _word: self._booted(child)
        self._offspring.listen_to_boot(child)

    def _booted(self, child: Child) -> None:
        """A spare waits for its job, and has nothing to say until it is used."""
        self._ready[child.id].has_booted = True
        self._offspring.ignore_boot(child)

    def _gone(self, number: int) -> None:
        """A spare ended unused: killed, retired, or not wanted any more."""
        spare = self._ready.pop(number)
        os.close(spare.orders)
        if spare.box.flag(boxes.THREADS):
            # a module that it imported made its threads processes
            from otp_runtime.process.burials import judge_threads

            judge_threads(self._offspring.context, spare.child.os_process, "killed", besides=number)
        spare.box.close()
        self._offspring.directory.forget_spare(number)
        self._demand = demand.NONE
        self._refill_in(MISFORTUNE_SECONDS)


def _marshalled(job: Job) -> bytes:
    """Give a job in one piece; nothing when it is too long."""
    try:
        data = marshal.dumps(tuple(job.to_term()))
    except ValueError:
        # of a type that only looks like one of those that are marshalled
        return b""
    return LENGTH.pack(len(data)) + data if len(data) <= ORDER_MAX else b""


# -- the spare itself --------------------------------------------------------------------------------------------------


def run(
    node: NodeHandle,
    box: Box,
    reaper: kernel.OsProcess,
    says: int,
    reads: int,
    preparation: Preparation,
) -> NoReturn:
    """Be a spare: the child of a fork. Boot as far as it goes, wait for a job, do it. Never returns."""
    status = 1
    try:
        identity = box.identity
        boot.part_from_parent(box, reaper, {says, reads})
        kernel.set_title("otp:spare")
        kernel.raise_own_oom_score(boot.OOM_SCORE)
        boot.write_native_stacks(node, identity.id)
        current.enter(node)
        context = None
        if preparation.modules:
            # a module may ask who it is when it is imported: the process that this one will be
            context = Context(node, identity.id, box, is_program=False, parent=identity.reaper)
            current.become(context)
            sys.path[:] = preparation.path
            boot.import_modules(preparation.modules)
        if preparation.script:
            _rehearse(node, box, preparation.script)
        context = context or Context(node, identity.id, box, is_program=False, parent=identity.reaper)
        current.become(context)
        boot.listen_to_signals(context, reaper)
        for other in preparation.links:
            context.peer(other)
        boot.Boot(node, says).send(["spare"])
        job = _await_order(context, reads)
        if job is not None:
            context.parent = job.parent
            box.path = node.directory.box(identity.id)
            boot.take_title(job)
            status = boot.do_job(context, job, says, _no_supervisor)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        with contextlib.suppress(BaseException):
            node.warn(f"internal error in a spare process, please report it:\n{crash_of(error).traceback}")
    finally:
        os._exit(status)


def _rehearse(node: NodeHandle, own: Box, script: bytes) -> None:
    """Go once through what a server goes through: each page that it looks at is copied now, and not when it is one.

    With a black box of its own, which nobody finds, as nobody finds this process.
    """
    assert rehearsal is not None
    identity = own.identity
    box = Box.create_unseen(identity.id, identity.reaper, boxes.KIND_SERVER, identity.started_at)
    context = Context(node, identity.id, box, is_program=False, parent=identity.reaper)
    current.become(context)
    context.link_back(identity.reaper)
    rehearsal.play(context, script)
    current.forget(context)
    context.close()
    box.close()


def _await_order(context: Context, reads: int) -> Job | None:
    """Wait for the job; None when there will be none: the parent is gone, or told this process to end."""
    orders = _Orders(context, reads)
    context.poller.watch(reads, poller.READABLE, lambda _events: orders.read())
    while not orders.are_complete:
        context.pump(None)
        if context.doomed is not None or orders.have_ended:
            return None
    context.poller.forget(reads)
    os.close(reads)
    return orders.job


class _Orders:
    """What a spare is told."""

    def __init__(self, context: Context, reads: int) -> None:
        """Nothing yet."""
        self._context = context
        self._reads = reads
        self._data = b""
        self.job: Job | None = None
        self.are_complete = False
        self.have_ended = False
        os.set_blocking(reads, False)

    def read(self) -> None:
        """Read what is there, and get ready for what it tells of."""
        try:
            chunk = os.read(self._reads, ORDER_MAX + LENGTH.size)
        except BlockingIOError:
            return
        self.have_ended = not chunk
        self._data += chunk
        while not self.are_complete and len(self._data) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._data)
            end = LENGTH.size + length
            if len(self._data) < end:
                return
            if length:
                # what this same interpreter wrote, before this process was forked from it
                self.job = Job(*marshal.loads(self._data[LENGTH.size : end]))  # noqa: S302
                for other in self.job.links:
                    self._context.peer(other)
                boot.dress(self._context.node, self.job, self._context.id)
            else:
                self.are_complete = True
            self._data = self._data[end:]


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
