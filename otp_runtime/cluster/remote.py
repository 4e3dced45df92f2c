"""A process of another node, as one of this node knows it: a peer whose messages go through the gateway.

    GenServer.call(remote, …) ──► RemotePeer.wrap ──► gateway's mailbox ──► NATS ──► the other gateway ──► its mailbox

It is made at the first message, and is watched from then on: one DOWN ends it, whatever died, and with it every call,
monitor and link that this process has on it.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import protocol
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError
from otp_runtime.process.peers import Peer
from otp_runtime.terms.parcel import Parcel
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.cluster.standing import Standing
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import Remote

_WHAT = {wire.SEND: "message", wire.CAST: "request", wire.CALL: "request", wire.REPLY: "reply", wire.EXIT: "reason"}


class _NoBox:
    """Stands where a process of this node has its black box: nothing is known, nothing is to be closed."""

    name = ""
    mailbox_limit = 0

    def flag(self, _number: int) -> int:
        return 0

    def set_flag(self, _number: int, _value: int = 1) -> None:
        """There is nothing to set."""

    def close(self) -> None:
        """There is nothing to close."""


class RemotePeer(Peer):
    """One process of another node; `key` is its pid, or the `Remote` that names it."""

    __slots__ = ("_frame_head", "_out_head", "_urgent_head", "context", "epoch", "max_bytes", "relay")

    def __init__(
        self, context: Context, relay: Peer, key: Pid | Remote, standing: Standing, place: tuple[int, int]
    ) -> None:
        """`relay` is the gateway, `place` the epoch and incarnation of the other node."""
        self.epoch, incarnation = place
        self.pid = key if type(key) is Pid else Pid(key.node, 0, incarnation)
        self.id: Any = key
        self.context: Context | None = context
        self.relay = relay
        self.max_bytes = standing.max_bytes
        self.box: Any = _NoBox()
        self.fd = self.lane_fd = self.pidfd = -1
        self.policy = self.limit = 0
        self.outbox = collections.deque()
        self.aborting = True  # nothing is ever written to it: see `relay`
        self.is_reachable = self.missed = False
        self.linked = False
        self.monitors = {}
        self.waiters = []
        self.noticed_at = 0.0
        node = context.node
        to = key.id if type(key) is Pid else key.name
        source = (node.name, node.incarnation, standing.epoch, to)
        self._frame_head = protocol.head_of(protocol.MESSAGE, *source)
        self._urgent_head = protocol.head_of(protocol.URGENT, *source)
        pack = protocol.pack
        self._out_head = b"".join((b"\x96", *map(pack, (wire.OUT, context.id, self.pid.node, self.epoch))))
        watch = protocol.frame_of(protocol.head_of(protocol.WATCH, *source, context.id))
        context.post(relay, b"".join((self._out_head, protocol.bin_of(watch), watch, pack(to))))

    def wrap(self, payload: bytes) -> bytes:
        """Give what the gateway is sent: the frame for the other node. Raises `CodecError` for what may not leave."""
        return self._wrap(self._frame_head, payload)

    def _wrap(self, head: bytes, payload: bytes) -> bytes:
        if type(payload) is Parcel or (protocol.MARK in payload and any(mark in payload for mark in protocol.SUSPECT)):
            payload = self._as_data(payload)
        if len(payload) > self.max_bytes > 0:
            what = _WHAT.get(payload[1], "term")
            detail = (
                f"it takes {len(payload)} bytes, and a message between nodes at most {self.max_bytes}, as the engine "
                "has it (8 MB embedded; nats-server: max_payload): send it in parts, or send where it lies"
            )
            raise CodecError(what, "bytes", detail=detail)
        size = protocol.bin_of(payload)
        length = len(head) + len(size) + len(payload)
        framed = b"\xc6" + length.to_bytes(4, "big")
        return b"".join((self._out_head, framed, head, size, payload, b"\xc0"))

    def _as_data(self, payload: bytes) -> bytes:
        """Encode anew what looks as if it held more than data; raises `CodecError` with the path when it does."""
        assert self.context is not None
        envelope = self.context.codec.decode(payload)
        what = _WHAT.get(envelope[0], "term")
        protocol.DATA.encode(envelope[-1], what)
        return protocol.DATA.encode(envelope, what)

    def write_now(self, payload: bytes) -> bool:
        """Write to the gateway, if there is room."""
        assert self.relay is not None
        return self.relay.write_now(self.wrap(payload))

    def write_lane(self, directory: NodeDirectory, frame: bytes) -> bool:
        """Send what travels on a control lane: it never waits for room, and keeps its order with everything else."""
        assert self.relay is not None
        if self.context is None:
            return False
        self.context.post(self.relay, self._wrap(self._urgent_head, frame[4:]))
        return True

    def open_lane(self, directory: NodeDirectory) -> int:
        """There is none."""
        raise OSError

    def flush(self) -> bool:
        """Nothing waits here: it waits for the gateway."""
        return True

    def is_full(self) -> bool:
        """Nobody here knows."""
        return False

    def follow(self) -> bool:
        """A handover elsewhere is not seen from here."""
        return False

    def has_ended(self) -> bool:
        """It is there until its DOWN comes."""
        return False

    def send_signal(self, number: int) -> None:
        """Signals of the operating system stay on their machine."""

    def close(self) -> None:
        """Nothing is open; but who keeps a request that was answered does not keep the process that made it."""
        self.context = None
