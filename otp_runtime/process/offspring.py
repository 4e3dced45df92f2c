"""Being an OS parent: fork, hear of the start, reap, judge, free names, clear up after the dead.

Supervisors and the launcher are OS parents; only a parent sees how a child ended. All of them are child
subreapers: what a dead process leaves behind (its subprocesses, or the servers of a supervisor that was killed)
falls to the nearest living one, which ends it. Nothing here waits: a start under way, a death, an orphan that is
given a second to end are all states that the owner's loop moves on.

Order of a death: reaped → leftovers ended → the owner decides → fate sealed → names freed or marked as coming
back → record, verdict (`judge_buried`) → from then on watchers conclude. A spare is given its job before the record:
it boots meanwhile. A fork comes after the verdict: what follows a fork is slow, as each page that is written is copied.
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

from otp_runtime.core.names import ComingBack, Held
from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe, poller, tables
from otp_runtime.host.box import Box
from otp_runtime.host.fates import DEAD
from otp_runtime.host.open_files import command_of
from otp_runtime.process import boot, current, death, mail, names, places, recordings, reports
from otp_runtime.process.context import reason_of_status
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.looks import Looks
from otp_runtime.process.mail_holding import HeldMailboxes
from otp_runtime.process.nursery import Nursery
from otp_runtime.process.spares import Spares, sweep
from otp_runtime.process.vitals import Vitals
from otp_runtime.process.watchman import Watchman, gather
from otp_runtime.terms.reason import Crash, Signalled, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otp_runtime.core.names import Owner
    from otp_runtime.process.context import Context
    from otp_runtime.process.handover import Handover
    from otp_runtime.process.job import Job
    from otp_runtime.terms.pid import Pid

DOOM_SECONDS = 0.5
DEPART_SECONDS = 1.0
"""What a process that was handed over has to end: what it registered with `atexit`, no more."""

ORPHAN_SECONDS = 1.0
KEPT_DEAD = 64
LAST_SEGMENT = (1 << 64) - 1


class Child:
    """A process this one forked, or one that fell to it."""

    __slots__ = (
        "_box",
        "_box_path",
        "boot_data",
        "boot_fd",
        "died_at",
        "doom",
        "handed",
        "hang",
        "heirs",
        "id",
        "job",
        "limit",
        "on_word",
        "os_process",
        "outcome",
        "pid",
        "pidfd",
        "root",
        "rusage",
        "status",
        "told",
        "words",
    )

    def __init__(self, process_id: int, pid: Pid, job: Job | None, box: Box | None) -> None:
        """See `Offspring.start`."""
        self.id = process_id
        self.pid = pid
        self.job = job
        self._box = box
        self._box_path = None if box is None else box.path
        self.os_process = kernel.OsProcess(0, 0)
        self.pidfd = -1
        self.boot_fd = -1
        self.boot_data = b""
        self.outcome: list[Any] | None = None
        self.doom: tuple[Any] | None = None
        self.hang: tuple[str, str] | None = None
        self.limit: poller.TimerHandle | None = None
        self.handed: list[str] = []

        self.on_word: Callable[[list[Any]], None] | None = None
        self.heirs: set[int] = set()
        self.root: Child | None = None
        self.status = 0
        self.told = False
        self.died_at = 0.0
        self.rusage: Any = None
        self.words: dict[str, Any] = {}

    @property
    def box(self) -> Box | None:
        """Its black box, mapped again if it was at rest; None of a process that is not the node's."""
        if self._box is None and self._box_path is not None:
            self._box = Box.open(self._box_path)
        return self._box

    def settle(self, job: Job, box: Box) -> None:
        """A spare is used: from now on it is a child like others."""
        self.job, self._box, self._box_path = job, box, box.path
        self.on_word = None
        self.words.clear()

    def rest(self) -> None:
        """Unmap the box until it is asked for: every mapping makes every later fork dearer."""
        if self._box is not None:
            self._box.close()
            self._box = None

    def has_finished(self) -> bool:
        """Whether it is a task that has given its value, and is about to end. Leaves the box at rest if it was."""
        at_rest = self._box is None
        finished = self.box is not None and bool(self.box.flag(boxes.FINISHED))
        if at_rest:
            self.rest()
        return finished

    def close_box(self) -> None:
        """Unmap the box for good."""
        self.rest()
        self._box_path = None


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
        self._by_os_pid: dict[int, Child] = {}
        self._serve_supervisor = serve_supervisor
        self._on_word = on_word
        self._on_death = on_death
        self._kept: list[int] = []
        self.orphan_seconds = ORPHAN_SECONDS
        self.vitals = Vitals(self)
        self._buried: list[tuple[Child, Any]] = []
        self._put_off: collections.deque[Callable[[], object]] = collections.deque()
        self._reaped: list[Child] = []
        self.handovers: dict[int, Handover] = {}
        self.nursery = Nursery(self)
        self.spares = Spares(self)
        self.looks = Looks(self)
        self.watchman = Watchman(self)
        self.mailboxes = HeldMailboxes(context.directory)
        self.is_halting = False
        """Whether the owner is about to end: nobody restarts what it says is coming back."""
        reports.prepare(self.directory)
        context.on_doom = self.doom

    # -- start ----------------------------------------------------------------------------------------------

    def start(self, job: Job) -> Child | Crash:
        """Fork a process for `job`; gives a Crash when the system has no room for one more."""
        if self._may_be_a_spare(job) and (spare := self.spares.take(job)) is not None:
            self.listen_to_boot(spare)
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

    def _may_be_a_spare(self, job: Job) -> bool:
        """Say whether a spare can do a job: it has older code than a zygote, and a mailbox of its own."""
        return not (job.mode == "supervisor" or self.nursery.is_used or self.mailboxes.has(job.place))

    def _fork(self, child: Child, job: Job, box: Box, pipe: tuple[int, int]) -> Child:
        here = kernel.own_process()
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
        self._bury(child)

    def hear_births(self) -> None:
        """Before looking who is a stranger here: take in the births that were told already."""
        for child in self.nursery.unborn():
            self._hear(child)

    def adopt(self, child: Child) -> None:
        """Watch a process of which this one is the OS parent."""
        child.pidfd = os.pidfd_open(child.os_process.pid)
        self.children[child.id] = child
        self._by_os_pid[child.os_process.pid] = child
        self.context.poller.watch(child.pidfd, poller.READABLE, lambda _events: self._reap(child))

    def _set_limit(self, child: Child, seconds: float) -> None:
        def too_late() -> None:
            child.outcome = ["error", "timeout"]
            self.kill(child)

        child.limit = self.context.poller.at(poller.now() + seconds, too_late)

    def _hear(self, child: Child) -> None:
        """Read the boot pipe."""
        self._read_boot_pipe(child)
        if child.outcome is not None and child.outcome[0] == "ok":
            self.close_boot_pipe(child)
            self._on_word(child, child.outcome)
            self.looks.begin(child)
            self.put_off(functools.partial(self.vitals.started, child))
            child.rest()

    def _read_boot_pipe(self, child: Child) -> None:
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
        self.context.poller.at(poller.now() + DEPART_SECONDS, lambda: self._end_orphan(old))

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
        if peer is not None and child.id not in self.context.dying:
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

    # -- death ----------------------------------------------------------------------------------------------

    def _reap(self, child: Child) -> None:
        self.context.poller.forget(child.pidfd)
        self.vitals.dying(child)
        try:
            _pid, child.status, child.rusage = os.wait4(child.os_process.pid, 0)
        except ChildProcessError:
            child.status = 0
        child.died_at = time.time()
        self.watchman.forget(child)
        os.close(child.pidfd)
        child.pidfd = -1
        self._by_os_pid.pop(child.os_process.pid, None)
        if (handover := self.handovers.get(child.id)) is not None:
            handover.ended("noproc")
        self._read_boot_pipe(child)
        self.close_boot_pipe(child)
        if child.outcome is None and child.box is not None and child.box.flag(boxes.READY):
            # killed between being ready and saying so
            child.outcome = ["ok"]
        if child.limit is not None:
            child.limit.cancel()
        self._take_in_orphans(child)
        if not child.heirs:
            self._bury(child)

    def _take_in_orphans(self, dead: Child) -> None:
        """Look who fell to this process, and end them: what a dead process started must not outlive it."""
        self.hear_births()
        if kernel.count_children_of(os.getpid()) == len(self._by_os_pid):
            # as many as are known here: among two thousand, that is told without a look at each
            return
        for os_pid in kernel.children_of(os.getpid()):
            if os_pid in self._by_os_pid:
                continue
            start = kernel.start_time(os_pid)
            if start is None:
                continue
            process = kernel.OsProcess(os_pid, start)
            box = self._box_of(process)
            if box is not None and self._is_anothers(box.identity.reaper, dead):
                box.close()
                continue
            self._take_in(dead, process, box)

    def _is_anothers(self, reaper: int, dead: Child) -> bool:
        """Say whether an orphan, of OS parent `reaper`, is left by a child that is dead too and will be reaped next."""
        for parent in (reaper, *self._parents_of(reaper)):
            if (child := self.children.get(parent)) is not None:
                return child is not dead and child.pidfd >= 0
        return False

    def _parents_of(self, process_id: int) -> Iterator[int]:
        """Give the OS parent of a process, the parent of that, and so on, as their boxes name them."""
        while process_id > LAUNCHER_ID and (box := Box.open(self.directory.box(process_id))) is not None:
            reaper = box.identity.reaper
            box.close()
            if reaper == process_id:
                return
            yield reaper
            process_id = reaper

    def _take_in(self, dead: Child, process: kernel.OsProcess, box: Box | None) -> None:
        process_id = box.identity.id if box is not None else -process.pid
        orphan = Child(process_id, self.context.pid_of(process_id), None, box)
        orphan.os_process = process
        orphan.root = dead.root or dead
        heir_of = dead

        def gone() -> None:
            heir_of.heirs.discard(process.pid)
            heir_of.heirs |= orphan.heirs
            if not heir_of.heirs and heir_of.pidfd < 0:
                self._bury(heir_of)

        dead.heirs.add(process.pid)
        orphan.words["gone"] = gone
        self.adopt(orphan)
        if box is None:
            if (command := command_of(process.pid)) is not None:
                left = orphan.root.words.setdefault("subprocesses", [])
                left.append({"os_pid": process.pid, "command": command})
            kernel.send_signal(orphan.pidfd, signal.SIGKILL)
        else:
            # one second for the whole subtree, however deep it is
            deadline = orphan.root.words.setdefault("deadline", poller.now() + self.orphan_seconds)
            self.context.poller.at(deadline, lambda: self._end_orphan(orphan))

    def _end_orphan(self, orphan: Child) -> None:
        if orphan.pidfd >= 0:
            self.kill(orphan)

    def _box_of(self, process: kernel.OsProcess) -> Box | None:
        for process_id in self.directory.process_ids():
            box = Box.open(self.directory.box(process_id))
            if box is None:
                continue
            if box.identity.os_process == process and not box.flag(boxes.JUDGED):
                return box
            box.close()
        return None

    def _bury(self, child: Child) -> None:
        """All that the dead left is gone: let the owner decide, and free its names. A successor can start now."""
        self.children.pop(child.id, None)
        self.vitals.forget(child.id)
        if child.box is None:
            self._bury_without_box(child)
            return
        reason = self._cause(child)
        if child.job is not None:
            self._see_to_state(child, reason)
        if child.job is not None and child.box.flag(boxes.MAILBOX):
            with self.mailboxes.burying(self.place_of(child)):
                self._conclude(child, reason, has_mail=True)
        else:
            self._conclude(child, reason, has_mail=False)
        if child.job is None:
            child.words["gone"]()
        else:
            self._reaped.append(child)

    def _conclude(self, child: Child, reason: Any, *, has_mail: bool) -> None:
        """Let the owner decide; do what its successor, and who looks for its name, meets first."""
        assert child.box is not None
        coming_back = False if child.job is None else self._on_death(child, reason)
        is_kept = coming_back and (is_abnormal(reason) or child.told)
        waits = has_mail and coming_back and not self.is_halting
        if waits and not is_kept:
            self.mailboxes.discard(self.place_of(child), child.id)
        # first the fate: whoever gets the name then finds no table of the dead in its place
        self._seal_fate(child, coming_back)
        self._free_names(child, coming_back, child.id if waits else 0)
        if has_mail:
            self._see_to_mail(child, reason, is_kept=is_kept, waits=waits)
        self._buried.append((child, reason))
        if child.job is None:
            # nobody starts anything in its place, and the burial of its supervisor waits for it
            self._judge_buried(*self._buried.pop())

    def judge_buried(self) -> None:
        """Do for the dead what need not be done before their successors are started: clear up, and judge.

        The owner calls it as soon as it has started what is to be started now, and has written its records: whoever
        waits for a death waits for this.
        """
        while self._buried:
            self._judge_buried(*self._buried.pop(0))

    def put_off(self, errand: Callable[[], object]) -> None:
        """Have something done, that nobody waits for, when all is done that somebody waits for."""
        self._put_off.append(errand)

    def catch_up(self) -> None:
        """Do what was put off. The owner calls it when it has nothing else to do."""
        while self._put_off:
            self._put_off.popleft()()

    def _judge_buried(self, child: Child, reason: Any) -> None:
        assert child.box is not None
        if child.box.flag(boxes.THREADS):
            judge_threads(self.context, child.os_process, reason, besides=child.id)
        self._judge(child, reason)
        self.directory.forget_mailbox(child.id, but_mail=bool(child.box.flag(boxes.MAILBOX)))
        sweep_segments(self.context, child.id)
        if child.box.kind == boxes.KIND_SUPERVISOR:
            self._inherit_kept(child.id)

    def _bury_without_box(self, child: Child) -> None:
        """A subprocess of the dead is gone; or a child, after the directory of the node."""
        if child.job is None:
            child.words["gone"]()
            return
        lost = f"its black box {self.directory.box(child.id)} is gone or no box any more: what it said is lost"
        child.words.setdefault("notes", []).append(lost)
        reason = reason_of_status(child.status, killed=child.told, oom=False)
        coming_back = self._on_death(child, reason)
        self.directory.seal_fate(child.id, self.context.id if coming_back else DEAD)
        for name, owner in names.all_names(self.directory).items():
            if owner == Held(child.id):
                self._free(child, name, owner, 0, coming_back=coming_back)
        self.directory.forget(child.id)
        self._reaped.append(child)

    def _see_to_state(self, child: Child, reason: Any) -> None:
        """Forget what a child kept that ended normally of its own accord; of any other, count how it fared with it."""
        place = self.place_of(child)
        if is_abnormal(reason) and not (child.told and reason == "killed"):
            recordings.set_aside(self.directory, place, _name_of(child), child.id, child.died_at)
        if child.box is not None and child.box.flag(boxes.KEEPS) and not os.path.exists(places.file_of(place)):
            self.context.node.warn(f"{_name_of(child)}: what it kept is gone: somebody removed {places.file_of(place)}")
        if not (is_abnormal(reason) or child.told):
            if child.outcome is not None and child.outcome[0] == "ok":
                places.forget(place)
        elif (state := places.note_death(place, told=child.told)) is not None:
            child.words["last_good_state"] = death.describe_state(state)

    def _see_to_mail(self, child: Child, reason: Any, *, is_kept: bool, waits: bool) -> None:
        """Keep what `waits` for a child that will be restarted; see to what it had in hand when it died."""
        assert child.box is not None
        place = self.place_of(child)
        if is_abnormal(reason) or child.told:
            self.mailboxes.note_death(place, reason, child.died_at, was_ready=bool(child.box.flag(boxes.READY)))
        if is_abnormal(reason) and not (child.told or waits):
            # the owner gives up because of that, or never starts it again: no successor will see what was in hand
            mail.bury_orphan(self.context, child.box, place)
        if waits:
            self.mailboxes.wait(place, child.id, has_name=bool(child.box.name))
        else:
            self.mailboxes.let_go(place, is_kept=is_kept)

    def place_of(self, child: Child) -> places.Place:
        """Give the place where a child keeps its state."""
        assert child.job is not None
        return places.place_of(self.directory, child.job, child.id)

    def take_reaped(self) -> list[Child]:
        """Give the children whose deaths were judged since the last call: now the owner may act."""
        reaped, self._reaped = self._reaped, []
        return reaped

    def _cause(self, child: Child) -> Any:
        assert child.box is not None
        spoken = self._last_words(child)
        if child.hang is not None:
            gather(child, self.directory.native_stack(child.id))
            if spoken is not None:
                self.context.node.warn(f"{child.pid!r} {child.words['hang']['found']}: killed")
        if spoken is not None or child.hang is not None:
            return child.hang if spoken is None else spoken
        killed = bool(child.box.flag(boxes.KILL_REQUESTED))
        signum = os.WTERMSIG(child.status) if os.WIFSIGNALED(child.status) else 0
        by_kill = signum == signal.SIGKILL
        if by_kill and not killed:
            if "sentence" in child.words:
                return child.words["sentence"]
            if child.doom is not None:
                return child.doom[0]
        was_oom = signum != 0 and not killed and self.vitals.explain(child, signum)
        return reason_of_status(child.status, killed=killed, oom=was_oom)

    def _last_words(self, child: Child) -> Any | None:
        assert child.box is not None
        data = child.box.last_words(self.directory.words(child.id))
        if data is None:
            return None
        try:
            said = self.context.codec.decode(data)
            child.words.pop("open_files_at", None)  # it looked itself
            child.words.update({key: value for key, value in said.items() if key != "reason"})
            return said["reason"]
        except (CodecError, KeyError, TypeError, AttributeError):
            return Signalled("unknown")

    def _free_names(self, child: Child, coming_back: bool, mailbox: int) -> None:
        """Free what names the dead had, or mark them as coming back.

        An orphan's name stays marked until its supervisor is buried: then it is known whether that comes back.
        """
        assert child.box is not None
        if child.root is not None:
            coming_back = True
        owners: dict[str, Owner] = {child.box.name: Held(child.id)} if child.box.name else {}
        if child.box.kind == boxes.KIND_SUPERVISOR:
            # what it was bringing back, and what its children had, goes with it or comes back with it
            owners |= {
                name: owner
                for name, owner in names.all_names(self.directory).items()
                if owner == ComingBack(child.id) or (isinstance(owner, Held) and child.id in self._parents_of(owner.id))
            }
            owners |= dict.fromkeys(child.words.get("names", ()), ComingBack(self.context.id))
        for name, owner in owners.items():
            if coming_back and child.root is not None:
                child.root.words.setdefault("names", set()).add(name)
            self._free(child, name, owner, mailbox, coming_back=coming_back)

    def _free(self, child: Child, name: str, owner: Owner, mailbox: int, *, coming_back: bool) -> None:
        if coming_back:
            names.hand_to_supervisor(self.directory, name, owner, self.context.id, mailbox=mailbox)
            child.handed.append(name)
        else:
            names.unregister(self.directory, name, owner)

    def _seal_fate(self, child: Child, coming_back: bool) -> None:
        """Say that a child is dead, and who is bringing it back; an orphan's fate is that of its supervisor."""
        assert child.box is not None
        fate = self.context.id if coming_back else DEAD
        if child.job is None and child.box.identity.reaper > LAUNCHER_ID:
            fate = child.box.identity.reaper
        self.directory.seal_fate(child.id, fate)
        if child.box.kind == boxes.KIND_SUPERVISOR or child.box.flag(boxes.TABLES):
            tables.sweep(self.directory)

    def release(self, child: Child) -> None:
        """A dead child's names were kept for its successor, and there will be none: free them."""
        self.directory.seal_fate(child.id, DEAD)
        for name in child.handed:
            names.unregister(self.directory, name, ComingBack(self.context.id))

    def _judge(self, child: Child, reason: Any) -> None:
        assert child.box is not None
        elsewhere = f"{self.directory.box(child.id)}.verdict"
        try:
            child.box.judge(self.context.codec.encode(reason), elsewhere)
        except (CodecError, OSError):
            child.box.judge(b"", elsewhere)
        self._keep(child.id)

    def _inherit_kept(self, supervisor: int) -> None:
        """Take over the boxes of the dead that a supervisor kept: they too are forgotten some time.

        One without a verdict is of a child that it had not quite started, or that it reaped and did not come to judge.
        """
        for process_id in self.directory.process_ids():
            box = Box.open(self.directory.box(process_id))
            if box is None:
                continue
            if box.identity.reaper == supervisor:
                if not box.flag(boxes.JUDGED):
                    self.directory.forget_mailbox(process_id)
                    box.judge(self.context.codec.encode("killed"), f"{self.directory.box(process_id)}.verdict")
                self._keep(process_id)
            box.close()
        sweep(self.directory, supervisor)

    def _keep(self, process_id: int) -> None:
        """Keep the boxes of the latest dead for those who come late; forget the oldest."""
        self._kept.append(process_id)
        if len(self._kept) > KEPT_DEAD:
            oldest = self._kept.pop(0)
            self.directory.forget(oldest)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.directory.box(oldest)}.verdict")


