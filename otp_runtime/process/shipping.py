"""What msgpack cannot say, inside one node: functions, classes that cannot be imported, objects.

A class that cannot be imported (`__main__`'s, a notebook cell's, a function's) is ONE class per process and
definition (module, qualified name, digest). Its definition is laid down once in the node's directory under
its digest; a message only names it. So what a handler matches and what a message carries are the same object,
and in the process that defined it, its own class.

A definition is loaded in two steps, as two classes may refer to each other: an empty class first, which is
made known, then its contents, whose functions may refer to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib
import io
import marshal
import os
import pickle
import sys
import threading
import types
import warnings
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from otp_runtime.errors import CodecError
from otp_runtime.terms.instances import form_of
from otp_runtime.terms.parcel import APART_FROM
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otp_runtime.terms.parcel import Buffer

ClassRef: TypeAlias = "list[str]"

LARGE_GLOBAL_BYTES = 1_000_000
_MAINS = ("__main__", "__mp_main__")
_SENTINELS = {
    name: getattr(dataclasses, name)
    for name in ("_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR", "MISSING", "KW_ONLY")
    if hasattr(dataclasses, name)
}
_NAMES_OF_SENTINELS = {id(value): name for name, value in _SENTINELS.items()}
_SKIPPED = frozenset({"__dict__", "__weakref__", "_abc_impl", "__module__", "__qualname__", "__slots__"})


class _NeedsDillError(Exception):
    """The fast pickler met a function that cannot be imported."""


def is_importable(thing: Any) -> bool:
    """Say whether another process finds this class or function by importing its module."""
    module = getattr(thing, "__module__", None)
    qualname = getattr(thing, "__qualname__", None)
    if module is None or qualname is None or module in _MAINS or "<locals>" in qualname:
        return False
    found: Any = sys.modules.get(module)
    if found is None or (getattr(found, "__spec__", None) is None and module != "builtins"):
        return False
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is thing


class Shipper:
    """Packs and unpacks, by value, what belongs to one node."""

    def __init__(self, definitions: str) -> None:
        """`definitions` is the directory where class definitions lie."""
        self._directory = definitions
        self._refs: weakref.WeakKeyDictionary[type, ClassRef] = weakref.WeakKeyDictionary()
        self._classes: dict[str, type] = {}
        self.has_durable = False
        """Whether a definition that was laid down here has the word `durable` in it."""
        self._laid: weakref.WeakSet[type] = weakref.WeakSet()

    # -- classes --------------------------------------------------------------------------------------------

    def class_ref(self, cls: type) -> ClassRef:
        """Name a class that cannot be imported, laying its definition down if that was not done yet."""
        ref = self._refs.get(cls)
        return ref if ref is not None else self._define(cls)

    def refresh(self, cls: type) -> None:
        """Look again at a class whose globals may have changed since it was last laid down."""
        if cls in self._refs and self._refs[cls][2] != _digest(cls):
            del self._refs[cls]

    def _define(self, cls: type) -> ClassRef:
        digest = _digest(cls)
        ref = self._refs[cls] = [cls.__module__, cls.__qualname__, digest]
        self._classes.setdefault(digest, cls)
        path = f"{self._directory}/{digest}"
        if not os.path.exists(path):
            try:
                definition = pickle.dumps((self.dump(_head(cls)), self.dump(_contents(cls))))
                self.has_durable = self.has_durable or b"durable" in definition
            except BaseException:
                del self._refs[cls]
                raise
            draft = f"{path}.{os.getpid()}"
            with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(definition)
            os.rename(draft, path)
        return ref

    def load_class(self, ref: ClassRef) -> type:
        """Give the class that `class_ref` named."""
        digest = ref[2]
        known = self._classes.get(digest)
        if known is not None:
            return known
        try:
            with open(f"{self._directory}/{digest}", "rb") as file:
                head, contents = pickle.loads(file.read())  # noqa: S301 - a file of this user's own node
        except OSError as error:
            raise CodecError(ref[1], "class", detail=f"its definition is gone: {error}") from error
        cls = _empty_class(*self.load(head))
        self._classes[digest] = cls
        self._refs[cls] = list(ref)
        for name, value in self.load(contents).items():
            type.__setattr__(cls, name, value)
        return cls

    def find_class(self, module: str, qualname: str) -> type | None:
        """Give the class of that name, of those that were laid down or loaded here; the latest definition.

        Of those that another process laid down, the ones of `lay_down` are found.
        """
        named = [cls for cls in self._classes.values() if (cls.__module__, cls.__qualname__) == (module, qualname)]
        if named:
            return named[-1]
        try:
            digest = os.readlink(self._name_link(module, qualname))
        except OSError:
            return None
        return self.load_class([module, qualname, digest])

    def lay_down(self, module: types.ModuleType) -> None:
        """Lay down the classes of `module` whose instances are data, so that `find_class` finds them by name.

        One that cannot be shipped is left out. What was laid down before costs a look.
        """
        for cls in _data_classes(vars(module), module.__name__):
            if cls in self._laid:
                continue
            with contextlib.suppress(Exception):
                link = self._name_link(cls.__module__, cls.__qualname__)
                draft = f"{link}.{os.getpid()}"
                os.symlink(self.class_ref(cls)[2], draft)
                os.rename(draft, link)
            self._laid.add(cls)

    def _name_link(self, module: str, qualname: str) -> str:
        return f"{self._directory}/@{hashlib.sha256(f'{module}:{qualname}'.encode()).hexdigest()[:32]}"

    # -- objects --------------------------------------------------------------------------------------------

    def dump(self, thing: Any, apart: list[Buffer] | None = None) -> bytes:
        """Pickle anything; raises what the pickler raises.

        Large buffers, of arrays for instance, are added to `apart` where that is given, and not copied.
        """
        file = io.BytesIO()
        before = len(apart or ())
        # whatever the fast pickler cannot do, dill may
        with contextlib.suppress(Exception):
            _FastPickler(file, self, apart).dump(thing)
            return file.getvalue()
        if apart:
            del apart[before:]
        return self._dump_by_dill(thing)

    def _dump_by_dill(self, thing: Any) -> bytes:
        pickler_class = _dill_pickler()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = io.BytesIO()
            with _globals_by_name():
                pickler_class(file, self).dump(thing)
            return file.getvalue()

    def load(self, data: bytes, buffers: Sequence[Buffer] = ()) -> Any:
        """Unpickle what `dump` gave, with the buffers that it put apart."""
        return _Unpickler(io.BytesIO(data), self, buffers).load()

    # -- shared by the picklers -----------------------------------------------------------------------------

    def persistent_id(self, thing: Any) -> Any:
        """Name what must be the same object on arrival: classes that cannot be imported, dataclass sentinels."""
        if isinstance(thing, type):
            if not is_importable(thing) and thing.__module__ != "builtins" and not _is_anonymous_builtin(thing):
                return ("class", self.class_ref(thing))
        elif isinstance(thing, types.ModuleType):
            # dill would take a module that lies outside site-packages by value, and all that it imports
            return ("module", thing.__name__)
        elif (name := _NAMES_OF_SENTINELS.get(id(thing))) is not None:
            return ("sentinel", name)
        return None

    def persistent_load(self, name: Any) -> Any:
        """Find what `persistent_id` named."""
        kind, what = name
        if kind == "module":
            return importlib.import_module(what)
        return self.load_class(what) if kind == "class" else _SENTINELS[what]


def _is_anonymous_builtin(cls: type) -> bool:
    """Say whether a type is one of the interpreter's that no module names (NoneType, function …)."""
    return not cls.__flags__ & (1 << 9)


