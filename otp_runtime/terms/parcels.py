"""The codec of what is sent inside one node: large buffers are not copied into the term, they lie beside it.

What makes a term a parcel: bytes and bytearrays of `APART_FROM` bytes or more, wherever they are in it, and the buffers
of that size that objects put aside when they are pickled, as numpy arrays do. All else is encoded as by any codec.

msgpack asks nobody about bytes, and to look through each term before it is packed would cost every small message. So
bytes are looked for only for a while after something large was sent: the first of them is copied.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from otp_runtime.terms.codec import Codec
from otp_runtime.terms.extensions import APART, BYTEARRAY
from otp_runtime.terms.instances import SHIPPED, SHIPPED_APART, Instances, Shipper
from otp_runtime.terms.offender import is_refused, parts_of
from otp_runtime.terms.parcel import APART_FROM, Buffer, Parcel

__all__ = ["ParcelCodec"]

_LARGE: Final = 256 * 1024
"""A term of so many bytes in one piece: some of the next ones are looked through."""
_LOOKS: Final = 32
_LOOKED_AT: Final = 100
_TYPES_MAX: Final = 64
_PASSED_BY: Final = frozenset({type(None), bool, int, float, str, complex, range})


class ParcelCodec(Codec):
    """As `Codec`, but `encode` may give a `Parcel`: for what is sent at once, and by no means kept.

    Reading a sender's buffers is left to whoever writes the parcel somewhere, or makes one piece of it.
    """

    __slots__ = ("_large_types", "_shipper")

    def __init__(self, shipper: Shipper) -> None:
        """`shipper` puts the large buffers of what it pickles aside."""
        self._large_types: set[type] = set()
        """Types of objects that had large buffers: while terms are looked through, these need not be tried."""
        super().__init__(_Refusing(shipper, self._large_types))
        self._shipper = shipper

    def _note_large(self, size: int) -> None:
        if size >= _LARGE:
            self._looks = _LOOKS

    def _holds_large(self, term: Any) -> bool:
        found = _holds_large(term, self._large_types)
        self._looks = _LOOKS if found else max(0, self._looks - 1)  # another thread may have been faster
        return found

    def _encode_slowly(self, term: Any, what: str) -> bytes:
        aside = _Aside(self._shipper)
        head = _Packing(aside).pack(term, what)
        if not aside.buffers:
            return head
        self._looks = _LOOKS
        return Parcel.of(head, aside.buffers)


class _LargeError(Exception):
    """An object has large buffers: the fast way ends here."""


class _Refusing:
    """A shipper that ships no object with large buffers."""

    def __init__(self, shipper: Shipper, large_types: set[type]) -> None:
        self.class_ref = shipper.class_ref
        self.load_class = shipper.load_class
        self.load = shipper.load
        self._dump = shipper.dump
        self._large_types = large_types

    def dump(self, value: Any, apart: list[Buffer] | None = None) -> bytes:
        large: list[Buffer] = [] if apart is None else apart
        data = self._dump(value, large)
        if large:
            if len(self._large_types) >= _TYPES_MAX:
                self._large_types.clear()
            self._large_types.add(type(value))
            raise _LargeError
        return data


class _Aside:
    """A shipper that puts all large buffers of one term aside, in their order."""

    def __init__(self, shipper: Shipper) -> None:
        self.class_ref = shipper.class_ref
        self.load_class = shipper.load_class
        self.load = shipper.load
        self._dump = shipper.dump
        self.buffers: list[Buffer] = []

    def dump(self, value: Any, apart: list[Buffer] | None = None) -> bytes:
        return self._dump(value, self.buffers if apart is None else apart)


class _Packing(Codec):
    """The packing of one term, whose large buffers go aside."""

    __slots__ = ("_buffers",)

    def __init__(self, aside: _Aside) -> None:
        self._instances = Instances(aside, imports=True)
        self._buffers = aside.buffers

    def pack(self, term: Any, what: str) -> bytes:
        return self._encode_slowly(term, what)

    def _pack_slowly(self, term: Any) -> bytes:
        self._buffers.clear()  # of a part that was tried, to find what cannot travel
        return super()._pack_slowly(term)

    def _travels(self, value: Any) -> bool:
        before = len(self._buffers)
        try:
            return super()._travels(value)
        finally:
            del self._buffers[before:]

    def _expand(self, value: Any) -> list[Any]:
        first = len(self._buffers)
        expanded = super()._expand(value)
        count = len(self._buffers) - first
        if count and expanded[0] is SHIPPED:
            return [SHIPPED_APART, expanded[1], first, count]
        return expanded

    def _marked(self, value: Any) -> Any:
        cls: Any = type(value)
        if cls in _PASSED_BY:
            return value
        if cls is list:
            return [self._marked(item) for item in value]
        if cls is dict:
            return dict(zip(value, map(self._marked, value.values()), strict=True))
        if cls is bytes:
            return value if len(value) < APART_FROM else self._put_aside(value)
        if cls is bytearray:
            return [BYTEARRAY, bytes(value) if len(value) < APART_FROM else self._put_aside(value)]
        if is_refused(cls):
            message = f"a {cls.__qualname__} means nothing in another process"
            raise TypeError(message)
        return value

    def _put_aside(self, buffer: Buffer) -> list[Any]:
        self._buffers.append(buffer)
        return [APART, len(self._buffers) - 1]


def _holds_large(term: Any, large_types: set[type]) -> bool:
    """Tell whether one of the first parts of a term is a large buffer, or an object that may have one."""
    todo: list[Any] = [term]
    for value in todo:  # grows while it is walked
        cls = type(value)
        if cls is bytes or cls is bytearray:
            if len(value) >= APART_FROM:
                return True
        elif cls in large_types:
            return True
        elif cls not in _PASSED_BY and len(todo) < _LOOKED_AT:
            todo += [part for _, part in itertools.islice(parts_of(value), _LOOKED_AT)]
    return False
