"""The options that say what is kept: what they mean, and that a wrong one is named."""

from pathlib import Path

import pytest

from otp_runtime import BadChildSpec, Every
from otp_runtime.core.keep import Keep, check_keep, keep_of


class TestKeepOf:
    @pytest.mark.parametrize("options", [{}, {"restore": "fresh"}, {"commit": "manual"}, {"durable": None}])
    def test_nothing_is_kept_unless_asked_for(self, options):
        """A policy alone keeps nothing."""
        assert keep_of(options) is None

    def test_the_defaults(self):
        """After every callback, and three deaths before a state is suspected."""
        assert keep_of({"restore": "last_good"}) == Keep("last_good", "every", 3, None)

    @pytest.mark.parametrize(
        ("options", "restore", "durable"),
        [
            ({"durable": True}, "last_good", ""),
            ({"durable": "/a.db"}, "last_good", "/a.db"),
            ({"durable": True, "restore": "previous"}, "previous", ""),
            ({"durable": True, "restore": "fresh"}, "fresh", ""),
        ],
    )
    def test_durable_implies_last_good_unless_said(self, options, restore, durable):
        """It may also be written and not restored."""
        keep = keep_of(options)

        assert (restore, durable) == (keep.restore, keep.durable)

    @pytest.mark.parametrize(
        ("commit", "holds"), [("every", True), ("manual", True), (Every(3), False), (Every(seconds=1), False)]
    )
    def test_replies_wait_unless_the_promise_is_given_up(self, commit, holds):
        """Commits now and then promise nothing of a reply."""
        assert keep_of({"restore": "last_good", "commit": commit}).holds_replies is holds


class TestCheck:
    @pytest.mark.parametrize(
        "options",
        [
            {"restore": "previous", "durable": True, "commit": Every(1), "max_state_crashes": 1},
            {"durable": Path("x.db"), "commit": Every(seconds=0.5)},
            {"durable": "x.db", "commit": "manual"},
        ],
    )
    def test_allowed(self, options):
        """Paths may be texts or paths."""
        check_keep(options)

    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("restore", "latest", "'fresh' or 'last_good' or 'previous'"),
            ("restore", None, "'fresh' or"),
            ("restore", [], "'fresh' or"),
            ("durable", False, "None, True or the path"),
            ("durable", "", "None, True or the path"),
            ("durable", b"x.db", "None, True or the path"),
            ("commit", "never", "Every(n)"),
            ("commit", 3, "Every(n)"),
            ("commit", Every(), "Every(n)"),
            ("commit", Every(0), "Every(n)"),
            ("commit", Every(True), "Every(n)"),
            ("commit", Every(2, 1.0), "Every(n)"),
            ("commit", Every(seconds=0), "Every(seconds=t)"),
            ("commit", Every(seconds=float("inf")), "Every(seconds=t)"),
            ("max_state_crashes", 0, "1 or more"),
            ("max_state_crashes", True, "1 or more"),
        ],
    )
    def test_a_wrong_one_is_named(self, field, value, allowed):
        """With the field, the value and what is allowed."""
        with pytest.raises(BadChildSpec) as caught:
            check_keep({field: value})

        assert (field, value) == (caught.value.field, caught.value.value)
        assert allowed in caught.value.allowed
