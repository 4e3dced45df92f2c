"""What a gateway does with a frame of another node: whom it is for, and in which shape that process gets it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import protocol
from otp_runtime.core import messages as wire
from otp_runtime.core.names import Held
from otp_runtime.errors import CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import pipe
from otp_runtime.process import names
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.terms.pid import Pid, Remote

if TYPE_CHECKING:
    from otp_runtime.cluster.gateway import Gateway
    from otp_runtime.process.peers import Peer

SENT = frozenset((protocol.MESSAGE, protocol.URGENT))
PARKED_SECONDS = 0.005
PARKED_MAX = 10_000
OUTBOX_MAX = 16_384
"""So many frames wait for a process that does not read; casts and messages beyond that are dropped, and counted."""


class Delivery:
    """The last step of every frame."""

    def __init__(self, gateway: Gateway) -> None:
        """Deliver for `gateway`."""
        self.gateway = gateway
        self.context = gateway.context
        self.parked: dict[str, list[list[Any]]] = {}
        """By local name: what came while its process was being restarted, in order."""
        self.dropped = 0
        # the launcher and the gateway take orders from this node only
        self._closed = {LAUNCHER_ID, self.context.id}
        self._heads: dict[tuple[str, int], bytes] = {}
        self._named: dict[tuple[str, int, str], int] = {}

    def lost(self, node: str, epoch: int) -> None:
        """Forget what is known of an epoch that is over."""
        for key in [key for key in self._named if key[:2] == (node, epoch)]:
            del self._named[key]

    def take(self, fields: list[Any]) -> None:
        """Do what a frame says."""
        _version, op, node, incarnation, epoch, to, by, body = fields
        if op in SENT:
            self._message(fields, op, node, incarnation, epoch, to, body)
        elif op == protocol.WATCH and type(by) is int:
            self._watch(fields, (node, epoch, by), to)
        elif op == protocol.UNWATCH:
            if type(by) is int and to is not None:
                self.gateway.watches.remove((node, epoch, by), to)
        elif op == protocol.DOWN and type(to) is int and by is not None:
            self.gateway.watches.told(to, node, epoch, by)
            key = Pid(node, by, incarnation) if type(by) is int else Remote(by, node)
            self.gateway.tell(to, "down", [key, body])

    # -- messages -----------------------------------------------------------------------------------------------

    def _message(
        self, fields: list[Any], op: int, node: str, incarnation: int, epoch: int, to: Any, body: bytes
    ) -> None:
        if to == protocol.ITSELF:
            self.gateway.services.remote(node, incarnation, body)
            return
        context = self.context
        target = to if type(to) is int else self._holder(fields, to)
        if target is None or target in self._closed or len(body) < 2:
            return
        peer = context.peers.get(target) or context.peer(target)
        if peer is None:
            return
        kind = body[1]
        if type(to) is str and self._named.get((node, epoch, to)) != peer.id:
            self._follow_name(node, epoch, to, peer)
        if kind == wire.EXIT:
            self._exit(peer, node, incarnation, body)
            return
        foreign = self._foreign(node, incarnation, body)
        if op == protocol.MESSAGE and not peer.outbox:
            if not peer.write_now(foreign):
                context.post(peer, foreign)
        elif op == protocol.URGENT and len(foreign) <= pipe.PAYLOAD_MAX:
            peer.write_lane(self.context.directory, pipe.whole(foreign))
        elif len(peer.outbox) > OUTBOX_MAX and kind in {wire.SEND, wire.CAST}:
            self._drop(peer)
        else:
            self.context.post(peer, foreign)

    def _foreign(self, node: str, incarnation: int, body: bytes) -> bytes:
        head = self._heads.get((node, incarnation))
        if head is None:
            pack = protocol.pack
            head = self._heads[node, incarnation] = b"".join(
                (b"\x94", pack(wire.FOREIGN), pack(node), pack(incarnation))
            )
        return head + protocol.bin_of(body) + body

    def _drop(self, peer: Peer) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            who = peer.box.name or peer.pid
            self.context.node.warn(
                f"{who} does not take what other nodes send it: {self.dropped} message(s) were dropped so far"
            )

    def _exit(self, peer: Peer, node: str, incarnation: int, body: bytes) -> None:
        """Pass an exit signal on, as `Context.signal_exit` does for one of this node."""
        context = self.context
        try:
            _kind, _sender, reason = protocol.DATA.decode(body)
        except (CodecError, ValueError, TypeError):
            reason = "undecodable"
        if reason == "kill":
            context.signal_exit(peer, "kill")
            return
        foreign = self._foreign(node, incarnation, body)
        if peer.box.flag(boxes.TRAP_EXIT) or len(foreign) > pipe.PAYLOAD_MAX:
            context.post(peer, foreign)
        elif reason != "normal":
            peer.box.set_flag(boxes.SIGNALLED)
            peer.write_lane(context.directory, pipe.whole(foreign))
            context.tell_parent_of(peer.box, peer.id, reason)

    # -- watching -----------------------------------------------------------------------------------------------

    def _watch(self, fields: list[Any], watcher: tuple[str, int, int], key: Any) -> None:
        if key == protocol.ITSELF:
            return
        target = key if type(key) is int else self._holder(fields, key)
        if target is None and key in self.parked:
            return
        if target is None or target in self._closed or self.context.peer(target) is None:
            self.gateway.send_down(watcher, key, "noproc")
        else:
            self.gateway.watches.add(watcher, key, target)
            self.gateway.know(target)

    def _follow_name(self, node: str, epoch: int, name: str, peer: Peer) -> None:
        """What is sent by name is watched where the name is now, whoever had it when the sender first used it."""
        self._named[node, epoch, name] = peer.id
        for watcher in self.gateway.watches.watchers_of(node, epoch, name):
            if self.gateway.watches.add(watcher, name, peer.id):
                self.gateway.know(peer.id)

    # -- names --------------------------------------------------------------------------------------------------

    def _holder(self, fields: list[Any], name: str) -> int | None:
        """Give who has a local name; None when nobody has. While somebody is bringing it back, the frame is parked."""
        waiting = self.parked.get(name)
        if waiting is not None:
            if len(waiting) < PARKED_MAX:
                waiting.append(fields)
            return None
        owner = names.owner_of(self.context.directory, name)
        if isinstance(owner, Held):
            peer = self.context.peer(owner.id)
            if peer is not None and peer.id not in self.context.dying:
                return owner.id
        if owner is None or not names.is_coming_back(self.context, name):
            return None
        self.parked[name] = [fields]
        self._look_again(name)
        return None

    def _look_again(self, name: str) -> None:
        asyncio.get_running_loop().call_later(PARKED_SECONDS, self._unpark, name)

    def _unpark(self, name: str) -> None:
        owner = names.owner_of(self.context.directory, name)
        is_back = (
            isinstance(owner, Held)
            and (peer := self.context.peer(owner.id)) is not None
            and (peer.id not in self.context.dying)
        )
        if not is_back and names.is_coming_back(self.context, name):
            self._look_again(name)
            return
        for fields in self.parked.pop(name, ()):
            node, epoch = fields[2], fields[4]
            place = self.gateway.places.get(node)
            if place is not None and place.epoch == epoch:
                self.take(fields)
