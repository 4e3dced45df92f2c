"""How a story is told: lines, claims that are checked as they are made, reports tamed to one line each."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import sys
import textwrap
import time
from typing import TYPE_CHECKING

from otp_runtime.cli import output
from otp_runtime.cli.demo.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPORT_SECONDS = 5.0
LINE_PAUSE_SECONDS = 0.09
CHAPTER_PAUSE_SECONDS = 0.4
LOOK_SECONDS = 0.7
TEXT_COLUMNS = 92
_PROCESS = re.compile(r"\(process (\d+), OS pid \d+\)")


class ClaimFailed(Exception):
    """Something the story said is not so; the text is the claim."""


class _Catcher(logging.Handler):
    """Keeps the library's reports for the storyteller."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.caught: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.caught.put(record)


class Story:
    """Tells a story on standard output: for a person on a terminal with a live tree below and time to read."""

    def __init__(self) -> None:
        """Look at standard output once."""
        self.claims = 0
        self.paint = output.Painter()
        self.is_live = output.is_terminal(sys.stdout)
        self._stage = Stage(self.paint, live=self.is_live)
        self._catcher = _Catcher()
        self._chapters = 0

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Catch reports and keep the live tree while the story is told."""
        logger = logging.getLogger("otp_runtime")
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(self._catcher)
        try:
            with self._stage:
                yield
        finally:
            logger.removeHandler(self._catcher)
            logger.setLevel(level)
            logger.propagate = propagate

    # -- lines -----------------------------------------------------------------------------------------------------

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapters += 1
        self._pause(CHAPTER_PAUSE_SECONDS)
        self.line("")
        self.line(self.paint(f"{self._chapters}  {title}", "bold", "cyan"))

    def say(self, text: str) -> None:
        """Say something that is not checked."""
        for line in textwrap.wrap(text, _columns()):
            self.line(f"   {line}")
        self._pause(LINE_PAUSE_SECONDS)

    def claim(self, text: str, holds: bool) -> None:
        """Say something that is checked; raises `ClaimFailed` when it does not hold."""
        self._tell_reports()
        if not holds:
            self.line(f"   {self.paint('✗', 'red', 'bold')} {text}")
            raise ClaimFailed(text)
        self.claims += 1
        self.line(f"   {self.paint('✓', 'green')} {text}")
        self._pause(LINE_PAUSE_SECONDS)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show a table; its first row and column are headings."""
        styled = {"kept": "dim", "restarted": "green", "stays away": "yellow"}
        painted = [
            [
                self.paint(cell, "bold" if not (row and column) else styled.get(cell, ""))
                for column, cell in enumerate(cells)
            ]
            for row, cells in enumerate(rows)
        ]
        for line in output.table(painted, gap="   "):
            self.line(f"      {line}")
        self._pause(LOOK_SECONDS)

    def tree(self) -> None:
        """Show the supervision tree as it is now; where it is shown all the time, give time to look at it."""
        for line in self._stage.picture():
            self.line(f"      {line}")
        self._pause(LOOK_SECONDS)

    def line(self, text: str) -> None:
        """Print one line as it is."""
        self._stage.print(text)

    def _pause(self, seconds: float) -> None:
        if self.is_live:
            time.sleep(seconds)

    # -- reports ---------------------------------------------------------------------------------------------------

    def hear(self, *servers: str) -> dict[str, logging.LogRecord]:
        """Wait for a report about each of `servers` and tell all that came until then; gives those that came."""
        heard: dict[str, logging.LogRecord] = {}
        deadline = time.monotonic() + REPORT_SECONDS
        while not heard.keys() >= set(servers):
            try:
                record = self._catcher.caught.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            self._tell(record)
            heard[getattr(record, "server", "")] = record
        return heard

    def _tell_reports(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._tell(self._catcher.caught.get_nowait())

    def _tell(self, record: logging.LogRecord) -> None:
        """Tell a report in one line: who, why, and what its supervisor does about it."""
        first, *rest = record.getMessage().split("\n")
        under = next((line.strip() for line in rest if line.startswith("  supervisor ")), "")
        repair = under.partition(": ")[2]
        who_and_why = _PROCESS.sub(r"<\1>", first)
        text = f"{who_and_why} · {repair}" if repair else who_and_why
        self.line(self.paint(f"   ┊ log: {output.cut(text, _columns() - 6)}", "dim"))


def _columns() -> int:
    return min(TEXT_COLUMNS, output.terminal_width() - 4)


def milliseconds(started: float) -> str:
    """Say how long ago `started` (a `time.perf_counter`) was."""
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"
