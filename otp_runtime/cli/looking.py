"""Commands that look: `tree`, `ps`, `inspect`, `why`. Only `inspect` asks a process anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, NoSuchThing
from otp_runtime.core import messages as wire
from otp_runtime.errors import OtpError
from otp_runtime.host.box import Box
from otp_runtime.observe.tree import RESTARTS_MAX, describe_status, walk
from otp_runtime.process import client, death, names, recordings
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import amount

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.observe.tree import NodeView, ProcessView
    from otp_runtime.process.death import Death

STATUS_SECONDS = 0.5
NAMES_MAX_COLUMNS = 60


# -- tree --------------------------------------------------------------------------------------------------------------


def tree(options: argparse.Namespace) -> int:
    """Print the supervision tree."""
    view = target.look(target.find_node(options.node), memory=True)
    if options.json:
        output.print_json(_node_as_json(view) | {"tree": [_branch(view, one) for one in _roots(view)]})
        return DONE
    paint = output.Painter()
    print(node_line(view, paint))
    for line in tree_lines(view.tree, paint, output.terminal_width()):
        print(line)
    if not view.tree:
        print(paint("no server is running", "dim"))
    return DONE


def node_line(view: NodeView, paint: output.Painter) -> str:
    """Say in one line what a node is."""
    facts = (
        f"OS pid {view.os_pid}",
        f"up {output.span(time.time() - view.started_at)}",
        output.count(len(view.tree), "process", "processes"),
        output.size(view.rss_bytes),
    )
    return f"{paint(view.name, 'bold')}  {paint(' · '.join(facts), 'dim')}"


def tree_lines(
    processes: tuple[ProcessView, ...], paint: output.Painter, width: int, *, fresh_seconds: float = 0.0
) -> list[str]:
    """Draw a tree, one line for each process, its facts in columns; the titles of those younger than that in green."""
    fresh_since = time.time() - fresh_seconds
    steps = list(walk(processes))
    facts = output.table(
        [
            [
                paint(f"<{one.id}>", "dim"),
                paint(f"os {one.os_pid}", "dim"),
                paint.status(describe_status(one)),
                output.size(one.rss_bytes),
                paint(describe_restarts(one), "yellow"),
            ]
            for one in (step.process for step in steps)
        ],
        right=(0, 1, 3),
    )
    room = min(NAMES_MAX_COLUMNS, max(20, width - max(map(output.width_of, facts), default=0) - 2))
    names = [
        _named(step.lead, step.process, paint, room, "green" if step.process.started_at > fresh_since else "")
        for step in steps
    ]
    column = max(map(output.width_of, names), default=0)
    return [f"{output.pad(name, column)}  {fact}" for name, fact in zip(names, facts, strict=True)]


def _named(lead: str, one: ProcessView, paint: output.Painter, room: int, colour: str = "") -> str:
    title = output.cut(one.title, max(4, room - len(lead)))
    left = room - len(lead) - len(title) - 1
    label = output.cut(one.label, left) if one.name and one.label != one.name and left > 6 else ""
    colour = colour or ("blue" if one.kind == "supervisor" else "")
    return f"{paint(lead, 'dim')}{paint(title, 'bold', colour)}{' ' if label else ''}{paint(label, 'dim')}"


def describe_restarts(one: ProcessView) -> str:
    """Say how often a process was restarted; nothing when it never was."""
    if not one.restarts:
        return ""
    return f"{output.count(one.restarts, 'restart')}{'+' if one.restarts >= RESTARTS_MAX else ''}"


def _roots(view: NodeView) -> list[ProcessView]:
    return [step.process for step in walk(view.tree) if step.depth == 0]


def _branch(view: NodeView, one: ProcessView) -> dict[str, Any]:
    below = [step.process for step in walk(view.tree) if step.process.parent == one.id]
    return _as_json(view, one) | {"children": [_branch(view, child) for child in below]}


def _node_as_json(view: NodeView) -> dict[str, Any]:
    return {"node": view.name, "os_pid": view.os_pid, "started_at": view.started_at, "rss_bytes": view.rss_bytes}


def _as_json(view: NodeView, one: ProcessView) -> dict[str, Any]:
    return {"pid": f"<{one.id}@{view.name}>"} | one.to_json()


# -- ps ----------------------------------------------------------------------------------------------------------------

_SORTED: dict[str, Callable[[ProcessView], Any]] = {
    "id": lambda one: one.id,
    "name": lambda one: (one.title, one.id),
    "memory": lambda one: (-(one.rss_bytes or 0), one.id),
    "handled": lambda one: (-one.handled, one.id),
    "queued": lambda one: (-one.queued_bytes, one.id),
    "started": lambda one: (one.started_at, one.id),
}


def ps(options: argparse.Namespace) -> int:
    """Print a table of all processes, the programs' own and the launcher included."""
    view = target.look(target.find_node(options.node), memory=True)
    processes = sorted(view.processes, key=_SORTED[options.sort])
    if options.json:
        output.print_json([_as_json(view, one) for one in processes])
        return DONE
    paint = output.Painter()
    head = ("ID", "NAME", "KIND", "OS PID", "STATUS", "HANDLED", "QUEUED", "MEMORY", "AGE", "RESTARTS", "UNDER")
    rows = [[paint(word, "bold") for word in head]]
    rows += [_row(view, one, paint) for one in processes]
    for line in output.table(rows, right=(0, 3, 5, 6, 7, 8, 9)):
        print(line)
    return DONE


