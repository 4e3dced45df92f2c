"""PartitionSupervisor: one child many times over, so that one process is not everybody's bottleneck.

What: n copies of a child under one supervisor; a key says which of them is meant, always the same one.

    >>> from otp_runtime import Agent, PartitionSupervisor, Via
    >>> with PartitionSupervisor.start_link(Agent.child_spec(dict), partitions=4, name="counts"):
    ...     counts = Via(PartitionSupervisor, ("counts", "user:1"))
    ...     Agent.update(counts, lambda held: {**held, "user:1": 1})
    ...     Agent.get(counts, len)
    1

Client and server: a caller computes the partition itself, from the key and the number of partitions in the
supervisor's black box, and finds it by its local name `counts/2`. So the supervisor is not asked.

When not to use it: where the work needs one order or one state for all keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypedDict, Unpack, cast, overload

from otp_runtime.behaviours import gen_server
from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags, check_flags, coerce_child_spec
from otp_runtime.core.names import check_name
from otp_runtime.core.partition import digest_of, partition_of
from otp_runtime.errors import BadChildSpec, BadSupervisorFlags, NoProcess
from otp_runtime.process import boot as booting
from otp_runtime.process import ending, names, starting
from otp_runtime.process.current import current
from otp_runtime.supervision import launch
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import Strategy
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context
    from otp_runtime.supervision.supervisor import ChildCount, ChildInfo
    from otp_runtime.terms.pid import ServerRef

    MaybeNone: TypeAlias = Any


class Options(TypedDict, total=False):
    """The options of a partition supervisor: see `PartitionSupervisor.start_link`."""

    partitions: int | None
    strategy: Strategy
    max_restarts: int
    max_seconds: float
    with_arguments: Callable[[tuple[Any, ...], int], Any] | None


class PartitionSupervisor:
    """A supervisor of n copies of one child, named by `Via(PartitionSupervisor, (name, key))`. EX: the same."""

    restart: ClassVar[Literal["permanent", "transient", "temporary"]] = "permanent"
    backoff: ClassVar[Backoff | None] = None
    """How long a supervisor waits before each restart; None: it does not wait."""

    # -- starting -------------------------------------------------------------------------------------------

    @classmethod
    def start_link(cls, child: Any, *, name: Any, **options: Unpack[Options]) -> Pid | MaybeNone:
        """Start copies of `child`, linked to the caller, in order; their ids are their numbers from 0 on.

        `child`: a `ChildSpec`, `Class` or `(Class, arg)`. `name`, which it must have: a local name, or `Via` or
        `Global`. `partitions`: 1 or more (default: the processors this program may use). `strategy` ("one_for_one"),
        `max_restarts` (3), `max_seconds` (5): as `Supervisor`. `with_arguments(args, i)`, called in the caller, gives
        the arguments for partition i, a tuple like `args`, those in the child's spec (a child of a supervisor calls
        it in the new process). A copy has the local name `name/i`, so its start must not give another one.
        Raises `BadChildSpec`, `BadSupervisorFlags`, `AlreadyStarted`, `InitFailed`. EX: start_link/1.
        """
        return cls._start(child, name, dict(options), link=True)

    @classmethod
    def start(cls, child: Any, *, name: Any, **options: Unpack[Options]) -> Pid | MaybeNone:
        """As `start_link`, linked to nobody."""
        return cls._start(child, name, dict(options), link=False)

    @classmethod
    async def astart_link(cls, child: Any, *, name: Any, **options: Unpack[Options]) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start_link(child, name=name, **options))

    @classmethod
    async def astart(cls, child: Any, *, name: Any, **options: Unpack[Options]) -> Pid | MaybeNone:
        """As `start`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start(child, name=name, **options))

    @classmethod
    def _start(cls, child: Any, name: Any, options: dict[str, Any], *, link: bool) -> Any:
        launch.refuse_server_options(cls, options)
        _check_name(name)
        return launch.start(cls, (child,), name, lambda: _data(cls, child, name, **options), runs_code=False, link=link)

    @classmethod
    def child_spec(
        cls,
        child: Any,
        *,
        name: Any,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: float | Literal["brutal_kill"] | None = None,
        significant: bool = False,
        backoff: Backoff | EllipsisType | None = ...,
        **options: Unpack[Options],
    ) -> ChildSpec:
        """Say how another supervisor starts this one: `start_link`'s arguments, and those of a child spec.

        `id` defaults to `name`; `shutdown` to None (for ever). What is wrong with child or options is raised here.
        """
        launch.refuse_server_options(cls, options)
        _check_name(name)
        given = coerce_child_spec(child)
        _flags(**_only_flags(options))
        _partitions(options.get("partitions"), name)
        _check_with_arguments(options.get("with_arguments"))
        return ChildSpec(
            id=name if id is None else id,
            start=(cls.start_link, (given,), {**options, "name": name}),
            restart=cls.restart if restart is None else restart,
            shutdown=shutdown,
            type="supervisor",
            significant=significant,
            backoff=cls.backoff if isinstance(backoff, EllipsisType) else backoff,
        )

    # -- asking ---------------------------------------------------------------------------------------------

    @staticmethod
    def partitions(name: ServerRef) -> int:
        """Say how many partitions there are. Raises `NoProcess`. EX: partitions/1.

        The supervisor is asked only if it is on another node.
        """
        peer = names.find(current(), name, None)
        return _count(name, peer.box.partitions) if peer.relay is None else len(_partitions_of(name))

    @staticmethod
    def which_children(name: ServerRef) -> list[ChildInfo]:
        """List the partitions, the last one first; the id of each is its number. EX: which_children/1."""
        return Supervisor.which_children(name)

    @staticmethod
    def count_children(name: ServerRef) -> ChildCount:
        """Count the partitions. EX: count_children/1."""
        return Supervisor.count_children(name)

    @staticmethod
    def stop(
        name: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False
    ) -> None:
        """Stop the supervisor and its partitions, the last one first, and wait until it is gone: `GenServer.stop`."""
        ending.stop(name, reason, timeout, missing_ok=missing_ok)

    # -- as a registry --------------------------------------------------------------------------------------

    @overload
    @staticmethod
    def whereis_name(key: tuple[str, Any]) -> str: ...

    @overload
    @staticmethod
    def whereis_name(key: tuple[Any, Any]) -> str | Pid | None: ...

    @staticmethod
    def whereis_name(key: tuple[Any, Any]) -> str | Pid | None:
        """Give the local name of the partition for `(name, key)`: what `Via` asks.

        An int belongs to partition `abs(key) % partitions`; any other data to one that a hash says, the same in every
        process. A supervisor of another node (`Global`, `Remote`, a pid) is asked for the partition's pid, with every
        use. Raises `NoProcess` when there is no such supervisor, `TypeError` for a key that is no data.
        """
        name, term = _pair(key)
        supervisor = names.find(current(), name, None, wait=False)
        if supervisor.relay is not None:
            there = _partitions_of(name)
            return there[partition_of(term, len(there))]
        return _name_of(name, partition_of(term, _count(name, supervisor.box.partitions)))

    @staticmethod
    def is_coming_back(key: tuple[Any, Any]) -> bool:
        """Say whether somebody is bringing back the supervisor for `(name, key)`: a call then waits for it."""
        name, _term = _pair(key)
        context = current()
        try:
            # it may be back since whoever asks looked; something else by that name is not waited for
            peer = names.find(context, name, None, wait=False)
            return peer.relay is None and peer.box.partitions > 0
        except NoProcess:
            with contextlib.suppress(NoProcess):
                return names.is_coming_back(context, name)
            return False

    @staticmethod
    def check_key(key: tuple[Any, Any]) -> NoReturn:
        """Refuse, in whoever starts a process: partitions are named by their supervisor alone. EX: likewise."""
        msg = f"{key!r}: a process cannot be named via PartitionSupervisor, only found; it needs another name"
        raise TypeError(msg)

    @staticmethod
    def register_name(key: tuple[Any, Any], pid: Pid) -> NoReturn:  # noqa: ARG004 - the shape of a registry
        """Refuse as `check_key` does."""
        PartitionSupervisor.check_key(key)


