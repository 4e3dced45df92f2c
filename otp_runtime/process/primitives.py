"""What `otp_runtime.process` offers: the primitives that everything above is made of."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.core.names import Held
from otp_runtime.core.patterns import compile_pattern
from otp_runtime.errors import AlreadyRegistered, CallTimeout, NoProcess, ReceiveTimeout, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.process import links, names, returning, route
from otp_runtime.process import node as _node
from otp_runtime.process.context import ExitSignal
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.starting import start_job
from otp_runtime.process.timers import Timer, cancel_timer, local_peer, read_timer, send_after, start_timer
from otp_runtime.terms.events import Down, Exit
from otp_runtime.terms.pid import Pid, Ref, Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer

_ = _node  # a program's first use starts its node


def self() -> Pid:
    """Give the pid of the process that runs here: a server's, or this thread's of the program."""
    return current().pid


# -- spawn -------------------------------------------------------------------------------------------------


def spawn(fun: Callable[..., Any], /, *args: Any) -> Pid:
    """Run `fun(*args)` in a new process and give its pid at once.

    The process ends `"normal"` when `fun` returns, with `Crash` when it raises. `fun` may be a lambda or a closure.
    """
    return _spawn(fun, args, link=False)


def spawn_link(fun: Callable[..., Any], /, *args: Any) -> Pid:
    """As `spawn`, linked to this process from the first instant."""
    return _spawn(fun, args, link=True)


def _spawn(fun: Callable[..., Any], args: tuple[Any, ...], *, link: bool) -> Pid:
    pid: Pid = start_job("plain", fun, args, {}, label=_label(fun), link=link)
    return pid


def spawn_monitor(fun: Callable[..., Any], /, *args: Any) -> tuple[Pid, Ref]:
    """As `spawn`, monitored from the first instant: its `Down` comes with the reference given."""
    pid = spawn(fun, *args)
    return pid, monitor_started(pid)


def _label(fun: Any) -> str:
    return str(getattr(fun, "__qualname__", None) or type(fun).__qualname__)


# -- messages ----------------------------------------------------------------------------------------------


def send(dest: Any, message: Any, timeout: float | None = 5.0) -> None:
    """Send `message` to `dest`, a server reference.

    To a dead pid it is dropped silently; an unknown name is `NoProcess`, as in OTP. Waits for room in a full mailbox
    up to `timeout` seconds, then raises `MailboxFull`. A term that cannot be encoded is `CodecError`, here.
    """
    context = current()
    payload = context.pack([wire.SEND, message], message, "message")
    try:
        peer = reach(context, dest)
    except NoProcess:
        if not returning.leave(context, dest, payload, timeout):
            raise
        return
    if peer is not None:
        deliver(context, peer, payload, timeout)
        if peer.missed:
            returning.follow(context, dest, peer, payload, timeout)


def reach(context: Context, dest: Any) -> Peer | None:
    """Give the peer behind `dest`; None for a dead pid or a lost node; raises `NoProcess` for an unknown name."""
    if type(dest) is Pid:
        return context.peer(context.key_of(dest))
    if type(dest) is Remote and dest.node != context.node.name:
        return context.peer(dest)
    return names.find(context, dest, None, wait=False)


def deliver(context: Context, peer: Peer, payload: bytes, timeout: float | None) -> None:
    """Write a message that its receiver's overflow policy may refuse."""
    if peer.id == context.id:
        context.send_to_self(bytes(payload))  # a copy of what may be the sender's own memory
        return
    deadline = None if timeout is None else poller.now() + timeout
    context.transmit(peer, payload, deadline, policy=peer.policy)


def receive(match: Any = None, timeout: float | None = None) -> Any:
    """Take the first message, oldest first, that fits the pattern `match`; wait for one otherwise.

    `match`: None (any message), a type, a tuple of types, a predicate, or a value with `...` and `Bind` inside.
    Messages that do not fit stay where they are. Raises `ReceiveTimeout` (a TimeoutError) after `timeout` seconds.
    In a plain process a cast arrives as `("$gen_cast", request)`, a call as `("$gen_call", client, request)`.
    """
    context = current()
    fits = None if match is None else compile_pattern(match)
    deadline = None if timeout is None else poller.now() + timeout
    looked_at = 0
    while True:
        inbox = context.inbox
        for index in range(looked_at, len(inbox)):
            payload, envelope = inbox[index]
            message = _as_message(context, envelope)
            if fits is None or fits(message):
                del inbox[index]
                context.took(payload)
                return message
        looked_at = len(inbox)
        left = None if deadline is None else deadline - poller.now()
        if left is not None and left <= 0:
            due = context.poller.next_due()
            if context.read_mailbox() or context.dying or (due is not None and due <= poller.now()):
                context.pump(0)
                if len(context.inbox) > looked_at:
                    continue
            raise ReceiveTimeout(timeout)
        before = len(context.inbox)
        context.pump(left)
        if len(context.inbox) < before:
            looked_at = 0