def _row(view: NodeView, one: ProcessView, paint: output.Painter) -> list[str]:
    above = view.find(one.parent) if one.kind in {"server", "supervisor"} else None
    return [
        str(one.id),
        _named("", one, paint, 40),
        one.kind,
        str(one.os_pid),
        paint.status(describe_status(one)),
        str(one.handled),
        output.size(one.queued_bytes) if one.queued_bytes else "-",
        output.size(one.rss_bytes),
        output.span(time.time() - one.started_at),
        str(one.restarts or "-"),
        f"{above.title} <{above.id}>" if above is not None and above.kind == "supervisor" else "-",
    ]


# -- inspect -----------------------------------------------------------------------------------------------------------


def inspect(options: argparse.Namespace) -> int:
    """Print what the box of a process says and, if it is free to answer, what it says itself."""
    directory = target.find_node(options.node)
    view = target.look(directory, memory=True)
    one = target.find_process(directory, view, options.name)
    target.join(directory)
    status, silence = _ask_status(view, one)
    in_hand = _message_in_hand(directory, one)
    if options.json:
        output.print_json(_as_json(view, one) | {"message_in_hand": in_hand, "said": status, "silent": silence})
        return DONE
    paint = output.Painter()
    rows = [(name, value) for name, value in _facts(view, one, in_hand) if value]
    rows += [(name, value) for name, value in _said(status)]
    if silence:
        rows.append(("status", paint(silence, "yellow")))
    print(f"{paint(one.title, 'bold')}  {paint.status(describe_status(one))}")
    for line in output.table([[paint(f"  {name}", "dim"), value] for name, value in rows]):
        print(line)
    return DONE


def _facts(view: NodeView, one: ProcessView, in_hand: str | None) -> list[tuple[str, str]]:
    above = view.find(one.parent)
    below = [f"{child.title} <{child.id}>" for child in view.tree if child.parent == one.id]
    return [
        ("pid", f"<{one.id}@{view.name}>"),
        ("name", one.name or ""),
        ("runs", one.label),
        ("kind", one.kind),
        ("OS pid", str(one.os_pid)),
        ("memory", output.size(one.rss_bytes)),
        ("limits", ", ".join(f"{field} {amount(field, limit)}" for field, limit in one.limits.items())),
        ("started", f"{output.span(time.time() - one.started_at)} ago"),
        ("restarts", describe_restarts(one)),
        ("supervisor", f"{above.title} <{above.id}>" if above is not None and above.kind == "supervisor" else ""),
        ("children", ", ".join(below) if one.kind == "supervisor" else ""),
        ("handled", output.count(one.handled, "message")),
        ("queued", output.size(one.queued_bytes) if one.queued_bytes else ""),
        ("no messages", f"{one.garbage} skipped" if one.garbage else ""),
        ("traps exits", "yes" if one.trap_exit else "no"),
        ("in hand", in_hand or ""),
    ]