def _pair(key: Any) -> tuple[Any, Any]:
    try:
        name, term = key
    except (TypeError, ValueError):
        msg = f"Via(PartitionSupervisor, (name, key)) needs a pair, not {key!r}"
        raise TypeError(msg) from None
    return name, term


def _partitions_of(name: Any) -> dict[int, Pid | None]:
    """Ask a supervisor of another node for its partitions."""
    children = {child.id: child.pid for child in Supervisor.which_children(name)}
    if not children or set(children) != set(range(len(children))):
        raise NoProcess(name, detail="what has this name is no PartitionSupervisor")
    return {number: pid if isinstance(pid, Pid) else None for number, pid in children.items()}


def _count(name: Any, partitions: int) -> int:
    if not partitions:
        raise NoProcess(name, detail="what has this name is no PartitionSupervisor")
    return partitions


def _name_of(name: Any, number: int) -> str:
    """Give the local name of a partition."""
    return f"{name if isinstance(name, str) else digest_of(name)}/{number}"


# -- the children ------------------------------------------------------------------------------------------


def _data(
    cls: type, child: Any, name: Any, *, partitions: int | None = None, with_arguments: Any = None, **flags: Any
) -> dict[str, Any]:
    checked = _flags(**flags)
    count = _partitions(partitions, name)
    _check_with_arguments(with_arguments)
    spec = coerce_child_spec(child, "never")
    if isinstance(spec.start, tuple) and isinstance(spec.start[2].get("name"), str):
        allowed = f"no local name: partition i is {_name_of(name, 0)[:-1]}i"
        raise BadChildSpec("start", spec.start[2]["name"], allowed)
    copies = tuple(_copy(spec, number, _name_of(name, number), with_arguments) for number in range(count))
    return launch.data_of(cls, checked, copies, name, partitions=count)


