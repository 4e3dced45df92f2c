"""A supervisor core in the hands of a test: events in, actions out, nothing performed."""

from itertools import count

from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags
from otp_runtime.core.supervision import (
    Answer,
    Asked,
    Begin,
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    CountChildren,
    Report,
    StartChild,
    WhichChildren,
    child_of,
    initial,
    step,
)
from otp_runtime.core.supervisor_state import find_child
from otp_runtime.terms.pid import Pid


def child(id, restart="permanent", **fields):
    """Make a spec whose start nobody calls."""
    return ChildSpec(id, start=(dict, (), {}), restart=restart, **fields)


class Driver:
    """Feeds one supervisor; `actions` are those of the last event, `now` is set by hand."""

    def __init__(self, *specs, strategy="one_for_one", **flags):
        self.state = initial(SupervisorFlags(strategy, **flags), specs)
        self.now = 0.0
        self.actions = ()
        self._serials = count(1)

    def feed(self, event):
        self.state, self.actions = step(self.state, event, self.now)
        return self.actions

    def begin(self):
        """Begin, and start every child that is asked for."""
        self.feed(Begin())
        self.start_all()
        return self

    def start(self, id):
        """Complete the start of a child and give its new pid."""
        pid = Pid("test@host", next(self._serials), 1)
        self.feed(ChildStarted(id, pid))
        return pid

    def start_all(self):
        """Complete every start that is asked for, and give the ids in their order."""
        started = []
        while asked := self.of(StartChild):
            started.append(asked[0].id)
            self.start(asked[0].id)
        return started

    def fail(self, id, reason="boom"):
        return self.feed(ChildStartFailed(id, reason))

    def end(self, id, reason="boom"):
        """Let the process of a child die."""
        return self.feed(ChildExited(self.pid(id), reason))

    def ask(self, request):
        """Ask, and give the answer if it came at once."""
        self.feed(Asked("tag", request))
        return self.answer()

    def answer(self):
        answers = self.of(Answer)
        return answers[0].result if answers else None

    def of(self, kind):
        return [action for action in self.actions if isinstance(action, kind)]

    def reports(self):
        return [(report.context, report.child_id, report.reason) for report in self.of(Report)]

    def pid(self, id):
        found = find_child(self.state, id)
        return None if found is None else found.pid

    def ids(self):
        return [child.spec.id for child in self.state.children]

    def which(self):
        return self.ask(WhichChildren()).value

    def count(self):
        return self.ask(CountChildren()).value

    def id_of(self, pid):
        return child_of(self.state, pid).spec.id
