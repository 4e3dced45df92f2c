"""Registry: processes under keys of any kind, with a value each, that everybody looks up without asking anybody."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otp_runtime.behaviours import gen
from otp_runtime.core import messages as wire
from otp_runtime.core import registry as core
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.patterns import compile_pattern
from otp_runtime.errors import AlreadyRegistered, CallError, NoProcess
from otp_runtime.host import pipe
from otp_runtime.process import names
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.registry import keeper
from otp_runtime.registry import table as tables
from otp_runtime.registry.table import DUPLICATE, TableGone
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.process.context import Context
    from otp_runtime.registry.table import Partition, Table

    MaybeNone: TypeAlias = Any
    RegistryRef: TypeAlias = str | Pid
    Shutdown: TypeAlias = float | Literal["brutal_kill"] | None

V = TypeVar("V")


class _Partitions(Supervisor):
    """The supervisor of a registry's partitions; to everybody it is the registry."""

    __qualname__ = "Registry"


class Registry:
    """Processes under keys: `keys="unique"`, one process a key, or `"duplicate"`, many.

    The registry is a supervisor, and its entries lie in the node's directory. Looking up asks no process: it is a
    look into this process's own copy, brought up to date when something has changed. Entries go when their process
    dies: after its `Down` no look-up gives it. Everywhere `registry` is the name that it was started with, or its pid;
    one that is not there is `NoProcess`.

    >>> from otp_runtime import Registry
    >>> with Registry.start_link(keys="unique", name="rooms"):
    ...     Registry.register("rooms", ("room", 7), "green")
    ...     [(pid, value)] = Registry.lookup("rooms", ("room", 7))
    ...     value
    'green'
    """

    # -- starting -------------------------------------------------------------------------------------------

    @staticmethod
    def start_link(
        *,
        keys: Literal["unique", "duplicate"],
        name: str,
        partitions: int = 1,
        listeners: Iterable[str] = (),
    ) -> Pid | MaybeNone:
        """Start a registry linked to the caller.

        `name` is a local name, the registry's. `partitions` (1 to 64) is into how many files and locks it is cut, for
        many processes that register at the same time; each has a process that clears up after the dead. `listeners`
        are local names of processes that get `("register", name, key, pid, value)` and
        `("unregister", name, key, pid)`; they hear nothing of an entry that goes with its process.

        Raises ValueError or TypeError for a wrong argument, `AlreadyStarted` when the name is taken.
        EX: Registry.start_link/1.
        """
        children = keeper.children(keys, name, partitions, listeners)
        return _Partitions.start_link(children, name=name, strategy="one_for_one")

    @staticmethod
    async def astart_link(
        *,
        keys: Literal["unique", "duplicate"],
        name: str,
        partitions: int = 1,
        listeners: Iterable[str] = (),
    ) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        children = keeper.children(keys, name, partitions, listeners)
        return await _Partitions.astart_link(children, name=name, strategy="one_for_one")

    @staticmethod
    def child_spec(
        *,
        keys: Literal["unique", "duplicate"],
        name: str,
        partitions: int = 1,
        listeners: Iterable[str] = (),
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] = "permanent",
        shutdown: Shutdown = None,
        significant: bool = False,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """Say how a supervisor starts this registry; `id` defaults to its name. Put it before those who use it."""
        listeners = keeper.check_listeners(listeners)
        keeper.children(keys, name, partitions, listeners)
        return ChildSpec(
            id=name if id is None else id,
            start=(
                Registry.start_link,
                (),
                {"keys": keys, "name": name, "partitions": partitions, "listeners": listeners},
            ),
            restart=restart,
            shutdown=shutdown,
            type="supervisor",
            significant=significant,
            backoff=backoff,
        )

    # -- one's own entries ----------------------------------------------------------------------------------

    @staticmethod
    def register(registry: RegistryRef, key: Any, value: Any = None) -> None:
        """Register the calling process under `key`, with `value`; both any data.

        Raises `AlreadyRegistered(pid)` in a unique registry when a living process has the key, the caller too;
        `CodecError` when key or value cannot travel. `1` and `1.0` are different keys. EX: Registry.register/3.
        """
        _register(registry, key, value, named=False)

    @staticmethod
    def unregister(registry: RegistryRef, key: Any) -> None:
        """Remove all entries of the calling process under `key`; nothing happens when there are none."""
        _change(registry, key, lambda context, data, _mine: core.replace(context.id, data, ()))
        _notify(tables.find(registry), ("unregister", key))

    @staticmethod
    def unregister_match(registry: RegistryRef, key: Any, pattern: Any) -> None:
        """Remove the entries of the calling process under `key` whose value fits `pattern`, as in `match`."""
        fits = compile_pattern(pattern)
        left: list[bytes] = []
        removed: list[bytes] = []

        def change(context: Context, data: bytes, mine: list[core.Entry]) -> bytes:
            left.clear()
            removed.clear()
            for entry in mine:
                (removed if fits(entry.read()[1]) else left).append(entry.data)
            return core.replace(context.id, data, left) if removed else b""

        _change(registry, key, change)
        # as in Elixir also when there was nothing to remove, as by `unregister`
        if not left:
            _notify(tables.find(registry), ("unregister", key))

    @staticmethod
    def update_value(registry: RegistryRef, key: Any, fun: Callable[[Any], Any]) -> tuple[Any, Any] | None:
        """Make `fun(value)` the value of the calling process under `key`, and give `(new, old)`.

        None when the caller does not have the key. `fun` runs here. Raises ValueError for a duplicate registry, whose
        keys may have many values. EX: Registry.update_value/3.
        """
        _check_function(fun, "update_value", "fun(value)")
        table = tables.find(registry)
        _refuse_duplicate(table, "update_value")
        context = current()
        mine = [entry for entry in table.under(key) if entry.process == context.id]
        if not mine:
            return None
        old = mine[0].read()[1]
        new = fun(old)
        value = context.codec.encode(new, "value")
        _change(registry, key, lambda _context, data, _mine: core.replace(context.id, data, (value,)))
        return new, old

    # -- looking up -----------------------------------------------------------------------------------------

    @staticmethod
    def lookup(registry: RegistryRef, key: Any) -> list[tuple[Pid, Any]]:
        """Give `(pid, value)` of every living process under `key`. Asks no process. EX: Registry.lookup/2."""
        return tables.find(registry).lookup(key)

    @staticmethod
    def keys(registry: RegistryRef, pid: Pid) -> list[Any]:
        """Give the keys of `pid`, in the order registered; as often as it registered each."""
        _check_pid(pid, "keys")
        table = tables.find(registry)
        if current().pid_of(pid.id) != pid or table.fates.fate(pid.id):
            return []
        return [entry.key for partition in table.partitions for entry in partition.entries.of.get(pid.id, ())]

    @staticmethod
    def values(registry: RegistryRef, key: Any, pid: Pid) -> list[Any]:
        """Give the values of `pid` under `key`."""
        _check_pid(pid, "values")
        found = tables.find(registry).under(key)
        return [entry.read()[1] for entry in found if entry.pid == pid]

    @staticmethod
    def count(registry: RegistryRef) -> int:
        """Count the entries."""
        return len(tables.find(registry).all_living())

    @staticmethod
    def match(registry: RegistryRef, key: Any, pattern: Any) -> list[tuple[Pid, Any]]:
        """Give `(pid, value)` of the entries under `key` whose value fits `pattern`.

        A pattern is a type, a tuple of types, a predicate, or a value with `...` and `Bind` in it.
        """
        fits = compile_pattern(pattern)
        return [cell for cell in Registry.lookup(registry, key) if fits(cell[1])]

    @staticmethod
    def count_match(registry: RegistryRef, key: Any, pattern: Any) -> int:
        """Count the entries that `match` gives."""
        return len(Registry.match(registry, key, pattern))

    @staticmethod
    def select(registry: RegistryRef, predicate: Callable[[Any, Pid, Any], object]) -> list[tuple[Any, Pid, Any]]:
        """Give `(key, pid, value)` of all entries for which `predicate(key, pid, value)` is true.

        One that raises AttributeError, TypeError or LookupError does not fit, as in a pattern.
        """
        _check_function(predicate, "select", "predicate(key, pid, value)")
        fits = compile_pattern(lambda entry: predicate(*entry))
        found = tables.find(registry).all_living()
        return [one for one in ((entry.key, *entry.read()) for entry in found) if fits(one)]

    @staticmethod
    def count_select(registry: RegistryRef, predicate: Callable[[Any, Pid, Any], object]) -> int:
        """Count the entries that `select` gives."""
        return len(Registry.select(registry, predicate))

    @staticmethod
    def dispatch(registry: RegistryRef, key: Any, fun: Callable[[list[tuple[Pid, Any]]], object]) -> None:
        """Call `fun(entries)` here, with all `(pid, value)` under `key`; not at all when there are none."""
        _check_function(fun, "dispatch", "fun(entries)")
        entries = Registry.lookup(registry, key)
        if entries:
            fun(entries)

    @staticmethod
    def lock(registry: RegistryRef, key: Any, fun: Callable[[], V]) -> V:
        """Call `fun()` here while no other process is inside `lock` with this key; gives what it returns.

        Who asks first goes first, however long that takes. The lock has nothing to do with the entry under the key. It
        is given back when `fun` returns or raises, and when its holder dies; one that dies waiting is passed over. A
        process that asks again for what it holds waits for ever. The process of a partition keeps it: when that is
        killed, who waits gets `ServerDown`, and its successor knows of no holders. EX: Registry.lock/3.
        """
        _check_function(fun, "lock", "fun()")
        core.canonical(key)
        context = current()
        locker = context.pid_of(tables.find(registry).home_of(key).file.keeper)
        try:
            gen.call(locker, ("lock", key), None)
            return fun()
        finally:
            gen.cast(locker, ("unlock", key, context.pid))

    # -- metadata -------------------------------------------------------------------------------------------

    @staticmethod
    def put_meta(registry: RegistryRef, key: Any, value: Any) -> None:
        """Keep `value` under `key` with the registry itself, for as long as it lives."""
        context = current()
        record = core.meta(_encode_key(context, key), context.codec.encode(value, "value"))
        _write_meta(registry, record)

    @staticmethod
    def meta(registry: RegistryRef, key: Any, default: Any = None) -> Any:
        """Give what `put_meta` kept; `default` when there is nothing."""
        entries = tables.find(registry).partitions[0].entries
        found = entries.meta(core.canonical(key))
        return default if found is None else found[0]

    @staticmethod
    def delete_meta(registry: RegistryRef, key: Any) -> None:
        """Forget what `put_meta` kept."""
        _write_meta(registry, core.unmeta(_encode_key(current(), key)))

    # -- what `Via(Registry, …)` asks -----------------------------------------------------------------------

    @staticmethod
    def check_key(key: tuple[Any, ...]) -> None:
        """Refuse, in whoever starts a process, a key of `Via` that has not the shape; raises `ValueError`."""
        _of_via(key)

    @staticmethod
    def register_name(key: tuple[Any, ...], pid: Pid) -> None:
        """Take the key of a `Via(Registry, (registry, key))` or `(registry, key, value)` for the calling process."""
        registry, name, value = _of_via(key)
        if pid != current().pid:
            msg = f"a process registers itself: {pid!r} cannot be registered by {current().pid!r}"
            raise ValueError(msg)
        _refuse_duplicate(tables.find(registry), "Via")
        _register(registry, name, value, named=True)

    @staticmethod
    def unregister_name(key: tuple[Any, ...]) -> None:
        """Give the key of a `Via` back."""
        registry, name, _value = _of_via(key)
        Registry.unregister(registry, name)

    @staticmethod
    def whereis_name(key: tuple[Any, ...]) -> Pid | None:
        """Give the living process that has the key of a `Via`; None when none has."""
        registry, name, _value = _of_via(key)
        table = tables.find(registry)
        _refuse_duplicate(table, "Via")
        found = table.under(name)
        return found[0].pid if found else None

    @staticmethod
    def is_coming_back(key: tuple[Any, ...]) -> bool:
        """Say whether a supervisor is bringing back who was started under the key of a `Via`, or the registry."""
        registry, name, _value = _of_via(key)
        try:
            return tables.find(registry).is_coming_back(name)
        except NoProcess:
            return tables.is_coming_back(current(), registry)


