"""The slot for what lies beyond this node: remote pids and global names. A cluster fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from otp_runtime.errors import NoProcess

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer
    from otp_runtime.terms.pid import Pid


class Route(Protocol):
    """What a cluster offers to the floors below it."""

    def find(self, context: Context, pid: Pid) -> Peer | None:
        """Give the peer of a pid of another node."""

    def resolve(self, reference: Any) -> Pid | None:
        """Give the pid that a `Global` or `Remote` reference means."""

    def register(self, reference: Any, pid: Pid) -> None:
        """Give a process a global name; raises `AlreadyRegistered`."""


_route: Route | None = None


def install(route: Route | None) -> None:
    """Fill the slot."""
    global _route
    _route = route


def find(context: Context, pid: Pid) -> Peer | None:
    """Give the peer of a pid of another node or of an earlier life of this one; None when there is no way."""
    return None if _route is None else _route.find(context, pid)


def resolve(reference: Any) -> Pid | None:
    """Give the pid of a global or remote name."""
    if _route is None:
        raise NoProcess(reference, detail="this node is not connected to others")
    return _route.resolve(reference)


def register(reference: Any, pid: Pid) -> None:
    """Give a process a global name."""
    if _route is None:
        raise NoProcess(reference, detail="this node is not connected to others")
    _route.register(reference, pid)
