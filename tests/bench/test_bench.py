"""The benchmark's arithmetic and table, that the floor sends what the library sends, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from otp_runtime.core import messages as wire
from otp_runtime.host import pipe
from otp_runtime.terms.codec import Codec
from scripts.bench import floor, measures
from scripts.bench.budget import BUDGETS, Budget
from scripts.bench.report import COLUMNS, make_row, percentile, table

ROOT = Path(__file__).parents[2]


class TestBudget:
    @pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "aim"), (1.4, "aim"), (1.8, "pass"), (1.81, "fail")])
    def test_at_most(self, ratio, verdict):
        assert verdict == Budget(1.8, 1.4).verdict(ratio)

    @pytest.mark.parametrize(("ratio", "verdict"), [(0.6, "aim"), (0.4, "pass"), (0.39, "fail")])
    def test_at_least(self, ratio, verdict):
        assert verdict == Budget(0.4, 0.6, at_least=True).verdict(ratio)

    def test_for_information_only(self):
        assert Budget().verdict(99.0) == ""

    def test_every_measure_has_one(self):
        assert list(BUDGETS) == [measure.name for measure in measures.MEASURES]


class TestRow:
    def test_the_ratio_is_the_median_of_the_rounds_ratios(self):
        """One round in which the machine was busy with other work moves neither the ratio nor the best."""
        row = make_row("call-one-core", "call", "us", [[20.0], [900.0], [30.0]], [[10.0], [10.0], [10.0]])

        assert (row.ratio, row.best, row.ours, row.verdict) == (3.0, 2.0, 30.0, "fail")

    def test_of_a_rate_more_is_better(self):
        row = make_row("cast", "casts", "k/s", [[50.0], [80.0], [70.0]], [[100.0], [100.0], [100.0]])

        assert (row.ratio, row.best, row.ours_p99, row.verdict) == (0.7, 0.8, 50.0, "aim")

    def test_without_a_floor_the_figure_itself_is_judged(self):
        row = make_row("memory", "memory", "MB", [[2.0], [2.5]])

        assert (row.ratio, row.value, row.verdict) == (None, 2.25, "pass")

    def test_percentile(self):
        assert percentile(range(100), 99) == 99
        assert percentile([7.0], 1) == 7.0


class TestTable:
    def test_columns_align(self):
        rows = [
            make_row("memory", "memory", "MB", [[2.0]]),
            make_row("cast", "casts", "k/s", [[1234.0]], [[100.0]]),
        ]

        head, memory, cast = table(rows).splitlines()

        assert head.split() == " ".join(COLUMNS).split()
        assert memory.split() == ["memory", "2.00", "MB", "2.00", "MB", *"-----", "≤", "3", "≤", "1.6", "pass"]
        assert ("1,234 k/s" in cast, "≥ 0.4" in cast) == (True, True)
        assert memory.index("pass") == cast.index("aim")


class TestFloor:
    def test_it_sends_the_bytes_that_the_library_sends(self):
        codec = Codec()
        request = measures.REQUEST

        assert floor.frame(floor.CALL, 2, 100_000, floor.REQUEST) == pipe.whole(
            codec.encode([wire.CALL, 2, 100_000, request])
        )
        assert floor.frame(floor.REPLY, 7, floor.VALUE, floor.REQUEST) == pipe.whole(
            codec.encode([wire.REPLY, 7, wire.VALUE, request])
        )
        assert floor.frame(floor.CAST, 7) == pipe.whole(codec.encode([wire.CAST, 7]))

    def test_its_processes_answer_and_end(self):
        helpers = ping_pong, one_way, forks = floor.PingPong(), floor.OneWay(), floor.Forks()

        answer, rates, times = ping_pong.call(), [one_way.rate(2_000) for _ in range(2)], forks.once()
        for helper in helpers:
            helper.close()

        assert answer == floor.REQUEST
        assert min(rates) > 0
        assert min(times) > 0


class TestCommand:
    @pytest.mark.slow
    def test_it_measures(self):
        ended = _bench("--quick", "--rounds", "1", "--only", "call-own", "--only", "lookup", "--json")

        rows = json.loads(ended.stdout)["rows"]

        assert (ended.returncode in {0, 1}, ended.stderr) == (True, "")
        assert rows[-1]["name"] == "lookup"
        assert all(row["ours"] > 0 and row["floor"] > 0 and row["verdict"] for row in rows)
        assert ended.returncode == int(any(row["verdict"] == "fail" for row in rows))

    def test_an_unknown_measure(self):
        ended = _bench("--only", "clal")

        assert (ended.returncode, ended.stdout) == (2, "")
        assert "no measure is named clal; there are call-one-core" in ended.stderr


def _bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
