"""The supervisor as a state machine against a fake performer, with its promises as invariants."""

from collections import deque
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otp_runtime.core.backoff import Backoff
from otp_runtime.core.child_spec import SupervisorFlags
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
    CountChildren,
    DeadlinePassed,
    DeleteChild,
    DisarmTimer,
    Kill,
    Report,
    RestartChild,
    Retry,
    RetryDue,
    SendExit,
    StartChild,
    StartChildRequest,
    Started,
    Stop,
    StopRequested,
    TerminateChild,
    WhichChildren,
    initial,
    step,
)
from otp_runtime.core.supervisor_state import Busy, Halt, Idle, StartStep, StopStep
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import child

REASONS = st.sampled_from(["normal", "shutdown", ("shutdown", "x"), "boom", "killed"])
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
SHUTDOWNS = st.sampled_from([5.0, None, "brutal_kill"])
BACKOFFS = st.sampled_from([None, None, Backoff(0.05, 2.0, 1.0, 0.1, seed=1), Backoff(3.0, 1.5, 60.0, 0.0)])
IDS = st.sampled_from("abcdef")
REQUESTS = (
    TerminateChild,
    RestartChild,
    DeleteChild,
    StartChildRequest,
    WhichChildren,
    CountChildren,
)


class SupervisorMachine(RuleBasedStateMachine):
    """The performer's side is played by rules, so everything may happen at any time."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.flags = SupervisorFlags("one_for_one")
        self.state = initial(self.flags, ())
        self.serials = count(1)
        self.alive = {}  # pid -> id
        self.told = {}  # pid -> how it was told to stop: "shutdown" or "killed"
        self.timers = set()
        self.starting = None
        self.aborted = False
        self.retries = deque()
        self.waits = {}  # id -> when its wait is over, while nobody has meddled
        self.asked = {}  # tag -> number of answers
        self.specs = {}  # id -> the spec last started
        self.temporary_seen = []  # specs of temporary children that had started
        self.stopped = None
        self.started = False

    @initialize(
        restarts=st.lists(st.tuples(RESTARTS, BACKOFFS), max_size=4),
        shutdown=SHUTDOWNS,
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        max_restarts=st.integers(0, 4),
    )
    def begin(self, restarts, shutdown, strategy, max_restarts):
        specs = [
            child(id, restart, shutdown=shutdown, backoff=backoff)
            for id, (restart, backoff) in zip("abcd", restarts, strict=False)
        ]
        self.flags = SupervisorFlags(strategy, max_restarts)
        self.state = initial(self.flags, specs)
        self.feed(Begin())

    # --- the performer ---

    def feed(self, event):
        self.now += 0.01
        self.state, actions = step(self.state, event, self.now)
        for action in actions:
            self.perform(action)

    def perform(self, action):
        assert self.stopped is None, "nothing is done after Stop"
        match action:
            case StartChild(id, spec):
                self.start_child(id, spec)
            case AbortStart(id):
                assert id == self.starting
                self.aborted = True
            case SendExit(pid):
                self.stop_child(pid, "shutdown")
            case Kill(pid) if pid in self.told:
                self.told[pid] = "killed"
            case Kill(pid):
                self.stop_child(pid, "killed")
            case ArmTimer(pid):
                self.timers.add(pid)
            case DisarmTimer(pid):
                self.timers.remove(pid)
            case Retry(id, after):
                self.retries.append((self.now + after, id))
                if after > 0:
                    self.wait(id, after)
            case Answer(tag):
                self.asked[tag] += 1
            case Started():
                assert not self.started
                self.started = True
            case Report():
                pass
            case Stop(reason):
                assert not self.alive, "nothing is left alive"
                assert None is self.starting
                self.stopped = reason

    def start_child(self, id, spec):
        assert None is self.starting, "one start at a time"
        assert id not in self.alive.values(), "no second process of a child"
        assert not self.told, "no start while a stop is under way"
        assert not any(spec is seen for seen in self.temporary_seen), "temporary never restarts"
        due = self.waits.pop(id, 0.0)
        if self.flags.strategy == "one_for_one":
            assert due <= self.now, "no restart before the wait is over"
        self.starting = id
        self.specs[id] = spec

    def wait(self, id, seconds):
        backoff = self.specs[id].backoff
        assert backoff.first * (1 - backoff.jitter) <= seconds <= backoff.cap * (1 + backoff.jitter)
        # what was asked before may have meddled in the same step
        if any(one.spec.id == id and one.pid == "restarting" for one in self.state.children):
            self.waits[id] = self.now + seconds

    def stop_child(self, pid, how):
        assert pid in self.alive
        assert not self.told, "one stop at a time"
        assert None is self.starting
        self.told[pid] = how

    # --- what may happen ---

    @precondition(lambda self: self.starting is not None)
    @rule(outcome=st.sampled_from(["ok", "ok", "ok", "ignore", "fail"]))
    def start_ends(self, outcome):
        id, self.starting = self.starting, None
        if outcome == "ok":
            pid = Pid("test@host", next(self.serials), 1)
            self.alive[pid] = id
            if self.specs[id].restart == "temporary":
                self.temporary_seen.append(self.specs[id])
            self.feed(ChildStarted(id, pid))
        elif outcome == "ignore":
            self.feed(ChildIgnored(id))
        else:
            self.feed(ChildStartFailed(id, "boom"))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), reason=REASONS)
    def child_dies(self, data, reason):
        pid = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[pid]
        self.told.pop(pid, None)
        self.feed(ChildExited(pid, reason))

    @precondition(lambda self: self.told)
    @rule()
    def told_child_dies(self):
        pid, how = next(iter(self.told.items()))
        del self.alive[pid]
        del self.told[pid]
        self.feed(ChildExited(pid, how))

    @precondition(lambda self: self.timers)
    @rule()
    def timer_fires(self):
        self.feed(DeadlinePassed(self.timers.pop()))

    @precondition(lambda self: self.retries)
    @rule()
    def retry_is_due(self):
        due, id = min(self.retries)
        self.retries.remove((due, id))
        self.now = max(self.now, due)
        self.feed(RetryDue(id))

    @rule(
        id=IDS,
        restart=RESTARTS,
        kind=st.sampled_from(
            [
                TerminateChild,
                RestartChild,
                DeleteChild,
                StartChildRequest,
                WhichChildren,
                CountChildren,
            ]
        ),
    )
    def somebody_asks(self, id, restart, kind):
        match kind.__name__:
            case "StartChildRequest":
                request = StartChildRequest(child(id, restart))
            case "WhichChildren" | "CountChildren":
                request = kind()
            case _:
                request = kind(id)
                self.waits.pop(id, None)
        tag = len(self.asked)
        self.asked[tag] = 0
        self.feed(Asked(tag, request))

    @precondition(lambda self: len(self.asked) > 3)
    @rule(reason=st.sampled_from(["normal", "shutdown"]))
    def stop_is_requested(self, reason):
        self.feed(StopRequested(reason))

    # --- what always holds ---

    @invariant()
    def no_request_is_answered_twice(self):
        assert all(answers <= 1 for answers in self.asked.values())

    @invariant()
    def idle_supervisor_has_answered_everything(self):
        if isinstance(self.state.phase, Idle):
            assert all(answers == 1 for answers in self.asked.values())
            assert not self.state.backlog

    @invariant()
    def intensity_is_never_exceeded(self):
        if isinstance(self.state.phase, Idle):
            recent = [t for t in self.state.restarts if self.now - t <= self.flags.max_seconds]
            assert len(recent) <= self.flags.max_restarts

    @invariant()
    def nothing_is_forgotten_while_it_waits(self):
        retried = {id for _due, id in self.retries}
        retried |= {event.id for event in self.state.backlog if isinstance(event, RetryDue)}
        if self.stopped is None:
            assert {c.spec.id for c in self.state.children if c.pid == "restarting"} <= retried

    @invariant()
    def children_are_what_is_alive(self):
        known = {c.pid for c in self.state.children if isinstance(c.pid, Pid) and c.ended is None}
        assert set(self.alive) == known

    @invariant()
    def plans_stop_in_reverse_order_and_then_start_in_order(self):
        if not isinstance(self.state.phase, Busy):
            return
        place = {c.spec.id: index for index, c in enumerate(self.state.children)}
        steps = self.state.phase.steps
        if isinstance(self.state.phase.goal, Halt):
            steps = steps[1:]  # the step that the halt found under way
        # a temporary child that died under way is forgotten: to stop it again is no work
        stops = [place[todo.id] for todo in steps if isinstance(todo, StopStep) and todo.id in place]
        starts = [place[todo.id] for todo in steps if isinstance(todo, StartStep)]
        assert sorted(stops, reverse=True) == stops
        assert sorted(starts) == starts
        if stops and starts:
            last_stop = max(i for i, todo in enumerate(steps) if isinstance(todo, StopStep))
            assert last_stop < min(i for i, todo in enumerate(steps) if isinstance(todo, StartStep))

    def teardown(self):
        """However it stands, it can be stopped, and then nothing is left."""
        self.feed(StopRequested("shutdown"))
        for _ in range(100):
            if self.stopped is not None:
                return
            if self.starting is not None:
                id, self.starting = self.starting, None
                assert self.aborted
                self.feed(ChildStartFailed(id, "killed"))
            else:
                self.told_child_dies()
        raise AssertionError("the supervisor does not stop")


TestSupervisorMachine = pytest.mark.slow(SupervisorMachine.TestCase)
TestSupervisorMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
