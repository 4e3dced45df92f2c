"""Fills the slot `process.route`: the way to other nodes, for every process of a node that has joined a cluster."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import protocol, standing
from otp_runtime.cluster.remote import RemotePeer
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError, NoNode, OtpError, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.process import route
from otp_runtime.terms.events import NodeDown, NodeUp
from otp_runtime.terms.pid import Pid, Remote

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer

CLOSED = ("otp_runtime.registry.", "otp_runtime.application.")
"""Servers of the library whose messages hold what is opened later, or by others: no message of a network is one."""

PACKED_MAX = 1024
_packed: dict[Pid, bytes] = {}
_INT_SIZES = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}

OPEN_REQUESTS = frozenset({"WhichChildren", "CountChildren", "TerminateChild", "RestartChild", "DeleteChild"})
"""What another node may ask a supervisor. A child spec holds code, and does not travel."""


@dataclass(slots=True)
class Follower:
    """A process that wants to hear of nodes: how often it said so, and which it knows to be there."""

    count: int = 0
    nodes: set[str] = field(default_factory=set)


followers: weakref.WeakKeyDictionary[Context, Follower] = weakref.WeakKeyDictionary()
_watched: weakref.WeakKeyDictionary[Context, int] = weakref.WeakKeyDictionary()


class Routing:
    """What `process.route` asks for."""

    def reach(self, context: Context, reference: Pid | Remote) -> Peer | None:
        """Give the peer of a process of another node; None when there is no way to it."""
        found = standing.read(context.directory)
        place = None if found is None else found.nodes.get(reference.node)
        if found is None or place is None or (type(reference) is Pid and reference.incarnation != place[1]):
            return None
        relay = gateway(context, found)
        if relay is None:
            return None
        peer = context.peers[reference] = RemotePeer(context, relay, reference, found, place)
        return peer

    def why_not(self, context: Context, reference: Pid | Remote) -> str:
        """Say why there is no way: "noproc" of an earlier life of a node that is there, else "noconnection"."""
        found = standing.read(context.directory)
        if found is None or reference.node not in found.nodes or gateway(context, found) is None:
            return "noconnection"
        return "noproc"

    def arrived(self, context: Context, envelope: list[Any], *, over_lane: bool) -> None:
        """Let a process take in what the gateway sent it."""
        if envelope[0] == wire.TIDINGS:
            _hear(context, envelope[1], envelope[2])
        else:
            _take(context, *envelope[1:], over_lane=over_lane)

    def whereis(self, context: Context, reference: Any) -> Pid | None:
        """Ask another node for the pid that a reference means there."""
        from otp_runtime.cluster import joining

        if type(reference) is Pid:
            return reference
        found = standing.read(context.directory)
        place = None if found is None else found.nodes.get(reference.node)
        number = joining.ask_node(reference.node, ("whereis", reference.name))
        return None if number is None or place is None else Pid(reference.node, number, place[1])

    def resolve(self, context: Context, reference: Any) -> Pid | None:
        """Give the pid that has a global name."""
        from otp_runtime.cluster import naming

        try:
            return naming.whereis(reference.name)
        except NoNode as error:
            raise ServerDown("noconnection", reference, detail=str(error)) from error

    def register(self, context: Context, reference: Any, pid: Pid) -> None:
        """Give a process a global name; raises `AlreadyRegistered`."""
        from otp_runtime.cluster import naming

        naming.register_at_start(context, reference.name, pid)

    def stand_by(self, context: Context, reference: Any) -> bool:
        """Wait until this process has a global name; False when its parent wants it to end before that."""
        from otp_runtime.cluster import naming

        return naming.stand_by(context, reference.name)

    def names(self) -> Any:
        """Give the functions behind `Global`."""
        from otp_runtime.cluster import naming

        return naming

    def describe(self, context: Context) -> Any:
        """Write down that a process hears of nodes, which it knows to be there, and from which gateway it has that."""
        follower = followers.get(context)
        if follower is None:
            return None
        return [follower.count, sorted(follower.nodes), _watched.get(context, 0)]

    def take_up(self, context: Context, data: Any) -> None:
        """Let it go on hearing of nodes. A gateway that died meanwhile is one whose end nobody has told it."""
        count, known, told_by = data
        followers[context] = Follower(count, set(known))
        _watched[context] = told_by
        if not _has_gateway(context) and told_by:
            _lost_gateway(weakref.ref(context), told_by, "noconnection")
        elif _watched[context] == told_by and (relay := context.peer(told_by)) is not None:
            _watch(context, relay)


def gateway(context: Context, found: standing.Standing) -> Peer | None:
    """Give the gateway of this node; None when it is not there now."""
    relay = context.peer(found.gateway)
    if relay is None or relay.id in context.dying or relay.has_ended():
        return None
    watched = _watched.get(context)
    if watched != relay.id:
        if watched is not None:
            # its end was not noticed here yet, and comes before all that this one says
            _lost_gateway(weakref.ref(context), watched, "noconnection")
        _watch(context, relay)
    return relay


def _watch(context: Context, relay: Peer) -> None:
    _watched[context] = relay.id
    relay.waiters.append(functools.partial(_lost_gateway, weakref.ref(context), relay.id))


# -- what the gateway tells --------------------------------------------------------------------------------


def _lost_gateway(known: weakref.ref[Context], process_id: int, _reason: Any) -> None:
    """Without the gateway this node is alone: every other one is lost, whoever it was that had to tell."""
    context = known()
    if context is None or _watched.get(context) != process_id:
        return
    _watched.pop(context, None)
    for peer in [peer for peer in context.peers.values() if peer.relay is not None and peer.relay.id == process_id]:
        context.conclude(peer, "noconnection")
    follower = followers.get(context)
    if follower is not None:
        for node in sorted(follower.nodes):
            _tell_nodes(context, NodeDown(node, "noconnection"))
        follower.nodes.clear()


def _hear(context: Context, what: str, details: list[Any]) -> None:
    match what, details:
        case "down", [key, reason]:
            peer = context.peers.get(key)
            if peer is not None:
                context.conclude(peer, protocol.decode_reason(reason))
        case "lost", [node, epoch]:
            for peer in list(context.peers.values()):
                if isinstance(peer, RemotePeer) and peer.pid.node == node and peer.epoch == epoch:
                    context.conclude(peer, "noconnection")
        case "nodeup", [node]:
            follower = followers.get(context)
            # a gateway that was started anew has to be watched too; one that has died again was wrong about the node
            if follower is not None and _has_gateway(context) and node not in follower.nodes:
                follower.nodes.add(node)
                _tell_nodes(context, NodeUp(node))
        case "nodes", [nodes]:
            if (follower := followers.get(context)) is not None and _has_gateway(context):
                follower.nodes.update(nodes)
        case "nodedown", [node, reason]:
            if (follower := followers.get(context)) is not None and node in follower.nodes:
                follower.nodes.discard(node)
                _tell_nodes(context, NodeDown(node, reason))
        case _:
            pass


def _has_gateway(context: Context) -> bool:
    found = standing.read(context.directory)
    return found is not None and gateway(context, found) is not None


def _tell_nodes(context: Context, event: NodeUp | NodeDown) -> None:
    for _ in range(followers[context].count):
        context.enqueue(event)


# -- what other nodes send ---------------------------------------------------------------------------------


def _take(context: Context, node: str, incarnation: int, payload: bytes, *, over_lane: bool) -> None:
    try:
        envelope = protocol.DATA.decode(payload)
        is_sound = wire.is_envelope(envelope) and envelope[0] <= wire.UNLINK
    except CodecError as error:
        _refuse(context, node, incarnation, payload, error)
        return
    if not is_sound:
        context.box.count_garbage()
        return
    kind = envelope[0]
    if kind == wire.REPLY:
        slot = context.pending.get(envelope[1]) if type(envelope[1]) is int else None
        if slot is not None and slot.peer is not None and slot.peer.pid.node == node:
            slot.deliver(envelope[2], _as_raised(envelope))
        return
    if kind not in {wire.SEND, wire.CAST}:
        if type(envelope[1]) is not int:
            context.box.count_garbage()
            return
        envelope[1] = Pid(node, envelope[1], incarnation)
    if kind == wire.EXIT:
        context.arrive_exit(envelope[1], envelope[2], by_link=False)
    elif kind in {wire.LINK, wire.UNLINK}:
        _link(context, kind, envelope[1])
    elif not _is_open(context, kind, envelope, node, incarnation):
        if kind in {wire.CALL, wire.SYSTEM}:
            who = context.box.name or context.pid
            _answer(context, envelope[1], envelope[2], OtpError(f"{who!r} takes no such request from another node"))
        else:
            context.box.count_garbage()
    elif kind == wire.SYSTEM and context.box.flag(boxes.READY) == boxes.PLAIN:
        context.refuse_system(envelope)
    elif kind == wire.SYSTEM and over_lane:
        context.put_in_front(envelope)
    else:
        # from here on it is a message of this node's like any other, its bytes too
        context.put(
            payload if kind in {wire.SEND, wire.CAST} else _with_caller(context, payload, envelope[1]), envelope
        )


def _with_caller(context: Context, payload: bytes, caller: Pid) -> bytes:
    """Give the bytes of a request with the caller's pid in place of its id."""
    packed = _packed.get(caller)
    if packed is None:
        if len(_packed) >= PACKED_MAX:
            _packed.clear()
        packed = _packed[caller] = context.codec.encode(caller)
    first = payload[2]
    end = 3 if first < 0x80 else 3 + _INT_SIZES.get(first, 0)
    return b"".join((payload[:2], packed, payload[end:]))


