"""The benchmark's arithmetic and table, that the floor sends what the library sends, and that it runs."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from otp_runtime.cli.bench import floor
from otp_runtime.cli.figures import percentile
from otp_runtime.core import messages as wire
from otp_runtime.host import pipe
from otp_runtime.terms.codec import Codec
from scripts.bench import c_floor, decisions, measures
from scripts.bench.budget import BUDGETS, Budget, budget_of
from scripts.bench.measures import Measure
from scripts.bench.parts import Parts
from scripts.bench.report import COLUMNS, make_row, sections, table
from scripts.bench.suite import SECTIONS, SUITE, chosen

ROOT = Path(__file__).parents[2]


class TestBudget:
    @pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "aim"), (1.4, "aim"), (1.8, "holds"), (1.81, "misses")])
    def test_at_most(self, ratio, verdict):
        assert verdict == Budget(1.8, 1.4).verdict(ratio)

    @pytest.mark.parametrize(("ratio", "verdict"), [(0.6, "aim"), (0.4, "holds"), (0.39, "misses")])
    def test_at_least(self, ratio, verdict):
        assert verdict == Budget(0.4, 0.6, at_least=True).verdict(ratio)

    def test_for_information_only(self):
        assert Budget().verdict(99.0) == ""

    def test_each_is_of_a_measure(self):
        """A limit for a name that nobody measures would never be seen to be missed."""
        assert set() == set(BUDGETS) - {measure.name for measure in SUITE}

    def test_a_measure_without_one_is_for_information(self):
        assert Budget() == budget_of("echo-1k-free")


class TestRow:
    def test_the_ratio_is_the_median_of_the_rounds_ratios(self):
        """One round in which the machine was busy with other work moves neither the ratio nor the best."""
        row = make_row("call-one-core", "call", "us", [[20.0], [900.0], [30.0]], [[10.0], [10.0], [10.0]])

        assert (row.ratio, row.best, row.ours, row.verdict) == (3.0, 2.0, 30.0, "misses")

    def test_of_a_rate_more_is_better(self):
        row = make_row("cast", "casts", "k/s", [[50.0], [80.0], [70.0]], [[100.0], [100.0], [100.0]])

        assert (row.ratio, row.best, row.ours_p99, row.verdict) == (0.7, 0.8, 50.0, "aim")

    def test_without_a_floor_the_figure_itself_is_judged(self):
        row = make_row("memory", "memory", "MB", [[2.0], [2.5]])

        assert (row.ratio, row.value, row.verdict) == (None, 2.25, "holds")

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
        assert memory.split() == ["memory", "2.00", "MB", "2.00", "MB", *"-----", "≤", "3", "≤", "1.6", "holds"]
        assert ("1,234 k/s" in cast, "≥ 0.4" in cast) == (True, True)
        assert memory.index("holds") == cast.index("aim")


class TestSections:
    def test_rows_stand_under_their_title(self):
        """A section without rows is not shown."""
        rows = [make_row("memory", "memory", "MB", [[2.0]]), make_row("idle", "idle", "%", [[0.1]])]

        text = sections({"One": ["memory"], "Two": ["cast"], "Three": ["idle"]}, rows)

        assert [line.split()[0] for line in text.splitlines() if line] == [
            *("One", "what", "memory"),
            *("Three", "what", "idle"),
        ]

    def test_every_measure_is_in_one(self):
        names = [measure.name for section in SECTIONS.values() for measure in section]

        assert sorted(set(names)) == sorted(names)
        assert {measure.name for measure in measures.MEASURES} <= set(names)


class TestChosen:
    def test_by_beginning(self):
        assert ["lookup", "idle", "idle-rested"] == [measure.name for measure in chosen(["idle", "look"])]

    def test_all_when_none_is_named(self):
        assert list(SUITE) == chosen([])


class TestMissing:
    def test_too_few_cores(self):
        measure = Measure("a", "a", "us", None, cores=2)

        assert "it takes 2 cores" == measure.missing(SimpleNamespace(cpus=[0], quick=False))

    def test_long_ones_are_not_in_a_quick_run(self):
        measure = Measure("a", "a", "us", None, long=True)

        assert "quick" in measure.missing(SimpleNamespace(cpus=[0], quick=True))
        assert "" == measure.missing(SimpleNamespace(cpus=[0], quick=False))

    def test_what_it_lacks_itself(self):
        measure = Measure("a", "a", "us", None, lacks=lambda: "no compiler")

        assert "no compiler" == measure.missing(SimpleNamespace(cpus=[0], quick=False))


class TestParts:
    def test_one_measurement_gives_each_part_once(self):
        """Rows that come of one measurement are of the same one, round for round."""
        taken = []

        def measure(rig):
            taken.append(rig)
            return {"a": ([len(taken)], []), "b": ([10 * len(taken)], [])}

        parts = Parts(measure)
        a, b = parts.of("a"), parts.of("b")

        assert [([1], []), ([10], []), ([2], []), ([20], [])] == [a(None), b(None), a(None), b(None)]
        assert 2 == len(taken)


class TestDecider:
    @pytest.mark.parametrize("children", [1, 10])
    def test_each_death_is_a_start(self, children):
        """The core that is timed goes round and round, its window of restarts never full."""
        decider = decisions.Decider(children)

        for _ in range(20):
            decider.once()


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

    @pytest.mark.parametrize("size", [0, 10, 65_536, 3_000_000])
    def test_terms_of_any_size_come_back(self, size):
        with contextlib.closing(floor.Large()) as large:
            assert bytes(size) == large.call(bytes(size))

    @pytest.mark.parametrize("clients", [1, 3])
    def test_clients_call_at_the_same_time(self, clients):
        """One sample for each call of each client, also past what one write of samples holds."""
        with contextlib.closing(floor.FanIn(clients)) as fan_in:
            rounds = [fan_in.run(count) for count in (5, 700)]

        assert [clients * 5, clients * 700] == [len(samples) for samples in rounds]
        assert min(rounds[1]) > 0
        assert not any(map(psutil.pid_exists, fan_in.clients))

    @pytest.mark.skipif(bool(c_floor.no_compiler()), reason="no C compiler")
    def test_the_one_in_c_answers_and_ends(self):
        with contextlib.closing(c_floor.CPingPong()) as program:
            rounds = [program.calls(50, -1, -1) for _ in range(2)]

        assert [50, 50] == [len(samples) for samples in rounds]
        assert min(map(min, rounds)) > 0


class TestCommand:
    @pytest.mark.slow
    def test_it_measures(self, tmp_path):
        picture = tmp_path / "plot.svg"
        ended = _bench(
            *("--quick", "--rounds", "1", "--only", "call-own,decision-10", "--only", "lookup"),
            *("--json", "--plot", str(picture)),
        )

        rows = json.loads(ended.stdout)["rows"]

        assert (ended.returncode in {0, 1}, ended.stderr) == (True, "")
        assert [row["name"] for row in rows][-3:] == ["lookup", "decision-10", "decision-1000"]
        assert all(row["ours"] > 0 and row["floor"] > 0 for row in rows)
        assert "Restart decided" in picture.read_text()
        assert ended.returncode == int(any(row["verdict"] == "misses" for row in rows))

    def test_an_unknown_measure(self):
        ended = _bench("--only", "clal")

        assert (ended.returncode, ended.stdout) == (2, "")
        assert "no measure is named clal; there are call-one-core" in ended.stderr


def _bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
