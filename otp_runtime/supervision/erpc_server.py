"""Runs for other nodes what its node allows: each in an OS process of its own, which answers the asker itself.

    erpc.call elsewhere ──► this server: is the name in the list? ──spawn──► a process: import, decode, run ──► reply
                              └ not: `NotAllowed`                              └ died without a word: its reason

What is asked for travels as bytes that only the new process reads, after it has imported the function's module: so
nothing that another node sent is looked at here but a name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply
from otp_runtime.core import messages as wire
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.errors import CodecError, NotAllowed, OtpError, ServerDown
from otp_runtime.process import function_names as names
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.supervision.dynamic_supervisor import DynamicSupervisor
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.events import Down

if TYPE_CHECKING:
    from otp_runtime.behaviours.gen import Client
    from otp_runtime.terms.pid import Ref

NAME = "otp_erpc"
CALL, START = "call", "start_child"

DATA = Codec(None, imports=False)
"""What travels: data only, nothing unpickled; classes of modules that are imported already."""

State: TypeAlias = "tuple[tuple[str, ...], dict[Ref, tuple[Client[Any] | None, str]]]"


class ErpcServer(GenServer):
    """One for each node that allows anything. Its state: what is allowed, and who waits for which process."""

    _from_nodes: ClassVar[frozenset[int]] = frozenset({wire.CALL, wire.CAST})
    """What of other nodes it takes: no message, which could say that a process has ended. See `cluster.routing`."""

    def init(self, arg: Any, /) -> Any:
        """`arg`: the names that are allowed."""
        return tuple(arg), {}

    def handle_call(self, request: Any, client: Client[Any], state: State, /) -> Any:
        """Run what is asked for; the process that does answers."""
        match request:
            case (str() as what, str() as name, bytes() as body) if what in {CALL, START}:
                return self._run(what, name, body, client, state)
            case _:
                return Reply.error(OtpError("erpc was asked in a way that this version does not know"), state)

    def handle_cast(self, request: Any, state: State, /) -> Any:
        """Run what is asked for; nobody waits for it."""
        match request:
            case (str() as name, bytes() as body):
                return self._run(CALL, name, body, None, state)
            case _:
                return NoReply(state)

    def _run(self, what: str, name: str, body: bytes, client: Client[Any] | None, state: State) -> Any:
        allowed, running = state
        if not names.is_allowed(allowed, name):
            error = NotAllowed(name, current().node.name)
            if client is not None:
                return Reply.error(error, state)
            logging.getLogger("otp_runtime").warning("a cast of another node was refused: %s", error)
            return NoReply(state)
        pid, ref = process.spawn_monitor(run, what, name, body, client, allowed)
        del pid
        running[ref] = (client, name)
        return NoReply(state)

    def handle_info(self, message: Any, state: State, /) -> Any:
        """A process ended. One that ended in order has answered."""
        if isinstance(message, Down):
            client, name = state[1].pop(message.ref, (None, ""))
            if client is not None and message.reason != "normal":
                error = ServerDown(
                    message.reason, name, detail=f"the process that ran it on {current().node.name} died"
                )
                _answer(client, wire.RAISE, error)
        return NoReply(state)


def child_spec(allowed: tuple[str, ...]) -> ChildSpec:
    """Say how the supervisor of a node's cluster processes starts it."""
    return ErpcServer.child_spec(allowed, name=NAME)


def run(what: str, name: str, body: bytes, client: Client[Any] | None, allowed: tuple[str, ...]) -> None:
    """Be the process: run the function and answer."""
    try:
        function = names.find(name, allowed, current().node.name)
        asked = DATA.decode(body)
        value = _start_child(function, asked, allowed) if what == START else function(*asked[0], **asked[1])
        # what cannot leave this node is an error here, which the asker is told
        DATA.encode(value, "result")
    except Exception as error:
        if client is None:
            raise
        _answer(client, wire.RAISE, error)
    else:
        if client is not None:
            _answer(client, wire.VALUE, value)


def _start_child(function: Any, asked: Any, allowed: tuple[str, ...]) -> Any:
    kind, sup, args, kwargs, fields = asked
    node = current().node.name

    def real(part: Any) -> Any:
        return names.find(part.name, allowed, node) if isinstance(part, names.Named) else part

    start = (function, tuple(map(real, args)), {key: real(part) for key, part in kwargs.items()})
    spec = ChildSpec(start=start, **fields)
    supervisor = DynamicSupervisor if kind == "dynamic" else Supervisor
    return supervisor.start_child(sup, spec)


def _answer(client: Client[Any], how: int, value: Any) -> None:
    context = current()
    try:
        gen.send_reply(context, context.key_of(client.pid), client.serial, how, value)
    except CodecError as error:
        # it is longer than what may leave this node
        gen.send_reply(context, context.key_of(client.pid), client.serial, wire.RAISE, error)
