"""Which node a command is about, and which process: from what was typed to what is there."""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from otp_runtime.cli.failures import CommandError, NoSuchThing, WrongUsage
from otp_runtime.core.names import Held, file_name_of, is_name
from otp_runtime.errors import NoNode
from otp_runtime.host import directory as directories
from otp_runtime.host.directory import DirectoryUnusable, NodeDirectory
from otp_runtime.observe.tree import observe
from otp_runtime.process import names
from otp_runtime.process import node as nodes
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.observe.tree import NodeView, ProcessView

_PID = re.compile(r"<?(\d+)(?:@([^>]+))?>?")


# -- nodes -------------------------------------------------------------------------------------------------------------


def find_node(chosen: str | None) -> NodeDirectory:
    """Give the directory of the node that is meant: `chosen`, else `OTP_NODE`, else the only running one.

    Raises `NoSuchThing`, with the running nodes listed, when it does not run or several could be meant.
    """
    try:
        running = nodes.running_nodes()
    except DirectoryUnusable as error:
        raise CommandError(str(error)) from error
    chosen = chosen or os.environ.get("OTP_NODE") or None
    if chosen is None:
        if len(running) == 1:
            return directory_of(running[0])
        raise NoSuchThing(_which(running))
    try:
        name = nodes.full_name(chosen)
    except ValueError as error:
        raise WrongUsage(str(error)) from error
    if name not in running:
        raise NoSuchThing(f"no node {name} is running here; {_listed(running)}")
    return directory_of(name)


def _which(running: list[str]) -> str:
    if not running:
        return "no node is running here; start one with: python -m otp_runtime run module:app"
    return f"{len(running)} nodes are running; say which with --node NAME (or OTP_NODE):\n" + "\n".join(
        f"  {name}" for name in running
    )


def _listed(running: list[str]) -> str:
    return f"running: {', '.join(running)}" if running else "none is"


def directory_of(node: str) -> NodeDirectory:
    """Give the directory of a running node."""
    return NodeDirectory(directories.base_directory() / file_name_of(node))


def join(directory: NodeDirectory) -> None:
    """Make this command a process of the node; what the node can import, it can."""
    said = Codec().decode((directory.path / "node").read_bytes())
    sys.path += [entry for entry in said["path"] if entry not in sys.path]
    try:
        nodes.attach(said["name"])
    except NoNode as error:
        raise NoSuchThing(str(error)) from error


# -- processes ---------------------------------------------------------------------------------------------------------


def parse_pid(text: str) -> int | None:
    """Give the id in `12`, `<12>` or `<12@node>`; None when it is no such thing."""
    found = _PID.fullmatch(text)
    return int(found[1]) if found else None


def reference(directory: NodeDirectory, view: NodeView, text: str) -> Pid | str:
    """Give the server reference that was typed: a local name, or the pid of a living process.

    A name that is coming back stays a name, so that a call waits for it. Raises `NoSuchThing`.
    """
    if is_name(text) and names.owner_of(directory, text) is not None:
        return text
    return Pid(view.name, find_process(directory, view, text).id, view.incarnation)


def find_process(directory: NodeDirectory, view: NodeView, text: str) -> ProcessView:
    """Give the living process that was typed: by its local name or its pid. Raises `NoSuchThing`."""
    owner = names.owner_of(directory, text) if is_name(text) else None
    wanted = owner.id if isinstance(owner, Held) else None if owner is not None else _id_here(view, text)
    found = view.find(wanted) if wanted is not None else None
    if found is None:
        raise NoSuchThing(_nobody(view, text, coming_back=owner is not None and wanted is None))
    return found


def _id_here(view: NodeView, text: str) -> int | None:
    found = _PID.fullmatch(text)
    if found is None:
        return None
    if found[2] is not None and found[2] != view.name and found[2] != view.name.partition("@")[0]:
        raise NoSuchThing(f"{text} is no process of {view.name}; choose its node with --node {found[2]}")
    return int(found[1])


def _nobody(view: NodeView, text: str, *, coming_back: bool) -> str:
    if coming_back:
        return f"{text} is being restarted just now"
    known = [one.name for one in view.processes if one.name]
    close = difflib.get_close_matches(text, known, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; names: {', '.join(known) or 'none'}"
    return f"no process {text} on {view.name}{hint}"


def look(directory: NodeDirectory, *, memory: bool = False) -> NodeView:
    """Read the node as it is now; raises `NoSuchThing` when it ended meanwhile."""
    try:
        return observe(directory, memory=memory)
    except FileNotFoundError as error:
        raise NoSuchThing("the node has just ended") from error


# -- requests ----------------------------------------------------------------------------------------------------------


def parse_request(text: str) -> Any:
    """Read a request: a Python literal, else the bare word itself.

    What opens like a literal and is none is a slip of the hand, and `WrongUsage`.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        if text.lstrip()[:1] in set("([{'\"") or not text.strip():
            raise WrongUsage(f"REQUEST {text!r} is neither a Python literal nor a word: {error}") from None
        return text
