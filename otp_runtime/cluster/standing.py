"""What the processes of a node know of the cluster: a file of the node's directory that only the gateway writes.

Read when a process first reaches another one elsewhere, and for `Node.list`; never with every message. It is replaced
as a whole. Nobody concludes from it that a node is lost: the gateway tells those who have to know.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import msgpack

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory


@dataclass(frozen=True, slots=True)
class Standing:
    """The id of the gateway, its `epoch` (0: takes no part now), the nodes that are there with epoch and incarnation.

    `followers` are the processes that want to hear of nodes; `held` the global names of this node's processes, each
    with its process and revision.
    """

    gateway: int
    cluster: str
    epoch: int = 0
    max_bytes: int = 0
    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)
    followers: tuple[int, ...] = ()
    held: dict[str, tuple[int, int]] = field(default_factory=dict)


def read(directory: NodeDirectory) -> Standing | None:
    """Read the file; None when the node has joined no cluster."""
    try:
        with open(directory.cluster, "rb") as file:
            said = msgpack.unpackb(file.read())
    except (OSError, ValueError):
        return None
    said["nodes"] = {node: tuple(place) for node, place in said["nodes"].items()}
    said["held"] = {name: tuple(place) for name, place in said["held"].items()}
    said["followers"] = tuple(said["followers"])
    return Standing(**said)


def write(directory: NodeDirectory, standing: Standing) -> None:
    """Replace the file."""
    draft = f"{directory.cluster}~"
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgpack.packb(asdict(standing)))
    os.rename(draft, directory.cluster)
