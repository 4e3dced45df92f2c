"""What the processes of a node know of the cluster: a file of the node's directory that only the gateway writes.

Read when a process first reaches another one elsewhere, and for `Node.list`; never with every message. It is replaced
as a whole. Nobody concludes from it that a node is lost: the gateway tells those who have to know.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgpack

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory


class Held(NamedTuple):
    """A global name of a process of this node: the process, the revision of its record, and that record's table."""

    id: int
    revision: int
    base: int
    """When the table was made: see `session.Session.base`."""

    @property
    def token(self) -> int:
        """The fencing token."""
        return self.base + self.revision


@dataclass(frozen=True, slots=True)
class Standing:
    """The id of the gateway, its `epoch` (0: takes no part now), the nodes that are there with epoch and incarnation.

    `followers` are the processes that want to hear of nodes; `held` the global names of this node's processes;
    `renewed_at` when the lease was last renewed, on `session.lease_clock`: whoever is the gateway gives the names up
    when it has run out, also one that was started anew and never got through to the engine.
    """

    gateway: int
    cluster: str
    epoch: int = 0
    max_bytes: int = 0
    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)
    followers: tuple[int, ...] = ()
    held: dict[str, Held] = field(default_factory=dict)
    renewed_at: float | None = None


def read(directory: NodeDirectory) -> Standing | None:
    """Read the file; None when the node has joined no cluster."""
    try:
        with open(directory.cluster, "rb") as file:
            said = msgpack.unpackb(file.read())
    except (OSError, ValueError):
        return None
    said["nodes"] = {node: tuple(place) for node, place in said["nodes"].items()}
    said["held"] = {name: Held(*held) for name, held in said["held"].items()}
    said["followers"] = tuple(said["followers"])
    return Standing(**said)


def write(directory: NodeDirectory, standing: Standing) -> None:
    """Replace the file."""
    draft = f"{directory.cluster}~"
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgpack.packb(asdict(standing)))
    os.rename(draft, directory.cluster)
