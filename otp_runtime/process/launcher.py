"""The launcher: a clean, single-threaded process that forks what no supervisor forks.

It is the OS parent of all roots (what programs start) and of what servers start themselves. It stops a
program's roots, in reverse order, when the program leaves or dies, and ends with the program whose node it is.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.core import messages as wire
from otp_runtime.errors import NoProcess
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.host.directory import NodeDirectory
from otp_runtime.host.pages import fill_holes, gather, settle_memory
from otp_runtime.process import boot_path, current, places, route, shipping, stderr, task_body
from otp_runtime.process.burials import judge_threads, keep_record, report
from otp_runtime.process.context import Context
from otp_runtime.process.handle import LAUNCHER_ID, NodeHandle
from otp_runtime.process.job import Job
from otp_runtime.process.offspring import Offspring
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.reason import Crash, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.child import Child

HASTE_SECONDS = 0.9
AGAIN_SECONDS = 0.05
_ = task_body  # loaded here, every fork has it


class Program:
    """A program that takes part in this node, and its roots in the order of their start."""

    def __init__(self, process_id: int, pidfd: int) -> None:
        """Watch it by its pidfd."""
        self.id = process_id
        self.pidfd = pidfd
        self.roots: list[Child] = []
        self.waiting: tuple[int, int] | None = None
        self.leaving = False


class Launcher:
    """The loop: requests from the mailbox, starts, deaths, programs that leave."""

    def __init__(self, context: Context, owner: int, serve_supervisor: Callable[..., Any]) -> None:
        """`owner` is the id of the program whose node this is."""
        self.context = context
        self.owner = owner
        self.programs: dict[int, Program] = {}
        self.askers: dict[int, tuple[int, int]] = {}
        self.offspring = Offspring(context, serve_supervisor, self._on_word, self._on_death)
        self.over = False
        self.hasty = False
        self._has_dill = False
        self.errors = stderr.Forwarder(context)

    def run(self) -> None:
        """Serve until the node ends."""
        while not self.over:
            self.context.pump(None)
            # nobody here starts anything in the place of the dead: they are judged at once
            self.offspring.burials.judge_buried()
            while (entry := self.context.next_message()) is not None:
                self._handle(entry[1])
            for child in self.offspring.burials.take_reaped():
                self._after_death(child)
            for program in list(self.programs.values()):
                if program.leaving:
                    self._stop_next_root(program)
            self.offspring.catch_up()
        self.errors.finish()

    # -- requests -------------------------------------------------------------------------------------------

    def _handle(self, envelope: wire.Envelope) -> None:
        match envelope:
            case [wire.CALL, caller, serial, ["start", job]]:
                self._start(Job.from_term(job), caller, serial)
            case [wire.SYSTEM, caller, serial, request] if wire.is_handover(request):
                from otp_runtime.process import handover

                handover.serve(self.offspring, caller, serial, request)
            case [wire.CALL, caller, serial, ["attach", process_id]]:
                self._answer(caller, serial, self.attach(process_id))
            case [wire.CALL, caller, serial, ["leave", process_id]]:
                self._leave(process_id, (caller, serial))
            case [wire.CAST, ["send_later", name, due, interval, sender, serial, payload]]:
                self.context.arm((sender, serial), due, lambda: self._send_to_name(name, payload), interval)
            case [wire.CAST, ["halt"]]:
                if (owner := self.programs.get(self.owner)) is not None:
                    owner.leaving = True
                    self._stop_next_root(owner)
            case [wire.CAST, ["upgraded"]]:
                self.offspring.spares.renew()
            case [wire.CAST, ["cancel_later", sender, serial]]:
                timer = self.context.timers.pop((sender, serial), None)
                if timer is not None:
                    timer.cancel()
            case _:
                pass

    def _answer(self, caller: int, serial: int, value: Any) -> None:
        peer = self.context.peer(caller)
        if peer is not None:
            self.context.post(peer, self.context.codec.encode([wire.REPLY, serial, wire.VALUE, value]))

    def _send_to_name(self, name: str, payload: bytes) -> None:
        """Pass a message on, unread: to decode it could be to run code of a user's."""
        from otp_runtime.process import names, returning

        with contextlib.suppress(Exception):
            try:
                self.context.post(names.find(self.context, name, None, wait=False), payload)
            except NoProcess:
                returning.drop_in(self.context, name, payload)

    # -- starts ---------------------------------------------------------------------------------------------

    def _start(self, job: Job, caller: int, serial: int) -> None:
        program = self.programs.get(job.program)
        if self.hasty or (program is not None and program.leaving):
            self._answer(caller, serial, ["error", "shutdown"])
            return
        self._fork(job, (caller, serial))

    def _load_dill(self, job: Job) -> None:
        """Load the pickler of functions once here, not in every child, when this node ships any by value."""
        if self._has_dill:
            return
        if shipping.needs_dill(job.body) or os.listdir(f"{self.context.directory.path}/defs"):
            self._has_dill = True
            shipping.load_dill()
            current.note_import_ahead()
            gc.freeze()

    def _fork(self, job: Job, asker: tuple[int, int]) -> None:
        self._load_dill(job)
        child = self.offspring.start(job)
        if isinstance(child, Crash):
            self._answer(*asker, ["error", child])
            return
        self.askers[child.id] = asker
        program = self.programs.get(job.program)
        if program is not None:
            program.roots.append(child)

    def _on_word(self, child: Child, word: list[Any]) -> None:
        asker = self.askers.pop(child.id, None)
        if asker is not None:
            self._answer(*asker, [*word, child.pid])

    def _on_death(self, child: Child, reason: Any) -> bool:
        if child.job is not None:
            # nobody starts a root again: what it and all below it kept is over
            places.forget(self.offspring.place_of(child))
        if child.job is not None and child.id in self.askers and is_abnormal(reason):
            # who asked for the start is told; `why` knows it all the same
            keep_record(self.offspring, child, reason, context="start_error")
        if child.id in self.askers or child.job is None or child.doom is not None:
            return False
        # a plain process that somebody killed is no news to them: a task that was shut down, a stream left early
        if is_abnormal(reason) and not (reason == "killed" and child.job.mode == "plain"):
            report(self.offspring, child, reason)
        return False

    def _after_death(self, child: Child) -> None:
        for program in self.programs.values():
            if child in program.roots:
                at = program.roots.index(child)
                program.roots.remove(child)
                if self._is_lasting(child):
                    self._bring_back_soon(program, child.job, at)
        asker = self.askers.pop(child.id, None)
        if asker is not None:
            self._finish_start(child, asker)
        child.close_box()

    def _is_lasting(self, child: Child) -> bool:
        """Say whether a root is the part of this node that holds its place in a cluster: nobody else restarts that."""
        return (
            child.job is not None
            and child.job.mode == "supervisor"
            and child.job.name == route.SUPERVISOR
            and child.id not in self.askers
            and os.path.exists(self.context.directory.cluster)
        )

    def _bring_back_soon(self, program: Program, job: Any, at: int) -> None:
        self.context.poller.at(poller.now() + AGAIN_SECONDS, lambda: self._bring_back(program, job, at))

    def _bring_back(self, program: Program, job: Any, at: int) -> None:
        """Start a root again, in its old place among the others: the program's end stops it when it would have."""
        if program.leaving or self.hasty:
            return
        child = self.offspring.start(job)
        if isinstance(child, Crash):
            self._bring_back_soon(program, job, at)
        else:
            program.roots.insert(at, child)

    def _finish_start(self, child: Child, asker: tuple[int, int]) -> None:
        """A start ended without a server: it failed, ignored, or turned out to be a supervisor's."""
        outcome = child.outcome
        if outcome is not None and outcome[0] == "supervisor" and child.job is not None:
            import dataclasses

            job = dataclasses.replace(
                child.job,
                mode="supervisor",
                body=self.context.codec.encode(outcome[1]),
                label=outcome[1]["label"],
                name=outcome[1]["name"] or "",
                shutdown=None,
            )
            self._fork(job, asker)
            return
        if outcome is not None and outcome[0] == "ok":
            # it started and died before its word was read
            outcome = ["ok", child.pid]
        if outcome is None:
            assert child.box is not None
            verdict = self.context.codec.decode(child.box.verdict("") or self.context.codec.encode("killed"))
            outcome = ["error", verdict]
        self._answer(*asker, outcome)

    # -- programs -------------------------------------------------------------------------------------------

    def attach(self, process_id: int) -> list[Any]:
        """Let a program take part: watch it, stop its roots when it goes."""
        box = Box.open(self.context.directory.box(process_id))
        if box is None:
            return ["error", "noproc"]
        pidfd = kernel.open_pidfd(box.identity.os_process)
        box.close()
        if pidfd is None:
            return ["error", "noproc"]
        program = self.programs[process_id] = Program(process_id, pidfd)
        self.context.poller.watch(pidfd, poller.READABLE, lambda _events: self._program_died(program))
        return ["ok"]

    def _leave(self, process_id: int, waiting: tuple[int, int]) -> None:
        program = self.programs.get(process_id)
        if program is None:
            self._answer(*waiting, ["ok"])
            return
        program.waiting = waiting
        program.leaving = True
        self._stop_next_root(program)

    def _program_died(self, program: Program) -> None:
        self._forget_pidfd(program)
        program.leaving = True
        if program.id == self.owner:
            self.hasty = True
            self.offspring.burials.orphan_seconds = 0.0
        self.context.poller.at(poller.now() + HASTE_SECONDS, lambda: self._kill_roots(program))
        for root in program.roots:
            self.offspring.send_exit(root, "shutdown")
        # the verdict after the order to stop: a root that is linked to the program then hears of that first
        self._judge_program(program)
        self._stop_next_root(program)

    def _forget_pidfd(self, program: Program) -> None:
        if program.pidfd >= 0:
            self.context.poller.forget(program.pidfd)
            os.close(program.pidfd)
            program.pidfd = -1

    def _judge_program(self, program: Program) -> None:
        """Write the verdict of every thread of a program that died: nobody here is its OS parent."""
        main = Box.open(self.context.directory.box(program.id))
        if main is None:
            return
        process = main.identity.os_process
        status = kernel.zombie_status(process.pid)
        reason: Any = "killed"
        if status is not None:
            from otp_runtime.process.context import reason_of_status

            reason = reason_of_status(status, killed=bool(main.flag(boxes.KILL_REQUESTED)))
        main.close()
        judge_threads(self.context, process, reason)

    def _kill_roots(self, program: Program) -> None:
        for root in program.roots:
            self.offspring.kill(root)

    def _stop_next_root(self, program: Program) -> None:
        """Stop the youngest root; when none is left, the program is gone, and with the owner the node."""
        while program.roots and program.roots[-1].pidfd < 0 and not program.roots[-1].heirs:
            program.roots.pop()
        if not program.roots and program.id == self.owner:
            # what servers started themselves, linked to nobody, ends with the node
            program.roots += self._rootless()
        if program.roots:
            root = program.roots[-1]
            if root.words.get("stopping"):
                return
            root.words["stopping"] = True
            self.offspring.send_exit(root, "shutdown")
            shutdown = root.job.shutdown if root.job is not None else None
            if shutdown is not None:
                self.context.poller.at(poller.now() + shutdown, lambda: self.offspring.kill(root))
            return
        self._forget_pidfd(program)
        del self.programs[program.id]
        if program.waiting is not None:
            self._answer(*program.waiting, ["ok"])
        if program.id == self.owner:
            self.over = True

    def _rootless(self) -> list[Child]:
        """Give the processes that no program's end has stopped, those first whose parent is not among them.

        The others are stopped by their parents, in their parents' order, if there is time for that.
        """
        left = [child for child in self.offspring.children.values() if child.job is not None]
        ids = {child.id for child in left}
        tops = [child for child in left if child.job is not None and child.job.parent not in ids]
        return left if self.hasty else tops or left