# -- writing -----------------------------------------------------------------------------------------------


def _encode_key(context: Context, key: Any) -> bytes:
    core.canonical(key)
    return context.codec.encode(key, "key")


def _register(registry: RegistryRef, key: Any, value: Any, *, named: bool) -> None:
    context = current()
    # its pid's, not its own: the init of an upgraded server registers what the server has already
    me = context.pid.id
    index = core.canonical(key)
    key_data = context.codec.encode(key, "key")
    record = core.put(me, key_data, context.codec.encode(value, "value"), named=named)
    while True:
        table = tables.find(registry)
        partition = table.home(key, me)
        with contextlib.suppress(TableGone):
            with partition.writing() as entries:
                left = b"" if table.kind == DUPLICATE else _take_over(context, table, entries, index, key_data)
                is_first = me not in entries.of
                partition.append(left + record)
            if is_first:
                _tell_keeper(context, partition, "watch")
            break
    _notify(table, ("register", key), value)


def _take_over(context: Context, table: Table, entries: core.Entries, index: Any, key: bytes) -> bytes:
    """Give the record that removes a dead holder of a unique key; raises when a living one has it."""

    def is_dead(process_id: int) -> bool:
        return bool(table.fates.fate(process_id)) or not process.alive(context.pid_of(process_id))

    found = core.holder(entries, index, is_dead)
    if found is None:
        return b""
    is_successor = context.pid.id != context.id
    if found.is_alive and not (is_successor and found.entry.process == context.pid.id):
        raise AlreadyRegistered(found.entry.pid)
    return core.replace(found.entry.process, key, ())


