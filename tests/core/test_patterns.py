"""Patterns: types, predicates, and values with holes."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from otp_runtime.core.patterns import Bind, bindings_of, compile_pattern


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Note:
    ref: int
    text: str


@dataclass(frozen=True)
class Other:
    ref: int
    text: str


class TestCompilePattern:
    @pytest.mark.parametrize(
        ("pattern", "value", "fits"),
        [
            (int, 1, True),
            (int, "1", False),
            ((int, str), "1", True),
            ((int, str), 1.5, False),
            ((int, str), (1, "1"), False),
            (..., object(), True),
            (Bind("a"), 1, True),
            ("done", "done", True),
            (1, 1.0, True),
            (1, True, False),
            (True, 1, False),
            (False, False, True),
            (None, None, True),
            (("done", ...), ("done", 42), True),
            (("done", ...), ("done",), False),
            (("done", ...), ["done", 42], False),
            (("done", (1, ...)), ("done", (1, 2)), True),
            ((), (), True),
            ([1, ...], [1, 2], True),
            ([1, ...], (1, 2), False),
            ({"a": ...}, {"a": 1}, True),
            ({"a": ...}, {"a": 1, "b": 2}, False),
            ({"a": 1}, {"b": 1}, False),
            (Point(1, ...), Point(1, 2), True),
            (Point(1, ...), (1, 2), False),
            ((1, ...), Point(1, 2), True),
            (Note(1, ...), Note(1, "x"), True),
            (Note(1, ...), Note(2, "x"), False),
            (Note(1, ...), Other(1, "x"), False),
            (("got", Note(..., "x")), ("got", Note(7, "x")), True),
            ((1, (True,)), (1, (1,)), False),
        ],
    )
    def test_table(self, pattern, value, fits):
        """A bool is never a number; a class fits only itself; a tuple is not a list."""
        assert fits is compile_pattern(pattern)(value)

    def test_predicate_decides(self):
        """Something true fits."""
        fits = compile_pattern(lambda value: value[0])

        assert [True, False] == [fits((1,)), fits((0,))]

    @pytest.mark.parametrize("value", [None, (), {}])
    def test_predicate_for_another_shape_does_not_fit(self, value):
        """TypeError and LookupError say that it was written for something else."""
        assert not compile_pattern(lambda value: value[0] > 1)(value)

    def test_predicate_without_the_attribute_does_not_fit(self):
        """AttributeError likewise."""
        assert not compile_pattern(lambda value: value.text)(1)

    def test_other_errors_of_a_predicate_come_through(self):
        """They are mistakes in it."""
        with pytest.raises(ZeroDivisionError):
            compile_pattern(lambda value: 1 / value)(0)

    def test_same_name_has_to_be_equal(self):
        """Different names are independent."""
        same, free = (
            compile_pattern((Bind("a"), Bind("a"))),
            compile_pattern((Bind("a"), Bind("b"))),
        )

        assert [True, False, True] == [same((1, 1)), same((1, 2)), free((1, 2))]

    def test_same_name_is_strict_about_bools(self):
        """As everywhere."""
        assert not compile_pattern((Bind("a"), Bind("a")))((1, True))

    def test_compiled_pattern_remembers_nothing(self):
        """Each value is looked at afresh."""
        fits = compile_pattern((Bind("a"), Bind("a")))

        assert [True, True] == [fits((1, 1)), fits((2, 2))]

    def test_value_without_a_truth_does_not_fit(self):
        """An array's `==` is an array."""

        class Array:
            __hash__ = None

            def __eq__(self, other):
                return self

            def __bool__(self):
                raise ValueError("ambiguous")

        assert not compile_pattern(("done", 1))(("done", Array()))


class TestBindingsOf:
    @pytest.mark.parametrize(
        ("pattern", "value", "bindings"),
        [
            (("a", Bind("x")), ("a", 1), {"x": 1}),
            (("a", Bind("x")), ("b", 1), None),
            (Bind("x"), 1, {"x": 1}),
            (int, 1, {}),
            (int, "1", None),
            (lambda value: value > 1, 2, {}),
            ({"k": [Bind("x"), ...]}, {"k": [1, 2]}, {"x": 1}),
        ],
    )
    def test_names_stand_for_what_was_there(self, pattern, value, bindings):
        """None when the value does not fit."""
        assert bindings == bindings_of(pattern, value)
