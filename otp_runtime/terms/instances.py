"""Classes, and instances of the program's classes: as data where they are data, else shipped.

Dataclasses, enums, exceptions and subclasses of builtins are data: they travel as their class and
their parts. Functions and all other instances are carried by a `Shipper`.
"""

from __future__ import annotations

from enum import Enum, Flag
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from msgpack import ExtType

from otp_runtime.terms.classes import (
    builtin_base,
    find_class,
    importable_name,
    make_empty,
    make_from_builtin,
    set_state,
    state_of,
    static_base,
    take_builtin,
)
from otp_runtime.terms.exception_data import EXCEPTION, build_exception, expand_exception
from otp_runtime.terms.extensions import APART, CODE, LATE_EXPANDERS, Builder
from otp_runtime.terms.offender import held_refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otp_runtime.terms.parcel import Buffer

__all__ = ["Instances", "Shipper"]

CLASS = ExtType(CODE, b"K")
CLASS_REF = ExtType(CODE, b"k")
DATACLASS = ExtType(CODE, b"O")
ENUM = ExtType(CODE, b"E")
FLAG = ExtType(CODE, b"F")
SUBCLASS = ExtType(CODE, b"S")
SHIPPED = ExtType(CODE, b"P")
SHIPPED_APART = ExtType(CODE, b"A")


class Shipper(Protocol):
    """Carries what is not data: classes that cannot be imported, functions, other objects."""

    def class_ref(self, cls: type) -> Any:
        """Return a term by which another process of the node finds `cls`."""

    def load_class(self, ref: Any) -> type:
        """Return the class that `class_ref` made `ref` of, the same object each time."""

    def dump(self, value: Any, apart: list[Buffer] | None = None) -> bytes:
        """Return `value` as bytes; its large buffers are added to `apart`, where that is given."""

    def load(self, data: bytes, buffers: Sequence[Buffer] = ()) -> Any:
        """Return the value that `dump` made `data` of, and put `buffers` aside for."""


