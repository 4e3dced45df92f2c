"""The end of a child: reap it, end what it left, have its owner decide, free its names, record the death, judge it.

Order of a death: reaped → leftovers ended → the owner decides → fate sealed → names freed or marked as coming
back → record, verdict (`judge_buried`) → from then on watchers conclude. A spare is given its job before the record:
it boots meanwhile. A fork comes after the verdict: what follows a fork is slow, as each page that is written is copied.

All OS parents are child subreapers: what a dead process leaves behind (its subprocesses, or the servers of a supervisor
that was killed) falls to the nearest living one, which ends it before it buries whose it was.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.core.names import ComingBack, Held
from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe, poller, tables
from otp_runtime.host.box import Box
from otp_runtime.host.fates import DEAD
from otp_runtime.host.open_files import command_of
from otp_runtime.process import death, mail, names, places, recordings
from otp_runtime.process.child import Child
from otp_runtime.process.context import reason_of_status
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.spares import sweep
from otp_runtime.process.template import TITLE as TEMPLATE_TITLE
from otp_runtime.process.watchman import gather
from otp_runtime.terms.reason import Signalled, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otp_runtime.core.names import Owner
    from otp_runtime.process.context import Context
    from otp_runtime.process.offspring import Offspring

ORPHAN_SECONDS = 1.0
KEPT_DEAD = 64
LAST_SEGMENT = (1 << 64) - 1


class Burials:
    """The dead of one OS parent, from the moment they are reaped."""

    def __init__(self, offspring: Offspring, on_death: Callable[[Child, Any], bool]) -> None:
        """`on_death`: see `Offspring`."""
        self._offspring = offspring
        self._child_count = kernel.ChildCount()
        self._context = offspring.context
        self._directory = offspring.directory
        self._on_death = on_death
        self._kept: list[int] = []
        self._buried: list[tuple[Child, Any]] = []
        self._reaped: list[Child] = []
        self.orphan_seconds = ORPHAN_SECONDS
        self.is_halting = False
        """Whether the owner is about to end: nobody restarts what it says is coming back."""

    def reap(self, child: Child) -> None:
        """A child is dead: take it in, and bury it when nothing is left of it."""
        self._context.poller.forget(child.pidfd)
        self._offspring.vitals.dying(child)
        try:
            _pid, child.status, child.rusage = os.wait4(child.os_process.pid, 0)
        except ChildProcessError:
            child.status = 0
        child.died_at = time.time()
        if child.comes_back and child.status and not child.told and child.job is not None and not self.is_halting:
            # it is most probably started again: what can be done for that meanwhile is done by whoever will be it
            self._offspring.announce(child.job)
        self._offspring.watchman.forget(child)
        os.close(child.pidfd)
        child.pidfd = -1
        self._offspring.by_os_pid.pop(child.os_process.pid, None)
        if (handover := self._offspring.handovers.get(child.id)) is not None:
            handover.ended("noproc")
        self._offspring.read_boot_pipe(child)
        self._offspring.close_boot_pipe(child)
        if child.outcome is None and child.box is not None and child.box.flag(boxes.READY):
            # killed between being ready and saying so
            child.outcome = ["ok"]
        if child.limit is not None:
            child.limit.cancel()
        self._take_in_orphans(child)
        if not child.heirs:
            self.bury(child)

    def _take_in_orphans(self, dead: Child) -> None:
        """Look who fell to this process, and end them: what a dead process started must not outlive it."""
        self._offspring.hear_births()
        if self._child_count.is_just(len(self._offspring.by_os_pid)):
            return
        for os_pid in kernel.children_of(os.getpid()):
            if os_pid in self._offspring.by_os_pid:
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
            if (child := self._offspring.children.get(parent)) is not None:
                return child is not dead and child.pidfd >= 0
        return False

    def _parents_of(self, process_id: int) -> Iterator[int]:
        """Give the OS parent of a process, the parent of that, and so on, as their boxes name them."""
        while process_id > LAUNCHER_ID and (box := Box.open(self._directory.box(process_id))) is not None:
            reaper = box.identity.reaper
            box.close()
            if reaper == process_id:
                return
            yield reaper
            process_id = reaper

    def _take_in(self, dead: Child, process: kernel.OsProcess, box: Box | None) -> None:
        process_id = box.identity.id if box is not None else -process.pid
        orphan = Child(process_id, self._context.pid_of(process_id), None, box)
        orphan.os_process = process
        orphan.root = dead.root or dead
        heir_of = dead

        def gone() -> None:
            heir_of.heirs = heir_of.heirs - {process.pid} | orphan.heirs
            if not heir_of.heirs and heir_of.pidfd < 0:
                self.bury(heir_of)

        dead.heirs |= {process.pid}
        orphan.words["gone"] = gone
        self._offspring.adopt(orphan)
        if box is None:
            is_helper = kernel.title_of(process.pid) == TEMPLATE_TITLE
            if not is_helper and (command := command_of(process.pid)) is not None:
                left = orphan.root.words.setdefault("subprocesses", [])
                left.append({"os_pid": process.pid, "command": command})
            kernel.send_signal(orphan.pidfd, signal.SIGKILL)
        else:
            # one second for the whole subtree, however deep it is
            deadline = orphan.root.words.setdefault("deadline", poller.now() + self.orphan_seconds)
            self._context.poller.at(deadline, lambda: self.end_orphan(orphan))

    def end_orphan(self, orphan: Child) -> None:
        """End what has had its time to end."""
        if orphan.pidfd >= 0:
            self._offspring.kill(orphan)

    def _box_of(self, process: kernel.OsProcess) -> Box | None:
        for process_id in self._directory.process_ids():
            box = Box.open(self._directory.box(process_id))
            if box is None:
                continue
            if box.identity.os_process == process and not box.flag(boxes.JUDGED):
                return box
            box.close()
        return None

    def bury(self, child: Child) -> None:
        """All that the dead left is gone: let the owner decide, and free its names. A successor can start now."""
        self._offspring.children.pop(child.id, None)
        self._offspring.vitals.forget(child.id)
        if child.box is None:
            self._bury_without_box(child)
            return
        reason = self._cause(child)
        if child.job is not None:
            self._see_to_state(child, reason)
        if child.job is not None and child.box.flag(boxes.MAILBOX):
            with self._offspring.mailboxes.burying(self._offspring.place_of(child)):
                self._conclude(child, reason, has_mail=True)
        else:
            self._conclude(child, reason, has_mail=False)
        if child.job is None:
            child.words["gone"]()
            # what is to be called then knows the child: it, and with it what is mapped, would wait for a collection
            child.close_box()
        else:
            self._reaped.append(child)

    def _conclude(self, child: Child, reason: Any, *, has_mail: bool) -> None:
        """Let the owner decide; do what its successor, and who looks for its name, meets first."""
        assert child.box is not None
        coming_back = False if child.job is None else self._on_death(child, reason)
        is_kept = coming_back and (is_abnormal(reason) or child.told)
        waits = has_mail and coming_back and not self.is_halting
        if waits and not is_kept:
            self._offspring.mailboxes.discard(self._offspring.place_of(child), child.id)
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

    def _judge_buried(self, child: Child, reason: Any) -> None:
        assert child.box is not None
        if child.box.flag(boxes.THREADS):
            judge_threads(self._context, child.os_process, reason, besides=child.id)
        self._judge(child, reason)
        self._directory.forget_mailbox(child.id, but_mail=bool(child.box.flag(boxes.MAILBOX)))
        sweep_segments(self._context, child.id)
        if child.box.kind == boxes.KIND_SUPERVISOR:
            self._inherit_kept(child.id)

    def _bury_without_box(self, child: Child) -> None:
        """A subprocess of the dead is gone; or a child, after the directory of the node."""
        if child.job is None:
            child.words["gone"]()
            return
        lost = f"its black box {self._directory.box(child.id)} is gone or no box any more: what it said is lost"
        child.words.setdefault("notes", []).append(lost)
        reason = reason_of_status(child.status, killed=child.told, oom=False)
        coming_back = self._on_death(child, reason)
        self._directory.seal_fate(child.id, self._context.id if coming_back else DEAD)
        for name, owner in names.all_names(self._directory).items():
            if owner == Held(child.id):
                self._free(child, name, owner, 0, coming_back=coming_back)
        self._directory.forget(child.id)
        self._reaped.append(child)

    def _see_to_state(self, child: Child, reason: Any) -> None:
        """Forget what a child kept that ended normally of its own accord; of any other, count how it fared with it."""
        place = self._offspring.place_of(child)
        if is_abnormal(reason) and not (child.told and reason == "killed"):
            recordings.set_aside(self._directory, place, _name_of(child), child.id, child.died_at)
        kept = places.file_of(place)
        if child.box is not None and child.box.flag(boxes.KEEPS) and not os.path.exists(kept):
            self._context.node.warn(f"{_name_of(child)}: what it kept is gone: somebody removed {kept}")
        if not (is_abnormal(reason) or child.told):
            if child.outcome is not None and child.outcome[0] == "ok":
                places.forget(place)
        elif (state := places.note_death(place, told=child.told)) is not None:
            child.words["last_good_state"] = death.describe_state(state)

    def _see_to_mail(self, child: Child, reason: Any, *, is_kept: bool, waits: bool) -> None:
        """Keep what `waits` for a child that will be restarted; see to what it had in hand when it died."""
        assert child.box is not None
        place, mailboxes = self._offspring.place_of(child), self._offspring.mailboxes
        if is_abnormal(reason) or child.told:
            mailboxes.note_death(place, reason, child.died_at, was_ready=bool(child.box.flag(boxes.READY)))
        if is_abnormal(reason) and not (child.told or waits):
            # the owner gives up because of that, or never starts it again: no successor will see what was in hand
            mail.bury_orphan(self._context, child.box, place)
        if waits:
            mailboxes.wait(place, child.id, has_name=bool(child.box.name))
        else:
            mailboxes.let_go(place, is_kept=is_kept)

    def take_reaped(self) -> list[Child]:
        """Give the children whose deaths were judged since the last call: now the owner may act."""
        reaped, self._reaped = self._reaped, []
        return reaped

    def _cause(self, child: Child) -> Any:
        assert child.box is not None
        spoken = self._last_words(child)
        if child.hang is not None:
            gather(child, self._directory.native_stack(child.id))
            if spoken is not None:
                self._context.node.warn(f"{child.pid!r} {child.words['hang']['found']}: killed")
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
        was_oom = signum != 0 and not killed and self._offspring.vitals.explain(child, signum)
        return reason_of_status(child.status, killed=killed, oom=was_oom)

    def _last_words(self, child: Child) -> Any | None:
        assert child.box is not None
        data = child.box.last_words(self._directory.words(child.id))
        if data is None:
            return None
        try:
            said = self._context.codec.decode(data)
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
                for name, owner in names.all_names(self._directory).items()
                if owner == ComingBack(child.id) or (isinstance(owner, Held) and child.id in self._parents_of(owner.id))
            }
            owners |= dict.fromkeys(child.words.get("names", ()), ComingBack(self._context.id))
        for name, owner in owners.items():
            if coming_back and child.root is not None:
                child.root.words.setdefault("names", set()).add(name)
            self._free(child, name, owner, mailbox, coming_back=coming_back)

    def _free(self, child: Child, name: str, owner: Owner, mailbox: int, *, coming_back: bool) -> None:
        if coming_back:
            names.hand_to_supervisor(self._directory, name, owner, self._context.id, mailbox=mailbox)
            child.handed.append(name)
        else:
            names.unregister(self._directory, name, owner)

    def _seal_fate(self, child: Child, coming_back: bool) -> None:
        """Say that a child is dead, and who is bringing it back; an orphan's fate is that of its supervisor."""
        assert child.box is not None
        fate = self._context.id if coming_back else DEAD
        if child.job is None and child.box.identity.reaper > LAUNCHER_ID:
            fate = child.box.identity.reaper
        self._directory.seal_fate(child.id, fate)
        if child.box.kind == boxes.KIND_SUPERVISOR or child.box.flag(boxes.TABLES):
            tables.sweep(self._directory)

    def release(self, child: Child) -> None:
        """A dead child's names were kept for its successor, and there will be none: free them."""
        self._directory.seal_fate(child.id, DEAD)
        for name in child.handed:
            names.unregister(self._directory, name, ComingBack(self._context.id))

    def _judge(self, child: Child, reason: Any) -> None:
        assert child.box is not None
        elsewhere = f"{self._directory.box(child.id)}.verdict"
        try:
            child.box.judge(self._context.codec.encode(reason), elsewhere)
        except (CodecError, OSError):
            child.box.judge(b"", elsewhere)
        self._keep(child.id)

    def _inherit_kept(self, supervisor: int) -> None:
        """Take over the boxes of the dead that a supervisor kept: they too are forgotten some time.

        One without a verdict is of a child that it had not quite started, or that it reaped and did not come to judge;
        of one with a verdict it may not have come to clear up.
        """
        for process_id in self._directory.process_ids():
            box = Box.open(self._directory.box(process_id))
            if box is None:
                continue
            if box.identity.reaper == supervisor:
                is_judged = bool(box.flag(boxes.JUDGED))
                self._directory.forget_mailbox(process_id, but_mail=is_judged and bool(box.flag(boxes.MAILBOX)))
                if not is_judged:
                    box.judge(self._context.codec.encode("killed"), f"{self._directory.box(process_id)}.verdict")
                self._keep(process_id)
            box.close()
        sweep(self._directory, supervisor)

    def _keep(self, process_id: int) -> None:
        """Keep the boxes of the latest dead for those who come late; forget the oldest."""
        self._kept.append(process_id)
        if len(self._kept) > KEPT_DEAD:
            oldest = self._kept.pop(0)
            self._directory.forget(oldest)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._directory.box(oldest)}.verdict")


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
