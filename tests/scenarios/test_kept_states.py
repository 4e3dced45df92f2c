"""No value that a caller saw is ever undone: servers that keep their state, killed at any instant, under load."""

import os
import random
import signal
import time

import pytest

from otp_runtime import Supervisor, process
from otp_runtime.testing import assert_receive, wait_restarted
from tests.scenarios.keepers import Tally, load, look

MANY = 1_000_000


def kill_at_random(rounds, size, **options):
    """Kill the server `rounds` times while another process loads it; give what was undone, in both views."""
    chance = random.Random(rounds + size)  # noqa: S311 - the same in each run
    child = Tally.child_spec(size, name="tally", **options)
    with Supervisor.start_link([child], strategy="one_for_one", max_restarts=MANY):
        loader = process.spawn(load, "tally", process.self())
        seen, violations = (0, 0), []
        for _ in range(rounds):
            seen = look("tally", chance.choice(["reply", "value"]), seen, violations)
            victim = process.whereis("tally")
            if victim is not None:
                # not a wait for something: the instant of the kill
                time.sleep(chance.random() * 0.003)
                os.kill(victim.os_pid, signal.SIGKILL)
                wait_restarted("tally", after=victim)
        process.send(loader, "stop")
        _, undone, answers = assert_receive(("load", ..., ...), 10.0)
    return violations + undone, answers


@pytest.mark.slow
class TestSigkill:
    def test_nothing_seen_is_undone(self, otp_node):
        """Neither what a callback returned, nor what `GenServer.reply` told in the middle of one."""
        violations, answers = kill_at_random(40, 0, restore="last_good")

        assert ([], True) == (violations, answers > 40)

    def test_nor_of_a_durable_state(self, otp_node, tmp_path):
        """The database is written before the file, and both before the reply."""
        violations, answers = kill_at_random(15, 0, durable=tmp_path / "tally.db")

        assert ([], True) == (violations, answers > 15)


@pytest.mark.stress
class TestSigkillLong:
    @pytest.mark.parametrize(("size", "options"), [(0, {}), (1_000, {}), (300_000, {}), (0, {"durable": True})])
    def test_five_hundred_rounds(self, otp_node, tmp_path, size, options):
        """Also of a large state, whose writing takes a while."""
        if options:
            options = {"durable": tmp_path / "tally.db"}
        violations, answers = kill_at_random(500, size, restore="last_good", **options)

        assert ([], True) == (violations, answers > 500)
