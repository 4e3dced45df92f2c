"""Who: process identifiers, references, and the other ways to name a server.

A `Pid` is the identity of a process for its whole life, also when an upgrade gives it another
operating-system process. A `Ref` is the identity of one monitor, call or timer. Both are plain
values: equal wherever they were made, sendable, printable, usable as keys.

What a `Pid` can *do* (wait, be a context manager) is done by a higher floor, which plugs itself in
with `install_pid_services`; this module knows no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeAlias, final

if TYPE_CHECKING:
    from types import TracebackType

    MaybeNone: TypeAlias = Any  # None, but hardly ever where it is used: nobody is made to ask

__all__ = [
    "Global",
    "GlobalServices",
    "Pid",
    "PidServices",
    "Ref",
    "Remote",
    "ServerRef",
    "Via",
    "install_global_services",
    "install_pid_services",
]


class PidServices(Protocol):
    """What the floor that knows processes does for a `Pid`."""

    def os_pid(self, pid: Pid) -> int | None:
        """Return the number of the OS process that is `pid` now; None when it has ended."""

    def wait(self, pid: Pid, timeout: float | None) -> Any:
        """Block until `pid` has ended and return its exit reason."""

    async def wait_async(self, pid: Pid, timeout: float | None) -> Any:
        """Return the exit reason of `pid` once it has ended; the event loop runs on."""

    def enter(self, pid: Pid) -> None:
        """Begin a `with` block on `pid`."""

    def leave(self, pid: Pid, exc: BaseException | None) -> None:
        """End a `with` block: stop `pid` and wait for it; `exc` is what the block raised."""

    async def leave_async(self, pid: Pid, exc: BaseException | None) -> None:
        """End an `async with` block, as `leave` does."""


pid_services: PidServices | None = None


def install_pid_services(services: PidServices | None) -> None:
    """Make `services` do what pids are asked for from now on; None takes them away."""
    global pid_services
    pid_services = services


@final
@total_ordering
class Pid:
    """A process: `node` (`"name@host"`), `id` on that node, `incarnation` of that node.

    Immutable, hashable, ordered by node, incarnation and id. Itself a server reference and a
    context manager: leaving the block stops the process and waits for it.

    >>> Pid("a@host", 12, 1)
    <12@a@host>
    """

    __slots__ = ("id", "incarnation", "node")

    node: str
    id: int
    incarnation: int

    def __init__(self, node: str, id: int, incarnation: int) -> None:
        set_field = object.__setattr__
        set_field(self, "node", node)
        set_field(self, "id", id)
        set_field(self, "incarnation", incarnation)

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Pid:
            return NotImplemented
        return self.id == other.id and self.incarnation == other.incarnation and self.node == other.node

    def __lt__(self, other: object) -> bool:
        if type(other) is not Pid:
            return NotImplemented
        mine = (self.node, self.incarnation, self.id)
        return mine < (other.node, other.incarnation, other.id)

    def __repr__(self) -> str:
        return f"<{self.id}@{self.node}>"

    def __reduce__(self) -> tuple[type[Pid], tuple[str, int, int]]:
        return Pid, (self.node, self.id, self.incarnation)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _refuse_change(self, name)

    def __delattr__(self, name: str) -> NoReturn:
        _refuse_change(self, name)

    @property
    def os_pid(self) -> int | MaybeNone:
        """The number of the OS process behind it now; None when it has ended or is elsewhere.

        For people and tools such as `ps`: numbers are reused, so never keep it to name a process.
        """
        return _services().os_pid(self)

    def wait(self, timeout: float | None = None) -> Any:
        """Block the caller until the process has ended; return its exit reason.

        `timeout` is seconds (default None, for ever). Raises `TimeoutError` when the process
        still runs then. Of a process long gone the reason may be `"noproc"`.
        """
        return _services().wait(self, timeout)

    async def await_(self, timeout: float | None = None) -> Any:
        """Return the exit reason once the process has ended, as `wait` does, in asyncio."""
        return await _services().wait_async(self, timeout)

    def __enter__(self) -> Self:
        _services().enter(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _services().leave(self, exc)

    async def __aenter__(self) -> Self:
        _services().enter(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _services().leave_async(self, exc)


@final
@total_ordering
class Ref:
    """A reference made by process `id` of `node` in `incarnation`: its `serial`-th.

    Immutable, hashable, ordered. Unique for as long as the node's incarnations are.

    >>> Ref("a@host", 1, 12, 7)
    #Ref<12.7@a@host>
    """

    __slots__ = ("id", "incarnation", "node", "serial")

    node: str
    incarnation: int
    id: int
    serial: int

    def __init__(self, node: str, incarnation: int, id: int, serial: int) -> None:
        set_field = object.__setattr__
        set_field(self, "node", node)
        set_field(self, "incarnation", incarnation)
        set_field(self, "id", id)
        set_field(self, "serial", serial)

    def __hash__(self) -> int:
        return hash(self.serial)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Ref:
            return NotImplemented
        return (
            self.serial == other.serial
            and self.id == other.id
            and self.incarnation == other.incarnation
            and self.node == other.node
        )

    def __lt__(self, other: object) -> bool:
        if type(other) is not Ref:
            return NotImplemented
        mine = (self.node, self.incarnation, self.id, self.serial)
        return mine < (other.node, other.incarnation, other.id, other.serial)

    def __repr__(self) -> str:
        return f"#Ref<{self.id}.{self.serial}@{self.node}>"

    def __reduce__(self) -> tuple[type[Ref], tuple[str, int, int, int]]:
        return Ref, (self.node, self.incarnation, self.id, self.serial)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _refuse_change(self, name)

    def __delattr__(self, name: str) -> NoReturn:
        _refuse_change(self, name)


class GlobalServices(Protocol):
    """What the floor that knows nodes does for `Global`."""

    def register(self, name: Any, pid: Pid) -> int | None:
        """See `Global.register`."""

    def re_register(self, name: Any, pid: Pid) -> int:
        """See `Global.re_register`."""

    def unregister(self, name: Any) -> None:
        """See `Global.unregister`."""

    def whereis(self, name: Any) -> Pid | None:
        """See `Global.whereis`."""

    def token(self, name: Any) -> int | None:
        """See `Global.token`."""

    def registered(self) -> list[Any]:
        """See `Global.registered`."""


_global_services: GlobalServices | None = None


def install_global_services(services: GlobalServices | None) -> None:
    """Make `services` do what `Global` is asked for from now on; None takes them away."""
    global _global_services
    _global_services = services


@dataclass(frozen=True, slots=True)
class Global:
    """A server by its name in the whole cluster: `Global("leader")` is a server reference, and a name to start under.

    At most one process has a name at a time. A start whose name is taken raises `AlreadyStarted(pid)`; under a
    supervisor it stands by instead, and runs `init` when the name is free: so the same tree can run on every node, and
    one of them has the server. The name of a node that is lost is free when its lease has run out.

    A claim gives a *fencing token*: a number greater than that of any owner before. A resource that refuses whoever
    comes with a smaller one than it has seen is safe from an owner that does not know yet that it is none.

    OTP: the module global. All functions raise `NoNode` where this node is in no cluster, or names are out of reach.
    """

    name: Any

    @staticmethod
    def register(name: Any, pid: Pid) -> int | None:
        """Give `pid` the global `name` (a term of at most 200 bytes); return the token, None when it is taken."""
        return _globals().register(name, pid)

    @staticmethod
    def re_register(name: Any, pid: Pid) -> int:
        """Give `pid` the global `name`, whoever had it; return the token. Who had it lives on without."""
        return _globals().re_register(name, pid)

    @staticmethod
    def unregister(name: Any) -> None:
        """Free the global `name`, whoever has it; nothing happens when nobody has."""
        _globals().unregister(name)

    @staticmethod
    def whereis(name: Any) -> Pid | None:
        """Return the process that has the global `name`, as far as this node has heard; None also of a lost node."""
        return _globals().whereis(name)

    @staticmethod
    def token(name: Any) -> int | None:
        """Return the token with which the calling process holds the global `name`; None when it does not."""
        return _globals().token(name)

    @staticmethod
    def registered() -> list[Any]:
        """Return the global names that somebody has. OTP: registered_names/0."""
        return _globals().registered()


@dataclass(frozen=True, slots=True)
class Via:
    """A server by its `key` in a `registry` (a class with `whereis_name` and its kin)."""

    registry: Any
    key: Any


@dataclass(frozen=True, slots=True)
class Remote:
    """A server by its local `name` on another `node` (`"name@host"`)."""

    name: str
    node: str


ServerRef: TypeAlias = Pid | str | Global | Via | Remote
"""Whatever names a server: a `Pid`, a local name, `Global`, `Via` or `Remote`."""


def _services() -> PidServices:
    if pid_services is None:
        message = "no runtime in this process: import otp_runtime and start something first"
        raise RuntimeError(message)
    return pid_services


def _globals() -> GlobalServices:
    if _global_services is None:
        message = "no runtime in this process: import otp_runtime and start something first"
        raise RuntimeError(message)
    return _global_services


def _refuse_change(value: object, name: str) -> NoReturn:
    message = f"{type(value).__name__} is immutable: {name} cannot be changed"
    raise AttributeError(message)
