"""What a tree of supervisors must look like: the pure core, with every process played by a few lines.

`World` has a supervisor core for each supervisor of the tree. Nothing takes time here: whoever is told to end has
ended, whoever is started has started or failed as its mood says. So after each event the world is at rest, and what it
shows (who is up, what was written in which order, how a request was answered) is what real processes must come to.
"""

import copy
from collections import deque
from dataclasses import dataclass

from otp_runtime.core.child_spec import ChildSpec, SupervisorFlags
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
    DisarmTimer,
    Kill,
    Report,
    Retry,
    RetryDue,
    SendExit,
    StartChild,
    Started,
    Stop,
    StopRequested,
    WhichChildren,
    initial,
    step,
)
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import Crash

STUBBORN_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """One child of the tree: a worker, or a supervisor with children of its own."""

    id: str
    restart: str = "permanent"
    shutdown: object = 5.0
    significant: bool = False
    traps: bool = True
    is_stubborn: bool = False
    tree: "Tree | None" = None

    def spec(self):
        """As the core takes it."""
        kind = "worker" if self.tree is None else "supervisor"
        return ChildSpec(self.id, (dict, (self,), {}), self.restart, self.shutdown, kind, self.significant)


@dataclass(frozen=True)
class Tree:
    """Flags and children of a supervisor."""

    strategy: str
    max_restarts: int
    auto_shutdown: str = "never"
    children: tuple[Plan, ...] = ()

    def flags(self):
        """As the core takes them; the window is so long that every restart of an example counts."""
        return SupervisorFlags(self.strategy, self.max_restarts, 600, self.auto_shutdown)


class Sup:
    """A supervisor of the world: a core, and who is up below it."""

    def __init__(self, world, tree, name, parent=None, pid=None):
        self.world, self.name, self.parent, self.pid = world, name, parent, pid
        self.state = initial(tree.flags(), [plan.spec() for plan in tree.children])
        self.actions = deque()
        self.retries = deque()
        self.up = {}  # pid -> plan
        self.below = {}  # pid -> Sup
        self.answers = {}
        self.started = False
        self.ended = None  # (reason,)

    def feed(self, *events):
        """Let the core see events that come at once, and do all that follows from them."""
        for event in events:
            self._step(event)
        while self.ended is None:
            if self.actions:
                self._do(self.actions.popleft())
            elif self.retries:
                self._step(RetryDue(self.retries.popleft()))
            else:
                return
        if self.parent is not None and self.started and self.pid in self.parent.up:
            self.parent.gone(self.pid, self.ended[0])

    def _step(self, event):
        self.state, actions = step(self.state, event, next(self.world.clock))
        self.actions.extend(actions)

    def _do(self, action):
        match action:
            case StartChild(id, spec):
                self._start(id, spec.start[1][0])
            case SendExit(pid) | Kill(pid) if pid not in self.up:
                pass  # dead already, and that was said
            case SendExit(pid, reason):
                self._told(pid, reason)
            case ArmTimer(pid) if pid in self.up and self.up[pid].is_stubborn:
                self._step(DeadlinePassed(pid))
            case Kill(pid):
                self._forget(pid)
                self._step(ChildExited(pid, "killed"))
            case Retry(id):
                self.retries.append(id)
            case Answer(tag, result):
                self.answers[tag] = result
            case Started():
                self.started = True
            case Stop(reason):
                self.ended = (reason,)
                assert not self.up
            case ArmTimer() | DisarmTimer() | Report():
                pass
            case AbortStart():
                raise AssertionError("nothing is ever under way here")

    def _start(self, id, plan):
        pid = self.world.new_pid()
        if plan.tree is not None:
            below = Sup(self.world, plan.tree, plan.id, self, pid)
            below.feed(Begin())
            if below.ended is not None:
                self._step(ChildStartFailed(id, below.ended[0]))
                return
            self.below[pid] = below
        else:
            moods = self.world.moods.get(id, [])
            match moods.pop(0) if moods else None:
                case "ignore":
                    self._step(ChildIgnored(id))
                    return
                case str():
                    self._step(ChildStartFailed(id, "boom"))
                    return
            self.world.log.append(f"start {id}")
        self.up[pid] = plan
        self._step(ChildStarted(id, pid))

    def _told(self, pid, reason):
        plan = self.up[pid]
        if pid in self.below:
            del self.up[pid]  # its end is told below, once
            below = self.below.pop(pid)
            below.feed(StopRequested(reason))
            self._step(ChildExited(pid, below.ended[0]))
            return
        if plan.traps:
            self.world.log.append(f"stop {plan.id} {reason}")
        if not plan.is_stubborn:
            self._forget(pid)
            self._step(ChildExited(pid, reason))

    def _forget(self, pid):
        self.up.pop(pid)
        if (below := self.below.pop(pid, None)) is not None:
            below.killed()

    def killed(self):
        """All below end without a word."""
        self.ended = ("killed",)
        for pid in list(self.up):
            self._forget(pid)

    def gone(self, *pids_and_reasons):
        """Let children end of themselves; each pid is followed by its reason."""
        events = []
        for pid, reason in zip(pids_and_reasons[::2], pids_and_reasons[1::2], strict=True):
            self._forget(pid)
            events.append(ChildExited(pid, reason))
        self.feed(*events)

    def ask(self, request):
        """Give the answer to a request."""
        tag = next(self.world.clock)
        self.feed(Asked(tag, request))
        return self.answers.pop(tag, None)

    def pid_of(self, id):
        return next((pid for pid, plan in self.up.items() if plan.id == id), None)