def _as_message(context: Context, envelope: wire.Envelope) -> Any:
    match envelope:
        case [wire.SEND, message]:
            return message
        case [wire.CAST, request]:
            return ("$gen_cast", request)
        case [wire.CALL, caller, serial, request]:
            from otp_runtime.process.client import Client

            return ("$gen_call", Client(context.pid_of(caller), serial), request)
        case _:
            return tuple(envelope)


def flush() -> builtins.list[Any]:
    """Take all messages that are in the mailbox now."""
    context = current()
    context.drain()
    context.pump(0)
    found = []
    while (entry := context.next_message()) is not None:
        found.append(_as_message(context, entry[1]))
    return found


# -- links and monitors ------------------------------------------------------------------------------------


def link(pid: Pid) -> None:
    """Link this process and `pid`: when one ends, the other gets an exit signal.

    At most one link per pair; a link to oneself is none. A dead pid gives an exit signal `"noproc"`.
    """
    context = current()
    if pid == context.pid:
        return
    peer = local_peer(context, pid)
    if peer is None:
        reason = route.why_not(context, pid) if route.is_elsewhere(context, pid) else "noproc"
        context.arrive_exit(context.key_of(pid), reason, by_link=True)
        context.pump(0)
        return
    if not peer.linked:
        links.hold(context, peer)
        _tell(context, peer, wire.LINK)


def unlink(pid: Pid) -> None:
    """Undo a link. After it returns no exit signal of it arrives; an `Exit` may lie in the mailbox already."""
    context = current()
    peer = context.peers.get(context.key_of(pid))
    if peer is not None and peer.linked:
        peer.linked = False
        _tell(context, peer, wire.UNLINK)


def _tell(context: Context, peer: Peer, kind: int) -> None:
    from otp_runtime.host.pipe import whole

    peer.write_lane(context.directory, whole(context.codec.encode([kind, context.node.program or context.id])))


def monitor(server: Any) -> Ref:
    """Watch a process: its end puts one `Down(ref, pid, reason)` into this mailbox.

    `server` is a server reference; a dead or unknown one gives the `Down` at once, with `"noproc"`. Monitors stack.
    One on another node, which is lost, gives `"noconnection"`. A name means whoever has it now: for one of another
    node that node is asked.
    """
    context = current()
    ref = context.make_ref()
    is_elsewhere = route.is_elsewhere(context, server)
    try:
        peer = names.find(context, _holder_of(context, server) if is_elsewhere else server, None, wait=False)
    except (NoProcess, ServerDown) as error:
        if is_elsewhere:
            gone = server if type(server) is Pid else Pid(server.node, 0, 0)
            context.enqueue(Down(ref, gone, error.reason))
            return ref
        if isinstance(error, ServerDown):
            raise
        if type(server) is Pid:
            # it may have been reaped this very moment: after its Down its name is free
            context.epitaph(server.id)
        gone = server if type(server) is Pid else Pid(context.node.name, 0, context.node.incarnation)
        context.enqueue(Down(ref, gone, "noproc"))
        return ref
    peer.monitors[ref] = server
    return ref


def _holder_of(context: Any, server: Any) -> Any:
    """Give the process that has a name of another node; a node that does not answer in time is left with the name."""
    if type(server) is not Remote:
        return server
    try:
        found = route.whereis(context, server)
    except CallTimeout:
        return server
    if found is None:
        raise NoProcess(server)
    return found


def monitor_started(pid: Pid) -> Ref:
    """Monitor a process this one has just started: its `Down` carries the true reason, dead already or not."""
    context = current()
    ref = context.make_ref()
    peer = context.peer(pid.id)
    if peer is None:
        context.enqueue(Down(ref, pid, context.epitaph(pid.id)))
    else:
        peer.monitors[ref] = pid
    return ref


def demonitor(ref: Ref, flush: bool = False) -> bool:
    """Stop watching; say whether the monitor was still there. `flush` takes a `Down` out that came already."""
    context = current()
    for peer in builtins.list(context.peers.values()):
        if peer.monitors.pop(ref, None) is not None:
            return True
    if flush:
        for index, (payload, envelope) in enumerate(context.inbox):
            if envelope[0] == wire.SEND and isinstance(envelope[1], Down) and envelope[1].ref == ref:
                del context.inbox[index]
                context.took(payload)
                break
    return False


# -- exit signals ------------------------------------------------------------------------------------------


