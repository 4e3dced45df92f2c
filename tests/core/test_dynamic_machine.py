"""The dynamic supervisor as a state machine against a fake performer, with its promises as invariants."""

from collections import deque
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otp_runtime.core.child_spec import DynamicFlags
from otp_runtime.core.dynamic import initial, is_coming_back, key_of, step
from otp_runtime.core.dynamic_state import Idle
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
    Kill,
    Ok,
    Report,
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
)
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import child
from tests.core.test_supervision_machine import BACKOFFS

REASONS = st.sampled_from(["normal", "shutdown", ("shutdown", "x"), "boom", "killed"])
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
SHUTDOWNS = st.sampled_from([5.0, None, "brutal_kill"])


class DynamicMachine(RuleBasedStateMachine):
    """The performer's side is played by rules, so everything may happen at any time."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.flags = DynamicFlags()
        self.state = initial(self.flags)
        self.serials = count(1)
        self.alive = {}  # pid -> spec
        self.told = {}  # pid -> how it was told to stop: "shutdown" or "killed"
        self.timers = set()
        self.starting = None  # (key, spec)
        self.aborted = False
        self.retries = deque()
        self.asked = {}  # tag -> its request
        self.answers = {}  # tag -> its answers
        self.temporary_seen = []  # specs of temporary children that had started
        self.dead = []  # pids that were children
        self.stopped = None
        self.halting = False

    @initialize(max_restarts=st.integers(0, 4), max_children=st.sampled_from([None, None, 0, 2, 5]))
    def begin(self, max_restarts, max_children):
        self.flags = DynamicFlags(max_restarts, 5, max_children)
        self.state = initial(self.flags)
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
            case StartChild(key, spec):
                assert None is self.starting, "one start at a time"
                assert not self.halting, "no start when halting"
                assert not any(spec is seen for seen in self.temporary_seen), "temporary never restarts"
                assert key not in [other for due, other in self.retries if due > self.now], (
                    "not before the wait is over"
                )
                self.starting = (key, spec)
            case AbortStart(key):
                assert key == self.starting[0]
                self.aborted = self.halting = True
            case SendExit(pid):
                self.stop_child(pid, "shutdown")
            case Kill(pid) if pid in self.told:
                self.told[pid] = "killed"
            case Kill(pid):
                self.stop_child(pid, "killed")
            case ArmTimer(pid):
                assert pid not in self.timers
                self.timers.add(pid)
            case DisarmTimer(pid):
                self.timers.remove(pid)
            case Retry(key, after):
                assert key not in [other for _due, other in self.retries]
                self.retries.append((self.now + after, key))
            case Answer(tag, result):
                self.answers[tag].append(result)
            case Started():
                assert not self.asked
            case Report(context="shutdown"):
                self.halting = True
            case Report():
                pass
            case Stop(reason):
                assert not self.alive, "nothing is left alive"
                assert None is self.starting
                self.stopped = reason

    def stop_child(self, pid, how):
        assert pid in self.alive
        assert pid not in self.told, "told once"
        self.told[pid] = how

    # --- what may happen ---

    @precondition(lambda self: self.starting is not None)
    @rule(outcome=st.sampled_from(["ok", "ok", "ok", "ignore", "fail"]))
    def start_ends(self, outcome):
        (key, spec), self.starting = self.starting, None
        if outcome == "ok":
            pid = Pid("test@host", next(self.serials), 1)
            self.alive[pid] = spec
            if spec.restart == "temporary":
                self.temporary_seen.append(spec)
            self.feed(ChildStarted(key, pid))
        elif outcome == "ignore":
            self.feed(ChildIgnored(key))
        else:
            self.feed(ChildStartFailed(key, "boom"))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), reason=REASONS)
    def child_dies(self, data, reason):
        self.die(data.draw(st.sampled_from(sorted(self.alive))), reason)

    @precondition(lambda self: self.told)
    @rule()
    def told_child_dies(self):
        self.die(*next(iter(self.told.items())))

    def die(self, pid, reason):
        del self.alive[pid]
        self.told.pop(pid, None)
        self.dead.append(pid)
        self.feed(ChildExited(pid, reason))

    @precondition(lambda self: self.timers)
    @rule()
    def timer_fires(self):
        self.feed(DeadlinePassed(self.timers.pop()))

    @precondition(lambda self: self.retries)
    @rule()
    def retry_is_due(self):
        due, key = min(self.retries)
        self.retries.remove((due, key))
        self.now = max(self.now, due)
        self.feed(RetryDue(key))

    @rule(restart=RESTARTS, shutdown=SHUTDOWNS, backoff=BACKOFFS)
    def somebody_starts_a_child(self, restart, shutdown, backoff):
        self.ask(StartChildRequest(child("same", restart, shutdown=shutdown, backoff=backoff)))

    @precondition(lambda self: self.alive or self.dead)
    @rule(data=st.data())
    def somebody_terminates_a_child(self, data):
        self.ask(TerminateChild(data.draw(st.sampled_from(sorted([*self.alive, *self.dead[-3:]])))))

    @rule(request=st.sampled_from([WhichChildren(), CountChildren()]))
    def somebody_looks(self, request):
        self.ask(request)

    def ask(self, request):
        tag = len(self.asked)
        self.asked[tag], self.answers[tag] = request, []
        self.feed(Asked(tag, request))

    @precondition(lambda self: len(self.asked) > 6)
    @rule(reason=st.sampled_from(["normal", "shutdown"]))
    def stop_is_requested(self, reason):
        self.halting = True
        self.feed(StopRequested(reason))

    # --- what always holds ---

    @invariant()
    def no_request_is_answered_twice(self):
        assert all(len(answers) <= 1 for answers in self.answers.values())

    @invariant()
    def idle_supervisor_has_answered_everything(self):
        if isinstance(self.state.phase, Idle):
            assert all(len(answers) == 1 for answers in self.answers.values())
            assert not self.state.backlog
            assert not self.told
            assert not self.timers

    @invariant()
    def intensity_is_never_exceeded(self):
        if isinstance(self.state.phase, Idle):
            recent = [t for t in self.state.restarts if self.now - t <= self.flags.max_seconds]
            assert len(recent) <= self.flags.max_restarts

    @invariant()
    def children_are_what_is_alive(self):
        known = {c.pid for c in self.state.children.values() if not c.restarting and c.ended is None}
        assert set(self.alive) == known
        assert all(key_of(self.state, pid) == pid for pid in known)

    @invariant()
    def there_are_never_too_many(self):
        if self.flags.max_children is not None:
            assert len(self.state.children) <= self.flags.max_children

    @invariant()
    def a_restarting_child_has_a_try_ahead(self):
        """A retry, or the start that is under way: nobody waits for a name in vain."""
        tried = {*(key for _due, key in self.retries), self.starting and self.starting[0]}
        for known in self.state.children.values():
            if known.restarting:
                assert known.pid in tried or any(isinstance(one, RetryDue) for one in self.state.backlog)
                assert is_coming_back(self.state, known.pid)

    @invariant()
    def a_list_is_of_the_living_and_the_restarting(self):
        last = self.answers.get(len(self.asked) - 1)
        if last and isinstance(self.asked[len(self.asked) - 1], CountChildren):
            match last[0]:
                case Ok((specs, active, supervisors, workers)):
                    assert specs >= active
                    assert specs == supervisors + workers

    def teardown(self):
        """However it stands, it can be stopped, and then nothing is left."""
        self.feed(StopRequested("shutdown"))
        for _ in range(100):
            if self.stopped is not None:
                return
            if self.starting is not None:
                (key, _), self.starting = self.starting, None
                self.feed(ChildStartFailed(key, "killed"))
            else:
                self.told_child_dies()
        raise AssertionError("the supervisor does not stop")


TestDynamicMachine = pytest.mark.slow(DynamicMachine.TestCase)
TestDynamicMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
