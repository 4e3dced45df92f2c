"""What a process owns of this room, as data: written down by the one that leaves, taken up by its successor.

Not in it: what lies in the mailbox and the control lane. Those are the kernel's, and the successor opens them before
the predecessor lets go. Peers are opened anew; one that died meanwhile is concluded like any other death.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.process import links, route
from otp_runtime.terms.events import Down

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otp_runtime.core import messages as wire
    from otp_runtime.process.context import Context

Entry = "tuple[bytes, wire.Envelope]"


def describe(context: Context) -> dict[str, Any]:
    """Write down what `context` owns. Raises `CodecError`, later, when a message cannot be sent."""
    peers = list(context.peers.values())
    half, partial = context.unframer.unfinished()
    return {
        "serial": context._serial,  # noqa: SLF001 - the other half of one class
        "segment": context._segment,  # noqa: SLF001
        "trap_exit": context.trap_exit,
        "links": [peer.id for peer in peers if peer.linked],
        "monitors": [[ref, peer.id, server] for peer in peers for ref, server in peer.monitors.items()],
        "outboxes": [[peer.id, list(peer.outbox), peer.aborting] for peer in peers if peer.outbox or peer.aborting],
        "timers": context.armed_timers(),
        "inbox": entries(context.inbox),
        "mail": None if context.mail is None else context.mail.describe(),
        "half": half,
        "partial": partial,
        "elsewhere": route.describe(context),
    }


def entries(queue: Iterable[tuple[bytes, wire.Envelope]]) -> list[list[Any]]:
    """Give messages as data: their bytes as they came, where there are any, and the number of those that have one."""
    return [
        [bytes(payload), None if payload else envelope, getattr(payload, "number", None)] for payload, envelope in queue
    ]


def read_entries(context: Context, data: list[list[Any]]) -> list[tuple[bytes, wire.Envelope]]:
    """Read what `entries` gave, with this process's classes."""
    return [
        (
            payload if number is None or context.mail is None else context.mail.as_letter(payload, number),
            context.codec.decode(payload) if payload else envelope,
        )
        for payload, envelope, number in data
    ]


def take_up(context: Context, data: dict[str, Any]) -> list[int]:
    """Make `context`, which has not read anything yet, own what was described.

    Gives the ids of the processes that died meanwhile: see `conclude`.
    """
    context._serial = max(context._serial, data["serial"])  # noqa: SLF001
    context._segment = max(context._segment, data["segment"])  # noqa: SLF001
    context.directory.forget_kept_segments(context.id)
    context.unframer.resume(data["half"], data["partial"])
    for payload, envelope in read_entries(context, data["inbox"]):
        context.put(payload, envelope)
    for armed in data["timers"]:
        context.arm_again(armed)
    dead = set()
    for process_id in data["links"]:
        peer = context.peer(process_id)
        if peer is None:
            dead.add(process_id)
        else:
            peer.linked = True
    for ref, process_id, server in data["monitors"]:
        peer = context.peer(process_id)
        if peer is None:
            dead.add(process_id)
        else:
            peer.monitors[ref] = server
    return sorted(dead, key=repr)


def conclude(context: Context, data: dict[str, Any], dead: list[int]) -> None:
    """Say what waits, send what the predecessor owed, and tell `context` of the deaths that it did not see."""
    context.tell_queued()
    for process_id in data["links"]:
        if (peer := context.peer(process_id)) is not None:
            links.hold(context, peer)
    for process_id, frames, aborting in data["outboxes"]:
        if (peer := context.peer(process_id)) is not None:
            peer.aborting = aborting
            for frame in frames:
                context.post_frame(peer, frame)
    route.take_up(context, data["elsewhere"])
    if dead:
        context.drain()
    for process_id in dead:
        reason = context.epitaph(process_id)
        if process_id in data["links"]:
            context.arrive_exit(process_id, reason, by_link=True)
        for ref, watched, _server in data["monitors"]:
            if watched == process_id:
                context.enqueue(Down(ref, context.pid_of(process_id), reason))
