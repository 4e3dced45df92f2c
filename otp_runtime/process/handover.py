"""The OS parent's part in a handover: performs what `core.handover` decides.

    who asked ──► parent: successor forked, from this process or, for new code, from a zygote
                          predecessor parks ──► estate (a file) ──► successor ──► the box names it ──► answer

Everything is a state of the parent's loop; nothing here waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from otp_runtime.core import handover as core
from otp_runtime.core import messages as wire
from otp_runtime.errors import UpgradeFailed
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe, poller
from otp_runtime.process import current, succession
from otp_runtime.process.burials import judge_threads
from otp_runtime.process.child import Child
from otp_runtime.process.context import Slot, reason_of_status
from otp_runtime.process.watchman import gather
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.offspring import Offspring

    Answer = Callable[[tuple[Any] | None], None]


def serve(offspring: Offspring, caller: int, serial: int, asked: tuple[Any, ...]) -> None:
    """Answer the system message `(HANDOVER, id, batch, extra, timeout)`, now or when it is done."""

    def answer(reason: tuple[Any] | None) -> None:
        context = offspring.context
        peer = context.peer(caller)
        if peer is not None:
            how, value = (wire.VALUE, None) if reason is None else (wire.RAISE, UpgradeFailed(reason[0]))
            context.post(peer, context.codec.encode([wire.REPLY, serial, how, value]))

    match asked:
        case (_, int() as process_id, batch, bytes() as extra, timeout):
            begin(offspring, process_id, answer, batch=batch, extra=extra, timeout=timeout)
        case _:
            answer((f"{asked!r} is no such request",))


def begin(
    offspring: Offspring,
    process_id: int,
    answer: Answer,
    *,
    batch: int | None = None,
    extra: bytes = b"",
    timeout: float | None = None,
) -> None:
    """Begin to hand a child over; `answer` hears how it went: None, or a tuple of why not.

    Its own id: to go over to the code on disk for all that this process starts from now on. `batch` None: to the code
    that it has (a recycle); else to that on disk, the same for all handovers of one number. `extra` is encoded already:
    an OS parent must not meet a user's classes.
    """
    if process_id == offspring.context.id:
        _renew(offspring, answer, batch)
        return
    child = offspring.children.get(process_id)
    refusal = _refusal(offspring, child)
    if refusal is not None or child is None:
        answer((refusal,))
        return
    Handover(offspring, child, answer, batch, extra, timeout).start()


def _renew(offspring: Offspring, answer: Answer, batch: int | None) -> None:
    """Start whatever is started from now on with the code of `batch`."""

    def renewed(refusal: tuple[Any] | None) -> None:
        if refusal is None:
            offspring.nursery.promote(batch)
        answer(refusal)

    if batch is not None:
        offspring.nursery.renew(batch, renewed)
    else:
        answer(None)


def _refusal(offspring: Offspring, child: Child | None) -> Any:
    if child is None or child.job is None or child.box is None or child.pidfd < 0:
        return "noproc"
    if child.box.kind != boxes.KIND_SERVER or child.box.flag(boxes.READY) != boxes.SERVES:
        return "not_a_server"
    if child.id in offspring.handovers:
        return "upgrading"
    if child.doom is not None or child.box.flag(boxes.SIGNALLED) or child.box.flag(boxes.KILL_REQUESTED):
        return "noproc"
    return None


class Handover:
    """One child that is being handed over to another OS process."""

    def __init__(
        self,
        offspring: Offspring,
        child: Child,
        answer: Answer,
        batch: int | None,
        extra: bytes,
        timeout: float | None,
    ) -> None:
        """See `begin`."""
        self.offspring = offspring
        self.context = offspring.context
        self.child = child
        self.number = offspring.directory.next_id()
        self._phase: core.Phase = core.Preparing()
        self._answer = answer
        self._batch = batch
        self._extra = extra
        self._timeout = timeout
        self._limit: poller.TimerHandle | None = None
        self._understudy: Child | None = None
        self._said: list[Any] | None = None
        self._slot: Slot | None = None
        self._asked = 0
        self._told = self._parting = -1

    def start(self) -> None:
        """Begin."""
        self.offspring.handovers[self.child.id] = self
        if self._timeout is not None:
            self._limit = self.context.poller.at(poller.now() + self._timeout, lambda: self.fail("timeout"))
        if self._batch is None:
            self._fork(None)
        else:
            try:
                self.offspring.nursery.renew(self._batch, self._fork)
            except OSError as error:
                self._feed(core.Gone(crash_of(error)))

    def fail(self, reason: Any) -> None:
        """It must not go on; what went wrong first counts."""
        self._feed(core.Failed(reason))

    def ended(self, reason: Any) -> None:
        """The process is dead."""
        self._feed(core.Ended(reason))

    # -- events and actions ---------------------------------------------------------------------------------

    def _feed(self, event: core.Event) -> None:
        self._phase, actions = core.step(self._phase, event)
        for action in actions:
            self._do(action)

    def _do(self, action: core.Action) -> None:
        match action:
            case core.Park():
                try:
                    self._park()
                except OSError as error:
                    self._feed(core.Failed(crash_of(error)))
            case core.Begin():
                os.write(self._told, succession.BEGIN)
            case core.Switch():
                self._switch()
            case core.Discard():
                self._discard()
            case core.Resume():
                self._close_parting()
            case core.Answer(reason=reason):
                self._finish(reason)

    def _discard(self) -> None:
        if self._understudy is None:
            self._feed(core.Gone(None))
        elif self._understudy.pidfd >= 0:
            kernel.send_signal(self._understudy.pidfd, signal.SIGKILL)
        else:
            self._understudy.words["discarded"] = True

    def _switch(self) -> None:
        assert self._understudy is not None
        self.offspring.nursery.promote(self._batch)
        self.offspring.replace(self.child, self._understudy)
        os.write(self._told, succession.GO)
        os.write(self._parting, succession.GO)

    def _finish(self, reason: tuple[Any] | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self.offspring.handovers.pop(self.child.id, None)
        self.context.pending.pop(self._asked, None)
        if self._understudy is not None:
            self.offspring.close_boot_pipe(self._understudy)
        self._close_parting()
        if self._told >= 0:
            os.close(self._told)
        self.offspring.directory.forget_handover(self.number)
        if reason is not None:
            self.offspring.nursery.drop_candidate(self._batch)
        self._answer(reason)

    # -- the predecessor ------------------------------------------------------------------------------------

    def _park(self) -> None:
        context = self.context
        peer = context.peer(self.child.id)
        if peer is None:
            self.fail("noproc")
            return
        self._parting = self._make_fifo("parting")
        slot = Slot(peer, self._parked)
        self._slot = slot
        self._asked = context.next_serial()
        context.pending[self._asked] = slot
        envelope = [wire.SYSTEM, context.id, self._asked, (wire.HANDOVER, self.number)]
        if not peer.write_lane(context.directory, pipe.whole(context.codec.encode(envelope))):
            self.fail("noproc")

    def _parked(self) -> None:
        assert self._slot is not None
        if self._slot.failure is not None:
            # its death is told by the one who reaps it: this very process
            return
        match self._slot.value:
            case ["parked"]:
                self._feed(core.Parked())
            case [_, reason]:
                self._feed(core.Refused(reason))

    def _make_fifo(self, what: str) -> int:
        path = self.offspring.directory.handover(self.number, what)
        os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _close_parting(self) -> None:
        """Say "go on" to whoever waits there, unless it was told otherwise: the end of the FIFO is a word."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.offspring.directory.handover(self.number, "parting"))
        if self._parting >= 0:
            os.close(self._parting)
            self._parting = -1

    # -- the successor --------------------------------------------------------------------------------------

    def _fork(self, refusal: tuple[Any] | None) -> None:
        """Start the successor; the zygote it comes from is ready, or none is needed."""
        if refusal is not None or not isinstance(self._phase, core.Preparing):
            self._feed(core.Gone(refusal[0] if refusal else None))
            return
        try:
            self._fork_now()
        except OSError as error:
            if (understudy := self._understudy) is not None:
                self.offspring.children.pop(understudy.id, None)
                self.offspring.close_boot_pipe(understudy)
            self._feed(core.Gone(crash_of(error)))

    def _fork_now(self) -> None:
        offspring = self.offspring
        assert self.child.job is not None
        order = {
            "job": self.child.job.to_term(),
            "id": self.child.id,
            "succeeds": True,
            "fresh": self._batch is not None,
            "extra": self._extra,
            "reaper": list(kernel.own_process()),
        }
        self._told = self._make_fifo("told")
        understudy = self._understudy = Child(self.number, self.context.pid_of(self.number), None, None)
        understudy.words["gone"] = self._gone
        understudy.on_word = self._hear
        offspring.listen(understudy, self.number)
        if offspring.nursery.serves(self._batch):
            offspring.children[understudy.id] = understudy
            offspring.nursery.bear(self.number, understudy, order, self._batch)
            return
        os_pid = current.fork_for_child()
        if os_pid == 0:
            succession.run(self.context.node, self.number, order)
        understudy.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        offspring.adopt(understudy)

    def _hear(self, word: list[Any]) -> None:
        if self._understudy is not None and self._understudy.pidfd < 0 and word[0] in {"loaded", "ready"}:
            # it was reaped: what it had said before counts no more
            return
        match word:
            case ["loaded"]:
                # it has its FIFOs open: nothing of them is left behind should this process be killed
                self.offspring.directory.forget_handover(self.number)
                self._feed(core.Loaded())
            case ["ready"]:
                self._feed(core.Ready())
            case ["watch"]:
                if self._understudy is not None:
                    self.offspring.watchman.begin(self._understudy)
            case ["serves"]:
                self.offspring.watchman.begin(self.child)
                self._feed(core.Served())
            case _:
                self._said = word

    def _gone(self) -> None:
        """The successor is dead before it was one."""
        assert self._understudy is not None
        if self._understudy.hang is not None:
            gather(self._understudy, self.offspring.directory.native_stack(self.number))
            facts = self._understudy.words["hang"]
            self.context.node.warn(f"the successor of {self.child.pid!r} hung: {facts['found']}\n  at: {facts['at']}")
            self._said = ["error", self._understudy.hang]
        if self.offspring.directory.has_box(self.number):
            judge_threads(self.context, self._understudy.os_process, "killed", besides=self.child.id)
            self.offspring.directory.forget(self.number)
        match self._said:
            case ["error", reason]:
                pass
            case [word, *_]:
                reason = word
            case _:
                reason = reason_of_status(self._understudy.status, killed=False)
        self._feed(core.Gone(reason))
