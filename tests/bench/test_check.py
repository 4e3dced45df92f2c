"""The guard: what counts as a loss, what is compared with what, and what the command says of it."""

import contextlib
import fnmatch
import json

import pytest

from scripts.bench import check
from scripts.bench.check import FILE, UNGUARDED, main, measured
from scripts.bench.guard import Baseline, Best, baseline_of, loss, losses, ratios, steady
from scripts.bench.measures import Measure, Rig
from scripts.bench.suite import SUITE


class TestLoss:
    @pytest.mark.parametrize(("now", "lost"), [(1.0, 0.0), (1.25, 0.25), (2.0, 1.0), (0.5, -0.5)])
    def test_of_a_cost_more_is_a_loss(self, now, lost):
        assert lost == loss("call-one-core", 1.0, now)

    @pytest.mark.parametrize(("now", "lost"), [(0.4, 0.0), (0.32, 0.25), (0.2, 1.0), (0.8, -0.5)])
    def test_of_a_rate_less_is_a_loss(self, now, lost):
        assert lost == pytest.approx(loss("cast", 0.4, now))


class TestLosses:
    def test_only_what_lost_more_than_a_quarter(self):
        then = {"call-one-core": 1.0, "start": 2.0, "cast": 0.4, "lookup": 1.0}
        now = {"call-one-core": 1.24, "start": 2.6, "cast": 0.3}

        assert ["start", "cast"] == list(losses(then, now))

    def test_what_was_not_measured_has_lost_nothing(self):
        assert {} == losses({"restart": 1.0}, {})

    def test_what_was_won_is_no_loss(self):
        assert {} == losses({"start": 9.0}, {"start": 1.5})


class TestBest:
    def test_each_side_keeps_its_own_best(self):
        assert Best(2.0, 1.0) == Best(2.0, 3.0).or_better(Best(5.0, 1.0), at_least=False)

    def test_of_a_rate_the_most(self):
        assert Best(5.0, 3.0) == Best(2.0, 3.0).or_better(Best(5.0, 1.0), at_least=True)

    def test_the_first_is_the_best(self):
        assert Best(2.0, 3.0) == Best(2.0, 3.0).or_better(None, at_least=False)


class TestRatios:
    def test_other_placements_are_compared_with_the_floor_on_one_core(self):
        """The waking of a core varies by itself, so it is no measure of ours."""
        bests = {"call-one-core": Best(10.0, 5.0), "call-own-cores": Best(6.0, 50.0), "lookup": Best(2.0, 1.0)}

        assert {"call-one-core": 2.0, "call-own-cores": 1.2, "lookup": 2.0} == ratios(bests)

    def test_without_it_with_their_own(self):
        assert {"call-free": 0.5} == ratios({"call-free": Best(5.0, 10.0)})

    @pytest.mark.parametrize(
        ("name", "floor"),
        [
            ("echo-1k-free", "echo-1k-one-core"),
            ("cast-own-cores", "cast-one-core"),
            ("lookup", "lookup"),
        ],
    )
    def test_whose_floor(self, name, floor):
        assert floor == steady(name)


class TestBaseline:
    def test_medians_of_what_is_steady_are_guarded(self):
        made = baseline_of("m", [{"start": 2.0}, {"start": 2.1}, {"start": 2.2}], {})

        assert {"start": 2.1} == made.guarded

    def test_what_varies_is_left_out_and_said_so(self):
        made = baseline_of("m", [{"start": 2.0}, {"start": 3.0}], {"idle*": "no floor"})

        assert ({}, {"idle*": "no floor", "start": "varied by 50% in 2 series on one machine"}) == (
            made.guarded,
            made.left_out,
        )

    def test_the_file_gives_back_what_was_written(self, tmp_path):
        made = Baseline("m", {"start": 2.0}, {"idle*": "no floor"})

        made.write(tmp_path / "b.json")

        assert made == Baseline.read(tmp_path / "b.json")

    def test_the_one_in_the_repository_names_lines_that_exist(self):
        """Each line of the suite is guarded, or left out for a reason."""
        names = {measure.name for measure in SUITE}
        kept = Baseline.read(FILE)

        left_out = {name for name in names for pattern in kept.left_out if fnmatch.fnmatchcase(name, pattern)}

        assert set() == set(kept.guarded) - names
        assert set() == names - set(kept.guarded) - left_out
        assert set() == left_out & set(kept.guarded)
        assert UNGUARDED.items() <= kept.left_out.items()


