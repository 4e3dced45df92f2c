"""pg: process groups. Processes join groups, as often as they like, and leave them, at the latest when they die.

Groups live in a *scope*, a process of that name; `"pg"` unless one is given, as the first argument. It is the one
that joins and removes, and tells monitors. Reading asks nobody: members lie in a table in the node's directory.

    >>> from otp_runtime import pg, process
    >>> with pg.start_link():
    ...     pg.join("workers", process.self())
    ...     pg.get_members("workers") == [process.self()]
    'ok'
    True

Membership is of this node's processes: `get_members` and `get_local_members` give the same until nodes are connected.
A scope that dies takes its groups along; a restarted one begins empty, as in OTP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, overload

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply
from otp_runtime.core import messages as wire
from otp_runtime.core import registry as core
from otp_runtime.core.names import check_name
from otp_runtime.host import box as boxes
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.registry import table as tables
from otp_runtime.terms.events import Down
from otp_runtime.terms.pid import Pid, Ref

if TYPE_CHECKING:
    from typing import TypeAlias

    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.registry.table import Table

    MaybeNone: TypeAlias = Any
    Pids: TypeAlias = Pid | Iterable[Pid]
    Scope: TypeAlias = str | Pid

__all__ = [
    "child_spec",
    "demonitor",
    "get_local_members",
    "get_members",
    "join",
    "leave",
    "monitor",
    "monitor_scope",
    "start",
    "start_link",
    "which_groups",
    "which_local_groups",
]

DEFAULT_SCOPE: Final = "pg"


# -- starting ----------------------------------------------------------------------------------------------


def start_link(scope: str = DEFAULT_SCOPE) -> Pid | MaybeNone:
    """Start a scope linked to the caller; `AlreadyStarted` when the name is taken. OTP: pg:start_link/0,1."""
    return _Scope.start_link(check_name(scope), name=scope)


def start(scope: str = DEFAULT_SCOPE) -> Pid | MaybeNone:
    """As `start_link`, linked to nobody. OTP: pg:start/1."""
    return _Scope.start(check_name(scope), name=scope)


def child_spec(
    scope: str = DEFAULT_SCOPE,
    *,
    id: Any = None,
    restart: Literal["permanent", "transient", "temporary"] | None = None,
    shutdown: float | Literal["brutal_kill"] | None = 5.0,
    significant: bool = False,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """Say how a supervisor starts a scope. Put it before those who join its groups."""
    return _Scope.child_spec(
        check_name(scope),
        name=scope,
        id=id,
        restart=restart,
        shutdown=shutdown,
        significant=significant,
        backoff=backoff,
    )


# -- joining and leaving -----------------------------------------------------------------------------------


@overload
def join(group: Any, pids: Pids, /) -> Literal["ok"]: ...
@overload
def join(scope: Scope, group: Any, pids: Pids, /) -> Literal["ok"]: ...
def join(*args: Any) -> Literal["ok"]:
    """`join(group, pid_or_pids)` or `join(scope, group, pid_or_pids)`: let processes of this node join a group.

    One that joins twice is a member twice, and has to leave twice. A dead one does not join. Returns when it is done.
    Raises TypeError for what is no pid, ValueError for one of another node, `NoProcess` without a scope.
    """
    scope, group, pids = _with_scope("join", args, 3)
    gen.call(scope, ("join", _checked(group), _local(pids)), None)
    return "ok"


@overload
def leave(group: Any, pids: Pids, /) -> Literal["ok", "not_joined"]: ...
@overload
def leave(scope: Scope, group: Any, pids: Pids, /) -> Literal["ok", "not_joined"]: ...
def leave(*args: Any) -> Literal["ok", "not_joined"]:
    """`leave(group, pid_or_pids)` or `leave(scope, group, pid_or_pids)`: let them leave, once each.

    Gives "not_joined" when none of them was a member.
    """
    scope, group, pids = _with_scope("leave", args, 3)
    said: Literal["ok", "not_joined"] = gen.call(scope, ("leave", _checked(group), _local(pids)), None)
    return said


# -- reading -----------------------------------------------------------------------------------------------


@overload
def get_members(group: Any, /) -> list[Pid]: ...
@overload
def get_members(scope: Scope, group: Any, /) -> list[Pid]: ...
def get_members(*args: Any) -> list[Pid]:
    """`get_members(group)` or `get_members(scope, group)`: give the members, as often as each joined.

    Asks no process; never gives one whose death the caller was told of.
    """
    scope, group = _with_scope("get_members", args, 2)
    return _local_members(scope, group)


@overload
def get_local_members(group: Any, /) -> list[Pid]: ...
@overload
def get_local_members(scope: Scope, group: Any, /) -> list[Pid]: ...
def get_local_members(*args: Any) -> list[Pid]:
    """As `get_members`, only those of this node."""
    scope, group = _with_scope("get_local_members", args, 2)
    return _local_members(scope, group)


def which_groups(scope: Scope = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members."""
    return which_local_groups(scope)