def _as_raised(envelope: list[Any]) -> Any:
    """What is to be raised in the caller has to be an exception, whatever the other side sent."""
    value = envelope[3]
    if envelope[2] != wire.VALUE and not isinstance(value, Exception):
        return OtpError(f"the other node answered with an error that is none: {value!r:.200}")
    return value


def _is_open(context: Context, kind: int, envelope: list[Any], node: str, incarnation: int) -> bool:
    if kind == wire.SYSTEM:
        return not wire.is_handover(envelope[3])
    if context.box.kind == boxes.KIND_SUPERVISOR:
        return kind == wire.CALL and type(envelope[3]).__name__ in OPEN_REQUESTS
    kinds = getattr(context.served_by, "_from_nodes", None)
    if kinds is not None:
        may_say = getattr(context.served_by, "_may_say", None)
        return kind in kinds and (may_say is None or may_say(envelope[1], node, incarnation))
    return not getattr(context.served_by, "__module__", "").startswith(CLOSED)


def _link(context: Context, kind: int, pid: Pid) -> None:
    if kind == wire.UNLINK:
        if (peer := context.peers.get(pid)) is not None:
            peer.linked = False
    elif (peer := context.peer(pid)) is not None:
        peer.linked = True
    else:
        context.arrive_exit(pid, "noconnection", by_link=True)


