"""The rules of a state machine, one by one."""

import pytest

from otp_runtime.core.missing import MISSING
from otp_runtime.core.statem import Arrived, End, Event, Machine, Returned, Woke, next_due, next_run, step
from otp_runtime.core.statem_values import (
    Call,
    Cancel,
    EventTimeout,
    Hibernate,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    StateTimeout,
    Stop,
    StopAndReply,
    Timeout,
    Update,
)
from tests.core.statem_driver import Asker, Driver, Table

KEEP = KeepStateAndData


def next_event(content):
    return NextEvent("internal", content)


class TestPostpone:
    def test_is_retried_after_a_change_of_state_oldest_first(self):
        """In the order in which they came, before anything new."""
        driver = Driver(Table({("s1", "cast"): KEEP(Postpone()), ("cast", "go"): NextState("s2", 1)}))
        for content in ("a", "b", "go"):
            driver.send(content)

        assert ["a", "b", "go", "a", "b"] == [content for _, content, _ in driver.seen]

    @pytest.mark.parametrize("stay", [KEEP(), KeepState(1), NextState("s1", 1), RepeatState(1), RepeatStateAndData()])
    def test_is_not_retried_without_a_change(self, stay):
        """Neither by keeping nor by repeating the state, nor by going to the same one."""
        driver = Driver(Table({("cast", "a"): KEEP(Postpone()), ("cast", "go"): stay}))
        driver.send("a")
        driver.send("go")

        assert [("cast", "a", "s1"), ("cast", "go", "s1")] == driver.seen
        assert (Event("cast", "a"),) == driver.machine.postponed

    def test_the_event_that_changes_the_state_may_itself_be_postponed(self):
        """It comes last, then: it is the youngest."""
        table = {("s1", "cast", "a"): KEEP(Postpone()), ("s1", "cast", "go"): NextState("s2", 0, [Postpone()])}
        driver = Driver(Table(table))
        driver.send("a")
        driver.send("go")

        assert [("cast", "a", "s2"), ("cast", "go", "s2")] == driver.seen[2:]

    def test_can_be_taken_back(self):
        """The last word counts."""
        driver = Driver(Table({"cast": KEEP([Postpone(), Postpone(False)])}))
        driver.send("a")

        assert () == driver.machine.postponed

    def test_equal_is_the_same_only_if_the_type_is(self):
        """1 and True are two states, as 1 and 1.0 are in Erlang."""

        def answer(type_, content, state, data):
            return NextState(True, 0) if content == "go" else KEEP(Postpone(type(state) is int))

        driver = Driver(answer, state=1)
        driver.send("a")
        driver.send("go")

        assert ["a", "go", "a"] == [content for _, content, _ in driver.seen]


class TestNextEvent:
    def test_comes_before_what_is_queued_and_keeps_its_order(self):
        """Also an event inserted while others wait: it is first."""
        table = {
            ("cast", "a"): KEEP([next_event("i1"), next_event("i2")]),
            ("internal", "i1"): KEEP(next_event("j")),
        }
        driver = Driver(Table(table))
        driver.send("a")

        assert ["a", "i1", "j", "i2"] == [content for _, content, _ in driver.seen]

    def test_comes_before_retried_events(self):
        """A state that says what to do next is heard before the past."""
        table = {("s1", "cast", "a"): KEEP(Postpone()), ("cast", "go"): NextState("s2", 0, next_event("i"))}
        driver = Driver(Table(table))
        driver.send("a")
        driver.send("go")

        assert ["i", "a"] == [content for _, content, _ in driver.seen[2:]]

    @pytest.mark.parametrize(
        "type_", [Call(Asker(1)), "cast", "info", "internal", "timeout", "state_timeout", ("timeout", "name")]
    )
    def test_may_be_of_any_type(self, type_):
        """It looks as if it had come from outside."""
        driver = Driver(Table({("cast", "a"): KEEP(NextEvent(type_, "i"))}))
        driver.send("a")

        assert (type_, "i", "s1") == driver.seen[-1]

    def test_from_init(self):
        """Before the first event from outside."""
        driver = Driver(actions=[next_event("first")])

        assert [("internal", "first", "s1")] == driver.seen


