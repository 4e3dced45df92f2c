"""Which nodes are there, and whether this one still may say that it is.

A node takes part in the cluster by holding a *lease*: a record that vanishes unless it is renewed in time. Each time a
node joins it gets an *epoch*, a number greater than all before it. What a node does belongs to the epoch in which it
did it: when the connection is lost, the epoch is over, and the node joins anew with the next one.

    joining ──Joined──► member ──Disconnected──► alone ──Joined──► member        all others are lost at once
                          │                        │
                          └── not renewed in time ─┴──► Fence                    a name it held may be another's now

The lease is counted from when the last renewal that succeeded was *sent*, by this node's clock, and the fence comes
`MARGIN` of it earlier: whoever sees the record gone can be sure that this node has given up its names.

`step(state, event, now)` gives the next state and what is to be done. A record that is seen again after its node
could not be reached means that only the way was cut: both sides then break with the other (`Reconcile`) and meet anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, assert_never

__all__ = [
    "MARGIN",
    "Action",
    "Broken",
    "Disconnected",
    "Event",
    "Fence",
    "Gone",
    "Joined",
    "Lost",
    "Member",
    "Reconcile",
    "Refused",
    "Renewed",
    "Seen",
    "State",
    "Tick",
    "Unreachable",
    "Up",
    "fence_due",
    "renew_due",
    "step",
]

MARGIN: Final = 0.1
"""The part of a lease by which a node gives up before others may take over."""

RENEWALS: Final = 3
"""How often a lease is renewed in its time."""


@dataclass(frozen=True, slots=True)
class Member:
    """Another node: its epoch, the incarnation of its pids, whether it could be reached when last tried."""

    epoch: int
    incarnation: int
    is_reachable: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """What node `me` knows. `epoch` is None while it takes no part; `renewed_at` None when it holds nothing."""

    me: str
    lease: float
    epoch: int | None = None
    renewed_at: float | None = None
    members: dict[str, Member] = field(default_factory=dict)
    floor: dict[str, int] = field(default_factory=dict)
    """The greatest epoch of each node that is over: nothing of it, or of an earlier one, counts any more."""


# -- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Joined:
    """This node holds the record of `epoch`; it asked for it at `sent_at`."""

    epoch: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease was renewed by what was sent at `sent_at`."""

    sent_at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A renewal was refused: the record is somebody else's, or gone."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The record of a node was written, or renewed."""

    node: str
    epoch: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The record of a node vanished: it left, or did not renew."""

    node: str
    reason: Any = "noconnection"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody listens for that epoch of a node."""

    node: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A node of that epoch says that it had given this one up."""

    node: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = Joined | Renewed | Refused | Disconnected | Seen | Gone | Unreachable | Broken | Tick


# -- actions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Up:
    """Tell that a node is there."""

    node: str
    member: Member


@dataclass(frozen=True, slots=True)
class Lost:
    """Tell that a node's epoch is over: every monitor and link to it breaks, every call fails."""

    node: str
    epoch: int
    reason: Any


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Tell a node that it had been given up, so that it breaks too."""

    node: str
    member: Member


@dataclass(frozen=True, slots=True)
class Fence:
    """Stop what has a name in the cluster, and join anew: the names may be others' now."""


Action: TypeAlias = Up | Lost | Reconcile | Fence


def renew_due(state: State) -> float | None:
    """Give the time at which the lease is to be renewed next; None when there is none."""
    if state.epoch is None or state.renewed_at is None:
        return None
    return state.renewed_at + state.lease / RENEWALS


def fence_due(state: State) -> float | None:
    """Give the time at which this node must give up unless it renews before; None when it holds nothing."""
    return None if state.renewed_at is None else state.renewed_at + state.lease * (1 - MARGIN)


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Give the next state, and what is to be done, in order.

    >>> state = State("a@host", 5.0)
    >>> state, _ = step(state, Joined(7, 0.0), 0.0)
    >>> state, actions = step(state, Seen("b@host", 8, 1), 0.1)
    >>> actions
    (Up(node='b@host', member=Member(epoch=8, incarnation=1, is_reachable=True)),)
    >>> step(state, Gone("b@host"), 9.0)[1]
    (Lost(node='b@host', epoch=8, reason='noconnection'),)
    """
    match event:
        case Joined(epoch, sent_at):
            left, actions = _all_lost(state, "noconnection")
            return replace(left, epoch=epoch, renewed_at=sent_at), actions
        case Renewed(sent_at):
            if state.epoch is None:
                return state, ()
            return replace(state, renewed_at=max(sent_at, state.renewed_at or sent_at)), ()
        case Refused():
            return _give_up(state)
        case Disconnected():
            left, actions = _all_lost(state, "noconnection")
            return replace(left, epoch=None), actions
        case Seen(node, epoch, incarnation):
            return _seen(state, node, Member(epoch, incarnation))
        case Gone(node, reason):
            known = state.members.get(node)
            return (state, ()) if known is None else _lose(state, node, known, reason)
        case Unreachable(node, epoch):
            known = state.members.get(node)
            if known is None or known.epoch != epoch or not known.is_reachable:
                return state, ()
            cut = replace(state, members={**state.members, node: replace(known, is_reachable=False)})
            return cut, (Lost(node, epoch, "noconnection"),)
        case Broken(node, epoch):
            known = state.members.get(node)
            if known is None or known.epoch != epoch or not known.is_reachable:
                return state, ()
            return state, (Lost(node, epoch, "noconnection"), Up(node, known))
        case Tick():
            due = fence_due(state)
            return (state, ()) if due is None or now < due else _give_up(state)
        case _:
            assert_never(event)


def _seen(state: State, node: str, member: Member) -> tuple[State, tuple[Action, ...]]:
    known = state.members.get(node)
    if node == state.me or state.epoch is None or member.epoch <= state.floor.get(node, 0):
        return state, ()
    if known is None:
        return _add(state, node, member), (Up(node, member),)
    if member.epoch < known.epoch:
        return state, ()
    if member.epoch == known.epoch:
        if known.is_reachable:
            return state, ()
        return _add(state, node, member), (Reconcile(node, member), Up(node, member))
    without, actions = _lose(state, node, known, "noconnection")
    return _add(without, node, member), (*actions, Up(node, member))


def _add(state: State, node: str, member: Member) -> State:
    return replace(state, members={**state.members, node: member})


def _lose(state: State, node: str, known: Member, reason: Any) -> tuple[State, tuple[Action, ...]]:
    members = {name: member for name, member in state.members.items() if name != node}
    left = replace(state, members=members, floor={**state.floor, node: known.epoch})
    return left, (Lost(node, known.epoch, reason),) if known.is_reachable else ()


def _all_lost(state: State, reason: Any) -> tuple[State, tuple[Action, ...]]:
    """Lose every node. Their epochs may go on: this node's is over, and with the next one they are met anew."""
    actions = tuple(Lost(node, member.epoch, reason) for node, member in state.members.items() if member.is_reachable)
    return replace(state, members={}, floor={}), actions


def _give_up(state: State) -> tuple[State, tuple[Action, ...]]:
    left, actions = _all_lost(state, "noconnection")
    return replace(left, epoch=None, renewed_at=None), (*actions, Fence())
