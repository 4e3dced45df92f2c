"""The programs in scripts/examples run as they are, say what they promise and leave nothing behind."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "scripts" / "examples").glob("*.py"))
LONGEST_LINES = 40
ENGINE_SECONDS = 5.0

PROMISED = {
    "agent": ["apples: 4", "taken: 2", "left: {'apple': 4, 'pear': 0}"],
    "asyncio_client": ["['baked for 0.2 s', 'baked for 0.2 s']", "one after the other: False", "CallTimeout"],
    "attach": ["second program: 350", "first program: 350"],
    "chat": ["heard: bob you said hello", "left: bob", "present: ada"],
    "counter": ["value: 3", "died: killed by SIGSEGV", "value: 0", "why: killed by SIGSEGV"],
    "links_and_monitors": [
        "monitored: normal True",
        "monitored: exception ValueError: out of paper",
        "linked: exception ValueError: out of ink True",
        "too late: noproc",
    ],
    "strategies": ["one_for_one: second", "rest_for_one: second, third", "one_for_all: first, second, third"],
}


def environment(runtime: Path) -> dict[str, str]:
    """Give an environment in which this checkout is importable and no other node is to be seen."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTP_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OTP_RUNTIME_DIR": str(runtime)}


def run(script: Path, runtime: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script)],
        env=environment(runtime),
        cwd=runtime.parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def left_in(runtime: Path) -> list[str]:
    """Give what is left there; an engine ends with its last node, which does not wait for that."""
    deadline = time.monotonic() + ENGINE_SECONDS
    while (left := os.listdir(runtime)) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return left


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
class TestExample:
    @pytest.mark.slow
    def test_prints_what_it_promises_and_leaves_no_node_behind(self, script, tmp_path):
        """It ends well and prints these lines; the deaths it stages are reported on standard error."""
        ended = run(script, tmp_path / "runtime")

        assert ended.returncode == 0, ended.stderr
        assert PROMISED[script.stem] == ended.stdout.splitlines()
        assert [] == left_in(tmp_path / "runtime")

    def test_is_short(self, script):
        """An example is read whole."""
        assert len(script.read_text().splitlines()) < LONGEST_LINES

    def test_says_what_it_shows(self, script):
        """It opens with a docstring."""
        assert script.read_text().startswith('"""')


def test_every_promise_has_its_example():
    """No expectation outlives its script."""
    assert PROMISED.keys() == {script.stem for script in EXAMPLES}
