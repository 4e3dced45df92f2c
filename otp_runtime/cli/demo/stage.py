"""Where a story is shown: plain lines, or on a terminal with `rich` lines above a live tree."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any, Self

from otp_runtime.cli import output
from otp_runtime.cli.looking import node_line, tree_lines
from otp_runtime.observe.tree import observe
from otp_runtime.process import current

FRESH_SECONDS = 1.5
PICTURES_PER_SECOND = 8
FRAME_COLUMNS = 4
COLUMNS_MAX = 100


class Stage:
    """Prints lines; as a context manager it keeps a live tree below them where that is possible."""

    def __init__(self, paint: output.Painter, *, live: bool) -> None:
        """`live` asks for the tree; without `rich` the lines alone are shown."""
        self._paint = paint
        self._wants_live = live and importlib.util.find_spec("rich") is not None
        self._live: Any = None

    def __enter__(self) -> Self:
        """Put up the tree."""
        if self._wants_live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(highlight=False, soft_wrap=True),
                get_renderable=self._framed,
                refresh_per_second=PICTURES_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Take the tree away; the lines stay."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def print(self, text: str) -> None:
        """Print one line, above the tree if there is one."""
        if self._live is None:
            print(text, flush=True)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text))

    def picture(self) -> list[str]:
        """Give the tree to be printed as lines; nothing where it is shown all the time."""
        return [] if self._live is not None else self._lines()

    def _lines(self) -> list[str]:
        node = current.node()
        if node is None:
            return []
        with contextlib.suppress(OSError):
            view = observe(node.directory)
            lines = tree_lines(view.tree, self._paint, _columns() - FRAME_COLUMNS, fresh_seconds=FRESH_SECONDS)
            return lines if self._live is None else [node_line(view, self._paint), *lines]
        return []

    def _framed(self) -> Any:
        from rich.panel import Panel
        from rich.text import Text

        lines = self._lines()
        if not lines:
            return Text("")
        picture = Text.from_ansi("\n".join(lines), no_wrap=True)
        return Panel(picture, border_style="dim", width=_columns(), title="now", title_align="left")


def _columns() -> int:
    return min(COLUMNS_MAX, output.terminal_width())
