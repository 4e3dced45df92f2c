"""Starting and stopping applications: OTP's module `application`, run in the caller."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.application import controller
from otp_runtime.application.application import is_library, name_of, resolve
from otp_runtime.application.config import settings_of
from otp_runtime.behaviours.server_loop import serve
from otp_runtime.core.applications import AppInfo, check_start_type, start_order
from otp_runtime.errors import AlreadyStarted, NotStarted
from otp_runtime.process.current import current
from otp_runtime.process.starting import start_job

if TYPE_CHECKING:
    import os

    from otp_runtime.application.application import Application, AppRef
    from otp_runtime.core.applications import StartType
    from otp_runtime.terms.pid import Pid

    Config = str | os.PathLike[str] | None


def load(app: AppRef, *, config: Config = None) -> bool:
    """Make an application and its settings known to the node; say whether it was not before. OTP: application:load/1.

    `config`: a TOML file (default: what `OTP_CONFIG` names). What it includes is loaded with it. Starting loads.
    """
    loaded = False
    for one in reversed(start_order(resolve(app), lambda each: map(resolve, each.included_applications))):
        settings = settings_of(one, config)
        codec = current().codec
        payloads = {key: codec.encode(value, f"{one.name}: setting {key}") for key, value in settings.items()}
        is_new = controller.ask(("load", AppInfo(one.name, one.description, one.vsn), payloads))
        loaded = loaded or (is_new and one is resolve(app))
    return loaded


def start(app: AppRef, type: StartType = "temporary", *, config: Config = None) -> Pid | None:
    """Start an application and wait until its tree is up; gives its top supervisor's pid. OTP: application:start/2.

    Its `start` runs in a process of its own. `type` says what it means when it ends by itself: of a `"permanent"` one
    the node goes down, of a `"transient"` one unless the reason is `"normal"` (a supervisor that gives up ends
    `"shutdown"`), a `"temporary"` one is only reported. None for an application without a process.

    Raises `AlreadyStarted(pid)`; `NotStarted(name)` when one that it needs is not started (`ensure_all_started` starts
    them); `InitFailed(reason)` when its `start` failed, and nothing of it is left.
    """
    check_start_type(type)
    cls = resolve(app)
    load(cls, config=config)
    needs = tuple(resolve(one).name for one in cls.applications)
    while True:
        match controller.ask(("begin", cls.name, type, needs)):
            case "go":
                return _start(cls)
            case ("running", supervisor):
                raise AlreadyStarted(supervisor)
            case ("not_started", name):
                raise NotStarted(name)
            case _:
                pass  # another's start, or a stop, was under way and has ended: ask again


def _start(cls: type[Application]) -> Pid | None:
    if is_library(cls):
        controller.ask(("up", cls.name, None))
        return None
    from otp_runtime.application.master import Master
    from otp_runtime.process import primitives as process

    parent = process.whereis(controller.NAME)
    try:
        start_job(
            "start",
            serve,
            (Master, cls, None, {}),
            {},
            label=f"application {cls.name}",
            link=False,
            shutdown=None,
            program=0,
            parent=None if parent is None else parent.id,
        )
    except BaseException:
        controller.ask(("failed", cls.name))
        raise
    return get_supervisor(cls)


def ensure_all_started(app: AppRef, type: StartType = "temporary", *, config: Config = None) -> list[str]:
    """Start an application after all that it needs, each unless it runs already; gives the names of those started now.

    When one fails, those started now are stopped again, and its error is raised. ValueError for applications that need
    each other in a circle. OTP: application:ensure_all_started/2.
    """
    check_start_type(type)
    started: list[str] = []
    try:
        for one in start_order(resolve(app), lambda each: map(resolve, each.applications)):
            with contextlib.suppress(AlreadyStarted):
                start(one, type, config=config)
                started.append(one.name)
    except BaseException:
        for name in reversed(started):
            with contextlib.suppress(NotStarted):
                stop(name)
        raise
    return started


def stop(app: AppRef) -> None:
    """Stop an application and wait until all of it has ended; what it needed stays up. OTP: application:stop/1.

    `prep_stop` runs, then its top supervisor stops with reason `"shutdown"`, then `stop` runs. Whatever its type, the
    node stays. Raises `NotStarted`.
    """
    name = name_of(app)
    if controller.ask(("stop", name)) is not True:
        raise NotStarted(name)


def which_applications() -> list[AppInfo]:
    """List the applications that run, in the order of their start. OTP: application:which_applications/0."""
    found: list[AppInfo] = controller.ask(("list", "running"))
    return found


started_applications = which_applications
"""Elixir's name for `which_applications`."""


def loaded_applications() -> list[AppInfo]:
    """List all applications that are loaded, started or not. OTP: application:loaded_applications/0."""
    found: list[AppInfo] = controller.ask(("list",))
    return found


def get_supervisor(app: AppRef) -> Pid | None:
    """Give the top supervisor of an application that runs; None when it does not. OTP: application:get_supervisor/1."""
    found: Any = controller.ask(("supervisor", name_of(app)))
    return found  # type: ignore[no-any-return]
