"""The wire form of values that msgpack does not have: tuples, sets, pids, dates and so on.

On the wire such a value is a list whose first item is a *mark*, a msgpack extension of code 79
with one letter as its data, followed by the value's parts: `("inc", 2)` is `[mark t, "inc", 2]`.
So a value with parts is packed in the same pass and into the same buffer as the list around it.

The road not taken is an extension whose data is a msgpack document of its own. It needs a packer
and an unpacker per level (1.8 us for the round trip of a tuple instead of 1.2), and a C stack as
deep as the term: an unpacker holds 40 KB of it, so 200 nested tuples would overflow.

Only code 79 is ours: a program that puts `msgpack.ExtType(79, one_byte)` into a term is on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgpack import ExtType

from otp_runtime.terms.pid import Pid, Ref

__all__ = ["BUILDERS", "CODE", "EXPANDERS", "LATE_EXPANDERS", "Builder", "Expander"]

Expander: TypeAlias = Callable[[Any], list[Any]]
"""Turns a value into its marked list."""

Builder: TypeAlias = Callable[[list[Any]], Any]
"""Turns a marked list, mark included, back into the value. May raise anything on bad parts."""

CODE = 79

TUPLE = ExtType(CODE, b"t")
SET = ExtType(CODE, b"s")
FROZENSET = ExtType(CODE, b"f")
INT = ExtType(CODE, b"i")
BYTEARRAY = ExtType(CODE, b"b")
COMPLEX = ExtType(CODE, b"c")
RANGE = ExtType(CODE, b"r")
SLICE = ExtType(CODE, b"l")
ELLIPSIS = ExtType(CODE, b"e")
NOT_IMPLEMENTED = ExtType(CODE, b"n")
PID = ExtType(CODE, b"p")
REF = ExtType(CODE, b"R")
DATETIME = ExtType(CODE, b"D")
DATE = ExtType(CODE, b"d")
TIME = ExtType(CODE, b"T")
TIMEDELTA = ExtType(CODE, b"m")
TIMEZONE = ExtType(CODE, b"z")
ZONE_INFO = ExtType(CODE, b"Z")
DECIMAL = ExtType(CODE, b"N")
UUID = ExtType(CODE, b"u")
FRACTION = ExtType(CODE, b"q")
APART = ExtType(CODE, b"a")
"""A buffer that lies beside the term: see `parcel`."""


# -- taking apart -------------------------------------------------------------------------------


def _expand_int(value: int) -> list[Any]:
    # Only what does not fit into 64 bits comes here.
    size = value.bit_length() // 8 + 1
    return [INT, value.to_bytes(size, "little", signed=True)]


def _expand_datetime(value: Any) -> list[Any]:
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    return [DATETIME, *parts, value.microsecond, value.fold, value.tzinfo]


def _expand_time(value: Any) -> list[Any]:
    parts = (value.hour, value.minute, value.second, value.microsecond)
    return [TIME, *parts, value.fold, value.tzinfo]


def _expand_zone_info(value: Any) -> list[Any]:
    if value.key is None:
        message = "a ZoneInfo made from a file has no key to find it by"
        raise ValueError(message)
    return [ZONE_INFO, value.key]


EXPANDERS: dict[type, Expander] = {
    tuple: lambda value: [TUPLE, *value],
    set: lambda value: [SET, *value],
    frozenset: lambda value: [FROZENSET, *value],
    int: _expand_int,
    bytearray: lambda value: [BYTEARRAY, bytes(value)],
    complex: lambda value: [COMPLEX, value.real, value.imag],
    range: lambda value: [RANGE, value.start, value.stop, value.step],
    slice: lambda value: [SLICE, value.start, value.stop, value.step],
    type(...): lambda _: [ELLIPSIS],
    type(NotImplemented): lambda _: [NOT_IMPLEMENTED],
    Pid: lambda pid: [PID, pid.node, pid.id, pid.incarnation],
    Ref: lambda ref: [REF, ref.node, ref.incarnation, ref.id, ref.serial],
}

# By name, because a process that never uses `decimal` should not have to import it.
LATE_EXPANDERS: dict[str, Expander] = {
    "datetime:datetime": _expand_datetime,
    "datetime:date": lambda value: [DATE, value.year, value.month, value.day],
    "datetime:time": _expand_time,
    "datetime:timedelta": lambda value: [TIMEDELTA, value.days, value.seconds, value.microseconds],
    "datetime:timezone": lambda value: [TIMEZONE, *value.__getinitargs__()],
    "zoneinfo:ZoneInfo": _expand_zone_info,
    "decimal:Decimal": lambda value: [DECIMAL, str(value)],
    "uuid:UUID": lambda value: [UUID, value.bytes, value.is_safe.value],
    "fractions:Fraction": lambda value: [FRACTION, value.numerator, value.denominator],
}


# -- putting together ---------------------------------------------------------------------------


# The types are checked so that a pid from bytes that lie does not fail later, where it is hashed.


def _build_pid(items: list[Any]) -> Pid:
    _, node, number, incarnation = items
    if type(node) is str and type(number) is type(incarnation) is int:
        return Pid(node, number, incarnation)
    message = f"not a pid: {items[1:]!r}"
    raise TypeError(message)


def _build_ref(items: list[Any]) -> Ref:
    _, node, incarnation, number, serial = items
    if type(node) is str and type(incarnation) is type(number) is type(serial) is int:
        return Ref(node, incarnation, number, serial)
    message = f"not a reference: {items[1:]!r}"
    raise TypeError(message)


def _build_datetime(items: list[Any]) -> Any:
    from datetime import datetime

    year, month, day, hour, minute, second, micro, fold, zone = items[1:]
    return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _build_date(items: list[Any]) -> Any:
    from datetime import date

    return date(*items[1:])


def _build_time(items: list[Any]) -> Any:
    from datetime import time

    hour, minute, second, micro, fold, zone = items[1:]
    return time(hour, minute, second, micro, zone, fold=fold)


def _build_timedelta(items: list[Any]) -> Any:
    from datetime import timedelta

    return timedelta(*items[1:])


def _build_timezone(items: list[Any]) -> Any:
    from datetime import UTC, timedelta, timezone

    name = items[2:]
    if not name and items[1] == timedelta(0):
        return UTC  # the one object that `is` utc, as it was in the sender
    return timezone(items[1], *name)


def _build_zone_info(items: list[Any]) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(items[1])


def _build_decimal(items: list[Any]) -> Any:
    from decimal import Decimal

    return Decimal(items[1])


def _build_uuid(items: list[Any]) -> Any:
    import uuid

    return uuid.UUID(bytes=items[1], is_safe=uuid.SafeUUID(items[2]))


def _build_fraction(items: list[Any]) -> Any:
    from fractions import Fraction

    return Fraction(items[1], items[2])


BUILDERS: dict[bytes, Builder] = {
    TUPLE.data: lambda items: tuple(items[1:]),
    SET.data: lambda items: set(items[1:]),
    FROZENSET.data: lambda items: frozenset(items[1:]),
    INT.data: lambda items: int.from_bytes(items[1], "little", signed=True),
    BYTEARRAY.data: lambda items: bytearray(memoryview(items[1])),
    COMPLEX.data: lambda items: complex(items[1], items[2]),
    RANGE.data: lambda items: range(*items[1:]),
    SLICE.data: lambda items: slice(*items[1:]),
    ELLIPSIS.data: lambda _: ...,
    NOT_IMPLEMENTED.data: lambda _: NotImplemented,
    PID.data: _build_pid,
    REF.data: _build_ref,
    DATETIME.data: _build_datetime,
    DATE.data: _build_date,
    TIME.data: _build_time,
    TIMEDELTA.data: _build_timedelta,
    TIMEZONE.data: _build_timezone,
    ZONE_INFO.data: _build_zone_info,
    DECIMAL.data: _build_decimal,
    UUID.data: _build_uuid,
    FRACTION.data: _build_fraction,
}
