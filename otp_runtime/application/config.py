"""The settings of an application (OTP's application environment): where they come from, and where a node keeps them.

    class attribute `env`  <  configuration file  <  environment variable  <  put_env, while it runs

The file is TOML with a table for each application, named by `config=`, or by `OTP_CONFIG`:

    [web_shop]
    port = 8080

A setting that the class or the file names is overridden by `OTP_<APP>_<KEY>`, as in `OTP_WEB_SHOP_PORT=8081`. All this
is read once, when the application is loaded, by the process that loads it. From then on the settings lie in the node's
directory, one file an application: every process of the node reads them there, without asking anybody.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

from otp_runtime.application.application import Application, name_of, resolve
from otp_runtime.core.applications import read_setting, variable_of
from otp_runtime.process import current
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otp_runtime.application.application import AppRef
    from otp_runtime.host.directory import NodeDirectory

CONFIG_VARIABLE = "OTP_CONFIG"
_plain = Codec()


# -- reading and writing -----------------------------------------------------------------------------------


def get_env(app: AppRef, key: str, default: Any = None) -> Any:
    """Give a setting, `default` when there is none. `app`: a class or a name. OTP: application:get_env/3.

    Reads the node's directory: quick, no process is asked. Of a class that is not loaded, what it would be loaded with.
    """
    try:
        return fetch_env(app, key)
    except KeyError:
        return default


def fetch_env(app: AppRef, key: str) -> Any:
    """Give a setting; KeyError when there is none. EX: Application.fetch_env!/2."""
    name = name_of(app)
    kept = _kept(name)
    if kept is None:
        found = {} if isinstance(app, str) and ":" not in app else settings_of(resolve(app))
        if key in found:
            return found[key]
    elif key in kept:
        return current.current().codec.decode(kept[key])
    raise KeyError(f"application {name!r} has no setting {key!r}" if kept is not None else _not_loaded(name, key))


def _not_loaded(name: str, key: str) -> str:
    return f"application {name!r} is not loaded, and has no setting {key!r}"


def get_all_env(app: AppRef) -> dict[str, Any]:
    """Give all settings. OTP: application:get_all_env/1."""
    kept = _kept(name_of(app))
    if kept is None:
        return {} if isinstance(app, str) and ":" not in app else settings_of(resolve(app))
    codec = current.current().codec
    return {key: codec.decode(payload) for key, payload in kept.items()}


def put_env(app: AppRef, key: str, value: Any) -> None:
    """Set a setting in the whole node, until the node ends; a class is loaded by it. OTP: application:set_env/3.

    Raises KeyError for a name that is not loaded, `CodecError` when the value cannot travel.
    """
    _change(app, "put_env", key, current.current().codec.encode(value, f"setting {key}"))


def delete_env(app: AppRef, key: str) -> None:
    """Remove a setting from the whole node. OTP: application:unset_env/2."""
    _change(app, "delete_env", key)


def _change(app: AppRef, what: str, key: str, *value: bytes) -> None:
    from otp_runtime.application import controller, operations

    name = name_of(app)
    if not isinstance(app, str) or ":" in app:
        operations.load(app)
    if not controller.ask((what, name, key, *value)):
        raise KeyError(_not_loaded(name, key))


# -- where they come from ----------------------------------------------------------------------------------


def settings_of(app: type[Application], config: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Gather the settings of an application from its class, the configuration file and the environment.

    Raises ValueError for a file or a variable that cannot be read, naming it.
    """
    settings = {**app.env, **_from_file(app.name, config)}
    for key, value in settings.items():
        variable = variable_of(app.name, key)
        if variable in os.environ:
            try:
                settings[key] = read_setting(os.environ[variable], value)
            except ValueError as error:
                raise ValueError(f"environment variable {variable}: {error}") from None
    return settings


def _from_file(name: str, config: str | os.PathLike[str] | None) -> Mapping[str, Any]:
    path = config if config is not None else os.environ.get(CONFIG_VARIABLE)
    if not path:
        return {}
    try:
        with open(path, "rb") as file:
            table: Any = tomllib.load(file).get(name, {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"the configuration file {os.fspath(path)} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not an argument's type
            f"{os.fspath(path)}: {name} is a table of settings ([{name}]), not {table!r}"
        )
    found: dict[str, Any] = table
    return found


# -- where a node keeps them -------------------------------------------------------------------------------


def keep(directory: NodeDirectory, name: str, payloads: dict[str, bytes]) -> None:
    """Write the settings of an application down. The controller alone does; a reader sees the old or the new file."""
    path = directory.settings(name)
    draft = f"{path}.new"
    with open(draft, "wb") as file:
        file.write(_plain.encode(payloads))
    os.rename(draft, path)


def _kept(name: str) -> dict[str, bytes] | None:
    node = current.node()
    if node is None or node.gone:
        return None
    try:
        with open(node.directory.settings(name), "rb") as file:
            kept: dict[str, bytes] = _plain.decode(file.read())
    except FileNotFoundError:
        return None
    return kept
