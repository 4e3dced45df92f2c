"""The supervisor's rules, one by one."""

import pytest

from otp_runtime.core.supervision import (
    AbortStart,
    Answer,
    ArmTimer,
    Asked,
    Begin,
    ChildExited,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    DeadlinePassed,
    DeleteChild,
    DisarmTimer,
    Err,
    GetChildspec,
    Kill,
    Ok,
    Release,
    Report,
    RestartChild,
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
    child_of,
    is_coming_back,
    step,
)
from otp_runtime.errors import (
    AlreadyPresent,
    AlreadyStarted,
    BadChildSpec,
    NotFound,
    Restarting,
    Running,
    RuntimeBug,
    StartFailed,
)
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import Driver, child

STRANGER = Pid("test@host", 999, 1)


def abc(strategy="one_for_one", **flags):
    return Driver(child("a"), child("b"), child("c"), strategy=strategy, **flags).begin()


class TestBegin:
    def test_children_start_one_at_a_time_in_order(self):
        """The second start begins when the first `init` has returned."""
        sup = Driver(child("a"), child("b"))

        first = sup.feed(Begin())
        sup.start("a")

        assert (StartChild("a", child("a")),) == first
        assert (StartChild("b", child("b")),) == sup.actions

    def test_supervisor_is_started_when_its_last_child_is(self):
        """`Started` follows the last child."""
        sup = Driver(child("a"))
        sup.feed(Begin())

        sup.start("a")

        assert (Started(),) == sup.actions

    def test_without_children_it_is_started_at_once(self):
        """An empty supervisor has nothing to wait for."""
        assert (Started(),) == Driver().feed(Begin())

    def test_failed_start_rolls_back_in_reverse_order(self):
        """What had started is stopped, last started first, and the reason names the child."""
        sup = Driver(child("a"), child("b"), child("c"))
        sup.feed(Begin())
        sup.start("a")
        sup.start("b")

        sup.fail("c", "boom")
        assert [("start_error", "c", "boom")] == sup.reports()
        assert [SendExit(sup.pid("b"), "shutdown")] == sup.of(SendExit)
        sup.end("b", "shutdown")
        assert [SendExit(sup.pid("a"), "shutdown")] == sup.of(SendExit)
        sup.end("a", "shutdown")

        reason = ("shutdown", ("failed_to_start_child", "c", "boom"))
        assert [Stop(reason)] == sup.of(Stop)

    @pytest.mark.parametrize(("restart", "kept"), [("permanent", ["a"]), ("transient", ["a"]), ("temporary", [])])
    def test_ignored_child_keeps_its_spec_unless_temporary(self, restart, kept):
        """A child that ignores is no failure."""
        sup = Driver(child("a", restart))
        sup.feed(Begin())

        sup.feed(ChildIgnored("a"))

        assert [Started()] == sup.of(Started)
        assert kept == sup.ids()

    def test_child_that_dies_during_the_start_of_another_is_handled_afterwards(self):
        """Its restart waits until the supervisor has started."""
        sup = Driver(child("a"), child("b"))
        sup.feed(Begin())
        sup.start("a")

        assert () == sup.end("a")
        sup.start("b")

        assert [Started(), StartChild("a", child("a"))] == [
            action for action in sup.actions if not isinstance(action, Report)
        ]


