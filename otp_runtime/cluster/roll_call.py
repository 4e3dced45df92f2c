"""Whether anybody listens where a node should: the private subjects on which the server says that nobody does.

What is sent to another node names one of them as the subject for a reply. The server's "no responders" on it means that
this epoch of the node has no connection: lost, or not one that this server knows of yet.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import protocol
from otp_runtime.cluster.outgoing import Place
from otp_runtime.core import membership

if TYPE_CHECKING:
    from otp_runtime.cluster.outgoing import Outgoing
    from otp_runtime.cluster.session import Session

ANSWER_SECONDS = 2


class RollCall:
    """The subjects of one gateway, and who was silent since it joined."""

    def __init__(self, cluster: str, node: str, incarnation: int) -> None:
        """Ask for `node`."""
        self._cluster = cluster
        self._node = node
        self._incarnation = incarnation
        self._asked: list[tuple[str, int]] = []
        self._silent: set[tuple[str, int]] = set()

    def head(self, session: Session) -> str:
        """Give what the subjects of a session begin with."""
        return f"otp.{self._cluster}.b.{protocol.name_token(self._node)}.{session.epoch}"

    def place(self, session: Session, node: str, member: membership.Member) -> Place:
        """Give where an epoch of another node is reached."""
        self._asked.append((node, member.epoch))
        return Place(self._cluster, node, member, f"{self.head(session)}.{len(self._asked) - 1}")

    def silent(self, subject: bytes) -> membership.Unreachable | None:
        """The server says on a subject that nobody is there: give who that is."""
        with contextlib.suppress(ValueError, IndexError):
            asked = self._asked[int(subject.rpartition(b".")[2])]
            self._silent.add(asked)
            return membership.Unreachable(*asked)
        return None

    async def without_ghosts(self, session: Session, outgoing: Outgoing, entries: list[Any]) -> list[Any]:
        """Leave the records of those out that do not listen, as this node joins.

        An engine that was killed has records again for a moment whose time was over; and after it was lost others have
        to join anew as well. Who is there after all is seen when its record is renewed.
        """
        self._silent.clear()
        found = {seen: entry for entry in entries if (seen := seen_in(entry)) is not None and seen.node != self._node}
        head = protocol.head_of(protocol.UNWATCH, self._node, self._incarnation, session.epoch, None)
        for seen in found:
            place = self.place(session, seen.node, membership.Member(seen.epoch, seen.incarnation))
            outgoing.publish(place, protocol.frame_of(head))
        # what the server says about them comes before its answer to this
        await session.nc.flush(ANSWER_SECONDS)
        ghosts = [entry for seen, entry in found.items() if (seen.node, seen.epoch) in self._silent]
        return [entry for entry in entries if entry not in ghosts]


def seen_in(entry: Any) -> membership.Seen | None:
    """Read the record of a node; None for any other, and for one that is not announced yet."""
    kind, _, token = entry.key.partition(".")
    if kind != "node" or entry.operation in {"DEL", "PURGE"}:
        return None
    record = protocol.read_record(entry.value)
    if record is None:
        return None
    node, incarnation, epoch = record
    return membership.Seen(node, epoch, incarnation) if epoch > 0 and node == protocol.name_of(token) else None
