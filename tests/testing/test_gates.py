"""Gates: who is held, who gets through, who is told."""

import os
import pickle

import pytest

from otp_runtime import Agent, process
from otp_runtime.testing import assert_receive, gate


@pytest.fixture
def held():
    with gate() as hold:
        yield hold


class TestWait:
    def test_holds_until_opened(self, otp_node, held):
        """A process that waits goes on when the gate opens, not before."""
        me = process.self()
        process.spawn(lambda: (held.wait(), process.send(me, "through")))
        held.wait_arrival()
        assert process.flush() == []
        held.open()

        assert assert_receive("through") == "through"

    def test_an_open_gate_holds_nobody(self, otp_node, held):
        """Who comes later finds it open."""
        held.open()
        with Agent.start_link(int) as agent:
            assert Agent.get(agent, lambda _state: held.wait()) is None

    def test_admit_lets_one_through(self, otp_node, held):
        """The others stay."""
        me = process.self()
        for number in (1, 2):
            process.spawn(lambda number=number: (held.wait(), process.send(me, ("through", number))))
        held.wait_arrival()
        held.wait_arrival()
        held.admit()
        first = assert_receive(("through", ...))
        assert process.flush() == []
        held.open()

        assert {first[1], assert_receive(("through", ...))[1]} == {1, 2}

    def test_admission_ahead_of_the_arrival(self, held):
        """A gate told to let one through does so when somebody comes."""
        held.admit()

        assert held.wait() is None

    def test_the_end_of_its_owner_opens_it(self, otp_node, peer):
        """Nobody stays held by a test that was killed."""
        other = peer("b")
        me = process.self()
        other.call(_hold_a_process, me)
        assert_receive("held")
        other.kill()

        assert assert_receive("through", 5.0) == "through"


def _hold_a_process(tell):
    hold = gate()
    globals()["kept"] = hold
    process.spawn(_tell_before_and_after, hold, tell)
    hold.wait_arrival()
    process.send(tell, "held")


def _tell_before_and_after(hold, tell):
    hold.wait()
    process.send(tell, "through")


class TestArrival:
    def test_nobody(self, held):
        """Says so, in time."""
        with pytest.raises(AssertionError, match=r"nobody arrived at the gate within 0\.01 s"):
            held.wait_arrival(0.01)

    def test_counts_each_once(self, held):
        """Two arrivals are waited for by two waits."""
        held.arrive()
        held.arrive()
        held.wait_arrival()
        held.wait_arrival()

        with pytest.raises(AssertionError):
            held.wait_arrival(0)


class TestClose:
    def test_removes_its_files(self):
        """A gate leaves nothing."""
        with gate() as hold:
            assert os.path.isdir(hold.path)

        assert not os.path.exists(hold.path)

    def test_a_copy_does_not_close_the_original(self):
        """What was sent to another process only waits there."""
        with gate() as hold:
            pickle.loads(pickle.dumps(hold)).close()  # noqa: S301 - our own

            assert os.path.isdir(hold.path)
