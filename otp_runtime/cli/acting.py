"""Commands that act on a process: `call`, `cast`, `stop`, `kill`, `upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, FAILED, CommandError, NoSuchThing, WrongUsage
from otp_runtime.core.names import ComingBack
from otp_runtime.errors import CallError, CodecError, MailboxFull, NoProcess, OtpError, ServerDown, UpgradeFailed
from otp_runtime.process import names
from otp_runtime.process import primitives as process
from otp_runtime.supervision import upgrade as upgrades
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import describe

if TYPE_CHECKING:
    import argparse

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.observe.tree import NodeView, ProcessView

KILL_SECONDS = 5.0


def call(options: argparse.Namespace) -> int:
    """Send a request and print the reply."""
    request = target.parse_request(options.request)
    directory = target.find_node(options.node)
    server = target.reference(directory, target.look(directory), options.name)
    target.join(directory)
    try:
        reply = GenServer.call(server, request, options.timeout)
    except NoProcess as error:
        raise NoSuchThing(str(error)) from error
    except CodecError as error:
        raise WrongUsage(str(error)) from error
    except Exception as error:  # noqa: BLE001 - a server may raise any exception in its caller: Reply.error
        return _failed(options, request, error)
    if options.json:
        output.print_json({"server": options.name, "request": request, "reply": reply})
    else:
        print(repr(reply))
    return DONE


def _failed(options: argparse.Namespace, request: Any, error: Exception) -> int:
    text = str(error) if isinstance(error, OtpError) else f"{type(error).__name__}: {error}"
    if not options.json:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise CommandError(f"{text}{notes}") from error
    reason = error.reason if isinstance(error, CallError) else None
    failure = {"type": type(error).__name__, "text": text, "reason": reason}
    output.print_json({"server": options.name, "request": request, "error": failure})
    return FAILED


def cast(options: argparse.Namespace) -> int:
    """Send a request that has no reply. Exit code 0 says that it lies in the mailbox, not that it was handled."""
    request = target.parse_request(options.request)
    directory = target.find_node(options.node)
    server = target.reference(directory, target.look(directory), options.name)
    target.join(directory)
    try:
        GenServer.cast(server, request)
    except CodecError as error:
        raise WrongUsage(str(error)) from error
    except MailboxFull as error:
        raise CommandError(str(error)) from error
    if options.json:
        output.print_json({"server": options.name, "request": request, "sent": True})
    return DONE


def stop(options: argparse.Namespace) -> int:
    """Ask a process to end and wait until it has; a supervisor stops its children first."""
    directory, view, one = _find(options)
    reason = "shutdown" if one.kind == "supervisor" else "normal"
    try:
        GenServer.stop(Pid(view.name, one.id, view.incarnation), reason, options.timeout)
    except NoProcess as error:
        raise NoSuchThing(str(error)) from error
    except ServerDown as error:
        raise CommandError(f"{one.title} <{one.id}> ended otherwise: {describe(error.reason)}") from error
    except CallError as error:
        raise CommandError(f"{error}; otp kill {options.name} ends it at once") from error
    return _ended(options, directory, one, reason)


def kill(options: argparse.Namespace) -> int:
    """Kill a process: it cannot refuse and cleans nothing up."""
    directory, view, one = _find(options)
    pid = Pid(view.name, one.id, view.incarnation)
    process.exit(pid, "kill")
    try:
        reason = pid.wait(KILL_SECONDS)
    except TimeoutError as error:
        raise CommandError(f"{one.title} <{one.id}> has not ended within {KILL_SECONDS:g} s") from error
    return _ended(options, directory, one, reason)


def upgrade(options: argparse.Namespace) -> int:
    """Upgrade a server, or the servers of a supervisor, to the code on disk."""
    extra = None if options.extra is None else target.parse_request(options.extra)
    _directory, view, one = _find(options)
    pid = Pid(view.name, one.id, view.incarnation)
    try:
        upgrades.upgrade(pid, extra=extra, timeout=options.timeout)
    except NoProcess as error:
        raise NoSuchThing(str(error)) from error
    except CodecError as error:
        raise WrongUsage(str(error)) from error
    except UpgradeFailed as error:
        if not options.json:
            raise CommandError(f"{one.title} <{one.id}>: {error}") from error
        output.print_json({"name": one.name, "id": one.id, "upgraded": False, "reason": error.reason})
        return FAILED
    os_pid = pid.os_pid
    if options.json:
        output.print_json({"name": one.name, "id": one.id, "upgraded": True, "os_pid": os_pid})
    elif one.kind == "supervisor":
        print(f"the servers of {one.title} <{one.id}> run the code on disk")
    else:
        print(f"{one.title} <{one.id}> runs the code on disk: OS pid {one.os_pid} → {os_pid}")
    return DONE


def _find(options: argparse.Namespace) -> tuple[NodeDirectory, NodeView, ProcessView]:
    directory = target.find_node(options.node)
    view = target.look(directory)
    one = target.find_process(directory, view, options.name)
    if one.kind in {"program", "launcher"}:
        raise CommandError(f"{one.title} <{one.id}> is no server: end the program (OS pid {view.os_pid}) instead")
    target.join(directory)
    return directory, view, one


def _ended(options: argparse.Namespace, directory: NodeDirectory, one: ProcessView, reason: Any) -> int:
    """Say what came of it; the name tells whether the supervisor is bringing the process back."""
    owner = names.owner_of(directory, one.name) if one.name else None
    returns = isinstance(owner, ComingBack) or (owner is not None and getattr(owner, "id", one.id) != one.id)
    if options.json:
        facts = {"name": one.name, "id": one.id, "os_pid": one.os_pid, "reason": reason, "coming_back": returns}
        output.print_json(facts)
    else:
        tail = "; its supervisor starts it again" if returns else ""
        print(f"{one.title} <{one.id}> ended: {describe(reason)}{tail}")
    return DONE
