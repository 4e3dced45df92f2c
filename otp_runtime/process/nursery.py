"""Where an OS parent's children come from after an upgrade: a zygote, a fresh interpreter with the new code.

A supervisor cannot un-import. A *zygote* is a process that imported what the supervisor had imported, after the
upgrade began, and does nothing but fork. It forks twice, and as the supervisor is a child subreaper, the grandchild
falls to it: the supervisor is the OS parent of all its children, whoever forked them.

    supervisor ──order──► zygote ──fork──► a middle one ──fork──► child
        ▲───── "born" ────────────────────────┘ ends, and the child falls to the supervisor

A process that never imported a program's modules (the launcher, a supervisor that preloads none) needs no zygote:
whatever it forks imports what is on disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any

from otp_runtime.host import interpreter, kernel
from otp_runtime.process.child import Child
from otp_runtime.process.context import reason_of_status
from otp_runtime.terms.reason import Crash, crash_of, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.process.offspring import Offspring

NUMBER = struct.Struct("<Q")


class Zygote:
    """One zygote, as its supervisor knows it."""

    def __init__(self, number: int, batch: int | None, child: Child, orders: int) -> None:
        """`orders` is the FIFO on which it is told whom to fork."""
        self.number = number
        self.batch = batch
        self.child = child
        self.orders = orders
        self.is_ready = False
        self.is_dead = False
        self.is_given_up = False
        self.said: list[Any] | None = None
        self.waiting: list[Callable[[tuple[Any] | None], None]] = []
        self.queue: list[int] = []
        self.unborn: dict[int, Child] = {}


class Nursery:
    """The zygotes of one OS parent: the one whose code is in force, and one that an upgrade is trying."""

    def __init__(self, offspring: Offspring) -> None:
        """None yet: children are forked from this process."""
        self._offspring = offspring
        self._current: Zygote | None = None
        self._candidate: Zygote | None = None
        self._later: dict[int, Callable[[tuple[Any] | None], None]] = {}
        self.modules: tuple[str, ...] = ()
        """What this process imported of a program: what a zygote imports anew. Empty: no zygote is needed."""
        self.is_stale = False
        """Whether what this process inherited is older than an upgrade: then nothing is forked from it."""

    def note(self, modules: Iterable[str]) -> None:
        """Note what this process has imported, or would have, for a child."""
        new = [name for name in modules if not name.startswith("otp_runtime.") and name not in self.modules]
        self.modules += tuple(name for name in new if name in sys.modules or self.is_used)

    @property
    def is_used(self) -> bool:
        """Whether children come from a zygote now."""
        return self._current is not None or self.is_stale

    def serves(self, batch: int | None) -> bool:
        """Say whether the successors of `batch` (None: with the code in force) come from a zygote."""
        return self.is_used if batch is None else self._needs_zygote()

    def _needs_zygote(self) -> bool:
        return bool(self.modules) or self.is_used

    def unborn(self) -> list[Child]:
        """Give those that were ordered, and are not known to live."""
        found = [zygote for zygote in (self._current, self._candidate) if zygote is not None]
        return [child for zygote in found for child in list(zygote.unborn.values())]

    def is_born(self, child: Child) -> None:
        """Note that a child lives."""
        for zygote in (self._current, self._candidate):
            if zygote is not None:
                zygote.unborn.pop(child.id, None)

    # -- upgrades -------------------------------------------------------------------------------------------

    def renew(self, batch: int, then: Callable[[tuple[Any] | None], None]) -> None:
        """Have the code of `batch` ready, then call `then`: with None, or a tuple of why it cannot be.

        One upgrade is tried at a time: that of another batch waits until `promote` or `drop_candidate` ends it.
        """
        if not self._needs_zygote():
            then(None)
            return
        zygote = self._of(batch)
        if zygote is None:
            if self._candidate is not None and not self._candidate.is_given_up:
                self._later[batch] = then
                return
            if self._candidate is not None:
                self._dismiss(self._candidate)
            zygote = self._candidate = self._spawn(batch, self.modules)
        if zygote.is_ready:
            then(None)
        else:
            zygote.waiting.append(then)

    def _of(self, batch: int | None) -> Zygote | None:
        for zygote in (self._candidate, self._current):
            if zygote is not None and zygote.batch == batch and not zygote.is_dead:
                return zygote
        return None

    def promote(self, batch: int | None) -> None:
        """The first server of an upgrade runs the new code: from now on all that is started does."""
        if self._candidate is not None and batch is not None and self._candidate.batch == batch:
            old, self._current, self._candidate = self._current, self._candidate, None
            self._offspring.spares.retire()
            self._offspring.template.retire()
            if old is not None:
                self._dismiss(old)
            self._try_next()

    def drop_candidate(self, batch: int | None) -> None:
        """An upgrade failed before anything ran its code."""
        if batch is not None:
            self._later.pop(batch, None)
        if self._candidate is not None and self._candidate.batch == batch:
            self._candidate.is_given_up = True
            if not self._candidate.unborn:
                self._dismiss(self._candidate)
                self._candidate = None
            self._try_next()

    def _try_next(self) -> None:
        """Begin the upgrade that has waited longest for the one before to end."""
        for batch in list(self._later):
            then = self._later.pop(batch)
            try:
                self.renew(batch, then)
            except OSError as error:
                then((crash_of(error),))
                continue
            return

    # -- births ---------------------------------------------------------------------------------------------

    def bear(self, number: int, child: Child, order: dict[str, Any], batch: int | None = None) -> None:
        """Have a process forked that carries out `order`: `child` will be told of its birth."""
        zygote = self._of(batch) if batch is not None else self._current
        if zygote is None or zygote.is_dead:
            zygote = self._current = self._spawn(None, self.modules)
        order["reaper"] = list(kernel.own_process())
        self._write_order(number, order)
        zygote.unborn[child.id] = child
        if zygote.is_ready:
            os.write(zygote.orders, NUMBER.pack(number))
        else:
            zygote.queue.append(number)

    def _write_order(self, number: int, order: dict[str, Any]) -> None:
        path = self._offspring.directory.handover(number, "order")
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(self._offspring.context.codec.encode(order))

    # -- zygotes --------------------------------------------------------------------------------------------

    def _spawn(self, batch: int | None, modules: tuple[str, ...]) -> Zygote:
        offspring = self._offspring
        directory = offspring.directory
        number = directory.next_id()
        child = Child(number, offspring.context.pid_of(number), None, None)
        offspring.listen(child, number)
        path = directory.handover(number, "told")
        os.mkfifo(path, 0o600)
        orders = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        zygote = Zygote(number, batch, child, orders)
        child.on_word = lambda word: self._hear(zygote, word)
        child.words["gone"] = lambda: self._gone(zygote)
        self._write_order(number, {"path": sys.path, "modules": list(modules)})
        os_pid = self._spawn_process(number)
        child.os_process = kernel.OsProcess(os_pid, kernel.start_time(os_pid) or 0)
        offspring.adopt(child)
        return zygote

    def _spawn_process(self, number: int) -> int:
        me = kernel.own_process()
        words = [self._offspring.directory.path, number, me.pid, me.start]
        return os.posix_spawn(
            sys.executable,
            interpreter.words_of("otp_runtime.process.zygote", words),
            interpreter.environment(),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, kernel.PARENT_DEATH_SIGNAL),
        )

    def _hear(self, zygote: Zygote, word: list[Any]) -> None:
        zygote.said = word
        if word[0] != "ready":
            return
        zygote.is_ready = True
        self._offspring.directory.forget_handover(zygote.number)
        for number in zygote.queue:
            os.write(zygote.orders, NUMBER.pack(number))
        zygote.queue.clear()
        waiting, zygote.waiting = zygote.waiting, []
        for then in waiting:
            then(None)

    def _dismiss(self, zygote: Zygote) -> None:
        """End a zygote that is not needed any more: it has nothing but forks to do, and those are done."""
        if zygote.child.pidfd >= 0:
            kernel.send_signal(zygote.child.pidfd, signal.SIGKILL)

    def _gone(self, zygote: Zygote) -> None:
        """A zygote is dead: who waited for it fails; a next start makes a new one."""
        zygote.is_dead = True
        os.close(zygote.orders)
        directory = self._offspring.directory
        directory.forget_handover(zygote.number)
        if zygote.said == ["threads"]:
            self._replace(zygote)
            return
        if zygote is self._candidate:
            self._candidate = None
        reason = self._why(zygote)
        waiting, zygote.waiting = zygote.waiting, []
        for then in waiting:
            then((reason,))
        for child in list(zygote.unborn.values()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory.handover(child.id, "order"))
            self._offspring.never_born(child, reason)
        zygote.unborn.clear()
        if self._candidate is None:
            self._try_next()

    def _replace(self, zygote: Zygote) -> None:
        """What it was to import leaves threads, and such a process cannot be forked from: one that imports nothing."""
        other = self._spawn(zygote.batch, ())
        other.waiting, other.queue, other.unborn = zygote.waiting, zygote.queue, zygote.unborn
        if zygote is self._candidate:
            self._candidate = other
        if zygote is self._current:
            self._current = other

    def _why(self, zygote: Zygote) -> Any:
        match zygote.said:
            case ["error", reason]:
                return reason
            case _:
                ended = describe(reason_of_status(zygote.child.status, killed=False))
                text = f"the process that new ones are forked from ended: {ended}"
                return Crash("RuntimeError", text, "")
