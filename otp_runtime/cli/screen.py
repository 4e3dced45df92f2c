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
LONGEST_SECONDS = 86_400.0
"""What the kernel is asked to wait at most; who waits on asks again."""

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
        self._signals = -1
        self._live: Any = None

    def __enter__(self) -> Self:
        """Take over: keys come at once and unseen, the page that was there is put aside."""
        with contextlib.ExitStack() as stack:
            self._hear_keys(stack)
            self._notice_signals(stack)
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

    def _notice_signals(self, stack: contextlib.ExitStack) -> None:
        """Let `wait_key` tell of signals: an exception in the middle of drawing could be lost, or spoil the page."""
        self._signals, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for fd in (self._signals, told):
            stack.callback(os.close, fd)

        # the number is written by the handler in C: one in Python runs too late for a wait that has just begun
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told, warn_on_full_buffer=False))
        for number in (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_signal: None))

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

        Ctrl-C is the key "q", and so is the end of what is typed: nobody is there any more. SIGTERM ends the program.
        """
        ready, _, _ = select.select([sys.stdin, self._signals], [], [], min(max(0.0, seconds), LONGEST_SECONDS))
        if self._signals in ready:
            numbers = os.read(self._signals, 4096)
            if signal.SIGTERM in numbers:
                sys.exit(128 + signal.SIGTERM)
            return "q" if signal.SIGINT in numbers else RESIZED
        if ready:
            return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q"
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
