"""A scope: the process that keeps groups of processes, here and, where there is a cluster, those of all nodes.

It alone writes the table that everybody on its node reads. In a cluster it speaks with the scopes of its name on the
other nodes: see `core.copies`. Whoever of them cannot be reached is gone with all its members, and met anew with
`NodeUp`.

    join, leave, a death ──► table ──► who watches
                          └► DELTA ──► scopes elsewhere ──► their tables ──► who watches there
    NodeUp, start        ──► WHO   ──► scopes elsewhere ──► HELLO

An entry of the table is `(value,)` for a process of this node, and `(value, pid)`, in the scope's own name, for one of
another. `value` is what a member brought along; process groups use none, presence its key and its data.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply
from otp_runtime.core import copies as core_copies
from otp_runtime.core import messages as wire
from otp_runtime.core import registry as core
from otp_runtime.core.copies import Change, Copies
from otp_runtime.errors import CallError, CodecError, NoNode
from otp_runtime.host import box as boxes
from otp_runtime.process import primitives as process
from otp_runtime.process import route
from otp_runtime.process.current import current
from otp_runtime.process.node import Node
from otp_runtime.registry import table as tables
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.events import Down, NodeUp
from otp_runtime.terms.pid import Pid, Ref, Remote

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.copies import Member

__all__ = ["DATA", "NOTHING", "Scope", "check_group", "pid_of"]

DATA: Final = Codec(None, imports=False)
"""What is said between nodes: data only, nothing is unpickled or imported for it."""

NOTHING: Final = b""
TAG: Final = "$scope"
FOLLOW: Final = "$follow"
FOLLOW_SECONDS: Final = 0.25
GROUP_BYTES: Final = 8_192


def pid_of(entry: core.Entry) -> Pid:
    """Give the member that an entry of a scope's table is."""
    said = (entry.cell or entry.read())[1]
    return entry.pid if len(said) == 1 else said[1]


def is_local(entry: core.Entry) -> bool:
    """Say whether a member is a process of this node."""
    return len((entry.cell or entry.read())[1]) == 1


def check_group(group: Any) -> None:
    """Refuse what names no group: TypeError. In a cluster what other nodes cannot read: `CodecError`, ValueError."""
    core.canonical(group)
    if route.filled(current()) is None:
        return
    size = len(DATA.encode(group, "group"))
    if size > GROUP_BYTES:
        msg = f"in a cluster the name of a group takes at most {GROUP_BYTES} bytes, not {size}: {group!r:.80}"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Who watches: `index` is the group's, None for all of them."""

    pid: Pid
    down: Ref
    index: Any | None