class _FastPickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shipper: Shipper, apart: list[Buffer] | None = None) -> None:
        put_apart = None if apart is None else functools.partial(_put_apart, apart)
        super().__init__(file, protocol=5, buffer_callback=put_apart)
        self._shipper = shipper

    def persistent_id(self, obj: Any) -> Any:
        return self._shipper.persistent_id(obj)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and not is_importable(obj):
            raise _NeedsDillError
        return NotImplemented


def _put_apart(apart: list[Buffer], buffer: pickle.PickleBuffer) -> bool:
    """Put a buffer apart, or have it in the pickle: what is small, or in pieces."""
    try:
        view = buffer.raw()
    except BufferError:
        return True
    if view.nbytes < APART_FROM:
        return True
    apart.append(view)
    return False


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shipper: Shipper, buffers: Sequence[Buffer] = ()) -> None:
        super().__init__(file, buffers=buffers)
        self._shipper = shipper

    def persistent_load(self, pid: Any) -> Any:
        return self._shipper.persistent_load(pid)

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("dill"):
            _dill_pickler()
        return super().find_class(module, name)


def needs_dill(sealed: bytes) -> bool:
    """Say whether something sealed carries functions by value."""
    return b"dill" in sealed


def load_dill() -> None:
    """Import the slow pickler ahead: a fork then inherits it."""
    _dill_pickler()


