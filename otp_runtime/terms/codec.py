"""Terms to bytes and back: what arrives equals what was sent, and has its type.

The wire is msgpack. The common small message of lists, dicts, texts, numbers and bytes is msgpack
and nothing else; the rest is described in `extensions`. What is data travels as data: dataclasses,
enums, named tuples and other subclasses of builtins, exceptions. Functions, and instances of any
other class, need a `Shipper`, which a higher floor provides inside one node; without one nothing
is ever unpickled.

Departures, each for speed or safety:

- sharing is not kept: a list that is in a term twice arrives as two lists;
- files, sockets, locks, threads, generators, coroutines, frames and memoryviews are refused;
- a term nested up to 256 deep always travels, one nested deeper than 1024 never does.
"""

from __future__ import annotations

from typing import Any

from msgpack import ExtType, Packer, unpackb

from otp_runtime.errors import CodecError
from otp_runtime.terms.buffers import ATOMS, holds_buffer, mark_buffers
from otp_runtime.terms.exception_data import expand_exception
from otp_runtime.terms.extensions import BUILDERS, CODE, EXPANDERS, TUPLE, Builder, Expander
from otp_runtime.terms.instances import Instances, Shipper
from otp_runtime.terms.offender import find_offender
from otp_runtime.terms.parcel import MAGIC, Parcel, unflatten

__all__ = ["Codec", "Shipper"]

_FIXEXT1 = 0xD4  # the first byte of every mark
_BIN8, _BIN16, _BIN32 = 0xC4, 0xC5, 0xC6
_PARCEL = bytes([MAGIC])
_MAX_KEPT_BYTES = 65_536  # a packer keeps its buffer: one that packed more is not kept


