"""When one more process is expected: after starts in a row, and no longer than a row may last."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.demand import NONE, WINDOW_SECONDS, is_expected, started

MOMENT = 0.001


def after(*times):
    return reduce(started, times, NONE)


class TestIsExpected:
    def test_of_none(self):
        """Before the first start nothing is known."""
        assert not is_expected(NONE, 0.0)

    @given(st.floats(0, 1e9), st.floats(0, 1e9))
    def test_of_one(self, first, later):
        """A single start makes none expected, whenever one looks."""
        assert not is_expected(after(first), first + later)

    @pytest.mark.parametrize(
        ("apart", "expected"),
        [(0.0, True), (WINDOW_SECONDS - MOMENT, True), (WINDOW_SECONDS, False), (WINDOW_SECONDS * 9, False)],
    )
    def test_of_two(self, apart, expected):
        """Two make a row when they are less than the window apart."""
        assert expected == is_expected(after(100.0, 100.0 + apart), 100.0 + apart)

    @pytest.mark.parametrize(("later", "expected"), [(WINDOW_SECONDS - MOMENT, True), (WINDOW_SECONDS, False)])
    def test_for_how_long(self, later, expected):
        """For a window from the last start of the row on."""
        assert expected == is_expected(after(100.0, 101.0), 101.0 + later)

    def test_a_row_goes_on(self):
        """Each further start of a row prolongs it."""
        row = after(*(100.0 + WINDOW_SECONDS * 0.9 * number for number in range(10)))

        assert row.until == row.last + WINDOW_SECONDS

    def test_a_late_one_begins_anew(self):
        """What came after the row is over is one alone."""
        late = 101.0 + 2 * WINDOW_SECONDS

        assert not is_expected(after(100.0, 101.0, late), late)
