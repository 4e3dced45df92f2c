"""A shared table as one process sees it: files of the node, played into entries of its own.

A look-up compares two words of a mapped head with those seen last and then looks into a dict. Only after a change
it reads what was appended. Nobody is asked, so nobody has to be awake. A writer holds the partition's lock, catches
up, decides on what it then knows, and appends.

Entries of the dead are left out by whoever reads: `host.fates` is written before a death is told. They go from the
log when the partition's keeper has heard of the death, or when a log that has grown is written anew.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import TYPE_CHECKING, Any, Final

from otp_runtime.core.names import ComingBack, file_name_of, is_name
from otp_runtime.core.registry import Entries, canonical, is_ordered
from otp_runtime.errors import NoProcess
from otp_runtime.host.box import Box
from otp_runtime.host.fates import Fates
from otp_runtime.host.tables import WATCHED_BYTES, TableFile, split_watched
from otp_runtime.process import names
from otp_runtime.process.current import current
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from otp_runtime.core.registry import Entry
    from otp_runtime.process.context import Context

UNIQUE, DUPLICATE, GROUPS = range(3)
REGISTRY: Final = (UNIQUE, DUPLICATE)
SCOPE: Final = (GROUPS,)
_WHAT: Final = {REGISTRY: "registry", SCOPE: "scope of process groups"}
ATTEMPTS: Final = 20
"""How often to begin again with a table that is replaced meanwhile."""
_NEVER: Final = (-1, 0)


class TableGone(Exception):
    """The table was closed: its owner is dead, or began a new one."""


class Partition:
    """One partition: its file, and its entries as far as this process has played them."""

    __slots__ = ("_context", "_fates", "_played", "entries", "file", "is_blind", "mapped", "seen")

    def __init__(self, context: Context, file: TableFile, fates: Fates, *, blind: bool = False) -> None:
        """`blind`: keys are not opened, see `Entries`."""
        self._context = context
        self._fates = fates
        self.file = file
        self.mapped = file.mapped
        self.is_blind = blind
        self.seen = b""
        self._played = _NEVER
        self.entries = self._empty()

    def _empty(self) -> Entries:
        return Entries(self._context.codec.decode, self._context.pid_of, blind=self.is_blind)

    def refresh(self) -> None:
        """Catch up with the log. Raises `TableGone` when the table was closed."""
        while True:
            watched = self.mapped[:WATCHED_BYTES]
            if watched == self.seen:
                return
            is_open, generation, length = split_watched(watched)
            if not is_open:
                raise TableGone
            known, start = self._played if self._played[0] == generation else (generation, 0)
            data = self.file.read(generation, start, length)
            if data is not None:
                self._play(known, length, data, anew=start == 0)
                self.seen = watched
                return
            if self.mapped[:WATCHED_BYTES] == watched:
                # the log is not where its head says: the node's directory is being removed
                raise TableGone

    def _play(self, generation: int, length: int, data: bytes, *, anew: bool) -> None:
        # an interrupt in the middle leaves what must be played anew
        self._played = _NEVER
        if anew:
            self.entries = self._empty()
        self.entries.feed(data)
        self._played = generation, length

    @contextlib.contextmanager
    def writing(self) -> Iterator[Entries]:
        """Be the only writer, with all that others wrote before. Raises `TableGone`."""
        try:
            with self.file.locked():
                self.refresh()
                yield self.entries
        except FileNotFoundError:
            raise TableGone from None

    def append(self, log: bytes) -> None:
        """Add records; only while `writing`."""
        if not log:
            return
        self.file.append(log)
        self.refresh()
        if self.file.is_due:
            self.tidy()

    def tidy(self) -> None:
        """Write the log anew, without the dead; only while `writing`."""
        self.file.rewrite(self.entries.pack(self.keeps))
        self.refresh()

    def keeps(self, entry: Entry) -> bool:
        """Whether an entry stays: of the living, and of those under whose name somebody is waited for."""
        fates = self._fates
        return not fates.fate(entry.process) or (entry.named and not fates.is_gone(entry.process))

    def living(self, index: Hashable) -> list[Entry]:
        """Give the entries of the living under a key."""
        entries = self.entries.under.get(index)
        if entries is None:
            return []
        fates = self._fates
        try:
            words = fates.words
            return [entry for entry in entries if not words[entry.process]]
        except IndexError:
            return [entry for entry in entries if not fates.fate(entry.process)]

    def all_living(self) -> list[Entry]:
        """Give all entries of the living."""
        fate = self._fates.fate
        return [entry for process, mine in self.entries.of.items() if not fate(process) for entry in mine]


class Table:
    """A table: its partitions, and what it was started with."""

    __slots__ = ("config", "fates", "kind", "name", "owner", "partitions")

    def __init__(self, context: Context, name: str, files: list[TableFile], *, blind: bool = False) -> None:
        """See `find`."""
        self.name = name
        self.kind = files[0].kind
        self.owner = files[0].owner
        self.fates = Fates(context.directory)
        self.partitions = tuple(Partition(context, file, self.fates, blind=blind) for file in files)
        for partition in self.partitions:
            partition.refresh()
        self.config: Any = self.partitions[0].entries.config()

    def refresh(self) -> None:
        """Catch up with all partitions. Raises `TableGone`."""
        for partition in self.partitions:
            partition.refresh()

    def home(self, key: Any, process: int) -> Partition:
        """Say which partition an entry belongs to: a unique key's, else its process's, as in Elixir."""
        if self.kind != UNIQUE:
            return self.partitions[process % len(self.partitions)]
        return self.home_of(key)

    def home_of(self, key: Any) -> Partition:
        """Say which partition a key belongs to."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        number = zlib.crc32(repr(canonical(key)).encode()) if is_ordered(key) else 0
        return self.partitions[number % len(self.partitions)]

    def lookup(self, key: Any) -> list[tuple[Pid, Any]]:
        """Give `(pid, value)` of the living under a key."""
        index = key if type(key) is str else canonical(key)
        if len(self.partitions) == 1:
            entries = self.partitions[0].entries.under.get(index)
            if entries is None:
                return []
            words = self.fates.words
            try:
                return [entry.cell or entry.read() for entry in entries if not words[entry.process]]
            except IndexError:
                self.fates.grow()
        return [entry.cell or entry.read() for partition in self.partitions for entry in partition.living(index)]

    def under(self, key: Any) -> list[Entry]:
        """Give the entries of the living under a key."""
        index = canonical(key)
        return [entry for partition in self.partitions for entry in partition.living(index)]

    def all_living(self) -> list[Entry]:
        """Give all entries of the living."""
        return [entry for partition in self.partitions for entry in partition.all_living()]

    def is_coming_back(self, key: Any) -> bool:
        """Whether a process that was started under this key is being brought back."""
        index = canonical(key)
        entries = (entry for partition in self.partitions for entry in partition.entries.under.get(index, ()))
        return any(entry.named and self.fates.is_coming_back(entry.process) for entry in entries)


