"""Child specifications and supervisor flags: their fields, defaults and checks.

A `ChildSpec` says how a supervisor starts one child, when it starts it again, and how it
stops it. Making one checks nothing, so that it can be built, stored and sent freely; the
checks run in the process that hands it to a supervisor, before anything is started:

>>> check_child_spec(ChildSpec("a", start=(dict, (), {}), significant=1))
Traceback (most recent call last):
    ...
otp_runtime.errors.BadChildSpec: bad spec of child 'a': significant=1; allowed: True or False

The functions here raise `BadChildSpec`, `DuplicateChild` or `BadSupervisorFlags`; each error
carries the field, the value that was given and the values that are allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from otp_runtime.core.backoff import Backoff
from otp_runtime.errors import BadChildSpec, BadSupervisorFlags, DuplicateChild

__all__ = [
    "DEFAULT_WORKER_SHUTDOWN",
    "AutoShutdown",
    "ChildSpec",
    "ChildType",
    "DynamicFlags",
    "Restart",
    "Shutdown",
    "Start",
    "Strategy",
    "SupervisorFlags",
    "check_child_spec",
    "check_child_specs",
    "check_dynamic_flags",
    "check_flags",
    "coerce_child_spec",
    "is_seconds",
]

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Shutdown: TypeAlias = float | Literal["brutal_kill"] | None
ChildType: TypeAlias = Literal["worker", "supervisor"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
Preload: TypeAlias = Literal["auto"] | tuple[str, ...]
# A sealed start is bytes that only the child opens: the supervisor runs library code only.
Start: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]] | bytes | bytearray | memoryview

DEFAULT_WORKER_SHUTDOWN: Final = 5.0

_RESTARTS: Final = ("permanent", "transient", "temporary")
_TYPES: Final = ("worker", "supervisor")
_STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")
_AUTO_SHUTDOWNS: Final = ("never", "any_significant", "all_significant")


class _ByType:
    """The missing `shutdown`: the default depends on the type of the child."""

    def __repr__(self) -> str:
        return "by type"


_BY_TYPE: Final = cast("float", _ByType())


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child.

    Attributes:
        id: Names the child within its supervisor; any hashable term.
        start: `(callable, args, kwargs)`, called in the new process; or the same as sealed
            bytes, which nobody but the new process opens.
        restart: `"permanent"` (after every end), `"transient"` (after an abnormal end) or
            `"temporary"` (never, and the spec is forgotten when the child ends).
        shutdown: Seconds that the child has after the exit signal `"shutdown"` before it is
            killed; None waits for ever; `"brutal_kill"` kills at once. Default 5.0 for a
            worker, None for a supervisor.
        type: `"worker"` or `"supervisor"`.
        significant: Its own end may stop the supervisor (see `auto_shutdown`).
        preload: Modules that the supervisor imports ahead: `"auto"` finds those that define
            the child, a tuple of module names gives them, `()` means none.
        backoff: How long to wait before each restart: a `Backoff`; None does not wait.
        spare: Processes that the supervisor keeps forked ahead, so that a start or a restart does not
            wait for a fork. They are the supervisor's and serve all its children; the largest
            `spare` of them counts. Default 0. Each costs some four megabytes.
    """

    id: Any
    start: Start
    restart: Restart = "permanent"
    shutdown: Shutdown = _BY_TYPE
    type: ChildType = "worker"
    significant: bool = False
    preload: Preload = "auto"
    backoff: Backoff | None = None
    spare: int = 0

    def __post_init__(self) -> None:
        """Put the default of `shutdown` in place, so that nobody else meets its absence."""
        given: object = self.shutdown
        if isinstance(given, _ByType):
            default = None if self.type == "supervisor" else DEFAULT_WORKER_SHUTDOWN
            object.__setattr__(self, "shutdown", default)


@dataclass(frozen=True, slots=True)
class SupervisorFlags:
    """How a supervisor reacts to the end of its children.

    Attributes:
        strategy: `"one_for_one"`, `"one_for_all"` or `"rest_for_one"`.
        max_restarts: Restarts survived within `max_seconds`; one more ends the supervisor.
        max_seconds: Length of that window in seconds.
        auto_shutdown: `"never"`, or stop when `"any_significant"` child or the last of
            `"all_significant"` children ended by itself.
    """

    strategy: Strategy
    max_restarts: int = 3
    max_seconds: float = 5
    auto_shutdown: AutoShutdown = "never"