class TestEnter:
    def test_at_the_start_with_the_state_itself_as_the_old_one(self):
        assert [("enter", "s1", "s1")] == Driver(state_enter=True).seen

    def test_on_a_change_with_the_old_state_before_everything_else(self):
        """Before retried and inserted events."""
        table = {("s1", "cast", "a"): KEEP(Postpone()), ("cast", "go"): NextState("s2", 0, next_event("i"))}
        driver = Driver(Table(table), state_enter=True)
        driver.send("a")
        driver.send("go")

        assert [("enter", "s1", "s2"), ("internal", "i", "s2"), ("cast", "a", "s2")] == driver.seen[3:]

    @pytest.mark.parametrize("stay", [KEEP(), KeepState(1), NextState("s1", 1)])
    def test_not_when_the_state_stays(self, stay):
        driver = Driver(Table({"cast": stay}), state_enter=True)
        driver.send("a")

        assert [("enter", "s1", "s1"), ("cast", "a", "s1")] == driver.seen

    @pytest.mark.parametrize("repeat", [RepeatState(1), RepeatStateAndData()])
    def test_once_more_when_the_state_is_repeated(self, repeat):
        driver = Driver(Table({"cast": repeat}), state_enter=True)
        driver.send("a")

        assert ("enter", "s1", "s1") == driver.seen[-1]

    def test_sees_the_new_data_and_may_change_it(self):
        def answer(type_, content, state, data):
            return KeepState([*data, type_]) if type_ == "enter" else NextState("s2", [*data, "moved"])

        driver = Driver(answer, data=[], state_enter=True)
        driver.send("go")

        assert ["enter", "moved", "enter"] == driver.machine.data

    def test_not_without_the_setting(self):
        driver = Driver(Table({("cast", "go"): NextState("s2", 0)}))
        driver.send("go")

        assert [("cast", "go", "s1")] == driver.seen

    @pytest.mark.parametrize("action", [Postpone(), next_event("i"), NextEvent("nonsense")])
    def test_may_neither_postpone_nor_insert(self, action):
        driver = Driver(Table({"enter": KEEP([action])}), state_enter=True)

        assert End(("bad_state_enter_action_from_state_function", action), action) == driver.ended

    def test_may_not_go_elsewhere(self):
        away = NextState("s2", 0)
        driver = Driver(Table({"enter": away}), state_enter=True)

        assert End(("bad_state_enter_return_from_state_function", away), away) == driver.ended

    def test_may_set_timeouts_reply_and_stop(self):
        asker = Asker(1)
        answers = iter([KEEP([StateTimeout(1, "t"), Reply(asker, "hello"), Postpone(False)]), Stop("enough", 5)])
        driver = Driver(lambda type_, *_: next(answers) if type_ == "enter" else NextState("s2", 0), state_enter=True)
        due = next_due(driver.machine)
        driver.send("go")

        assert (1.0, [(asker, "hello")]) == (due, driver.replies)
        assert (End("enough"), "s2", 5) == (driver.ended, driver.machine.state, driver.machine.data)

    def test_a_crash_in_it_leaves_the_old_state(self):
        """Until it has returned, the machine has not moved."""
        machine, _ = step(
            Machine("s1", 0, state_enter=True, phase=Driver().machine.phase), Arrived(Event("cast", 1)), 0
        )
        machine, _ = step(machine, Returned(NextState("s2", 1)), 0)

        assert ("s1", 0, "enter") == (machine.state, machine.data, next_run(machine).type)


