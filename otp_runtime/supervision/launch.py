"""Starting a supervisor of any kind: what its classes have in common, from the arguments to the data it is made of.

A supervisor's process runs library code only, so all that a user wrote (its `init`, the children's `child_spec`) runs
elsewhere first and gives data: flags and sealed specs. Without code of the user's own that is the caller; else a
throw-away process.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, cast

from otp_runtime.behaviours import gen, gen_server
from otp_runtime.behaviours.returns import Ignore
from otp_runtime.core import supervisor_messages as core
from otp_runtime.errors import BadSupervisorFlags, NoProcess
from otp_runtime.process import boot as booting
from otp_runtime.process import route, starting
from otp_runtime.process.current import current
from otp_runtime.supervision import preload
from otp_runtime.terms.pid import Global

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otp_runtime.core.child_spec import ChildSpec


def has_init(cls: type, base: type) -> bool:
    """Say whether `cls`, or a class between it and `base`, has an `init` of its own."""
    return any("init" in vars(one) for one in cls.__mro__ if one not in {base, object})


def spec_of_init(cls: type, arg: Any, kind: type) -> Any:
    """Run the `init` of a supervisor class; gives what it returned when that is a `kind`."""
    spec = cls().init(arg)
    if isinstance(spec, Ignore):
        raise booting.Ignored
    if not isinstance(spec, kind):
        raise booting.BadReturn(("bad_return", (cls.__qualname__, "init", spec)))
    return spec


def refuse_flags(cls: type, flags: dict[str, Any]) -> None:
    """Raise when flags are given to the start of a class whose `init` gives them."""
    if flags:
        msg = f"{cls.__qualname__} has init(arg), which gives the flags: {', '.join(flags)} cannot be given here"
        raise TypeError(msg)


def refuse_server_options(cls: Any, flags: Mapping[str, Any]) -> None:
    """Raise when a supervisor is given what is for servers: it runs library code only."""
    for option in ("limits", "watchdog"):
        value = flags.get(option, getattr(cls, option, None))
        if value is not None or option in flags:
            allowed = (
                f"nothing of {cls.__qualname__}, a supervisor runs no code of yours: give {option} to its children"
            )
            raise BadSupervisorFlags(option, value, allowed)


def data_of(cls: type, flags: Any, children: tuple[ChildSpec, ...], name: Any, **more: Any) -> dict[str, Any]:
    """Give all that a supervisor's process needs, as data it can read without a user's code."""
    sealed = [seal_spec(child) for child in children]
    return {"flags": flags, "specs": sealed, "name": name, "label": cls.__qualname__, **more}


def start(
    cls: Any, args: tuple[Any, ...], name: Any, make: Callable[[], dict[str, Any]], *, runs_code: bool, link: bool
) -> Any:
    """Start a supervisor and wait until all its children are.

    `make` gives its data. In a new process that is to become it, or where that `runs_code` of the user's, `make` runs
    there, reached by `cls.start_link(*args, name=name)`; else it runs in the caller, so that what is wrong is raised
    before anything starts.
    """
    gen_server.check_any_name(name)
    if booting.take_slot():
        raise booting.BecomeSupervisor(make())
    if runs_code:
        return starting.start_job(
            "start", cls.start_link, args, {"name": name}, label=cls.__qualname__, link=link, shutdown=None
        )
    data = make()
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


def start_child(sup: Any, spec: ChildSpec, kind: str) -> Any:
    """Ask a supervisor, of this node or another, to start a child; `kind` is "static" or "dynamic"."""
    there = elsewhere(sup)
    if there is not None:
        from otp_runtime.supervision import erpc

        return erpc.start_child(there, spec, kind)
    return gen.call(sup, core.StartChildRequest(seal_spec(spec)), None)


def elsewhere(sup: Any) -> Any:
    """Give the supervisor that a reference means when it is on another node, else None. Raises `NoProcess`."""
    context = current()
    if isinstance(sup, Global):
        found = route.resolve(context, sup)
        if found is None:
            raise NoProcess(sup)
        sup = found
    return sup if route.is_elsewhere(context, sup) else None


def seal_spec(spec: ChildSpec) -> ChildSpec:
    """Make the start of a spec opaque: only the new process opens it. Raises `CodecError`."""
    if isinstance(spec.start, bytes):
        return spec
    if spec.backoff is not None and spec.backoff.seed is None:
        drawn = int.from_bytes(os.urandom(4), "little")
        spec = dataclasses.replace(spec, backoff=dataclasses.replace(spec.backoff, seed=drawn))
    function, args, kwargs = cast("tuple[Any, tuple[Any, ...], dict[str, Any]]", spec.start)
    modules = preload.modules_of((function, args, kwargs)) if spec.preload == "auto" else spec.preload
    what = f"start of child {spec.id!r}"
    sealed = current().node.seal(function, args, dict(kwargs), what)
    return dataclasses.replace(spec, start=sealed, preload=modules)


def start_with(extra: bytes, start: bytes) -> Any:
    """Run a sealed start with more arguments in front, in the new process."""
    node = current().node
    _function, more, _kwargs = node.unseal(extra)
    function, args, kwargs = node.unseal(start)
    return function(*more, *args, **kwargs)


def unseal_spec(spec: ChildSpec) -> ChildSpec:
    """Undo `seal_spec`."""
    if not isinstance(spec.start, bytes):
        return spec
    function, args, kwargs = current().node.unseal(spec.start)
    return dataclasses.replace(spec, start=(function, tuple(args), kwargs), preload="auto")
