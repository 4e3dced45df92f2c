"""The chapter of the story in which a server gets new code while it is called without pause."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.errors import CallError, UpgradeFailed
from otp_runtime.process import primitives as process
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.supervision.upgrade import upgrade

if TYPE_CHECKING:
    from otp_runtime.cli.demo.story import Story

CALLERS = 2
BEFORE, AFTER = 200, 200
WAIT_SECONDS = 10.0
MODULE = "otp_demo_till"

FIRST = """\
from otp_runtime import GenServer, Reply

class Till(GenServer):
    vsn = 1

    def init(self, arg):
        return 0

    def handle_call(self, request, client, total):
        return Reply((self.vsn, total), total + 1)
"""

SECOND = """\
from otp_runtime import GenServer, Reply

class Till(GenServer):
    vsn = 2

    def init(self, arg):
        return {"sales": 0}

    def handle_call(self, request, client, state):
        return Reply((self.vsn, state["sales"]), {"sales": state["sales"] + 1})

    def code_change(self, old_vsn, total, extra):
        return {"sales": total}
"""

BROKEN = SECOND.replace("vsn = 2", "vsn = 3").replace('return {"sales": total}', 'return total["no such thing"]')


class _Caller(threading.Thread):
    """Calls without pause; remembers what it was answered and what failed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[int, int]] = []
        self.failures: list[str] = []
        self.longest = 0.0
        self.over = False

    def run(self) -> None:
        while not self.over:
            started = time.perf_counter()
            try:
                self.answers.append(GenServer.call("till", "sell", WAIT_SECONDS))
            except CallError as error:
                self.failures.append(str(error))
            self.longest = max(self.longest, time.perf_counter() - started)

    def wait_for(self, more: int) -> None:
        """Let it have some more answers."""
        goal = len(self.answers) + more
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.answers) < goal and time.monotonic() < deadline:
            time.sleep(0.001)


def hot_upgrade(story: Story) -> None:
    """A server goes on with new code."""
    story.chapter("New code, no pause")
    with tempfile.TemporaryDirectory() as directory:
        sys.path.insert(0, directory)
        try:
            _tell(story, Path(directory) / f"{MODULE}.py")
        finally:
            sys.path.remove(directory)
            sys.modules.pop(MODULE, None)


def _write(path: Path, text: str, age: int) -> None:
    """Put other code in its place; compiled files go by the time of the source, in whole seconds."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (age, age))


def _tell(story: Story, path: Path) -> None:
    _write(path, FIRST, 1_600_000_000)
    till: Any = __import__(MODULE).Till
    story.say("A till counts its sales. Two callers buy without pause while its code changes on disk.")
    with Supervisor.start_link([till.child_spec(name="till")], strategy="one_for_one", name="supervisor"):
        callers = [_Caller() for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            _upgrade_under_load(story, path, callers)
        finally:
            for caller in callers:
                caller.over = True
            for caller in callers:
                caller.join()
        _check(story, callers)


def _upgrade_under_load(story: Story, path: Path, callers: list[_Caller]) -> None:
    pid = process.whereis("till")
    assert pid is not None
    before = pid.os_pid
    callers[0].wait_for(BEFORE)
    _write(path, SECOND, 1_600_000_010)
    upgrade("till", timeout=WAIT_SECONDS)
    callers[0].wait_for(AFTER)
    story.claim(f"the till is the same process {pid} under the same name", process.whereis("till") == pid)
    story.claim(f"in a fresh OS process: {before} → {pid.os_pid}", pid.os_pid not in {None, before})
    story.say("Then code whose code_change has a bug is put in its place.")
    _write(path, BROKEN, 1_600_000_020)
    reason = _failure()
    callers[0].wait_for(AFTER)
    story.claim(f"that upgrade fails: {reason}", reason is not None)
    story.claim("and the code before it goes on", GenServer.call("till", "sell")[0] == 2)


def _failure() -> str | None:
    try:
        upgrade("till", timeout=WAIT_SECONDS)
    except UpgradeFailed as error:
        return str(error).splitlines()[0]
    return None


def _check(story: Story, callers: list[_Caller]) -> None:
    answers = [answer for caller in callers for answer in caller.answers]
    failures = [failure for caller in callers for failure in caller.failures]
    versions = {version for version, _number in answers}
    numbers = sorted(number for _version, number in answers)
    story.claim(f"{len(answers)} calls, none failed", not failures and len(answers) > BEFORE + AFTER)
    story.claim("some were answered by the old code, some by the new", versions == {1, 2})
    # the storyteller bought one as well
    story.claim("every sale was counted once, across the change", len(set(numbers)) == len(numbers) >= numbers[-1])
    longest = max(caller.longest for caller in callers) * 1000
    story.claim(f"the longest that a caller waited was {longest:.0f} ms", longest < WAIT_SECONDS * 1000)
