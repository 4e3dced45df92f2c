"""What arrives on a gateway's own subject: told apart, and handed on to `delivery` when its sender may be heard.

Whatever is in a frame, the connection goes on, and with it what others sent: what is none, or cannot be delivered, is
counted and dropped.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgpack

from otp_runtime.cluster import protocol
from otp_runtime.cluster.early import Early
from otp_runtime.core import membership

if TYPE_CHECKING:
    from otp_runtime.cluster.gateway import Gateway


class Arrivals:
    """The first step of every frame."""

    def __init__(self, gateway: Gateway) -> None:
        """Of the node of `gateway`."""
        self._gateway = gateway
        self.early = Early()

    def on_frame(self, _subject: bytes, data: bytes, _is_nobody: bool) -> None:
        """Hand on a frame of a node that is there; keep one of a node that is not known yet."""
        gateway = self._gateway
        fields = protocol.parse(data)
        if fields is None:
            self.garbage("frame", "a message that is no frame of its protocol")
            return
        node, epoch = fields[2], fields[4]
        member = gateway.state.members.get(node)
        if member is None or member.epoch < epoch:
            if epoch > gateway.state.floor.get(node, 0) and node != gateway.node.name:
                self.early.keep(fields, len(data))
        elif member.epoch == epoch and member.is_reachable:
            if fields[3] != member.incarnation:
                self.garbage("incarnation", f"a frame that says it is {node}'s, and is of another incarnation")
            elif fields[1] == protocol.BROKEN:
                gateway.step(membership.Broken(node, epoch))
            else:
                self._take(fields)
        gateway.mail.mind_the_dying()

    def up(self, node: str, member: membership.Member) -> None:
        """A node is there now: hand on what came of it before."""
        for fields in self.early.take(node, member.epoch):
            if fields[3] == member.incarnation:
                self._take(fields)

    def on_refused(self, _subject: bytes, data: bytes, _is_nobody: bool) -> None:
        """Say in the log who tried to join and was refused."""
        with contextlib.suppress(Exception):
            _version, node, why = msgpack.unpackb(data)
            self._gateway.warn(f"{node!s:.200} tried to join and was refused: {why!s:.500}")

    def garbage(self, kind: str, what: str) -> None:
        """Count what was dropped; each kind is said once."""
        gateway = self._gateway
        gateway.context.box.count_garbage()
        gateway.node.warn_once(f"cluster-garbage-{kind}", f"{gateway.node.name} got {what:.1000}")

    def _take(self, fields: list[Any]) -> None:
        try:
            self._gateway.delivery.take(fields)
        except Exception as error:  # noqa: BLE001 - the connection, and all that others sent, must not be lost with it
            why = f"{type(error).__name__}: {error}"
            self.garbage("failed", f"a frame of {fields[2]} that it could not deliver: {why}")
