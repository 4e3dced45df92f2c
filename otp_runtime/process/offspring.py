"""Being an OS parent: fork, hear of the start, tell children to end.

Supervisors and the launcher are OS parents; only a parent sees how a child ended, and what it then does is in
`process.burials`. Nothing here waits: a start under way, a death, an orphan that is given a second to end are all
states that the owner's loop moves on.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import importlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.process import boot, current, places, reports
from otp_runtime.process.burials import Burials, judge_threads
from otp_runtime.process.child import Child
from otp_runtime.process.looks import Looks
from otp_runtime.process.mail_holding import HeldMailboxes
from otp_runtime.process.nursery import Nursery
from otp_runtime.process.spares import Spares
from otp_runtime.process.template import Template
from otp_runtime.process.vitals import Vitals
from otp_runtime.process.watchman import Watchman
from otp_runtime.terms.reason import Crash

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.context import Context
    from otp_runtime.process.handover import Handover
    from otp_runtime.process.job import Job

DOOM_SECONDS = 0.5
DEPART_SECONDS = 1.0
"""What a process that was handed over has to end: what it registered with `atexit`, no more."""


NEWS_SECONDS = 0.001
"""How long after a restart its parent does not listen for the news of it: it would be woken on the core of the one who
tells it, and take that from the new process, which may be answering its first call."""


class Offspring:
    """The children of this OS process, orphans that fell to it included."""

    def __init__(
        self,
        context: Context,
        serve_supervisor: Callable[..., Any],
        on_word: Callable[[Child, list[Any]], None],
        on_death: Callable[[Child, Any], bool],
    ) -> None:
        """`on_word` hears how a start went.

        `on_death` hears that a child is dead and of what, and says whether it is coming back under its name; what
        the owner does about it comes after that, in `after_death`.
        """
        self.context = context
        self.directory = context.directory
        self.children: dict[int, Child] = {}
        self.by_os_pid: dict[int, Child | None] = {}
        """Those that are known here; None for a helper, which is its maker's to reap."""
        self._serve_supervisor = serve_supervisor
        self._on_word = on_word
        self.vitals = Vitals(self)
        self._put_off: collections.deque[Callable[[], object]] = collections.deque()
        self._unheard: list[Child] = []
        self.handovers: dict[int, Handover] = {}
        self.nursery = Nursery(self)
        self.spares = Spares(self)
        self.template = Template(self)
        self.looks = Looks(self)
        self.watchman = Watchman(self)
        self.mailboxes = HeldMailboxes(context.directory)
        self.burials = Burials(self, on_death)
        reports.prepare(self.directory)
        context.on_doom = self.doom

    # -- start ----------------------------------------------------------------------------------------------

    def start(self, job: Job) -> Child | Crash:
        """Fork a process for `job`; gives a Crash when the system has no room for one more."""
        if self._may_be_a_spare(job) and (spare := self.spares.take(job)) is not None:
            self.vitals.begin(spare)
            if job.timeout is not None:
                self._set_limit(spare, job.timeout)
            self.spares.note(job)
            return spare
        context = self.context
        process_id = self.directory.next_id()
        kind = boxes.KIND_SUPERVISOR if job.mode == "supervisor" else boxes.KIND_SERVER
        child: Child | None = None
        pipe = (-1, -1)
        try:
            box = Box.create(self.directory.box(process_id), process_id, context.id, kind, time.time())
            box.label = job.label
            child = Child(process_id, context.pid_of(process_id), job, box)
            self.mailboxes.make(job.place if job.mode == "start" else (), process_id, box)
            self.vitals.begin(child)
            if job.mode != "supervisor" and self.nursery.is_used:
                return self._bear(child, job)
            pipe = os.pipe()
            kernel.keep_descriptors_spare(pipe[1])
            return self._fork(child, job, box, pipe)
        except OSError as error:
            for fd in pipe:
                if fd >= 0:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            self.directory.forget(process_id)
            self.vitals.forget(process_id)
            return Crash("OSError", f"cannot start {job.label}: {error}{kernel.shortage(error)}", "")

    def announce(self, job: Job) -> None:
        """A process for `job` will probably be started in a moment: let a spare get ready for it, if one can do it."""
        if self._may_be_a_spare(job):
            self.spares.announce(job)

    def _may_be_a_spare(self, job: Job) -> bool:
        """Say whether a spare can do a job: it has older code than a zygote, and a mailbox of its own."""
        return not (job.mode == "supervisor" or self.nursery.is_used or self.mailboxes.has(job.place))

    def _fork(self, child: Child, job: Job, box: Box, pipe: tuple[int, int]) -> Child:
        here = kernel.own_process()
        os_pid = None if job.mode == "supervisor" else self.template.fork_child(child.id, pipe[1], job)
        if os_pid is None:
            os_pid = current.fork_for_child()
        if os_pid == 0:
            boot.run_child(self.context.node, job, box, here, pipe[1], self._serve_supervisor)
        os.close(pipe[1])
        os.set_blocking(pipe[0], False)
        child.boot_fd = pipe[0]
        child.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        box.inhabit(child.os_process)
        self.adopt(child)
        self.listen_to_boot(child)
        if job.timeout is not None:
            self._set_limit(child, job.timeout)
        if job.mode != "supervisor":
            self.spares.note(job)
        return child

    def listen_to_boot(self, child: Child) -> None:
        """Hear what a child says of its start."""
        self.context.poller.watch(child.boot_fd, poller.READABLE, lambda _events: self._hear(child))

    def listen_to_boot_later(self, child: Child) -> None:
        """As `listen_to_boot`, of a restart: not yet, unless `hear_restarts` comes first."""
        self._unheard.append(child)
        if len(self._unheard) == 1:
            self.context.poller.at(poller.now() + NEWS_SECONDS, self.hear_restarts)

    def hear_restarts(self) -> None:
        """Hear what there is to hear by now. The owner calls it before it does what somebody asks for.

        Who asks may have had an answer from a child of whose start nothing was heard here.
        """
        unheard, self._unheard = self._unheard, []
        for child in unheard:
            if child.boot_fd >= 0:
                self._hear(child)
            if child.boot_fd >= 0:
                self.listen_to_boot(child)

    def ignore_boot(self, child: Child) -> None:
        """Hear nothing of it for now."""
        self.context.poller.forget(child.boot_fd)

    def _bear(self, child: Child, job: Job) -> Child:
        """Have a process forked by the zygote, which has newer code than this one."""
        self.listen(child, child.id)
        try:
            self.nursery.bear(child.id, child, {"job": job.to_term(), "id": child.id, "succeeds": False})
        except OSError:
            self.close_boot_pipe(child)
            raise
        self.children[child.id] = child
        if job.timeout is not None:
            self._set_limit(child, job.timeout)
        return child

    def listen(self, child: Child, number: int) -> None:
        """Hear what a process says that is not forked here, or not only about its start: through a FIFO."""
        path = self.directory.handover(number, "said")
        os.mkfifo(path, 0o600)
        # for writing too: it must not end when a writer does
        child.boot_fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        child.words["said"] = path
        self.context.poller.watch(child.boot_fd, poller.READABLE, lambda _events: self._hear(child))

    def _born(self, child: Child, os_pid: int) -> None:
        """A zygote's grandchild fell to this process, which is its OS parent now."""
        self.nursery.is_born(child)
        child.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        if child.box is not None:
            child.box.inhabit(child.os_process)
        self.adopt(child)
        if child.words.get("discarded") or (child.box is not None and child.box.flag(boxes.KILL_REQUESTED)):
            kernel.send_signal(child.pidfd, signal.SIGKILL)

    def never_born(self, child: Child, reason: Any) -> None:
        """What was to fork a child died before it did."""
        child.outcome = ["error", reason]
        self.close_boot_pipe(child)
        if child.limit is not None:
            child.limit.cancel()
        self.burials.bury(child)

    def hear_births(self) -> None:
        """Before looking who is a stranger here: take in the births that were told already."""
        for child in self.nursery.unborn():
            self._hear(child)

    def adopt(self, child: Child) -> None:
        """Watch a process of which this one is the OS parent."""
        child.pidfd = os.pidfd_open(child.os_process.pid)
        self.children[child.id] = child
        self.by_os_pid[child.os_process.pid] = child
        self.context.poller.watch(child.pidfd, poller.READABLE, lambda _events: self.burials.reap(child))

    def _set_limit(self, child: Child, seconds: float) -> None:
        def too_late() -> None:
            child.outcome = ["error", "timeout"]
            self.kill(child)

        child.limit = self.context.poller.at(poller.now() + seconds, too_late)

    def _hear(self, child: Child) -> None:
        """Read the boot pipe."""
        self.read_boot_pipe(child)
        if child.outcome is not None and child.outcome[0] == "ok":
            self.close_boot_pipe(child)
            self._on_word(child, child.outcome)
            self.looks.begin(child)
            self.put_off(functools.partial(self.vitals.started, child))
            child.rest()

    def read_boot_pipe(self, child: Child) -> None:
        """Take in what a child has said of its start so far."""
        while child.boot_fd >= 0:
            try:
                data = os.read(child.boot_fd, 65536)
            except BlockingIOError:
                break
            if not data:
                self.close_boot_pipe(child)
                break
            child.boot_data += data
        self._parse_words(child)

    def _parse_words(self, child: Child) -> None:
        while len(child.boot_data) >= boot.LENGTH.size:
            (length,) = boot.LENGTH.unpack_from(child.boot_data)
            data = child.boot_data[boot.LENGTH.size : boot.LENGTH.size + length]
            if len(data) < length:
                return
            child.boot_data = child.boot_data[boot.LENGTH.size + length :]
            try:
                word = self.context.codec.decode(data)
            except CodecError as error:
                word = ["error", Crash("CodecError", str(error), "")]
            if word[0] == "born":
                self._born(child, word[1])
            elif child.on_word is not None:
                child.on_word(word)
            elif word[0] == "import":
                import_ahead(word[1])
            elif word[0] == "spare":
                """It was used before it had booted so far as to say that it waits."""
            elif word[0] == "watch":
                self.watchman.begin(child)
            elif word[0] == "limit":
                self._set_limit(child, word[1])
            elif word[0] == "mailbox":
                self._hold_mailbox(child)
            elif child.outcome is None:
                child.outcome = word
                if child.limit is not None:
                    child.limit.cancel()

    def _hold_mailbox(self, child: Child) -> None:
        """Do what makes a child's mailbox outlive it, before anybody can write to it: it waits for that."""
        if child.job is None or child.box is None:
            return
        try:
            self.mailboxes.hold(child.job.place, child.id, child.box)
        except OSError as error:
            child.outcome = ["error", ("durable_mailbox", places.mail_of(child.job.place), str(error))]
            self.kill(child)

    def close_boot_pipe(self, child: Child) -> None:
        """Hear no more of a child than its end."""
        if child.boot_fd >= 0:
            self.context.poller.forget(child.boot_fd)
            os.close(child.boot_fd)
            child.boot_fd = -1
            if "said" in child.words:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(child.words.pop("said"))

    # -- handover -------------------------------------------------------------------------------------------

    def replace(self, child: Child, successor: Child) -> None:
        """Make the OS process of `successor` that of `child`; what it was ends without a verdict.

        The box names the new one before the old one hears of it: a watcher that sees the old one end finds it there.
        """
        old = Child(-child.os_process.pid, child.pid, None, None)
        old.words["gone"] = lambda: self._departed(child, old)
        successor_process = successor.os_process
        for number in (child.id, successor.id):
            self.context.poller.forget(self.children.pop(number).pidfd)
        old.os_process, child.os_process = child.os_process, successor_process
        for pidfd in (child.pidfd, successor.pidfd):
            os.close(pidfd)
        successor.pidfd = -1
        assert child.box is not None
        # a successor that is watched says so itself
        self.watchman.forget(child)
        self.watchman.forget(successor)
        child.box.watchdog = None
        child.box.inhabit(successor_process)
        self.adopt(old)
        self.adopt(child)
        if child.box.flag(boxes.KILL_REQUESTED):
            # it hit the old one
            self.kill(child)
        self.context.poller.at(poller.now() + DEPART_SECONDS, lambda: self.burials.end_orphan(old))

    def _departed(self, child: Child, old: Child) -> None:
        """The predecessor is reaped. Threads of it that were processes are dead as well."""
        if child.box is not None and child.box.flag(boxes.THREADS):
            judge_threads(self.context, old.os_process, "shutdown", besides=child.id)

    # -- exit signals ---------------------------------------------------------------------------------------

    def send_exit(self, child: Child, reason: Any) -> None:
        """Send an exit signal to a child, and see to it that one that does not trap ends."""
        child.told = True
        self._abort_handover(child.id, reason)
        peer = self.context.peer(child.id)
        if peer is None and not os.path.exists(self.directory.box(child.id)):
            # somebody has removed the node's directory: nothing reaches it any more
            self.kill(child)
        elif peer is not None and child.id not in self.context.dying:
            # the launcher stops a root in the name of the program that is its parent
            self.context.signal_exit(peer, reason, child.job.parent if child.job is not None else 0)
        if child.box is not None and not child.box.flag(boxes.TRAP_EXIT):
            self.doom(child.id, reason)

    def _abort_handover(self, process_id: int, reason: Any) -> None:
        if (handover := self.handovers.get(process_id)) is not None:
            handover.fail(reason)

    def doom(self, victim: int, reason: Any) -> None:
        """A child was sent an untrapped exit: kill it if it has not ended in half a second."""
        child = self.children.get(victim)
        if child is None or child.doom is not None or reason == "normal":
            return

        def execute() -> None:
            if self.children.get(victim) is not child or child.box is None:
                return
            if child.box.flag(boxes.TRAP_EXIT):
                child.doom = None
                return
            kernel.send_signal(child.pidfd, signal.SIGKILL)

        if child.box is not None and child.box.flag(boxes.TRAP_EXIT):
            return
        self._abort_handover(victim, reason)
        child.doom = (reason,)
        self.context.poller.at(poller.now() + DOOM_SECONDS, execute)

    def kill(self, child: Child) -> None:
        """End a child untrappably; its reason is "killed"."""
        child.told = True
        if child.box is not None:
            child.box.set_flag(boxes.KILL_REQUESTED)
        if child.pidfd >= 0:
            kernel.send_signal(child.pidfd, signal.SIGKILL)

    def execute(self, child: Child, reason: Any) -> bool:
        """End a child untrappably for a reason of this process's own; say whether that is what it will have died of.

        Not when it has been sent something that ends it already.
        """
        if child.doom is not None or child.pidfd < 0 or child.box is None or child.box.flag(boxes.KILL_REQUESTED):
            return False
        child.words["sentence"] = reason
        self._abort_handover(child.id, reason)
        return kernel.send_signal(child.pidfd, signal.SIGKILL)

    def put_off(self, errand: Callable[[], object]) -> None:
        """Have something done, that nobody waits for, when all is done that somebody waits for."""
        self._put_off.append(errand)

    @property
    def has_errands(self) -> bool:
        """Whether something was put off."""
        return bool(self._put_off)

    def catch_up(self) -> None:
        """Do what was put off. The owner calls it when it has nothing else to do."""
        while self._put_off:
            self._put_off.popleft()()

    def place_of(self, child: Child) -> places.Place:
        """Give the place where a child keeps its state."""
        assert child.job is not None
        return places.place_of(self.directory, child.job, child.id)


def import_ahead(module: str) -> None:
    """Import a module of the library that children turn out to need, once for all that are forked later."""
    if module.startswith("otp_runtime.") and module not in sys.modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
            current.note_import_ahead()
            gc.freeze()
