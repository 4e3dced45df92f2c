"""Where the objects of a Python process lie, put in order before it is forked.

Python writes where it only reads: every object it looks at is counted, and a fork copies the whole page of each. So
what a new process looks at, and what it makes, should lie side by side.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK_BYTES: Final = 16
_BLOCK_BYTES_MAX: Final = 512
_BYTES_HEAD: Final = 33
_POOL_BYTES: Final = 16384
_POOL_HEAD_BYTES: Final = 48
_HOLES_MAX: Final = 20_000
"""How Python's allocator divides memory for small objects, and what a bytes object has beside its bytes.

Where these are otherwise, less is filled, or more to no purpose, but never more than so many blocks of a size."""

_kept: list[object] = []
"""What must stay where it is for ever."""


def fill_holes() -> None:
    """Fill what is free between the small objects of this process, for good.

    Python's allocator first gives out the free blocks of half-filled pools, which lie all over the memory. With these
    filled, what a fork of this process makes lies together in fresh pools, and it copies that many pages less.
    """
    for size in range(_BLOCK_BYTES * 3, _BLOCK_BYTES_MAX + 1, _BLOCK_BYTES):
        for _ in range(_HOLES_MAX):
            _kept.append(b"\0" * (size - _BYTES_HEAD))
            if id(_kept[-1]) % _POOL_BYTES == _POOL_HEAD_BYTES:
                # the first block of a pool: there were no half-filled ones any more
                break


def pack(names: Iterable[str]) -> None:
    """Lay the code of functions side by side, in memory of its own; `names` are as "module:Class.function".

    A function is given a copy of its code. The old code is kept, as its memory would be given out again, page by page.
    """
    for name in names:
        function = _function_of(name)
        if function is not None:
            _kept.append(function.__code__)
            function.__code__ = _copy_of(function.__code__)


def _function_of(name: str) -> FunctionType | None:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) else None


def _copy_of(code: CodeType) -> CodeType:
    """Copy code, and that of the functions that are made in it."""
    inner = tuple(_copy_of(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_consts=inner)
