"""Scenarios recorded on real Erlang/OTP, played here: every step must look the same.

A failing scenario, alone: `pytest tests/conformance -k A0048`.
"""

import json
from pathlib import Path

import pytest

from otp_runtime import Agent, process
from otp_runtime.testing.nodes import private_node
from tests.conformance import adapter
from tests.conformance.recorder import Recorder

SCENARIOS = [
    json.loads(line)
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def recorder():
    """One node and one recorder for all scenarios."""
    with private_node():
        recorder = Recorder()
        # what a program opens once and keeps: its way to the launcher
        first = Agent.start(int)
        process.exit(first, "shutdown")
        first.wait()
        yield recorder
        recorder.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one["id"])
def test_it_goes_as_on_otp(scenario, recorder):
    if adapter.LACKING & set(scenario.get("needs", ())):
        pytest.skip("needs a feature of Erlang's")
    trace = adapter.play(scenario, recorder)

    assert adapter.differences(scenario["expected"], trace) == "", scenario["description"]
