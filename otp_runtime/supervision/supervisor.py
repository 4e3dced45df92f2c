"""Supervisor: a process that starts its children, watches them and restarts them by OTP's policies."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack, cast

from otp_runtime.behaviours import gen, gen_server
from otp_runtime.behaviours.returns import Ignore
from otp_runtime.core import messages as wire
from otp_runtime.core import supervision as core
from otp_runtime.core.child_spec import (
    ChildSpec,
    SupervisorFlags,
    check_child_specs,
    check_flags,
    coerce_child_spec,
)
from otp_runtime.errors import AlreadyRegistered, CodecError, OtpError
from otp_runtime.host import box as boxes
from otp_runtime.process import boot as booting
from otp_runtime.process import ending, names, starting
from otp_runtime.process.context import ExitSignal
from otp_runtime.process.current import current
from otp_runtime.supervision import preload
from otp_runtime.supervision.children import Performer, job_of_children
from otp_runtime.terms.events import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from otp_runtime.core.child_spec import AutoShutdown, Strategy
    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context
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

    # -- starting -------------------------------------------------------------------------------------------

    @classmethod
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
        gen_server.check_any_name(name)
        if booting.take_slot():
            raise booting.BecomeSupervisor(cls._data(children, name, flags))
        if cls._has_init():
            if flags:
                msg = (
                    f"{cls.__qualname__} has init(arg), which gives the flags: {', '.join(flags)} cannot be given here"
                )
                raise TypeError(msg)
            return starting.start_job(
                "start", cls.start_link, (children,), {"name": name}, label=cls.__qualname__, link=link, shutdown=None
            )
        data = cls._data(children, name, flags)
        return starting.start_job(
            "supervisor",
            None,
            (),
            {},
            label=data["label"],
            link=link,
            name=name if isinstance(name, str) else "",
            shutdown=None,
            body=current().codec.encode(data),
        )

    @classmethod
    def _has_init(cls) -> bool:
        return (
            "init"
            in {key for base in cls.__mro__ if base is not Supervisor for key in vars(base)} - vars(object).keys()
        )

    @classmethod
    def _data(cls, children: Any, name: Any, flags: dict[str, Any]) -> dict[str, Any]:
        """Give all that a supervisor's process needs, as data it can read without a user's code."""
        if cls._has_init():
            spec = cls().init(children)  # type: ignore[attr-defined]
            if isinstance(spec, Ignore):
                raise booting.Ignored
            if not isinstance(spec, SupervisorSpec):
                raise booting.BadReturn(("bad_return", (cls.__qualname__, "init", spec)))
        else:
            spec = cls.spec(children, **flags)
        sealed = [seal_spec(child) for child in spec.children]
        return {"flags": spec.flags, "specs": sealed, "name": name, "label": cls.__qualname__}

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

    @classmethod
    def child_spec(
        cls,
        children: Any = None,
        *,
        id: Any = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: float | Literal["brutal_kill"] | None = None,
        significant: bool = False,
        name: Any = None,
        **flags: Unpack[Flags],
    ) -> ChildSpec:
        """Say how another supervisor starts this one: `start_link`'s arguments, and those of a child spec.

        `id` defaults to the local `name`, else to the class's qualified name; `shutdown` to None (for ever).
        """
        keywords: dict[str, Any] = dict(flags)
        if name is not None:
            keywords["name"] = name
        if not cls._has_init():
            children = [coerce_child_spec(child) for child in children]
            cls.spec(children, **cast("Any", flags))
        return ChildSpec(
            id=id if id is not None else name if isinstance(name, str) else cls.__qualname__,
            start=(cls.start_link, (children,), keywords),
            restart=cls.restart if restart is None else restart,
            shutdown=shutdown,
            type="supervisor",
            significant=significant,
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
        return unseal_spec(gen.call(sup, core.GetChildspec(id), None))

    @staticmethod
    def start_child(sup: ServerRef, spec: Any) -> Pid | None:
        """Add a child, last in the order, and start it; gives its pid, None when it ignored.

        Raises `BadChildSpec` before anything is sent, `AlreadyStarted(pid)`, `AlreadyPresent`,
        `StartFailed(id, reason)`. OTP: supervisor:start_child/2.
        """
        sealed = seal_spec(coerce_child_spec(spec))
        return gen.call(sup, core.StartChildRequest(sealed), None)  # type: ignore[no-any-return]

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


def seal_spec(spec: ChildSpec) -> ChildSpec:
    """Make the start of a spec opaque: only the new process opens it. Raises `CodecError`."""
    if isinstance(spec.start, bytes):
        return spec
    function, args, kwargs = cast("tuple[Any, tuple[Any, ...], dict[str, Any]]", spec.start)
    modules = preload.modules_of((function, args, kwargs)) if spec.preload == "auto" else spec.preload
    what = f"start of child {spec.id!r}"
    sealed = current().node.seal(function, args, dict(kwargs), what)
    return dataclasses.replace(spec, start=sealed, preload=modules)


def unseal_spec(spec: ChildSpec) -> ChildSpec:
    """Undo `seal_spec`."""
    if not isinstance(spec.start, bytes):
        return spec
    function, args, kwargs = current().node.unseal(spec.start)
    return dataclasses.replace(spec, start=(function, tuple(args), kwargs), preload="auto")


# -- the process -------------------------------------------------------------------------------------------


def serve(context: Context, boot: Boot, data: dict[str, Any]) -> Any:
    """Be a supervisor: the entry of a process that runs library code only. Gives the exit reason."""
    context.set_trap_exit(True)
    context.box.label = data["label"]
    if data["name"] is not None:
        try:
            names.register_any(context, data["name"])
        except AlreadyRegistered as error:
            boot.say("error", ("already_started", error.pid))
            return "normal"
    specs = tuple(data["specs"])
    preload.preload_dill(f"{context.directory.path}/defs", (spec.start for spec in specs))
    preload.preload(name for spec in specs for name in spec.preload)
    performer = Performer(context, core.initial(data["flags"], specs), job_of_children(context), serve)
    performer.feed(core.Begin())
    return _loop(context, boot, performer)


def _loop(context: Context, boot: Boot, performer: Performer) -> Any:
    ready = False
    while True:
        performer.perform()
        if performer.ended is not None:
            break
        if performer.started and not ready:
            ready = True
            context.box.set_flag(boxes.READY)
            boot.say("ok")
        entry = context.next_message()
        if entry is not None:
            _handle(context, performer, entry[1])
        elif performer.has_retries:
            # a retry goes through the queue: what was asked meanwhile comes first
            context.pump(0)
            if not context.inbox:
                performer.take_retry()
        else:
            with contextlib.suppress(ExitSignal):
                context.pump(None)
        if context.doomed is not None:
            return context.doomed[0]
    reason = performer.ended[0]
    boot.say("error", reason)
    return reason


def _handle(context: Context, performer: Performer, envelope: wire.Envelope) -> None:
    match envelope:
        case [
            wire.CALL,
            caller,
            serial,
            core.WhichChildren()
            | core.CountChildren()
            | core.GetChildspec()
            | core.StartChildRequest()
            | core.TerminateChild()
            | core.RestartChild()
            | core.DeleteChild() as request,
        ]:
            performer.feed(core.Asked((caller, serial), request))
        case [wire.CALL, caller, serial, request]:
            error = OtpError(f"{performer.who()} is a supervisor and does not understand {request!r}")
            gen.send_reply(context, caller, serial, wire.RAISE, error)
        case [wire.SEND, Exit(pid=pid, reason=reason)]:
            if pid.id == context.parent:
                performer.feed(core.StopRequested(reason))
        case [wire.SYSTEM, caller, serial, request]:
            _system(context, performer, caller, serial, request)
        case _:
            context.node.warn(f"{performer.who()} is a supervisor and ignored the message {envelope[-1]!r:.200}")


def _system(context: Context, performer: Performer, caller: int, serial: int, request: Any) -> None:
    match request:
        case ("terminate", reason):
            gen.send_reply(context, caller, serial, wire.VALUE, None)
            performer.feed(core.StopRequested(reason))
        case "get_state" | "get_status":
            status = {
                "pid": context.pid,
                "name": context.box.name or None,
                "module": context.box.label,
                "status": "running",
                "strategy": performer.state.flags.strategy,
                "max_restarts": performer.state.flags.max_restarts,
                "max_seconds": performer.state.flags.max_seconds,
                "auto_shutdown": performer.state.flags.auto_shutdown,
                "restarts": len(performer.state.restarts),
                "children": [(child.spec.id, child.pid, child.spec.type) for child in performer.state.children],
            }
            with contextlib.suppress(CodecError):
                gen.send_reply(context, caller, serial, wire.VALUE, status)
        case _:
            error = OtpError(f"{request!r} is no system message that a supervisor knows")
            gen.send_reply(context, caller, serial, wire.RAISE, error)
