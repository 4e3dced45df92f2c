"""Who looks after a partition of a registry: makes its file, clears up after processes that died, keeps locks."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply
from otp_runtime.core import registry as core
from otp_runtime.core.locks import ask, give_back
from otp_runtime.core.names import check_name
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.registry import table as tables
from otp_runtime.registry.table import DUPLICATE, UNIQUE
from otp_runtime.terms.events import Down
from otp_runtime.terms.pid import Global

if TYPE_CHECKING:
    from collections.abc import Hashable

    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.core.locks import Locks
    from otp_runtime.terms.pid import Ref

KINDS: Final = {"unique": UNIQUE, "duplicate": DUPLICATE}
MAX_PARTITIONS: Final = 64
DESCRIPTORS_PER_PROCESS: Final = 4


class Keeper(GenServer[Any]):
    """Looks after one partition: makes its file, and clears up after processes that died.

    But for locks it is asked nothing. Who registers tells it once to watch; when that finds no room, or nobody, the
    entries of the dead are still not shown, and go when the log is written anew.
    """

    _label: ClassVar[str] = "Registry.Partition"

    def init(self, arg: Any, /) -> Any:
        """Take over the partition that is there, or make it, and watch who is in it."""
        name, number, kind, partitions, listeners = arg
        context = current()
        value = context.codec.encode(listeners)
        self.partition = tables.adopt_or_create(
            context,
            name,
            number,
            owner=context.parent,
            kind=kind,
            partitions=partitions,
            log=core.config(value),
            adopt=lambda entries: entries.config() == listeners,
        )
        self.watched: dict[int, Ref] = {}
        self.locks: Locks[Client[Any]] = {}
        self.asking: dict[Ref, tuple[Hashable, Client[Any]]] = {}
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS_PER_PROCESS // 2
        with self.partition.writing():
            self.partition.tidy()
        for process_id in list(self.partition.entries.of):
            self._watch(process_id)

    def _watch(self, process_id: int) -> None:
        # without descriptors to spare it is not watched: its entries go when the log is written anew
        if process_id not in self.watched and len(self.watched) < self.most:
            self.watched[process_id] = process.monitor(current().pid_of(process_id))

    def handle_call(self, request: Any, client: Client[Any], state: Any, /) -> Any:
        """Let a caller have a lock as soon as it is free; who dies gives it back."""
        match request:
            case ("lock", key):
                index = core.canonical(key)
                self.asking[process.monitor(client.pid)] = index, client
                self.locks, granted = ask(self.locks, index, client)
                self._grant(granted)
                return NoReply(state)
            case _:
                return super().handle_call(request, client, state)

    def _unlock(self, ref: Ref) -> None:
        index, client = self.asking.pop(ref)
        self.locks, granted = give_back(self.locks, index, client)
        self._grant(granted)

    def _grant(self, client: Client[Any] | None) -> None:
        if client is not None:
            gen.reply(client, None)

    def handle_cast(self, request: Any, state: Any, /) -> Any:
        """Hear that a process has its first entry, or no more; that one gives a lock back."""
        match request:
            case ("unlock", key, pid):
                # the latest: who waits no longer asked last, and one holder is as good as the other
                mine = [
                    ref for ref, (index, one) in self.asking.items() if (index, one.pid) == (core.canonical(key), pid)
                ]
                if mine:
                    process.demonitor(mine[-1], flush=True)
                    self._unlock(mine[-1])
            case ("watch", process_id):
                self._watch(process_id)
            case ("unwatch", process_id):
                self.partition.refresh()
                if process_id in self.watched and process_id not in self.partition.entries.of:
                    process.demonitor(self.watched.pop(process_id), flush=True)
        return NoReply(state)

    def handle_info(self, message: Any, state: Any, /) -> Any:
        """Remove the entries of one that died."""
        if isinstance(message, Down) and message.ref in self.asking:
            self._unlock(message.ref)
        elif isinstance(message, Down):
            self.watched.pop(message.pid.id, None)
            # on a full disk it stays in the log a while longer
            with contextlib.suppress(OSError), self.partition.writing() as entries:
                self.partition.append(entries.without(message.pid.id, self.partition.keeps))
        return NoReply(state)


# -- starting ----------------------------------------------------------------------------------------------


def children(keys: Any, name: Any, partitions: Any, listeners: Iterable[str]) -> list[ChildSpec]:
    """Check the arguments of a start, and give the keepers."""
    if keys not in ("unique", "duplicate"):
        msg = f"a registry's keys are 'unique' or 'duplicate', not {keys!r}"
        raise ValueError(msg)
    if isinstance(name, Global):
        msg = (
            f"a registry has a local name, a str, not {name!r}: each node has one of its own. For one process in the "
            "whole cluster name that Global(...); for many on all nodes use pg"
        )
        raise TypeError(msg)
    check_name(name)
    if type(partitions) is not int or not 1 <= partitions <= MAX_PARTITIONS:
        msg = f"a registry has 1 to {MAX_PARTITIONS} partitions, not {partitions!r}"
        raise ValueError(msg)
    heard = check_listeners(listeners)
    return [
        Keeper.child_spec((name, number, KINDS[keys], partitions, heard), id=number) for number in range(partitions)
    ]


def check_listeners(listeners: Iterable[str]) -> list[str]:
    """Check that listeners are local names."""
    if isinstance(listeners, str):
        msg = f"listeners are a list of local names; write listeners=[{listeners!r}]"
        raise TypeError(msg)
    if not isinstance(listeners, Iterable):
        msg = f"listeners are a list of local names, not {listeners!r}"
        raise TypeError(msg)
    return [check_name(listener) for listener in listeners]
