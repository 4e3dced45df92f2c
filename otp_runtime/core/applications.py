"""What the runtime decides about applications: names, the order of starts, what an end means, settings from text.

>>> start_order("shop", {"shop": ("stock", "log"), "stock": ("log",), "log": ()}.__getitem__)
['log', 'stock', 'shop']
>>> app_name("WebShop")
'web_shop'
>>> variable_of("web_shop", "port")
'OTP_WEB_SHOP_PORT'
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "START_TYPES",
    "AppInfo",
    "StartType",
    "app_name",
    "check_start_type",
    "ends_the_node",
    "is_app_name",
    "read_setting",
    "start_order",
    "variable_of",
]

A = TypeVar("A")

StartType: TypeAlias = Literal["permanent", "transient", "temporary"]
START_TYPES: Final = ("permanent", "transient", "temporary")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class AppInfo:
    """An application as the node knows it."""

    name: str
    description: str
    vsn: str


def app_name(class_name: str) -> str:
    """Give the name of an application whose class says none: its own, in lower case with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name.strip("_")).lower()


def is_app_name(name: object) -> bool:
    """Say whether an application may have this name: it becomes part of environment variables."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_start_type(type: object) -> None:
    """Refuse what is no start type."""
    if type not in START_TYPES:
        msg = f"type is 'permanent', 'transient' or 'temporary', not {type!r}"
        raise ValueError(msg)


def start_order(app: A, dependencies: Callable[[A], Iterable[A]]) -> list[A]:
    """Give `app` and all it depends on, each after what it depends on; ValueError names a circle."""
    order: list[A] = []
    _visit(app, dependencies, order, [])
    return order


def _visit(app: A, dependencies: Callable[[A], Iterable[A]], order: list[A], path: list[A]) -> None:
    if app in order:
        return
    if app in path:
        circle = " → ".join(str(getattr(one, "name", one)) for one in [*path[path.index(app) :], app])
        msg = f"applications depend on each other in a circle: {circle}"
        raise ValueError(msg)
    for dependency in dependencies(app):
        _visit(dependency, dependencies, order, [*path, app])
    order.append(app)


def ends_the_node(type: StartType, reason: object) -> bool:
    """Say whether the end of an application by itself is the end of its node (OTP's rule).

    A transient one may end `"normal"`, and nothing else: a supervisor that gives up ends `"shutdown"`.
    """
    return type == "permanent" or (type == "transient" and reason != "normal")


def variable_of(app: str, key: str) -> str:
    """Name the environment variable that sets a key of an application."""
    return f"OTP_{app}_{key}".upper()


def read_setting(text: str, like: Any) -> Any:
    """Read what an environment variable says for a setting whose value so far is `like`.

    A text stays as it is; anything else is written as in a TOML file: `8080`, `true`, `["a", "b"]`. Raises ValueError.
    """
    if isinstance(like, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if like is None:
            return text
        raise ValueError(f"{text!r} is no TOML value, and the setting is {like!r}") from None
