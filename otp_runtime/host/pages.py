"""Where the objects of a Python process lie, put in order before it is forked.

Python writes where it only reads: every object it looks at is counted, and a fork copies the whole page of each. So
what a new process looks at, and what it makes, should lie side by side.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from opcode import opmap
from types import CodeType, FunctionType, ModuleType
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

_NO_HOLE_BYTES: Final = 120_000
_LARGE_HOLE_BYTES: Final = 65_536
_LARGE_HOLES_BYTES: Final = 4 << 20
"""How large hardly any hole is, how large are those that are filled, and how much is filled at most."""

_CODE_STEP: Final = 128
_NOTHING: Final = bytes((opmap["NOP"], 0))
"""Small codes are made of few different sizes, as each size has pools of its own: with an instruction behind the last
one, which is never reached."""

_LIBRARY: Final = __name__.partition(".")[0]

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


def fill_large_holes() -> None:
    """Fill what is free in the C library's memory, where larger objects are: what forks make then lies at its end.

    Where that library keeps its memory in another way, more is filled than need be, or less.
    """
    left = _LARGE_HOLES_BYTES
    # holes of that size are rare: the highest of these is behind all that is used
    end = max(map(id, [b"\0" * _NO_HOLE_BYTES for _ in range(4)]))
    size = _LARGE_HOLE_BYTES
    while size > _BLOCK_BYTES_MAX:
        while left > 0 and id(block := b"\0" * (size - _BYTES_HEAD)) < end:
            _kept.append(block)
            left -= size
        size = size * 7 // 8
    # small objects have memory of their own, but locks, buffers and the like have not
    allocate = _malloc()
    for size in range(_BLOCK_BYTES_MAX * 2, _BLOCK_BYTES, -_BLOCK_BYTES):
        while left > 0 and allocate(size) < end:
            left -= size


def _malloc() -> Any:
    """Give the C library's own, on whose results nobody else relies."""
    malloc = ctypes.CDLL(None).malloc
    malloc.restype, malloc.argtypes = ctypes.c_size_t, (ctypes.c_size_t,)
    return malloc


def forget_lookups() -> None:
    """Empty the interpreter's cache of attributes: a fork that fills it would count down every name that was there."""
    if sys.version_info < (3, 12):
        # from then on names are not counted
        sys._clear_type_cache()  # noqa: SLF001


def settle_memory() -> None:
    """Have what forks of this process make lie together, and what is here now not be counted again.

    For who has loaded all that they have in common. The garbage collector does not look at that any more.
    """
    gc.freeze()
    # what is free, and kept to be used again, lies all over the memory too: it is given back, and filled
    gc.collect()
    fill_holes()
    fill_large_holes()
    forget_lookups()
    gc.freeze()


# -- functions ---------------------------------------------------------------------------------------------


def gather(names: Iterable[str]) -> None:
    """Lay functions side by side, and their code; `names` are as "module:Class.function", and may be of none.

    A function that is looked at is counted, and so is what holds it in its class. It is copied, wherever it is found
    under a name, in a module or a class, and so is the descriptor that holds it. One that anything else holds stays
    what it is, so that there are never two of one: only its code is copied. Only where nobody else runs: who looks for
    a function just then finds the old or the new one.
    """
    # what is not small comes from the C library, which has memory without holes for a thread of its own
    thread = threading.Thread(target=_gather, args=(tuple(names),))
    thread.start()
    thread.join()


def _gather(names: tuple[str, ...]) -> None:
    functions = {id(function): function for name in names if (function := function_of(name)) is not None}
    codes = {key: _padded_copy_of(function.__code__) for key, function in functions.items()}
    places = _places_of(functions, _holders(names))
    twins: dict[int, FunctionType] = {}
    for key, code in codes.items():
        function = functions[key]
        _kept.extend((function, function.__code__))
        # held by its places, by `functions`, `function` and what is kept, and as an argument
        if _are_all_different(places[key]) and sys.getrefcount(function) == len(places[key]) + 4:
            twins[key] = _twin_of(function, code)
        else:
            function.__code__ = code
    for key, twin in twins.items():
        for holder, name in places[key]:
            _put(holder, name, twin)


def _are_all_different(places: list[tuple[Any, str]]) -> bool:
    """Say whether no descriptor stands at two places: that would hold the function once."""
    there = [holder.__dict__[name] for holder, name in places]
    descriptors = [id(one) for one in there if not isinstance(one, FunctionType)]
    return len(descriptors) == len(set(descriptors))


def _twin_of(function: FunctionType, code: CodeType) -> FunctionType:
    twin = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__ = function.__qualname__
    twin.__module__ = function.__module__
    twin.__doc__ = function.__doc__
    twin.__annotations__ = function.__annotations__
    twin.__dict__.update(function.__dict__)
    return twin


def _put(holder: Any, name: str, twin: FunctionType) -> None:
    """Have a function, or a descriptor like the one that is there, under a name."""
    there = holder.__dict__[name]
    match there:
        case property():
            setattr(holder, name, property(twin, there.fset, there.fdel, there.__doc__))
        case classmethod() | staticmethod():
            setattr(holder, name, type(there)(twin))
        case _:
            setattr(holder, name, twin)


def function_of(name: str) -> FunctionType | None:
    """Give the function of a name as "module:Class.function", None when it is not there."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) else None


def _places_of(functions: dict[int, FunctionType], holders: Iterable[Any]) -> dict[int, list[tuple[Any, str]]]:
    """Give, by their identity, in which of the modules and classes these are found, and under which names."""
    places: dict[int, list[tuple[Any, str]]] = {key: [] for key in functions}
    for holder in holders:
        for name, value in holder.__dict__.items():
            kind = type(value)
            if kind is classmethod or kind is staticmethod:
                found = places.get(id(value.__func__))
            elif kind is property:
                found = places.get(id(value.fget))
            else:
                found = places.get(id(value))
            if found is not None:
                found.append((holder, name))
    return places


def _holders(names: Iterable[str]) -> Iterable[Any]:
    """Give the modules and classes where functions of these names are looked for: theirs, and all of this library."""
    holders: dict[int, Any] = {
        id(module): module
        for name, module in sys.modules.items()
        if name.startswith(_LIBRARY) and type(module) is ModuleType
    }
    for name in names:
        module, _, path = name.partition(":")
        holder = sys.modules.get(module)
        for part in path.split("."):
            if not isinstance(holder, ModuleType | type):
                break
            holders[id(holder)] = holder
            holder = holder.__dict__.get(part)
    return holders.values()


def _padded_copy_of(code: CodeType) -> CodeType:
    """Copy code, and that of the functions that are made in it."""
    inner = tuple(_padded_copy_of(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    size = sys.getsizeof(code)
    more = -size % _CODE_STEP // len(_NOTHING) if size <= _BLOCK_BYTES_MAX else 0
    return code.replace(co_consts=inner, co_code=code.co_code + _NOTHING * more)
