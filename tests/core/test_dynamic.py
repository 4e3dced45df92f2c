"""The dynamic supervisor's rules, one by one, in memory."""

from itertools import count

import pytest

from otp_runtime.core.child_spec import DynamicFlags, check_dynamic_flags
from otp_runtime.core.dynamic import initial, is_coming_back, step
from otp_runtime.core.supervisor_messages import (
    AbortStart,
    Answer,
    ArmTimer,
    Asked,
    Begin,
    ChildExited,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    CountChildren,
    DeadlinePassed,
    DisarmTimer,
    Err,
    Kill,
    Ok,
    Release,
    Report,
    Resumed,
    Retry,
    RetryDue,
    SendExit,
    StartChild,
    StartChildRequest,
    Started,
    Stop,
    StopRequested,
    Suspend,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.errors import AlreadyStarted, BadSupervisorFlags, MaxChildren, NotFound, RuntimeBug, StartFailed
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import child


class Driver:
    """Feeds one dynamic supervisor; `actions` are those of the last event, `now` is set by hand."""

    def __init__(self, **flags):
        self.state = initial(DynamicFlags(**flags))
        self.now = 0.0
        self.actions = ()
        self._serials = count(1)
        self.feed(Begin())

    def feed(self, event):
        self.state, self.actions = step(self.state, event, self.now)
        return self.actions

    def ask(self, request, tag="tag"):
        self.feed(Asked(tag, request))
        return self.answer()

    def answer(self):
        return next((one.result for one in self.actions if isinstance(one, Answer)), None)

    def of(self, kind):
        return [one for one in self.actions if isinstance(one, kind)]

    def reports(self):
        return [(one.context, one.pid, one.reason) for one in self.of(Report)]

    def started(self, key=None):
        """Complete the start that is under way."""
        pid = Pid("test@host", next(self._serials), 1)
        self.feed(ChildStarted(key, pid))
        return pid

    def add(self, restart="permanent", **fields):
        """Start a child."""
        self.ask(StartChildRequest(child("id", restart, **fields)))
        return self.started()

    def which(self):
        return [pid for _, pid, _ in self.ask(WhichChildren()).value]


class TestStart:
    def test_is_started_at_once(self):
        """Without children there is nothing to wait for."""
        assert [Started()] == Driver().of(Started)

    def test_begins_once(self):
        """A second time is the performer's mistake."""
        with pytest.raises(RuntimeBug):
            Driver().feed(Begin())

    def test_a_start_is_answered_with_the_pid(self):
        """When the `init` is over."""
        top = Driver()
        assert None is top.ask(StartChildRequest(child("a")))
        pid = top.started()

        assert [Answer("tag", Ok(pid))] == top.of(Answer)

    def test_starts_are_one_after_another(self):
        """The second waits in the backlog."""
        top = Driver()
        top.ask(StartChildRequest(child("a")), "first")
        top.ask(StartChildRequest(child("b")), "second")
        assert () == top.actions
        top.started()

        assert [StartChild(None, child("b"))] == top.of(StartChild)

    @pytest.mark.parametrize(
        ("reason", "error"),
        [("boom", StartFailed("a", "boom")), (("already_started", Pid("n@h", 7, 1)), AlreadyStarted(Pid("n@h", 7, 1)))],
        ids=["failed", "already"],
    )
    def test_a_failed_start_is_answered_and_forgotten(self, reason, error):
        """Without a report, as in Elixir."""
        top = Driver()
        top.ask(StartChildRequest(child("a")))
        top.feed(ChildStartFailed(None, reason))

        assert [] == top.of(Report)
        assert (type(error), error.args) == (type(top.answer().error), top.answer().error.args)
        assert [] == top.which()

    def test_a_child_that_ignores_is_forgotten(self):
        """And answered with None."""
        top = Driver()
        top.ask(StartChildRequest(child("a")))
        top.feed(ChildIgnored(None))

        assert Ok(None) == top.answer()
        assert [] == top.which()

    def test_an_outcome_of_no_start_is_refused(self):
        """It cannot happen."""
        top = Driver()
        pid = top.add()

        with pytest.raises(RuntimeBug):
            top.feed(ChildStarted(None, Pid("test@host", 9, 1)))
        with pytest.raises(RuntimeBug):
            top.feed(ChildStartFailed(pid, "boom"))


class TestMaxChildren:
    def test_more_are_refused(self):
        """Not queued."""
        top = Driver(max_children=1)
        top.add()
        answer = top.ask(StartChildRequest(child("b")))

        assert isinstance(answer, Err)
        assert isinstance(answer.error, MaxChildren)

    def test_a_restarting_child_counts(self):
        """Its place is kept."""
        top = Driver(max_children=1, max_restarts=9)
        pid = top.add()
        top.feed(ChildExited(pid, "boom"))
        top.feed(ChildStartFailed(pid, "boom"))

        assert isinstance(top.ask(StartChildRequest(child("b"))), Err)

    def test_failed_and_ignored_starts_leave_room(self):
        """They take none."""
        top = Driver(max_children=1)
        top.ask(StartChildRequest(child("a")))
        top.feed(ChildStartFailed(None, "boom"))
        top.ask(StartChildRequest(child("a")))
        top.feed(ChildIgnored(None))

        assert isinstance(top.add(), Pid)


class TestRestart:
    @pytest.mark.parametrize(
        ("restart", "reason", "again"),
        [
            ("permanent", "normal", True),
            ("permanent", "boom", True),
            ("transient", "shutdown", False),
            ("transient", ("shutdown", "x"), False),
            ("transient", "killed", True),
            ("temporary", "boom", False),
        ],
    )
    def test_restart_type_decides(self, restart, reason, again):
        """As with any supervisor; one that is not restarted is forgotten."""
        top = Driver()
        pid = top.add(restart)
        top.feed(ChildExited(pid, reason))

        assert again == bool(top.of(StartChild))
        assert again == is_coming_back(top.state, pid)
        if not again:
            assert [] == top.which()

    def test_comes_back_under_another_pid(self):
        """With the same spec."""
        top = Driver()
        old = top.add()
        top.feed(ChildExited(old, "boom"))
        assert [StartChild(old, child("id"))] == top.of(StartChild)
        new = top.started(old)

        assert [new] == top.which()
        assert not is_coming_back(top.state, old)

    def test_one_that_ignores_is_forgotten(self):
        """No further try."""
        top = Driver()
        pid = top.add()
        top.feed(ChildExited(pid, "boom"))
        top.feed(ChildIgnored(pid))

        assert [] == top.of(Retry)
        assert [] == top.which()

    def test_one_that_fails_is_tried_again(self):
        """Through the queue, known by its last pid, and reported each time."""
        top = Driver()
        pid = top.add()
        top.feed(ChildExited(pid, "boom"))
        top.feed(ChildStartFailed(pid, "again"))
        assert [("start_error", None, "again")] == top.reports()
        assert [Retry(pid)] == top.of(Retry)
        assert ["restarting"] == top.which()
        assert (1, 0, 0, 1) == top.ask(CountChildren()).value
        top.feed(RetryDue(pid))
        new = top.started(pid)

        assert [new] == top.which()

    def test_one_too_many_ends_the_supervisor(self):
        """The others are stopped."""
        top = Driver(max_restarts=1)
        a, b = top.add(), top.add()
        top.feed(ChildExited(a, "boom"))
        a = top.started(a)
        top.feed(ChildExited(a, "boom"))
        assert [("child_terminated", a, "boom"), ("shutdown", a, "reached_max_restart_intensity")] == top.reports()
        assert [SendExit(b, "shutdown")] == top.of(SendExit)
        top.feed(ChildExited(b, "shutdown"))

        assert [Stop("shutdown")] == top.of(Stop)

    def test_failed_attempts_count(self):
        """Until there were too many."""
        top = Driver(max_restarts=2)
        pid = top.add()
        top.feed(ChildExited(pid, "boom"))
        top.feed(ChildStartFailed(pid, "boom"))
        top.feed(RetryDue(pid))
        top.feed(ChildStartFailed(pid, "boom"))
        top.feed(RetryDue(pid))

        assert [Stop("shutdown")] == top.of(Stop)

    def test_old_restarts_are_forgotten(self):
        """After `max_seconds`."""
        top = Driver(max_restarts=1, max_seconds=5)
        pid = top.add()
        for now in (0.0, 5.1, 10.2):
            top.now = now
            top.feed(ChildExited(pid, "boom"))
            pid = top.started(pid)

        assert [pid] == top.which()


class TestTerminateChild:
    def test_is_answered_when_it_is_dead(self):
        """And forgotten; no restart."""
        top = Driver()
        pid = top.add()
        top.ask(TerminateChild(pid))
        assert (SendExit(pid, "shutdown"), ArmTimer(pid, 5.0)) == top.actions
        top.feed(ChildExited(pid, "shutdown"))

        assert (DisarmTimer(pid), Answer("tag", Ok())) == top.actions
        assert [] == top.which()

    def test_is_killed_when_its_time_is_up(self):
        """And that is reported."""
        top = Driver()
        pid = top.add()
        top.ask(TerminateChild(pid))
        assert (Kill(pid),) == top.feed(DeadlinePassed(pid))
        top.feed(ChildExited(pid, "killed"))

        assert [("shutdown_error", pid, "killed")] == top.reports()

    def test_a_restarting_child_is_not_tried_again(self):
        """It goes by the pid that it had last."""
        top = Driver()
        pid = top.add()
        top.feed(ChildExited(pid, "boom"))
        top.feed(ChildStartFailed(pid, "boom"))

        assert Ok() == top.ask(TerminateChild(pid))
        assert [Release(pid)] == top.of(Release)
        assert () == top.feed(RetryDue(pid))
        assert [] == top.which()

    def test_one_that_died_meanwhile(self):
        """Its death is this stop's, and not handled again."""
        top = Driver()
        a, b = top.add(), top.add()
        top.ask(TerminateChild(a), "a")
        top.feed(Asked("b", TerminateChild(b)))
        top.feed(ChildExited(b, "boom"))
        top.feed(ChildExited(a, "shutdown"))

        assert [Answer("a", Ok()), Answer("b", Ok())] == top.of(Answer)
        assert [("shutdown_error", b, "boom")] == top.reports()
        assert [] == top.of(StartChild)

    @pytest.mark.parametrize("who", [Pid("test@host", 99, 1), Pid("other@host", 1, 1), "a"])
    def test_somebody_else(self, who):
        """Is not found."""
        top = Driver()
        top.add()

        assert isinstance(top.ask(TerminateChild(who)).error, NotFound)


class TestStop:
    def test_all_are_stopped_at_once(self):
        """Each in its own way."""
        top = Driver()
        a, b, c = top.add(), top.add(shutdown=None), top.add(shutdown="brutal_kill")
        top.feed(StopRequested("normal"))
        assert (SendExit(a, "shutdown"), ArmTimer(a, 5.0), SendExit(b, "shutdown"), Kill(c)) == top.actions
        for pid, reason in ((b, "shutdown"), (c, "killed"), (a, "shutdown")):
            assert [] == top.of(Stop)
            top.feed(ChildExited(pid, reason))

        assert (DisarmTimer(a), Stop("normal")) == top.actions

    @pytest.mark.parametrize(
        ("restart", "shutdown", "reason", "reported"),
        [
            ("permanent", 5.0, "normal", True),
            ("transient", 5.0, "normal", False),
            ("permanent", None, "boom", True),
            ("temporary", "brutal_kill", "killed", False),
            ("permanent", "brutal_kill", "boom", True),
        ],
    )
    def test_a_bad_end_is_reported(self, restart, shutdown, reason, reported):
        """As in Elixir."""
        top = Driver()
        pid = top.add(restart, shutdown=shutdown)
        top.feed(StopRequested("shutdown"))
        top.feed(ChildExited(pid, reason))

        assert [("shutdown_error", pid, reason)] * reported == top.reports()

    def test_a_start_under_way_is_aborted(self):
        """Its caller is not answered; the supervisor's end tells."""
        top = Driver()
        top.ask(StartChildRequest(child("a")))
        assert (AbortStart(None),) == top.feed(StopRequested("shutdown"))

        assert (Stop("shutdown"),) == top.feed(ChildStartFailed(None, "killed"))

    def test_a_start_that_was_done_all_the_same_is_stopped(self):
        """As the others."""
        top = Driver()
        top.ask(StartChildRequest(child("a")))
        top.feed(StopRequested("shutdown"))
        pid = top.started()
        assert (SendExit(pid, "shutdown"), ArmTimer(pid, 5.0)) == top.actions

        assert (DisarmTimer(pid), Stop("shutdown")) == top.feed(ChildExited(pid, "shutdown"))

    def test_a_stop_under_way_is_still_answered(self):
        """It is not told twice."""
        top = Driver()
        pid = top.add()
        top.ask(TerminateChild(pid))
        assert () == top.feed(StopRequested("shutdown"))

        assert (DisarmTimer(pid), Answer("tag", Ok()), Stop("shutdown")) == top.feed(ChildExited(pid, "shutdown"))

    def test_what_came_too_late_is_nothing(self):
        """Nobody is there to answer."""
        top = Driver()
        top.feed(StopRequested("shutdown"))

        assert () == top.feed(Asked("late", CountChildren()))
        assert () == top.feed(StopRequested("normal"))


class TestFlags:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("strategy", "one_for_all"),
            ("max_restarts", -1),
            ("max_seconds", 0),
            ("max_children", -1),
            ("max_children", 1.5),
            ("max_children", True),
        ],
    )
    def test_bad_flags_are_named(self, field, value):
        """With what is allowed."""
        with pytest.raises(BadSupervisorFlags) as error:
            check_dynamic_flags(DynamicFlags(**{field: value}))

        assert (field, value) == (error.value.field, error.value.value)


class TestSuspend:
    def test_deaths_and_requests_wait_in_order(self):
        """Until resumed, once, however often suspended; a dead child is coming back."""
        top = Driver()
        pid = top.add()
        assert Ok() == top.ask(Suspend())
        top.feed(ChildExited(pid, "boom"))
        assert () == top.actions
        assert is_coming_back(top.state, pid)
        assert top.ask(CountChildren()) is None

        top.feed(Resumed())
        assert [pid] == [one.id for one in top.of(StartChild)]

    def test_what_had_begun_is_finished_first(self):
        """Suspending waits like any other request."""
        top = Driver()
        top.ask(StartChildRequest(child("a")))
        assert top.ask(Suspend()) is None
        top.started()

        assert [Ok] == [type(one.result) for one in top.of(Answer) if one.result == Ok()]
        assert top.state.suspended

    def test_a_stop_is_obeyed(self):
        """Also with a death that nobody has handled."""
        top = Driver()
        dead, living = top.add(), top.add()
        top.ask(Suspend())
        top.feed(ChildExited(dead, "boom"))
        top.feed(StopRequested("shutdown"))
        top.feed(ChildExited(living, "shutdown"))

        assert [Stop("shutdown")] == top.of(Stop)
