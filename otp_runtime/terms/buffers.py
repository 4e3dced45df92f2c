"""Bytearrays and memoryviews, which msgpack packs as if they were bytes, without asking.

A bytearray must arrive as one and a memoryview is refused, so a term whose bytes may hold one is
looked through, and packed once more if it does.
"""

from __future__ import annotations

from typing import Any

from otp_runtime.terms.classes import state_of
from otp_runtime.terms.extensions import BYTEARRAY
from otp_runtime.terms.offender import is_refused, parts_of
from otp_runtime.terms.pid import Pid, Ref

__all__ = ["ATOMS", "holds_buffer", "mark_buffers"]

ATOMS = frozenset({type(None), bool, int, float, str, bytes, complex, range, Pid, Ref})
"""Types without parts that are never a buffer."""


def holds_buffer(term: Any) -> bool:
    """Tell whether a bytearray or a memoryview is somewhere in `term`, which msgpack has packed."""
    todo: list[Any] = [term]
    seen: set[int] = set()  # only instances can hold themselves and still have been packed
    for value in todo:  # grows while it is walked
        cls = type(value)
        if cls in ATOMS:
            continue
        if cls is list or cls is tuple:
            if not ATOMS.issuperset(map(type, value)):
                todo.extend(value)
        elif cls is dict:
            todo.extend(value.values())
        elif cls is bytearray or cls is memoryview:
            return True
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, BaseException):
                todo.extend((*value.args, state_of(value), value.__cause__))
            else:
                todo.extend(part for _, part in parts_of(value))
    return False


def mark_buffers(value: Any) -> Any:
    """Return `value` with marked lists for the bytearrays in its lists and dicts."""
    cls: Any = type(value)
    if cls is list:
        marked = []
        for item in value:
            marked.append(item if type(item) in ATOMS else mark_buffers(item))  # noqa: PERF401 - a comprehension costs a frame per level
        return marked
    if cls is dict:
        return dict(zip(value, mark_buffers(list(value.values())), strict=True))
    if cls is bytearray:
        return [BYTEARRAY, bytes(value)]
    if is_refused(cls):
        message = f"a {cls.__qualname__} means nothing in another process"
        raise TypeError(message)
    return value
