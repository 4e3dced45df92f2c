"""Budgets: what may be written down, and when they are passed."""

import pytest

from otp_runtime import BadChildSpec, Limits
from otp_runtime.core.limits import Bounds, Over, Usage, passed


class TestLimits:
    @pytest.mark.parametrize(
        ("given", "size"),
        [
            (400_000_000, 400_000_000),
            ("400MB", 400_000_000),
            ("400 mb", 400_000_000),
            ("400MiB", 400 << 20),
            ("1.5GB", 1_500_000_000),
            ("2GiB", 2 << 30),
            ("64KB", 64_000),
            ("64KiB", 64 << 10),
            ("9B", 9),
        ],
    )
    def test_bytes(self, given, size):
        """A number, or a text with its unit."""
        assert size == Limits(rss_hard=given).bounds().rss_hard

    @pytest.mark.parametrize("field", ["rss_soft", "rss_hard"])
    @pytest.mark.parametrize(
        "given", [0, -1, True, 1.5, "400", "400M", "MB", "-4MB", "0MB", "a lot", b"4MB", 1 << 63, "9" * 400 + "TB"]
    )
    def test_wrong_bytes(self, field, given):
        """The error names the field, the value and what is allowed."""
        with pytest.raises(BadChildSpec, match="'400MB'") as caught:
            Limits(**{field: given})

        assert (field, given) == (caught.value.field, caught.value.value)

    @pytest.mark.parametrize("seconds", [0, -1.0, True, "2", float("inf"), float("nan"), 10**400])
    def test_wrong_seconds(self, seconds):
        """They are above 0."""
        with pytest.raises(BadChildSpec, match="cpu_seconds"):
            Limits(cpu_seconds=seconds)

    @pytest.mark.parametrize("count", [0, -1, True, 1.5, "64"])
    def test_wrong_counts(self, count):
        """They are whole and above 0."""
        with pytest.raises(BadChildSpec, match="open_files"):
            Limits(open_files=count)

    @pytest.mark.parametrize("soft", ["400MB", "401MB", 400_000_000])
    def test_soft_is_below_hard(self, soft):
        """Else it would never count."""
        with pytest.raises(BadChildSpec, match="less than rss_hard, which is '400MB'"):
            Limits(rss_soft=soft, rss_hard="400MB")

    def test_nothing(self):
        """Nothing is limited."""
        assert not any(Limits().bounds())


class TestPassed:
    @pytest.mark.parametrize(
        ("usage", "field"),
        [
            (Usage(rss=101, cpu=0.0), "rss_hard"),
            (Usage(rss=0, cpu=2.01), "cpu_seconds"),
            (Usage(rss=0, cpu=0.0, files=9), "open_files"),
        ],
    )
    def test_each(self, usage, field):
        """The field says which."""
        over = passed(Bounds(rss_hard=100, cpu_seconds=2.0, open_files=8), usage)
        assert over is not None

        assert field == over.field

    def test_reached_is_not_passed(self):
        """A limit may be used up."""
        assert passed(Bounds(0, 100, 2.0, 8), Usage(100, 2.0, 8)) is None

    def test_soft_is_not_hard(self):
        """It kills nobody."""
        assert passed(Bounds(rss_soft=1), Usage(1000, 1000.0, 1000)) is None

    def test_how_far(self):
        """What is used and what is allowed."""
        assert Over("rss_hard", 170, 100) == passed(Bounds(rss_hard=100), Usage(170, 0.0))
