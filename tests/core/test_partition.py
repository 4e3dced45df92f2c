"""Which partition a key belongs to."""

import dataclasses
import datetime as dt
import enum
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.partition import digest_of, partition_of
from otp_runtime.terms.pid import Pid

KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda parts: st.lists(parts) | st.lists(parts).map(tuple) | st.dictionaries(st.text(), parts),
    max_leaves=5,
)
SCRIPT = """
from otp_runtime.core.partition import digest_of
print(digest_of(("user", frozenset({"a", "b", "c", "d"}), {"x": 1, "y": None})))
"""


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class TestPartitionOf:
    @pytest.mark.parametrize(("key", "partition"), [(0, 0), (5, 1), (-5, 1), (-8, 0), (10**30 + 3, 3)])
    def test_an_int_counts_itself(self, key, partition):
        """Elixir's rem(abs(key), partitions)."""
        assert partition == partition_of(key, 4)

    @given(KEYS, st.integers(1, 64))
    def test_any_data_has_one(self, key, partitions):
        """From 0 on, always the same."""
        assert 0 <= partition_of(key, partitions) < partitions
        assert partition_of(key, partitions) == partition_of(key, partitions)

    @pytest.mark.parametrize("seed", ["1", "2"])
    def test_is_the_same_in_every_process(self, seed):
        """However its hashes are salted."""
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )

        assert digest_of(("user", frozenset("dcba"), {"y": None, "x": 1})) == ran.stdout.strip()

    def test_keys_spread(self):
        """Each of eight partitions gets its share of a thousand, or about."""
        counts = [0] * 8
        for number in range(1000):
            counts[partition_of(f"user:{number}", 8)] += 1

        assert min(counts) > 80

    def test_different_keys_are_spelled_differently(self):
        """What looks alike in one notation is told apart."""
        keys = [
            True,
            "1",
            1.0,
            b"1",
            ("1",),
            ["1"],
            ("1", ""),
            ("", "1"),
            ("ab", "c"),
            ("a", "bc"),
            {"1"},
            {"1": None},
            None,
            "None",
            Decimal(1),
            dt.date(2020, 1, 1),
            dt.datetime(2020, 1, 1),  # noqa: DTZ001 - beside the date
            Point(1, 2),
            (1, 2),
            Colour.RED,
            Point,
            Pid("n@h", 1, 2),
        ]

        assert len(keys) == len({digest_of(key) for key in keys})

    @pytest.mark.parametrize("key", [object(), lambda: 1, (1, object())], ids=["object", "function", "inside"])
    def test_what_is_no_data_is_refused(self, key):
        """An address differs from process to process."""
        with pytest.raises(TypeError, match="a partition key is data"):
            partition_of(key, 4)
