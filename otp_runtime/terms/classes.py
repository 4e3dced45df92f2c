"""Classes and the instances that are data: how they are named, taken apart and put together.

Nothing here runs a user's code: an instance is made by `__new__` of the builtin it is built on,
and its attributes are put into place without `__init__`, `__setattr__` or `__setstate__`.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from copyreg import dispatch_table
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = [
    "builtin_base",
    "find_class",
    "importable_name",
    "is_custom_pickled",
    "make_empty",
    "make_from_builtin",
    "set_state",
    "state_of",
    "static_base",
    "take_builtin",
]

_PER_PROCESS_MODULES = frozenset({"__main__", "__mp_main__"})
_HEAP_TYPE = 1 << 9
_UNNAMED = {
    cls: f"types:{name}"
    for name, cls in vars(types).items()
    if isinstance(cls, type) and cls.__module__ == "builtins" and not hasattr(builtins, cls.__qualname__)
}
"""The interpreter's own types that only the module `types` has a name for: of None, of functions and the like."""


# -- names --------------------------------------------------------------------------------------


def importable_name(cls: type) -> str | None:
    """Return `"module:qualname"` when another process finds this same class there, else None.

    Looked up each time, because a reloaded module has another class under the same name.
    """
    module, name = cls.__module__, cls.__qualname__
    if module == "builtins" and cls in _UNNAMED:
        return _UNNAMED[cls]
    if module in _PER_PROCESS_MODULES or "<locals>" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is cls else None


def find_class(name: str, *, imports: bool) -> type:
    """Return the class called `"module:qualname"`, importing its module if `imports` allows.

    Raises whatever the import raises, `LookupError` when there is no such class.
    """
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    if found is None and imports:
        found = import_module(module)
    for part in qualname.split("."):
        # a module may import in its `__getattr__`
        found = getattr(found, part, None) if imports else getattr(found, "__dict__", {}).get(part)
    if not isinstance(found, type):
        message = f"no class {qualname} in module {module}"
        raise LookupError(message)  # noqa: TRY004 - as for a name that is not there
    return found


# -- state --------------------------------------------------------------------------------------


def state_of(value: object) -> dict[str, Any]:
    """Return the attributes in the instance's `__dict__` and in its slots."""
    state: dict[str, Any] = getattr(value, "__dict__", None) or {}
    cls: Any = type(value)
    slots = _slots_of(cls)
    if slots:
        state = dict(state)
        for name in slots:
            try:
                state[name] = object.__getattribute__(value, name)
            except AttributeError:
                continue  # a slot that was never set
    if "__orig_class__" in state:  # what typing leaves on an instance of `Generic[int]`
        state = {name: part for name, part in state.items() if name != "__orig_class__"}
    return state


def set_state(value: object, state: dict[str, Any]) -> None:
    """Put the attributes `state` in place without running code of the class.

    Raises `TypeError` or `AttributeError` when the class has no room for one of them.
    """
    cls: Any = type(value)
    slots = _slots_of(cls)
    for name, part in state.items():
        if type(name) is not str:
            message = f"an attribute cannot be called {name!r}"
            raise TypeError(message)
        if name in slots:
            object.__setattr__(value, name, part)
        else:
            value.__dict__[name] = part


