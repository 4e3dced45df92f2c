"""The storms, a few seconds each: `make stress` runs them for as long as one likes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name, *options):
    """Run a storm; give its exit code and what it said, as data."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), "--json", *options],
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)},
        check=False,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(120)
class TestStorm:
    def test_crash_storm(self):
        """Calls end, replies are one's own, names come back, nothing is left."""
        code, said = run("crash_storm", "--seed", "1", "--seconds", "4")

        assert (code, said["violations"]) == (0, [])
        assert said["counts"]["names back"] == 30
        assert said["counts"]["calls that ended in a reply"] > 0

    def test_torn_frames(self):
        """What arrives is whole and in order."""
        code, said = run("torn_frames", "--seed", "1", "--seconds", "4")

        assert (code, said["violations"]) == (0, [])
        assert said["counts"]["rounds: spawned writers killed"] > 20
        assert said["counts"]["terms checked"] > 100

    def test_many_children(self):
        """A decision among two thousand costs what it costs among ten."""
        code, said = run("many_children", "--children", "10", "2000", "--rounds", "0")
        few, many = said["rows"]

        assert code == 0
        assert many["decide_start_us"] < 3 * few["decide_start_us"]
        assert many["decide_restart_us"] < 3 * few["decide_restart_us"]

    def test_orphans(self):
        """Each kind of victim once."""
        code, said = run("orphans", "--seed", "1", "--seconds", "9")

        assert (code, said["violations"]) == (0, [])
        assert said["counts"]["processes put at risk"] > 100
