"""Global names, as the processes of a node use them: see `otp_runtime.Global`. They ask their gateway."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.cluster import joining, protocol
from otp_runtime.core import messages as wire
from otp_runtime.errors import AlreadyRegistered, CallError, CodecError, NoNode, ServerDown
from otp_runtime.process import route
from otp_runtime.process.context import Slot
from otp_runtime.terms.events import Exit
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.process.context import Context

ASK_SECONDS = 6.0
PAUSE_SECONDS = 0.1


def key_of(name: Any) -> str:
    """Give a global name as a key of the cluster's table. Raises `CodecError`, ValueError when it is too long."""
    data = protocol.DATA.encode(name, "name")
    if len(data) > protocol.NAME_BYTES:
        msg = f"a global name takes at most {protocol.NAME_BYTES} bytes, not {len(data)}: {name!r:.80}"
        raise ValueError(msg)
    return data.hex()


def name_of(key: str) -> Any:
    """Undo `key_of`."""
    return protocol.DATA.decode(bytes.fromhex(key))


def register(context: Context, name: Any, pid: Pid) -> int | None:
    """Claim a name for a process; give the fencing token, None when another has it."""
    outcome = _ask_node_of(context, pid, "register", key_of(name))
    return outcome if isinstance(outcome, int) else None


def re_register(context: Context, name: Any, pid: Pid) -> int:
    """Give a name to a process, whoever had it; give the fencing token."""
    token: int = _ask_node_of(context, pid, "re_register", key_of(name))
    return token


def _ask_node_of(context: Context, pid: Any, what: str, key: str) -> Any:
    if not isinstance(pid, Pid):
        msg = f"a global name is a process's: give a Pid, not {pid!r}"
        raise TypeError(msg)
    if route.is_elsewhere(context, pid):
        return joining.ask_node(pid.node, (what, key, pid.id), ASK_SECONDS)
    return joining.ask_gateway((what, key, pid.id), ASK_SECONDS)


def whereis(name: Any) -> Pid | None:
    """Give the process that has a global name; None when nobody has, or its node is lost."""
    found: Pid | None = joining.ask_gateway(("whereis", key_of(name)))
    return found


def unregister(name: Any) -> None:
    """Free a global name."""
    joining.ask_gateway(("unregister", key_of(name)), ASK_SECONDS)


def token(context: Context, name: Any) -> int | None:
    """Give the token with which this process holds a name."""
    found: int | None = joining.ask_gateway(("token", key_of(name), context.id))
    return found


def registered() -> list[Any]:
    """Give the names that somebody has, but those that cannot be read here: of a class that only others have."""
    names = []
    for key in joining.ask_gateway(("names",)):
        with contextlib.suppress(CodecError, ValueError):
            names.append(name_of(key))
    return names


def register_at_start(context: Context, name: Any, pid: Pid) -> None:
    """Give a process that starts a global name; raises `AlreadyRegistered`, `NoNode`."""
    outcome = _ask_node_of(context, pid, "register", key_of(name))
    if not isinstance(outcome, int):
        raise AlreadyRegistered(outcome)


def stand_by(context: Context, name: Any) -> bool:
    """Wait until this process has a global name; False when its parent wants it to end before that.

    Whoever wants to end it in another way does so. Messages that come meanwhile wait in the inbox.
    """
    key = key_of(name)
    while True:
        try:
            if not _claim(context, key):
                return False
        except (CallError, NoNode):
            context.pump(PAUSE_SECONDS)  # the gateway is being restarted
        else:
            return True


def _claim(context: Context, key: str) -> bool:
    peer = joining.find_gateway(context)
    slot = Slot(peer)
    serial = context.next_serial()
    context.pending[serial] = slot
    try:
        context.post(peer, context.codec.encode([wire.CALL, context.id, serial, ("stand_by", key, context.id)]))
        while not slot.done:
            if _is_told_to_end(context):
                return False
            context.pump(None)
    finally:
        del context.pending[serial]
    if slot.failure is not None:
        raise ServerDown(slot.failure[0])
    if slot.how == wire.RAISE:
        raise slot.value
    return True


def _is_told_to_end(context: Context) -> bool:
    return any(
        envelope[0] == wire.SEND and type(envelope[1]) is Exit and context.key_of(envelope[1].pid) == context.parent
        for _payload, envelope in context.inbox
    )
