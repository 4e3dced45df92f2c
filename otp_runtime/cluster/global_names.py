"""Global names, as a gateway holds them: one record for each name in the cluster's table, claimed by compare-and-set.

    register    create the record          there already: is its owner's node alive? no: replace that very record
    whereis     the table, as far as this node has heard of it, and only of nodes that are there
    stand_by    register, and wait for the record or its owner's node to go, and again
    release     delete the record that was written, no later one

The record names node, incarnation and process; its revision, on the time at which the table was made, is the *fencing
token*: greater than any owner's before, and never given twice. A node is alive as long as its lease, and gives up its
names a little before (`core.membership`): so two owners do not meet. Nothing is taken from a living node, but
`re_register` moves a name on purpose.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from otp_runtime.cluster import protocol
from otp_runtime.cluster.session import lease_clock
from otp_runtime.cluster.standing import Held
from otp_runtime.core import membership
from otp_runtime.core import messages as wire
from otp_runtime.errors import NoNode, NoProcess
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.poller import now
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.cluster.gateway import Gateway
    from otp_runtime.cluster.session import Session
    from otp_runtime.process.peers import Peer

CLAIM_SECONDS = 4.0
"""How long a claim is tried while the table does not answer, as after an election of its servers."""

AGAIN_SECONDS = 0.1
STAND_BY_SECONDS = 0.5
END_SECONDS = 1.0
CLAIMED, MOVED = "claimed", "moved"


class Entry(NamedTuple):
    """Who has a name, and since which revision."""

    node: str
    incarnation: int
    id: int
    revision: int


class GlobalNames:
    """The names of one gateway's processes, and what it has heard of all others."""

    def __init__(self, gateway: Gateway) -> None:
        """Hold them for `gateway`."""
        self.gateway = gateway
        self._held: dict[str, Held] = {}
        """What this node's processes have."""
        self._known: dict[str, Entry] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._claims: dict[str, int] = collections.defaultdict(int)
        """Under way: a record of one's own that comes meanwhile may be theirs."""
        self._turns: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        """Claims of one name go one after the other: a record that one of them wrote and has not heard of is no dead
        owner's."""

    def held(self) -> dict[str, Held]:
        """Give the names of this node's processes."""
        return dict(self._held)

    def known(self) -> list[str]:
        """Give the names that a record was seen of."""
        return list(self._known)

    def adopt(self, held: dict[str, Held]) -> None:
        """Go on where the gateway before this one stopped."""
        self._held = dict(held)
        for one in held.values():
            self.gateway.know(one.id)

    # -- what is asked ------------------------------------------------------------------------------------------

    async def register(self, name: str, process_id: int, *, how: str = CLAIMED) -> int | Pid:
        """Claim a name for a process of this node; give its token, or the process that has it.

        Raises `NoNode` when the table does not answer, `NoProcess` when the process is dead.
        """
        deadline = now() + CLAIM_SECONDS
        self._claims[name] += 1
        try:
            async with self._turns[name]:
                return await self._register(name, process_id, how, deadline)
        finally:
            self._claims[name] -= 1
            if not self._claims[name]:
                del self._claims[name], self._turns[name]
            self._disown(name)

    async def _register(self, name: str, process_id: int, how: str, deadline: float) -> int | Pid:
        while True:
            trouble: Any = "this node takes no part in it now"
            session = self.gateway.session
            if session is not None:
                try:
                    return await self._claim(session, name, process_id, how)
                except KeyWrongLastSequenceError:
                    continue  # somebody was faster: look again
                except (NatsError, JetStreamError, TimeoutError) as error:
                    trouble = str(error) or type(error).__name__
            if now() >= deadline:
                cluster = self.gateway.settings.cluster
                raise NoNode(self.gateway.node.name, f"the names of the cluster {cluster} are out of reach: {trouble}")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _claim(self, session: Session, name: str, process_id: int, how: str) -> int | Pid:
        gateway = self.gateway
        key = f"name.{name}"
        value = msgpack.packb([gateway.node.name, gateway.node.incarnation, process_id, how])
        try:
            token = await session.kv.create(key, value)
        except KeyWrongLastSequenceError:
            try:
                found = await session.kv.get(key)
            except KeyNotFoundError:
                raise KeyWrongLastSequenceError from None
            owner = _read(found)
            if how == CLAIMED and owner is not None and await self._is_alive(session, name, owner):
                held = self._held.get(name)
                if held is not None and held.id == process_id:
                    # its own, and the answer was lost with the gateway before this one
                    return held.token
                return Pid(owner.node, owner.id, owner.incarnation)
            token = await session.put(key, value, found.revision or 0)
        due = membership.fence_due(gateway.state)
        if gateway.session is not session or session.lost.is_set() or due is None or lease_clock() >= due:
            # it may be another's by now: the record is deleted when this node has joined anew
            raise TimeoutError("the lease of this node ran out meanwhile")
        held = self._held[name] = Held(process_id, token, session.base)
        self._know(name, Entry(gateway.node.name, gateway.node.incarnation, process_id, token))
        gateway.write_standing()
        if not gateway.know(process_id):
            await self._release(session, name)
            raise NoProcess(gateway.context.pid_of(process_id))
        return held.token

    async def _is_alive(self, session: Session, name: str, owner: Entry) -> bool:
        """Say whether the owner may still act: its node's lease runs, or the process is one of this node that lives."""
        if (owner.node, owner.incarnation) == (self.gateway.node.name, self.gateway.node.incarnation):
            return self._holds(name, owner)
        try:
            found = await session.kv.get(f"node.{protocol.name_token(owner.node)}")
        except KeyNotFoundError:
            return False
        record = protocol.read_record(found.value)
        return record is not None and record[1] == owner.incarnation

    async def stand_by(self, name: str, process_id: int) -> int:
        """Claim a name, and wait for it as long as another has it; give the token."""
        while True:
            changed = self._changed.setdefault(name, asyncio.Event())
            changed.clear()
            with contextlib.suppress(NoNode):
                outcome = await self.register(name, process_id)
                if isinstance(outcome, int):
                    return outcome
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), STAND_BY_SECONDS)
            if not self.gateway.know(process_id):
                raise NoProcess(self.gateway.context.pid_of(process_id))

    def whereis(self, name: str) -> Pid | None:
        """Give the process that has a name, as far as this node has heard."""
        owner = self._known.get(name)
        if owner is None:
            return None
        gateway = self.gateway
        if owner.node == gateway.node.name:
            peer = gateway.context.peer(owner.id) if name in self._held else None
            is_there = owner.incarnation == gateway.node.incarnation and peer is not None and not peer.has_ended()
        else:
            place = gateway.places.get(owner.node)
            is_there = place is not None and place.incarnation == owner.incarnation
        return Pid(owner.node, owner.id, owner.incarnation) if is_there else None

    async def unregister(self, name: str) -> None:
        """Free a name, whoever has it."""
        session = self.gateway.session
        if session is None:
            raise NoNode(self.gateway.node.name, "it takes no part in the cluster now")
        try:
            found = await session.kv.get(f"name.{name}")
            await session.delete(f"name.{name}", found.revision or 0)
        except KeyNotFoundError:
            return
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise NoNode(self.gateway.node.name, f"the name could not be freed: {error!r}") from error
        self._held.pop(name, None)
        self._known.pop(name, None)
        self.gateway.write_standing()

    def token(self, name: str, process_id: int) -> int | None:
        """Give the token with which a process of this node holds a name."""
        held = self._held.get(name)
        return held.token if held is not None and held.id == process_id else None

    def names(self) -> list[str]:
        """Give the names that somebody has."""
        return sorted(name for name in self._known if self.whereis(name) is not None)

    # -- what happens -------------------------------------------------------------------------------------------

    def joining(self, session: Session) -> None:
        """A session begins: all that is there will be told anew. A table that is another holds nothing of before."""
        self._known.clear()
        for name, held in list(self._held.items()):
            if held.base != session.base:
                self._lose(name)

    async def rejoined(self) -> None:
        """See what became of what was held: stop what has lost its name, clear up what nobody here has any more."""
        gateway = self.gateway
        me = (gateway.node.name, gateway.node.incarnation)
        for name, held in list(self._held.items()):
            if self._known.get(name) != Entry(*me, held.id, held.revision):
                self._lose(name)
        for name in list(self._known):
            self._disown(name)

    def on_entry(self, name: str, entry: Any) -> None:
        """The record of a name was written or deleted."""
        revision = entry.revision or 0
        held = self._held.get(name)
        owner = None if entry.operation in {"DEL", "PURGE"} else _read(entry)
        if owner is None:
            if (known := self._known.get(name)) is not None and known.revision < revision:
                del self._known[name]
            if held is not None and held.revision < revision:
                self._held.pop(name)
                self.gateway.write_standing()
        else:
            if held is not None and held.revision < revision:
                if _how(entry) == CLAIMED:
                    self._lose(name)
                else:
                    self._held.pop(name)
                    self.gateway.write_standing()
            if (known := self._known.get(name)) is None or known.revision <= revision:
                self._known[name] = owner
            self._disown(name)
        self._wake(name)

    def _disown(self, name: str) -> None:
        """Delete a record that says a process of this node has a name that none here has.

        Its claim was written, and the answer lost; or it was given up while nobody could delete it.
        """
        owner, gateway = self._known.get(name), self.gateway
        if owner is None or owner[:2] != (gateway.node.name, gateway.node.incarnation) or name in self._claims:
            return
        if not self._holds(name, owner) and gateway.session is not None:
            del self._known[name]
            gateway.spawn(self._delete(gateway.session, name, owner.revision))

    async def _delete(self, session: Session, name: str, revision: int) -> None:
        """Delete a record, as soon as the table answers; what a lost session leaves is seen to after the next."""
        while self.gateway.session is session:
            try:
                await session.delete(f"name.{name}", revision)
            except (NatsError, JetStreamError, TimeoutError):
                await asyncio.sleep(STAND_BY_SECONDS)
            else:
                return

    def node_gone(self, node: str) -> None:
        """The record of a node vanished: its names may be claimed."""
        for name, owner in self._known.items():
            if owner.node == node:
                self._wake(name)

    def process_gone(self, process_id: int) -> None:
        """A process of this node ended: its names are free."""
        for name, held in list(self._held.items()):
            if held.id == process_id:
                del self._held[name]
                self.gateway.write_standing()
                # without a session the record is cleared up when this node joins anew
                if self.gateway.session is not None:
                    self.gateway.spawn(self._delete(self.gateway.session, name, held.revision))

    async def _release(self, session: Session, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            with contextlib.suppress(NatsError, JetStreamError, TimeoutError):
                await session.delete(f"name.{name}", held.revision)
            self.gateway.write_standing()

    async def leave(self, session: Session) -> None:
        """Give the names back, so that others need not wait for the lease. First whoever has one must have ended."""
        for process_id in {held.id for held in self._held.values()}:
            peer = self.gateway.context.peer(process_id)
            if peer is not None and not _is_program(peer):
                self.gateway.context.signal_exit(peer, "kill")
                deadline = now() + END_SECONDS
                while not kernel.has_ended(peer.pidfd) and now() < deadline:  # noqa: ASYNC110 - it is being killed
                    await asyncio.sleep(0.002)
        for name in list(self._held):
            await self._release(session, name)

    # -- what is lost -------------------------------------------------------------------------------------------

    def fence(self) -> None:
        """This node's lease has run out: stop all that have a name, others may take over."""
        for name in list(self._held):
            self._lose(name)

    def _lose(self, name: str) -> None:
        """Stop a process whose name may be another's: in order, and for sure."""
        process_id = self._held.pop(name).id
        self.gateway.write_standing()
        context = self.gateway.context
        peer = context.peer(process_id)
        if peer is None:
            return
        if _is_program(peer):
            context.node.warn(f"the program's {peer.pid!r} has lost its global name, and is told so")
            context.signal_exit(peer, "noconnection")
            return
        context.node.warn(f"{peer.box.name or peer.pid!r} is stopped: it has lost its global name")
        if peer.box.flag(boxes.TRAP_EXIT) and peer.box.flag(boxes.READY) != boxes.PLAIN:
            stop = [wire.SYSTEM, context.id, context.next_serial(), ("terminate", "noconnection")]
            context.post(peer, context.codec.encode(stop))
        else:
            context.signal_exit(peer, "noconnection")
        grace = self.gateway.settings.lease * membership.MARGIN / 2
        asyncio.get_running_loop().call_later(grace, self._kill, process_id)

    def _kill(self, process_id: int) -> None:
        peer = self.gateway.context.peer(process_id)
        if peer is not None:
            self.gateway.context.signal_exit(peer, "kill")

    def _holds(self, name: str, owner: Entry) -> bool:
        """Say whether a record that names this node is what one of its processes holds."""
        held = self._held.get(name)
        return held is not None and (held.id, held.revision) == (owner.id, owner.revision)

    def _know(self, name: str, owner: Entry) -> None:
        known = self._known.get(name)
        if known is None or known.revision <= owner.revision:
            self._known[name] = owner

    def _wake(self, name: str) -> None:
        changed = self._changed.get(name)
        if changed is not None:
            changed.set()


def _is_program(peer: Peer) -> bool:
    """A program's thread is told that it has lost a name, and never killed: its node would end with it."""
    return bool(peer.box.kind == boxes.KIND_THREAD)


def _read(entry: Any) -> Entry | None:
    owner = protocol.read_owner(entry.value)
    return None if owner is None else Entry(*owner[:3], entry.revision or 0)


def _how(entry: Any) -> str:
    owner = protocol.read_owner(entry.value)
    return CLAIMED if owner is None else owner[3]
