"""The gateway of a node: the one process that holds a connection to the cluster. An event loop, and nothing of yours.

    processes of the node ── OUT ──► mailbox ─┐                           ┌─► subject of the other node's epoch
                                              ├─ `core.membership` ───────┤
    processes of the node ◄─ FOREIGN, TIDINGS ┘  `core.watches`           └◄─ own subject, the table of nodes

Its end is the end of this node's part in the cluster. Its supervisor starts it again, and it joins with a new epoch.
So does it when the connection is lost: see `session`. Meanwhile everything on this node goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
from typing import TYPE_CHECKING, Any

from nats.js.errors import KeyWrongLastSequenceError

from otp_runtime.cluster import engine, protocol, services, standing
from otp_runtime.cluster.arrivals import Arrivals
from otp_runtime.cluster.delivery import Delivery
from otp_runtime.cluster.mailroom import Mailroom
from otp_runtime.cluster.outgoing import Outgoing, Place
from otp_runtime.cluster.roll_call import RollCall
from otp_runtime.cluster.session import Refusal, Session, Unreachable, lease_clock
from otp_runtime.cluster.table_watch import TableWatch
from otp_runtime.core import membership, watches
from otp_runtime.core import messages as wire
from otp_runtime.terms.events import Exit

if TYPE_CHECKING:
    from otp_runtime.cluster.mailroom import GatewayContext
    from otp_runtime.cluster.pillars import Pillars
    from otp_runtime.cluster.settings import Settings
    from otp_runtime.process import boot as booting

AGAIN_SECONDS = 0.25
LOOK_SECONDS = 0.2
PROBE_SECONDS = 0.2
"""How often a node in which somebody here has an interest is asked for: nobody there means that it is lost."""

EPOCHS_MAX = 1_000
PLAIN = (bytes([0x92, wire.SEND]), wire.CAST_HEAD)
"""How the envelopes begin that nobody answers."""


class Gateway:
    """One gateway; `run` is its life."""

    def __init__(self, context: GatewayContext, boot: booting.Boot, settings: Settings, pillars: Pillars) -> None:
        """Serve the node of `context`, which stands as long as its `pillars` do."""
        self.context = context
        self.node = context.node
        self.boot = boot
        self.settings = settings
        self.state = membership.State(self.node.name, settings.lease)
        self.watches = watches.Watches()
        self.places: dict[str, Place] = {}
        self.roll = RollCall(settings.cluster, self.node.name, self.node.incarnation)
        self.arrivals = Arrivals(self)
        self.incarnations: dict[tuple[str, int], int] = {}
        """Of the epochs that were met here, also of those that are over."""
        self.session: Session | None = None
        self.table: TableWatch | None = None
        self.followers: set[int] = set()
        self.ended: Any = None
        self.is_orphan = False
        self.over = asyncio.Event()
        self.delivery = Delivery(self)
        self.services = services.Services(self)
        self._known: set[int] = set()
        self.pillars = pillars
        self.outgoing = Outgoing(self.warn)
        self.mail = Mailroom(context, self.outgoing, self._handle)
        self._tasks: set[asyncio.Task[Any]] = set()
        context.on_out = self._on_out

    # -- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> Any:
        """Join, serve, join anew when that ends; give the exit reason."""
        self.pillars.watch(self._falls)
        known = standing.read(self.context.directory)
        is_first = known is None
        if known is not None:
            self.followers = set(known.followers)
            self.services.names.adopt(known.held)
            self.state = dataclasses.replace(self.state, renewed_at=known.renewed_at)
            self.write_standing()
            self.boot.say("ok")
        self.mail.open()
        self._spawn(self._mind_lease())
        while not self.over.is_set():
            try:
                if not await self._join_or_end():
                    break
            except Refusal as error:
                if is_first:
                    return self._refused(str(error))
                self.warn(f"{self.node.name} was refused: {error}")
            except Unreachable as error:
                if is_first:
                    return self._refused(str(error))
            else:
                if is_first:
                    self.boot.say("ok")
                is_first = False
                await self._serve()
            self.tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), AGAIN_SECONDS)
        if self.is_orphan:
            # as if it had been killed as well: whoever is started in its place goes on with its names
            await self._drop_connection()
        else:
            await self._leave()
        return self.ended

    async def _join_or_end(self) -> bool:
        """Join; False when the node ended meanwhile."""
        joining, ending = self._spawn(self._join()), self._spawn(self.over.wait())
        await asyncio.wait((joining, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not joining.done():
            joining.cancel()
            with contextlib.suppress(asyncio.CancelledError, Refusal, Unreachable):
                await joining
            return False
        await joining
        return True

    def _refused(self, why: str) -> Any:
        reason = ("cluster", why)
        self.boot.say("error", reason)
        return reason

    async def _join(self) -> None:
        servers, user, password = self._where()
        session = Session(self.settings, self.node.name, self.node.incarnation)
        session.on_trouble = self.warn
        try:
            await session.connect(servers, user, password)
            await session.open_bucket()
            await session.claim()
            self.arrivals.early.clear()
            cluster, me = self.settings.cluster, self.node.name
            own = protocol.node_subject(cluster, me, session.epoch)
            await session.nc.subscribe_directly(own, self.arrivals.on_frame)
            await session.nc.subscribe_directly(f"{self.roll.head(session)}.*", self._on_bounce)
            await session.nc.subscribe_directly(f"otp.{cluster}.refused", self.arrivals.on_refused)
            await session.nc.flush(2)
            await session.announce()
            self.services.names.joining(session)
            table = self.table = TableWatch(session, self._on_entry, self._keys)
            await table.open()
            self.session = session
            self.outgoing.begin(session)
            self.step(membership.Joined(session.epoch, session.joined_at))
            self.write_standing()
            await table.take_stock(functools.partial(self.roll.without_ghosts, session, self.outgoing))
            await self.services.names.rejoined()
            gc.collect()
            gc.freeze()
            self._spawn(self._watch(session, table))
            self._spawn(session.mind_table(self.node.warn_once))
        except (Refusal, Unreachable):
            await self._fail(session)
            raise
        except asyncio.CancelledError:
            await session.leave()
            raise
        except Exception as error:
            await self._fail(session)
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def _fail(self, session: Session) -> None:
        if self.session is session:
            self.session = None
            self.step(membership.Disconnected())
        await session.close()

    def _where(self) -> tuple[list[str], str, str]:
        if not self.settings.is_embedded:
            return list(self.settings.servers), self.settings.user, self.settings.password
        said = engine.EngineDirectory(self.context.directory.path.parent, self.settings.cluster).read()
        if said is None:
            raise Unreachable(f"the embedded engine of the cluster {self.settings.cluster} is not there")
        return [said["url"]], said["user"], said["password"]

    async def _serve(self) -> None:
        """Take part until the connection is lost, the lease is, or the node ends."""
        session = self.session
        assert session is not None
        renewing = self._spawn(self._renew(session))
        sending = self._spawn(self._send(session))
        probing = self._spawn(self._probe(session))
        ends = [self._spawn(session.lost.wait()), self._spawn(self.over.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.over.is_set():
            # what was handed in before the end is sent before it
            await self.outgoing.flush()
        for task in (renewing, sending, probing, *ends):
            task.cancel()
        if not self.over.is_set():
            self.session = None
            self.outgoing.drop()
            self.step(membership.Disconnected())
            self.write_standing()
            await session.close()

    async def _drop_connection(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await self.services.names.leave(session)
            await session.leave()

    async def _renew(self, session: Session) -> None:
        while True:
            due = membership.renew_due(self.state)
            if due is None:
                return
            await asyncio.sleep(max(0.0, due - lease_clock()))
            try:
                sent_at = await session.renew()
            except KeyWrongLastSequenceError:
                self.step(membership.Refused())
                session.lost.set()
                return
            except Exception:  # noqa: BLE001 - not heard: `_mind_lease` says when that is too long
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self.step(membership.Renewed(sent_at))
                if self.services.names.held():
                    # whoever is the gateway when the lease runs out has to know that it does
                    self.write_standing()
                if self.table is not None:
                    self.table.expect(session.revision)

    def tick(self) -> None:
        """Give up if the lease is over: before anything is done that counts on it."""
        self.step(membership.Tick())

    async def _mind_lease(self) -> None:
        """Give up when the lease is over, whatever else is being waited for."""
        while True:
            due = membership.fence_due(self.state)
            await asyncio.sleep(LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.0, due - lease_clock())))
            self.tick()
            if self.state.epoch is None and self.session is not None:
                self.session.lost.set()

    async def _watch(self, session: Session, table: TableWatch) -> None:
        """Hear of every change in the table of nodes and names."""
        try:
            await table.run()
        except Exception as error:  # noqa: BLE001 - without it this node would be blind
            self.warn(f"the watch on the cluster's table ended: {error!r}")
            session.lost.set()

    def _keys(self) -> list[str]:
        """Give the keys of all records that this node believes to be there."""
        nodes = [f"node.{protocol.name_token(node)}" for node in self.state.members]
        return nodes + [f"name.{name}" for name in self.services.names.known()]

    def _on_entry(self, entry: Any) -> None:
        kind, _, token = entry.key.partition(".")
        name = protocol.name_of(token)
        if kind == "name":
            if protocol.KEY.fullmatch(token):
                self.services.names.on_entry(token, entry)
        elif kind == "node" and name is not None:
            if entry.operation in {"DEL", "PURGE"}:
                # deleted by the node itself, or its time is over; OTP's words
                self.step(membership.Gone(name, "disconnect" if entry.operation == "DEL" else "net_tick_timeout"))
                self.services.names.node_gone(name)
                return
            record = protocol.read_record(entry.value)
            if record is None or record[0] != name:
                self.arrivals.garbage(
                    "record", f"a record of the node {name} in the cluster's table that it cannot read"
                )
            elif record[2] > 0:
                self.step(membership.Seen(name, record[2], record[1]))

    async def _probe(self, session: Session) -> None:
        """Ask for the nodes in which somebody has an interest; see `_on_bounce`."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for node, epoch in self.watches.nodes_watched():
                place = self.places.get(node)
                if place is not None and place.epoch == epoch:
                    self.send(node, protocol.UNWATCH, None, None)
            if session.lost.is_set():
                return

    # -- decisions ----------------------------------------------------------------------------------------------

    def step(self, event: membership.Event) -> None:
        """Let the membership decide about an event, and do what it says."""
        self.state, actions = membership.step(self.state, event, lease_clock())
        for action in actions:
            match action:
                case membership.Up(node, member):
                    self._up(node, member)
                case membership.Lost(node, epoch, reason):
                    self._lost(node, epoch, reason)
                case membership.Reconcile(node, member):
                    self._place(node, member)
                    self.send(node, protocol.BROKEN, None, None)
                case membership.Fence():
                    self.services.names.fence()
        if actions:
            self.write_standing()

    def _place(self, node: str, member: membership.Member) -> None:
        session = self.session
        assert session is not None
        self.incarnations[node, member.epoch] = member.incarnation
        if len(self.incarnations) > EPOCHS_MAX:
            del self.incarnations[next(iter(self.incarnations))]
        self.places[node] = self.roll.place(session, node, member)

    def _up(self, node: str, member: membership.Member) -> None:
        self._place(node, member)
        # before anybody is told: who hears of it may send at once
        self.write_standing()
        for follower in sorted(self.followers):
            self.tell(follower, "nodeup", [node])
        self.arrivals.up(node, member)
        self.services.node_up(node)

    def _lost(self, node: str, epoch: int, reason: Any) -> None:
        self.places.pop(node, None)
        self.delivery.lost(node, epoch)
        self.write_standing()
        for watcher in self.watches.lost(node, epoch):
            self.tell(watcher, "lost", [node, epoch])
        for follower in sorted(self.followers):
            self.tell(follower, "nodedown", [node, reason])
        self.services.node_down(node)

    def write_standing(self) -> None:
        """Let the processes of the node know how things stand."""
        session = self.session
        standing.write(
            self.context.directory,
            standing.Standing(
                gateway=self.context.id,
                cluster=self.settings.cluster,
                epoch=0 if session is None else session.epoch,
                max_bytes=0 if session is None else session.max_payload,
                nodes={node: (place.epoch, place.incarnation) for node, place in self.places.items()},
                followers=tuple(sorted(self.followers)),
                held=self.services.names.held(),
                renewed_at=self.state.renewed_at,
            ),
        )

    # -- to other nodes -----------------------------------------------------------------------------------------

    def _on_out(self, envelope: list[Any]) -> None:
        _kind, sender, node, epoch, frame, watched = envelope
        place = self.places.get(node)
        if place is None or place.epoch != epoch:
            self.tell(sender, "lost", [node, epoch])
            if place is not None:
                self._forward(node, place, epoch, frame)
            return
        if watched is not None:
            self.watches.watch(sender, node, epoch, watched)
            self.know(sender)
        self.outgoing.publish(place, frame)

    def _forward(self, node: str, place: Place, epoch: int, frame: bytes) -> None:
        """Send a message of a process that has not heard yet that an epoch is over, in the one that is now.

        It was sent while the nodes were connected, so it must not be lost: a program that does something else may be
        long in reading. A call is: its caller hears that the node was, whatever became of it. To another incarnation
        nothing goes, ids mean others there.
        """
        if self.incarnations.get((node, epoch)) != place.incarnation:
            return
        fields = protocol.parse(frame)
        if fields is not None and fields[1] == protocol.MESSAGE and fields[7][:2] in PLAIN:
            self.send(node, protocol.MESSAGE, fields[5], None, fields[7])

    def send(self, node: str, op: int, to: Any, by: Any, body: bytes = b"") -> None:
        """Send a frame of the gateway's own; to a node that is away it is nothing."""
        place, session = self.places.get(node), self.session
        if place is not None and session is not None:
            if len(body) > session.max_payload:
                # the engine would end the connection over it
                self.arrivals.garbage(
                    "long", f"an answer for {node} of {len(body)} bytes, more than the engine takes: dropped"
                )
                return
            head = protocol.head_of(op, self.node.name, self.node.incarnation, session.epoch, to, by)
            self.outgoing.publish(place, protocol.frame_of(head, body))

    def _on_bounce(self, subject: bytes, _data: bytes, is_nobody: bool) -> None:
        """The server says that nobody listens for that epoch of a node."""
        if is_nobody and (event := self.roll.silent(subject)) is not None:
            self.step(event)

    # -- to and from processes of this node ---------------------------------------------------------------------

    def tell(self, process_id: int, what: str, details: list[Any]) -> None:
        """Send tidings to a process of this node."""
        peer = self.context.peer(process_id)
        if peer is not None:
            self.context.post(peer, self.context.codec.encode([wire.TIDINGS, what, details]))

    def know(self, process_id: int) -> bool:
        """Hear of the end of a process of this node; False when it is dead."""
        if process_id in self._known:
            return True
        peer = self.context.peer(process_id)
        if peer is None:
            self._gone(process_id, "noproc")
            return False
        self._known.add(process_id)
        peer.waiters.append(functools.partial(self._gone, process_id))
        return True

    def _gone(self, process_id: int, reason: Any) -> None:
        self._known.discard(process_id)
        for watcher, key in self.watches.died(process_id):
            self.send_down(watcher, key, reason)
        for node, epoch, key in self.watches.gave_up(process_id):
            if (place := self.places.get(node)) is not None and place.epoch == epoch:
                self.send(node, protocol.UNWATCH, key, process_id)
        if process_id in self.followers:
            self.followers.discard(process_id)
            self.write_standing()
        self.services.process_gone(process_id)

    def _falls(self) -> bool:
        """See whether the node is ending because its program, launcher or guard was killed; then leave at once.

        What its servers die of meanwhile is nobody's news: those elsewhere lose the node, and hear that.
        """
        falls = self.pillars.have_fallen()
        if falls and not self.over.is_set():
            self._end("killed")
        return falls

    def send_down(self, watcher: watches.Watcher, key: watches.Key, reason: Any) -> None:
        """Tell a watcher elsewhere that what it watched is dead."""
        if self._falls():
            return
        node, epoch, process_id = watcher
        place = self.places.get(node)
        if place is not None and place.epoch == epoch:
            self.send(node, protocol.DOWN, process_id, key, protocol.encode_reason(reason))

    def follow(self, process_id: int, flag: bool) -> None:
        """Let a process hear of nodes, or no longer; tell it first which are there."""
        if flag:
            if self.know(process_id):
                self.followers.add(process_id)
                # not as the answer: what changes afterwards may be read before whoever asked goes on
                self.tell(process_id, "nodes", [sorted(self.places)])
        else:
            self.followers.discard(process_id)
        self.write_standing()

    def _handle(self, envelope: wire.Envelope) -> None:
        match envelope:
            case [wire.EXIT, reason]:
                self._end(reason)
            case [wire.SEND, Exit(pid=pid, reason=reason)]:
                if self.context.key_of(pid) == self.context.parent or reason == "shutdown":
                    self._end(reason)
            case [wire.CALL, int() as caller, serial, request]:
                self.services.local(caller, serial, request)
            case _:
                self.context.box.count_garbage()

    def _end(self, reason: Any) -> None:
        self.ended = reason
        self.is_orphan = reason == "killed" and not self.pillars.have_fallen()
        self.pillars.forget()
        self.over.set()

    async def _send(self, session: Session) -> None:
        """Send what has to wait for the socket."""
        try:
            await self.outgoing.run()
        finally:
            if not self.over.is_set():
                session.lost.set()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def spawn(self, work: Any) -> None:
        """Do something that waits, beside everything else."""
        self._spawn(work)

    def warn(self, text: str) -> None:
        """Say something in the log of the node."""
        self.node.warn(f"cluster {self.settings.cluster}: {text}")
