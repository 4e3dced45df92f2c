"""What the runtime itself puts into a mailbox: death and nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otp_runtime.terms.pid import Pid, Ref

__all__ = ["Down", "Exit", "NodeDown", "NodeUp", "PresenceDiff"]


@dataclass(frozen=True, slots=True)
class Down:
    """The monitored process ended with `reason`; `ref` is what `monitor` returned.

    `pid` is what was monitored: the process, or the server reference when there was none.
    """

    ref: Ref
    pid: Pid | Any
    reason: Any


@dataclass(frozen=True, slots=True)
class Exit:
    """The linked process `pid` ended with `reason`; only a process that traps exits sees it."""

    pid: Pid
    reason: Any


@dataclass(frozen=True, slots=True)
class NodeUp:
    """The node (`"name@host"`) joined the cluster."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeDown:
    """The node (`"name@host"`) left the cluster, or cannot be reached, for `reason`."""

    node: str
    reason: Any


@dataclass(frozen=True, slots=True)
class PresenceDiff:
    """Who came to a topic and who left it: by key, the data of each. An update is both."""

    topic: str
    joins: dict[str, list[Any]]
    leaves: dict[str, list[Any]]
