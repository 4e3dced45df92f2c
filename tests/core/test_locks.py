"""Locks: one holder each, first come, first served."""

from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.locks import ask, give_back

steps = st.lists(st.tuples(st.booleans(), st.sampled_from("kl"), st.integers(0, 5)), max_size=40)


class TestAsk:
    def test_free(self):
        """The first who asks has it."""
        assert ({"k": (1,)}, 1) == ask({}, "k", 1)

    def test_held(self):
        """The next one waits."""
        assert ({"k": (1, 2)}, None) == ask({"k": (1,)}, "k", 2)

    def test_another(self):
        """Locks have nothing to do with each other."""
        assert ({"k": (1,), "l": (2,)}, 2) == ask({"k": (1,)}, "l", 2)


class TestGiveBack:
    def test_the_last(self):
        """Nothing is left of the lock."""
        assert ({}, None) == give_back({"k": (1,)}, "k", 1)

    def test_to_the_next(self):
        """Who has waited longest has it then."""
        assert ({"k": (2, 3)}, 2) == give_back({"k": (1, 2, 3)}, "k", 1)

    def test_who_waits(self):
        """Waits no longer, and nobody gets it for that."""
        assert ({"k": (1, 3)}, None) == give_back({"k": (1, 2, 3)}, "k", 2)

    def test_a_stranger(self):
        """Changes nothing."""
        assert ({"k": (1,)}, None) == give_back({"k": (1,)}, "k", 2)
        assert ({}, None) == give_back({}, "k", 2)


@given(steps)
def test_every_lock_is_granted_in_turn(log):
    """Who is granted a lock is its holder then, and who held it before has given it back."""
    locks, holders, number = {}, {}, 0
    for asks, key, which in log:
        if asks:
            number += 1
            locks, granted = ask(locks, key, number)
        else:
            queue = locks.get(key, ())
            ticket = queue[which % len(queue)] if queue else -1
            locks, granted = give_back(locks, key, ticket)
            if holders.get(key) == ticket:
                del holders[key]
        if granted is not None:
            assert key not in holders
            holders[key] = granted

        assert {name: queue[0] for name, queue in locks.items()} == holders
        assert all(list(queue) == sorted(queue) for queue in locks.values())