@lru_cache(maxsize=4096)
def _slots_of(cls: Any) -> frozenset[str]:
    names = set()
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in {"__dict__", "__weakref__"}:
                continue
            private = name.startswith("__") and not name.endswith("__")
            names.add(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return frozenset(names)


def static_base(cls: type) -> type:
    """Return the class written in C whose memory layout instances of `cls` have."""
    while cls.__flags__ & _HEAP_TYPE and cls.__base__ is not None:
        cls = cls.__base__
    return cls


def make_empty(cls: type) -> Any:
    """Return an instance of the plain class `cls` without attributes."""
    return object.__new__(cls)


def is_custom_pickled(cls: type) -> bool:
    """Tell whether `cls` says itself what of an instance is to be sent."""
    names = ("__reduce_ex__", "__reduce__", "__getstate__")
    return cls in dispatch_table or any(getattr(cls, name) is not getattr(object, name) for name in names)


# -- subclasses of builtins ---------------------------------------------------------------------

_Take = Callable[[Any], Any]
_Make = Callable[[Any, Any, Any], Any]  # (cls, payload, extra)


def _make_ordered(cls: Any, payload: Any, _extra: Any) -> Any:
    made = OrderedDict.__new__(cls)
    for key, value in payload.items():
        OrderedDict.__setitem__(made, key, value)
    return made


def _make_default(cls: Any, payload: Any, factory: Any) -> Any:
    if factory is not None and not callable(factory):
        message = "the factory of a defaultdict must be callable"
        raise TypeError(message)
    made = defaultdict.__new__(cls)
    defaultdict.__init__(made, factory)
    dict.update(made, payload)
    return made


def _make_dict(cls: Any, payload: Any, _extra: Any) -> Any:
    made = dict.__new__(cls)
    dict.update(made, payload)
    return made


def _make_deque(cls: Any, payload: Any, maxlen: Any) -> Any:
    made = deque.__new__(cls)
    deque.__init__(made, payload, maxlen)
    return made


def _make_list(cls: Any, payload: Any, _extra: Any) -> Any:
    made = list.__new__(cls)
    list.extend(made, payload)
    return made


def _make_set(cls: Any, payload: Any, _extra: Any) -> Any:
    made = set.__new__(cls)
    set.update(made, payload)
    return made


def _make_bytearray(cls: Any, payload: Any, _extra: Any) -> Any:
    made = bytearray.__new__(cls)
    bytearray.extend(made, memoryview(payload))
    return made


def _immutable(base: Any) -> _Make:
    return lambda cls, payload, _extra: base.__new__(cls, payload)


# The methods are the builtins' own: a subclass may override `__iter__` and the like.
_BUILTINS: dict[type, tuple[_Take, _Make]] = {
    OrderedDict: (
        lambda value: {key: dict.__getitem__(value, key) for key in OrderedDict.__iter__(value)},
        _make_ordered,
    ),
    defaultdict: (dict.copy, _make_default),
    Counter: (dict.copy, _make_dict),
    dict: (dict.copy, _make_dict),
    deque: (lambda value: list(deque.__iter__(value)), _make_deque),
    list: (list.copy, _make_list),
    tuple: (lambda value: list(tuple.__iter__(value)), _immutable(tuple)),
    set: (lambda value: list(set.__iter__(value)), _make_set),
    frozenset: (lambda value: list(frozenset.__iter__(value)), _immutable(frozenset)),
    bytearray: (lambda value: bytes(memoryview(value)), _make_bytearray),
    str: (str.__str__, _immutable(str)),
    bytes: (lambda value: bytes.__getitem__(value, slice(None)), _immutable(bytes)),
    int: (int.__int__, _immutable(int)),
    float: (float.__float__, _immutable(float)),
    complex: (lambda value: complex(value.real, value.imag), _immutable(complex)),
}


def builtin_base(cls: type) -> type | None:
    """Return the builtin that `cls` is or extends in Python alone, None for other classes.

    None also when a class in between has its own idea of how it is pickled, or is written in C
    (as numpy's numbers are): it knows more about its instances than their value and attributes.
    """
    for base in cls.__mro__:
        if base in _BUILTINS:
            return base
        if not base.__flags__ & _HEAP_TYPE:
            return None
        own = vars(base)
        if "__reduce__" in own or "__reduce_ex__" in own or "__getstate__" in own:
            return None
    return None


def take_builtin(value: Any) -> tuple[Any, Any]:
    """Return what of `value` the builtin holds that it extends: a plain value, an extra or None."""
    base = builtin_base(type(value))
    if base is None:
        message = f"{type(value).__qualname__} does not extend a builtin"
        raise TypeError(message)
    payload = _BUILTINS[base][0](value)
    if base is defaultdict:
        return payload, value.default_factory
    if base is deque:
        return payload, value.maxlen
    return payload, None


def make_from_builtin(cls: type, payload: Any, extra: Any) -> Any:
    """Return an instance of `cls` that holds what `take_builtin` took. No `__init__` is run."""
    base = builtin_base(cls)
    if base is None:
        message = f"{cls.__qualname__} does not extend a builtin"
        raise TypeError(message)
    return _BUILTINS[base][1](cls, payload, extra)