@dataclass(frozen=True, slots=True)
class DynamicFlags:
    """How a dynamic supervisor reacts to the end of its children, and how many it takes.

    Attributes:
        max_restarts: Restarts survived within `max_seconds`; one more ends the supervisor.
        max_seconds: Length of that window in seconds.
        max_children: Children it has at most, those that are restarting included; None means
            no limit.
        strategy: Only `"one_for_one"`.
    """

    max_restarts: int = 3
    max_seconds: float = 5
    max_children: int | None = None
    strategy: Literal["one_for_one"] = "one_for_one"


def check_child_spec(spec: ChildSpec, auto_shutdown: AutoShutdown | None = None) -> ChildSpec:
    """Return `spec` when every field of it is allowed.

    Args:
        spec: The specification.
        auto_shutdown: That flag of the supervisor it is meant for, to refuse a significant
            child under `"never"`; None when the supervisor is not known.

    Raises:
        BadChildSpec: With the first field that is wrong, its value and what is allowed.
    """
    _check_id(spec.id)
    try:
        _check_start(spec.start)
        _check_one_of("restart", spec.restart, _RESTARTS)
        _check_one_of("type", spec.type, _TYPES)
        _check_shutdown(spec.shutdown)
        _check_significant(spec, auto_shutdown)
        _check_preload(spec.preload)
        _check_spare(spec)
        _check_backoff(spec.backoff)
    except BadChildSpec as error:
        raise BadChildSpec(error.field, error.value, error.allowed, spec.id) from None
    return spec


def coerce_child_spec(child: object, auto_shutdown: AutoShutdown | None = None) -> ChildSpec:
    """Make a checked `ChildSpec` of whatever a children list may hold.

    Args:
        child: A `ChildSpec`, a class that has `child_spec()`, or `(class, arg)`, which calls
            `class.child_spec(arg)`.
        auto_shutdown: As for `check_child_spec`.

    Raises:
        BadChildSpec: When it is none of these, or a field is wrong.
    """
    match child:
        case ChildSpec():
            return check_child_spec(child, auto_shutdown)
        case type():
            made = _child_spec_of(child, child)
        case (type() as cls, arg):
            made = _child_spec_of(child, cls, arg)
        case _:
            raise _bad_child(child)
    if not isinstance(made, ChildSpec):
        raise BadChildSpec("child_spec()", made, "a ChildSpec")
    return check_child_spec(made, auto_shutdown)


def check_child_specs(children: Iterable[object], auto_shutdown: AutoShutdown | None = None) -> tuple[ChildSpec, ...]:
    """Make checked specs of a children list, in its order.

    Raises:
        BadChildSpec: When one of them is wrong.
        DuplicateChild: When two have the same id.
    """
    if isinstance(children, (str, bytes, ChildSpec, type)) or not isinstance(children, Iterable):
        raise BadChildSpec("children", children, "a list of children")
    specs = tuple(coerce_child_spec(child, auto_shutdown) for child in children)
    seen: set[object] = set()
    for spec in specs:
        if spec.id in seen:
            raise DuplicateChild(spec.id)
        seen.add(spec.id)
    return specs


def check_flags(flags: SupervisorFlags) -> SupervisorFlags:
    """Return `flags` when every field of them is allowed.

    Raises:
        BadSupervisorFlags: With the first field that is wrong, its value and what is allowed.
    """
    if not _is_one_of(flags.strategy, _STRATEGIES):
        raise BadSupervisorFlags("strategy", flags.strategy, _either(_STRATEGIES))
    _check_intensity(flags)
    if not _is_one_of(flags.auto_shutdown, _AUTO_SHUTDOWNS):
        raise BadSupervisorFlags("auto_shutdown", flags.auto_shutdown, _either(_AUTO_SHUTDOWNS))
    return flags


def check_dynamic_flags(flags: DynamicFlags) -> DynamicFlags:
    """Return `flags` when every field of them is allowed.

    Raises:
        BadSupervisorFlags: With the first field that is wrong, its value and what is allowed.
    """
    strategy: object = flags.strategy
    if not _is_one_of(strategy, ("one_for_one",)):
        raise BadSupervisorFlags("strategy", strategy, "'one_for_one': dynamic children have no order")
    _check_intensity(flags)
    if flags.max_children is not None and (not _is_integer(flags.max_children) or flags.max_children < 0):
        raise BadSupervisorFlags("max_children", flags.max_children, "an integer of 0 or more, or None for no limit")
    return flags


