"""What is told to be unchanged without being encoded is unchanged."""

import dataclasses
import datetime as dt
import enum
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.unchanged import is_frozen, is_same, parts_of
from otp_runtime.terms.codec import Codec

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the form that has no types is meant


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    part: object


@dataclasses.dataclass
class Thawed:
    part: object


class Child(Frozen):
    pass


class TestIsFrozen:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            1,
            "a",
            b"a",
            (1, ("a", frozenset({1.5}))),
            Point(1, 2),
            Colour.RED,
            Frozen((1, Colour.RED)),
            dt.datetime(2030, 1, 1),  # noqa: DTZ001 - any will do
        ],
    )
    def test_what_can_never_change(self, value):
        """Nothing in it can."""
        assert is_frozen(value)

    @pytest.mark.parametrize(
        "value", [[], {}, set(), bytearray(), ([],), Point(1, []), Frozen([]), Thawed(1), Child(1), object()]
    )
    def test_what_might(self, value):
        """In doubt it is looked at."""
        assert not is_frozen(value)


class TestParts:
    @pytest.mark.parametrize("state", [{"a": 1, 2: ("b",)}, [1, "a"], [], {}, Thawed("a")])
    def test_the_same_objects(self, state):
        """Also in another container."""
        again = state.copy() if isinstance(state, dict | list) else dataclasses.replace(state)

        assert is_same(state, parts_of(state))
        assert is_same(again, parts_of(state))

    @pytest.mark.parametrize("state", [{"a": []}, [[]], Thawed([]), 1, Frozen([]), {1, 2}, Child(1), object()])
    def test_parts_that_may_change(self, state):
        """Such a state is encoded each time."""
        assert parts_of(state) is None

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"a": 1}, {"a": True}),
            ({"a": 1}, {"a": 1.0}),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({"a": 1}, {"b": 1}),
            ({"a": 1}, {"a": 1, "b": None}),
            ([1, 2], [1]),
            ([1], (1,)),
            (Thawed(1), Thawed(2)),
        ],
    )
    def test_a_change(self, before, after):
        """Whatever compares equal is no proof."""
        assert not is_same(after, parts_of(before))

    def test_a_change_in_place(self):
        """Of the very same object."""
        state = {"a": 1}
        parts = parts_of(state)
        state["a"] = 2

        assert not is_same(state, parts)

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1, True, 1.0, "x", (1,), (True,)])), max_size=9)
    )
    def test_same_means_the_same_bytes(self, changes):
        """Whatever is done to a dict: if it is told to be the same, its encoding is."""
        codec, state = Codec(), {"a": 1, "b": "x"}
        parts, data = parts_of(state), codec.encode(state)
        for key, value in changes:
            state[key] = value

            assert not is_same(state, parts) or codec.encode(state) == data