def _refuse(context: Context, node: str, incarnation: int, payload: bytes, error: CodecError) -> None:
    """A request that cannot be read is answered, and of a reply the caller hears; anything else is counted."""
    context.box.count_garbage()
    if payload[:2] == wire.CALL_HEAD:
        match _first_fields(payload, 3):
            case [_, int() as caller, int() as serial]:
                detail = f"in {context.box.name or context.pid!r}: {error.detail or error}"
                _answer(context, Pid(node, caller, incarnation), serial, CodecError("request", "bytes", detail=detail))
    elif payload[:2] == wire.REPLY_HEAD:
        match _first_fields(payload, 2):
            case [_, int() as serial] if (slot := context.pending.get(serial)) is not None:
                if slot.peer is not None and slot.peer.pid.node == node:
                    detail = f"the reply of a process of {node} cannot be read here: {error.detail or error}"
                    slot.deliver(wire.RAISE, CodecError("reply", "bytes", detail=detail))


def _first_fields(payload: bytes, count: int) -> list[Any]:
    import msgpack

    unpacker = msgpack.Unpacker(None, max_buffer_size=len(payload) + 1)
    unpacker.feed(payload)
    try:
        unpacker.read_array_header()
        return [unpacker.unpack() for _ in range(count)]
    except Exception:  # noqa: BLE001 - bytes of a stranger
        return []


def _answer(context: Context, caller: Pid, serial: int, error: OtpError) -> None:
    peer = context.peer(caller)
    if peer is not None:
        context.post(peer, context.codec.encode([wire.REPLY, serial, wire.RAISE, error]))


route.install(Routing())
