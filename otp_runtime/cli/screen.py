"""A whole terminal that shows one page after the other and hears keys; it is left as it was found.

With `rich` its live display draws; without, four escape sequences do. Both are given painted lines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self

from otp_runtime.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

RESIZED = "resized"
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_TO_LINE_END = "\x1b[K"
_TO_SCREEN_END = "\x1b[J"


def is_to_be_had() -> bool:
    """Say whether somebody looks and can type: standard input and output are a terminal."""
    return output.is_terminal(sys.stdout) and sys.stdin.isatty()


class Screen:
    """Takes the terminal over for the time of a `with` block."""

    def __init__(self) -> None:
        """Take nothing over yet."""
        self._stack = contextlib.ExitStack()
        self._resized = -1
        self._live: Any = None

    def __enter__(self) -> Self:
        """Take over: keys come at once and unseen, the page that was there is put aside."""
        with contextlib.ExitStack() as stack:
            self._hear_keys(stack)
            self._notice_resizing(stack)
            if importlib.util.find_spec("rich") is not None:
                from rich.console import Console
                from rich.live import Live

                console = Console(highlight=False)
                self._live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
            else:
                stack.callback(_write, _LEAVE)
                _write(_ENTER)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Give the terminal back."""
        self._stack.close()

    @staticmethod
    def _hear_keys(stack: contextlib.ExitStack) -> None:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        stack.callback(termios.tcsetattr, fd, termios.TCSADRAIN, before)
        tty.setcbreak(fd)

    def _notice_resizing(self, stack: contextlib.ExitStack) -> None:
        self._resized, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for fd in (self._resized, told):
            stack.callback(os.close, fd)

        def note(*_signal: object) -> None:
            with contextlib.suppress(BlockingIOError):
                os.write(told, b"x")

        stack.callback(signal.signal, signal.SIGWINCH, signal.signal(signal.SIGWINCH, note))

    def show(self, lines: Sequence[str]) -> None:
        """Show a page: as many of the lines as there is room for, each in one line of the terminal."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
            return
        columns, rows = size()
        page = [output.crop(line, columns) for line in lines[:rows]]
        _write(_HOME + "\n".join(f"{line}{_TO_LINE_END}" for line in page) + _TO_SCREEN_END)

    def wait_key(self, seconds: float) -> str | None:
        """Wait for a key and give it; `RESIZED` when the terminal was resized, None when the time is over.

        The end of what is typed is the key "q": nobody is there any more.
        """
        ready, _, _ = select.select([sys.stdin, self._resized], [], [], max(0.0, seconds))
        if sys.stdin in ready:
            return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q"
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._resized, 4096)
            return RESIZED
        return None


def size() -> tuple[int, int]:
    """Give the columns and lines of the terminal."""
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    return columns or 80, rows or 24


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