def _dill_pickler() -> Any:
    """Give the slow pickler, which takes functions by value. Imported when used: dill costs 60 ms."""
    global _DILL_PICKLER
    if _DILL_PICKLER is not None:
        return _DILL_PICKLER
    from multiprocess.reduction import ForkingPickler

    class DillPickler(ForkingPickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, shipper: Shipper) -> None:
            super().__init__(file, protocol=5, recurse=True)
            self._shipper = shipper

        def persistent_id(self, obj: Any) -> Any:
            return self._shipper.persistent_id(obj)

    _DILL_PICKLER = DillPickler
    return DillPickler


_DILL_PICKLER: Any = None
_PICKLING = threading.local()


@contextlib.contextmanager
def _globals_by_name() -> Iterator[None]:
    """Let dill give each function, in this thread, the globals that its own code names.

    dill's own search follows what these functions name in turn, and so never ends where two of them call each other.
    It is of no use: each function that is taken by value brings its globals along.
    """
    from dill import detect

    if not hasattr(_PICKLING, "depth"):
        _PICKLING.depth = 0
    if not getattr(detect.globalvars, "follows_names", False):
        detect.globalvars = _instead_of(detect.globalvars)
    _PICKLING.depth += 1
    try:
        yield
    finally:
        _PICKLING.depth -= 1


def _instead_of(globalvars: Any) -> Any:
    """Wrap dill's search: a program that uses dill itself gets dill's."""

    def search(func: Any, recurse: bool = True, builtin: bool = False) -> Any:
        if not getattr(_PICKLING, "depth", 0):
            return globalvars(func, recurse, builtin)
        return {name: func.__globals__[name] for name in _global_names(func.__code__) if name in func.__globals__}

    search.follows_names = True  # type: ignore[attr-defined]
    return search


