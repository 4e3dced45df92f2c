"""The part of the story about what is left of a death: the state, and the explanation."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from otp_runtime.cli import output
from otp_runtime.cli.demo.servers import Counter
from otp_runtime.process import death
from otp_runtime.process import primitives as process
from otp_runtime.supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.cli.demo.story import Story
    from otp_runtime.process.death import Death
    from otp_runtime.terms.pid import Pid

WAIT_SECONDS = 5.0
START = 10
SHOWN_LINES = 12
SHOWN_COLUMNS = 86


def a_state_that_survives(story: Story) -> None:
    """The last good state, after kill -9."""
    story.chapter("A state that survives")
    story.say('restore="last_good": what a reply has told is kept before that reply leaves, outside of the process.')
    children = [Counter.child_spec(START, name="counter", restore="last_good")]
    with Supervisor.start_link(children, strategy="one_for_one", name="supervisor"):
        for _ in range(3):
            Counter.inc("counter")
        told = Counter.val("counter")
        story.claim(f"after three times inc the counter tells {told}", told == START + 3)
        old = _running("counter")
        _kill(old)
        old.wait(WAIT_SECONDS)
        story.hear("counter")
        now = Counter.val("counter")
        story.claim(f"killed with SIGKILL; the new process {_running('counter')} goes on at {now}", now == told)
        record = death.why(old)
        story.claim(
            f"the post-mortem has the last good state: {record and record.last_good_state}",
            record is not None and record.last_good_state == str(told),
        )


def _running(name: str) -> Pid:
    pid = process.whereis(name)
    assert pid is not None
    return pid


def _kill(pid: Pid) -> None:
    assert pid.os_pid is not None
    os.kill(pid.os_pid, signal.SIGKILL)


def why_it_died(story: Story) -> None:
    """What `why` says of three ways to die."""
    story.chapter("Why did it die?")
    story.say("Each death is explained afterwards: python -m otp_runtime why counter")
    children = [Counter.child_spec(START, name="counter")]
    with Supervisor.start_link(children, strategy="one_for_one", max_restarts=10, name="supervisor"):
        for way, text, is_explained in _EXPLAINED:
            old = _running("counter")
            Counter.die(old, way)
            old.wait(WAIT_SECONDS)
            story.hear("counter")
            record = death.why(old)
            story.line("")
            _quote(story, record)
            story.claim(text, record is not None and is_explained(record))
            Counter.val("counter")


_EXPLAINED: tuple[tuple[str, str, Callable[[Death], bool]], ...] = (
    (
        "exception",
        "an exception: the traceback leads to the line, and the message that began it is known",
        lambda record: "servers.py" in (record.python_traceback or "") and "'die'" in (record.message_in_hand or ""),
    ),
    ("os._exit", "an exit code, in words", lambda record: record.exit_code == 3 and record.explanation is not None),
    (
        "SIGSEGV",
        "a crash in C code: the native stack leads to the line of Python that called it",
        lambda record: record.signal == "SIGSEGV" and "servers.py" in (record.native_stack or ""),
    ),
)


def _quote(story: Story, record: Death | None) -> None:
    """Show the first lines of what `why` prints."""
    text = "" if record is None else death.text_of(record, full=True)
    lines = [line for line in text.split("\n") if line.strip()]
    shown = lines[:SHOWN_LINES]
    if len(lines) > SHOWN_LINES:
        shown.append(f"    … {output.count(len(lines) - SHOWN_LINES, 'line')} more")
    for line in shown:
        story.line(story.paint(f"      {output.cut(line, SHOWN_COLUMNS)}", "dim"))


__all__ = ["a_state_that_survives", "why_it_died"]
