"""`trace NAME`: every event of a server in this terminal, as it happens, over restarts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import system
from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, CommandError, NoSuchThing
from otp_runtime.core.names import is_name
from otp_runtime.errors import CallError, NoNode, OtpError
from otp_runtime.process import current, names
from otp_runtime.process import primitives as process
from otp_runtime.terms.events import Down
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import describe

if TYPE_CHECKING:
    import argparse

_STYLES = {"in": "cyan", "out": "green", "terminate": "red"}


def trace(options: argparse.Namespace) -> int:
    """Print the events of a server until Ctrl-C, `--count` events, or its end."""
    directory = target.find_node(options.node)
    view = target.look(directory)
    one = target.find_process(directory, view, options.name)
    if one.kind in {"program", "launcher"}:
        raise CommandError(f"{one.title} <{one.id}> is no server and has no events")
    target.join(directory)
    pid = Pid(view.name, one.id, view.incarnation)
    try:
        return _follow(options, pid, (one.name or "") if is_name(options.name) else "")
    except KeyboardInterrupt:
        return DONE
    except NoNode as error:
        raise NoSuchThing(f"the node has ended: {error}") from error


def _follow(options: argparse.Namespace, pid: Pid, name: str) -> int:
    left = options.count
    while True:
        ref = _watch(options, pid)
        while left is None or left > 0:
            match process.receive():
                case (system.WATCHED, dict() as said):
                    _show(options, said)
                    left = None if left is None else left - 1
                case Down(ref=gone, reason=reason) if gone == ref:
                    _tell(options, {"event": "down", "server": name or repr(pid), "reason": describe(reason)})
                    break
        else:
            system.watch(pid, process.self(), flag=False)
            return DONE
        if not name:
            return DONE
        try:
            pid = names.find(current.current(), name, None).pid
        except CallError:
            return DONE


def _watch(options: argparse.Namespace, pid: Pid) -> Any:
    ref = process.monitor(pid)
    try:
        system.watch(pid, process.self(), timeout=options.timeout)
    except CallError as error:
        if error.reason == "timeout":
            raise CommandError(f"{error}; --timeout gives it more time") from error
    except OtpError as error:
        raise CommandError(str(error)) from error
    else:
        _tell(options, {"event": "tracing", "server": repr(pid)})
    return ref


def _show(options: argparse.Namespace, said: dict[str, Any]) -> None:
    if said["dropped"]:
        _tell(options, {"event": "dropped", "count": said["dropped"]})
    if options.json:
        print(output.as_json(said), flush=True)
        return
    paint = output.Painter()
    print(f"{paint(output.clock(said['at']), 'dim')} {paint(said['text'], _STYLES.get(said['event'], ''))}", flush=True)


def _tell(options: argparse.Namespace, fact: dict[str, Any]) -> None:
    """Say what is no event of the server's."""
    if options.json:
        print(output.as_json(fact), flush=True)
        return
    match fact:
        case {"event": "tracing", "server": server}:
            text = f"tracing {server}; Ctrl-C ends it"
        case {"event": "down", "server": server, "reason": reason}:
            text = f"{server} ended: {reason}"
        case _:
            text = f"{output.count(fact['count'], 'event')} dropped: this terminal was too slow"
    print(output.Painter()(f"{output.clock(time.time())} {text}", "dim"), flush=True)