class TestRestart:
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x"), "boom"])
    def test_permanent_child_is_restarted_after_every_end(self, reason):
        """Also after a normal one, and each is reported."""
        sup = Driver(child("a")).begin()

        sup.end("a", reason)

        assert [("child_terminated", "a", reason)] == sup.reports()
        assert [StartChild("a", child("a"))] == sup.of(StartChild)

    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x")])
    def test_transient_child_stays_down_after_a_meant_end(self, reason):
        """Its spec stays, nothing is reported, and restart_child brings it back."""
        sup = Driver(child("a", "transient")).begin()

        assert () == sup.end("a", reason)
        assert (("a", None, "worker"),) == sup.which()
        sup.ask(RestartChild("a"))
        assert [StartChild("a", child("a", "transient"))] == sup.of(StartChild)

    def test_transient_child_is_restarted_after_an_abnormal_end(self):
        """Any other reason is abnormal."""
        sup = Driver(child("a", "transient")).begin()

        sup.end("a", ("shutdown", "x", "y"))

        assert ["a"] == sup.start_all()

    @pytest.mark.parametrize(("reason", "reports"), [("normal", 0), ("boom", 1)])
    def test_temporary_child_is_forgotten(self, reason, reports):
        """It is never restarted; only an abnormal end is reported."""
        sup = Driver(child("a", "temporary")).begin()

        sup.end("a", reason)

        assert reports == len(sup.reports())
        assert [] == sup.ids()

    def test_end_of_a_stranger_is_ignored(self):
        """A process that is no child changes nothing."""
        sup = abc()
        before = sup.state

        assert () == sup.feed(ChildExited(STRANGER, "boom"))
        assert before == sup.state

    def test_death_that_is_told_twice_counts_once(self):
        """The first reason is the one."""
        sup = abc()
        sup.end("a")
        sup.end("b", "first")
        before = sup.state

        assert () == sup.end("b", "second")
        assert before == sup.state

    def test_one_for_one_concerns_nobody_else(self):
        """The child keeps its place in the order."""
        sup = abc()

        sup.end("b")

        assert [] == sup.of(SendExit)
        assert ["b"] == sup.start_all()
        assert ["a", "b", "c"] == sup.ids()

    def test_rest_for_one_concerns_the_later_ones(self):
        """They stop, last started first, and start in order."""
        sup = Driver(*map(child, "abcd"), strategy="rest_for_one").begin()

        sup.end("b")
        assert ["d"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]
        sup.end("d", "shutdown")
        assert ["c"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]
        sup.end("c", "shutdown")

        assert ["b", "c", "d"] == sup.start_all()

    def test_one_for_all_concerns_all(self):
        """All others stop in reverse order, then all start in order."""
        sup = abc("one_for_all")

        sup.end("b")
        sup.end("c", "shutdown")
        sup.end("a", "shutdown")

        assert ["a", "b", "c"] == sup.start_all()

    def test_report_names_the_siblings_and_the_count(self):
        """The report says which children the incident concerns."""
        sup = abc("one_for_all")
        pid = sup.pid("b")

        sup.end("b")

        report = Report("child_terminated", "b", pid, "boom", (1, 3, 5), "one_for_all", ("a", "c"))
        assert [report] == sup.of(Report)

    def test_temporary_siblings_are_dropped_by_a_group_restart(self):
        """They are stopped and not started again."""
        specs = (child("a"), child("t", "temporary"))
        sup = Driver(*specs, strategy="one_for_all").begin()

        sup.end("a")
        sup.end("t", "shutdown")

        assert ["a"] == sup.start_all()
        assert ["a"] == sup.ids()

    def test_group_restart_revives_stopped_siblings(self):
        """One that had finished or was stopped by hand starts again."""
        specs = (child("a"), child("b", "transient"), child("c"))
        sup = Driver(*specs, strategy="one_for_all").begin()
        sup.end("b", "normal")
        sup.ask(TerminateChild("c"))
        sup.end("c", "shutdown")

        sup.end("a")

        assert ["a", "b", "c"] == sup.start_all()

    def test_group_restart_is_one_incident(self):
        """Stopping siblings does not count."""
        sup = abc("one_for_all")

        sup.end("a")
        sup.end("c", "shutdown")
        sup.end("b", "shutdown")

        assert 1 == len(sup.state.restarts)

    def test_ignore_on_a_restart_leaves_the_child_down(self):
        """There is no retry."""
        sup = Driver(child("a")).begin()
        sup.end("a")

        sup.feed(ChildIgnored("a"))

        assert (Release("a"),) == sup.actions
        assert (("a", None, "worker"),) == sup.which()

    def test_sibling_found_dead_by_a_stop_is_reported_and_not_restarted_twice(self):
        """Its death belongs to the stop; a stop that is told late of it goes on at once."""
        sup = abc("one_for_all")
        sup.end("a")
        sup.end("b", "oops")

        sup.end("c", "shutdown")

        assert [("shutdown_error", "b", "oops")] == sup.reports()
        assert ["a", "b", "c"] == sup.start_all()
        assert 1 == len(sup.state.restarts)

    def test_two_deaths_are_handled_in_their_order(self):
        """The second waits until the first is dealt with."""
        sup = abc()
        sup.end("c")

        assert () == sup.end("a")
        sup.start("c")

        assert ["a"] == sup.start_all()


