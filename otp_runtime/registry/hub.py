"""The hub of a PubSub: who is present, and what other nodes broadcast. One process on each node.

It is a scope (`registry.scope`): the hubs of one name, one on each node, know each other, and the presences of a topic
are its group, each with its key and data. So whatever holds of process groups across nodes holds of presence.
Subscriptions are in a registry beside it, of this node only; the hub reads them when something comes from elsewhere.

    broadcast ──► subscribers of this node, straight from the caller
              └─► hub elsewhere ──► subscribers there
    track ──► hub ──► PresenceDiff to subscribers here
                  └─► hub elsewhere ──► PresenceDiff to subscribers there
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from otp_runtime.behaviours.returns import NoReply, Reply
from otp_runtime.core import messages as wire
from otp_runtime.core import registry as core
from otp_runtime.core.copies import Change
from otp_runtime.errors import AlreadyRegistered, CallError, NotTracked
from otp_runtime.process.current import current
from otp_runtime.registry.registry import Registry
from otp_runtime.registry.scope import DATA, Scope, is_local
from otp_runtime.terms.events import PresenceDiff
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.copies import Member

__all__ = ["BROADCAST", "RELAYS", "Hub", "hub_of", "read", "topics_of"]

BROADCAST: Final = "$broadcast"
RELAYS: Final = "relays"
"""Under this word the hub's table has the pids of the hubs elsewhere, for whoever broadcasts."""

SEND_HEAD: Final = bytes([0x92, wire.SEND])
OUTBOX_MAX: Final = 16_384
"""So many messages from elsewhere wait for a subscriber that does not read; those beyond that are dropped."""


def hub_of(name: str) -> str:
    """Give the local name of the hub of a PubSub."""
    return f"{name}.hub"


def topics_of(name: str) -> str:
    """Give the name of the registry with the subscriptions of a PubSub."""
    return f"{name}.topics"


def read(value: bytes) -> tuple[str, Any]:
    """Give key and data of a presence."""
    key, meta = DATA.decode(value)
    return key, meta


class Hub(Scope):
    """The hub's process."""

    _label: ClassVar[str] = "pubsub"
    _survives: ClassVar[bool] = True

    def init(self, name: str, /) -> Any:
        """Begin, or go on where a predecessor was killed."""
        self.topics = topics_of(name)
        super().init(hub_of(name))
        self._others_changed()

    @classmethod
    def _may_say(cls, message: Any, node: str, incarnation: int) -> bool:
        """A broadcast is of a process of the node that sends it."""
        match message:
            case (str() as tag, Pid() as sender, str(), bytes()) if tag == BROADCAST:
                return (sender.node, sender.incarnation) == (node, incarnation)
            case _:
                return super()._may_say(message, node, incarnation)

    def handle_info(self, message: Any, state: Any, /) -> Any:
        """What is broadcast elsewhere; all else is a scope's."""
        match message:
            case (str() as tag, Pid() as sender, str() as topic, bytes() as body) if tag == BROADCAST:
                # bytes of a stranger: nothing but a plain message, which its receivers read as one from another node
                if body[:2] == SEND_HEAD:
                    payload = current().codec.encode([wire.FOREIGN, sender.node, sender.incarnation, body])
                    self._publish(topic, payload)
                return NoReply(state)
            case _:
                return super().handle_info(message, state)

    # -- what is asked of it

    def _handle(self, request: Any, client: Client[Any], state: Any) -> Any:
        match request:
            case ("track", topic, pid, key, value):
                if self._found(topic, pid, key) is not None:
                    return Reply.error(AlreadyRegistered(pid), state)
                return Reply(self._join(topic, [pid], value), state)
            case ("untrack", topic, pid, key):
                for change in self._of(pid):
                    if topic is None or change.index == topic:
                        self._untrack(change, pid, key)
                return Reply("ok", state)
            case ("update", topic, pid, key, value):
                return self._update(topic, pid, key, value, state)
            case _:
                return super()._handle(request, client, state)

    def _of(self, pid: Pid) -> list[Change]:
        entries = self.partition.entries.of.get(pid.id, ())
        return [Change(entry.index, entry.key, left=((pid, entry.read()[1][0]),)) for entry in entries]

    def _untrack(self, change: Change, pid: Pid, key: str | None) -> None:
        for _pid, value in change.left:
            if key is None or read(value)[0] == key:
                self._leave(change.group, [pid], value)

    def _found(self, topic: str, pid: Pid, key: str) -> core.Entry | None:
        mine = self.partition.entries.mine(pid.id, topic)
        return next((entry for entry in mine if is_local(entry) and read(entry.read()[1][0])[0] == key), None)

    def _update(self, topic: str, pid: Pid, key: str, value: bytes, state: Any) -> Any:
        found = self._found(topic, pid, key)
        if found is None:
            return Reply.error(NotTracked(pid, topic, key), state)
        old = found.read()[1][0]
        encode = current().codec.encode
        mine = [
            encode((value,)) if entry is found else entry.data for entry in self.partition.entries.mine(pid.id, topic)
        ]
        self._write(core.replace(pid.id, encode(topic), mine))
        self._changed([Change(topic, topic, left=((pid, old),), joined=((pid, value),))])
        return Reply("ok", state)

    # -- who hears of it

    def _others_changed(self) -> None:
        context = current()
        encode = context.codec.encode
        try:
            self._write(core.meta(encode(RELAYS), encode(self.copies.scopes())))
        except OSError as error:
            context.node.warn(
                f"{self.scope} cannot write down which nodes there are; broadcasts may miss some: {error}"
            )

    def _announce(self, changes: list[Change]) -> None:
        super()._announce(changes)
        for change in changes:
            if isinstance(change.group, str):
                diff = PresenceDiff(change.group, _by_key(change.joined), _by_key(change.left))
                self._publish(change.group, current().codec.encode([wire.SEND, diff]))

    def _publish(self, topic: str, payload: bytes) -> None:
        """Give a message to the subscribers of this node. Nobody is waited for."""
        context = current()
        try:
            subscribers = Registry.lookup(self.topics, topic)
        except CallError:
            # it is being brought back
            return
        for pid, _value in subscribers:
            peer = context.peer(pid.id)
            if peer is None:
                continue
            if len(peer.outbox) > OUTBOX_MAX:
                context.node.warn_once(f"pubsub-{pid.id}", f"{pid!r} does not take what comes for {topic!r}: dropped")
                continue
            context.post(peer, payload)


def _by_key(members: Iterable[Member]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for _pid, value in members:
        key, meta = read(value)
        found.setdefault(key, []).append(meta)
    return found
