"""Ending a process in order, and waiting for its end (OTP's `proc_lib:stop`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.errors import CallingSelf, CallTimeout, NoProcess, ServerDown
from otp_runtime.host import poller
from otp_runtime.process import client as clients
from otp_runtime.process import names
from otp_runtime.process.context import ExitSignal

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.peers import Peer


def stop(server: Any, reason: Any = "normal", timeout: float | None = None, *, missing_ok: bool = False) -> None:
    """See `GenServer.stop`."""
    context = clients.caller(server, "stop")
    started = poller.now()
    deadline = None if timeout is None else started + timeout
    try:
        peer = names.find(context, server, deadline, "stop")
    except NoProcess:
        if missing_ok:
            return
        raise
    if peer.id == context.id:
        raise CallingSelf(server, "stop", 0.0)
    ended: list[Any] = []
    peer.waiters.append(ended.append)
    try:
        _ask_to_stop(context, peer, reason)
        while not ended:
            left = None if deadline is None else deadline - poller.now()
            if left is not None and left <= 0:
                raise CallTimeout(server, "stop", poller.now() - started)
            context.pump(left)
            if context.doomed is not None and not context.is_program:
                raise ExitSignal(context.doomed[0])
    finally:
        with contextlib.suppress(ValueError):
            peer.waiters.remove(ended.append)
    try:
        _check_end(peer, ended[0], reason, server, poller.now() - started)
    except NoProcess:
        if not missing_ok:
            raise


def _check_end(peer: Peer, ended: Any, reason: Any, server: Any, elapsed: float) -> None:
    if ended == reason:
        return
    if ended == "noproc" and peer.relay is not None:
        # whether one on another node is there at all is known there only
        raise NoProcess(server, "stop", elapsed)
    raise ServerDown(ended, server, "stop", elapsed)


def _ask_to_stop(context: Context, peer: Peer, reason: Any) -> None:
    envelope = [wire.SYSTEM, context.id, context.next_serial(), ("terminate", reason)]
    payload = context.encode_with(envelope, reason, "reason")
    context.post(peer, payload)


async def astop(server: Any, reason: Any = "normal", timeout: float | None = None) -> None:
    """See `GenServer.astop`."""
    from otp_runtime.process import bridge

    context = clients.caller(server, "stop")
    started = poller.now()
    deadline = None if timeout is None else started + timeout
    peer = await bridge.find(context, server, deadline, "stop")
    ended = await wait_for_end(context, peer, timeout, lambda: _ask_to_stop(context, peer, reason))
    if ended is None:
        raise CallTimeout(server, "stop", poller.now() - started)
    _check_end(peer, ended[0], reason, server, poller.now() - started)


async def wait_for_end(context: Context, peer: Peer, timeout: float | None, ask: Any = None) -> tuple[Any] | None:
    """Wait in an event loop until a process has ended; give its reason in a tuple, None when time is up."""
    import asyncio

    from otp_runtime.process import bridge

    arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def ended(reason: Any) -> None:
        if not arrived.done():
            arrived.set_result(reason)

    peer.waiters.append(ended)
    try:
        async with bridge.awake(context):
            # waking takes in the mail, and may have seen the end already: then there is nobody to ask
            if ask is not None and not arrived.done():
                ask()
            try:
                return (await asyncio.wait_for(arrived, timeout),)
            except TimeoutError:
                return None
    finally:
        with contextlib.suppress(ValueError):
            peer.waiters.remove(ended)
