"""How long is waited before a restart, and what a supervisor does meanwhile."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.backoff import FIRST, Backoff, Streak, next_wait, wait_before
from otp_runtime.core.child_spec import ChildSpec, check_child_spec
from otp_runtime.core.supervision import (
    Answer,
    ChildIgnored,
    DeleteChild,
    Release,
    Report,
    RestartChild,
    Retry,
    RetryDue,
    SendExit,
    StartChild,
    Stop,
    StopRequested,
    Suspend,
    TerminateChild,
    is_coming_back,
)
from otp_runtime.core.supervisor_messages import Asked, ChildExited, ChildStartFailed, Err, Ok, Resumed
from otp_runtime.errors import BadChildSpec, Restarting
from tests.core import test_dynamic as dynamic
from tests.core.supervisor_driver import Driver, child

STEADY = Backoff(first=1.0, factor=2.0, cap=8.0, jitter=0.0)
BACKOFFS = st.builds(
    lambda first, factor, more, jitter, seed: Backoff(first, factor, first + more, jitter, seed),
    st.floats(0.001, 100),
    st.floats(1, 10),
    st.floats(0, 1000),
    st.floats(0, 1),
    st.integers(),
)


def waiting(*more, backoff=STEADY, **flags):
    """A supervisor one of whose children, "a", has just ended and waits."""
    sup = Driver(child("a", backoff=backoff), *more, **flags).begin()
    sup.end("a")
    return sup


def due(sup, after, id="a"):
    """Let time pass and the retry come."""
    sup.now += after
    return sup.feed(RetryDue(id))


class TestWaitBefore:
    def test_grows_to_the_cap(self):
        """Each one `factor` times the one before."""
        assert [1, 2, 4, 8, 8, 8] == [wait_before(STEADY, "a", n) for n in range(1, 7)]

    def test_of_very_many(self):
        """No power is too large."""
        assert STEADY.cap == wait_before(STEADY, "a", 10**9)

    @given(BACKOFFS, st.integers(1, 10_000), st.text())
    def test_jitter_is_a_fraction(self, backoff, n, id):
        """More or less than what it would be without, by at most that fraction."""
        steady = wait_before(Backoff(backoff.first, backoff.factor, backoff.cap, 0.0), id, n)
        wait = wait_before(backoff, id, n)

        assert abs(wait - steady) <= backoff.jitter * steady * (1 + 1e-9) + 2 * math.ulp(steady)

    @given(BACKOFFS, st.integers(1, 50), st.text())
    def test_is_decided_by_the_seed(self, backoff, n, id):
        """The same every time."""
        assert wait_before(backoff, id, n) == wait_before(backoff, id, n)

    def test_spreads_children_and_attempts(self):
        """Many that fall together come back over the whole width of the jitter, whatever tells them apart."""
        by_id = [wait_before(Backoff(1, 1, 1, 0.5, 7), f"child{n}", 1) for n in range(400)]
        by_turn = [wait_before(Backoff(1, 1, 1, 0.5, 7), "a", n) for n in range(1, 401)]
        by_seed = [wait_before(Backoff(1, 1, 1, 0.5, n), "a", 1) for n in range(400)]

        for waits in (by_id, by_turn, by_seed):
            tenths = {int((wait - 0.5) * 10) for wait in waits}
            assert set(range(10)) <= tenths
            assert math.isclose(1.0, sum(waits) / len(waits), abs_tol=0.06)


class TestNextWait:
    def test_without_a_backoff_nothing_is_counted(self):
        """And nothing is waited for."""
        assert (FIRST, 0.0) == next_wait(None, FIRST, "a", 3.0)

    def test_a_life_as_long_as_the_cap_begins_anew(self):
        """One that is a little shorter does not."""
        lived = Streak(4, since=100.0)

        assert (Streak(1, 100.0), 1.0) == next_wait(STEADY, lived, "a", 108.0)
        assert (Streak(5, 100.0), 8.0) == next_wait(STEADY, lived, "a", 107.9)

    def test_a_start_that_failed_goes_on(self):
        """Nobody lived."""
        assert (Streak(5, 100.0), 8.0) == next_wait(STEADY, Streak(4, 100.0), "a", None)


class TestCheck:
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("first", {"first": 0}),
            ("first", {"first": "1"}),
            ("first", {"first": math.inf}),
            ("factor", {"factor": 0.5}),
            ("factor", {"factor": True}),
            ("cap", {"first": 2, "cap": 1}),
            ("cap", {"cap": None}),
            ("jitter", {"jitter": 1.5}),
            ("jitter", {"jitter": -0.1}),
            ("seed", {"seed": "x"}),
        ],
    )
    def test_a_wrong_field_is_named(self, field, fields):
        """With its value and what is allowed, in the caller."""
        with pytest.raises(BadChildSpec, match=rf"spec of child 'a': backoff\.{field}=") as caught:
            check_child_spec(child("a", backoff=Backoff(**fields)))

        assert fields[field] == caught.value.value

    @pytest.mark.parametrize("value", [1.0, (1, 2), {"first": 1}])
    def test_what_is_no_backoff(self, value):
        """It says what to write."""
        with pytest.raises(BadChildSpec, match="allowed: None or Backoff"):
            check_child_spec(child("a", backoff=value))

    def test_the_default_is_fine(self):
        """And so is one that waits the same each time."""
        for backoff in (None, Backoff(), Backoff(first=1, factor=1, cap=1, jitter=0)):
            assert isinstance(check_child_spec(child("a", backoff=backoff)), ChildSpec)


class TestStatic:
    def test_waits_and_starts(self):
        """It is "restarting" meanwhile, and nothing is under way."""
        sup = waiting()
        assert [Retry("a", 1.0)] == sup.of(Retry)
        assert [] == sup.of(StartChild)
        assert [1.0] == [report.wait for report in sup.of(Report)]
        assert (("a", "restarting", "worker"),) == sup.which()
        assert (1, 0, 0, 1) == sup.count()
        assert is_coming_back(sup.state, "a")
        due(sup, 1.0)

        assert ["a"] == sup.start_all()

    def test_waits_longer_each_time(self):
        """Also when the start is what fails."""
        sup = waiting(max_restarts=9)
        waits = [1.0]
        for is_start in (True, False, True):
            due(sup, waits[-1])
            if is_start:
                sup.fail("a")
            else:
                sup.start_all()
                sup.end("a")
            waits += [retry.after for retry in sup.of(Retry)]

        assert [1.0, 2.0, 4.0, 8.0] == waits

    def test_a_long_life_begins_anew(self):
        """As long as the longest wait."""
        sup = waiting(max_restarts=9)
        due(sup, 1.0)
        sup.start_all()
        sup.now += 8.0
        sup.end("a")

        assert [Retry("a", 1.0)] == sup.of(Retry)

    def test_a_life_ends_at_the_death(self):
        """Not when a supervisor that was busy gets to it."""
        sup = waiting(max_restarts=9)
        due(sup, 1.0)
        sup.start_all()
        sup.ask(Suspend())
        sup.now += 7.0
        sup.end("a")
        sup.now += 20.0
        sup.feed(Resumed())

        assert [Retry("a", 2.0)] == sup.of(Retry)

    def test_each_attempt_counts_before_the_wait(self):
        """The one too many is not waited for."""
        sup = waiting(max_restarts=2)
        due(sup, 1.0)
        sup.fail("a")
        due(sup, 2.0)

        sup.fail("a")

        assert [("start_error", "a", "boom"), ("shutdown", "a", "reached_max_restart_intensity")] == sup.reports()
        assert [Stop("shutdown")] == sup.of(Stop)

    def test_a_wait_counts_once(self):
        """Its end is no second incident."""
        sup = waiting(max_restarts=1)
        due(sup, 1.0)

        assert ["a"] == sup.start_all()
        assert 1 == len(sup.state.restarts)

    def test_terminate_child_ends_it(self):
        """The retry that comes all the same does nothing; nobody waits for the name."""
        sup = waiting()
        assert Ok() == sup.ask(TerminateChild("a"))
        assert [Release("a")] == sup.of(Release)
        due(sup, 1.0)

        assert [] == sup.of(StartChild)
        assert (("a", None, "worker"),) == sup.which()

    def test_a_retry_of_an_earlier_wait_is_too_early(self):
        """Terminated, started by hand and dead once more: the wait is the new one."""
        sup = waiting(max_restarts=9)
        sup.ask(TerminateChild("a"))
        sup.ask(RestartChild("a"))
        sup.start_all()
        sup.now = 0.5
        sup.end("a")
        assert [Retry("a", 1.0)] == sup.of(Retry)
        due(sup, 0.5)
        assert [] == sup.of(StartChild)
        due(sup, 0.5)

        assert ["a"] == sup.start_all()

    @pytest.mark.parametrize("request_", [RestartChild("a"), DeleteChild("a")])
    def test_it_is_restarting(self, request_):
        """As OTP answers while a restart is tried again."""
        answer = waiting().ask(request_)

        assert isinstance(answer, Err)
        assert isinstance(answer.error, Restarting)

    def test_a_start_by_hand_begins_anew(self):
        """Somebody has looked at it."""
        sup = waiting(max_restarts=9)
        due(sup, 1.0)
        sup.start_all()
        sup.feed(Asked("t", TerminateChild("a")))
        sup.end("a", "shutdown")
        sup.ask(RestartChild("a"))
        sup.start_all()
        sup.end("a")

        assert [Retry("a", 1.0)] == sup.of(Retry)

    def test_a_stop_does_not_wait(self):
        """There is nothing to be stopped."""
        sup = waiting()

        sup.feed(StopRequested("shutdown"))

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_an_ignored_restart_is_down(self):
        """After the wait, as without one."""
        sup = waiting()
        due(sup, 1.0)
        sup.feed(ChildIgnored("a"))

        assert [Release("a")] == sup.of(Release)
        assert (("a", None, "worker"),) == sup.which()

    @pytest.mark.parametrize(
        ("strategy", "stopped"), [("one_for_one", []), ("rest_for_one", ["b"]), ("one_for_all", ["b", "z"])]
    )
    def test_siblings_stop_before_and_start_after(self, strategy, stopped):
        """Those that the strategy names; they are coming back all the time."""
        sup = Driver(child("z"), child("a", backoff=STEADY), child("b"), strategy=strategy).begin()
        sup.end("a")
        seen = []
        while told := sup.of(SendExit):
            assert [] == sup.of(Retry)
            seen.append(sup.id_of(told[0].pid))
            sup.feed(ChildExited(told[0].pid, "shutdown"))
        assert stopped == seen
        assert [Retry("a", 1.0)] == sup.of(Retry)
        assert ["a", *stopped] == [id for id in "abz" if is_coming_back(sup.state, id)]
        due(sup, 1.0)

        assert sorted([*stopped, "a"], key="zab".index) == sup.start_all()

    def test_siblings_are_released_with_it(self):
        """When the wait is ended, nobody is coming back; when one is deleted, that one is not."""
        sup = Driver(child("a", backoff=STEADY), child("b"), child("c"), strategy="one_for_all").begin()
        sup.end("a")
        sup.end("c", "shutdown")
        sup.end("b", "shutdown")
        sup.ask(DeleteChild("b"))
        assert [Release("b")] == sup.of(Release)
        sup.ask(TerminateChild("a"))

        assert [Release("a"), Release("c")] == sup.of(Release)

    def test_a_siblings_restart_takes_it_along(self):
        """One_for_all starts all, also one that waits; its retry then finds it running."""
        sup = Driver(child("z"), child("a", backoff=STEADY), strategy="rest_for_one").begin()
        sup.end("a")
        sup.end("z")
        assert ["z", "a"] == sup.start_all()

        assert () == due(sup, 1.0)

    def test_requests_are_answered(self):
        """The supervisor is idle."""
        assert 1 == len([one for one in waiting().feed(Asked("t", TerminateChild("a"))) if isinstance(one, Answer)])


class TestDynamic:
    def waiting(self, **flags):
        top = dynamic.Driver(**flags)
        pid = top.add(backoff=STEADY)
        top.feed(ChildExited(pid, "boom"))
        return top, pid

    def test_waits_and_starts(self):
        """Known by its last pid; others are served meanwhile."""
        top, pid = self.waiting()
        assert [Retry(pid, 1.0)] == top.of(Retry)
        assert [] == top.of(StartChild)
        assert ["restarting"] == top.which()
        other = top.add()
        top.now = 1.0
        top.feed(RetryDue(pid))
        new = top.started(pid)

        assert {other, new} == set(top.which())

    def test_waits_longer_each_time(self):
        """Also when the start is what fails."""
        top, pid = self.waiting(max_restarts=9)
        top.feed(RetryDue(pid))
        top.feed(ChildStartFailed(pid, "again"))
        assert [Retry(pid, 2.0)] == top.of(Retry)
        top.feed(RetryDue(pid))
        new = top.started(pid)
        top.feed(ChildExited(new, "boom"))

        assert [Retry(new, 4.0)] == top.of(Retry)

    def test_terminate_child_ends_it(self):
        """By the last pid."""
        top, pid = self.waiting()

        assert Ok() == top.ask(TerminateChild(pid))
        assert () == top.feed(RetryDue(pid))

    def test_each_attempt_counts_once(self):
        """Before the wait; the one too many is not waited for."""
        top, pid = self.waiting(max_restarts=1)
        top.feed(RetryDue(pid))
        assert [StartChild] == [type(one) for one in top.actions]
        top.feed(ChildStartFailed(pid, "again"))

        assert [Stop("shutdown")] == top.of(Stop)

    def test_a_stop_does_not_wait(self):
        """There is nothing to be stopped."""
        top, _pid = self.waiting()

        top.feed(StopRequested("shutdown"))

        assert [Stop("shutdown")] == top.of(Stop)
