"""The decisions of a handover: one process at any time, and the old one goes on whatever goes wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core import handover as core

LOADED, PARKED, READY, SERVED = core.Loaded(), core.Parked(), core.Ready(), core.Served()
WELL = (LOADED, PARKED, READY, SERVED)
EVENTS = st.one_of(
    st.sampled_from(WELL),
    st.sampled_from([kind("why") for kind in (core.Refused, core.Gone, core.Failed, core.Ended)]),
)


def play(events):
    """Give the last phase and all actions."""
    phase, done = core.Preparing(), []
    for event in events:
        phase, actions = core.step(phase, event)
        done += actions
    return phase, done


class TestStep:
    def test_when_all_goes_well(self):
        """Park, begin, switch, answer."""
        expected = [core.Park(), core.Begin(), core.Switch(), core.Answer(None)]

        assert (core.Over(), expected) == play(WELL)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_failure_waits_for_the_successors_end(self, count):
        """It may hold what the old one must open again: resumed only when it is gone."""
        before, after = (
            play([*WELL[:count], core.Failed("why")])[1],
            play([*WELL[:count], core.Failed("why"), core.Gone(1)])[1],
        )

        assert core.Discard() in before
        assert (core.Answer(("why",)) not in before, core.Answer(("why",)) in after) == (True, True)

    def test_a_successor_that_dies_of_itself(self):
        """Its own reason is told."""
        assert [core.Park(), core.Begin(), core.Resume(), core.Answer(("own",))] == play(
            [LOADED, PARKED, core.Gone("own")]
        )[1]

    def test_too_late_to_fail(self):
        """After the switch only the death of the process counts."""
        assert core.Switched() == play([LOADED, PARKED, READY, core.Failed("timeout")])[0]
        assert core.Answer(("dead",)) == play([LOADED, PARKED, READY, core.Ended("dead")])[1][-1]

    @given(st.lists(EVENTS, max_size=12))
    def test_whatever_happens(self, events):
        """One answer at most; done only with a switch; no old one is left parked; nothing after the end."""
        phase, done = play(events)
        answers = [action for action in done if isinstance(action, core.Answer)]
        switched = core.Switch() in done

        assert len(answers) == (1 if phase == core.Over() else 0)
        assert not answers or answers[0].reason is not None or switched
        assert not (switched and (core.Resume() in done or core.Discard() in done))
        if phase == core.Over() and core.Park() in done and not switched:
            assert core.Resume() in done
