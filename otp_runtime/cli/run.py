"""`run module:app`: an application in the foreground, from its first process to its last.

start ──► up ── wait ──┬── a signal ──► stopping, last started first ──► 0
                       │                     └── Ctrl-C again ──► killed at once ──► 1
                       ├── the root ended as it was asked to ──► 0
                       └── the root gave up ──► 4
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime import application
from otp_runtime.application.application import Application, is_library
from otp_runtime.application.config import CONFIG_VARIABLE
from otp_runtime.cli import output
from otp_runtime.cli import reloading as reloads
from otp_runtime.cli.failures import DONE, FAILED, GAVE_UP, CommandError, WrongUsage
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.errors import AlreadyStarted, NoNode, OtpError
from otp_runtime.observe.tree import observe
from otp_runtime.process import current, death
from otp_runtime.process import primitives as process
from otp_runtime.process.node import Node
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.events import Down
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import describe, is_abnormal

if TYPE_CHECKING:
    import argparse

    from otp_runtime.host.directory import NodeDirectory

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


class _Stop(BaseException):
    """Raised by the first signal, out of whatever waits."""


class _Signals:
    """What signals do: the first one stops the tree, Ctrl-C after that kills it."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.first: str | None = None
        self.killed = False

    def listen(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self.first is None:
            self.first = signal.Signals(number).name
            raise _Stop
        if number == signal.SIGINT and not self.killed:
            self.killed = True
            _kill_everything()


def perform(options: argparse.Namespace) -> int:
    """Run an application until it ends or is told to."""
    signals = _Signals()
    reloader = reloads.Reloader(os.getcwd()) if options.reload else None
    sys.path.insert(0, os.getcwd())
    _configure_logging()
    try:
        signals.listen()
        _start_node(options)
        roots = _start(options.app, options.config)
        _say(_up_line(options.app))
        if reloader is not None:
            reloader.start(roots)
        return _wait(roots)
    except _Stop:
        return _shut_down(signals)
    finally:
        with contextlib.suppress(_Stop):
            if reloader is not None:
                reloader.stop()
            Node.stop()


def _say(text: str) -> None:
    print(f"otp: {text}", flush=True)


def _configure_logging() -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
        logging.getLogger("otp_runtime.progress").setLevel(logging.WARNING)


# -- starting ----------------------------------------------------------------------------------------------------------


def _start_node(options: argparse.Namespace) -> None:
    try:
        Node.start(
            options.name,
            cluster=options.cluster,
            lease=options.lease,
            erpc=options.allow,
            tls=_read_tls(options.tls),
            credentials=_read_credentials(options.credentials),
        )
    except (NoNode, AlreadyStarted, ValueError, TypeError) as error:
        raise CommandError(str(error)) from error


def _read_tls(words: str | None) -> dict[str, str] | None:
    """Read `ca=FILE,cert=FILE,key=FILE`; which of them there may be `Node.start` knows."""
    if words is None:
        return None
    parts = [word.partition("=") for word in words.split(",")]
    if not all(equals and path for _name, equals, path in parts):
        raise WrongUsage(f"--tls is ca=FILE,cert=FILE,key=FILE, not {words!r}")
    return {name.strip(): path for name, _equals, path in parts}


def _read_credentials(path: str | None) -> tuple[str, str] | str | None:
    """Read a file of `user:password`: arguments and environments of processes are seen by others."""
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the credentials cannot be read: {error}") from error
    if "-----BEGIN" in text:
        return path
    user, colon, password = text.strip("\r\n").partition(":")
    if not (user and colon and password) or "\n" in password:
        raise WrongUsage(f"{path} is no NATS credentials file, and not one line user:password")
    return user, password


def _start(app: str, config: str | None) -> list[Pid]:
    """Start what `module:app` names; give the roots."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = config
    before = set(_started())
    thing = _load(app)
    try:
        made = _start_thing(app, thing)
    except OtpError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise CommandError(f"{app} did not start: {error}{notes}") from error
    roots = made or sorted(set(_started()) - before)
    if not roots:
        raise WrongUsage(f"{app} started nothing")
    return roots


def _load(app: str) -> Any:
    module_name, colon, path = app.partition(":")
    if not (module_name and colon and path):
        raise WrongUsage(f"{app!r} is not module:app, as in shop:app")
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise WrongUsage(f"there is no module {error.name}, neither here ({os.getcwd()}) nor installed") from error
    for part in path.split("."):
        if not hasattr(thing, part):
            raise WrongUsage(f"{module_name} has no {path}")
        thing = getattr(thing, part)
    return thing


def _start_thing(app: str, thing: Any) -> list[Pid]:
    """Start whatever an app may be; an empty list when a function started something itself and did not say what."""
    match thing:
        case Pid():
            return [thing]
        case type() if issubclass(thing, Application):
            return _start_application(app, thing)
        case type() if issubclass(thing, Supervisor):
            return _started_or_raise(app, thing.start_link())
        case ChildSpec():
            return _supervise([thing])
        case list() | tuple():
            return _supervise(list(thing))
        case type() if hasattr(thing, "child_spec"):
            return _supervise([thing])
        case _ if callable(thing):
            made = thing()
            return [] if made is None else _start_thing(app, made)
        case _:
            allowed = (
                "an Application, a ChildSpec, a list of children, a Supervisor subclass, "
                "or a function that gives or starts one"
            )
            raise WrongUsage(f"{app} is {type(thing).__name__}; allowed: {allowed}")


def _start_application(app: str, thing: type[Application]) -> list[Pid]:
    """Start an application and all it needs, permanent: when one of them ends, so does this command."""
    if is_library(thing):
        raise WrongUsage(f"{app} is an application without a process: it has no start(type, args)")
    try:
        started = application.ensure_all_started(thing, "permanent")
    except ValueError as error:
        # settings that cannot be read, a circle: nothing was started
        raise CommandError(f"{app} did not start: {error}") from error
    return [pid for name in started if (pid := application.get_supervisor(name)) is not None]


def _supervise(children: list[Any]) -> list[Pid]:
    return [Supervisor.start_link(children, strategy="one_for_one")]


def _started_or_raise(app: str, pid: Pid | None) -> list[Pid]:
    if pid is None:
        raise CommandError(f"{app} chose not to start (its init gave Ignore)")
    return [pid]


def _started() -> list[Pid]:
    context = current.current()
    return [context.pid_of(process_id) for process_id in context.node.started]


def _up_line(app: str) -> str:
    view = observe(_directory(), memory=False)
    number = output.count(len(view.tree), "process", "processes")
    return f"{app} is up on node {view.name}: {number}; Ctrl-C stops it"


# -- waiting -----------------------------------------------------------------------------------------------------------


def _wait(roots: list[Pid]) -> int:
    """Wait until all roots have ended; give the exit code."""
    try:
        verdict = _watch(roots)
    except NoNode as error:
        verdict = f"the tree is gone with its node: {error}"
    if verdict is None:
        _say("the application has ended")
        return DONE
    print(f"otp: {verdict}", file=sys.stderr, flush=True)
    return GAVE_UP


def _watch(roots: list[Pid]) -> str | None:
    """Wait until all roots have ended or one gave up; say how it did."""
    waiting = {process.monitor_started(pid): pid for pid in roots}
    while waiting:
        down = process.receive(lambda message: isinstance(message, Down) and message.ref in waiting)
        verdict = _verdict(waiting.pop(down.ref), down.reason)
        if verdict is not None:
            return verdict
    return None


def _verdict(pid: Pid, reason: Any) -> str | None:
    """Say how a root gave up; None when it ended as it was asked to."""
    record = death.why(pid)
    if record is not None and record.context == "shutdown":
        restart = record.restart or {}
        return (
            f"the tree gave up: {record.server} {pid} saw {restart.get('n')} restarts in {restart.get('seconds')} s, "
            f"{restart.get('of')} are allowed"
        )
    return f"the tree gave up: its root {pid} ended: {describe(reason)}" if is_abnormal(reason) else None


# -- stopping ----------------------------------------------------------------------------------------------------------


def _shut_down(signals: _Signals) -> int:
    """Stop the roots in reverse order of their start, each supervisor its children likewise, then the node."""
    number = 0
    with contextlib.suppress(OSError):
        number = len(observe(_directory(), memory=False).tree)
    what = output.count(number, "process", "processes")
    _say(f"{signals.first}: stopping {what}, last started first; Ctrl-C kills them at once")
    Node.stop()
    _say("killed" if signals.killed else "stopped")
    return FAILED if signals.killed else DONE


def _kill_everything() -> None:
    """Kill all processes of the tree, then the launcher, with which the node ends."""
    with contextlib.suppress(OSError):
        for one in sorted(observe(_directory(), memory=False).processes, key=lambda one: one.kind == "launcher"):
            if one.kind != "program" and one.os_pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.os_pid, signal.SIGKILL)


def _directory() -> NodeDirectory:
    node = current.node()
    if node is None:
        msg = "the node has ended"
        raise FileNotFoundError(msg)
    return node.directory
