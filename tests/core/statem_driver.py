"""Plays a state machine in memory: what `step` says is done by a function, and written down."""

from dataclasses import dataclass, field

from otp_runtime.core.statem import Arrived, Begun, End, Event, Machine, Returned, Run, Starting, Woke, next_run, step
from otp_runtime.core.statem_values import KeepStateAndData, Reply


@dataclass(frozen=True)
class Asker:
    """Stands in for who waits for a reply."""

    pid: int
    serial: int = 1


class Driver:
    """A machine whose callback is `answer(type, content, state, data)`; None keeps state and data."""

    def __init__(
        self, answer=lambda *_: None, *, state="s1", data=0, actions=(), state_enter=False, named_states=False
    ):
        self.answer = answer
        self.machine = Machine(state, data, state_enter, named_states, phase=Starting(actions))
        self.now = 0.0
        self.calls = []
        self.replies = []
        self.ended = None
        self.let(Begun())

    def let(self, happening):
        """Let something happen, and run callbacks until the machine waits or has ended."""
        self.machine, actions = step(self.machine, happening, self.now)
        for action in actions:
            match action:
                case Reply(client, value):
                    self.replies.append((client, value))
                case End():
                    self.ended = action
                case Run(type_, content, state, data):
                    assert action is actions[-1]
                    assert next_run(self.machine) == action
                    self.calls.append((type_, content, state))
                    result = self.answer(type_, content, state, data)
                    self.let(Returned(KeepStateAndData() if result is None else result))

    def send(self, content, type_="cast"):
        self.let(Arrived(Event(type_, content)))

    def pass_time(self, seconds):
        """Let time pass: whatever is due wakes the machine, as often as it takes."""
        self.now += seconds
        before = None
        while before != self.machine and self.ended is None:
            before = self.machine
            self.let(Woke())

    @property
    def seen(self):
        """What the callback was given so far, and forget it."""
        seen, self.calls = self.calls, []
        return seen


@dataclass
class Table:
    """Answers by (type, content), else by state; counts nothing, keeps nothing."""

    answers: dict = field(default_factory=dict)

    def __call__(self, type_, content, state, data):
        for key in ((state, type_, content), (type_, content), (state, type_), type_):
            if key in self.answers:
                return self.answers[key]
        return None
