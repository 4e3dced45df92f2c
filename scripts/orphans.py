"""kill -9 of whatever holds a tree together: nothing of the tree may be left, two seconds later.

    program ── guard ── launcher ── top ─┬─ left  ── 3 servers, each with subprocesses
                                         ├─ right ── 3 servers, one trapping exits, one hanging
                                         └─ 2 servers

Every server has a plain subprocess, one in a session of its own, and a daemon: forked twice, in a session of its own,
its parent gone. Each round starts such a program, kills one of them (drawn by the seed), and looks.

Promises checked: after the kill of the program, the launcher, the guard or those two at once, no process of the tree,
no daemon and no zombie is left within LIMIT, and the node's directory is gone; after the kill of a supervisor the same
holds for all that was below it, its children's names are back under new processes if it had a supervisor itself, and
the node then ends clean. Nothing but the guard and the launcher may ever fall to init, unless both are killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _chaos import Storm, lines_to

from otp_runtime import GenServer, Node, NoReply, Reply, Supervisor, process
from otp_runtime.host import kernel
from otp_runtime.testing import leaks, wait_restarted

LIMIT = 2.0
SETTLE_SECONDS = 20.0
FOR_EVER = {"max_restarts": 100, "max_seconds": 5}
VICTIMS = ("program", "launcher", "guard", "launcher and guard", "guard and launcher", "top", "left", "right")
SLEEP = ["sleep", "1000"]


class Owner(GenServer):
    """Starts subprocesses in every way there is to lose them."""

    def init(self, how: str) -> str:
        null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.plain = subprocess.Popen(SLEEP, **null)
        self.session = subprocess.Popen(SLEEP, **null, start_new_session=True)
        daemonise()
        return how

    def handle_call(self, request: Any, client: Any, how: str) -> Reply:
        return Reply(os.getpid(), how)

    def handle_cast(self, request: Any, how: str) -> NoReply:
        while True:
            signal.pause()


class Trapping(Owner):
    """Takes its time to end, were it let."""

    trap_exit = True

    def terminate(self, reason: Any, how: str) -> None:
        while True:
            signal.pause()


def daemonise() -> None:
    """Leave a daemon as daemons are made: fork, a session of its own, fork, the parent ends."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.execvp(SLEEP[0], SLEEP)


def tree() -> list[Any]:
    def group(name: str, kinds: list[type[Owner]]) -> Any:
        spare = int(name == "left")
        children = [
            kind.child_spec("quiet", name=f"{name}{i}", shutdown=1.0, spare=spare) for i, kind in enumerate(kinds)
        ]
        return Supervisor.child_spec(children, strategy="one_for_one", name=name, **FOR_EVER)

    return [
        group("left", [Owner, Owner, Owner]),
        group("right", [Owner, Trapping, Owner]),
        Owner.child_spec("quiet", name="alone0"),
        Owner.child_spec("quiet", name="alone1"),
    ]


# -- the program -------------------------------------------------------------------------------------------------------


def be_the_program(out: int) -> None:
    """Start the tree, tell who is who, and wait for orders: the end of the input, or names to wait for."""
    Node.start("orphans")
    me = os.getpid()
    Supervisor.start_link(tree(), strategy="one_for_one", name="top", **FOR_EVER)
    GenServer.cast("right2", "hang")
    guard = _guard_of(me)
    (launcher,) = kernel.children_of(guard)
    names = {name: process.whereis(name) for name in process.registered()}
    lines_to(out, {"guard": guard, "launcher": launcher, **{name: pid.os_pid for name, pid in names.items()}})
    for line in sys.stdin:
        back = {}
        for name in line.split():
            with contextlib.suppress(AssertionError):
                back[name] = wait_restarted(name, after=names[name], timeout=SETTLE_SECONDS).os_pid
        lines_to(out, back)
    Node.stop()


def _guard_of(program: int) -> int:
    for os_pid in kernel.descendants_of(program):
        if b"otp_runtime.host.guard" in Path(f"/proc/{os_pid}/cmdline").read_bytes():
            return os_pid
    msg = "the program has no guard"
    raise RuntimeError(msg)


# -- the storm ---------------------------------------------------------------------------------------------------------


