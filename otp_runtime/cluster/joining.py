"""What a program does about a cluster: join with the node it starts, and ask about the other nodes.

`Node` in `process.node` is the door; it comes here only when a cluster was asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgpack

from otp_runtime.cluster import gateway_start, protocol, routing, standing
from otp_runtime.cluster.attendance import Attendance
from otp_runtime.cluster.settings import Settings, check
from otp_runtime.errors import CallError, InitFailed, NoNode
from otp_runtime.host import poller
from otp_runtime.process import client, route
from otp_runtime.process.current import current
from otp_runtime.supervision import erpc_server
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.context import Context
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.peers import Peer

SETTINGS = "cluster.settings"
MAX_RESTARTS, MAX_SECONDS = 1000, 5
PAUSE_SECONDS = 0.01
__all__ = ["attend", "check", "connect", "follow", "join", "nodes", "ping", "read_settings"]


def attend(handle: NodeHandle, guard: int, settings: Settings) -> Attendance | None:
    """Keep the embedded engine alive, where it is one, for a node whose guard is the OS process `guard`.

    The first step of joining. Raises `NoNode`.
    """
    return Attendance(handle, guard, settings.cluster) if settings.is_embedded else None


def join(handle: NodeHandle, settings: Settings) -> None:
    """Let this program's node take part. Raises `NoNode` with the reason."""
    _write_settings(handle.directory, settings)
    # before others see this node
    served = [erpc_server.child_spec(settings.erpc)] if settings.erpc else []
    try:
        Supervisor.start(
            [*served, gateway_start.child_spec(settings.lease)],
            strategy="one_for_one",
            max_restarts=MAX_RESTARTS,
            max_seconds=MAX_SECONDS,
            name=route.SUPERVISOR,
        )
    except InitFailed as error:
        raise NoNode(handle.name, _why(error.reason)) from error


def _why(reason: Any) -> Any:
    match reason:
        case ("shutdown", ("failed_to_start_child", _id, ("cluster", str() as why))):
            return why
        case ("shutdown", ("failed_to_start_child", _id, why)):
            return why
        case _:
            return reason


# -- settings ----------------------------------------------------------------------------------------------


def _write_settings(directory: NodeDirectory, settings: Settings) -> None:
    """Lay them down for the gateway: they hold a password, and arguments of processes can be seen by all."""
    fields = [getattr(settings, name) for name in Settings.__slots__]
    fd = os.open(directory.path / SETTINGS, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgpack.packb(fields))


def read_settings(directory: NodeDirectory) -> Settings:
    """Read what `join` laid down."""
    cluster, servers, lease, user, password, credentials, tls, erpc = msgpack.unpackb(
        (directory.path / SETTINGS).read_bytes()
    )
    trust = tuple(tls) if tls else None
    return Settings(cluster, tuple(servers), lease, user, password, credentials, trust, tuple(erpc))


# -- asking ------------------------------------------------------------------------------------------------


def nodes() -> list[str]:
    """Give the other nodes that are there now, sorted."""
    context = current()
    found = standing.read(context.directory)
    if found is None or routing.gateway(context, found) is None:
        return []
    return sorted(found.nodes)


def find_gateway(context: Context) -> Peer:
    """Give the gateway of this node; raises `NoNode` when it is not there now."""
    found = standing.read(context.directory)
    peer = None if found is None else routing.gateway(context, found)
    if peer is None:
        raise NoNode(context.node.name, "its gateway is not there")
    return peer


def ask_gateway(request: Any, timeout: float = 5.0) -> Any:
    """Ask this node's gateway; wait for one that is being restarted. Raises `NoNode` outside a cluster, `CallError`."""
    context = current()
    deadline = poller.now() + timeout
    while True:
        found = standing.read(context.directory)
        if found is None:
            raise NoNode(context.node.name, "it is in no cluster: Node.start(name, cluster=...)")
        if routing.gateway(context, found) is not None:
            try:
                return client.request(context.pid_of(found.gateway), request, max(0.0, deadline - poller.now()))
            except CallError:
                if poller.now() >= deadline:
                    raise
        elif poller.now() >= deadline:
            raise NoNode(context.node.name, f"its gateway is not there after {timeout:g} s")
        context.pump(PAUSE_SECONDS)


def ask_node(node: str, request: Any, timeout: float = 5.0) -> Any:
    """Ask the gateway of another node; see `services.REMOTE`. Raises `ServerDown("noconnection")` and its kin."""
    context = current()
    found = standing.read(context.directory)
    place = None if found is None else found.nodes.get(node)
    return client.request(Pid(node, protocol.ITSELF, 0 if place is None else place[1]), request, timeout)


def ping(node: str, timeout: float = 5.0) -> str:
    """Ask whether a node answers: "pong" or "pang"."""
    if node == current().node.name:
        return "pong"
    try:
        return "pong" if ask_node(node, ("ping",), timeout) == "pong" else "pang"
    except CallError:
        return "pang"


def connect(node: str) -> bool:
    """Say whether a node is there. All nodes of a cluster are connected: there is nothing to do."""
    return node == current().node.name or node in nodes()


def follow(flag: bool) -> None:
    """Let this process hear of nodes, once more or once less."""
    context = current()
    follower = routing.followers.get(context)
    if not flag:
        if follower is not None:
            follower.count -= 1
            if follower.count <= 0:
                del routing.followers[context]
                ask_gateway(("follow", False))
        return
    if follower is not None:
        follower.count += 1
        return
    # first the follower: what the gateway tells before its answer, those that are there, is not lost
    follower = routing.followers[context] = routing.Follower(count=0)
    try:
        ask_gateway(("follow", True))
    except BaseException:
        del routing.followers[context]
        raise
    follower.count = 1
