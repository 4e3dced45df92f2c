"""What nodes say to each other: frames. docs/guide/cluster-protocol.md is this page for those who write another side.

A frame is one msgpack array of eight, published on the subject of the receiving node's epoch:

    version, op, node, incarnation, epoch, to, by, body

`node`, `incarnation`, `epoch`: who sends. `to` and `by` are an id, or a local name, or nil; `body` is bytes.

    MESSAGE   to: whom          by: nil         body: an envelope (`core.messages`), its ids those of the sender's node
    URGENT    as MESSAGE, in front of what waits there: what travels on a control lane inside a node
    WATCH     to: whom          by: the watcher's id            one DOWN is owed, once
    UNWATCH   to: whom          by: the watcher's id
    DOWN      to: the watcher   by: whom it watched, as it said  body: the exit reason, encoded
    BROKEN    "I had given you up: break with me, as I did with you"
"""

from __future__ import annotations

import contextlib
import functools
import re
import struct
from typing import Any, Final

import msgpack

from otp_runtime.core.names import is_name
from otp_runtime.errors import CodecError
from otp_runtime.terms.codec import Codec

VERSION: Final = 1
MESSAGE, URGENT, WATCH, UNWATCH, DOWN, BROKEN = range(6)
FIELDS: Final = 8
ID_MAX: Final = 2**63 - 1
ITSELF: Final = 0
"""The id that means the other node's gateway: see `cluster.services`."""

REASON_BYTES: Final = 256 * 1024
"""A longer exit reason travels as its text, cut: it is told to every watcher, and no engine takes a longer message."""

NAME_BYTES: Final = 200
"""A global name, encoded, is no longer."""

KEY: Final = re.compile(rf"(?:[0-9a-f]{{2}}){{1,{NAME_BYTES}}}")
"""A global name as a key of the table: encoded, in hexadecimal digits."""

DATA = Codec(None, imports=False)
"""What terms from and to other nodes go through: data only, nothing unpickled, nothing imported."""

pack = msgpack.packb
_is_name = functools.lru_cache(maxsize=1024)(is_name)

MARK: Final = b"\xd4O"
SUSPECT: Final = (b"\xd4OP", b"\xd4Ok", b"\xd4OK")
"""How what is not data begins on the wire: pickles, references to classes that are laid down, classes."""


def bin_of(data: bytes) -> bytes:
    """Give the head of `data` as a msgpack bin; the data follow."""
    size = len(data)
    if size < 256:
        return bytes((0xC4, size))
    return struct.pack(">BH", 0xC5, size) if size < 65536 else struct.pack(">BI", 0xC6, size)


def head_of(op: int, node: str, incarnation: int, epoch: int, to: Any, by: Any = None) -> bytes:
    """Give all of a frame before its body."""
    return b"".join((b"\x98", *map(pack, (VERSION, op, node, incarnation, epoch, to, by))))


def frame_of(head: bytes, body: bytes = b"") -> bytes:
    """Give a frame."""
    return head + bin_of(body) + body


def parse(data: bytes) -> list[Any] | None:
    """Give the fields of a frame; None for what is none, or of another version."""
    try:
        # a length that is not there would be room for so many items, and so at each depth
        fields = msgpack.unpackb(data, use_list=True, max_array_len=FIELDS, max_map_len=0, max_ext_len=0)
    except Exception:  # noqa: BLE001 - whatever a stranger published
        return None
    if type(fields) is not list or len(fields) != FIELDS or fields[0] != VERSION:
        return None
    _version, op, node, incarnation, epoch, to, by, body = fields
    is_sound = (
        type(op) is type(incarnation) is type(epoch) is int
        and 0 <= op <= BROKEN
        and type(node) is str
        and type(body) is bytes
        and (to is None or _is_key(to))
        and (by is None or _is_key(by))
    )
    return fields if is_sound else None


def _is_key(value: Any) -> bool:
    return (type(value) is int and 0 <= value <= ID_MAX) or (type(value) is str and _is_name(value))


def read_cluster(value: bytes | None) -> tuple[int, str, int] | None:
    """Read the record of the cluster, of whatever version: version, name, when it was made; None for what is none."""
    match _unpacked(value):
        case [int() as version, str() as cluster, int() as made_at, *_later]:
            return version, cluster, made_at
    return None


def read_record(value: bytes | None) -> tuple[str, int, int] | None:
    """Read a node's record of this version of the protocol: name, incarnation, epoch; None for what is none."""
    match _unpacked(value):
        case [int() as version, str() as node, int() as incarnation, int() as epoch] if version == VERSION:
            return node, incarnation, epoch
    return None


def read_owner(value: bytes | None) -> tuple[str, int, int, str] | None:
    """Read the record of a global name: node, incarnation, process id, how it was claimed; None for what is none."""
    match _unpacked(value):
        case [str() as node, int() as incarnation, int() as process_id, str() as how] if 0 < process_id <= ID_MAX:
            return node, incarnation, process_id, how
    return None


def _unpacked(value: bytes | None) -> Any:
    with contextlib.suppress(Exception):
        return msgpack.unpackb(value or b"")
    return None


def encode_reason(reason: Any) -> bytes:
    """Encode an exit reason for another node; one that may not leave this one, or is too long, travels as its text."""
    with contextlib.suppress(CodecError):
        data = DATA.encode(reason, "reason")
        if len(data) <= REASON_BYTES:
            return data
    return DATA.encode(_as_text(reason))


def _as_text(reason: Any) -> Any:
    if type(reason) is tuple:
        return tuple(part[:1000] if isinstance(part, str) else repr(part)[:1000] for part in reason[:10])
    return repr(reason)[:1000]


def decode_reason(data: bytes) -> Any:
    """Read what `encode_reason` gave, with the classes this process has."""
    try:
        return DATA.decode(data)
    except CodecError as error:
        return ("undecodable", str(error))


def name_token(name: str) -> str:
    """Give a name as a part of a subject and of a key: `@` and `.` mean something there."""
    return name.encode().hex()


def name_of(token: str) -> str | None:
    """Undo `name_token`; None for what is none."""
    with contextlib.suppress(ValueError):
        return bytes.fromhex(token).decode()
    return None


def node_subject(cluster: str, node: str, epoch: int) -> str:
    """Give the subject of one epoch of a node: whoever sends to an earlier one finds nobody."""
    return f"otp.{cluster}.n.{name_token(node)}.{epoch}"