def which_local_groups(scope: Scope = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members of this node."""
    table = tables.find(scope, tables.SCOPE)
    return [entries[0].key for entries in _by_group(table).values()]


def _by_group(table: Table) -> dict[Any, list[core.Entry]]:
    found: dict[Any, list[core.Entry]] = {}
    for entry in table.all_living():
        found.setdefault(entry.index, []).append(entry)
    return found


def _local_members(scope: Scope, group: Any) -> list[Pid]:
    return [entry.pid for entry in tables.find(scope, tables.SCOPE).under(group)]


# -- monitoring --------------------------------------------------------------------------------------------


def monitor_scope(scope: Scope = DEFAULT_SCOPE) -> tuple[Ref, dict[Any, list[Pid]]]:
    """Watch all groups: gives a reference, and the members of each group now.

    From then on the caller gets `(ref, "join", group, pids)` and `(ref, "leave", group, pids)`.
    """
    ref, groups = gen.call(scope, ("monitor", None), None)
    return ref, {_hashable(group): pids for group, pids in groups}


@overload
def monitor(group: Any, /) -> tuple[Ref, list[Pid]]: ...
@overload
def monitor(scope: Scope, group: Any, /) -> tuple[Ref, list[Pid]]: ...
def monitor(*args: Any) -> tuple[Ref, list[Pid]]:
    """`monitor(group)` or `monitor(scope, group)`: as `monitor_scope`, for one group; gives its members now."""
    scope, group = _with_scope("monitor", args, 2)
    ref, groups = gen.call(scope, ("monitor", (_checked(group),)), None)
    return ref, [pid for _group, pids in groups for pid in pids]


@overload
def demonitor(ref: Ref, /) -> Literal["ok", False]: ...
@overload
def demonitor(scope: Scope, ref: Ref, /) -> Literal["ok", False]: ...
def demonitor(*args: Any) -> Literal["ok", False]:
    """`demonitor(ref)` or `demonitor(scope, ref)`: stop watching; False when there was no such monitor.

    No event comes after it returns; those that came before may lie in the mailbox.
    """
    scope, ref = _with_scope("demonitor", args, 2)
    said: Literal["ok", False] = gen.call(scope, ("demonitor", ref), None)
    return said


# -- arguments ---------------------------------------------------------------------------------------------


def _with_scope(function: str, args: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """Put the default scope before arguments that lack one."""
    if len(args) == most:
        return args
    if len(args) == most - 1:
        return (DEFAULT_SCOPE, *args)
    msg = f"pg.{function} takes {most - 1} arguments, or {most} with the scope first, and got {len(args)}"
    raise TypeError(msg)


def _checked(group: Any) -> Any:
    core.canonical(group)
    return group


def _hashable(group: Any) -> Any:
    try:
        hash(group)
    except TypeError:
        return core.canonical(group)
    return group


def _local(pids: Any) -> list[Pid]:
    if isinstance(pids, str | bytes) or not isinstance(pids, Iterable | Pid):
        msg = f"members of a group are a pid, or a list of them, not {pids!r}"
        raise TypeError(msg)
    found = [pids] if isinstance(pids, Pid) else list(pids)
    here = current().node
    for pid in found:
        if not isinstance(pid, Pid):
            msg = f"members of a group are pids, not {pid!r}"
            raise TypeError(msg)
        if (pid.node, pid.incarnation) != (here.name, here.incarnation):
            msg = f"{pid!r} is a process of another node: it has to join there"
            raise ValueError(msg)
    return found


# -- the scope ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Who watches: `index` is the group's, None for all of them."""

    pid: Pid
    down: Ref
    index: Any | None


class _Scope(GenServer[Any]):
    """The scope's process: it alone writes the table."""

    _label: ClassVar[str] = "pg"

    def init(self, scope: str, /) -> Any:
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
            adopt=lambda _entries: False,
            blind=False,
        )
        self.partition.refresh()
        self.nothing = context.codec.encode(None)
        self.members: dict[int, Ref] = {}
        self.watchers: dict[Ref, _Watcher] = {}

    def handle_call(self, request: Any, client: Client[Any], state: Any, /) -> Any:
        try:
            return self._handle(request, client, state)
        except OSError as error:
            # no room, or no descriptor: who asked hears of it, and the groups stay
            return Reply.error(error, state)

    def _handle(self, request: Any, client: Client[Any], state: Any) -> Any:
        match request:
            case ("join", group, pids):
                return Reply(self._join(group, pids), state)
            case ("leave", group, pids):
                return Reply(self._leave(group, pids), state)
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
        if isinstance(message, Down):
            if self.members.get(message.pid.id) == message.ref:
                self._died(message.pid)
            else:
                self.watchers = {ref: one for ref, one in self.watchers.items() if one.down != message.ref}
        return NoReply(state)

    # -- what is asked of it

    def _join(self, group: Any, pids: list[Pid]) -> str:
        living = [pid for pid in pids if process.alive(pid)]
        key = current().codec.encode(group, "group")
        for pid in living:
            if pid.id not in self.members:
                self.members[pid.id] = process.monitor(pid)
        self._write(b"".join(core.put(pid.id, key, self.nothing) for pid in living))
        self._tell("join", group, living)
        return "ok"

    def _leave(self, group: Any, pids: list[Pid]) -> str:
        index, key = core.canonical(group), current().codec.encode(group, "group")
        left = {pid.id: len(self.partition.entries.mine(pid.id, index)) for pid in pids}
        leaving = []
        for pid in pids:
            if left[pid.id]:
                left[pid.id] -= 1
                leaving.append(pid)
        if not leaving:
            return "not_joined"
        changed = {pid.id for pid in leaving}
        self._write(b"".join(core.replace(one, key, [self.nothing] * left[one]) for one in changed))
        for process_id in changed:
            if process_id not in self.partition.entries.of:
                process.demonitor(self.members.pop(process_id), flush=True)
        self._tell("leave", group, leaving)
        return "ok"

    def _died(self, pid: Pid) -> None:
        del self.members[pid.id]
        groups = [entry.key for entry in self.partition.entries.of.get(pid.id, ())]
        # on a full disk it stays in the log; nobody is shown it
        with contextlib.suppress(OSError):
            self._write(core.gone(pid.id))
        for group in groups:
            self._tell("leave", group, [pid])

    def _monitor(self, watcher: Pid, what: tuple[Any] | None) -> tuple[Ref, list[tuple[Any, list[Pid]]]]:
        index = None if what is None else core.canonical(what[0])
        ref = current().make_ref()
        self.watchers[ref] = _Watcher(watcher, process.monitor(watcher), index)
        # what it has not heard of yet it will tell: so members that died this moment are given
        known = self.partition.entries.under
        return ref, [
            (entries[0].key, [entry.pid for entry in entries])
            for one, entries in known.items()
            if index is None or one == index
        ]

    # -- effects

    def _write(self, log: bytes) -> None:
        if log:
            with self.partition.writing():
                self.partition.append(log)

    def _tell(self, what: str, group: Any, pids: list[Pid]) -> None:
        """Send an event to who watches. Nobody is waited for: what finds no room waits in the outbox."""
        if not pids or not self.watchers:
            return
        context = current()
        index = core.canonical(group)
        for ref, watcher in self.watchers.items():
            if watcher.index is None or watcher.index == index:
                peer = context.peer(watcher.pid.id)
                if peer is not None:
                    context.post(peer, context.codec.encode([wire.SEND, (ref, what, group, pids)]))
