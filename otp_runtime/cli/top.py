"""`top`: what the processes of a node do, looked at again and again. On a terminal a page that refreshes, else tables.

look ──► choose and sort ──► a page on the terminal ── a key, or the interval is over ──► look again
                         └── a table, or a line of JSON, `--count` times
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.cli import output, screen, target
from otp_runtime.cli.failures import DONE, NoSuchThing
from otp_runtime.observe.activity import Watcher
from otp_runtime.observe.tree import RESTARTS_MAX
from otp_runtime.process import node as nodes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from otp_runtime.observe.activity import Activity, Picture

NAME_COLUMNS = 36
NAME_COLUMNS_LEAST = 12
GAP = "  "
ENDED = "the node has ended"

_SORTED: dict[str, Callable[[Activity], Any]] = {
    "cpu": lambda one: -(one.cpu_percent or 0.0),
    "memory": lambda one: -(one.unique_bytes or 0),
    "mailbox": lambda one: -one.mailbox_bytes,
    "rate": lambda one: -(one.handled_per_second or 0.0),
    "handled": lambda one: -one.process.handled,
    "restarts": lambda one: -(one.process.restarts or 0),
    "busy": lambda one: -(one.process.busy_seconds or 0.0),
    "started": lambda one: -one.process.started_at,
    "name": lambda one: one.process.title,
    "id": lambda one: one.process.id,
}
SORT_KEYS = tuple(_SORTED)


def perform(options: argparse.Namespace) -> int:
    """Show a node until `q`, Ctrl-C, `--count` tables or its end; that is exit code 3."""
    view = _View(options)
    if options.count is None and not options.json and screen.is_to_be_had():
        return _live(view, options.interval)
    return _print(view, options)


class _View:
    """What is looked at, and how it is chosen, sorted and laid out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._directory = target.find_node(options.node)
        self._watcher = Watcher(self._directory)
        self._filter = (options.filter or "").casefold()
        self.sort: str = options.sort

    def look(self) -> Picture:
        """Look now; raises `NoSuchThing` when the node has ended."""
        try:
            picture = self._watcher.look()
        except FileNotFoundError:
            _end()
        if not nodes.is_running(self._directory):  # what was killed as a whole leaves its directory behind for a while
            _end()
        return picture

    def chosen(self, picture: Picture) -> list[Activity]:
        """Give those that fit the filter, sorted; among equals by id."""
        found = [one for one in picture.activities if self._fits(one)]
        return sorted(found, key=lambda one: (_SORTED[self.sort](one), one.process.id))

    def _fits(self, one: Activity) -> bool:
        said = (one.process.title, one.process.label, one.process.kind, one.state)
        return any(self._filter in text.casefold() for text in said)

    def to_json(self, picture: Picture) -> dict[str, Any]:
        node = picture.node
        return {
            "node": node.name,
            "os_pid": node.os_pid,
            "at": time.time(),
            "seconds": picture.seconds,
            "cpu_percent": picture.cpu_percent,
            "unique_bytes": picture.unique_bytes,
            "processes": [
                {"pid": f"<{one.process.id}@{node.name}>", "supervisor": _under(picture, one)} | one.to_json()
                for one in self.chosen(picture)
            ],
        }

    def lines(self, picture: Picture, columns: float, paint: output.Painter, hint: str = "") -> list[str]:
        """Lay a page out: the node, what can be done, a table."""
        shown = self.chosen(picture)
        page = [_node_line(picture, paint), *([paint(hint, "dim")] if hint else [])]
        if not shown:
            return [*page, paint("no process fits the filter", "dim")]
        return [*page, *_table(picture, shown, columns, paint)]


def _end() -> NoReturn:
    raise NoSuchThing(ENDED)


# -- on a terminal -----------------------------------------------------------------------------------------------------


def _live(view: _View, interval: float) -> int:
    """Refresh a page until somebody has seen enough."""
    with screen.Screen() as page:
        paint = output.Painter()
        picture = view.look()
        due = time.monotonic() + interval
        while True:
            hint = f"q quit · s sort by the next ({view.sort}) · space look now · every {interval:g} s"
            page.show(view.lines(picture, screen.size()[0], paint, hint))
            match page.wait_key(due - time.monotonic()):
                case "q" | "Q" | "\x04":
                    break
                case "s":
                    view.sort = SORT_KEYS[(SORT_KEYS.index(view.sort) + 1) % len(SORT_KEYS)]
                case " " | None:
                    picture = view.look()
                    due = time.monotonic() + interval
    return DONE


# -- without one -------------------------------------------------------------------------------------------------------