def _change(
    registry: RegistryRef, key: Any, change: Callable[[Context, bytes, list[core.Entry]], bytes]
) -> list[core.Entry]:
    """Change the caller's own entries under a key; gives those there were. Nobody else changes them meanwhile."""
    context = current()
    index, data = core.canonical(key), context.codec.encode(key, "key")
    while True:
        partition = tables.find(registry).home(key, context.id)
        mine = partition.entries.mine(context.id, index)
        log = change(context, data, mine) if mine else b""
        if not log:
            return mine
        with contextlib.suppress(TableGone):
            with partition.writing() as entries:
                partition.append(log)
                is_last = context.id not in entries.of
            if is_last:
                _tell_keeper(context, partition, "unwatch")
            return mine


def _write_meta(registry: RegistryRef, record: bytes) -> None:
    while True:
        partition = tables.find(registry).partitions[0]
        with contextlib.suppress(TableGone), partition.writing():
            partition.append(record)
            return


def _tell_keeper(context: Context, partition: Partition, what: str) -> None:
    """Tell who looks after a partition, if there is room: nothing depends on it."""
    peer = context.peer(partition.file.keeper)
    if peer is not None and not peer.outbox:
        peer.try_write(pipe.whole(context.codec.encode([wire.CAST, (what, context.pid.id)])))


