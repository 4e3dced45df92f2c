"""What a gateway answers itself: to processes of its own node (`local`), and to other nodes (`remote`).

Another node asks with a call to the process `protocol.ITSELF` of this one: see `joining.ask_node`. A service is a
function of this module's tables: `REMOTE` holds what other nodes may ask, `LOCAL` what this node's processes may. Both
are given the gateway, who asks, and the rest of the request, and give the answer or raise an `OtpError`, which is
raised in the asker; a coroutine is awaited beside everything else.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import protocol
from otp_runtime.cluster.global_names import CLAIMED, MOVED, GlobalNames
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError, OtpError
from otp_runtime.process import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.cluster.gateway import Gateway


REQUEST_BYTES = 64 * 1024
"""What another node may ask is no longer."""


class Services:
    """The services of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        """Answer for `gateway`."""
        self.gateway = gateway
        self.names = GlobalNames(gateway)

    # -- what happens -------------------------------------------------------------------------------------------

    def node_up(self, node: str) -> None:
        """A node is there."""

    def node_down(self, node: str) -> None:
        """A node is lost."""

    def process_gone(self, process_id: int) -> None:
        """A process of this node that the gateway knew has ended."""
        self.names.process_gone(process_id)

    # -- requests -----------------------------------------------------------------------------------------------

    def local(self, caller: int, serial: int, request: Any) -> None:
        """Answer a process of this node."""
        # a gateway that was stopped has this before it, and the end of its lease as well
        self.gateway.tick()
        context = self.gateway.context

        def answer(how: int, value: Any) -> None:
            peer = context.peer(caller)
            if peer is not None:
                context.post(peer, context.codec.encode([wire.REPLY, serial, how, value]))

        self._serve(LOCAL, caller, request, answer)

    def remote(self, node: str, incarnation: int, body: bytes) -> None:
        """Answer another node; what is no call of a known service is counted and dropped."""
        gateway = self.gateway
        envelope: list[Any] = []
        is_call = False
        with contextlib.suppress(CodecError):
            if len(body) <= REQUEST_BYTES:
                envelope = protocol.DATA.decode(body)
                is_call = wire.is_envelope(envelope) and envelope[0] == wire.CALL and type(envelope[1]) is int
        if not is_call:
            gateway.context.box.count_garbage()
            return
        _kind, caller, serial, request = envelope

        def answer(how: int, value: Any) -> None:
            try:
                reply = protocol.DATA.encode([wire.REPLY, serial, how, value])
            except CodecError as error:
                reply = protocol.DATA.encode([wire.REPLY, serial, wire.RAISE, error])
            place = gateway.places.get(node)
            if place is not None and place.incarnation == incarnation:
                gateway.send(node, protocol.MESSAGE, caller, None, reply)

        self._serve(REMOTE, node, request, answer)

    def _serve(self, table: dict[str, Any], asker: Any, request: Any, answer: Callable[[int, Any], None]) -> None:
        what, rest = (request[0], request[1:]) if isinstance(request, tuple) and request else (None, ())
        service = table.get(what) if isinstance(what, str) else None
        if service is None:
            answer(wire.RAISE, OtpError(f"the gateway knows no service {what!r}"))
            return
        try:
            value = service(self.gateway, asker, *rest)
        except OtpError as error:
            answer(wire.RAISE, error)
        except (TypeError, ValueError) as error:
            answer(wire.RAISE, OtpError(f"the service {what!r} was asked with other arguments than it takes: {error}"))
        else:
            if inspect.isawaitable(value):
                self.gateway.spawn(_await(value, answer))
            else:
                answer(wire.VALUE, value)


async def _await(value: Any, answer: Callable[[int, Any], None]) -> None:
    try:
        answer(wire.VALUE, await value)
    except OtpError as error:
        answer(wire.RAISE, error)
    except Exception as error:  # noqa: BLE001 - the asker waits
        with contextlib.suppress(Exception):
            answer(wire.RAISE, OtpError(f"the gateway failed: {type(error).__name__}: {error}"))


def _ping(_gateway: Gateway, _node: str) -> str:
    return "pong"


def _whereis(gateway: Gateway, _node: str, name: Any) -> int | None:
    """The id of the process that has a local name here."""
    pid = names.holder_of(gateway.context, name) if isinstance(name, str) else None
    return None if pid is None else pid.id


def _follow(gateway: Gateway, caller: int, flag: bool) -> None:
    gateway.follow(caller, bool(flag))


def _settle(_gateway: Gateway, _caller: int) -> None:
    """Nothing: the answer says that all that came before it was handled."""


def _names(gateway: Gateway) -> GlobalNames:
    return gateway.services.names


def _register(gateway: Gateway, _asker: Any, name: Any, process_id: Any, *, how: str = CLAIMED) -> Any:
    """Claim a global name, encoded, for a process of this node."""
    if not isinstance(name, str) or not protocol.KEY.fullmatch(name):
        raise OtpError(
            f"no key of a global name: {name!r:.80}; it is 2 to {2 * protocol.NAME_BYTES} hexadecimal digits"
        )
    if type(process_id) is not int or not 1 < process_id <= protocol.ID_MAX:
        raise OtpError(f"no process of this node: {process_id!r:.80}; allowed is a number above 1")
    return _names(gateway).register(name, process_id, how=how)


REMOTE: dict[str, Callable[..., Any]] = {
    "ping": _ping,
    "whereis": _whereis,
    "register": _register,
    "re_register": functools.partial(_register, how=MOVED),
}
LOCAL: dict[str, Callable[..., Any]] = {
    "follow": _follow,
    "settle": _settle,
    "register": _register,
    "re_register": functools.partial(_register, how=MOVED),
    "unregister": lambda gateway, _caller, name: _names(gateway).unregister(name),
    "stand_by": lambda gateway, _caller, name, process_id: _names(gateway).stand_by(name, process_id),
    "whereis": lambda gateway, _caller, name: _names(gateway).whereis(name),
    "token": lambda gateway, _caller, name, process_id: _names(gateway).token(name, process_id),
    "names": lambda gateway, _caller: _names(gateway).names(),
}