class TestIntensity:
    def test_supervisor_survives_max_restarts_and_not_one_more(self):
        """At the limit it reports, stops the rest and exits `"shutdown"`."""
        sup = Driver(child("a"), child("b"), max_restarts=2).begin()
        for _ in range(2):
            sup.end("a")
            sup.start("a")

        sup.end("a")
        assert ("shutdown", "a", "reached_max_restart_intensity") in sup.reports()
        assert [] == sup.of(StartChild)
        sup.end("b", "shutdown")

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_zero_restarts_means_the_first_end_counts(self):
        """Also the normal end of a permanent child."""
        sup = Driver(child("a"), max_restarts=0).begin()

        sup.end("a", "normal")

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_restarts_of_all_children_share_the_window(self):
        """It is the supervisor that has had enough."""
        sup = Driver(child("a"), child("b"), max_restarts=1).begin()
        sup.end("a")
        sup.start("a")

        sup.end("b")

        assert ["a"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]

    def test_old_restarts_do_not_count(self):
        """Those outside the window are forgotten."""
        sup = Driver(child("a"), max_restarts=1, max_seconds=5).begin()
        sup.end("a")
        sup.start("a")
        sup.now = 5.5

        sup.end("a")

        assert ["a"] == sup.start_all()


class TestRetry:
    def test_failed_restart_is_retried_through_the_queue(self):
        """The child is `"restarting"` meanwhile."""
        sup = Driver(child("a")).begin()
        sup.end("a")

        sup.fail("a")

        assert [("start_error", "a", "boom")] == sup.reports()
        assert [Retry("a")] == sup.of(Retry)
        assert (("a", "restarting", "worker"),) == sup.which()
        assert (1, 0, 0, 1) == sup.count()

    def test_each_attempt_counts(self):
        """Two restarts are survived, the third attempt is not made."""
        sup = Driver(child("a"), max_restarts=2).begin()
        sup.end("a")
        sup.fail("a")
        sup.feed(RetryDue("a"))
        sup.fail("a")

        sup.feed(RetryDue("a"))

        assert [("shutdown", "a", "reached_max_restart_intensity")] == sup.reports()
        assert [Stop("shutdown")] == sup.of(Stop)

    def test_requests_come_before_the_retry(self):
        """A request that waited is served between two attempts."""
        sup = Driver(child("a")).begin()
        sup.end("a")
        sup.feed(Asked("t", TerminateChild("a")))

        sup.fail("a")

        actions = [action for action in sup.actions if not isinstance(action, Report)]
        assert [Retry("a"), Release("a"), Answer("t", Ok())] == actions
        assert () == sup.feed(RetryDue("a"))

    def test_group_retry_is_for_the_child_that_failed(self):
        """rest_for_one goes on from it; children after it stay down until then."""
        sup = abc("rest_for_one", max_restarts=9)
        sup.end("a")
        sup.end("c", "shutdown")
        sup.end("b", "shutdown")
        sup.start("a")
        sup.fail("b")
        assert [("c", None), ("b", "restarting")] == [line[:2] for line in sup.which()[:2]]

        sup.feed(RetryDue("b"))

        assert ["b", "c"] == sup.start_all()

    def test_one_for_all_retry_tears_down_what_was_restarted(self):
        """Each attempt starts from nothing."""
        sup = abc("one_for_all", max_restarts=9)
        sup.end("c")
        sup.end("b", "shutdown")
        sup.end("a", "shutdown")
        sup.start("a")
        sup.fail("b")

        sup.feed(RetryDue("b"))
        sup.end("a", "shutdown")

        assert ["a", "b", "c"] == sup.start_all()


