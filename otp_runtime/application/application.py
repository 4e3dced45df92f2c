"""Application: the class that says what a tree is called, what it needs, how it starts and stops."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from otp_runtime.core.applications import app_name, is_app_name

if TYPE_CHECKING:
    from otp_runtime.terms.pid import Pid


class Application:
    """A tree of processes with a name, settings, and other applications that must run before it.

    Subclass it, set class attributes, and write `start`; then `application.ensure_all_started(Shop)`, or
    `otp run shop:Shop`. All callbacks run in a process of the application's own, its *master*, which is the parent of
    the top supervisor.

    >>> from otp_runtime import Agent, Application, Supervisor, application
    >>> class Shop(Application):
    ...     env = {"apples": 3}
    ...     def start(self, type, args):
    ...         apples = application.get_env(Shop, "apples")
    ...         return Supervisor.start_link([Agent.child_spec(lambda: apples, name="stock")], strategy="one_for_one")
    >>> application.ensure_all_started(Shop)
    ['shop']
    >>> Agent.get("stock", lambda apples: apples)
    3
    >>> application.stop(Shop)
    """

    name: ClassVar[str] = ""
    """Lower case letters, digits and underscores; default: the class's name in that form (`WebShop` is `web_shop`)."""

    description: ClassVar[str] = ""
    vsn: ClassVar[str] = ""

    applications: ClassVar[tuple[AppRef, ...]] = ()
    """What must run before this one: classes, or `"module:Class"`."""

    included_applications: ClassVar[tuple[AppRef, ...]] = ()
    """What this one starts itself, as part of its own tree: they are loaded with it, not started."""

    env: ClassVar[Mapping[str, Any]] = {}
    """The settings and their defaults; a configuration file and environment variables override them."""

    args: ClassVar[Any] = None
    """What `start` is given."""

    start_phases: ClassVar[tuple[tuple[str, Any], ...]] = ()
    """`(phase, args)` for each call of `start_phase` after `start`; included applications join in theirs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what cannot work, saying what to write instead."""
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = app_name(cls.__name__)
        if not is_app_name(cls.name):
            msg = f"{cls.__qualname__}.name is lower case letters, digits and underscores, not {cls.name!r}"
            raise TypeError(msg)
        for field in ("applications", "included_applications"):
            listed = getattr(cls, field)
            if not isinstance(listed, tuple | list) or not all(_is_reference(one) for one in listed):
                msg = f"{cls.__qualname__}.{field} is a tuple of Application classes or 'module:Class', not {listed!r}"
                raise TypeError(msg)
        if not isinstance(cls.env, Mapping) or not all(isinstance(key, str) for key in cls.env):
            msg = f"{cls.__qualname__}.env is a mapping of names (str) to values, not {cls.env!r}"
            raise TypeError(msg)
        if not inspect.isfunction(cls.start) or inspect.iscoroutinefunction(cls.start):
            msg = f"{cls.__qualname__}.start is a method (self, type, args), and not an async one"
            raise TypeError(msg)

    def start(self, type: Any, args: Any, /) -> Pid | tuple[Pid, Any]:
        """Start the top supervisor and give its pid, or `(pid, state)` with what `prep_stop` and `stop` are given.

        `type` is `"normal"`. An exception ends the start: `InitFailed(reason)` in whoever asked for it. Left out, the
        application has no process: it is started as soon as what it needs is.
        """
        raise NotImplementedError

    def start_phase(self, phase: str, type: Any, args: Any, /) -> None:
        """Do one of `start_phases`, after the whole tree has started."""

    def prep_stop(self, state: Any, /) -> Any:
        """Prepare for the stop, while the tree still runs; gives the state for `stop`. Not called when it fell."""
        return state

    def stop(self, state: Any, /) -> None:
        """Clean up, when the tree has ended, of whatever."""


AppRef: TypeAlias = type[Application] | str


def is_library(app: type[Application]) -> bool:
    """Say whether an application has no process of its own."""
    return app.start is Application.start


def _is_reference(one: Any) -> bool:
    if isinstance(one, str):
        return one.count(":") == 1
    return isinstance(one, type) and issubclass(one, Application)


def resolve(app: AppRef) -> type[Application]:
    """Give the class that a reference means; `"module:Class"` is imported. Raises TypeError for anything else."""
    found: Any = app
    if isinstance(app, str) and app.count(":") == 1:
        module, _, path = app.partition(":")
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Application) and found is not Application):
        msg = f"{app!r} is no Application: give a subclass of it, or 'module:Class'"
        raise TypeError(msg)
    return found


def name_of(app: AppRef) -> str:
    """Give the name that a reference means: a class's, or a name that is given as one."""
    if isinstance(app, str) and is_app_name(app):
        return app
    return resolve(app).name
