"""Functions of other nodes: `otp_runtime.erpc`, OTP's `erpc`, and starting children under a supervisor elsewhere.

    erpc.call("b@host", reports.daily, "2026-11-25")

What: the function runs on that node, in an OS process of its own, and its value comes back. Only its name travels; the
node has to have the module, and to allow the function: `Node.start("b", cluster=…, erpc=("shop.reports:daily",))`.
Nothing is allowed unless it is listed, on one's own node neither. Arguments and values are data, as in messages.

When not to use it: what is asked for often belongs into a server, which a call reaches in a hundredth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from otp_runtime.behaviours import gen
from otp_runtime.errors import BadChildSpec, CallError, CodecError, NoProcess, NotAllowed
from otp_runtime.host import poller
from otp_runtime.process.client import deadline_of
from otp_runtime.process.current import current
from otp_runtime.process.function_names import Named, name_of
from otp_runtime.supervision.erpc_server import CALL, DATA, NAME, START
from otp_runtime.terms.pid import Pid, Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.core.child_spec import ChildSpec

Function: TypeAlias = "Callable[..., Any] | str"


@dataclass(frozen=True, slots=True)
class Done:
    """What a node's function gave."""

    node: str
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no value of a node: what `call` would have raised."""

    node: str
    error: Exception


def call(node: str, fun: Function, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """Run `fun(*args, **kwargs)` on `node`, in a process of its own there, and give its value. OTP: erpc:call/4,5.

    `fun`: a function that both nodes can import, or its name, "module:function", of a module that only `node` needs.
    `timeout`: seconds (default None: for ever; a lost node is noticed); after it the function still runs, and its value
    is dropped. Raises in the caller what the function raised; `NotAllowed` when the node does not list it;
    `ServerDown(reason)` when its process died, with "noconnection" when the node is lost; `CallTimeout`; `CodecError`
    for what is no data. TypeError and ValueError, before anything is sent, for what is no function with a name.
    """
    name, body = _packed(fun, args, kwargs)
    return _ask(node, name, (CALL, name, body), timeout)


def cast(node: str, fun: Function, /, *args: Any, **kwargs: Any) -> None:
    """As `call`, but wait for nothing: whatever becomes of it is only in the log of `node`. OTP: erpc:cast/4."""
    name, body = _packed(fun, args, kwargs)
    gen.cast(_server_on(node), (name, body))


def multicall(
    nodes: Iterable[str] | None, fun: Function, /, *args: Any, timeout: float | None = None, **kwargs: Any
) -> list[Done | Failed]:
    """Run a function on several nodes at once (None: this one and all others); give what came of it, in order.

    `timeout` is for all together. Nothing is raised that a node is to blame for: see `Done` and `Failed`. OTP:
    erpc:multicall/4,5.
    """
    name, body = _packed(fun, args, kwargs)
    deadline = deadline_of(timeout, poller.now())
    asked: list[tuple[str, gen.RequestId | Exception]] = []
    for node in gen.nodes_of(nodes):
        try:
            asked.append((node, gen.send_request(_server_on(node), (CALL, name, body))))
        except CallError as error:
            asked.append((node, error))
    found: list[Done | Failed] = []
    for node, request in asked:
        if isinstance(request, Exception):
            found.append(Failed(node, request))
            continue
        left = None if deadline is None else max(0.0, deadline - poller.now())
        try:
            found.append(Done(node, gen.receive_response(request, left)))
        except Exception as error:  # noqa: BLE001 - whatever the function raised
            found.append(Failed(node, _explained(error, node, name)))
    return found


def start_child(sup: Pid | Remote, spec: ChildSpec, kind: str) -> Any:
    """Start a child under a supervisor of another node: see `Supervisor.start_child`."""
    node = sup.node
    if isinstance(spec.start, bytes):
        raise BadChildSpec("start", "sealed", "(function, args, kwargs), for a supervisor of another node", spec.id)
    start: Any = spec.start
    function, args, kwargs = start
    name = _name_in(spec, function)
    there = sup if isinstance(sup, Pid) else sup.name
    data = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "start"}
    asked = (
        kind,
        there,
        tuple(_as_data(spec, part) for part in args),
        {key: _as_data(spec, part) for key, part in kwargs.items()},
        data,
    )
    body = DATA.encode(asked, f"child {spec.id!r}")
    return _ask(node, name, (START, name, body), None)


def _as_data(spec: ChildSpec, part: Any) -> Any:
    """A function or a class that is an argument goes by its name."""
    is_code = isinstance(part, type) or (callable(part) and hasattr(part, "__qualname__"))
    return Named(_name_in(spec, part)) if is_code else part


def _name_in(spec: ChildSpec, function: Any) -> str:
    try:
        return name_of(function)
    except (TypeError, ValueError) as error:
        allowed = "what the other node can import, by its name: functions do not cross nodes"
        raise BadChildSpec("start", function, allowed, spec.id) from error


def _packed(fun: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, bytes]:
    name = name_of(fun)
    try:
        return name, DATA.encode((args, kwargs), "arguments")
    except CodecError:
        DATA.encode(list(args), "args")
        raise


def _server_on(node: Any) -> str | Remote:
    if not isinstance(node, str):
        msg = f"a node is named by a str, 'name@host', not {node!r}"
        raise TypeError(msg)
    return NAME if node == current().node.name else Remote(NAME, node)


def _ask(node: str, name: str, request: Any, timeout: float | None) -> Any:
    server = _server_on(node)
    try:
        return gen.receive_response(gen.send_request(server, request), timeout)
    except Exception as error:
        explained = _explained(error, node, name)
        if explained is error:
            raise
        raise explained from None


def _explained(error: Exception, node: str, name: str) -> Exception:
    """Nobody is there to run anything: the node allows nothing."""
    if isinstance(error, NoProcess) and error.server == _server_on(node):
        return NotAllowed(name, node)
    return error


__all__ = ["Done", "Failed", "call", "cast", "multicall"]