class TestStop:
    def test_children_stop_one_after_another_in_reverse_order(self):
        """The next one is told when the one before is dead."""
        sup = abc()

        sup.feed(StopRequested("normal"))
        order = []
        while told := sup.of(SendExit):
            assert 1 == len(told)
            order.append(sup.id_of(told[0].pid))
            sup.end(order[-1], "shutdown")

        assert ["c", "b", "a"] == order
        assert [Stop("normal")] == sup.of(Stop)

    def test_child_with_a_budget_is_killed_when_it_is_spent(self):
        """Then the wait has no limit, and the kill is reported."""
        sup = Driver(child("a", shutdown=0.5)).begin()
        pid = sup.pid("a")

        sup.feed(StopRequested("shutdown"))
        assert (SendExit(pid, "shutdown"), ArmTimer(pid, 0.5)) == sup.actions
        assert (Kill(pid),) == sup.feed(DeadlinePassed(pid))
        sup.end("a", "killed")

        assert [("shutdown_error", "a", "killed")] == sup.reports()
        assert [] == sup.of(DisarmTimer)

    def test_timer_is_disarmed_when_the_child_ends_in_time(self):
        """Its late event would be ignored as well."""
        sup = Driver(child("a")).begin()
        pid = sup.pid("a")
        sup.feed(StopRequested("shutdown"))

        sup.end("a", "shutdown")

        assert (DisarmTimer(pid), Stop("shutdown")) == sup.actions
        assert () == sup.feed(DeadlinePassed(pid))

    def test_brutal_kill_is_no_error(self):
        """`"killed"` is what was asked for."""
        sup = Driver(child("a", shutdown="brutal_kill")).begin()
        pid = sup.pid("a")

        assert (Kill(pid),) == sup.feed(StopRequested("shutdown"))
        sup.end("a", "killed")

        assert (Stop("shutdown"),) == sup.actions

    def test_without_a_limit_no_timer_is_armed(self):
        """The default of a supervisor child."""
        sup = Driver(child("a", type="supervisor")).begin()

        assert (SendExit(sup.pid("a"), "shutdown"),) == sup.feed(StopRequested("shutdown"))

    def test_dead_child_is_not_waited_for(self):
        """One that died while another was being stopped is reported with its own reason."""
        sup = abc()
        sup.feed(StopRequested("shutdown"))
        sup.end("b", "oops")

        sup.end("c", "shutdown")

        assert [("shutdown_error", "b", "oops")] == sup.reports()
        assert ["a"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]

    def test_stop_aborts_the_start_under_way(self):
        """A hanging `init` is not waited for."""
        sup = Driver(child("a"), child("b")).begin()
        sup.end("a")

        assert (AbortStart("a"),) == sup.feed(StopRequested("shutdown"))
        sup.feed(ChildStartFailed("a", "killed"))
        assert [] == sup.reports()
        sup.end("b", "shutdown")

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_start_that_completed_all_the_same_is_stopped(self):
        """It is stopped like any other child."""
        sup = Driver(child("a"))
        sup.feed(Begin())
        sup.feed(StopRequested("shutdown"))

        pid = sup.start("a")
        assert [SendExit(pid, "shutdown")] == sup.of(SendExit)
        sup.end("a", "shutdown")

        assert [] == sup.of(Started)
        assert [Stop("shutdown")] == sup.of(Stop)

    def test_stop_under_way_is_finished_and_answered(self):
        """terminate_child gets its answer, and the child is not told twice."""
        sup = Driver(child("a"), child("b")).begin()
        sup.feed(Asked("t", TerminateChild("a")))

        assert () == sup.feed(StopRequested("normal"))
        sup.end("a", "shutdown")

        assert [Answer("t", Ok())] == sup.of(Answer)
        assert ["b"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]

    def test_second_stop_changes_nothing(self):
        """The first reason counts, and nothing is done twice."""
        sup = Driver(child("a")).begin()
        sup.end("a")
        sup.feed(StopRequested("first"))

        assert () == sup.feed(StopRequested("second"))
        sup.fail("a", "killed")

        assert (Stop("first"),) == sup.actions

    def test_requests_that_waited_are_not_answered(self):
        """Their callers see the supervisor end, and nothing of them is kept."""
        sup = Driver(child("a")).begin()
        sup.end("a")
        sup.feed(Asked("t", WhichChildren()))
        sup.feed(StopRequested("shutdown"))

        sup.fail("a", "killed")

        assert (Stop("shutdown"),) == sup.actions
        assert not sup.state.backlog

    def test_before_it_began_it_stops_at_once(self):
        """There is nothing to stop."""
        assert (Stop("shutdown"),) == Driver(child("a")).feed(StopRequested("shutdown"))

    def test_what_comes_after_the_stop_is_ignored(self):
        """The supervisor is gone."""
        sup = Driver()
        sup.feed(StopRequested("shutdown"))

        assert () == sup.feed(Asked("t", WhichChildren()))
        assert not sup.state.backlog