class Scope(GenServer[Any]):
    """The scope's process."""

    _label: ClassVar[str] = "pg"
    _from_nodes: ClassVar[frozenset[int]] = frozenset({wire.SEND})
    """What of other nodes it takes at all: see `cluster.routing`."""
    _survives: ClassVar[bool] = False
    """Whether one that is brought back keeps the members of this node that are still there."""

    @classmethod
    def _may_say(cls, message: Any, node: str, incarnation: int) -> bool:
        """Say whether that life of another node may send this: as a scope, and none speaks for another node's."""
        match message:
            case (str() as tag, str(), Pid() as scope, *_rest) if tag == TAG:
                return (scope.node, scope.incarnation) == (node, incarnation)
            case _:
                return False

    def init(self, scope: str, /) -> Any:
        """Make the table; in a cluster, greet the others."""
        context = current()
        # whoever reaps this process then looks for the table it leaves
        context.box.set_flag(boxes.TABLES)
        self.partition = tables.adopt_or_create(
            context,
            scope,
            0,
            owner=context.id,
            kind=tables.GROUPS,
            partitions=1,
            log=b"",
            adopt=lambda _entries: self._survives,
            blind=False,
        )
        self.partition.refresh()
        self.scope = scope
        self.members: dict[int, Ref] = {}
        self.watchers: dict[Ref, _Watcher] = {}
        self.copies = Copies()
        self.downs: dict[Ref, Pid] = {}
        self.unwritten: dict[Hashable, Any] = {}
        self.follows = False
        self._adopt()
        if route.filled(context) is not None:
            self._follow()

    def _adopt(self) -> None:
        """Watch the members that a predecessor left; what it knew of others leaves, and is asked for anew."""
        entries = self.partition.entries
        for process_id in list(entries.of):
            if all(map(is_local, entries.of[process_id])):
                self.members[process_id] = process.monitor(current().pid_of(process_id))
            else:
                self._announce(self._left_of(process_id))
                self._write(core.gone(process_id))

    def handle_call(self, request: Any, client: Client[Any], state: Any, /) -> Any:
        """What processes of this node ask."""
        try:
            return self._handle(request, client, state)
        except OSError as error:
            # no room, or no descriptor: who asked hears of it, and the groups stay
            return Reply.error(error, state)

    def _handle(self, request: Any, client: Client[Any], state: Any) -> Any:
        match request:
            case ("join", group, pids, value):
                return Reply(self._join(group, pids, value), state)
            case ("leave", group, pids, value):
                return Reply(self._leave(group, pids, value), state)
            case ("monitor", what):
                return Reply(self._monitor(client.pid, what), state)
            case ("demonitor", ref):
                watcher = self.watchers.pop(ref, None)
                if watcher is None:
                    return Reply(False, state)
                process.demonitor(watcher.down, flush=True)
                return Reply("ok", state)
            case _:
                return super().handle_call(request, client, state)

    def handle_info(self, message: Any, state: Any, /) -> Any:
        """Deaths, nodes that come, what other scopes say; what is none of it is ignored."""
        match message:
            case Down(ref, pid):
                self._down(ref, pid)
            case NodeUp(node):
                self._ask(node)
            case (str() as tag, str() as kind, Pid() as scope, *rest) if tag == TAG:
                self._hear(kind, scope, rest)
            case str() as word if word == FOLLOW and not self.follows:
                self._follow()
            case _:
                pass
        return NoReply(state)

    def _down(self, ref: Ref, pid: Any) -> None:
        if ref in self.downs:
            self._take(self.copies.lost(self.downs.pop(ref)))
            self._others_changed()
        elif type(pid) is Pid and self.members.get(pid.id) == ref:
            self._died(pid)
        else:
            self.watchers = {one: watcher for one, watcher in self.watchers.items() if watcher.down != ref}

    # -- what is asked of it

    def _join(self, group: Any, pids: list[Pid], value: bytes) -> str:
        living = [pid for pid in pids if process.alive(pid)]
        context = current()
        key, cell = context.codec.encode(group, "group"), context.codec.encode((value,))
        for pid in living:
            if pid.id not in self.members:
                self.members[pid.id] = process.monitor(pid)
        self._write(b"".join(core.put(pid.id, key, cell) for pid in living))
        joined = tuple((pid, value) for pid in living)
        self._changed([Change(core.canonical(group), group, joined=joined)])
        return "ok"

    def _leave(self, group: Any, pids: list[Pid], value: bytes = NOTHING) -> str:
        index = core.canonical(group)
        left = []
        staying: dict[int, list[core.Entry]] = {}
        for pid in pids:
            mine = staying.setdefault(pid.id, self.partition.entries.mine(pid.id, index))
            found = next((entry for entry in mine if is_local(entry) and entry.read()[1][0] == value), None)
            if found is not None:
                mine.remove(found)
                left.append((pid, value))
        if not left:
            return "not_joined"
        self._rewrite(group, staying)
        self._forget({pid.id for pid in pids})
        self._changed([Change(index, group, left=tuple(left))])
        return "ok"

    def _rewrite(self, group: Any, staying: dict[int, list[core.Entry]]) -> None:
        key = current().codec.encode(group, "group")
        self._write(b"".join(core.replace(one, key, [entry.data for entry in mine]) for one, mine in staying.items()))

    def _forget(self, process_ids: Iterable[int]) -> None:
        """Watch those no longer who are in no group any more."""
        for one in process_ids:
            if one in self.members and not any(map(is_local, self.partition.entries.of.get(one, ()))):
                process.demonitor(self.members.pop(one), flush=True)

    def _died(self, pid: Pid) -> None:
        del self.members[pid.id]
        left = self._left_of(pid.id)
        # on a full disk it stays in the log; nobody is shown it
        with contextlib.suppress(OSError):
            self._write(core.gone(pid.id))
        self._changed(left)

    def _left_of(self, process_id: int) -> list[Change]:
        """Give what it is when all entries of a process go; in its own name a scope has those of members elsewhere."""
        return [
            Change(entry.index, entry.key, left=((pid_of(entry), entry.read()[1][0]),))
            for entry in self.partition.entries.of.get(process_id, ())
        ]

    def _monitor(self, watcher: Pid, what: tuple[Any] | None) -> tuple[Ref, list[tuple[Any, list[Pid]]]]:
        index = None if what is None else core.canonical(what[0])
        ref = current().make_ref()
        self.watchers[ref] = _Watcher(watcher, process.monitor(watcher), index)
        # what it has not heard of yet it will tell: so members that died this moment are given
        known = self.partition.entries.under
        return ref, [
            (entries[0].key, [pid_of(entry) for entry in entries])
            for one, entries in known.items()
            if index is None or one == index
        ]

    # -- what others say

    def _follow(self) -> None:
        """Hear of nodes from now on, and greet those that are there."""
        try:
            Node.monitor_nodes(True)
            nodes = Node.list()
        except (NoNode, CallError):
            # the gateway is being restarted
            process.send_after(process.self(), FOLLOW, FOLLOW_SECONDS)
            return
        self.follows = True
        for node in nodes:
            self._ask(node)

    def _hear(self, kind: str, scope: Pid, rest: list[Any]) -> None:
        if scope == current().pid:
            return
        match kind, rest:
            case "who", []:
                self._hello(scope)
            case "hello", [bool() as is_first, bool() as is_last, items]:
                changes = core_copies.read(scope, items, _read_group)
                if changes is None:
                    return
                if scope not in self.downs.values():
                    self.downs[process.monitor(scope)] = scope
                is_met = is_last and scope not in self.copies.scopes()
                joined = self.copies.hello(scope, changes, is_first=is_first, is_last=is_last)
                if is_met:
                    # first the way to it: whoever sees its members may send them something at once
                    self._others_changed()
                self._take(joined)
                if is_met:
                    # from now on it is told of every change: so it has to have all that was before
                    self._hello(scope)
            case "delta", [items]:
                self._take(self.copies.delta(scope, core_copies.read(scope, items, _read_group) or ()))
            case _:
                pass

    def _others_changed(self) -> None:
        """Another scope came or went."""

    def _take(self, changes: list[Change]) -> None:
        """Write down what changed elsewhere, and tell who watches."""
        self.unwritten.update((change.index, change.group) for change in changes if change.left)
        context = current()
        encode = context.codec.encode
        log = []
        for change in changes:
            if change.index in self.unwritten:
                continue
            key = encode(change.group)
            log += [core.put(context.id, key, encode((value, pid))) for pid, value in change.joined]
        for index, group in self.unwritten.items():
            own = [entry.data for entry in self.partition.entries.mine(context.id, index) if is_local(entry)]
            others = [encode((value, pid)) for pid, value in self.copies.under(index)]
            log.append(core.replace(context.id, encode(group), own + others))
        try:
            self._write(b"".join(log))
        except OSError:
            # a full disk: written whole with the next change
            self.unwritten.update((change.index, change.group) for change in changes)
        else:
            self.unwritten.clear()
        self._announce(changes)

    # -- effects

    def _changed(self, changes: list[Change]) -> None:
        """Members of this node came or went."""
        self._announce(changes)
        scopes = self.copies.scopes()
        if scopes:
            for piece in core_copies.pieces(self._as_items(changes)):
                for scope in scopes:
                    self._say(scope, "delta", piece)

    def _as_items(self, changes: Iterable[Change]) -> list[tuple[bytes, tuple[Member, ...], tuple[Member, ...]]]:
        return [(DATA.encode(change.group), change.left, change.joined) for change in changes]

    def _ask(self, node: str) -> None:
        self._say(Remote(self.scope, node), "who")

    def _hello(self, scope: Pid) -> None:
        mine = [
            Change(index, entries[0].key, joined=tuple((one.pid, one.read()[1][0]) for one in entries if is_local(one)))
            for index, entries in self.partition.entries.under.items()
        ]
        parts = list(core_copies.pieces(self._as_items(one for one in mine if one.joined)))
        for number, part in enumerate(parts):
            self._say(scope, "hello", number == 0, number == len(parts) - 1, part)

    def _say(self, to: Pid | Remote, kind: str, *rest: Any) -> None:
        """Tell another scope. Nobody is waited for."""
        context = current()
        peer = process.reach(context, to)
        if peer is None:
            return
        try:
            context.post(peer, context.codec.encode([wire.SEND, (TAG, kind, context.pid, *rest)]))
        except CodecError as error:
            context.node.warn(f"the scope {self.scope} could not tell {to!r} of its members: {error}")

    def _write(self, log: bytes) -> None:
        if log:
            with self.partition.writing():
                self.partition.append(log)

    def _announce(self, changes: list[Change]) -> None:
        """Send events to who watches. Nobody is waited for: what finds no room waits in the outbox."""
        if not self.watchers:
            return
        for change in changes:
            for what, members in (("leave", change.left), ("join", change.joined)):
                if members:
                    self._tell(what, change, [pid for pid, _value in members])

    def _tell(self, what: str, change: Change, pids: list[Pid]) -> None:
        context = current()
        for ref, watcher in self.watchers.items():
            if watcher.index is None or watcher.index == change.index:
                peer = context.peer(watcher.pid.id)
                if peer is not None:
                    context.post(peer, context.codec.encode([wire.SEND, (ref, what, change.group, pids)]))


def _read_group(data: bytes) -> tuple[Hashable, Any] | None:
    try:
        group = DATA.decode(data)
        return core.canonical(group), group
    except (CodecError, TypeError) as error:
        current().node.warn_once("scope-group", f"a group of another node cannot be read here: {error}")
        return None