def import_ahead(module: str) -> None:
    """Import a module of the library that children turn out to need, once for all that are forked later."""
    if module.startswith("otp_runtime.") and module not in sys.modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
            gc.freeze()


def _name_of(child: Child) -> str:
    return repr(child.pid) if child.box is None else child.box.name or child.box.label


def sweep_segments(context: Context, dead: int) -> None:
    """Have the receivers of a dead process's large terms drop those that no frame names: it was killed in between."""
    for receiver in context.directory.receivers_of_segments(dead):
        peer = context.peer(receiver)
        if peer is not None and receiver not in context.dying:
            context.post_frame(peer, pipe.abort(dead, LAST_SEGMENT))


def judge_threads(context: Context, process: kernel.OsProcess, reason: Any, besides: int = 0) -> None:
    """Write the verdict of every thread of an OS process that died, and free their names."""
    directory = context.directory
    for process_id in directory.process_ids():
        box = Box.open(directory.box(process_id)) if process_id != besides else None
        if box is None:
            continue
        if box.identity.os_process == process and not box.flag(boxes.JUDGED):
            if box.name:
                names.unregister(directory, box.name, Held(process_id))
            directory.forget_mailbox(process_id)
            sweep_segments(context, process_id)
            directory.seal_fate(process_id, DEAD)
            box.judge(context.codec.encode(reason), f"{directory.box(process_id)}.verdict")
        box.close()


def report(offspring: Offspring, child: Child, reason: Any, **facts: Any) -> None:
    """Write the record of a death now, and report it when all else is done: who waits for it needs the record only."""
    record = keep_record(offspring, child, reason, **facts)
    offspring.put_off(functools.partial(death.log, offspring.directory, record))


def keep_record(offspring: Offspring, child: Child, reason: Any, **facts: Any) -> death.Death:
    """Write the record of a death; one that was written before is replaced."""
    if reason == "shutdown" and child.box is not None and child.box.kind == boxes.KIND_SUPERVISOR:
        gave_up = [one for one in death.records(offspring.directory) if one.id == child.id]
        child.words.setdefault("notes", []).extend(map(death.first_lines_of, gave_up))
    record = death.make_record(offspring.directory, child, reason, facts)
    death.keep(offspring.directory, record)
    offspring.put_off(functools.partial(death.forget_oldest, offspring.directory, record))
    return record
