"""What is sent to a server with a durable mailbox is handled once each, in order, whenever it is killed."""

import fcntl
import os
import random
import signal
from pathlib import Path

import pytest

from otp_runtime import GenServer, Supervisor, process
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive
from tests.scenarios.recorders import AsyncRecorder, Recorder, call_all, cast_all

MANY = 1_000_000
SENDERS = 3


def kill(name):
    """Kill -9 whoever has the name now, if anybody has; say whether anybody had."""
    victim = process.whereis(name)
    if victim is None:
        return False
    try:
        os.kill(victim.os_pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def shrink(name):
    """Give a mailbox two pages, as a user who has very many pipes gets them."""
    fd = os.open(current().directory.mailbox(process.whereis(name).id), os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 8192)
    os.close(fd)


def handled(path):
    """What was handled since the last look, in order; the server has handled all by then."""
    GenServer.call("recorder", "all", 60.0, across_restart=True)
    numbers = [int(line) for line in Path(path).read_text().split()]
    Path(path).write_text("")
    return numbers


def faults(numbers, firsts, count, redeliver):
    """Say what is wrong: of each sender the order, and one message at most that is missing, or is there twice."""
    missing = sum(count for _ in firsts) - len(set(numbers))
    twice = len(numbers) - len(set(numbers))
    allowed = (1, 0) if redeliver == 0 else (0, 1)
    wrong = [] if missing <= allowed[0] and twice <= allowed[1] else [f"{missing} missing, {twice} twice"]
    for first in firsts:
        mine = [number for number in numbers if first <= number < first + count]
        if mine != sorted(mine):
            wrong.append(f"those of {first} are out of order")
    return wrong


def rounds_of_casts(path, rounds, count, *, cls=Recorder, filling="", redeliver=0, senders=1, small=False):
    """Let senders cast, kill the server in the middle, look what was handled; give what was wrong."""
    chance = random.Random(rounds + count)  # noqa: S311 - the same in each run
    child = cls.child_spec(str(path), name="recorder", redeliver=redeliver)
    wrong = []
    with Supervisor.start_link([child], strategy="one_for_one", max_restarts=MANY):
        if small:
            shrink("recorder")
        for _ in range(rounds):
            firsts = [sender * count for sender in range(senders)]
            at = chance.randrange(count)
            others = [process.spawn(cast_all, "recorder", first, count, filling) for first in firsts[1:]]
            cast_all("recorder", 0, at, filling)
            kill("recorder")
            cast_all("recorder", at, count - at, filling)
            for other in others:
                other.wait(60.0)
            wrong += faults(handled(path), firsts, count, redeliver)
    return wrong


def rounds_of_calls(path, rounds, count):
    """Let callers call across restarts, kill the server all the time; give what was wrong."""
    kills, wrong = 0, []
    with Supervisor.start_link(
        [Recorder.child_spec(str(path), name="recorder")], strategy="one_for_one", max_restarts=MANY
    ):
        for _ in range(rounds):
            firsts = [sender * count for sender in range(SENDERS)]
            for first in firsts:
                process.spawn(call_all, "recorder", first, count, process.self())
            before = kills
            answers = []
            for _ in firsts:
                kills += kill("recorder")
                answers += assert_receive(("answers", ...), 60.0)[1]
            numbers = handled(path)
            if sorted(answers) != list(range(SENDERS * count)):
                wrong.append(f"{len(answers)} answers")
            if set(numbers) != set(answers) or len(numbers) - len(set(numbers)) > kills - before:
                wrong.append(f"{len(numbers)} handled of {len(set(numbers))}, with {kills - before} kills")
    return wrong


@pytest.fixture
def path(tmp_path):
    return tmp_path / "handled"


@pytest.mark.slow
class TestSigkill:
    def test_casts(self, otp_node, path):
        """But the one in hand, each is handled once, in order."""
        assert [] == rounds_of_casts(path, 15, 1000)

    def test_tried_again(self, otp_node, path):
        """The one in hand too, twice perhaps."""
        assert [] == rounds_of_casts(path, 10, 300, redeliver=1)

    def test_several_senders(self, otp_node, path):
        """In order of each."""
        assert [] == rounds_of_casts(path, 5, 300, senders=SENDERS, cls=AsyncRecorder)

    def test_large_terms_and_a_small_pipe(self, otp_node, path):
        """Those of which half had come, too."""
        assert [] == rounds_of_casts(path, 5, 20, filling="x" * 100_000, small=True)

    def test_calls_across(self, otp_node, path):
        """Each caller gets one answer."""
        assert [] == rounds_of_calls(path, 5, 100)


@pytest.mark.stress
@pytest.mark.timeout(900)
class TestSigkillLong:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"redeliver": 1},
            {"cls": AsyncRecorder},
            {"senders": SENDERS},
            {"small": True},
            {"restore": True},
        ],
        ids=lambda options: "-".join(options) or "plain",
    )
    def test_two_hundred_rounds(self, otp_node, path, options):
        """A thousand casts each."""
        options = dict(options)
        if options.pop("restore", False):
            options["cls"] = type("Keeping", (Recorder,), {"restore": "last_good"})

        assert [] == rounds_of_casts(path, 200, 1000, **options)

    @pytest.mark.parametrize("small", [False, True])
    @pytest.mark.parametrize("senders", [1, SENDERS])
    def test_large_terms(self, otp_node, path, small, senders):
        """100 KB each."""
        assert [] == rounds_of_casts(path, 50, 40, filling="x" * 100_000, small=small, senders=senders)

    def test_calls_across(self, otp_node, path):
        """Each caller gets one answer, whoever died."""
        assert [] == rounds_of_calls(path, 200, 200)
