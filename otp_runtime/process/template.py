"""A process that its OS parent has forked to be forked: what it forks is the parent's child, and shares its memory.

    OS parent ── order: whose box, which boot pipe, a job ──► template ── clone ──► the new process
              ◄──────────────── its OS pid ───────────────────┘                     (a child of the OS parent)

After a fork, whoever writes a page first has to copy it, and Python writes where it only reads. An OS parent that forks
goes on with its work, and each child keeps for itself, alone, the old version of all that its parent writes until the
next fork: a quarter of its memory. And the parent copies a thousand pages for the next death, while somebody waits. A
template does nothing between two forks; its parent writes its own pages as often as it likes.

A template runs library code only, as its parent does, and opens nothing of what it passes on. The second process that a
parent starts has one made, as many have only one, or the first of those who will have more: after that start, when
nobody waits for it, and until it is ready the parent forks itself. A dynamic supervisor waits for it once, before its
first child. The launcher has one from the beginning, before it writes much that a server would then have alone: the
first start waits for what is left of its birth. It is replaced when its parent has imported more
meanwhile, and after an upgrade there is none. Nobody can send it anything: it has no box. Where it cannot be had (a C
library or a machine that is not known), or when it is gone or does not answer, the parent forks itself as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.host.pages import settle_memory
from otp_runtime.host.siblings import SiblingMaker
from otp_runtime.process import boot, current, spares
from otp_runtime.process.job import Job

if TYPE_CHECKING:
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.offspring import Offspring

TITLE: Final = "otp:template"
FIRST_USE: Final = 2
"""Which start of a parent is the first that has a template made."""

FAILURES_MAX: Final = 3
"""After so many orders in a row that came to nothing a parent has no template any more."""

ANSWER_SECONDS: Final = 1.0
BIRTH_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 0.1
"""How long an answer may take, and the birth of a template: then it is killed, and its parent forks itself. And how
long the first start of a parent that will have many waits for it."""

_PATH_AT: Final = list(Job.__slots__).index("path")
_ORDER: Final = struct.Struct("<I")
_ANSWER: Final = struct.Struct("<q")


class Template:
    """The template of one OS parent."""

    def __init__(self, offspring: Offspring) -> None:
        """There is none until it is needed."""
        self._offspring = offspring
        self._starts = 0
        self._os_pid = self._pidfd = self._orders = self._answers = -1
        self._imports = 0
        self._path: tuple[str, ...] = ()
        self._failures = 0
        self._is_ordered = self._waits = False
        self._born_by: float | None = None

    def expect_many(self, *, waits: bool) -> None:
        """This parent will have several children: the first has a template made, and may wait for it."""
        self._starts = FIRST_USE - 1
        self._waits = waits

    def make_ahead(self) -> None:
        """Make one before anything is started: the first start waits for what is left of its birth."""
        self.expect_many(waits=True)
        self._make()

    def fork_child(self, process_id: int, boot_fd: int, job: Job) -> int | None:
        """Have the process `process_id` forked, for `job`; give its OS pid, None when the caller must fork itself.

        Raises `OSError` when the system has no room for one more.
        """
        what = job.to_term()
        if job.path == self._path:
            # that is what it has: a copy of the list would be a page for every entry
            what[_PATH_AT] = []
        return self._fork(self._offspring.directory.box(process_id), [boot_fd], what)

    def fork_spare(self, number: int, says: int, reads: int, preparation: spares.Preparation) -> int | None:
        """As `fork_child`, of a spare: see `spares.run`."""
        return self._fork(self._offspring.directory.spare(number), [says, reads], list(preparation))

    def _fork(self, box_path: str, fds: list[int], what: list[Any]) -> int | None:
        self._starts += 1
        if self._starts < FIRST_USE or self._failures >= FAILURES_MAX:
            return None
        if self._os_pid >= 0 and self._imports != current.imports_ahead:
            self.end()
        if not self._is_ready():
            return None
        data = self._offspring.context.codec.encode([box_path, fds, what])
        answer = self._ask(_ORDER.pack(len(data)) + data)
        if answer is None:
            self._failures += 1
            return self._fallen(box_path)
        self._failures = 0
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer

    def retire(self) -> None:
        """What this parent has imported is old: have no template any more."""
        self._failures = FAILURES_MAX
        self.end()

    def end(self) -> None:
        """Leave nothing behind."""
        if self._os_pid < 0:
            return
        os.kill(self._os_pid, signal.SIGKILL)
        os.waitpid(self._os_pid, 0)
        self._forget()

    def _is_ready(self) -> bool:
        """Say whether there is one that waits for orders; if there is none, have it made when nobody waits for that."""
        patience = PATIENCE_SECONDS if self._waits else 0.0
        if self._os_pid < 0:
            if self._waits:
                self._make()
            elif not self._is_ordered:
                self._is_ordered = True
                self._offspring.put_off(self._make)
        self._waits = False
        if self._os_pid < 0:
            return False
        if self._born_by is not None:
            if not _is_ready(self._answers, select.POLLIN, poller.now() + patience):
                if poller.now() > self._born_by:
                    self._failures += 1
                    self.end()
                return False
            os.read(self._answers, _ANSWER.size)
            self._born_by = None
        return True

    def _make(self) -> None:
        """Fork one, which says when it is ready."""
        self._is_ordered = False
        if self._os_pid < 0 and self._failures < FAILURES_MAX and self._offspring.context.doomed is None:
            with contextlib.suppress(OSError):
                self._bear()

    def _bear(self) -> None:
        node, here = self._offspring.context.node, kernel.own_process()
        orders, self._orders = os.pipe()
        pipes = [orders, self._orders]
        try:
            self._answers, answers = os.pipe()
            pipes += [self._answers, answers]
            kernel.keep_descriptors_spare(max(pipes))
        except OSError:
            for fd in pipes:
                os.close(fd)
            raise
        self._imports, self._path = current.imports_ahead, tuple(sys.path)
        try:
            os_pid = current.fork_for_child()
            if os_pid == 0:
                run(node, here, orders, answers)
        except OSError:
            self._close()
            raise
        finally:
            os.close(orders)
            os.close(answers)
        self._os_pid = os_pid
        self._offspring.by_os_pid[os_pid] = None
        os.set_blocking(self._orders, False)
        self._pidfd = os.pidfd_open(os_pid)
        self._offspring.context.poller.watch(self._pidfd, poller.READABLE, lambda _events: self._gone())
        self._born_by = poller.now() + BIRTH_SECONDS

    def _gone(self) -> None:
        """It died: of itself only where it cannot be what it should."""
        if self._born_by is not None:
            self._failures += 1
        self.end()

    def _ask(self, order: bytes) -> int | None:
        """Send an order and give the answer; None when there is none."""
        deadline = poller.now() + ANSWER_SECONDS
        while order:
            try:
                order = order[os.write(self._orders, order) :]
            except BlockingIOError:
                # longer than the pipe: wait until the template has read some of it
                if not _is_ready(self._orders, select.POLLOUT, deadline):
                    return None
            except BrokenPipeError:
                return None
        if not _is_ready(self._answers, select.POLLIN, deadline):
            return None
        data = os.read(self._answers, _ANSWER.size)
        return _ANSWER.unpack(data)[0] if len(data) == _ANSWER.size else None

    def _fallen(self, box_path: str) -> int | None:
        """It does not answer: end it, and see whether it has forked all the same; give the OS pid of whom."""
        self.end()
        for os_pid in kernel.children_of(os.getpid()):
            # until it has its place in its box, it is called as the template is
            if os_pid not in self._offspring.by_os_pid and kernel.title_of(os_pid) == TITLE:
                os.kill(os_pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(os_pid, 0)
        box = Box.open(box_path)
        if box is None:
            return None
        inhabitant = box.identity.os_process
        box.close()
        return inhabitant.pid if inhabitant.pid > 0 and kernel.start_time(inhabitant.pid) == inhabitant.start else None

    def _forget(self) -> None:
        self._offspring.by_os_pid.pop(self._os_pid, None)
        self._offspring.context.poller.forget(self._pidfd)
        os.close(self._pidfd)
        self._os_pid = -1
        self._born_by = None
        self._close()

    def _close(self) -> None:
        os.close(self._orders)
        os.close(self._answers)


def _is_ready(fd: int, event: int, deadline: float) -> bool:
    """Wait until a descriptor is ready."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, deadline - poller.now()) * 1000))


