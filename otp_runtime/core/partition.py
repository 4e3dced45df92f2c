"""Which partition a key belongs to: the same one in every process, program and run.

Python's `hash` is salted anew in each process, so it cannot be asked. An integer counts itself; any other key is
spelled out as bytes, and the bytes are hashed. Sets and dicts are spelled in one order, however they were made.

>>> partition_of(-7, 4), partition_of("user:1", 4) == partition_of("user:1", 4)
(3, True)
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import struct
import uuid
from typing import Any

from otp_runtime.terms.pid import Pid, Ref

__all__ = ["digest_of", "partition_of"]


def partition_of(key: object, partitions: int) -> int:
    """Give the partition of `key`, from 0 on: `abs(key) % partitions` of an int, a stable hash of anything else.

    Elixir: `rem(abs(key), partitions)` or `phash2(key, partitions)`. Raises `TypeError` for what is no data.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        return abs(key) % partitions
    return int.from_bytes(_digest(key), "big") % partitions


def digest_of(key: object) -> str:
    """Give a short name for a term, as stable as its partition."""
    return _digest(key).hex()


def _digest(key: object) -> bytes:
    return hashlib.blake2b(_spell(key), digest_size=8).digest()


def _spell(term: Any) -> bytes:
    """Write a term down; two of the same classes that are written alike are equal, and are no other's spelling."""
    match term:
        case str() if type(term) is str:  # what most keys are
            return _join("str", term.encode(errors="surrogatepass"))
        case enum.Enum():
            return _join("enum", _spell(type(term)), _spell(term.name))
        case None | bool():
            return repr(term).encode()
        case int() | decimal.Decimal() | uuid.UUID() | dt.date() | dt.time() | dt.timedelta():
            return _join(_kind(term), str(term).encode())
        case float():
            return _join("float", struct.pack(">d", term + 0.0))
        case str():
            return _join("str", term.encode(errors="surrogatepass"))
        case bytes() | bytearray() | memoryview():
            return _join("bytes", bytes(term))
        case tuple():
            return _join("tuple", *map(_spell, term))
        case list():
            return _join("list", *map(_spell, term))
        case set() | frozenset():
            return _join("set", *sorted(map(_spell, term)))
        case dict():
            return _join("dict", *sorted(_join("", _spell(key), _spell(value)) for key, value in term.items()))
        case Pid():
            return _join("pid", _spell((term.node, term.id, term.incarnation)))
        case Ref():
            return _join("ref", _spell((term.node, term.incarnation, term.id, term.serial)))
        case type():
            return _join("class", f"{term.__module__}.{term.__qualname__}".encode())
        case _ if dataclasses.is_dataclass(term):
            values = (getattr(term, one.name) for one in dataclasses.fields(term))
            return _join("dataclass", _spell(type(term)), *map(_spell, values))
        case _:
            message = f"a partition key is data (numbers, text, tuples, dataclasses …), not {type(term).__name__}: "
            raise TypeError(f"{message}{term!r:.100}")


def _kind(term: object) -> str:
    return "int" if isinstance(term, int) else type(term).__name__


def _join(kind: str, *parts: bytes) -> bytes:
    """Put parts together so that no other parts look the same together."""
    return kind.encode() + b"".join(len(part).to_bytes(4, "big") + part for part in (b"", *parts))