def _notify(table: Table, head: tuple[str, Any], *more: Any) -> None:
    """Send an event to the listeners that are there. It waits for nobody: what finds no room waits in the outbox."""
    if not table.config:
        return
    context = current()
    what, key = head
    payload = context.codec.encode([wire.SEND, (what, table.name, key, context.pid, *more)])
    for listener in table.config:
        with contextlib.suppress(CallError):
            peer = names.find(context, listener, None, wait=False)
            if peer.id == context.id:
                context.put(payload, context.codec.decode(payload))
            else:
                context.post(peer, payload)


def _refuse_duplicate(table: Table, what: str) -> None:
    if table.kind == DUPLICATE:
        msg = f"{what} needs a registry with unique keys, and {table.name!r} has duplicate ones"
        raise ValueError(msg)


def _check_function(fun: Any, what: str, shape: str) -> None:
    if not callable(fun):
        msg = f"Registry.{what} calls {shape}, and {fun!r} is no function"
        raise TypeError(msg)


def _check_pid(pid: Any, what: str) -> None:
    if type(pid) is not Pid:
        msg = f"Registry.{what} is of one process, given by its Pid, not by {pid!r}"
        raise TypeError(msg)


def _of_via(key: Any) -> tuple[Any, Any, Any]:
    match key:
        case (registry, name):
            return registry, name, None
        case (registry, name, value):
            return registry, name, value
        case _:
            msg = f"write Via(Registry, (registry, key)) or Via(Registry, (registry, key, value)), not {key!r}"
            raise ValueError(msg)