def _said(status: Any) -> list[tuple[str, str]]:
    """Choose from `get_status` what the box does not tell."""
    if not isinstance(status, dict):
        return []
    known = {"pid", "name", "module", "status", "parent", "trap_exit", "handled", "children"}
    return [(key.replace("_", " "), repr(value)) for key, value in status.items() if key not in known]


def _message_in_hand(directory: NodeDirectory, one: ProcessView) -> str | None:
    box = Box.open(directory.box(one.id))
    if box is None:
        return None
    try:
        return death.describe_message(box.message_in_hand)
    finally:
        box.close()


def _ask_status(view: NodeView, one: ProcessView) -> tuple[Any, str | None]:
    """Ask a process for its status; give it, or why it is silent."""
    if one.kind in {"program", "launcher"}:
        return None, None
    match one.status:
        case "stopped":
            return None, f"not asked: it is stopped by a signal (SIGCONT to OS pid {one.os_pid} lets it go on)"
        case "starting":
            return None, "not asked: it is still starting"
        case "ending":
            return None, "not asked: it is ending"
    try:
        pid = Pid(view.name, one.id, view.incarnation)
        return client.request(pid, "get_status", STATUS_SECONDS, kind=wire.SYSTEM), None
    except TimeoutError:
        doing = f"busy for {output.span(one.busy_seconds)}" if one.busy_seconds else "silent"
        return None, f"asked, it did not answer within {STATUS_SECONDS:g} s: it is {doing}"
    except OtpError as error:
        return None, f"asked, and: {error}"


# -- why ---------------------------------------------------------------------------------------------------------------


def why(options: argparse.Namespace) -> int:
    """Print the record of the last death of a process, or of all that are kept."""
    directory = target.find_node(options.node)
    records = _deaths(directory, options.name)
    if not records:
        return _say_no_death(directory, options)
    shown = records if options.all else records[:1]
    if options.json:
        output.print_json([one.to_json() for one in shown] if options.all else shown[0].to_json())
        return DONE
    paint = output.Painter()
    recorded = {about.id for _path, about in recordings.of_the_dead(directory)}
    for number, record in enumerate(shown):
        if number:
            print()
        _print_death(record, paint)
        if record.id in recorded:
            print(paint(f"  what led to it is recorded: otp replay {record.id}", "dim"))
    return DONE


def _print_death(record: Death, paint: output.Painter) -> None:
    first, *rest = death.text_of(record, full=True).split("\n")
    print(paint(first, "bold"))
    died = f"died {output.span(time.time() - record.died_at)} ago"
    lived = f"it lived {output.span(max(0.0, record.died_at - record.started_at))} and " if record.started_at else ""
    print(f"  {lived}{died}")
    for line in rest:
        print(line)


def _say_no_death(directory: NodeDirectory, options: argparse.Namespace) -> int:
    """Nothing is on record: say what is known of who has that name."""
    note = death.giving_up_note(directory, options.name)
    if note and not options.json and names.owner_of(directory, options.name) is None:
        print(f"{options.name} is down: {note}")
        return DONE
    view = target.look(directory)
    try:
        one = target.find_process(directory, view, options.name)
    except NoSuchThing as error:
        raise NoSuchThing(f"{error}; and no death of {options.name} is on record") from error
    if options.json:
        output.print_json([] if options.all else None)
    else:
        print(f"{one.title} <{one.id}> is alive ({describe_status(one)}) and has not died of anything abnormal")
    return DONE


def _deaths(directory: NodeDirectory, text: str) -> list[Death]:
    """Give what is on record of a name or a pid, newest first."""
    try:
        records = death.records(directory)
    except FileNotFoundError as error:
        raise NoSuchThing("the node has just ended") from error
    number = target.parse_pid(text)
    return [one for one in reversed(records) if one.server == text or one.id == number]
