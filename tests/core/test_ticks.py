"""When an interval ticks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.ticks import ticks_due

TIMES = st.floats(0, 1e6)


class TestTicksDue:
    @pytest.mark.parametrize(
        ("fired", "now", "expected"),
        [(0, 10.0, (1, 12.0)), (1, 12.5, (1, 14.0)), (1, 19.0, (4, 20.0)), (5, 12.0, (0, 20.0))],
    )
    def test_counts_from_the_first(self, fired, now, expected):
        """A late one makes none later; none is counted twice."""
        assert expected == ticks_due(10.0, 2.0, fired, now)

    @given(first=TIMES, interval=st.floats(1e-4, 1e4), fired=st.integers(0, 100), late=TIMES)
    def test_the_next_lies_ahead(self, first, interval, fired, late):
        """Whatever the rounding: else it would be due again and again at once."""
        now = first + fired * interval + min(late, 1e5 * interval)
        ticks, due = ticks_due(first, interval, fired, now)

        assert ticks >= 0
        assert now < due <= now + 2 * interval