class TestAutoShutdown:
    def significant(self, restart, auto_shutdown):
        specs = [child(id, restart, significant=True) for id in "ab"]
        return Driver(*specs, child("c"), auto_shutdown=auto_shutdown).begin()

    def test_any_significant_child_that_ends_for_good_stops_the_supervisor(self):
        """Its siblings are stopped."""
        sup = self.significant("transient", "any_significant")

        sup.end("a", "normal")
        sup.end("c", "shutdown")
        sup.end("b", "shutdown")

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_restarted_significant_child_stops_nothing(self):
        """A transient one that crashed is back."""
        sup = self.significant("transient", "any_significant")

        sup.end("a")

        assert ["a"] == sup.start_all()

    def test_all_significant_waits_for_the_last(self):
        """One that runs keeps the supervisor."""
        sup = self.significant("temporary", "all_significant")

        assert [] == [action for action in sup.end("a") if isinstance(action, SendExit)]
        sup.end("b")

        assert ["c"] == [sup.id_of(action.pid) for action in sup.of(SendExit)]

    def test_end_of_another_child_triggers_nothing(self):
        """It is not significant."""
        specs = (child("a", "temporary"), child("b"))
        sup = Driver(*specs, auto_shutdown="any_significant").begin()

        assert () == sup.end("a", "normal")

    def test_terminate_child_triggers_nothing(self):
        """Only an end by itself counts."""
        sup = self.significant("transient", "any_significant")

        sup.ask(TerminateChild("a"))
        sup.end("a", "shutdown")

        assert [] == sup.of(SendExit)


class TestStartChildRequest:
    def test_new_child_is_last_in_the_order(self):
        """So it is stopped first."""
        sup = Driver(child("a")).begin()

        sup.ask(StartChildRequest(child("z")))
        pid = sup.start("z")

        assert [Answer("tag", Ok(pid))] == sup.of(Answer)
        assert ["a", "z"] == sup.ids()

    def test_failure_leaves_no_spec_and_no_count(self):
        """The caller gets the reason."""
        sup = Driver().begin()
        sup.ask(StartChildRequest(child("z")))

        sup.fail("z", "boom")

        error = sup.answer().error
        assert (StartFailed, "z", "boom") == (type(error), error.id, error.reason)
        assert ([], ()) == (sup.ids(), sup.state.restarts)

    def test_name_that_is_taken_is_passed_on(self):
        """`("already_started", pid)` is the answer `AlreadyStarted(pid)`."""
        sup = Driver().begin()
        sup.ask(StartChildRequest(child("z")))

        sup.fail("z", ("already_started", STRANGER))

        assert isinstance(sup.answer().error, AlreadyStarted)

    def test_ignore_is_answered_with_none(self):
        """The spec stays."""
        sup = Driver().begin()
        sup.ask(StartChildRequest(child("z")))

        sup.feed(ChildIgnored("z"))

        assert (Ok(None), ["z"]) == (sup.answer(), sup.ids())

    @pytest.mark.parametrize("stopped", [False, True])
    def test_known_id_is_refused(self, stopped):
        """Running: with its pid; stopped: already present."""
        sup = Driver(child("a", "transient")).begin()
        if stopped:
            sup.end("a", "normal")

        answer = sup.ask(StartChildRequest(child("a")))

        assert (AlreadyPresent if stopped else AlreadyStarted) is type(answer.error)

    def test_significant_child_is_refused_where_nothing_is_significant(self):
        """The check needs the supervisor's flags, so it is made here."""
        sup = Driver().begin()

        answer = sup.ask(StartChildRequest(child("z", "temporary", significant=True)))

        assert isinstance(answer.error, BadChildSpec)

    def test_request_waits_for_the_plan_that_runs(self):
        """Requests are served one after another."""
        sup = Driver().begin()
        sup.ask(StartChildRequest(child("y")))
        assert () == sup.feed(Asked("second", StartChildRequest(child("z"))))

        sup.start("y")

        assert [StartChild("z", child("z"))] == sup.of(StartChild)