# -- the template itself -----------------------------------------------------------------------------------------------


def run(node: NodeHandle, parent: kernel.OsProcess, orders: int, answers: int) -> NoReturn:
    """Be a template: the child of a fork. Never returns."""
    try:
        kernel.close_all_but({orders, answers})
        boot.forget_handlers()
        if kernel.die_with_parent(parent):
            current.enter(node)
            maker = SiblingMaker()
            settle_memory()
            _serve(node, parent, orders, answers, maker)
    finally:
        # what it says of an error is that it ends
        os._exit(0)


def _serve(node: NodeHandle, parent: kernel.OsProcess, orders: int, answers: int, maker: SiblingMaker) -> None:
    os.write(answers, _ANSWER.pack(0))
    kernel.set_title(TITLE)
    while order := _read(orders, _ORDER.size):
        data = _read(orders, _ORDER.unpack(order)[0])
        path, fds, what = node.codec.decode(data)
        box = Box.open(path)
        if box is None:
            return
        # a pipe that is opened again: one end to write what is said, and a spare's other one to read
        opened = [
            os.open(f"/proc/{parent.pid}/fd/{fd}", access | os.O_CLOEXEC)
            for fd, access in zip(fds, (os.O_WRONLY, os.O_RDONLY), strict=False)
        ]
        try:
            os_pid = current.fork_sibling(maker)
        except OSError as error:
            os_pid = -(error.errno or 1)
        if os_pid == 0:
            _become(node, box, parent, opened, what)
        for fd in opened:
            os.close(fd)
        box.close()
        os.write(answers, _ANSWER.pack(os_pid))


def _become(node: NodeHandle, box: Box, parent: kernel.OsProcess, fds: list[int], what: list[Any]) -> NoReturn:
    match fds:
        case [says, reads]:
            path, modules, script, links = what
            preparation = spares.Preparation(tuple(path), tuple(modules), script, tuple(links))
            spares.run(node, box, parent, says, reads, preparation)
        case [boot_fd, *_]:
            boot.run_child(node, Job.from_term(what), box, parent, boot_fd, _no_supervisor)
        case _:
            os._exit(1)


def _read(fd: int, size: int) -> bytes:
    """Read so many bytes; fewer at the end."""
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def _no_supervisor(*_args: object) -> NoReturn:
    msg = "supervisors are not made from templates"
    raise RuntimeError(msg)