class Instances:
    """Takes instances apart and puts them together, with the help of `shipper` if there is one.

    Without `imports`, only classes of modules that this process has imported are found, and a class
    itself, which is no instance, does not travel.
    """

    __slots__ = ("_imports", "_shipper")

    def __init__(self, shipper: Shipper | None, *, imports: bool) -> None:
        self._shipper = shipper
        self._imports = imports

    def expand(self, value: Any) -> list[Any]:
        """Return the marked list of `value`. Raises anything when it cannot travel."""
        cls: Any = type(value)
        match form_of(cls):
            case "dataclass":
                return [DATACLASS, self.class_ref(cls), state_of(value)]
            case "exception":
                return expand_exception(value, self.class_ref)
            case "enum":
                return self._expand_enum(value)
            case "class":
                self._check_classes()
                return [CLASS, self.class_ref(value)]
            case "subclass":
                return self._expand_subclass(value)
            case "shipped":
                return [SHIPPED, self._ship(value)]
            case late:
                return LATE_EXPANDERS[late](value)

    def class_ref(self, cls: type) -> Any:
        """Return what stands for `cls`: a text when it can be imported, else the shipper's term."""
        name = importable_name(cls)
        if name is not None:
            return name
        if self._shipper is None:
            message = f"the class {cls.__qualname__} cannot be imported by another program"
            raise LookupError(message)
        return [CLASS_REF, self._shipper.class_ref(cls)]

    def builders(self) -> dict[bytes, Builder]:
        """Return how each marked list of this module is put together."""
        return {
            CLASS.data: self._build_class,
            CLASS_REF.data: self._build_class_ref,
            DATACLASS.data: self._build_dataclass,
            ENUM.data: self._build_enum,
            FLAG.data: self._build_flag,
            SUBCLASS.data: self._build_subclass,
            EXCEPTION.data: lambda items: build_exception(items[1:], self._find_or_none),
            SHIPPED.data: self._build_shipped,
            APART.data: _build_nowhere,
            SHIPPED_APART.data: _build_nowhere,
        }

    def builders_for(self, buffers: Sequence[Buffer]) -> dict[bytes, Builder]:
        """Return how the marked lists of a parcel are put together that stand for its `buffers`."""
        if self._shipper is None:
            message = "it is a parcel, and those stay within their node"
            raise TypeError(message)
        load = self._shipper.load

        def build_apart(items: list[Any]) -> bytes:
            buffer = buffers[items[1]]
            return buffer if type(buffer) is bytes else bytes(buffer)

        def build_shipped(items: list[Any]) -> Any:
            _, data, first, count = items
            return load(data, buffers[first : first + count])

        return {APART.data: build_apart, SHIPPED_APART.data: build_shipped}

    # -- taking apart ---------------------------------------------------------------------------

    def _expand_enum(self, value: Enum) -> list[Any]:
        cls = type(value)
        if cls.__members__.get(value._name_) is value:
            return [ENUM, self.class_ref(cls), value._name_]
        return [FLAG, self.class_ref(cls), value._value_]  # several members of a Flag

    def _expand_subclass(self, value: Any) -> list[Any]:
        cls = type(value)
        payload, extra = take_builtin(value)
        state = None if builtin_base(cls) is cls else state_of(value) or None
        return [SUBCLASS, self.class_ref(cls), payload, extra, state]

    def _ship(self, value: Any) -> bytes:
        held = held_refused(value)
        if held is not None:
            message = f"a {type(held).__qualname__} means nothing in another process"
            raise TypeError(message)
        if self._shipper is None:
            message = "it is not data, and only data may leave the node"
            raise TypeError(message)
        return self._shipper.dump(value)

    # -- putting together -----------------------------------------------------------------------

    def _find(self, reference: Any) -> type:
        if type(reference) is str:
            return find_class(reference, imports=self._imports)
        if type(reference) is _Found and reference.cls is not None:
            return reference.cls
        message = reference.why if type(reference) is _Found else "a class that this process does not have"
        raise LookupError(message)

    def _find_or_none(self, reference: Any) -> type | None:
        try:
            return self._find(reference)
        except Exception:  # noqa: BLE001 - importing a module runs code that may raise anything
            return None

    def _build_class(self, items: list[Any]) -> type:
        self._check_classes()
        return self._find(items[1])

    def _check_classes(self) -> None:
        """A class is code: whoever gets one may call it. From and to a network it does not go."""
        if not self._imports:
            message = "a class is code, and only data may leave the node"
            raise TypeError(message)

    def _build_class_ref(self, items: list[Any]) -> Any:
        # Lenient, for an exception can do without its class; who cannot is told by `_find`.
        if self._shipper is None:
            return _Found(None, f"the class {_name_of(items[1])} is one that only its own node can load")
        try:
            return _Found(self._shipper.load_class(items[1]))
        except Exception as error:  # noqa: BLE001 - loading runs a user's code
            return _Found(None, f"the class {_name_of(items[1])} cannot be loaded: {error}")

    def _build_dataclass(self, items: list[Any]) -> Any:
        _, reference, state = items
        cls = self._find(reference)
        if not hasattr(cls, "__dataclass_fields__") or static_base(cls) is not object:
            message = f"{cls.__qualname__} is not a dataclass"
            raise TypeError(message)
        made = make_empty(cls)
        set_state(made, state)
        return made

    def _build_enum(self, items: list[Any]) -> Any:
        _, reference, name = items
        cls = self._find(reference)
        if not issubclass(cls, Enum):
            message = f"{cls.__qualname__} is not an enum"
            raise TypeError(message)
        return cls.__members__[name]

    def _build_flag(self, items: list[Any]) -> Any:
        _, reference, value = items
        cls = self._find(reference)
        if not issubclass(cls, Flag) or type(value) is not int:
            message = f"{cls.__qualname__} is not a flag"
            raise TypeError(message)
        return cls(value)

    def _build_subclass(self, items: list[Any]) -> Any:
        _, reference, payload, extra, state = items
        made = make_from_builtin(self._find(reference), payload, extra)
        if state is not None:
            set_state(made, state)
        return made

    def _build_shipped(self, items: list[Any]) -> Any:
        if self._shipper is None:
            message = "it holds a pickled object, and nothing is unpickled here"
            raise TypeError(message)
        return self._shipper.load(items[1])


class _Found:
    """What a class reference is while a term is decoded: the class, or None and why there is none."""

    __slots__ = ("cls", "why")

    def __init__(self, cls: type | None, why: str = "") -> None:
        self.cls = cls
        self.why = why


def _build_nowhere(_items: list[Any]) -> Any:
    message = "the buffers that lay beside it are not here"
    raise LookupError(message)


def _name_of(reference: Any) -> str:
    """Give the name of a class from what a shipper calls it: its module, its qualified name, and more."""
    return ".".join(map(str, reference[:2])) if isinstance(reference, list) else repr(reference)


@lru_cache(maxsize=4096)
def form_of(cls: type) -> str:
    """Return in which form instances of `cls` travel."""
    name = importable_name(cls)
    if name in LATE_EXPANDERS:
        return name
    if issubclass(cls, BaseException):
        return "exception"
    if issubclass(cls, Enum):
        return "enum"
    if issubclass(cls, type):
        return "class"
    if builtin_base(cls) is not None:
        return "subclass"
    if hasattr(cls, "__dataclass_fields__") and static_base(cls) is object:
        return "dataclass"
    return "shipped"
