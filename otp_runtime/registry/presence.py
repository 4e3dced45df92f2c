"""Presence: who is in a topic, on all nodes of a cluster or on the only one. Part of a PubSub.

    >>> from otp_runtime import presence, pubsub
    >>> with pubsub.start_link():
    ...     presence.track("room:7", "ada", {"mood": "fine"})
    ...     presence.list("room:7")
    'ok'
    {'ada': [{'mood': 'fine'}]}

A process is present under a key, a text that says who it is, with data of its own: the same key as often as there are
processes of that one. It is not any more when it says so, when it dies, when its node cannot be reached. Whoever
subscribed to the topic gets a `PresenceDiff` of every change. Words are those of Phoenix.Presence; what holds of
process groups across nodes holds here: in the end all nodes know the same.
"""

from __future__ import annotations

import builtins
import datetime as dt
from typing import TYPE_CHECKING, Any, Final, Literal

from otp_runtime.behaviours import gen
from otp_runtime.errors import CodecError, NotTracked
from otp_runtime.process.current import current
from otp_runtime.registry import table as tables
from otp_runtime.registry.hub import hub_of, read
from otp_runtime.registry.pubsub import DEFAULT_NAME, check_topic
from otp_runtime.registry.scope import DATA, pid_of
from otp_runtime.terms.pid import Pid, Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["get_by_key", "list", "track", "untrack", "update"]

META_BYTES: Final = 16_384
_SCALARS: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Pid, Ref, dt.date, dt.datetime, dt.time, dt.timedelta}
)


def track(topic: str, key: str, meta: Any = None, *, pid: Pid | None = None, name: str = DEFAULT_NAME) -> Literal["ok"]:
    """Say that a process is in `topic` as `key`, with `meta`: plain data (None, numbers, texts, pids; lists, dicts, …).

    `pid`: a process of this node, the caller unless given. Returns when this node knows it; subscribers are told.
    Raises `AlreadyRegistered` when it is there under that key already, `CodecError` for a `meta` that is not plain
    data, ValueError for one of more than 16 kB or a `pid` of another node. EX: Phoenix.Presence.track/4.
    """
    who = _who(pid)
    said: Literal["ok"] = gen.call(
        hub_of(name), ("track", check_topic(topic), who, _check_key(key), _packed(key, meta)), None
    )
    return said


def untrack(
    topic: str | None = None, key: str | None = None, *, pid: Pid | None = None, name: str = DEFAULT_NAME
) -> Literal["ok"]:
    """Say that a process is not in `topic` as `key` any more; without `key` under none, without `topic` nowhere.

    Nothing happens when it was not there. EX: Phoenix.Presence.untrack/3.
    """
    if topic is not None:
        check_topic(topic)
    if key is not None:
        _check_key(key)
    said: Literal["ok"] = gen.call(hub_of(name), ("untrack", topic, _who(pid), key), None)
    return said


def update(topic: str, key: str, meta: Any, *, pid: Pid | None = None, name: str = DEFAULT_NAME) -> Literal["ok"]:
    """Replace the data of a presence by `meta`, or by what `meta(old)` gives here, if it is a function.

    Subscribers get one `PresenceDiff` with both. Raises `NotTracked` when the process is not there as `key`, and what
    `track` raises. EX: Phoenix.Presence.update/4.
    """
    who = _who(pid)
    if callable(meta):
        meta = meta(_meta_of(check_topic(topic), _check_key(key), who, name))
    said: Literal["ok"] = gen.call(
        hub_of(name), ("update", check_topic(topic), who, _check_key(key), _packed(key, meta)), None
    )
    return said


def _meta_of(topic: str, key: str, pid: Pid, name: str) -> Any:
    for who, found, meta in _present(topic, name):
        if (who, found) == (pid, key):
            return meta
    raise NotTracked(pid, topic, key)


def list(topic: str, *, name: str = DEFAULT_NAME) -> dict[str, builtins.list[Any]]:
    """Give who is in `topic`: by key the data of each presence, oldest first as far as this node saw them come.

    Asks no process. EX: Phoenix.Presence.list/1.
    """
    found: dict[str, builtins.list[Any]] = {}
    for _pid, key, meta in _present(check_topic(topic), name):
        found.setdefault(key, []).append(meta)
    return found


def get_by_key(topic: str, key: str, *, name: str = DEFAULT_NAME) -> builtins.list[Any]:
    """Give the data of those who are in `topic` as `key`; [] when nobody is. EX: Phoenix.Presence.get_by_key/2."""
    return [meta for _pid, found, meta in _present(check_topic(topic), name) if found == _check_key(key)]


def _present(topic: str, name: str) -> Iterator[tuple[Pid, str, Any]]:
    for entry in tables.find(hub_of(name), tables.SCOPE).under(topic):
        yield pid_of(entry), *read(entry.read()[1][0])


# -- arguments ---------------------------------------------------------------------------------------------


def _who(pid: Any) -> Pid:
    here = current()
    if pid is None:
        return here.pid
    if not isinstance(pid, Pid):
        msg = f"who is present is a Pid, not {pid!r:.80}"
        raise TypeError(msg)
    if (pid.node, pid.incarnation) != (here.node.name, here.node.incarnation):
        msg = f"{pid!r} is a process of another node: it has to be tracked there"
        raise ValueError(msg)
    return pid


def _check_key(key: Any) -> str:
    if not isinstance(key, str):
        msg = f"the key of a presence is a str, not {key!r:.80}"
        raise TypeError(msg)
    return key


def _packed(key: str, meta: Any) -> bytes:
    _check_plain(meta, "meta")
    data = DATA.encode((key, meta))
    if len(data) > META_BYTES:
        msg = f"key and meta of a presence take at most {META_BYTES} bytes, not {len(data)}: all nodes hold them"
        raise ValueError(msg)
    return data


def _check_plain(term: Any, path: str) -> None:
    """Refuse what is not made of builtins: no node could be sure to have its class."""
    if type(term) in _SCALARS:
        return
    if type(term) is dict:
        for key, value in term.items():
            _check_plain(key, f"{path}'s key {key!r:.40}")
            _check_plain(value, f"{path}[{key!r:.40}]")
    elif type(term) in {tuple, builtins.list, set, frozenset}:
        for number, part in enumerate(term):
            _check_plain(part, f"{path}[{number}]")
    else:
        raise CodecError(path, type(term).__qualname__, detail="the meta of a presence is plain data, no class's")