def exit(pid: Pid, reason: Any) -> None:
    """Send an exit signal with `reason` to `pid`, as if a linked process had ended; a dead pid is ignored.

    `"kill"` cannot be trapped and ends it `"killed"`. `"normal"` does nothing to another process that does not trap.
    """
    context = current()
    if pid == context.pid:
        context.arrive_exit(context.id, reason, by_link=False)
        if context.doomed is not None:
            raise ExitSignal(context.doomed[0])
        return
    peer = local_peer(context, pid)
    if peer is not None:
        context.signal_exit(peer, reason)


def trap_exit(flag: bool) -> bool:
    """Turn exit signals into `Exit(pid, reason)` messages, or not; give the old value.

    A program traps always: nothing supervises it. There `trap_exit(False)` raises ValueError.
    """
    context = current()
    if context.is_program:
        if not flag:
            msg = "a program always traps exits: nothing supervises it"
            raise ValueError(msg)
        return True
    return context.set_trap_exit(flag)


# -- names and facts ---------------------------------------------------------------------------------------


def register(pid: Pid, name: str) -> None:
    """Give `pid` the local `name`. Raises `AlreadyRegistered` when another process has it or `pid` has a name."""
    context = current()
    if route.is_elsewhere(context, pid):
        msg = f"{pid!r} is no process of this node: a local name is for local processes; use Global(name)"
        raise ValueError(msg)
    names.register(context, pid.id, name)


def unregister(name: str) -> None:
    """Take a local name back; raises `NoProcess` when nobody has it."""
    context = current()
    owner = names.owner_of(context.directory, name)
    if not isinstance(owner, Held) or not names.unregister(context.directory, name, owner):
        raise NoProcess(name)
    box = Box.open(context.directory.box(owner.id))
    if box is not None:
        if box.name == name:
            box.name = ""
        box.close()


def whereis(name: str) -> Pid | None:
    """Give the process that has a local name now; None when nobody has, also while it is being restarted."""
    return names.holder_of(current(), name)


def registered() -> builtins.list[str]:
    """Give all local names that a process has."""
    known = names.all_names(current().directory)
    return sorted(name for name, owner in known.items() if isinstance(owner, Held))


def alive(pid: Pid) -> bool:
    """Say whether `pid` is alive; after an `exit(pid, "kill")` of this process it is not.

    Of a process of another node this cannot be told: False; monitor it instead.
    """
    context = current()
    if pid == context.pid:
        return True
    peer = None if route.is_elsewhere(context, pid) else local_peer(context, pid)
    if peer is None:
        return False
    if peer.box.flag(boxes.KILL_REQUESTED) or peer.box.flag(boxes.SIGNALLED) or peer.box.flag(boxes.JUDGED):
        return False
    return not peer.has_ended()


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What is known of a process without asking it."""

    pid: Pid
    os_pid: int
    name: str | None
    label: str
    status: str
    trap_exit: bool
    handled: int
    queued_bytes: int
    garbage: int
    started_at: float
    supervisor: Pid | None


_KINDS = ("server", "supervisor", "program", "launcher")


def info(pid: Pid) -> ProcessInfo | None:
    """Read what the box of `pid` says; None when it is dead, or elsewhere. Costs the process nothing."""
    context = current()
    if route.is_elsewhere(context, pid):
        return None
    box = Box.open(context.directory.box(pid.id))
    if box is None:
        return None
    try:
        return None if box.flag(boxes.JUDGED) else _info_of(context, box)
    finally:
        box.close()


def _info_of(context: Context, box: Box) -> ProcessInfo:
    identity = box.identity
    if kernel.is_stopped(identity.os_process.pid):
        status = "stopped"
    elif box.flag(boxes.SUSPENDED):
        status = "suspended"
    elif not box.flag(boxes.READY):
        status = "starting"
    else:
        status = "busy" if box.busy_since else "idle"
    return ProcessInfo(
        pid=context.pid_of(identity.id),
        os_pid=identity.os_process.pid,
        name=box.name or None,
        label=box.label,
        status=status,
        trap_exit=bool(box.flag(boxes.TRAP_EXIT)),
        handled=box.handled,
        queued_bytes=box.queued_bytes,
        garbage=box.garbage,
        started_at=identity.started_at,
        supervisor=context.pid_of(identity.reaper) if identity.reaper > LAUNCHER_ID else None,
    )


def list() -> builtins.list[Pid]:
    """Give the pids of all living processes of this node."""
    context = current()
    found = []
    for process_id in context.directory.process_ids():
        box = Box.open(context.directory.box(process_id))
        if box is not None:
            if not box.flag(boxes.JUDGED):
                found.append(context.pid_of(process_id))
            box.close()
    return found


__all__ = [
    "AlreadyRegistered",
    "Down",
    "Exit",
    "Timer",
    "cancel_timer",
    "read_timer",
    "send_after",
    "start_timer",
]