def _global_names(code: types.CodeType) -> set[str]:
    """Give the globals that a function's code names, and the code within it; attributes are none."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL_STEPS}
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            names |= _global_names(part)
    return names


_GLOBAL_STEPS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


# -- definitions -------------------------------------------------------------------------------------------


def _data_classes(names: Mapping[str, Any], module: str) -> Iterator[type]:
    """Give the classes of a module, also those within its classes, whose instances travel as data."""
    for value in list(names.values()):
        if isinstance(value, type) and value.__module__ == module and "<locals>" not in value.__qualname__:
            if form_of(value) in {"dataclass", "enum", "subclass"}:
                yield value
            yield from (cls for cls in _data_classes(vars(value), module) if cls is not value)


def _head(cls: type) -> tuple[Any, ...]:
    slots = {"__slots__": cls.__dict__["__slots__"]} if "__slots__" in cls.__dict__ else {}
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, **slots}
    if isinstance(cls, enum.EnumMeta):
        known: dict[str, Any] = dict(cls.__members__)
        members = [(name, member.value) for name, member in known.items()]
        return type(cls), cls.__name__, cls.__bases__, names, members
    return type(cls), cls.__name__, cls.__bases__, names, None


def _empty_class(meta: Any, name: str, bases: tuple[type, ...], names: dict[str, Any], members: Any) -> type:
    namespace = meta.__prepare__(name, bases)
    for key, value in names.items():
        namespace[key] = value
    for key, value in members or ():
        namespace[key] = value
    made: type = meta(name, bases, namespace)
    return made


def _contents(cls: type) -> dict[str, Any]:
    is_enum = isinstance(cls, enum.EnumMeta)
    contents = {}
    for name, value in cls.__dict__.items():
        if name in _SKIPPED or isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            continue
        if is_enum and (name.startswith("_") or not isinstance(value, types.FunctionType | property | classmethod)):
            continue
        contents[name] = value
    return contents


def _digest(cls: type) -> str:
    """Hash what a definition says: its code, its plain values and the globals its functions use."""
    hasher = hashlib.sha256(
        f"{cls.__module__}:{cls.__qualname__}:{[base.__qualname__ for base in cls.__bases__]}".encode()
    )
    seen: set[int] = {id(cls)}
    for name, value in sorted(cls.__dict__.items(), key=lambda item: item[0]):
        if name not in _SKIPPED:
            hasher.update(name.encode())
            _hash_value(value, hasher, seen)
    return hasher.hexdigest()[:32]


def _hash_value(value: Any, hasher: Any, seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            _hash_value(part, hasher, seen)
    elif isinstance(value, types.FunctionType):
        _hash_function(value, hasher, seen)
    elif isinstance(value, type | types.ModuleType):
        hasher.update(getattr(value, "__qualname__", value.__name__).encode())
    elif "__wrapped__" in getattr(value, "__dict__", ()):
        # an object around a function, as a typed method is: pickle would look for the function by name, and miss it
        hasher.update(type(value).__qualname__.encode())
        for _name, part in sorted(vars(value).items()):
            _hash_value(part, hasher, seen)
    else:
        try:
            hasher.update(pickle.dumps(value))
        except Exception:  # noqa: BLE001 - any object may refuse; its type then stands for it
            hasher.update(type(value).__qualname__.encode())


def _hash_function(function: types.FunctionType, hasher: Any, seen: set[int]) -> None:
    code = function.__code__.replace(co_filename="", co_firstlineno=1)
    hasher.update(marshal.dumps(code.co_code))
    hasher.update(repr([const for const in code.co_consts if not isinstance(const, types.CodeType)]).encode())
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            hasher.update(const.co_code)
    hasher.update(repr(code.co_names).encode())
    for part in (function.__defaults__, function.__kwdefaults__):
        with contextlib.suppress(Exception):
            hasher.update(pickle.dumps(part))
    for name in code.co_names:
        if name in function.__globals__:
            _hash_value(function.__globals__[name], hasher, seen)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            _hash_value(cell.cell_contents, hasher, seen)


def check_globals(function: Any, what: str) -> None:
    """Name the global that keeps a function from being shipped, or warn of one that is large."""
    code = getattr(function, "__code__", None)
    for name in getattr(code, "co_names", ()):
        value = function.__globals__.get(name)
        if value is None or isinstance(value, types.ModuleType | type | types.FunctionType):
            continue
        try:
            size = len(pickle.dumps(value))
        except Exception as error:
            raise CodecError(
                f"{what}: global {name}", type(value).__qualname__, detail=crash_of(error).message
            ) from error
        if size > LARGE_GLOBAL_BYTES:
            warnings.warn(f"{what} carries the global {name} of {size:,} bytes into a new process", stacklevel=4)