def _print(view: _View, options: argparse.Namespace) -> int:
    """Print so many tables, or lines of JSON; what goes by the second needs an interval before the first."""
    paint = output.Painter()
    columns = screen.size()[0] if output.is_terminal(sys.stdout) else math.inf
    try:
        view.look()
        for number in range(options.count or 1):
            time.sleep(min(options.interval, screen.LONGEST_SECONDS))
            picture = view.look()
            if options.json:
                print(output.as_json(view.to_json(picture), indent=None if options.count else 2), flush=True)
                continue
            if number:
                print()
            print("\n".join(view.lines(picture, columns, paint)), flush=True)
    except KeyboardInterrupt:
        return DONE
    return DONE


# -- a page ------------------------------------------------------------------------------------------------------------


def _node_line(picture: Picture, paint: output.Painter) -> str:
    node = picture.node
    facts = (
        f"up {output.span(time.time() - node.started_at)}",
        output.count(len(node.tree), "process", "processes"),
        f"CPU {_percent(picture.cpu_percent)}",
        f"memory {output.size(picture.unique_bytes)}",
    )
    return f"{paint(node.name, 'bold')}  {paint(' · '.join(facts), 'dim')}"


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its head, what it says, and how soon it is given up where there is no room: 0 never."""

    head: str
    text: Callable[[Picture, Activity, output.Painter], str]
    right: bool = True
    given_up: int = 0


_COLUMNS = (
    _Column("ID", lambda _p, one, _: str(one.process.id)),
    _Column("NAME", lambda _p, one, _: one.process.title, right=False),
    _Column("KIND", lambda _p, one, _: one.process.kind, right=False, given_up=3),
    _Column("UNDER", lambda picture, one, _: _under(picture, one) or "-", right=False, given_up=2),
    _Column("STATE", lambda _p, one, paint: paint.status(_state(one)), right=False),
    _Column("CPU %", lambda _p, one, _: _percent(one.cpu_percent, "")),
    _Column("UNIQUE", lambda _p, one, _: output.size(one.unique_bytes)),
    _Column("SHARE", lambda _p, one, _: output.size(one.share_bytes), given_up=1),
    _Column("MAILBOX", lambda _p, one, _: output.size(one.mailbox_bytes) if one.mailbox_bytes else "-"),
    _Column("MSG/S", lambda _p, one, _: "-" if one.handled_per_second is None else f"{one.handled_per_second:g}"),
    _Column("HANDLED", lambda _p, one, _: str(one.process.handled), given_up=5),
    _Column("RESTARTS", lambda _p, one, paint: paint(_restarts(one), "yellow"), given_up=6),
    _Column("AGE", lambda _p, one, _: output.span(time.time() - one.process.started_at), given_up=4),
)


def _table(picture: Picture, shown: Sequence[Activity], columns: float, paint: output.Painter) -> list[str]:
    """Lay the table out in so many columns of the terminal: what is least missed is left out where they are few."""
    left = list(_COLUMNS)
    cells = {column: [column.text(picture, one, paint) for one in shown] for column in left}
    for column in left:
        if column.head in {"NAME", "UNDER"}:
            cells[column] = [output.cut(_printable(text), NAME_COLUMNS) for text in cells[column]]
    while _width(left, cells) > columns and (dear := [column for column in left if column.given_up]):
        left.remove(min(dear, key=lambda column: column.given_up))
    over = _width(left, cells) - columns
    if over > 0:
        name = left[1]
        room = max(NAME_COLUMNS_LEAST, max(map(len, cells[name])) - int(over))
        cells[name] = [output.cut(text, room) for text in cells[name]]
    right = [number for number, column in enumerate(left) if column.right]
    head = [[paint(column.head, "bold") for column in left]]
    return output.table([*head, *map(list, zip(*(cells[column] for column in left), strict=True))], right, GAP)


def _width(columns: Sequence[_Column], cells: dict[_Column, list[str]]) -> int:
    wide = [max(output.width_of(text) for text in (column.head, *cells[column])) for column in columns]
    return sum(wide) + len(GAP) * (len(wide) - 1)


def _under(picture: Picture, one: Activity) -> str | None:
    """Name the supervisor of a process; None when it has none."""
    above = picture.node.find(one.process.parent) if one.process.kind in {"server", "supervisor"} else None
    return f"{above.title} <{above.id}>" if above is not None and above.kind == "supervisor" else None


def _state(one: Activity) -> str:
    busy = one.process.busy_seconds
    return f"{one.state} {busy:.1f} s" if one.state in {"busy", "hung"} and busy is not None else one.state


def _restarts(one: Activity) -> str:
    number = one.process.restarts
    return "-" if not number else f"{number}{'+' if number >= RESTARTS_MAX else ''}"


def _percent(share: float | None, unit: str = " %") -> str:
    return "-" if share is None else f"{share:.1f}{unit}"


def _printable(text: str) -> str:
    """Give a name without what would move the cursor: a name may hold any character."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