class World:
    """A whole tree."""

    def __init__(self, tree, moods):
        self.clock = Ticks()
        self.serials = Ticks()
        self.log = []
        self.moods = {id: list(each) for id, each in moods.items()}
        self.root = Sup(self, tree, "root")
        self.root.feed(Begin())

    def new_pid(self):
        return Pid("model@host", next(self.serials), 1)

    def supervisors(self):
        """Those that are up, by id."""
        found = {}
        todo = [self.root] if self.root.ended is None else []
        while todo:
            sup = todo.pop()
            found[sup.name] = sup
            todo.extend(sup.below.values())
        return found

    def workers(self):
        """Who is up: id -> (its supervisor's id, its plan)."""
        return {
            plan.id: (sup.name, plan)
            for sup in self.supervisors().values()
            for plan in sup.up.values()
            if plan.tree is None
        }

    def shown(self):
        """What can be seen of it from outside."""
        trees = {}
        for name, sup in self.supervisors().items():
            children = [(id, None if pid is None else "up") for id, pid, _type in sup.ask(WhichChildren()).value]
            trees[name] = (children, tuple(sup.ask(CountChildren()).value))
        return trees, tuple(self.log)

    def copy(self):
        return copy.deepcopy(self)

    def crash(self, id, how):
        """Let a worker end of itself."""
        name, plan = self.workers()[id]
        reason = self._last_words(plan, how)
        sup = self.supervisors()[name]
        sup.gone(sup.pid_of(id), reason)

    def crash_two(self, first, second, *, at_once):
        """Let two workers of one supervisor be killed; whether the second's end is seen before anything is done."""
        name, _plan = self.workers()[first]
        sup = self.supervisors()[name]
        pids = [sup.pid_of(first), sup.pid_of(second)]
        if at_once:
            sup.gone(pids[0], "boom", pids[1], "boom")
            return
        sup.gone(pids[0], "boom")
        if sup.ended is None and pids[1] in sup.up:
            sup.gone(pids[1], "boom")

    def _last_words(self, plan, how):
        match how:
            case ("stop" | "exit", reason):
                words = reason
            case "raise":
                words = "Crash"
            case _:
                return "boom"
        if how == ("exit", "kill"):
            return "killed"
        if plan.traps:
            self.log.append(f"stop {plan.id} {words if isinstance(words, str) else type(words).__name__}")
        return Crash("ValueError", "boom", "") if how == "raise" else words

    def kill_supervisor(self, name):
        """Kill a nested supervisor."""
        sup = self.supervisors()[name]
        sup.parent.gone(sup.pid, "boom")

    def stop_supervisor(self, name, reason):
        """Stop one, and let its own supervisor see it."""
        self.supervisors()[name].feed(StopRequested(reason))


class Ticks:
    """A counter that can be copied."""

    def __init__(self):
        self.last = 0

    def __next__(self):
        self.last += 1
        return self.last