class TestTimeouts:
    def test_a_state_timeout_fires_once(self):
        driver = Driver(actions=StateTimeout(1, "t"))
        driver.pass_time(0.9)
        early = driver.seen
        driver.pass_time(0.1)
        driver.pass_time(5)

        assert ([], [("state_timeout", "t", "s1")]) == (early, driver.seen)

    def test_a_change_of_state_cancels_the_state_timeout_only(self):
        driver = Driver(Table({"cast": NextState("s2", 0)}), actions=[StateTimeout(1, "t"), Timeout("n", 1, "g")])
        driver.send("go")
        driver.pass_time(2)

        assert [(("timeout", "n"), "g", "s2")] == driver.seen[1:]

    @pytest.mark.parametrize("stay", [KEEP(), RepeatStateAndData(), NextState("s1", 0)])
    def test_staying_does_not(self, stay):
        driver = Driver(Table({"cast": stay}), actions=StateTimeout(1, "t"), state_enter=True)
        driver.send("a")
        driver.pass_time(1)

        assert ("state_timeout", "t", "s1") == driver.seen[-1]

    def test_a_state_timeout_set_with_the_change_is_the_new_states(self):
        driver = Driver(Table({"cast": NextState("s2", 0, StateTimeout(1, "new"))}), actions=StateTimeout(1, "old"))
        driver.send("go")
        driver.pass_time(2)

        assert [("state_timeout", "new", "s2")] == driver.seen[1:]

    @pytest.mark.parametrize("type_", ["cast", "info", Call(Asker(1)), "internal"])
    def test_any_event_cancels_the_event_timeout(self, type_):
        driver = Driver(actions=EventTimeout(1, "t"))
        driver.send("a", type_)
        driver.pass_time(2)

        assert [(type_, "a", "s1")] == driver.seen

    def test_another_timeout_is_an_event_too(self):
        driver = Driver(actions=[EventTimeout(2, "t"), Timeout("n", 1, "g")])
        driver.pass_time(3)

        assert [(("timeout", "n"), "g", "s1")] == driver.seen

    def test_named_timeouts_fire_by_time(self):
        driver = Driver(actions=[Timeout("n1", 2, 1), Timeout("n2", 1, 2)])
        driver.pass_time(3)

        assert [(("timeout", "n2"), 2, "s1"), (("timeout", "n1"), 1, "s1")] == driver.seen

    def test_the_same_name_again_replaces(self):
        driver = Driver(Table({"cast": KEEP(Timeout("n", 5, "new"))}), actions=Timeout("n", 1, "old"))
        driver.send("again")
        driver.pass_time(2)
        early = driver.seen[1:]
        driver.pass_time(5)

        assert ([], [(("timeout", "n"), "new", "s1")]) == (early, driver.seen)

    def test_of_several_for_one_timeout_the_last_counts(self):
        driver = Driver(actions=[StateTimeout(1, 1), StateTimeout(0, 2), Cancel("state_timeout"), StateTimeout(2, 3)])

        assert 2.0 == next_due(driver.machine)
        assert [] == driver.seen

    @pytest.mark.parametrize("which", ["state_timeout", "timeout", ("timeout", "n")])
    def test_cancel(self, which):
        every = [StateTimeout(1, "s"), Timeout("n", 1, "g"), EventTimeout(1, "e")]
        driver = Driver(actions=[*every, Cancel(which)])
        driver.pass_time(2)

        assert which not in {type_ for type_, *_ in driver.seen}

    @pytest.mark.parametrize("seconds", [None, float("inf")])
    def test_no_time_at_all_cancels(self, seconds):
        """OTP's infinity."""
        driver = Driver(Table({"cast": KEEP(StateTimeout(seconds))}), actions=StateTimeout(1, "t"))
        driver.send("never mind")
        driver.pass_time(2)

        assert [("cast", "never mind", "s1")] == driver.seen

    def test_update_changes_the_content_and_not_the_time(self):
        driver = Driver(Table({"cast": KEEP(Update("state_timeout", "new"))}), actions=StateTimeout(2, "old"))
        driver.now = 1.0
        driver.send("a")
        driver.pass_time(1)

        assert ("state_timeout", "new", "s1") == driver.seen[-1]

    def test_update_of_one_that_does_not_run_is_due_at_once(self):
        driver = Driver(actions=Update(("timeout", "n"), "now"))

        assert [(("timeout", "n"), "now", "s1")] == driver.seen

    def test_zero_comes_after_the_queue_in_the_order_set(self):
        """After inserted and retried events, before anything from outside."""
        table = {
            ("s1", "cast", "a"): KEEP(Postpone()),
            ("cast", "go"): NextState("s2", 0, [Timeout("n", 0, 1), StateTimeout(0, 2), next_event("i")]),
        }
        driver = Driver(Table(table))
        driver.send("a")
        driver.send("go")

        assert ["i", "a", 1, 2] == [content for _, content, _ in driver.seen[2:]]

    def test_zero_event_timeout_is_cancelled_by_an_inserted_event(self):
        driver = Driver(Table({"cast": KEEP([EventTimeout(0, "t"), next_event("i")])}))
        driver.send("a")

        assert ["a", "i"] == [content for _, content, _ in driver.seen]

    def test_zero_state_timeout_is_cancelled_by_a_change(self):
        table = {"cast": KEEP([StateTimeout(0, "t"), next_event("i")]), "internal": NextState("s2", 0)}
        driver = Driver(Table(table))
        driver.send("a")

        assert ["a", "i"] == [content for _, content, _ in driver.seen]

    def test_absolute_is_a_time_of_the_clock(self):
        driver = Driver(actions=Timeout("n", 7.5, "t", absolute=True))

        assert 7.5 == next_due(driver.machine)

    def test_one_that_is_due_waits_for_its_turn(self):
        """Each wakes the machine once: between two that are due a message may lie that is older than the second."""
        driver = Driver(actions=[Timeout("n1", 1, 1), Timeout("n2", 2, 2)])
        driver.now = 5.0
        driver.machine, actions = step(driver.machine, Woke(), 5.0)

        assert [("timeout", "n1")] == [action.type for action in actions]
        assert 2.0 == next_due(driver.machine)

    def test_waking_too_early_does_nothing(self):
        driver = Driver(actions=StateTimeout(1, "t"))

        assert (driver.machine, ()) == step(driver.machine, Woke(), 0.5)


