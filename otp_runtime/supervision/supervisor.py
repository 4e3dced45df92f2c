"""Supervisor: a process that starts its children, watches them and restarts them by OTP's policies."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack, cast

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.overridable import overridable
from otp_runtime.core import supervisor_messages as core
from otp_runtime.core.child_spec import (
    ChildSpec,
    SupervisorFlags,
    check_child_specs,
    check_flags,
    coerce_child_spec,
)
from otp_runtime.process import ending, starting
from otp_runtime.supervision import launch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.core.child_spec import AutoShutdown, Strategy
    from otp_runtime.terms.pid import Pid, ServerRef

    MaybeNone: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child of a supervisor: `pid` is None when it is stopped, "restarting" while a restart is tried again."""

    id: Any
    pid: Pid | Literal["restarting"] | None
    type: Literal["worker", "supervisor"]


@dataclass(frozen=True, slots=True)
class ChildCount:
    """How many children a supervisor has: `specs` in all, `active` with a process, and by type."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """What `Supervisor.spec` makes and `init` returns: flags and children, checked."""

    flags: SupervisorFlags
    children: tuple[ChildSpec, ...]


class Flags(TypedDict, total=False):
    """The flags of a supervisor: see `Supervisor.start_link`."""

    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown


class Supervisor:
    """A supervisor: give it children and a strategy, or subclass it and write `init(arg)`.

    It runs library code only, in an OS process of its own, and is the OS parent of its children: the kernel's process
    tree is the supervision tree. `init` runs in a throw-away process and its spec comes back as data.

    >>> from otp_runtime import Agent, Supervisor
    >>> with Supervisor.start_link([Agent.child_spec(dict, name="store")], strategy="one_for_one") as sup:
    ...     Supervisor.count_children(sup).active
    1
    """

    restart: ClassVar[Literal["permanent", "transient", "temporary"]] = "permanent"
    backoff: ClassVar[Backoff | None] = None
    """How long a supervisor waits before each restart; None: it does not wait."""

    # -- starting -------------------------------------------------------------------------------------------

    @overridable
    def start_link(cls, children: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """Start a supervisor linked to the caller, and all its children, in order, before it returns.

        On `Supervisor` itself: `children` is a list of `ChildSpec`, `Class` or `(Class, arg)`; flags are `strategy`
        ("one_for_one", "one_for_all", "rest_for_one"), `max_restarts` (3), `max_seconds` (5), `auto_shutdown`
        ("never", "any_significant", "all_significant"). On a subclass: the only argument is `init`'s.

        Raises `SpecError` in the caller, before anything starts, when a spec or a flag is wrong; `AlreadyStarted`;
        `InitFailed(("shutdown", ("failed_to_start_child", id, reason)))` when a child cannot start: everything
        started before it is stopped again. OTP: supervisor:start_link/2,3.
        """
        return cls._start(children, name, dict(flags), link=True)

    @classmethod
    def start(cls, children: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start_link`, linked to nobody."""
        return cls._start(children, name, dict(flags), link=False)

    @classmethod
    async def astart_link(cls, children: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start_link`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start_link(children, name=name, **flags))

    @classmethod
    async def astart(cls, children: Any = None, *, name: Any = None, **flags: Unpack[Flags]) -> Pid | MaybeNone:
        """As `start`, without blocking the event loop of the caller."""
        return await starting.in_event_loop(lambda: cls.start(children, name=name, **flags))

    @classmethod
    def _start(cls, children: Any, name: Any, flags: dict[str, Any], *, link: bool) -> Any:
        launch.refuse_server_options(cls, flags)
        if cls._has_init():
            launch.refuse_flags(cls, flags)
        return launch.start(
            cls,
            (children,),
            name,
            lambda: cls._data(children, name, flags),
            runs_code=cls._has_init(),
            link=link,
        )

    @classmethod
    def _has_init(cls) -> bool:
        return launch.has_init(cls, Supervisor)

    @classmethod
    def _data(cls, children: Any, name: Any, flags: dict[str, Any]) -> dict[str, Any]:
        spec = launch.spec_of_init(cls, children, SupervisorSpec) if cls._has_init() else cls.spec(children, **flags)
        return launch.data_of(cls, spec.flags, spec.children, name)

    @staticmethod
    def spec(
        children: Iterable[Any],
        *,
        strategy: Strategy,
        max_restarts: int = 3,
        max_seconds: float = 5,
        auto_shutdown: AutoShutdown = "never",
    ) -> SupervisorSpec:
        """Check children and flags and give them as the value that `init` returns. Raises `SpecError`."""
        flags = check_flags(SupervisorFlags(strategy, max_restarts, max_seconds, auto_shutdown))
        return SupervisorSpec(flags, check_child_specs(children, auto_shutdown))

    @overridable
    def child_spec(
        cls,
        children: Any = None,
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
            children = [coerce_child_spec(child) for child in children]
            cls.spec(children, **cast("Any", flags))
        return ChildSpec(
            id=id if id is not None else name if isinstance(name, str) else cls.__qualname__,  # type: ignore[attr-defined]
            start=(cls.start_link, (children,), keywords),
            restart=cls.restart if restart is None else restart,
            shutdown=shutdown,
            type="supervisor",
            significant=significant,
            backoff=cls.backoff if isinstance(backoff, EllipsisType) else backoff,
        )

    # -- asking ---------------------------------------------------------------------------------------------

    @staticmethod
    def which_children(sup: ServerRef) -> list[ChildInfo]:
        """List the children, last started first. OTP: supervisor:which_children/1."""
        return [ChildInfo(*one) for one in gen.call(sup, core.WhichChildren(), None)]

    @staticmethod
    def count_children(sup: ServerRef) -> ChildCount:
        """Count the children. OTP: supervisor:count_children/1."""
        return ChildCount(*gen.call(sup, core.CountChildren(), None))

    @staticmethod
    def get_childspec(sup: ServerRef, id: Any) -> ChildSpec:
        """Give the spec of child `id`; raises `NotFound`. OTP: supervisor:get_childspec/2."""
        return launch.unseal_spec(gen.call(sup, core.GetChildspec(id), None))

    @staticmethod
    def start_child(sup: ServerRef, spec: Any) -> Pid | MaybeNone:
        """Add a child, last in the order, and start it; gives its pid, None when it ignored.

        Raises `BadChildSpec` before anything is sent, `AlreadyStarted(pid)`, `AlreadyPresent`,
        `StartFailed(id, reason)`. Under a supervisor of another node the spec travels as data, its functions by name,
        and that node has to allow those (`Node.start(..., erpc=…)`): else `NotAllowed`. OTP: supervisor:start_child/2.
        """
        return launch.start_child(sup, coerce_child_spec(spec), "static")

    @staticmethod
    def terminate_child(sup: ServerRef, id: Any) -> None:
        """Stop child `id` and keep its spec (a temporary one's goes). Raises `NotFound`. OTP: terminate_child/2."""
        gen.call(sup, core.TerminateChild(id), None)

    @staticmethod
    def restart_child(sup: ServerRef, id: Any) -> Pid | None:
        """Start a stopped child again. Raises `NotFound`, `Running`, `Restarting`, `StartFailed`."""
        return gen.call(sup, core.RestartChild(id), None)  # type: ignore[no-any-return]

    @staticmethod
    def delete_child(sup: ServerRef, id: Any) -> None:
        """Forget a stopped child. Raises `NotFound`, `Running`, `Restarting`. OTP: supervisor:delete_child/2."""
        gen.call(sup, core.DeleteChild(id), None)

    @staticmethod
    def stop(sup: ServerRef, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False) -> None:
        """Stop the supervisor and its children, last started first, and wait until it is gone: `GenServer.stop`."""
        ending.stop(sup, reason, timeout, missing_ok=missing_ok)