def prepare(serve_supervisor: Callable[..., Any]) -> Callable[[str, kernel.OsProcess, int], NoReturn]:
    """Put the memory in order that all processes of a node are forked from; give the launcher's entry.

    Called by the guard, before it forks the launcher.
    """
    gc.collect()
    fill_holes()
    gather(boot_path.PATH)
    settle_memory()
    return functools.partial(main, serve_supervisor)


def main(serve_supervisor: Callable[..., Any], directory_path: str, guard: kernel.OsProcess, lifeline: int) -> NoReturn:
    """Be the launcher of the node at `directory_path`: forked by the guard, never returns."""
    status = 1
    try:
        kernel.become_subreaper()
        directory = NodeDirectory(directory_path)
        directory.identify()
        name, incarnation, owner = settle(directory, "otp:launcher")
        node = NodeHandle(directory, name, incarnation)
        directory.make_mailbox(LAUNCHER_ID)
        box = Box.create(directory.box(LAUNCHER_ID), LAUNCHER_ID, 0, boxes.KIND_LAUNCHER, time.time())
        box.label = "launcher"
        context = Context(node, LAUNCHER_ID, box, is_program=False)
        context.set_trap_exit(True)
        box.inhabit(kernel.own_process())
        current.enter(node)
        current.become(context)
        launcher = Launcher(context, owner, serve_supervisor)
        _watch_the_guard(launcher, guard)
        launcher.attach(owner)
        launcher.offspring.template.make_ahead()
        gc.freeze()
        box.set_flag(boxes.READY)
        os.write(lifeline, b"ready\n")
        launcher.run()
        context.linger()
        status = 0
    except BaseException as error:  # noqa: BLE001 - nobody above reports it
        import traceback

        with contextlib.suppress(OSError):
            os.write(lifeline, f"error {error!r}\n".encode())
        traceback.print_exc()
    finally:
        os._exit(status)


def settle(directory: NodeDirectory, title: str) -> tuple[str, int, int]:
    """Take over what the program left in the node's file: its path, its environment."""
    with open(directory.path / "node", "rb") as file:
        said = Codec().decode(file.read())
    sys.path[:] = said["path"]
    if said["python_path"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = said["python_path"]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            # nothing is lost at a kill -9 beyond the last unfinished line
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    kernel.set_title(title)
    return said["name"], said["incarnation"], said["program"]


def _watch_the_guard(launcher: Launcher, guard: kernel.OsProcess) -> None:
    """A node is its guard and launcher together: without the guard, end everything and clear up."""

    def end_node(_number: int, _frame: Any) -> None:
        kernel.end_descendants()
        launcher.context.directory.remove()
        os._exit(1)

    signal.signal(kernel.PARENT_DEATH_SIGNAL, end_node)
    if not kernel.die_with_parent(guard):
        end_node(0, None)
