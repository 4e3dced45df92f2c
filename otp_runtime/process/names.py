"""Local names: links in a directory. Reading takes one `readlink`, no lock and no liveness check.

Making is atomic (symlink(2) fails when the link is there). Taking over and removing are compare-and-delete
under the node's lock: without it two racers can both believe they own a name.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.core.names import ComingBack, Held, file_name_of, format_owner, name_of, parse_owner
from otp_runtime.errors import AlreadyRegistered, CallTimeout, NoProcess, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.process import route
from otp_runtime.process.peers import VERDICT_SECONDS
from otp_runtime.terms.pid import Global, Pid, Remote, Via

if TYPE_CHECKING:
    from otp_runtime.core.names import Owner
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer

WAIT_SECONDS = 0.0001
WAIT_GROWTH = 1.15
WAIT_SECONDS_MAX = 0.008
"""Who waits for a name looks again and again, after pauses that grow with the time waited: so what is late is late by
a seventh of the wait, and a long wait costs little."""


_paths: dict[str, str] = {}


def _path(directory: NodeDirectory, name: str) -> str:
    file_name = _paths.get(name)
    if file_name is None:
        if len(_paths) > 4096:
            _paths.clear()
        file_name = _paths[name] = file_name_of(name)
    return directory.name_link(file_name)


def owner_of(directory: NodeDirectory, name: str) -> Owner | None:
    """Read who has a name."""
    try:
        return parse_owner(os.readlink(_path(directory, name)))
    except OSError:
        return None


def holder_of(context: Context, name: str) -> Pid | None:
    """Read which process has a name; None also while it is coming back."""
    try:
        target = os.readlink(_path(context.directory, name))
    except OSError:
        return None
    return context.pid_of(int(target)) if target.isdecimal() else None


def register(context: Context, process_id: int, name: str) -> None:
    """Give a name to a process; raises `AlreadyRegistered` when another living one has it, or it has another."""
    directory = context.directory
    box = context.box if process_id == context.id else Box.open(directory.box(process_id))
    if box is None or box.flag(boxes.JUDGED):
        raise NoProcess(name)
    path = _path(directory, name)
    _await_burial(context, name)
    with directory.lock():
        if box.name and owner_of(directory, box.name) == Held(process_id):
            raise AlreadyRegistered(context.pid_of(process_id))
        owner = owner_of(directory, name)
        if isinstance(owner, Held) and _is_alive(directory, owner.id):
            raise AlreadyRegistered(context.pid_of(owner.id))
        # the box first: a reaper finds there what to free
        box.name = name
        _replace(path, Held(process_id))


def _await_burial(context: Context, name: str) -> None:
    """Let the reaper free a name whose owner has just died: it is not taken any more."""
    deadline = poller.now() + VERDICT_SECONDS
    while poller.now() < deadline:
        owner = owner_of(context.directory, name)
        if not isinstance(owner, Held) or not _has_ended(context.directory, owner.id):
            return
        time.sleep(WAIT_SECONDS)


def _has_ended(directory: NodeDirectory, process_id: int) -> bool:
    box = Box.open(directory.box(process_id))
    if box is None:
        return False
    try:
        process = box.identity.os_process
        return not box.flag(boxes.JUDGED) and (
            kernel.start_time(process.pid) != process.start or kernel.zombie_status(process.pid) is not None
        )
    finally:
        box.close()


def register_any(context: Context, name: Any) -> None:
    """Give this process a name of any kind: a local one, `Via` a registry, or a global one."""
    if isinstance(name, str):
        register(context, context.id, name)
    elif isinstance(name, Via):
        name.registry.register_name(name.key, context.pid)
    elif isinstance(name, Global):
        route.register(context, name, context.pid)
    else:
        msg = f"{name!r} is no name; allowed are a str, Global(name) and Via(registry, key)"
        raise TypeError(msg)


def _is_alive(directory: NodeDirectory, process_id: int) -> bool:
    box = Box.open(directory.box(process_id))
    if box is None:
        return False
    try:
        return not box.flag(boxes.JUDGED)
    finally:
        box.close()


def _is_known_alive(context: Context, process_id: int) -> bool:
    """As `_is_alive`: by the box that this process has mapped already, if it knows the other one."""
    peer = context.peers.get(process_id)
    return not peer.box.flag(boxes.JUDGED) if peer is not None else _is_alive(context.directory, process_id)


def _replace(path: str, owner: Owner) -> None:
    draft = f"{path}\x01"
    try:
        os.symlink(format_owner(owner), draft)
    except FileExistsError:
        # of one that was killed here
        os.unlink(draft)
        os.symlink(format_owner(owner), draft)
    os.rename(draft, path)


def unregister(directory: NodeDirectory, name: str, expected: Owner) -> bool:
    """Free a name if `expected` has it; say whether it had."""
    with directory.lock():
        if owner_of(directory, name) != expected:
            return False
        os.unlink(_path(directory, name))
        return True


def hand_to_supervisor(
    directory: NodeDirectory, name: str, expected: Owner, supervisor: int, *, mailbox: int = 0
) -> bool:
    """Mark a name as coming back, if `expected` has it; `mailbox` is there for it meanwhile."""
    with directory.lock():
        if owner_of(directory, name) != expected:
            return False
        _replace(_path(directory, name), ComingBack(supervisor, mailbox))
        return True


def all_names(directory: NodeDirectory) -> dict[str, Owner]:
    """Give every name and its owner."""
    found = {}
    for file_name in os.listdir(directory.path / "names"):
        name = name_of(file_name)
        if name is not None and (owner := owner_of(directory, name)) is not None:
            found[name] = owner
    return found


# -- from a server reference to a peer ---------------------------------------------------------------------


def find(context: Context, server: Any, deadline: float | None, request: Any = None, *, wait: bool = True) -> Peer:
    """Give the process that a server reference means now; raises `NoProcess` when there is none.

    A name whose process is being restarted is waited for until `deadline` (None: for ever) if `wait`.
    """
    if type(server) is Pid:
        peer = _find_pid(context, server)
        if peer is None:
            raise _nobody(context, server, request)
        return peer
    if type(server) is not str:
        if isinstance(server, Via):
            return _find_via(context, server, deadline, request, wait=wait)
        if isinstance(server, Remote) and server.node != context.node.name:
            return _find_remote(context, server, request)
        return find(context, _resolve_reference(context, server, request), deadline, request, wait=wait)
    path = _path(context.directory, server)
    pause = WAIT_SECONDS
    while True:
        try:
            target = os.readlink(path)
        except OSError:
            raise _nobody(context, server, request) from None
        if target.isdecimal():
            peer = context.peer(int(target))
            if peer is not None and peer.id not in context.dying:
                return peer
        if not wait:
            raise _nobody(context, server, request)
        _await_change(context, server, parse_owner(target), deadline, request, pause)
        pause = min(pause * WAIT_GROWTH, WAIT_SECONDS_MAX)


def _find_remote(context: Context, server: Remote, request: Any) -> Peer:
    peer = context.peer(server)
    if peer is None:
        raise _nobody(context, server, request)
    return peer


def _find_via(context: Context, server: Via, deadline: float | None, request: Any, *, wait: bool) -> Peer:
    """As `find`: wait for a key whose process is being brought back, if its registry can tell (`is_coming_back`)."""
    tells = getattr(server.registry, "is_coming_back", None)
    pause = WAIT_SECONDS
    while True:
        found = whereis_via(server, tells)
        if found is not None and type(found) is not Pid:
            return find(context, found, deadline, request, wait=wait)
        peer = None if found is None else _find_pid(context, found)
        if peer is not None and peer.id not in context.dying:
            return peer
        if not wait or tells is None or (found is None and not tells(server.key)):
            raise _nobody(context, server, request)
        left = None if deadline is None else deadline - poller.now()
        if left is not None and left <= 0:
            raise CallTimeout(server, request, None, detail="its supervisor is still restarting it")
        context.pump(pause if left is None else min(pause, left))
        pause = min(pause * WAIT_GROWTH, WAIT_SECONDS_MAX)


def whereis_via(server: Via, tells: Any = None) -> Any:
    """Give what a registry has under a key: a pid, a local name, None. `tells`: whether one that is gone comes back."""
    if not hasattr(server.registry, "whereis_name"):
        msg = f"{server!r}: its registry is Registry, PartitionSupervisor or a class with whereis_name(key)"
        raise TypeError(msg)
    try:
        return server.registry.whereis_name(server.key)
    except NoProcess:
        # the registry itself is not there: it too may be coming back
        if tells is None or not tells(server.key):
            raise
        return None


def _find_pid(context: Context, pid: Pid) -> Peer | None:
    node = context.node
    if pid.incarnation != node.incarnation or pid.node != node.name:
        return context.peer(pid)
    peer = context.peers.get(pid.id)
    return peer if peer is not None else context.peer(pid.id)


def _resolve_reference(context: Context, server: Any, request: Any) -> Pid | str:
    if isinstance(server, str):
        return str(server)
    if isinstance(server, Remote):
        return str(server.name)
    if isinstance(server, Global):
        found = route.resolve(context, server)
    else:
        raise no_reference(server)
    if found is None:
        raise NoProcess(server, request)
    return found


def no_reference(server: Any) -> TypeError:
    """Give the error for what names no process."""
    return TypeError(
        f"{server!r} is no server reference; allowed are a Pid, a local name (str), Global(name), "
        "Via(registry, key) and Remote(name, node)"
    )


def _await_change(
    context: Context, name: str, owner: Owner | None, deadline: float | None, request: Any, pause: float
) -> None:
    """Wait a moment for a name to change hands; raises when nobody is bringing it back or time is up."""
    if isinstance(owner, ComingBack):
        # a supervisor that died itself has handed the name on, or freed it, before it is judged
        if not _is_known_alive(context, owner.supervisor) and owner_of(context.directory, name) == owner:
            raise _nobody(context, name, request)
    elif isinstance(owner, Held) and not _is_alive(context.directory, owner.id):
        # its reaper frees the name before it judges: the link was left by nobody we know
        if owner_of(context.directory, name) == owner:
            unregister(context.directory, name, owner)
        return
    if not os.path.exists(context.directory.log):
        raise _nobody(context, name, request)
    left = None if deadline is None else deadline - poller.now()
    if left is not None and left <= 0:
        raise CallTimeout(name, request, None, detail="its supervisor is still restarting it")
    context.pump(pause if left is None else min(pause, left))


def _nobody(context: Context, server: Any, request: Any) -> Exception:
    from otp_runtime.process import death

    if context.node.gone or not os.path.exists(context.directory.log):
        return ServerDown("noconnection", server, request)
    if route.is_elsewhere(context, server) and route.why_not(context, server) == "noconnection":
        return ServerDown("noconnection", server, request, detail=f"this node is not connected to {server.node}")
    return NoProcess(server, request, detail=death.giving_up_note(context.directory, server))


def is_coming_back(context: Context, name: Any) -> bool:
    """Say whether somebody is bringing back the process that had `name`, or whether it has just died."""
    if isinstance(name, Via):
        tells = getattr(name.registry, "is_coming_back", None)
        if tells is None:
            return False
        found = whereis_via(name, tells)
        if isinstance(found, str):
            return is_coming_back(context, found)
        return found is not None or bool(tells(name.key))
    if not isinstance(name, str):
        return False
    owner = owner_of(context.directory, name)
    if isinstance(owner, ComingBack):
        return _is_alive(context.directory, owner.supervisor)
    return owner is not None
