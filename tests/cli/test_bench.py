"""`bench`: short runs, in a node that nobody else sees."""

import os

import pytest

from otp_runtime.cli import commands
from otp_runtime.cli.bench.measures import MEASURES, RATES, Measure, take
from otp_runtime.cli.bench.rows import compare


@pytest.mark.slow
class TestBench:
    def test_json(self, terminal):
        """A row for each measure: ours, the floor's, and their ratio."""
        said = terminal.json("bench", "--seconds", "0.1")
        rows = {row["name"]: row for row in said["rows"]}

        assert set(commands.BENCH_NAMES) == rows.keys() | said["skipped"].keys()
        assert all(0 < row[field] for row in rows.values() for field in ("ours", "floor", "ratio", "best"))
        assert ["cast"] == [name for name, row in rows.items() if row["more_is_better"]]
        assert said["machine"]["cores"] == len(os.sched_getaffinity(0))

    def test_for_people(self, shop):
        """A table, beside a running node that it neither uses nor disturbs."""
        before = shop.json("ps")
        done = shop.otp("bench", "--only", "start,cast", "--seconds", "0.1")
        after = shop.json("ps")

        assert (0, "") == (done.returncode, done.stderr)
        assert ["WHAT", "OURS", "P99", "FLOOR", "P99", "RATIO", "BEST", "SAMPLES"] in [
            line.split() for line in done.stdout.splitlines()
        ]
        assert ["casts", "start"] == [line.split()[0] for line in done.stdout.splitlines() if "(floor:" in line]
        assert [one["id"] for one in before if one["name"]] == [one["id"] for one in after if one["name"]]
        assert ["shop"] == [name.partition("@")[0] for name in os.listdir(shop.directory) if not name.startswith(".")]

    def test_on_one_core_what_takes_two_is_left_out(self, terminal):
        """And said."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            done = terminal.otp("bench", "--only", "call", "--seconds", "0.1")
        finally:
            os.sched_setaffinity(0, before)

        assert (0, "") == (done.returncode, done.stderr)
        assert "not measured: call-own-cores, it takes 2 cores" in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--only", "clal"), "no measure begins with 'clal'; there are call-one-core"),
            (("--only", "call,"), "no measure begins with ''"),
            (("--seconds", "0"), "above 0"),
            (("shop",), "unrecognized arguments"),
        ],
    )
    def test_wrong(self, terminal, arguments, said):
        """Exit code 2."""
        done = terminal.otp("bench", *arguments)

        assert (2, "") == (done.returncode, done.stdout)
        assert said in done.stderr


class TestMeasures:
    def test_every_one_is_offered(self):
        """The parser, which must not import them, knows them all."""
        assert commands.BENCH_NAMES == tuple(one.name for one in MEASURES)
        assert {one.name for one in MEASURES} >= RATES


class TestTake:
    def measure(self, taken, every=1):
        return Measure("a", "a", "us", lambda _rig: (taken.append(1) or [float(len(taken))], [1.0]), every=every)

    def rig(self):
        class Rig:
            quick = True

        return Rig()

    def test_so_many_rounds(self):
        """Each in turn; some not in every round."""
        found = take(self.rig(), [self.measure([])], 3)

        assert {"a": ([[1.0], [2.0], [3.0]], [[1.0], [1.0], [1.0]])} == found
        assert 2 == len(take(self.rig(), [self.measure([], every=2)], 3)["a"][0])


class TestCompare:
    def test_ratio_of_rounds(self):
        """What disturbs one round moves neither the ratio nor the best."""
        line = compare([[20.0], [900.0], [30.0]], [[10.0], [10.0], [10.0]])

        assert (3.0, 2.0, 30.0, 3) == (line.ratio, line.best, line.ours, line.samples)

    def test_more_is_better(self):
        """The best is the greatest, the worst hundredth the least."""
        line = compare([[50.0], [80.0]], [[100.0], [100.0]], at_least=True)

        assert (0.8, 50.0) == (line.best, line.ours_p99)

    def test_without_a_floor(self):
        assert compare([[2.0]]).ratio is None
