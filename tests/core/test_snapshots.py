"""Which state is last good: by example, and as a machine whose server may be killed between any two steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otp_runtime import Every
from otp_runtime.core.snapshots import (
    EMPTY,
    Choice,
    Slot,
    Streak,
    choose,
    is_due,
    newest_of,
    turn,
    turns_of,
)

LINE = (Slot(6, 5), Slot(7, 6), Slot(5, 4))
LIMIT = 3


def restored(restore="last_good", streak=Streak(), slots=LINE):  # noqa: B008 - it is frozen
    return choose(restore, slots, streak, LIMIT)


class TestTurns:
    def test_the_first(self):
        """It follows nothing."""
        assert turns_of(EMPTY, 0)[:3] == (1, 0, 0)

    def test_last_good_and_previous_are_spared(self):
        """The oldest goes."""
        assert turns_of(LINE, 7) == (8, 7, 2, 0, 1)

    def test_the_next_is_where_the_previous_was(self):
        """And then where this one was."""
        assert turn(turns_of(LINE, 7)) == (9, 8, 0, 1, 2)

    def test_who_went_back_spares_what_it_builds_on_and_the_newest(self):
        """Killed in the middle of the writing, it comes back to where it was; then the bad one is the first to go."""
        assert turns_of(LINE, 6) == (8, 6, 2, 1, 0)

    def test_who_began_fresh_spares_the_newest(self):
        """It is the one that killed, and a streak says so until the new one is there."""
        generation, parent, slot, *_ = turns_of(LINE, 0)

        assert (8, 0, 2) == (generation, parent, slot)

    @given(st.permutations([0, 1, 2]), st.integers(1, 9), st.integers(1, 9))
    def test_turning_is_what_looking_says(self, order, newest, writes):
        """After a write, the rotation says what the slots say."""
        slots = [Slot()] * 3
        for back, at in enumerate(order):
            if newest > back:
                slots[at] = Slot(newest - back, newest - back - 1)
        turns = turns_of(tuple(slots), newest)
        for _ in range(writes):
            generation, parent, at, *_rest = turns
            slots[at] = Slot(generation, parent)
            turns = turn(turns)

            assert turns == turns_of(tuple(slots), generation)


class TestChoose:
    def test_nothing_kept(self):
        """Then there is nothing to restore, whatever is wanted."""
        assert restored(slots=EMPTY) == Choice((), Streak())

    def test_last_good(self):
        """The newest; where it cannot be read, those before it."""
        assert restored() == Choice((1, 0, 2), Streak())

    def test_previous(self):
        """The one before the newest."""
        assert restored("previous") == Choice((0, 2), Streak())

    def test_previous_of_one(self):
        """There is none: fresh."""
        assert restored("previous", slots=(Slot(1), Slot(), Slot())) == Choice((), Streak())

    def test_fresh(self):
        """It is kept and not used."""
        assert restored("fresh") == Choice((), Streak())

    def test_a_few_deaths_are_bad_luck(self):
        """One fewer than the limit changes nothing."""
        assert restored(streak=Streak(0, 2)) == Choice((1, 0, 2), Streak(0, 2))

    def test_as_many_as_the_limit_go_one_back(self):
        """And the count begins again."""
        assert restored(streak=Streak(0, 3)) == Choice((0, 2), Streak(1, 0), "previous")

    def test_it_stays_there(self):
        """The step is reported once."""
        assert restored(streak=Streak(1, 2)) == Choice((0, 2), Streak(1, 2))

    def test_as_many_more_start_fresh(self):
        """And it stays fresh until something is kept again."""
        assert restored(streak=Streak(1, 3)) == Choice((), Streak(2, 0), "fresh")
        assert restored(streak=Streak(2, 9)) == Choice((), Streak(2, 9))

    def test_one_back_where_there_is_nothing_before(self):
        """That is fresh, and said so."""
        assert restored(streak=Streak(0, 3), slots=(Slot(1), Slot(), Slot())) == Choice((), Streak(1, 0), "fresh")

    def test_only_a_line_of_parents_is_followed(self):
        """A generation that was given up is not what the newest followed."""
        assert restored(slots=(Slot(6, 5), Slot(7, 6), Slot(8, 6))) == Choice((2, 0), Streak())


class TestStreak:
    @pytest.mark.parametrize("streak", [Streak(), Streak(1, 2), Streak(2, 4_000_000_000)])
    def test_as_a_number(self, streak):
        """One store writes it."""
        assert Streak.from_int(streak.to_int()) == streak

    def test_after_crash(self):
        """One more, at the same place."""
        assert Streak(1, 1).after_crash() == Streak(1, 2)


class TestIsDue:
    @pytest.mark.parametrize(
        ("commit", "callbacks", "seconds", "due"),
        [
            ("every", 1, 0.0, True),
            ("manual", 99, 99.0, False),
            (Every(3), 2, 99.0, False),
            (Every(3), 3, 0.0, True),
            (Every(seconds=2), 99, 1.9, False),
            (Every(seconds=2), 1, 2.0, True),
        ],
    )
    def test_policies(self, commit, callbacks, seconds, due):
        """Each looks at its own count."""
        assert is_due(commit, callbacks, seconds) is due


class KilledServer(RuleBasedStateMachine):
    """A server that writes, is killed between any two stores, and comes back; nothing it told is undone.

    The slots of the "file" are what survives; `told` is the last state whose reply left.
    """

    def __init__(self):
        super().__init__()
        self.slots, self.bodies = EMPTY, [None, None, None]
        self.streak = Streak()
        self.told = None
        self.start()

    def start(self):
        choice = choose("last_good", self.slots, self.streak, LIMIT)
        self.streak = choice.streak
        self.level = choice.streak.level
        at = choice.slots[0] if choice.slots else None
        self.state = None if at is None else self.bodies[at]
        self.turns = turns_of(self.slots, 0 if at is None else self.slots[at].generation)
        self.proven = False

    @rule(state=st.integers(), lived=st.sampled_from(["all", "invalidated", "written", "kept"]))
    def callback(self, state, lived):
        """Commit a state, the server living through all of it or only a part."""
        generation, parent, at, *_ = self.turns
        kept = tuple(Slot(generation, parent) if number == at else old for number, old in enumerate(self.slots))
        self.slots = tuple(Slot() if number == at else old for number, old in enumerate(self.slots))
        if lived == "invalidated":
            return self.start()
        self.bodies[at] = state
        if lived == "written":
            return self.start()
        self.slots = kept
        if lived == "kept":
            # kept and not told: the successor may start from it
            if not self.level:
                self.told = state
            return self.start()
        self.turns, self.state, self.told = turn(self.turns), state, state
        self.proven = True
        self.streak, self.level = Streak(), 0
        assert generation == newest_of(self.slots)
        return None

    @rule()
    def killed(self):
        """Between two callbacks, which is bad luck once a callback has returned."""
        if not self.proven and self.state is not None:
            self.streak = self.streak.after_crash()
        self.start()

    @precondition(lambda self: self.level == 0)
    @invariant()
    def what_was_told_is_there(self):
        """As long as it did not go back, the server has the state it told of last."""
        assert self.state == self.told


TestKilledServer = KilledServer.TestCase
