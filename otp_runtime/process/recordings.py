"""Recordings of what servers received: of what server one is, and those of the dead, set aside for `otp replay`.

A recording lies in the place of its server (`<place>.record`), as long as that lives. When a recorded server died, its
OS parent moves it to `records/` of the node before a successor begins a new one: the last `KEPT_PER_SERVER` of each.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from otp_runtime.core.names import file_name_of, is_name
from otp_runtime.errors import CodecError
from otp_runtime.host import recording_file
from otp_runtime.process import places
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.places import Place

KEPT_PER_SERVER = 3
KEPT = 30
_UNREADABLE = b"\0unreadable\0"


@dataclass(frozen=True, slots=True)
class About:
    """Of what server a recording is. `clock` is one instant on both clocks: since the epoch, and monotonic."""

    server: str
    id: int
    node: str
    incarnation: int
    clock: tuple[float, float]
    path: tuple[str, ...]
    directory: str


def encode_about(codec: Codec, about: About, cls: type, arg: Any) -> bytes:
    """Say what server it is; the class and the argument of `init` apart, for they may need the node's definitions.

    Raises `CodecError` when the class cannot be told of.
    """
    try:
        sealed_arg = codec.encode(arg, "arg")
    except CodecError as error:
        sealed_arg = unreadable(str(error))
    return codec.encode([asdict(about), codec.encode(cls, "class"), sealed_arg])


def decode_about(data: bytes) -> tuple[About, bytes, bytes]:
    """Read what `encode_about` gave: the class and the argument as they were sealed. Raises `CodecError`."""
    said, cls, arg = Codec().decode(data)
    return About(**said), cls, arg


def unreadable(why: str) -> bytes:
    """Give what stands for a term that cannot be encoded."""
    return _UNREADABLE + why.encode(errors="replace")


def why_unreadable(data: bytes) -> str | None:
    """Say why a term is not there; None when it is."""
    return data[len(_UNREADABLE) :].decode(errors="replace") if data.startswith(_UNREADABLE) else None


# -- of the dead -------------------------------------------------------------------------------------------


def set_aside(directory: NodeDirectory, place: Place, server: str, process_id: int, died_at: float) -> None:
    """Keep the recording of a server that has just died, if there is one; the oldest go."""
    found = places.recording_of(place)
    if not os.path.exists(found):
        return
    key = file_name_of(server) if is_name(server) else "unnamed"
    with contextlib.suppress(OSError, CodecError, TypeError, ValueError):
        if decode_about(recording_file.about(found))[0].id != process_id:
            # of one before it, which was told to end: this one died before it began
            return
        os.makedirs(directory.recordings, mode=0o700, exist_ok=True)
        os.rename(found, f"{directory.recordings}/{key}@{int(died_at * 1e9):020}.{process_id}")
        names = sorted(os.listdir(directory.recordings), key=lambda name: name.rpartition("@")[2])
        mine = [name for name in names if name.rpartition("@")[0] == key]
        for name in {*mine[:-KEPT_PER_SERVER], *names[:-KEPT]}:
            os.unlink(f"{directory.recordings}/{name}")


def of_the_dead(directory: NodeDirectory) -> list[tuple[str, About]]:
    """Give the recordings that were set aside, oldest first: where they are, and of what server."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory.recordings), key=lambda name: name.rpartition("@")[2]):
            path = f"{directory.recordings}/{name}"
            with contextlib.suppress(OSError, CodecError, ValueError, TypeError):
                found.append((path, decode_about(recording_file.about(path))[0]))
    return found


def spoilt(directory: NodeDirectory, server: str, process_id: int | None) -> str | None:
    """Give the last recording of a server, or of one process, by the name of the file: what is in it is damaged."""
    key = file_name_of(server) if is_name(server) else None
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory.recordings), reverse=True):
            whose, _, rest = name.rpartition("@")
            if whose == key or rest.rpartition(".")[2] == str(process_id):
                return f"{directory.recordings}/{name}"
    return None


__all__ = [
    "KEPT_PER_SERVER",
    "About",
    "decode_about",
    "encode_about",
    "of_the_dead",
    "set_aside",
    "spoilt",
    "unreadable",
    "why_unreadable",
]
