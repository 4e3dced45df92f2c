"""Which part of a term cannot travel, and why: slow, used only after encoding has failed."""

from __future__ import annotations

import types
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from otp_runtime.terms.classes import builtin_base, is_custom_pickled, state_of
from otp_runtime.terms.reason import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_DEPTH", "find_offender", "held_refused", "is_refused", "parts_of"]

MAX_DEPTH = 1024
"""No term may be nested deeper: msgpack's own limit. Up to 256 it always travels."""

_MAX_LOOKED_AT = 10_000
_MAX_KEY_CHARS = 60

_REFUSED_TYPES = (
    memoryview,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
)

# By name, so that nothing has to be imported to refuse it.
_REFUSED_NAMES = frozenset(
    {
        "_asyncio.Future",
        "_asyncio.Task",
        "_io._IOBase",
        "_socket.socket",
        "_sqlite3.Connection",
        "_thread.RLock",
        "_thread._ThreadHandle",
        "_thread._local",
        "_thread.lock",
        "asyncio.events.AbstractEventLoop",
        "concurrent.futures._base.Executor",
        "io.IOBase",
        "mmap.mmap",
        "multiprocessing.process.BaseProcess",
        "select.epoll",
        "select.poll",
        "socket.socket",
        "sqlite3.Connection",
        "ssl.SSLContext",
        "subprocess.Popen",
        "threading.Barrier",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
        "threading.Thread",
    }
)


@lru_cache(maxsize=4096)
def is_refused(cls: Any) -> bool:
    """Tell whether instances of `cls` mean nothing in another process: files, locks, threads."""
    if issubclass(cls, _REFUSED_TYPES):
        return True
    return any(f"{base.__module__}.{base.__qualname__}" in _REFUSED_NAMES for base in cls.__mro__)


def held_refused(term: object) -> object | None:
    """Return an object held somewhere in `term` that must not travel, or None.

    A class that says itself how it is pickled is believed. Looks at 10,000 objects at most.
    """
    todo: list[Any] = [term]
    seen: dict[int, Any] = {}  # keeps them alive, so that no id is used twice
    while todo and len(seen) < _MAX_LOOKED_AT:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        cls: Any = type(value)
        if is_refused(cls):
            found: object = value
            return found
        todo.extend(part for _, part in parts_of(value))
    return None


def find_offender(term: Any, what: str, encode: Callable[[Any], object]) -> tuple[str, str, Exception | None]:
    """Return path, name of the type, and error of the deepest part that `encode` refuses.

    `what` is the name of the root, as in `request["jobs"][3].lock`.
    """
    error = _error_of(encode, term)
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        path, part = _find_cycle(term, what)
        why = "it is nested too deeply" if part is term and path == what else "it contains itself"
        return path, _name(part), ValueError(why)
    path = what
    for _ in range(MAX_DEPTH):
        for suffix, part in parts_of(term):
            part_error = _error_of(encode, part)
            if part_error is not None:
                path, term, error = f"{path}{suffix}", part, part_error
                break
        else:
            break
    return path, _name(term), error


def _find_cycle(root: Any, what: str) -> tuple[str, Any]:
    """Return path and value of the first data that is inside itself; the root if there is none."""
    around = [(what, root, parts_of(root))]  # from the root to where we are
    inside = {id(root)}
    done: dict[int, Any] = {}
    while around:
        _, value, parts = around[-1]
        for suffix, part in parts:
            if not _is_data(part) or id(part) in done:
                continue  # pickle copes with an object that knows itself
            if id(part) in inside:
                return "".join([step for step, _, _ in around]) + suffix, part
            around.append((suffix, part, parts_of(part)))
            inside.add(id(part))
            break
        else:
            around.pop()
            inside.remove(id(value))
            done[id(value)] = value
    return what, root


def parts_of(term: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a term, each with the suffix that leads to it in Python's notation."""
    cls = type(term)
    if isinstance(term, (type, Enum, types.ModuleType)):
        return
    if cls is types.FunctionType:
        yield from _captured_by(term)
        return
    if cls is slice:
        yield from ((".start", term.start), (".stop", term.stop), (".step", term.step))
        return
    base = builtin_base(cls)
    if base is None and is_custom_pickled(cls) and not hasattr(cls, "__dataclass_fields__"):
        return
    if base is not None:
        yield from _items_of(term)
    if base is not cls:
        for name, part in state_of(term).items():
            yield f".{name}", part


def _items_of(term: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(term, dict):
        for key in dict.keys(term):
            yield f".key({_key(key)})", key
        for key, part in dict.items(term):
            yield f"[{_key(key)}]", part
        factory = getattr(term, "default_factory", None)
        if factory is not None:
            yield ".default_factory", factory
    elif isinstance(term, (set, frozenset)):
        for part in term:
            yield f"{{{_key(part)}}}", part
    elif not isinstance(term, (str, bytes, bytearray, int, float, complex)):
        for index, part in enumerate(term):
            yield f"[{index}]", part


def _captured_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:
            continue  # a variable that has no value yet
    for index, part in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", part


def _is_data(part: Any) -> bool:
    cls = type(part)
    if cls is slice or hasattr(cls, "__dataclass_fields__"):
        return True
    return builtin_base(cls) not in {None, str, bytes, bytearray, int, float, complex}


def _error_of(encode: Callable[[Any], object], term: Any) -> Exception | None:
    try:
        encode(term)
    except Exception as error:  # noqa: BLE001 - pickling runs a user's code: anything may come
        return error
    return None


def _key(key: Any) -> str:
    if type(key) is str:
        text = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        try:
            text = repr(key)
        except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
            text = f"<{type(key).__name__}>"
    return text if len(text) <= _MAX_KEY_CHARS else f"{text[: _MAX_KEY_CHARS - 1]}…"


def _name(term: Any) -> str:
    return type_name(type(term))