def is_seconds(value: object) -> bool:
    """Whether `value` is a length of time: a finite int or float of 0 or more, no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value >= 0


def _check_intensity(flags: SupervisorFlags | DynamicFlags) -> None:
    if not _is_integer(flags.max_restarts) or flags.max_restarts < 0:
        raise BadSupervisorFlags("max_restarts", flags.max_restarts, "an integer of 0 or more")
    if not is_seconds(flags.max_seconds) or flags.max_seconds == 0:
        raise BadSupervisorFlags("max_seconds", flags.max_seconds, "seconds above 0")


def _check_id(child_id: object) -> None:
    if child_id is None:
        raise BadChildSpec("id", child_id, "a hashable term, as a str or a tuple of str; None names nobody")
    try:
        hash(child_id)
    except TypeError:
        allowed = "a hashable term, as a str or a tuple of str"
        raise BadChildSpec("id", child_id, allowed) from None


def _check_start(start: object) -> None:
    match start:
        case bytes() | bytearray() | memoryview():
            return
        case (function, tuple(), Mapping()) if callable(function) and isinstance(start, tuple):
            return
        case _:
            raise BadChildSpec("start", start, "(callable, args tuple, kwargs dict)")


def _check_shutdown(shutdown: object) -> None:
    if shutdown is None or shutdown == "brutal_kill" or is_seconds(shutdown):
        return
    raise BadChildSpec("shutdown", shutdown, "seconds of 0 or more, None or 'brutal_kill'")


def _check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown | None) -> None:
    if not isinstance(spec.significant, bool):
        raise BadChildSpec("significant", spec.significant, "True or False")
    if not spec.significant:
        return
    if spec.restart == "permanent":
        allowed = "False for a permanent child: it is always restarted, so it never ends for good"
        raise BadChildSpec("significant", spec.significant, allowed)
    if auto_shutdown == "never":
        allowed = "False under auto_shutdown='never'"
        raise BadChildSpec("significant", spec.significant, allowed)


def _check_preload(preload: object) -> None:
    if isinstance(preload, tuple) and all(isinstance(name, str) and name for name in preload):
        return
    if preload != "auto":
        raise BadChildSpec("preload", preload, "'auto' or a tuple of module names")


def _check_spare(spec: ChildSpec) -> None:
    if not _is_integer(spec.spare) or spec.spare < 0:
        raise BadChildSpec("spare", spec.spare, "an integer of 0 or more: processes kept forked ahead")
    if spec.spare and spec.type == "supervisor":
        raise BadChildSpec("spare", spec.spare, "0 for a supervisor: only its own children can come from a spare")


def _check_backoff(backoff: object) -> None:
    if backoff is None:
        return
    if not isinstance(backoff, Backoff):
        raise BadChildSpec("backoff", backoff, "None or Backoff(first, factor, cap, jitter)")
    seed: object = backoff.seed
    if not is_seconds(backoff.first) or backoff.first == 0:
        raise BadChildSpec("backoff.first", backoff.first, "seconds above 0")
    if not is_seconds(backoff.factor) or backoff.factor < 1:
        raise BadChildSpec("backoff.factor", backoff.factor, "a number of 1 or more")
    if not is_seconds(backoff.cap) or backoff.cap < backoff.first:
        raise BadChildSpec("backoff.cap", backoff.cap, f"seconds, {backoff.first:g} or more, as `first` is that")
    if not is_seconds(backoff.jitter) or backoff.jitter > 1:
        raise BadChildSpec("backoff.jitter", backoff.jitter, "a fraction from 0 to 1")
    if seed is not None and not _is_integer(seed):
        raise BadChildSpec("backoff.seed", seed, "an integer, or None for any")


def _check_one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if not _is_one_of(value, allowed):
        raise BadChildSpec(field, value, _either(allowed))


def _child_spec_of(child: object, cls: type, *args: object) -> object:
    make = getattr(cls, "child_spec", None)
    if not callable(make):
        raise _bad_child(child)
    return make(*args)


def _bad_child(child: object) -> BadChildSpec:
    allowed = "a ChildSpec, a class with child_spec(), or (class, arg)"
    return BadChildSpec("child", child, allowed)


def _is_one_of(value: object, allowed: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in allowed


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _either(allowed: tuple[str, ...]) -> str:
    return " or ".join(repr(value) for value in allowed)
