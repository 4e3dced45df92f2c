"""A stream of tasks against a fake performer: each rule once, then its promises by chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime import TaskDone, TaskExit
from otp_runtime.core.task_stream import (
    Begin,
    Deliver,
    Ended,
    Finish,
    GiveUp,
    Kill,
    Replied,
    SourceEnded,
    State,
    Take,
    Taken,
    TimeUp,
    step,
)


def after(state, *events):
    """Feed events; give the state and the actions of the last."""
    actions = ()
    for event in events:
        state, actions = step(state, event)
    return state, actions


def running(number, **flags):
    """A stream with so many tasks running and room for no more."""
    return after(State(number, **flags), Begin(), *[Taken()] * number)[0]


class TestTaking:
    def test_the_first_item_is_taken_at_the_beginning(self):
        """Not before."""
        assert after(State(2), Begin())[1] == (Take(0),)

    def test_items_are_taken_while_there_is_room(self):
        """One at a time."""
        assert after(State(3), Begin(), Taken())[1] == (Take(1),)

    def test_no_more_than_may_run(self):
        """The last room is taken."""
        assert after(State(2), Begin(), Taken(), Taken())[1] == ()

    def test_a_reply_makes_no_room(self):
        """Its process is still there."""
        assert after(running(1), Replied(0, "v"))[1] == (Deliver(0, TaskDone("v")),)

    def test_an_end_makes_room(self):
        """For the next."""
        assert after(running(1), Replied(0, "v"), Ended(0, "normal"))[1] == (Take(1),)

    def test_what_is_there_is_delivered_before_the_next_is_taken(self):
        """A consumer that asks for no more gets no more started."""
        assert after(running(1), Ended(0, "oops"))[1] == (Deliver(0, TaskExit("oops")), Take(1))


class TestDelivering:
    def test_in_order(self):
        """What came early waits."""
        state, actions = after(running(2), Replied(1, "b"))

        assert (actions, after(state, Replied(0, "a"))[1]) == (
            (),
            (Deliver(0, TaskDone("a")), Deliver(1, TaskDone("b"))),
        )

    def test_as_they_end(self):
        """Nothing waits."""
        assert after(running(2, ordered=False), Replied(1, "b"))[1] == (Deliver(1, TaskDone("b")),)

    def test_the_first_result_counts(self):
        """An end after the reply is only an end."""
        state, _ = after(running(2, ordered=False), Replied(0, "a"), Ended(0, "crash"))

        assert (state.settled, state.delivered) == ({}, 1)


class TestTime:
    def test_exit(self):
        """The stream gives up."""
        assert after(running(1), TimeUp(0))[1] == (GiveUp(0),)

    def test_kill(self):
        """Its exit is a time-out."""
        state, actions = after(running(1, on_timeout="kill_task"), TimeUp(0))

        assert (actions, after(state, Ended(0, "killed"))[1]) == (
            (Kill(0),),
            (Deliver(0, TaskExit("timeout")), Take(1)),
        )

    def test_a_value_that_was_on_its_way_counts(self):
        """It had done its work."""
        state, _ = after(running(1, on_timeout="kill_task"), TimeUp(0))

        assert after(state, Replied(0, "v"))[1] == (Deliver(0, TaskDone("v")),)

    @pytest.mark.parametrize("on_timeout", ["exit", "kill_task"])
    def test_not_of_one_that_has_replied(self, on_timeout):
        """Its process may take its time to end."""
        state, _ = after(running(1, on_timeout=on_timeout), Replied(0, "v"))

        assert after(state, TimeUp(0)) == (state, ())


class TestEnd:
    def test_of_nothing(self):
        """No item, no result."""
        assert after(State(2), Begin(), SourceEnded())[1] == (Finish(),)

    def test_waits_for_the_processes(self):
        """All results are delivered, and one process is not gone yet."""
        state, actions = after(State(2), Begin(), Taken(), SourceEnded(), Replied(0, "a"))

        assert (actions, after(state, Ended(0, "normal"))[1]) == ((Deliver(0, TaskDone("a")),), (Finish(),))


class TestImpossible:
    @pytest.mark.parametrize(
        ("state", "event"),
        [
            (running(1), Begin()),
            (running(1), Taken()),
            (running(1), Replied(1, "v")),
            (running(1), Ended(1, "normal")),
        ],
    )
    def test_raises(self, state, event):
        """A performer that says so has a fault."""
        with pytest.raises(ValueError, match="State"):
            step(state, event)


class Source:
    """A fake performer: what runs, what was delivered, and a choice of what happens next."""

    def __init__(self, draw, items, state):
        self.draw, self.items, self.state = draw, items, state
        self.running, self.replied = set(), set()
        self.delivered, self.over = [], False

    def play(self):
        self.feed(Begin())
        while not self.over:
            event = self.draw(st.sampled_from(list(self.possible())))
            if isinstance(event, Replied):
                self.replied.add(event.position)
            elif isinstance(event, Ended):
                self.running.remove(event.position)
            self.feed(event)

    def possible(self):
        for position in sorted(self.running):
            yield Ended(position, f"reason {position}")
            if position not in self.replied:
                yield Replied(position, position)
                yield TimeUp(position)

    def feed(self, event):
        self.state, actions = step(self.state, event)
        for action in actions:
            assert not self.over
            match action:
                case Take(position=position) if position < self.items:
                    self.running.add(position)
                    assert len(self.running) <= self.state.max_concurrency
                    self.feed(Taken())
                case Take():
                    self.feed(SourceEnded())
                case Deliver(position=position, result=result):
                    self.delivered.append(position)
                    assert (position in self.replied) == isinstance(result, TaskDone)
                case Kill(position=position):
                    assert position in self.running
                case Finish():
                    assert not self.running
                    self.over = True


class TestPromises:
    @given(st.data(), st.integers(0, 8), st.integers(1, 4), st.booleans())
    def test_each_item_is_delivered_once_and_nothing_runs_at_the_end(self, data, items, most, ordered):
        """Whatever ends when, in order if asked for, and never more at once than allowed."""
        source = Source(data.draw, items, State(most, ordered=ordered, on_timeout="kill_task"))
        source.play()

        assert list(range(items)) == (source.delivered if ordered else sorted(source.delivered))
