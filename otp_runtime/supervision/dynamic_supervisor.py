"""DynamicSupervisor: a supervisor that starts without children and is given them one by one, thousands if need be.

What: each child is known by its pid, is restarted alone, and none has a place in an order. All are stopped at once.

    >>> from otp_runtime import Agent, DynamicSupervisor
    >>> with DynamicSupervisor.start_link() as sup:
    ...     agent = DynamicSupervisor.start_child(sup, Agent.child_spec(dict))
    ...     DynamicSupervisor.count_children(sup).active
    1

How to supervise: it is a child like any other, `DynamicSupervisor.child_spec(name="sessions")`. Its children are not
part of its spec: when it is restarted itself, it begins empty, and whoever started them starts them again.

When not to use it: children that are known from the start, or that depend on each other, belong under a `Supervisor`.
Work that ends and gives a result is a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack

from otp_runtime.behaviours import gen
from otp_runtime.core import supervisor_messages as core
from otp_runtime.core.child_spec import ChildSpec, DynamicFlags, check_dynamic_flags, coerce_child_spec
from otp_runtime.errors import BadSupervisorFlags
from otp_runtime.process import ending, starting
from otp_runtime.process.current import current
from otp_runtime.supervision import launch
from otp_runtime.supervision.supervisor import ChildCount, ChildInfo
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.terms.pid import ServerRef

    MaybeNone: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class DynamicSupervisorSpec:
    """What `DynamicSupervisor.spec` makes and `init` returns: flags, checked."""

    flags: DynamicFlags
    extra_arguments: tuple[Any, ...] = ()


class Flags(TypedDict, total=False):
    """The flags of a dynamic supervisor: see `DynamicSupervisor.start_link`."""

    strategy: Literal["one_for_one"]
    max_children: int | None
    max_restarts: int
    max_seconds: float
    auto_shutdown: Literal["never"]
    extra_arguments: tuple[Any, ...]


class DynamicSupervisor:
    """A supervisor of children that come and go: start it as it is, or subclass it and write `init(arg)`.

    It runs library code only, in an OS process of its own, and is the OS parent of its children. What one start, one
    death or one restart costs does not depend on how many children there are. OTP: simple_one_for_one; EX:
    DynamicSupervisor.
    """

    restart: ClassVar[Literal["permanent", "transient", "temporary"]] = "permanent"
    backoff: ClassVar[Backoff | None] = None
    """How long a supervisor waits before each restart; None: it does not wait."""

    # -- starting -------------------------------------------------------------------------------------------

    @classmethod
    def start_link(cls, arg: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """Start a dynamic supervisor linked to the caller; it has no children yet.

        On `DynamicSupervisor` itself only flags: `max_children` (default None: no limit), `max_restarts` (3),
        `max_seconds` (5), `strategy` (only "one_for_one"), `auto_shutdown` (only "never"), `extra_arguments` (a tuple,
        which each start function gets in front of its own arguments, at each restart too). On a subclass with `init`:
        its argument. Raises `BadSupervisorFlags` in the caller, before anything starts; `AlreadyStarted`; `InitFailed`.
        EX: DynamicSupervisor.start_link/1,3.
        """
        return cls._start(arg, name, dict(flags), link=True)

    @classmethod
    def start(cls, arg: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start_link`, linked to nobody."""
        return cls._start(arg, name, dict(flags), link=False)

    @classmethod
    async def astart_link(cls, arg: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start_link(arg, name=name, **flags))

    @classmethod
    async def astart(cls, arg: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start(arg, name=name, **flags))

    @classmethod
    def _start(cls, arg: Any, name: Any, flags: dict[str, Any], *, link: bool) -> Any:
        launch.refuse_server_options(cls, flags)
        if cls._has_init():
            launch.refuse_flags(cls, flags)
        elif arg is not None:
            msg = f"{cls.__qualname__} takes no argument and no children at its start: give them to start_child"
            raise TypeError(msg)
        return launch.start(
            cls, (arg,), name, lambda: cls._data(arg, name, flags), runs_code=cls._has_init(), link=link
        )

    @classmethod
    def _has_init(cls) -> bool:
        return launch.has_init(cls, DynamicSupervisor)

    @classmethod
    def _data(cls, arg: Any, name: Any, flags: dict[str, Any]) -> dict[str, Any]:
        spec = launch.spec_of_init(cls, arg, DynamicSupervisorSpec) if cls._has_init() else cls.spec(**flags)
        if not spec.extra_arguments:
            return launch.data_of(cls, spec.flags, (), name)
        extra = current().node.seal(launch.start_with, spec.extra_arguments, {}, "extra_arguments")
        return launch.data_of(cls, spec.flags, (), name, extra=extra)

    @staticmethod
    def spec(
        *,
        strategy: Literal["one_for_one"] = "one_for_one",
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5,
        auto_shutdown: Literal["never"] = "never",
        extra_arguments: tuple[Any, ...] = (),
    ) -> DynamicSupervisorSpec:
        """Check flags and give them as the value that `init` returns. Raises `BadSupervisorFlags`."""
        flags = DynamicFlags(max_restarts, max_seconds, max_children, strategy)
        if auto_shutdown != "never":
            raise BadSupervisorFlags("auto_shutdown", auto_shutdown, "'never': no dynamic child is significant")
        given: object = extra_arguments
        if not isinstance(given, tuple | list):
            raise BadSupervisorFlags("extra_arguments", given, "a tuple of arguments")
        return DynamicSupervisorSpec(check_dynamic_flags(flags), tuple(extra_arguments))

    @classmethod
    def child_spec(
        cls,
        arg: Any = None,
        *,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: float | Literal["brutal_kill"] | None = None,
        significant: bool = False,
        name: Any = None,
        backoff: Backoff | EllipsisType | None = ...,
        **flags: Unpack[Flags],
    ) -> ChildSpec:
        """Say how another supervisor starts this one: `start_link`'s arguments, and those of a child spec.

        `id` defaults to the local `name`, else to the class's qualified name; `shutdown` to None (for ever).
        """
        launch.refuse_server_options(cls, flags)
        keywords: dict[str, Any] = dict(flags)
        if name is not None:
            keywords["name"] = name
        if not cls._has_init():
            cls.spec(**flags)
        return ChildSpec(
            id=id if id is not None else name if isinstance(name, str) else cls.__qualname__,
            start=(cls.start_link, (arg,), keywords),
            restart=cls.restart if restart is None else restart,
            shutdown=shutdown,
            type="supervisor",
            significant=significant,
            backoff=cls.backoff if isinstance(backoff, EllipsisType) else backoff,
        )

    # -- asking ---------------------------------------------------------------------------------------------

    @staticmethod
    def start_child(sup: ServerRef, spec: Any) -> Pid | MaybeNone:
        """Start a child; gives its pid, None when it ignored (then nothing is kept of it).

        `spec`: a `ChildSpec`, `Class` or `(Class, arg)`; its id means nothing here, and `significant` must be False.
        Returns when the child's `init` has. Starts are one after another, as in Elixir. Raises `BadChildSpec` before
        anything is sent, `MaxChildren(limit)`, `AlreadyStarted(pid)` when the child's name is taken,
        `StartFailed(id, reason)`. Under a supervisor of another node as with `Supervisor.start_child`. EX:
        DynamicSupervisor.start_child/2.
        """
        return launch.start_child(sup, coerce_child_spec(spec, "never"), "dynamic")

    @staticmethod
    def terminate_child(sup: ServerRef, pid: Pid) -> None:
        """Stop the child that is `pid`, and forget it: it is not restarted. Raises `NotFound`.

        While a restart is tried again and again, the child goes by its last pid. EX: terminate_child/2.
        """
        if not isinstance(pid, Pid):
            msg = f"a dynamic supervisor knows its children by pid; terminate_child was given {pid!r}"
            raise TypeError(msg)
        gen.call(sup, core.TerminateChild(pid), None)

    @staticmethod
    def which_children(sup: ServerRef) -> list[ChildInfo]:
        """List the children, oldest process first. `id` is always None: here it means nothing. EX: which_children/1."""
        return [ChildInfo(*one) for one in gen.call(sup, core.WhichChildren(), None)]

    @staticmethod
    def count_children(sup: ServerRef) -> ChildCount:
        """Count the children; `specs` are all, those that are restarting too. EX: count_children/1."""
        return ChildCount(*gen.call(sup, core.CountChildren(), None))

    @staticmethod
    def stop(sup: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False) -> None:
        """Stop the supervisor and its children, all at once, and wait until it is gone: `GenServer.stop`."""
        ending.stop(sup, reason, timeout, missing_ok=missing_ok)
