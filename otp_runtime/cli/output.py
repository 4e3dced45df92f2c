"""How things look in a terminal: colours, sizes, times, tables. Plain text; nothing here knows a process."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import sys
import time
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TextIO

from otp_runtime.terms.reason import Crash, Exited, Signalled, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
STATUS_STYLES = {
    "idle": "green",
    "busy": "yellow",
    "starting": "cyan",
    "suspended": "magenta",
    "stopped": "red",
    "ending": "red",
    "hung": "red",
}


def is_terminal(stream: TextIO) -> bool:
    """Say whether a person looks at `stream` through a terminal that can do more than a typewriter."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}


def wants_colour(stream: TextIO) -> bool:
    """Say whether to colour what goes to `stream`; `NO_COLOR` says no."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


class Painter:
    """Colours text for one stream, or leaves it alone."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Look at the stream (standard output) once."""
        self.on = wants_colour(sys.stdout if stream is None else stream)

    def __call__(self, text: str, *styles: str) -> str:
        """Paint `text` in `styles`: "bold", "dim" or a colour."""
        codes = ";".join(_CODES[style] for style in styles if style)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.on and codes and text else text

    def status(self, text: str) -> str:
        """Paint a status in its own colour."""
        return self(text, STATUS_STYLES.get(text.split(" ", maxsplit=1)[0], ""))


def width_of(text: str) -> int:
    """Give the columns that `text` takes, its colours not counted."""
    return len(_ESCAPES.sub("", text))


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill `text` up to `width` columns."""
    blanks = " " * max(0, width - width_of(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def cut(text: str, width: int) -> str:
    """Shorten an unpainted `text` to `width` columns."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def crop(text: str, width: int) -> str:
    """Leave out what of a painted `text` is beyond `width` columns; its colours end there."""
    if width_of(text) <= width:
        return text
    kept, left = [], width
    for part in re.split(f"({_ESCAPES.pattern})", text):
        if _ESCAPES.fullmatch(part):
            kept.append(part)
        else:
            kept.append(part[:left])
            left -= len(part[:left])
    return "".join(kept)


def terminal_width() -> int:
    """Give the columns of the terminal; a wide page where there is none."""
    return shutil.get_terminal_size((160, 40)).columns


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = (), gap: str = "  ") -> list[str]:
    """Lay out rows in columns as wide as need be; those in `right` are flush right."""
    if not rows:
        return []
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        gap.join(pad(cell, widths[number], right=number in right) for number, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def size(size_bytes: int | None) -> str:
    """Say a number of bytes: 940 B, 12.3 MB."""
    if size_bytes is None:
        return "-"
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def span(seconds: float) -> str:
    """Say a length of time in one or two units: 3.2 s, 4 min, 2 h 5 min, 3 d."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def clock(at: float) -> str:
    """Say a time of today (seconds since the epoch): 14:03:07.402."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Say how many: 1 process, 2 processes."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def plain(term: Any) -> Any:
    """Turn any term into what JSON can say: tuples into lists, reasons into words, the rest into its `repr`."""
    match term:
        case None | bool() | int() | str():
            return term
        case float():
            return term if math.isfinite(term) else repr(term)
        case Crash() | Signalled() | Exited():
            return describe(term)
        case dict():
            return {key if isinstance(key, str) else repr(key): plain(value) for key, value in term.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(part) for part in term]
        case _ if is_dataclass(term) and not isinstance(term, type):
            return {field.name: plain(getattr(term, field.name)) for field in fields(term)}
        case _:
            return repr(term)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(as_json(value, indent=2))


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Give a JSON document, without letters that standard output cannot say."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(plain(value), ensure_ascii=not is_unicode, indent=indent)


def escape_the_unsayable() -> None:
    """Print what standard output cannot encode as an escape, which is one of JSON's, too: an error may hold anything.

    Half a surrogate has no encoding; it stands for a byte of a path or argument that is no text.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
