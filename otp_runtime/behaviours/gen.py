"""The call protocol that all behaviours share, as functions: what `GenServer` offers as static methods."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from os import write
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallError, CallingSelf, CallTimeout, CodecError, MailboxFull, NoProcess, ServerDown
from otp_runtime.host import pipe, poller
from otp_runtime.host.box import QUEUED
from otp_runtime.host.pipe import SHORT, SHORT_HEADS
from otp_runtime.process import across, bridge, names, returning, route
from otp_runtime.process import client as clients
from otp_runtime.process import primitives as process
from otp_runtime.process.client import Client
from otp_runtime.process.context import ExitSignal, Slot
from otp_runtime.process.current import current, here
from otp_runtime.process.node import Node
from otp_runtime.terms.events import Down
from otp_runtime.terms.pid import Pid, Remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import ServerRef

V = TypeVar("V")


def call(
    server: Any,
    request: Any,
    timeout: float | None = 5.0,
    *,
    across_restart: bool = False,
    on_timeout: Literal["kill"] | None = None,
) -> Any:
    """See `GenServer.call`."""
    if not across_restart and on_timeout is None:
        return clients.request(server, request, timeout)
    try:
        return (across.request if across_restart else clients.request)(server, request, timeout)
    except CallTimeout:
        if on_timeout == "kill" and (pid := whereis(server)) is not None:
            process.exit(pid, "kill")
        raise


def cast(server: ServerRef, request: Any, timeout: float | None = 5.0) -> None:
    """Send `request` and go on; `handle_cast` runs in the server, some time.

    To a dead or unknown server it is dropped silently; by name to one with a durable mailbox that its supervisor is
    bringing back it is not. `timeout`: seconds to wait for room in a full mailbox under the policy "block", or for
    that; then `MailboxFull`. `CodecError` when it cannot be encoded. OTP: gen_server:cast/2.
    """
    context = here.context
    if context is None or context.node.gone:
        try:
            context = clients.caller(server, request)
        except ServerDown:
            return
    try:
        payload = context.parcels.encode([wire.CAST, request])
    except CodecError:
        context.codec.encode(request, "request")
        raise
    if type(server) is Pid and type(timeout) is float:
        # the straight path: one write to a process of this node that is known and has room
        own = context.pid
        if server.incarnation == own.incarnation and server.node == own.node and server.id != own.id:
            peer = context.peers.get(server.id)
            size = len(payload) + 4
            if (
                size < SHORT
                and peer is not None
                and not (peer.survives or peer.outbox or peer.aborting)
                and peer.counts[QUEUED] < peer.limit
            ):
                try:
                    write(peer.fd, SHORT_HEADS[size] + payload)
                except BrokenPipeError:
                    return
                except BlockingIOError:
                    """It must be waited for, below."""
                else:
                    return
    _cast(context, server, payload, timeout)


def _cast(context: Context, server: Any, payload: bytes, timeout: float | None) -> None:
    """Send what was cast, whatever stands in its way."""
    try:
        peer = names.find(context, server, None, wait=False)
    except CallError:
        returning.leave(context, server, payload, timeout)
        return
    process.deliver(context, peer, payload, timeout)
    if peer.missed:
        returning.follow(context, server, peer, payload, timeout)


def reply(client: Client[Any], value: Any) -> None:
    """See `GenServer.reply`."""
    send_own_reply(current(), client, wire.VALUE, value)


def send_own_reply(context: Context, client: Client[Any], how: int, value: Any) -> None:
    """Send an answer that a callback gives itself: where a state is kept, it waits for that of the callback."""
    key = context.key_of(client.pid)
    if context.keeper is None or key == context.id:
        send_reply(context, key, client.serial, how, value)
    else:
        context.keeper.hold(key, context.codec.encode([wire.REPLY, client.serial, how, value]))


def send_reply(context: Context, caller: Any, serial: int, how: int, value: Any) -> None:
    """Send the answer to a request; to a caller that is dead or has given up it is nothing."""
    payload = context.parcels.encode([wire.REPLY, serial, how, value])
    if caller == context.id:
        slot = context.pending.get(serial)
        if slot is not None:
            slot.deliver(how, value)
        return
    peer = context.peers.get(caller) or context.peer(caller)
    if peer is not None:
        context.post(peer, payload)


def whereis(server: Any) -> Pid | None:
    """See `GenServer.whereis`."""
    context = current()
    if type(server) is Pid:
        return server
    if isinstance(server, str):
        return names.holder_of(context, server)
    try:
        peer = names.find(context, server, None, wait=False)
        return peer.pid if peer.relay is None else route.whereis(context, peer.id)
    except NoProcess:
        return None


def request_past_queue(server: Any, request: Any, timeout: float | None) -> Any:
    """Send a system message over the control lane, in front of all that is queued, and wait for its reply."""
    context = clients.caller(server, request)
    deadline = clients.deadline_of(timeout, poller.now())
    peer = names.find(context, server, deadline, request)
    if peer.id == context.id:
        raise CallingSelf(server, request, 0.0)
    rid = RequestId(server, request, context.next_serial(), Slot(peer))
    payload = context.codec.encode([wire.SYSTEM, context.id, rid.serial, request])
    context.pending[rid.serial] = rid.slot
    try:
        if not peer.write_lane(context.directory, pipe.whole(payload)):
            context.post(peer, payload)
        _wait_slots(context, [rid], deadline)
        return _value(rid.slot, server, request, rid.started)
    finally:
        _drop(context, rid)


# -- asyncio -----------------------------------------------------------------------------------------------


async def acall(server: Any, request: Any, timeout: float | None = 5.0) -> Any:
    """See `GenServer.acall`."""
    import asyncio

    context = clients.caller(server, request)
    started = poller.now()
    deadline = None if timeout is None else started + timeout
    context.parcels.encode(request, "request")
    peer = await bridge.find(context, server, deadline, request)
    if peer.id == context.id:
        raise CallingSelf(server, request, 0.0)
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    slot = Slot(peer, arrive)
    serial = context.next_serial()
    context.pending[serial] = slot
    try:
        async with bridge.awake(context):
            # waking takes in the mail, and may have seen the end of the server already
            if not slot.done:
                context.post(peer, context.parcels.encode([wire.CALL, context.id, serial, request]))
            left = None if deadline is None else max(0.0, deadline - poller.now())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(arrived, left)
    finally:
        del context.pending[serial]
    return _value(slot, server, request, started)


# -- requests whose reply is awaited later -----------------------------------------------------------------


class RequestId:
    """A request under way: see `GenServer.send_request`."""

    __slots__ = ("request", "serial", "server", "slot", "started")

    def __init__(self, server: Any, request: Any, serial: int, slot: Slot) -> None:
        """Made by `send_request`."""
        self.server = server
        self.request = request
        self.serial = serial
        self.started = poller.now()
        self.slot = slot

    def __repr__(self) -> str:
        return f"<request {self.serial} to {self.server!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a successor, in whose process the reply will arrive; nowhere else does it mean anything."""
        slot = self.slot
        peer = 0 if slot.peer is None else slot.peer.id
        told = (slot.how, slot.value, slot.failure) if slot.done else None
        return _adopt_request, (self.server, self.request, self.serial, self.started, peer, told)