class TestMeasured:
    def test_the_best_of_the_rounds_counts(self):
        figures = iter([([3.0], [2.0]), ([1.0], [4.0])])

        with contextlib.closing(Rig(quick=True)) as rig:
            bests, skipped = measured(rig, [Measure("a", "a", "us", lambda _rig: next(figures))], 2)

        assert ({"a": Best(1.0, 2.0)}, {}) == (bests, skipped)

    def test_what_has_no_floor_is_not_guarded_but_for_memory(self):
        lines = [Measure("a", "a", "ms", lambda _: ([3.0], [])), Measure("b", "b", "MB", lambda _: ([4.0], []))]

        with contextlib.closing(Rig(quick=True)) as rig:
            bests, skipped = measured(rig, lines, 1)

        assert ({"b": Best(4.0, 1.0)}, {"a": "has no floor"}) == (bests, skipped)


class TestCommand:
    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(check.Machine, "here", lambda: "this machine")  # it watches how busy it is for a while
        monkeypatch.setattr(check, "others_runnable", lambda: 0)
        return tmp_path / "baseline.json"

    def test_nothing_lost(self, file, capsys):
        Baseline("m", {"decision-10": 1e6}, {}).write(file)

        assert 0 == main(["--quick", "--rounds", "1"], file)
        assert "nothing lost more than 25%" in capsys.readouterr().out

    def test_a_loss_names_the_line_then_and_now(self, file, capsys):
        Baseline("m", {"decision-10": 0.001, "decision-1000": 1e6}, {}).write(file)

        assert 1 == main(["--quick", "--rounds", "1"], file)
        told = capsys.readouterr()
        assert "bench-check: decision-10: 0.001 of the floor then," in told.err
        assert "decision-1000" not in told.err

    def test_where_others_want_all_cores_there_is_no_verdict(self, file, capsys, monkeypatch):
        """Neither a loss nor none: it is said which lines are in doubt."""
        monkeypatch.setattr(check, "others_runnable", lambda: 1_000)
        Baseline("m", {"decision-10": 0.001}, {}).write(file)

        assert 3 == main(["--quick", "--rounds", "1"], file)
        assert "no verdict: decision-10 may have lost" in capsys.readouterr().err

    def test_a_line_that_nobody_measures_any_more(self, file, capsys):
        Baseline("m", {"decision-10": 1e6, "gone": 1.0}, {}).write(file)

        assert 1 == main(["--quick", "--rounds", "1"], file)
        assert "nobody measures gone any more" in capsys.readouterr().err

    def test_a_line_that_was_not_asked_for_is_not_judged(self, file, capsys):
        """Though it may have been measured, for its floor."""
        Baseline("m", {"decision-10": 0.001, "decision-1000": 1e6}, {}).write(file)

        assert 0 == main(["--rounds", "1", "--only", "decision-1000"], file)
        assert "decision-10 " not in capsys.readouterr().out

    def test_a_line_that_is_not_guarded(self, file, capsys):
        Baseline("m", {"decision-10": 1.0}, {}).write(file)

        assert 2 == main(["--only", "spin"], file)
        assert "nothing that is guarded begins with spin" in capsys.readouterr().err

    def test_update_writes_what_it_measured(self, file, monkeypatch):
        steady_one = Measure("decision-10", "a", "us", lambda _: ([3.0], [2.0]))
        monkeypatch.setattr(check, "SUITE", (steady_one,))

        assert 0 == main(["--update", "--rounds", "1"], file)
        assert {"decision-10": 1.5} == json.loads(file.read_text())["guarded"]
