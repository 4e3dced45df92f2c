"""Which end is followed by a restart, and how many are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.restart import Intensity, add_restart, should_restart
from otp_runtime.terms.reason import Crash, Exited, Signalled

MEANT = ["normal", "shutdown", ("shutdown", "x")]
ABNORMAL = [
    "boom",
    "killed",
    None,
    ("shutdown",),
    ("shutdown", 1, 2),
    ["shutdown", "x"],
    Crash("ValueError", "no", ""),
    Signalled("SIGKILL"),
    Exited(0),
]


class TestShouldRestart:
    @pytest.mark.parametrize("reason", MEANT + ABNORMAL)
    def test_permanent_always(self, reason):
        """Whatever the reason."""
        assert should_restart("permanent", reason)

    @pytest.mark.parametrize("reason", MEANT)
    def test_transient_not_after_a_meant_end(self, reason):
        """Normal, shutdown and shutdown with a term."""
        assert not should_restart("transient", reason)

    @pytest.mark.parametrize("reason", ABNORMAL)
    def test_transient_after_any_other(self, reason):
        """Only the exact shape `("shutdown", term)` is meant."""
        assert should_restart("transient", reason)

    @pytest.mark.parametrize("reason", MEANT + ABNORMAL)
    def test_temporary_never(self, reason):
        """Whatever the reason."""
        assert not should_restart("temporary", reason)


class TestAddRestart:
    def test_max_restarts_are_allowed_and_one_more_is_not(self):
        """Three are survived, the fourth is one too many."""
        stamps, allowed = (), []
        for now in (1.0, 1.1, 1.2, 1.3):
            counted = add_restart(stamps, now, 3, 5)
            stamps = counted.restarts
            allowed.append(counted.allowed)

        assert [True, True, True, False] == allowed

    def test_zero_allows_none(self):
        """The first is one too many."""
        assert Intensity(False, (1.0,)) == add_restart((), 1.0, 0, 5)

    def test_window_includes_its_edge(self):
        """A stamp exactly `max_seconds` old counts."""
        assert (6.0, 1.0) == add_restart((1.0,), 6.0, 3, 5).restarts

    def test_older_stamps_are_forgotten(self):
        """Fractions of a second count."""
        assert (6.1,) == add_restart((1.0,), 6.1, 3, 5).restarts

    @given(
        gaps=st.lists(st.floats(0, 10), max_size=30),
        max_restarts=st.integers(0, 5),
        max_seconds=st.floats(0.1, 20),
    )
    def test_stamps_stay_within_the_limit(self, gaps, max_restarts, max_seconds):
        """While allowed, no window holds more than `max_restarts`, and the list stays short."""
        stamps, now = (), 0.0
        for gap in gaps:
            now += gap
            counted = add_restart(stamps, now, max_restarts, max_seconds)
            stamps = counted.restarts
            assert all(now - stamp <= max_seconds for stamp in stamps)
            assert counted.allowed == (len(stamps) <= max_restarts)
            if not counted.allowed:
                break
