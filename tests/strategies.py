"""Hypothesis strategies for terms, and the equality that a round trip must keep."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from otp_runtime.terms.events import Down, Exit, NodeDown, NodeUp
from otp_runtime.terms.pid import Global, Pid, Ref, Remote, Via
from otp_runtime.terms.reason import Crash, Exited, Signalled

T = TypeVar("T")


class Colour(Enum):
    RED = 1
    BLUE = ("a", "tuple")


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


class Access(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


class Name(str):  # noqa: SLOT000 - its attributes are the point
    """A str with attributes."""


class Count(int):
    """An int with attributes."""


class Row(list):
    """A list with attributes."""


class Table(dict):
    """A dict with attributes."""


@dataclass
class Job:
    id: Any
    done: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Inc:
    by: Any


@dataclass
class Checked(Generic[T]):
    """Its `__init__` must not run again on arrival."""

    value: Any
    made: int = field(init=False, compare=False, default=0)

    def __post_init__(self) -> None:
        self.made += 1


class PickyError(Exception):
    """One that pickle cannot bring back."""

    def __init__(self, left: Any, right: Any) -> None:
        super().__init__(f"{left} and {right}")
        self.left = left
        self.right = right


def same(one: Any, other: Any) -> bool:
    """Tell whether two terms are equal and of equal type, in all their parts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(float(one)) == repr(float(other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, slice):
        return same([one.start, one.stop, one.step], [other.start, other.stop, other.step])
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, BaseException):
        return same(parts_of_exception(one), parts_of_exception(other))
    if is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        items = zip(one.items(), other.items(), strict=True)
        if len(one) != len(other) or not all(same(mine, its) for mine, its in items):
            return False
    elif isinstance(one, (list, tuple, deque)):
        if len(one) != len(other) or not all(map(same, one, other)):
            return False
    elif isinstance(one, (set, frozenset)):
        if len(one) != len(other) or not all(any(same(a, b) for b in other) for a in one):
            return False
    elif one != other:
        return False
    mine = {} if isinstance(one, (Enum, type)) else getattr(one, "__dict__", {})
    return not mine or same(mine, vars(other))


def parts_of_exception(exc: BaseException) -> list[Any]:
    return [list(exc.args), vars(exc), exc.__cause__, exc.__suppress_context__]


def texts() -> st.SearchStrategy[str]:
    """Return texts, lone surrogates included."""
    return st.text(st.characters(exclude_categories=()), max_size=8)


def pids() -> st.SearchStrategy[Pid]:
    return st.builds(Pid, texts(), st.integers(0, 2**70), st.integers(0, 9))


def refs() -> st.SearchStrategy[Ref]:
    return st.builds(Ref, texts(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**70))


def zones() -> st.SearchStrategy[Any]:
    offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
    return st.one_of(
        st.none(),
        st.builds(timezone, offsets),
        st.builds(timezone, offsets, st.text(max_size=3)),
        st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")]),
    )


def atoms() -> st.SearchStrategy[Any]:
    """Return hashable terms without parts."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**200), 2**200),
        st.floats(),
        texts(),
        st.binary(max_size=8),
        st.complex_numbers(),
        pids(),
        refs(),
        st.datetimes(timezones=zones()),
        st.dates(),
        st.times(timezones=zones()),
        st.timedeltas(),
        zones(),
        st.decimals().filter(lambda number: not number.is_snan()),  # no hash, no equality
        st.uuids(),
        st.fractions(),
        st.sampled_from([..., NotImplemented, range(3), range(9, 1, -2), int, Colour, dict]),
        st.sampled_from([*Colour, *Level, *Word, *Access, Access.READ | Access.WRITE, Access(0)]),
        st.builds(Global, texts()),
        st.builds(Remote, texts(), texts()),
        st.builds(Signalled, texts(), st.booleans(), st.booleans()),
        st.builds(Exited, st.integers()),
        st.builds(Crash, texts(), texts(), texts()),
        st.builds(NodeUp, texts()),
        st.builds(Name, st.text(max_size=3)),
        st.builds(Count, st.integers()),
    )


def hashables() -> st.SearchStrategy[Any]:
    def larger(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.lists(parts, max_size=3).map(tuple),
            st.frozensets(parts, max_size=3),
            st.builds(Point, parts, parts),
            st.builds(Inc, parts),
        )

    return st.recursive(atoms(), larger, max_leaves=5)


def with_attribute(value: Any, part: Any) -> Any:
    value.extra = part
    return value


def terms() -> st.SearchStrategy[Any]:
    """Return any term that travels without a shipper."""

    def larger(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(parts, max_size=3)
        dicts = st.dictionaries(hashables(), parts, max_size=3)
        return st.one_of(
            lists,
            lists.map(tuple),
            dicts,
            dicts.map(OrderedDict),
            dicts.map(lambda items: defaultdict(list, items)),
            lists.map(lambda items: deque(items, 5)),
            st.lists(hashables(), max_size=3).map(Counter),
            st.builds(with_attribute, lists.map(Row), parts),
            st.builds(with_attribute, dicts.map(Table), parts),
            st.builds(with_attribute, st.builds(Name, texts()), parts),
            st.sets(hashables(), max_size=3),
            st.binary(max_size=5).map(bytearray),
            st.builds(slice, parts, parts, parts),
            st.builds(Job, parts),
            st.builds(Inc, parts),
            st.builds(Checked, parts),
            st.builds(Point, parts, parts),
            st.builds(Via, parts, parts),
            st.builds(Exit, pids(), parts),
            st.builds(Down, refs(), pids(), parts),
            st.builds(NodeDown, texts(), parts),
            st.builds(ValueError, parts, parts),
            st.builds(PickyError, parts, parts),
        )

    return st.recursive(hashables(), larger, max_leaves=8)