class TestReply:
    def test_comes_before_the_enter_call(self):
        asker, order = Asker(1), []
        driver = Driver(lambda type_, *_: order.append(type_) or _moved(type_, asker), state_enter=True)
        driver.replies = order
        driver.send("a", Call(asker))

        assert ["enter", Call(asker), (asker, "moved"), "enter"] == order

    def test_stop_and_reply_replies_first(self):
        asker = Asker(1)
        driver = Driver(Table({"cast": StopAndReply("done", [Reply(asker, 1)], 9)}))
        driver.send("a")

        assert ([(asker, 1)], End("done"), 9) == (driver.replies, driver.ended, driver.machine.data)

    @pytest.mark.parametrize("replies", ["nonsense", [Postpone()], [Reply("nobody", 1)]])
    def test_stop_and_reply_takes_only_replies(self, replies):
        driver = Driver(Table({"cast": StopAndReply("done", replies)}))
        driver.send("a")

        assert "bad_reply_action_from_state_function" == driver.ended.reason[0]


class TestStop:
    def test_keeps_the_data_unless_given(self):
        driver = Driver(Table({("cast", "a"): Stop()}), data=5)
        driver.send("a")

        assert (End("normal"), 5) == (driver.ended, driver.machine.data)

    def test_none_is_data(self):
        driver = Driver(Table({("cast", "a"): Stop("x", None)}), data=5)
        driver.send("a")

        assert driver.machine.data is None


class TestFaults:
    @pytest.mark.parametrize("value", ["nonsense", 5, ("next_state", "s2"), Ok("s1"), NextState])
    def test_a_bad_return_ends_it_and_is_named(self, value):
        driver = Driver(Table({"cast": value}))
        driver.send("a")

        assert End(("bad_return_from_state_function", value), value) == driver.ended

    def test_a_state_that_no_function_can_have(self):
        """Where states are functions, a state is a name."""
        value = NextState(5, 0)
        driver = Driver(Table({"cast": value}), named_states=True)
        driver.send("a")

        assert End(("bad_return_from_state_function", value), value) == driver.ended

    @pytest.mark.parametrize(
        "action",
        [
            "postpone",
            None,
            Postpone("yes"),
            Hibernate(1),
            NextEvent("enter"),
            NextEvent("call"),
            NextEvent(Call("nobody")),
            StateTimeout(-1),
            StateTimeout("soon"),
            EventTimeout(True),
            Timeout("n", float("nan")),
            Timeout("n", "x", absolute=True),
            Cancel("n"),
            Update(("timeout",)),
            Reply("nobody", 1),
        ],
    )
    def test_a_bad_action_ends_it_and_is_named(self, action):
        """After the replies before it; state and data are the new ones, as in OTP."""
        asker = Asker(1)
        driver = Driver(Table({"cast": NextState("s2", 7, [Reply(asker, 1), action, Reply(asker, 2)])}))
        driver.send("a")

        assert ("bad_action_from_state_function", action) == driver.ended.reason
        assert ([(asker, 1)], "s2", 7) == (driver.replies, driver.machine.state, driver.machine.data)

    def test_a_bad_action_of_init(self):
        assert ("bad_action_from_state_function", 5) == Driver(actions=[5]).ended.reason

    def test_asked_for_ends_are_nobodys_fault(self):
        assert MISSING is End("normal").at_fault

    def test_what_cannot_happen_now(self):
        """A machine has one event in hand; nothing happened then."""
        machine, _ = step(Driver().machine, Arrived(Event("cast", 1)), 0)

        with pytest.raises(ValueError, match="Arrived cannot happen while Handling"):
            step(machine, Arrived(Event("cast", 2)), 0)


class TestHibernate:
    def test_holds_until_the_next_event(self):
        driver = Driver(Table({("cast", "sleep"): KEEP(Hibernate())}))
        driver.send("sleep")
        asleep = driver.machine.hibernate
        driver.send("wake")

        assert (True, False) == (asleep, driver.machine.hibernate)


def _moved(type_, asker):
    return KEEP() if type_ == "enter" else NextState("s2", 0, Reply(asker, "moved"))