# -- finding one -------------------------------------------------------------------------------------------


def find(reference: Any, kinds: tuple[int, ...] = REGISTRY) -> Table:
    """Give the table of a registry or scope, up to date. Raises `NoProcess` when there is none of that name."""
    context = current()
    table: Table | None = context.tables.get(reference) if isinstance(reference, str | Pid) else None
    if table is not None:
        for partition in table.partitions:
            if partition.mapped[:WATCHED_BYTES] != partition.seen:
                break
        else:
            if table.kind in kinds:
                return table
    return _catch_up(context, reference, kinds, table)


def _catch_up(context: Context, reference: Any, kinds: tuple[int, ...], table: Table | None) -> Table:
    if table is not None and table.kind in kinds:
        try:
            table.refresh()
        except TableGone:
            del context.tables[reference]
        else:
            return table
    return _open(context, reference, kinds)


def _forget(context: Context, owner: int) -> None:
    """Let go of the tables of an owner that has ended, and of the descriptors that they hold."""
    for reference in [key for key, table in context.tables.items() if table.owner == owner]:
        del context.tables[reference]


def _open(context: Context, reference: Any, kinds: tuple[int, ...]) -> Table:
    what = _WHAT[kinds]
    name = _name_of(context, reference, what)
    table = open_table(context, name)
    if table is None or table.kind not in kinds:
        detail = f"no {what} of that name is running; start one and give the name it was started with"
        raise NoProcess(reference, detail=detail)
    owner = context.peer(table.owner)
    if owner is not None:
        # kept only if the owner's end will be heard, so that nothing of it stays open
        context.tables[reference] = table
        owner.waiters.append(lambda _reason: _forget(context, owner.id))
    return table


def _name_of(context: Context, reference: Any, what: str) -> str:
    if type(reference) is Pid:
        box = Box.open(context.directory.box(reference.id))
        try:
            return box.name if box is not None else ""
        finally:
            if box is not None:
                box.close()
    if not isinstance(reference, str):
        message = f"a {what} is named by the str it was started with, or by its Pid, not by {reference!r}"
        raise TypeError(message)
    return str(reference)


def open_table(context: Context, name: str) -> Table | None:
    """Map a table, and play its logs; None when there is none."""
    if not is_name(name):
        return None
    path = context.directory.table(file_name_of(name))
    for _ in range(ATTEMPTS):
        head = TableFile.open(f"{path}/0")
        if head is None:
            return None
        files = [head, *(file for n in range(1, head.partitions) if (file := TableFile.open(f"{path}/{n}")))]
        if len(files) < head.partitions:
            return None
        try:
            return Table(context, name, files)
        except TableGone:
            continue
        except FileNotFoundError:
            return None
    return None


def is_coming_back(context: Context, name: str) -> bool:
    """Whether a registry that is not there is being brought back."""
    return is_name(name) and isinstance(names.owner_of(context.directory, name), ComingBack)


# -- being the keeper of one -------------------------------------------------------------------------------


def adopt_or_create(
    context: Context,
    name: str,
    number: int,
    *,
    owner: int,
    kind: int,
    partitions: int,
    log: bytes,
    adopt: Callable[[Entries], bool],
    blind: bool = True,
) -> Partition:
    """Be the keeper of a partition: of the one that is there, if it is this owner's or was its predecessor's.

    That is, one of the same kind whose owner was to come back, and `adopt` agrees. Else of a new one, which begins
    with `log`.
    """
    path = f"{context.directory.table(file_name_of(name))}/{number}"
    fates = Fates(context.directory)
    file = TableFile.open(path)
    is_ours = file is not None and (file.owner == owner or fates.is_coming_back(file.owner))
    if file is not None and is_ours and (file.kind, file.partitions) == (kind, partitions):
        found = Partition(context, file, fates, blind=blind)
        with contextlib.suppress(TableGone):
            found.refresh()
            if adopt(found.entries):
                file.owner, file.keeper = owner, context.id
                return found
    file = TableFile.create(path, owner=owner, kind=kind, partitions=partitions, log=log)
    file.keeper = context.id
    return Partition(context, file, fates, blind=blind)
