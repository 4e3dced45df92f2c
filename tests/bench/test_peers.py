"""Others beside us: whatever a peer does, the run goes on and nothing of it stays."""

import json
import sys

import psutil
import pytest

from scripts.bench.peers import PEERS, Outcome, Peer, cells, main, merged, outcome, run, text_table

TOLD = '{"version": "x 1"}\n{"call": [10.0, 20.0]}\nnoise of a library\n3\n'


def peer(program):
    return Peer("x", "the x", (sys.executable, "-c", program))


class TestOutcome:
    def test_it_is_what_was_told(self):
        told = outcome(PEERS[0], TOLD + '{"note": "n"}', "", 0, 5)

        assert ((10.0, 20.0), "x 1", "n", "", None) == (told.call, told.version, told.note, told.trouble, told.cast)

    def test_one_that_hangs_keeps_what_it_told(self):
        told = outcome(PEERS[0], TOLD, "", None, 5)

        assert ((10.0, 20.0), "hangs: ended after 5 s, the last it told was call") == (told.call, told.trouble)

    def test_one_that_fails_says_its_last_words(self):
        told = outcome(PEERS[0], "", "Traceback\nValueError: no\n", 1, 5)

        assert "failed with exit code 1: ValueError: no" == told.trouble

    def test_one_that_is_missing(self):
        told = outcome(PEERS[0], '{"missing": "ray is not installed"}', "", 3, 5)

        assert "ray is not installed" == told.trouble


class TestRun:
    def test_a_program_that_is_not_there(self):
        assert "no-such-program is not installed" == run(Peer("x", "x", ("no-such-program",))).trouble

    @pytest.mark.slow
    def test_what_hangs_is_ended_with_all_it_started(self):
        """Also a grandchild in a session of its own, whose parent is gone."""
        orphan = "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
        program = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {orphan!r}]); time.sleep(600)"
        program = program.replace(
            "import subprocess, sys, time;", "import subprocess, sys, time; print('{\"cast\": 7}');"
        )
        before = psutil.Process().children(recursive=True)

        told = run(peer(program), seconds=1.5)

        assert told.trouble.startswith("hangs: ended after 1.5 s")
        assert before == psutil.Process().children(recursive=True)

    def test_what_fails_is_said(self):
        told = run(peer("raise SystemExit('broken')"))

        assert "failed with exit code 1: broken" == told.trouble


class TestMerged:
    def test_each_figure_is_the_median_of_its_own(self):
        rounds = [
            Outcome("x", "x", call=(1.0, 9.0), cast=5.0),
            Outcome("x", "x", call=(3.0, 7.0), trouble="hangs"),
            Outcome("x", "x", call=(2.0, 8.0), cast=7.0),
        ]

        assert Outcome("x", "x", call=(2.0, 8.0), cast=6.0, trouble="hangs") == merged(rounds)

    def test_what_nobody_told_stays_unknown(self):
        assert Outcome("x", "x") == merged([Outcome("x", "x")])


class TestTable:
    def test_figures_that_are_missing_are_dashes(self):
        lines = text_table([cells(Outcome("x", "the x", call=(1.0, 2.5), memory=0.0201, trouble="hangs"))])

        assert ["the", "x", "1.00", "µs", "2.50", "µs", "-", "-", "-", "0.020", "MB", "hangs"] == lines.splitlines()[
            1
        ].split()


class TestCommand:
    def test_an_unknown_peer_names_the_known(self, capsys):
        with pytest.raises(SystemExit):
            main(["--only", "akka"])

        assert "no peer is named akka; there are ours, manager" in capsys.readouterr().err

    @pytest.mark.slow
    def test_it_measures(self, capsys):
        """A figure for all that a peer of the standard library has, and one for ours."""
        assert 0 == main(["--only", "ours,pool", "--json"])

        ours, pool = json.loads(capsys.readouterr().out)["peers"]
        assert ["", ""] == [ours["trouble"], pool["trouble"]]
        assert all(one[name] for one in (ours, pool) for name in ("call", "cast", "start", "restart", "memory"))
