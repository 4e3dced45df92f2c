"""Selective receive: oldest first, the rest stays, nothing is looked at twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.inbox import NOTHING, Inbox


def inbox_of(*messages):
    inbox = Inbox()
    for message in messages:
        inbox.put(message)
    return inbox


class TestTake:
    def test_oldest_comes_first(self):
        """Without a match every message fits."""
        inbox = inbox_of(1, 2)

        assert [1, 2, NOTHING] == [inbox.take(), inbox.take(), inbox.take()]

    def test_oldest_that_fits_is_taken_and_the_rest_stays(self):
        """The others keep their order."""
        inbox = inbox_of(1, "a", 2, "b")

        assert "a" == inbox.take(lambda message: isinstance(message, str))
        assert [1, 2, "b"] == list(inbox)

    def test_none_is_a_message(self):
        """`NOTHING` is something else."""
        assert None is inbox_of(None).take()

    def test_repeated_search_looks_only_at_what_is_new(self):
        """A long queue is searched once."""
        looked_at = []
        inbox = inbox_of(*range(5))

        def match(message):
            looked_at.append(message)
            return message == "done"

        assert NOTHING is inbox.take(match)
        inbox.put("done")
        assert "done" == inbox.take(match)

        assert [0, 1, 2, 3, 4, "done"] == looked_at

    def test_another_search_begins_at_the_oldest(self):
        """What one search passed may fit the next."""
        inbox = inbox_of(1, 2)
        inbox.take(lambda _message: False)

        assert 1 == inbox.take(lambda message: message == 1)

    def test_predicate_that_raises_removes_nothing(self):
        """The error is the caller's."""
        inbox = inbox_of(1, 0)

        with pytest.raises(ZeroDivisionError):
            inbox.take(lambda message: 1 / message > 1)

        assert [1, 0] == list(inbox)


class TestDrain:
    def test_everything_comes_out_in_order(self):
        """Also what a search has passed."""
        inbox = inbox_of(1, 2)
        inbox.take(lambda _message: False)
        inbox.put(3)

        assert [1, 2, 3] == inbox.drain()
        assert 0 == len(inbox)


class TestDiscard:
    def test_what_fits_is_removed_and_counted(self):
        """A flush of one kind of message."""
        inbox = inbox_of(1, "a", 2)

        assert 2 == inbox.discard(lambda message: isinstance(message, int))
        assert ["a"] == list(inbox)


class TestModel:
    @given(st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["=0", "=1", "any"]))))
    def test_it_behaves_like_a_list(self, operations):
        """Whatever is put and taken in whatever order."""
        matches = {"=0": lambda m: m == 0, "=1": lambda m: m == 1, "any": None}
        inbox, model = Inbox(), []
        for operation in operations:
            if isinstance(operation, int):
                inbox.put(operation)
                model.append(operation)
                continue
            match = matches[operation]
            fitting = [m for m in model if match is None or match(m)]
            expected = fitting[0] if fitting else NOTHING
            if fitting:
                model.remove(expected)

            assert expected == inbox.take(match)
            assert model == list(inbox)