class Codec:
    """Encodes and decodes terms; safe to share between threads and signal handlers.

    `shipper` carries functions, and classes and objects that are not data. Without one they are
    refused in both directions, which is what bytes from a network need; with `imports=False`
    decoding also finds classes only in modules that are imported already, and no class travels
    as a value.

    >>> codec = Codec()
    >>> codec.decode(codec.encode(("inc", {2, 3})))
    ('inc', {2, 3})
    """

    __slots__ = ("_idle", "_instances", "_looks", "_marks")

    def __init__(self, shipper: Shipper | None = None, *, imports: bool = True) -> None:
        self._instances = Instances(shipper, imports=imports)
        builders = BUILDERS | self._instances.builders()
        self._marks = {letter: _Mark(build) for letter, build in builders.items()}
        # Idle packers. A packer is not re-entrant, so each encoding takes one out; `pop` and
        # `append` are atomic. One that was interrupted holds half a term and is not put back.
        self._idle: list[Packer] = []
        self._looks = 0
        """How many more terms are looked through before they are packed: see `ParcelCodec`."""

    def encode(self, term: Any, what: str = "term") -> bytes:
        """Return `term` as bytes.

        Runs code of the program only where a shipper pickles. Raises `CodecError` with the path
        of the part that cannot travel, which starts with `what`.
        """
        if self._looks and self._holds_large(term):
            return self._encode_slowly(term, what)
        try:
            packer = self._idle.pop()
        except IndexError:
            packer = Packer(default=self._expand, strict_types=True, use_bin_type=True)
        try:
            data: bytes = packer.pack(term)
        except Exception:  # noqa: BLE001 - whatever it is, the slow way finds it again
            return self._encode_slowly(term, what)
        if len(data) <= _MAX_KEPT_BYTES:
            self._idle.append(packer)
        else:
            self._note_large(len(data))
        # msgpack packs a bytearray and a memoryview as if they were bytes, without asking.
        if (_BIN8 in data or _BIN16 in data or _BIN32 in data) and holds_buffer(term):
            return self._encode_slowly(term, what)
        return data

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Return the term that `encode` made `data` of.

        Raises `CodecError`, and nothing else, on bytes that no codec made, that need a class this
        process does not have, or a shipper. An exception never fails: see `exception_data`.
        """
        try:
            if type(data) is not bytes:
                if type(data) is Parcel:
                    return self._open(data)
                data = bytes(data)
            if _FIXEXT1 not in data:
                return unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")
            return unpackb(
                data,
                strict_map_key=False,
                unicode_errors="surrogatepass",
                ext_hook=self._mark,
                list_hook=_build,
            )
        except CodecError:
            raise
        except Exception as error:
            if data[:1] == _PARCEL and type(data) is bytes:
                return self.decode(_unflattened(data))
            raise _undecodable(data, error) from error
        except SystemExit as error:
            if type(error) is not SystemExit:  # an exit signal of ours, not a script imported
                raise
            raise _undecodable(data, error) from error

    # -- encoding -------------------------------------------------------------------------------

    def _expand(self, value: Any) -> list[Any]:
        """Return the marked list of what msgpack does not know: its packer's hook."""
        cls = type(value)
        if cls is tuple:
            return [TUPLE, *value]
        expander = EXPANDERS.get(cls)
        if expander is not None:
            return expander(value)
        return self._instances.expand(value)

    def _holds_large(self, _term: Any) -> bool:
        """Tell whether a term is better not packed the fast way."""
        return False

    def _note_large(self, size: int) -> None:
        """A term of `size` bytes was packed the fast way."""

    # -- encoding, the slow way -----------------------------------------------------------------

    def _encode_slowly(self, term: Any, what: str) -> bytes:
        """Encode what the fast way cannot, or say which part is to blame.

        That is: bytearrays, texts with lone surrogates, exceptions with parts that cannot travel.
        """
        try:
            return self._pack_slowly(term)
        except Exception:  # noqa: BLE001 - found again, with its path, below
            path, name, error = find_offender(term, what, self._pack_slowly)
        raise CodecError(path, name, detail=str(error or "")) from error

    def _pack_slowly(self, term: Any) -> bytes:
        return _pack_thoroughly(self._marked(term), self._expand_slowly)

    def _expand_slowly(self, value: Any) -> list[Any]:
        if isinstance(value, BaseException):
            expanded = expand_exception(value, self._instances.class_ref, self._repair)
        else:
            expanded = self._expand(value)
        marked: list[Any] = self._marked(expanded)
        return marked

    def _marked(self, value: Any) -> Any:
        """Return `value` with marked lists for what msgpack would pack without asking."""
        return mark_buffers(value)

    def _repair(self, value: Any) -> Any:
        """Return `value`, part of an exception, or its text when it cannot travel."""
        return value if type(value) in ATOMS or self._travels(value) else _text_of(value)

    def _travels(self, value: Any) -> bool:
        """Tell whether `value` can be packed as it is, the exceptions in it not repaired."""
        try:
            _pack_thoroughly(self._marked(value), lambda part: self._marked(self._expand(part)))
        except Exception:  # noqa: BLE001 - it does not, whatever the reason
            return False
        return True

    # -- decoding -------------------------------------------------------------------------------

    def _open(self, parcel: Parcel) -> Any:
        """Decode the head of a parcel, with its buffers at hand."""
        marks = {letter: _Mark(build) for letter, build in self._instances.builders_for(parcel.buffers).items()}

        def mark(code: int, data: bytes) -> Any:
            return marks[data] if code == CODE and data in marks else self._mark(code, data)

        return unpackb(
            parcel.head, strict_map_key=False, unicode_errors="surrogatepass", ext_hook=mark, list_hook=_build
        )

    def _mark(self, code: int, data: bytes) -> Any:
        if code == CODE:
            mark = self._marks.get(data)
            if mark is not None:
                return mark
        return ExtType(code, data)


class _Mark:
    """What a mark is while a term is decoded: how to build the list that it begins."""

    __slots__ = ("build",)

    def __init__(self, build: Builder) -> None:
        self.build = build


def _build(items: list[Any]) -> Any:
    """Return a list as it is, or what a marked list stands for: the unpacker's hook."""
    if items and type(items[0]) is _Mark:
        return items[0].build(items)
    return items


def _pack_thoroughly(term: Any, expand: Expander) -> bytes:
    """Pack `term`, whose buffers are marked, with a packer that never meets again, minding lone surrogates."""
    packer = Packer(default=expand, strict_types=True, use_bin_type=True, unicode_errors="surrogatepass")
    data: bytes = packer.pack(term)
    return data


def _unflattened(data: bytes) -> Parcel:
    try:
        return unflatten(data)
    except ValueError as error:
        raise _undecodable(data, error) from error


def _text_of(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(value).__name__}>"


def _undecodable(data: bytes | bytearray | memoryview, error: BaseException) -> CodecError:
    detail = f"{type(error).__name__}: {error}"
    return CodecError("data", type(data).__name__, detail=f"cannot be decoded: {detail}")
