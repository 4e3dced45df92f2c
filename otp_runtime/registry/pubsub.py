"""PubSub: processes subscribe to topics and get what is broadcast there, on all nodes of a cluster or on the only one.

    >>> from otp_runtime import process, pubsub
    >>> with pubsub.start_link():
    ...     pubsub.subscribe("room:7")
    ...     pubsub.broadcast("room:7", "hello")
    ...     process.receive("hello", 5.0)
    'ok'
    'ok'
    'hello'

Words and rules are those of Phoenix.PubSub. A PubSub has a name, `"pubsub"` unless `name=` gives one; those of one name
on the nodes of a cluster are one. A topic is a text, and there as soon as somebody subscribes.

A broadcast goes from the caller straight to the subscribers of its node; other nodes get it once each. It arrives at
most once, and what one process broadcasts arrives in its order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from otp_runtime.core import messages as wire
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.names import check_name
from otp_runtime.errors import CodecError, MailboxFull
from otp_runtime.host import poller
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.registry import table as tables
from otp_runtime.registry.hub import BROADCAST, RELAYS, Hub, hub_of, topics_of
from otp_runtime.registry.registry import Registry
from otp_runtime.registry.scope import DATA
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from typing import TypeAlias

    from otp_runtime.core.backoff import Backoff
    from otp_runtime.process.context import Context

    MaybeNone: TypeAlias = Any

__all__ = [
    "broadcast",
    "broadcast_from",
    "child_spec",
    "direct_broadcast",
    "local_broadcast",
    "local_broadcast_from",
    "start",
    "start_link",
    "subscribe",
    "unsubscribe",
]

DEFAULT_NAME: Final = "pubsub"
TOPIC_BYTES: Final = 1_000


# -- starting ----------------------------------------------------------------------------------------------


def start_link(name: str = DEFAULT_NAME) -> Pid | MaybeNone:
    """Start a PubSub linked to the caller, as a supervisor of that name; `AlreadyStarted` when it is taken."""
    return Supervisor.start_link(_children(name), strategy="one_for_one", name=name)


def start(name: str = DEFAULT_NAME) -> Pid | MaybeNone:
    """As `start_link`, linked to nobody."""
    return Supervisor.start(_children(name), strategy="one_for_one", name=name)


def child_spec(
    name: str = DEFAULT_NAME,
    *,
    id: Any = None,
    restart: Literal["permanent", "transient", "temporary"] = "permanent",
    significant: bool = False,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """Say how a supervisor starts a PubSub; `id` defaults to its name. Put it before those who use it."""
    _children(name)
    return ChildSpec(
        id=name if id is None else id,
        start=(start_link, (name,), {}),
        restart=restart,
        type="supervisor",
        significant=significant,
        backoff=backoff,
    )


def _children(name: str) -> list[ChildSpec]:
    check_name(name)
    return [
        Registry.child_spec(keys="duplicate", name=topics_of(name)),
        Hub.child_spec(name, name=hub_of(name)),
    ]


# -- subscribing -------------------------------------------------------------------------------------------


def subscribe(topic: str, *, name: str = DEFAULT_NAME) -> Literal["ok"]:
    """Let the calling process get what is broadcast to `topic`, and its `PresenceDiff`s, as messages.

    Twice: it gets everything twice. It ends with the process. Raises TypeError and ValueError for what is no topic,
    `NoProcess` without the PubSub. EX: Phoenix.PubSub.subscribe/2.
    """
    Registry.register(topics_of(name), check_topic(topic))
    return "ok"


def unsubscribe(topic: str, *, name: str = DEFAULT_NAME) -> Literal["ok"]:
    """End all subscriptions of the calling process to `topic`. What came before may lie in its mailbox."""
    Registry.unregister(topics_of(name), check_topic(topic))
    return "ok"


def check_topic(topic: Any) -> str:
    """Refuse what is no topic."""
    if not isinstance(topic, str):
        msg = f"a topic is a str, not {topic!r:.80}"
        raise TypeError(msg)
    if not 0 < len(topic.encode()) <= TOPIC_BYTES:
        msg = f"a topic is a text of 1 to {TOPIC_BYTES} bytes, not {topic!r:.80}"
        raise ValueError(msg)
    return topic


# -- broadcasting ------------------------------------------------------------------------------------------


def broadcast(topic: str, message: Any, *, name: str = DEFAULT_NAME, timeout: float | None = 5.0) -> Literal["ok"]:
    """Send `message` to all subscribers of `topic`, on all nodes; also to the caller, if it is one.

    Returns when those of this node have it in their mailboxes; on other nodes it arrives later, or is lost with them.
    Who has no room is waited for, `timeout` seconds for all together (None: for ever): then `MailboxFull` names the
    first that did not get it, and all others have it. Across nodes `message` is data, else `CodecError`, and nobody got
    it. EX: Phoenix.PubSub.broadcast/3.
    """
    return _broadcast(None, topic, message, name, timeout)


def broadcast_from(
    pid: Pid, topic: str, message: Any, *, name: str = DEFAULT_NAME, timeout: float | None = 5.0
) -> Literal["ok"]:
    """As `broadcast`, but not to `pid`, a process of this node. EX: Phoenix.PubSub.broadcast_from/4."""
    return _broadcast(_check_pid(pid), topic, message, name, timeout)


def local_broadcast(
    topic: str, message: Any, *, name: str = DEFAULT_NAME, timeout: float | None = 5.0
) -> Literal["ok"]:
    """As `broadcast`, to the subscribers of this node only; `message` may be whatever travels inside a node."""
    return _local(None, topic, message, name, timeout)


def local_broadcast_from(
    pid: Pid, topic: str, message: Any, *, name: str = DEFAULT_NAME, timeout: float | None = 5.0
) -> Literal["ok"]:
    """As `local_broadcast`, but not to `pid`."""
    return _local(_check_pid(pid), topic, message, name, timeout)


def direct_broadcast(
    node: str, topic: str, message: Any, *, name: str = DEFAULT_NAME, timeout: float | None = 5.0
) -> Literal["ok"]:
    """As `broadcast`, to the subscribers of one node ("name@host") only; nothing happens when it is not there."""
    context = current()
    if node == context.node.name:
        return _local(None, topic, message, name, timeout)
    _to_nodes(context, [one for one in _relays(name) if one.node == node], check_topic(topic), message, timeout)
    return "ok"


def _check_pid(pid: Any) -> Pid:
    if not isinstance(pid, Pid):
        msg = f"who is left out is a Pid, not {pid!r:.80}"
        raise TypeError(msg)
    return pid


def _broadcast(but: Pid | None, topic: str, message: Any, name: str, timeout: float | None) -> Literal["ok"]:
    check_topic(topic)
    relays = _relays(name)
    if relays:
        # first: what may not leave this node is an error before anybody got it
        _to_nodes(current(), relays, topic, message, timeout)
    return _local(but, topic, message, name, timeout)


def _relays(name: str) -> list[Pid]:
    """Give the hubs of other nodes."""
    found = tables.find(hub_of(name), tables.SCOPE).partitions[0].entries.meta(RELAYS)
    return [] if found is None else found[0]


def _to_nodes(context: Context, relays: list[Pid], topic: str, message: Any, timeout: float | None) -> None:
    if not relays:
        return
    try:
        body = DATA.encode([wire.SEND, message])
    except CodecError:
        DATA.encode(message, "message")
        raise
    payload = context.codec.encode([wire.SEND, (BROADCAST, context.pid, topic, body)])
    for relay in relays:
        peer = process.reach(context, relay)
        if peer is not None:
            process.deliver(context, peer, payload, timeout)


def _local(but: Pid | None, topic: str, message: Any, name: str, timeout: float | None) -> Literal["ok"]:
    subscribers = Registry.lookup(topics_of(name), check_topic(topic))
    if not subscribers:
        return "ok"
    context = current()
    payload = context.pack([wire.SEND, message], message, "message")
    slow = []
    for pid, _value in subscribers:
        if pid != but and not _give(context, pid, payload, 0.0):
            slow.append(pid)
    deadline = None if timeout is None else poller.now() + timeout
    missed: MailboxFull | None = None
    for pid in slow:
        try:
            _give(context, pid, payload, None if deadline is None else max(0.0, deadline - poller.now()), final=True)
        except MailboxFull as error:
            missed = missed or error
    if missed is not None:
        raise MailboxFull(missed.server, missed.limit, timeout)
    return "ok"


def _give(context: Context, pid: Pid, payload: bytes, timeout: float | None, *, final: bool = False) -> bool:
    """Write to one mailbox; False when there is no room yet."""
    peer = process.reach(context, pid)
    if peer is not None:
        try:
            process.deliver(context, peer, payload, timeout)
        except MailboxFull:
            if final:
                raise
            return False
    return True
