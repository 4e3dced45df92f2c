"""The slot for what lies beyond this node: processes of other nodes, and global names. A cluster fills it.

A process of another node is a `Peer` here like any other, with a `relay`: what is sent to it is wrapped and goes into
the mailbox of the node's gateway. What comes from another node comes from the gateway as well, as `FOREIGN` and
`TIDINGS` envelopes, which only the room that fills this slot can read.

The slot fills itself at its first use, in every process of a node that has joined a cluster: the node's directory says
whether it has. So nothing of a cluster is imported where there is none.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol

from otp_runtime.errors import NoNode, NoProcess
from otp_runtime.terms.pid import Pid, Remote

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer
    from otp_runtime.process.sending import Sending

ROOM = "otp_runtime.cluster.routing"
SUPERVISOR = "otp_cluster"
"""The name of the root that the gateway is below. The launcher brings it back when it is killed."""


class Route(Protocol):
    """What a cluster offers to the floors below it."""

    def reach(self, context: Context, reference: Pid | Remote) -> Peer | None:
        """Give the peer of a process of another node; None when there is no way to it."""

    def why_not(self, context: Context, reference: Pid | Remote) -> str:
        """Say why `reach` gave None: "noproc" or "noconnection"."""

    def arrived(self, context: Context, envelope: list[Any], *, over_lane: bool) -> None:
        """Let a process take in what the gateway sent it."""

    def whereis(self, context: Context, reference: Any) -> Pid | None:
        """Ask another node for the pid that a reference means there."""

    def resolve(self, context: Context, reference: Any) -> Pid | None:
        """Give the pid that has a global name."""

    def register(self, context: Context, reference: Any, pid: Pid) -> None:
        """Give a process a global name; raises `AlreadyRegistered`, `NoNode`."""

    def stand_by(self, context: Context, reference: Any) -> bool:
        """Wait until this process has a global name; False when its parent wants it to end before that."""

    def names(self) -> Any:
        """Give the functions behind `Global`: see `cluster.naming`."""

    def describe(self, context: Context) -> Any:
        """Write down what a process that is handed over has of other nodes, beside its peers; None: nothing."""

    def take_up(self, context: Context, data: Any) -> None:
        """Let the successor have what was described."""


_route: Route | None = None


def install(route: Route | None) -> None:
    """Fill the slot."""
    global _route
    _route = route


def filled(context: Sending) -> Route | None:
    """Give what fills the slot, if this node has joined a cluster."""
    if not os.path.exists(context.directory.cluster):
        return None
    if _route is None:
        importlib.import_module(ROOM)
    return _route


def is_elsewhere(context: Sending, reference: Any) -> bool:
    """Say whether a reference names a process of another node, or of an earlier life of this one."""
    if type(reference) is Remote:
        return bool(reference.node != context.node.name)
    if type(reference) is not Pid:
        return False
    return reference.incarnation != context.node.incarnation or reference.node != context.node.name


def reach(context: Any, reference: Pid | Remote) -> Peer | None:
    """Give the peer of a process of another node, or of an earlier life of this one; None when there is no way."""
    route = None if reference.node == context.node.name else filled(context)
    return None if route is None else route.reach(context, reference)


def why_not(context: Any, reference: Pid | Remote) -> str:
    """Say why there is no way to a process elsewhere: "noproc" of an earlier life, "noconnection" of its node."""
    if reference.node == context.node.name:
        return "noproc"
    route = filled(context)
    return "noconnection" if route is None else route.why_not(context, reference)


def arrived(context: Any, envelope: list[Any], *, over_lane: bool = False) -> None:
    """Let a process take in what the gateway sent it."""
    route = _route or filled(context)
    if route is not None:
        route.arrived(context, envelope, over_lane=over_lane)


def describe(context: Any) -> Any:
    """Write down what a process has of other nodes, beside its peers; None when that is nothing."""
    return None if _route is None else _route.describe(context)


def take_up(context: Any, data: Any) -> None:
    """Let a successor have what `describe` gave."""
    route = None if data is None else filled(context)
    if route is not None:
        route.take_up(context, data)


def whereis(context: Any, reference: Any) -> Pid | None:
    """Ask another node for the pid that a reference means there; raises `NoProcess`, `ServerDown`."""
    return _needed(context, reference).whereis(context, reference)


def resolve(context: Any, reference: Any) -> Pid | None:
    """Give the pid of a global name."""
    return _needed(context, reference).resolve(context, reference)


def register(context: Any, reference: Any, pid: Pid) -> None:
    """Give a process a global name; raises `AlreadyRegistered`, `NoNode`."""
    route = filled(context)
    if route is None:
        raise NoNode(context.node.name, f"{reference!r} needs a cluster: Node.start(name, cluster=...)")
    route.register(context, reference, pid)


def stand_by(context: Any, reference: Any) -> bool:
    """Wait until this process has a global name; False when its parent wants it to end before that."""
    return _needed(context, reference).stand_by(context, reference)


def _needed(context: Any, reference: Any) -> Route:
    route = filled(context)
    if route is None:
        raise NoProcess(reference, detail="this node is in no cluster: Node.start(name, cluster=...)")
    return route
