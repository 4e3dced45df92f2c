"""pg: process groups. Processes join groups, as often as they like, and leave them, at the latest when they die.

Groups live in a *scope*, a process of that name; `"pg"` unless one is given, as the first argument. It is the one
that joins and removes, and tells monitors. Reading asks nobody: members lie in a table in the node's directory.

    >>> from otp_runtime import pg, process
    >>> with pg.start_link():
    ...     pg.join("workers", process.self())
    ...     pg.get_members("workers") == [process.self()]
    'ok'
    True

In a cluster scopes of one name, one on each node, know each other's members: `get_members` gives those of all nodes
that can be reached, `get_local_members` those of this one. They are not the same everywhere at every moment: a join is
seen elsewhere when its message arrives, and a node that cannot be reached is gone with its members until it is met
again.
A scope that dies takes its groups along; a restarted one begins empty of its own, as in OTP, and asks the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from otp_runtime.behaviours import gen
from otp_runtime.core import registry as core
from otp_runtime.core.names import check_name
from otp_runtime.process.current import current
from otp_runtime.registry import table as tables
from otp_runtime.registry.scope import NOTHING, Scope, check_group, is_local, pid_of
from otp_runtime.terms.pid import Pid, Ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import ChildSpec

    MaybeNone: TypeAlias = Any
    Pids: TypeAlias = Pid | Iterable[Pid]
    ScopeRef: TypeAlias = str | Pid

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
    return Scope.start_link(check_name(scope), name=scope)


def start(scope: str = DEFAULT_SCOPE) -> Pid | MaybeNone:
    """As `start_link`, linked to nobody. OTP: pg:start/1."""
    return Scope.start(check_name(scope), name=scope)


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
    return Scope.child_spec(
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
def join(scope: ScopeRef, group: Any, pids: Pids, /) -> Literal["ok"]: ...
def join(*args: Any) -> Literal["ok"]:
    """`join(group, pid_or_pids)` or `join(scope, group, pid_or_pids)`: let processes of this node join a group.

    One that joins twice is a member twice, and has to leave twice. A dead one does not join. Returns when it is done on
    this node. Raises TypeError for what is no pid, ValueError for one of another node, `NoProcess` without a scope; in
    a cluster `CodecError` for a group whose name is no data that other nodes can read.
    """
    scope, group, pids = _with_scope("join", args, 3)
    gen.call(scope, ("join", _checked(group), _local(pids), NOTHING), None)
    return "ok"


@overload
def leave(group: Any, pids: Pids, /) -> Literal["ok", "not_joined"]: ...
@overload
def leave(scope: ScopeRef, group: Any, pids: Pids, /) -> Literal["ok", "not_joined"]: ...
def leave(*args: Any) -> Literal["ok", "not_joined"]:
    """`leave(group, pid_or_pids)` or `leave(scope, group, pid_or_pids)`: let them leave, once each.

    Gives "not_joined" when none of them was a member.
    """
    scope, group, pids = _with_scope("leave", args, 3)
    said: Literal["ok", "not_joined"] = gen.call(scope, ("leave", _checked(group), _local(pids), NOTHING), None)
    return said


# -- reading -----------------------------------------------------------------------------------------------


@overload
def get_members(group: Any, /) -> list[Pid]: ...
@overload
def get_members(scope: ScopeRef, group: Any, /) -> list[Pid]: ...
def get_members(*args: Any) -> list[Pid]:
    """`get_members(group)` or `get_members(scope, group)`: give the members on all nodes, as often as each joined.

    Asks no process; never gives a process of this node whose death the caller was told of.
    """
    scope, group = _with_scope("get_members", args, 2)
    return [pid_of(entry) for entry in tables.find(scope, tables.SCOPE).under(group)]


@overload
def get_local_members(group: Any, /) -> list[Pid]: ...
@overload
def get_local_members(scope: ScopeRef, group: Any, /) -> list[Pid]: ...
def get_local_members(*args: Any) -> list[Pid]:
    """As `get_members`, only those of this node."""
    scope, group = _with_scope("get_local_members", args, 2)
    return [entry.pid for entry in tables.find(scope, tables.SCOPE).under(group) if is_local(entry)]


def which_groups(scope: ScopeRef = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members, on whatever node."""
    return _groups(scope, lambda _entry: True)


def which_local_groups(scope: ScopeRef = DEFAULT_SCOPE) -> list[Any]:
    """Give the groups that have members of this node."""
    return _groups(scope, is_local)


def _groups(scope: ScopeRef, counts: Callable[[core.Entry], bool]) -> list[Any]:
    found: dict[Any, core.Entry] = {}
    for entry in tables.find(scope, tables.SCOPE).all_living():
        if entry.index not in found and counts(entry):
            found[entry.index] = entry
    return [entry.key for entry in found.values()]


# -- monitoring --------------------------------------------------------------------------------------------


def monitor_scope(scope: ScopeRef = DEFAULT_SCOPE) -> tuple[Ref, dict[Any, list[Pid]]]:
    """Watch all groups: gives a reference, and the members of each group now.

    From then on the caller gets `(ref, "join", group, pids)` and `(ref, "leave", group, pids)`, of all nodes.
    """
    ref, groups = gen.call(scope, ("monitor", None), None)
    return ref, {_hashable(group): pids for group, pids in groups}


@overload
def monitor(group: Any, /) -> tuple[Ref, list[Pid]]: ...
@overload
def monitor(scope: ScopeRef, group: Any, /) -> tuple[Ref, list[Pid]]: ...
def monitor(*args: Any) -> tuple[Ref, list[Pid]]:
    """`monitor(group)` or `monitor(scope, group)`: as `monitor_scope`, for one group; gives its members now."""
    scope, group = _with_scope("monitor", args, 2)
    ref, groups = gen.call(scope, ("monitor", (_checked(group),)), None)
    return ref, [pid for _group, pids in groups for pid in pids]


@overload
def demonitor(ref: Ref, /) -> Literal["ok", False]: ...
@overload
def demonitor(scope: ScopeRef, ref: Ref, /) -> Literal["ok", False]: ...
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
    check_group(group)
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