class Round:
    """One program, one kill."""

    def __init__(self, storm: Storm, base: Path, victim: str) -> None:
        self.storm = storm
        self.base = base
        self.victim = victim
        out, into = os.pipe()
        command = [sys.executable, __file__, "--role", "program", str(into)]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[into])
        os.close(into)
        self.out = os.fdopen(out)

    def run(self) -> None:
        line = self.out.readline()
        if not self.storm.check(bool(line), "the program did not start its tree"):
            return
        self.who = {"program": self.program.pid, **json.loads(line)}
        self.whole = self.identified([self.program.pid, *kernel.descendants_of(self.program.pid)])
        self.storm.count("processes put at risk", len(self.whole))
        victims = [self.who[name] for name in self.victim.split(" and ")]
        below = self.identified(kernel.descendants_of(victims[0]))
        began = time.monotonic()
        for os_pid in victims:
            os.kill(os_pid, signal.SIGKILL)
        if self.victim not in {"top", "left", "right"}:
            self.node_is_gone(began)
        else:
            self.subtree_is_gone(below, began)
        self.end_program()
        self.nothing_is_left()

    def identified(self, os_pids: list[int]) -> list[kernel.OsProcess]:
        starts = ((one, kernel.start_time(one)) for one in os_pids)
        return [kernel.OsProcess(one, start) for one, start in starts if start is not None]

    def node_is_gone(self, began: float) -> None:
        """The program may live on (it is not part of the node); everything else has to go."""
        tree = [one for one in self.whole if one.pid != self.program.pid]
        self.is_gone(tree, began)
        while (left := list(self.base.iterdir())) and time.monotonic() - began < LIMIT:
            os.sched_yield()
        self.storm.check(not left, f"{self.victim} killed: {left} is there after {LIMIT:g} s")
        self.storm.note_worst(f"{self.victim} killed: directory gone", time.monotonic() - began)

    def subtree_is_gone(self, below: list[kernel.OsProcess], began: float) -> None:
        self.is_gone(below, began)
        if self.victim == "top":
            return
        names = [name for name in self.who if name.startswith(self.victim)]
        assert self.program.stdin is not None
        self.program.stdin.write(" ".join(names).encode() + b"\n")
        self.program.stdin.flush()
        back = json.loads(self.out.readline() or "{}")
        for name in names:
            if self.storm.check(name in back, f"{self.victim} killed: {name} is not back"):
                self.storm.count("names back")

    def is_gone(self, processes: list[kernel.OsProcess], began: float) -> None:
        """None of them is there, not as a zombie either; what fell to this process is reaped here, and noted."""
        while time.monotonic() - began < LIMIT:
            self.reap_the_fallen()
            if not (left := leaks.outlive(processes, 0.01)):
                break
        else:
            left = leaks.outlive(processes, 0.0)
        self.storm.note_worst(f"{self.victim} killed: processes gone", time.monotonic() - began)
        for one in left:
            self.storm.violated(f"{self.victim} killed: left after {LIMIT:g} s: {leaks.describe(one)}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    def reap_the_fallen(self) -> None:
        """Whoever loses all its ancestors falls to init, here to this process: half a node, or what lost both."""
        for os_pid in kernel.children_of(os.getpid()):
            if os_pid == self.program.pid:
                continue
            expected = os_pid in (self.who["guard"], self.who["launcher"]) or " and " in self.victim
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(os_pid, os.WNOHANG)[0] and not expected:
                    self.storm.violated(f"{self.victim} killed: process {os_pid} of the tree fell to init")

    def end_program(self) -> None:
        assert self.program.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.program.stdin.close()
        try:
            status = self.program.wait(SETTLE_SECONDS)
        except subprocess.TimeoutExpired:
            self.program.kill()
            self.program.wait()
            self.storm.violated(f"{self.victim} killed: the program does not end")
            return
        expected = -signal.SIGKILL if self.victim == "program" else 0
        self.storm.check(status == expected, f"{self.victim} killed: the program ended with status {status}")

    def nothing_is_left(self) -> None:
        began = time.monotonic()
        self.is_gone(self.whole, began)
        left = leaks.naming(str(self.base))
        self.storm.check(not left, f"{self.victim} killed: left behind: {[leaks.describe(one) for one in left]}")
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        files = leaks.files(self.base)
        self.storm.check(not files, f"{self.victim} killed: files are left: {files[:5]}")
        self.out.close()


def victims(storm: Storm) -> Any:
    """Every kind of victim once in a random order, then again."""
    while True:
        yield from storm.random.sample(VICTIMS, len(VICTIMS))


def main() -> int:
    storm = Storm("orphans", __doc__.splitlines()[0], 20.0)
    if storm.options.role is not None:
        logging.getLogger("otp_runtime").addHandler(logging.NullHandler())
        logging.getLogger("otp_runtime").propagate = False
        be_the_program(int(storm.options.role[1]))
        return 0
    kernel.become_subreaper()
    before = leaks.take()
    with storm.directory() as base:
        for victim in victims(storm):
            with storm.surviving():
                Round(storm, base, victim).run()
            storm.count(f"rounds: {victim} killed")
            if storm.left <= 0:
                break
        storm.nothing_left(before)
    return storm.finish()


if __name__ == "__main__":
    sys.exit(main())
