"""State machines with arbitrary callbacks, and what holds whatever they do."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.statem import Waiting, next_due
from otp_runtime.core.statem_values import (
    Call,
    Cancel,
    EventTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateTimeout,
    Timeout,
    Update,
)
from tests.core.statem_driver import Asker, Driver

CALLS_MAX = 300  # a machine may insert events for ever, as in OTP; then it is left in peace

STATES = st.sampled_from(["s1", "s2", "s3"])
TIMES = st.sampled_from([0, 1, 2, None])
WHICH = st.sampled_from(["state_timeout", "timeout", ("timeout", "n1"), ("timeout", "n2")])
QUIET_ACTIONS = st.one_of(
    st.builds(StateTimeout, TIMES, st.integers(0, 9)),
    st.builds(EventTimeout, TIMES, st.integers(0, 9)),
    st.builds(Timeout, st.sampled_from(["n1", "n2"]), TIMES, st.integers(0, 9)),
    st.builds(Cancel, WHICH),
    st.builds(Update, WHICH, st.integers(0, 9)),
)
ACTIONS = st.one_of(
    QUIET_ACTIONS,
    st.builds(Postpone, st.booleans()),
    st.builds(NextEvent, st.sampled_from(["internal", "cast", "info"]), st.just("inserted")),
)


def results(actions):
    lists = st.lists(actions, max_size=3)
    return st.one_of(
        st.builds(NextState, STATES, st.integers(), lists),
        st.builds(KeepState, st.integers(), lists),
        st.builds(KeepStateAndData, lists),
        st.builds(RepeatState, st.integers(), lists),
        st.builds(RepeatStateAndData, lists),
    )


class Played:
    """A driver that answers from two lists, over and over, and keeps account of every event."""

    def __init__(self, answers, entries, state_enter):
        self.answers, self.entries = answers, entries
        self.made = Counter()
        self.done = Counter()
        self.count = 0
        self.driver = Driver(self.answer, state_enter=state_enter)

    def answer(self, type_, content, state, data):
        self.count += 1
        if self.count > CALLS_MAX:
            self.done[content] += type_ != "enter"
            return KeepStateAndData()
        if type_ == "enter":
            # an enter call may repeat the state: some time it must come to an end
            result = self.entries[self.count % len(self.entries)]
            return result if self.count % 3 else KeepStateAndData()
        result = self.answers[self.count % len(self.answers)]
        self.made["inserted"] += sum(isinstance(action, NextEvent) for action in result.actions)
        postpones = [action.postpone for action in result.actions if isinstance(action, Postpone)]
        self.done[content] += not (postpones and postpones[-1])
        return result

    def send(self, content):
        self.made[content] += 1
        self.driver.send(content)


PLAYS = st.builds(
    Played,
    st.lists(results(ACTIONS), min_size=1, max_size=8),
    st.lists(results(QUIET_ACTIONS).filter(lambda one: not isinstance(one, NextState)), min_size=1, max_size=4),
    st.booleans(),
)
STEPS = st.lists(st.one_of(st.integers(100, 10_000), st.sampled_from([0.5, 1.0, 3.0])), max_size=12)


def go(played, steps):
    for step in steps:
        if isinstance(step, int):
            played.send(step)
        else:
            played.driver.pass_time(step)
    return played.driver.machine


@pytest.mark.slow
class TestWhateverTheCallbacksDo:
    @given(PLAYS, STEPS)
    def test_no_event_is_lost_or_doubled(self, played, steps):
        """Each was handled to its end once, or is postponed still."""
        machine = go(played, steps)
        # time-outs come and go; what came from outside or was inserted is accounted for
        done = played.done + Counter(event.content for event in machine.postponed)
        kept = {content: done[content] for content in played.made if content == "inserted" or content >= 100}

        assert {content: count for content, count in played.made.items() if count} == {
            k: v for k, v in kept.items() if v
        }

    @given(PLAYS, STEPS)
    def test_a_machine_that_waits_has_nothing_to_do(self, played, steps):
        """No queue, and no time-out that is due at once."""
        machine = go(played, steps)

        assert (Waiting(), ()) == (machine.phase, machine.queue)
        assert [] == [timer for timer in machine.timers if timer.due is None]

    @given(PLAYS, STEPS)
    def test_a_timeout_runs_once_at_most_and_in_the_future(self, played, steps):
        """One of each kind and name; after a wake-up none is overdue."""
        machine = go(played, [*steps, 1.0])
        which = [timer.which for timer in machine.timers]

        assert len(which) == len(set(which))
        assert next_due(machine) is None or next_due(machine) > played.driver.now

    @given(PLAYS, STEPS)
    def test_it_has_not_ended(self, played, steps):
        """All that these callbacks return is allowed."""
        go(played, steps)

        assert played.driver.ended is None

    @given(st.lists(st.booleans(), min_size=1, max_size=20))
    def test_postponed_events_keep_their_order(self, go_on):
        """However often they are retried, and postponed again, they stay in the order they came in."""

        def answer(type_, content, state, data):
            return NextState(data, data + 1) if content == "go" else KeepStateAndData(Postpone())

        driver = Driver(answer)
        for number, change in enumerate(go_on):
            driver.send("go" if change else number)

        assert [n for n, change in enumerate(go_on) if not change] == [e.content for e in driver.machine.postponed]

    @given(st.lists(st.tuples(STATES, st.booleans()), max_size=15))
    def test_a_state_timeout_belongs_to_the_state_that_set_it(self, moves):
        """Whatever comes, it is never delivered in a state entered later."""
        entered = []

        def answer(type_, content, state, data):
            if type_ == "state_timeout":
                entered.append((content, data))
                return None
            to, sets = content
            data += to != state
            return NextState(to, data, [StateTimeout(1, data)] if sets else [])

        driver = Driver(answer)
        for move in moves:
            driver.send(move)
        driver.pass_time(2)

        assert [] == [pair for pair in entered if pair[0] != pair[1]]

    @given(st.lists(st.integers(), min_size=1, max_size=10))
    def test_every_postponed_call_is_answered_after_the_change(self, requests):
        """In order, each once."""

        def answer(type_, content, state, data):
            if type_ == "cast":
                return NextState("open", data)
            return KeepStateAndData(Postpone() if state == "shut" else Reply(type_.client, content))

        driver = Driver(answer, state="shut")
        for number, request in enumerate(requests):
            driver.send(request, Call(Asker(number)))
        driver.send("open")

        assert [(Asker(number), request) for number, request in enumerate(requests)] == driver.replies
