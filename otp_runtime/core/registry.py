"""What a registry's table holds, and what becomes of it: the records of its log and the entries they make.

A log is a sequence of records; every process that reads a registry plays them into `Entries` of its own. So the
rules are here, without a file: what a registration, a new value, an end of one do to the entries, which key is the
same key, who holds one, and what a log looks like when it is written anew.

    PUT      process, key, value       one more entry
    REPLACE  process, key, values      these are now all entries of the process under the key; none: it has left it
    GONE     process                   all entries of a process leave
    META     key, value                UNMETA  key
    CONFIG   value                     what the registry was started with

A change is one piece of log, so that nobody sees half of it: `feed` shows what is new only when it has played all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otp_runtime.terms.pid import Pid, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

__all__ = ["Entries", "Entry", "Holder", "canonical", "config", "gone", "holder", "meta", "put", "replace", "unmeta"]

PUT, REPLACE, GONE, META, UNMETA, CONFIG = range(1, 7)
NAMED: Final = 1
"""Flag of an entry that is the name of its process, given at its start: a supervisor brings it back with it."""

_HEAD: Final = struct.Struct("<IBBQI")
"""Length of the record, kind, flags, process, length of the key. The key follows, then the value."""
_LENGTH: Final = struct.Struct("<I")
_SCALARS: Final = frozenset({type(None), bool, int, float, bytes, Pid, Ref})
_PLAIN: Final = _SCALARS | {str}

Decode: TypeAlias = "Callable[[bytes], Any]"


# -- keys --------------------------------------------------------------------------------------------------


def canonical(key: Any) -> Hashable:
    """Give what stands for `key` in a dict: equal for equal keys of the same type, as with Erlang's `=:=`.

    >>> canonical(1) == canonical(1.0), canonical((1, [2])) == canonical((1, [2]))
    (False, True)

    Raises:
        TypeError: It cannot be told whether another key is this one.
    """
    kind = type(key)
    if kind is str:
        return key  # type: ignore[no-any-return]
    if kind in _SCALARS:
        return kind, key
    if isinstance(key, tuple | list):
        return kind, tuple(canonical(part) for part in key)
    if isinstance(key, dict):
        return kind, frozenset((canonical(name), canonical(part)) for name, part in key.items())
    if isinstance(key, set | frozenset):
        return kind, frozenset(canonical(part) for part in key)
    if is_dataclass(key) and kind is not type:
        return kind, tuple(canonical(getattr(key, field.name)) for field in fields(key) if field.compare)
    try:
        hash(key)
    except TypeError:
        message = f"a key is data that can be compared, not {kind.__qualname__}: {key!r:.80}"
        raise TypeError(message) from None
    return kind, key


def is_ordered(key: Any) -> bool:
    """Whether equal keys like this one have equal bytes, so that these may decide on the partition."""
    return type(key) in _PLAIN or (type(key) is tuple and all(map(is_ordered, key)))


# -- records -----------------------------------------------------------------------------------------------


def put(process: int, key: bytes, value: bytes, *, named: bool = False) -> bytes:
    """Record one more entry."""
    return _record(PUT, NAMED if named else 0, process, key, value)


def replace(process: int, key: bytes, values: Iterable[bytes]) -> bytes:
    """Record that these values are now all that a process has under a key."""
    return _record(REPLACE, 0, process, key, b"".join(_LENGTH.pack(len(value)) + value for value in values))


def gone(process: int) -> bytes:
    """Record that a process leaves altogether."""
    return _record(GONE, 0, process, b"", b"")


def meta(key: bytes, value: bytes) -> bytes:
    """Record a piece of metadata."""
    return _record(META, 0, 0, key, value)


def unmeta(key: bytes) -> bytes:
    """Record that a piece of metadata is no more."""
    return _record(UNMETA, 0, 0, key, b"")


def config(value: bytes) -> bytes:
    """Record what the registry was started with."""
    return _record(CONFIG, 0, 0, b"", value)


def _record(kind: int, flags: int, process: int, key: bytes, value: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(key) + len(value), kind, flags, process, len(key)) + key + value


def _records(data: bytes) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    at = 0
    while at < len(data):
        length, kind, flags, process, key_length = _HEAD.unpack_from(data, at)
        middle = at + _HEAD.size + key_length
        yield kind, flags, process, data[at + _HEAD.size : middle], data[middle : at + length]
        at += length


def _values(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + length]
        at += length


# -- entries -----------------------------------------------------------------------------------------------


class Entry:
    """One process under one key, with a value."""

    __slots__ = ("_decode", "cell", "data", "index", "key_data", "named", "pid", "process")

    def __init__(self, decode: Decode, pid: Pid, index: Hashable, key: bytes, value: bytes, *, named: bool) -> None:
        """`index` is where it lies; `cell`, its `(pid, value)`, is None until it was read, and while it may change."""
        self._decode = decode
        self.pid = pid
        self.process = pid.id
        self.index = index
        self.key_data = key
        self.data = value
        self.named = named
        self.cell: tuple[Pid, Any] | None = None

    def read(self) -> tuple[Pid, Any]:
        """Give `(pid, value)`. What cannot change is decoded once, the rest anew for everybody who asks."""
        if self.cell is not None:
            return self.cell
        cell = self.pid, self._decode(self.data)
        if _is_plain(cell[1]):
            self.cell = cell
        return cell

    @property
    def key(self) -> Any:
        """The key, decoded."""
        return self.index if type(self.index) is str else self._decode(self.key_data)

    def pack(self) -> bytes:
        """Give the record that makes this entry."""
        return put(self.process, self.key_data, self.data, named=self.named)


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_is_plain, value)))


class Entries:
    """The entries of one partition, by key and by process, as far as its log was played.

    `decode` opens keys and values; `pid_of` makes a pid of a process's number. With `blind=True` no key is opened:
    enough to look after a table, without loading anybody's classes.
    """

    def __init__(self, decode: Decode, pid_of: Callable[[int], Pid], *, blind: bool = False) -> None:
        """Empty."""
        self._decode = decode
        self._pid_of = pid_of
        self._blind = blind
        self._config: bytes | None = None
        self._meta: dict[Hashable, tuple[bytes, bytes]] = {}
        self.under: dict[Hashable, tuple[Entry, ...]] = {}
        self.of: dict[int, dict[Entry, None]] = {}

    def feed(self, log: bytes) -> None:
        """Play a piece of log; a key's entries change at once, at the end."""
        touched: dict[Hashable, dict[Entry, None]] = {}
        for kind, flags, process, key, value in _records(log):
            match kind:
                case _ if kind == PUT:
                    self._add(touched, process, key, value, named=bool(flags & NAMED))
                case _ if kind == REPLACE:
                    self._replace(touched, process, key, value)
                case _ if kind == GONE:
                    for entry in list(self.of.get(process, ())):
                        self._drop(touched, entry)
                case _ if kind == META:
                    self._meta[self._index(key)] = key, value
                case _ if kind == UNMETA:
                    self._meta.pop(self._index(key), None)
                case _:
                    self._config = value
        for index, entries in touched.items():
            if entries:
                self.under[index] = tuple(entries)
            else:
                self.under.pop(index, None)

    def _index(self, key: bytes) -> Hashable:
        if self._blind:
            return key
        try:
            return canonical(self._decode(key))
        except Exception:  # noqa: BLE001 - a key of a class that this process cannot load: nobody here can ask for it
            return type(None), key

    def _touch(self, touched: dict[Hashable, dict[Entry, None]], index: Hashable) -> dict[Entry, None]:
        entries = touched.get(index)
        if entries is None:
            entries = touched[index] = dict.fromkeys(self.under.get(index, ()))
        return entries

    def _add(
        self, touched: dict[Hashable, dict[Entry, None]], process: int, key: bytes, value: bytes, *, named: bool
    ) -> None:
        index = self._index(key)
        entry = Entry(self._decode, self._pid_of(process), index, key, value, named=named)
        self._touch(touched, index)[entry] = None
        self.of.setdefault(process, {})[entry] = None

    def _drop(self, touched: dict[Hashable, dict[Entry, None]], entry: Entry) -> None:
        self._touch(touched, entry.index).pop(entry, None)
        mine = self.of[entry.process]
        del mine[entry]
        if not mine:
            del self.of[entry.process]

    def _replace(self, touched: dict[Hashable, dict[Entry, None]], process: int, key: bytes, values: bytes) -> None:
        index = self._index(key)
        named = False
        for entry in [one for one in self._touch(touched, index) if one.process == process]:
            named = named or entry.named
            self._drop(touched, entry)
        for value in _values(values):
            self._add(touched, process, key, value, named=named)

    # -- reading --------------------------------------------------------------------------------------------

    def mine(self, process: int, index: Hashable) -> list[Entry]:
        """Give the entries of a process under a key, oldest first."""
        return [entry for entry in self.under.get(index, ()) if entry.process == process]

    def meta(self, index: Hashable) -> tuple[Any] | None:
        """Give a piece of metadata, in a tuple; None when there is none."""
        found = self._meta.get(index)
        return None if found is None else (self._decode(found[1]),)

    def config(self) -> Any:
        """Give what the registry was started with."""
        return None if self._config is None else self._decode(self._config)

    def pack(self, keep: Callable[[Entry], bool]) -> bytes:
        """Give the log that makes these entries, as far as `keep` says, and the metadata."""
        head = [] if self._config is None else [config(self._config)]
        head += [meta(key, value) for key, value in self._meta.values()]
        return b"".join(head + [entry.pack() for mine in self.of.values() for entry in mine if keep(entry)])

    def without(self, process: int, keep: Callable[[Entry], bool]) -> bytes:
        """Give the records with which a process leaves, but for the entries that `keep` says; b"" if it has none."""
        mine = self.of.get(process)
        if not mine:
            return b""
        kept = [entry.pack() for entry in mine if keep(entry)]
        return b"" if len(kept) == len(mine) else gone(process) + b"".join(kept)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a unique key."""

    entry: Entry
    is_alive: bool


def holder(entries: Entries, index: Hashable, is_dead: Callable[[int], bool]) -> Holder | None:
    """Say who has a unique key; a dead one's entry may be replaced on the spot."""
    found = entries.under.get(index)
    return None if not found else Holder(found[-1], not is_dead(found[-1].process))