class TestAdministration:
    def test_terminate_child_keeps_the_spec_and_is_no_restart(self):
        """The answer comes when the child is dead."""
        sup = Driver(child("a")).begin()

        assert None is sup.ask(TerminateChild("a"))
        sup.end("a", "shutdown")

        assert Ok() == sup.answer()
        assert (("a", None, "worker"),) == sup.which()
        assert Ok() == sup.ask(TerminateChild("a"))

    def test_terminated_temporary_child_is_unknown(self):
        """Its spec goes with it."""
        sup = Driver(child("a", "temporary")).begin()
        sup.ask(TerminateChild("a"))
        sup.end("a", "shutdown")

        assert isinstance(sup.ask(TerminateChild("a")).error, NotFound)

    @pytest.mark.parametrize("request_of", [RestartChild, DeleteChild])
    def test_running_child_is_refused(self, request_of):
        """It has to be stopped first."""
        sup = Driver(child("a")).begin()

        assert isinstance(sup.ask(request_of("a")).error, Running)

    @pytest.mark.parametrize("request_of", [RestartChild, DeleteChild])
    def test_restarting_child_is_refused(self, request_of):
        """Its retry is on the way."""
        sup = Driver(child("a")).begin()
        sup.end("a")
        sup.fail("a")

        assert isinstance(sup.ask(request_of("a")).error, Restarting)

    @pytest.mark.parametrize("request_of", [RestartChild, DeleteChild, TerminateChild, GetChildspec])
    def test_unknown_child_is_refused(self, request_of):
        """There is none of that id."""
        assert isinstance(Driver().begin().ask(request_of("a")).error, NotFound)

    def test_restart_child_that_fails_keeps_the_spec(self):
        """It does not count and is not retried."""
        sup = Driver(child("a", "transient")).begin()
        sup.end("a", "normal")
        sup.ask(RestartChild("a"))

        sup.fail("a")

        assert isinstance(sup.answer(), Err)
        assert ([], ["a"], ()) == (sup.of(Retry), sup.ids(), sup.state.restarts)

    def test_stopped_child_can_be_deleted(self):
        """Its id is free again."""
        sup = Driver(child("a", "transient")).begin()
        sup.end("a", "normal")

        assert Ok() == sup.ask(DeleteChild("a"))
        assert [] == sup.ids()

    def test_which_children_is_in_reverse_start_order(self):
        """As OTP has it."""
        sup = abc()

        assert ["c", "b", "a"] == [line[0] for line in sup.which()]

    def test_count_children_counts_the_living_as_active(self):
        """Types count whether alive or not."""
        sup = Driver(child("a"), child("s", type="supervisor"), child("t", "transient")).begin()
        sup.end("t", "normal")

        assert (3, 2, 1, 2) == sup.count()

    def test_get_childspec_gives_the_defaults(self):
        """The spec is complete."""
        sup = Driver(child("a")).begin()

        assert 5.0 == sup.ask(GetChildspec("a")).value.shutdown