_adopting: Context | None = None
_bereft: list[tuple[int, int]] = []


@contextlib.contextmanager
def adopting_requests(context: Context) -> Iterator[list[tuple[int, int]]]:
    """Let requests that are decoded here be those of `context`, which goes on for the process that sent them.

    Gives the serials of those whose receiver died meanwhile, and its id: what it had sent is in the mailbox.
    """
    global _adopting
    _adopting = context
    _bereft.clear()
    try:
        yield _bereft
    finally:
        _adopting = None


def _adopt_request(
    server: Any, request: Any, serial: int, started: float, peer_id: int, told: tuple[int, Any, Any] | None
) -> RequestId:
    context = _adopting
    slot = Slot(context.peer(peer_id) if context is not None and peer_id else None)
    rid = RequestId(server, request, serial, slot)
    rid.started = started
    if told is not None:
        how, value, failure = told
        if failure is not None:
            slot.fail(failure[0])
        else:
            slot.deliver(how, value)
    elif context is None:
        slot.fail("noproc")
    else:
        context.pending[serial] = slot
        if slot.peer is None:
            _bereft.append((serial, peer_id))
    return rid


@dataclass(frozen=True, slots=True)
class Response(Generic[V]):
    """The reply that `check_response` found."""

    value: V


def send_request(server: Any, request: Any) -> RequestId:
    """See `GenServer.send_request`."""
    context = clients.caller(server, request)
    try:
        peer = names.find(context, server, None, request, wait=False)
    except NoProcess:
        slot = Slot(None)
        slot.fail("noproc")
        return RequestId(server, request, 0, slot)
    slot = Slot(peer)
    serial = context.next_serial()
    payload = context.pack([wire.CALL, context.id, serial, request], request, "request")
    context.pending[serial] = slot
    try:
        context.transmit(peer, payload, poller.now() + 5.0)
    except BaseException:
        del context.pending[serial]
        raise
    return RequestId(server, request, serial, slot)