def _copy(spec: ChildSpec, number: int, name: str, with_arguments: Any) -> ChildSpec:
    """Make the spec of one partition: its start takes the partition's name and goes on as the child's."""
    if with_arguments is not None:
        function, args, kwargs = cast("tuple[Any, tuple[Any, ...], dict[str, Any]]", spec.start)
        made = with_arguments(tuple(args), number)
        if not isinstance(made, tuple | list):
            allowed = "a function of (args, partition) that gives a tuple of arguments"
            raise BadChildSpec("with_arguments", made, allowed)
        spec = dataclasses.replace(spec, start=(function, tuple(made), kwargs))
    sealed = launch.seal_spec(spec)
    return dataclasses.replace(sealed, id=number, start=(_start_partition, (name, bytes(sealed.start)), {}))  # type: ignore[arg-type]


def _start_partition(name: str, start: bytes) -> Any:
    """Run a child's start in its new process; the server that it reaches gets the partition's name beside its own."""
    function, args, kwargs = current().node.unseal(start)
    try:
        return function(*args, **kwargs)
    except booting.Become as server:
        run = server.run
        raise booting.Become(lambda context, boot: _run_named(context, boot, name, run)) from None
    except booting.BecomeSupervisor as supervisor:
        supervisor.data["partition"] = name
        raise


def _run_named(context: Context, boot: Boot, name: str, run: Callable[[Context, Boot], Any]) -> Any:
    # one that succeeds another is to have its name, and has it when it is that process
    failed = None if boot.succession is not None else booting.take_name(context, boot, name)
    return run(context, boot) if failed is None else failed[0]


# -- checks ------------------------------------------------------------------------------------------------


def _check_name(name: Any) -> None:
    if name is None:
        msg = "a PartitionSupervisor needs a name: a str, Via(registry, key) or Global(name)"
        raise TypeError(msg)
    gen_server.check_any_name(name)


def _partitions(partitions: Any, name: Any) -> int:
    count = len(os.sched_getaffinity(0)) if partitions is None else partitions
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadSupervisorFlags("partitions", partitions, "an integer of 1 or more, or None: one per processor")
    check_name(_name_of(name, count - 1))
    return count


def _check_with_arguments(with_arguments: Any) -> None:
    if with_arguments is not None and not callable(with_arguments):
        allowed = "a function of (args, partition) that gives a tuple of arguments"
        raise BadChildSpec("with_arguments", with_arguments, allowed)


def _only_flags(options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in {"partitions", "with_arguments"}}


def _flags(*, strategy: Strategy = "one_for_one", max_restarts: int = 3, max_seconds: float = 5) -> SupervisorFlags:
    return check_flags(SupervisorFlags(strategy, max_restarts, max_seconds))