class TestIsComingBack:
    def test_child_in_a_restart_is(self):
        """From its death to the end of its `init`."""
        sup = Driver(child("a")).begin()
        assert not is_coming_back(sup.state, "a")

        sup.end("a")
        assert is_coming_back(sup.state, "a")
        sup.start("a")

        assert not is_coming_back(sup.state, "a")

    def test_child_that_waits_for_its_retry_is(self):
        """`"restarting"` counts."""
        sup = Driver(child("a")).begin()
        sup.end("a")
        sup.fail("a")

        assert is_coming_back(sup.state, "a")

    @pytest.mark.parametrize(("restart", "back"), [("permanent", True), ("temporary", False)])
    def test_dead_child_in_the_backlog_is_if_it_will_be_restarted(self, restart, back):
        """The supervisor has not got to it yet."""
        sup = Driver(child("a"), child("b", restart)).begin()
        sup.end("a")

        sup.end("b")

        assert back is is_coming_back(sup.state, "b")

    def test_nobody_is_when_the_supervisor_stops(self):
        """Nothing is started any more."""
        sup = Driver(child("a"), child("b")).begin()
        sup.end("a")

        sup.feed(StopRequested("shutdown"))

        assert not is_coming_back(sup.state, "a")

    def test_unknown_child_is_not(self):
        """There is none of that id."""
        assert not is_coming_back(Driver().begin().state, "a")


class TestChildOf:
    def test_pid_leads_to_its_child(self):
        """A stranger's leads nowhere."""
        sup = Driver(child("a")).begin()

        assert "a" == child_of(sup.state, sup.pid("a")).spec.id
        assert None is child_of(sup.state, STRANGER)


class TestIllegalEvent:
    @pytest.mark.parametrize(
        "event",
        [
            Begin(),
            ChildStarted("a", STRANGER),
            ChildIgnored("a"),
            ChildStartFailed("a", "boom"),
            ChildStarted("unknown", STRANGER),
        ],
    )
    def test_it_raises(self, event):
        """No start is under way, and it began already: the performer is wrong."""
        sup = Driver(child("a")).begin()

        with pytest.raises(RuntimeBug):
            step(sup.state, event, 0.0)

    def test_process_of_another_child_is_refused(self):
        """One process cannot be two children."""
        sup = Driver(child("a"), child("b"))
        sup.feed(Begin())
        pid = sup.start("a")

        with pytest.raises(RuntimeBug):
            sup.feed(ChildStarted("b", pid))


class TestSuspend:
    def test_deaths_and_requests_wait_in_order(self):
        """Until resumed, once, however often suspended."""
        sup = abc()
        assert Ok() == sup.ask(Suspend())
        sup.end("a")
        assert sup.ask(WhichChildren()) is None

        sup.feed(Resumed())
        assert ["a"] == [action.id for action in sup.of(StartChild)]
        sup.start("a")
        assert 1 == len(sup.of(Answer))

    def test_twice(self):
        """Is answered, and one resume undoes both."""
        sup = abc()
        sup.ask(Suspend())
        assert Ok() == sup.ask(Suspend())
        sup.feed(Resumed())

        assert not sup.state.suspended

    def test_what_had_begun_is_finished_first(self):
        """Suspending waits in the queue like any other request."""
        sup = abc("one_for_all")
        sup.end("a")
        assert sup.ask(Suspend()) is None
        sup.feed(ChildExited(sup.pid("c"), "shutdown"))
        sup.feed(ChildExited(sup.pid("b"), "shutdown"))

        assert ["a", "b", "c"] == sup.start_all()
        assert sup.state.suspended

    def test_a_dead_child_is_coming_back(self):
        """So that calls by its name wait for resume."""
        sup = abc()
        sup.ask(Suspend())
        sup.end("a")

        assert is_coming_back(sup.state, "a")

    def test_a_stop_is_obeyed(self):
        """As by every suspended server."""
        sup = Driver(child("a")).begin()
        sup.ask(Suspend())
        sup.feed(StopRequested("shutdown"))
        sup.end("a", "shutdown")

        assert [Stop("shutdown")] == sup.of(Stop)

    def test_resumed_without_having_been_suspended(self):
        """Is nothing."""
        sup = abc()
        before = sup.state

        assert () == sup.feed(Resumed())
        assert before == sup.state