def wait_response(rid: RequestId, timeout: float | None = 5.0) -> Any:
    """See `GenServer.wait_response`."""
    context = current()
    deadline = None if timeout is None else poller.now() + timeout
    _wait_slots(context, [rid], deadline)
    return _value(rid.slot, rid.server, rid.request, rid.started, lambda: _drop(context, rid))


def receive_response(rid: RequestId, timeout: float | None = 5.0) -> Any:
    """See `GenServer.receive_response`."""
    try:
        return wait_response(rid, timeout)
    except CallTimeout:
        _drop(current(), rid)
        raise


def wait_any(rids: Iterable[RequestId], timeout: float | None = 5.0) -> tuple[RequestId, Any]:
    """See `GenServer.wait_any`."""
    context = current()
    requests = list(rids)
    deadline = None if timeout is None else poller.now() + timeout
    _wait_slots(context, requests, deadline)
    for rid in requests:
        if rid.slot.done:
            _drop(context, rid)
            return rid, _value(rid.slot, rid.server, rid.request, rid.started)
    raise CallTimeout(requests[0].server if requests else None, None, timeout)


def check_response(message: Any, rid: RequestId) -> Response[Any] | None:
    """See `GenServer.check_response`."""
    context = current()
    context.pump(0)
    down = isinstance(message, Down) and rid.slot.peer is not None and message.pid == rid.slot.peer.pid
    if not rid.slot.done and not down:
        return None
    if not rid.slot.done and isinstance(message, Down):
        rid.slot.fail(message.reason)
    return Response(_value(rid.slot, rid.server, rid.request, rid.started, lambda: _drop(context, rid)))


def _wait_slots(context: Context, rids: list[RequestId], deadline: float | None) -> None:
    while not any(rid.slot.done for rid in rids):
        left = None if deadline is None else deadline - poller.now()
        if left is not None and left <= 0:
            return
        context.pump(left)
        if context.doomed is not None and not context.is_program:
            raise ExitSignal(context.doomed[0])


def _drop(context: Context, rid: RequestId) -> None:
    context.pending.pop(rid.serial, None)


def _value(slot: Slot, server: Any, request: Any, started: float, done: Any = None) -> Any:
    elapsed = poller.now() - started
    if not slot.done:
        raise CallTimeout(server, request, elapsed, detail=clients.why_silent(slot.peer))
    if done is not None:
        done()
    if slot.failure is not None:
        if slot.failure[0] == "noproc" and (slot.peer is None or slot.peer.relay is not None):
            raise NoProcess(server, request, elapsed)
        raise ServerDown(slot.failure[0], server, request, elapsed)
    if slot.how == wire.RAISE:
        raise slot.value
    return slot.value


# -- many nodes --------------------------------------------------------------------------------------------


def multi_call(
    nodes: Iterable[str] | None, name: str, request: Any, timeout: float | None = None
) -> tuple[list[tuple[str, Any]], list[str]]:
    """See `GenServer.multi_call`."""
    deadline = clients.deadline_of(timeout, poller.now())
    replies, bad = [], []
    asked: list[tuple[str, RequestId | None]] = []
    for node in nodes_of(nodes):
        try:
            asked.append((node, send_request(_on(node, name), request)))
        except (CallError, MailboxFull):
            asked.append((node, None))
    for node, rid in asked:
        left = None if deadline is None else max(0.0, deadline - poller.now())
        try:
            if rid is None:
                bad.append(node)
            else:
                replies.append((node, receive_response(rid, left)))
        except Exception:  # noqa: BLE001 - also an error that the server answered with: it is no reply
            bad.append(node)
    return replies, bad


def abcast(nodes: Iterable[str] | None, name: str, request: Any, timeout: float | None = 5.0) -> None:
    """See `GenServer.abcast`."""
    for node in nodes_of(nodes):
        cast(_on(node, name), request, timeout)


def nodes_of(nodes: Iterable[str] | None) -> list[str]:
    """Give the nodes that are meant: None is this one and all that are connected, this one first."""
    if nodes is not None:
        if isinstance(nodes, str):
            msg = f"nodes is a list of node names, or None for all, not {nodes!r}"
            raise TypeError(msg)
        return list(nodes)
    return [current().node.name, *Node.list()]


def _on(node: str, name: str) -> Any:
    return name if node == current().node.name else Remote(name, node)


__all__ = ["Client", "RequestId", "Response"]
