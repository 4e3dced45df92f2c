"""A real tree of processes, driven at random, does what the pure core says it must: the fake is verified.

Each rule does one thing to the tree and to its prediction and waits until the tree is at rest. Where two deaths race,
several predictions are kept; one of them has to come true.
"""

import contextlib
import dataclasses
import itertools
import os
import signal
import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from otp_runtime import CallError, GenServer, InitFailed, OtpError, Pid, Supervisor, process
from otp_runtime.core.supervision import DeleteChild, Err, Ok, RestartChild, StartChildRequest, TerminateChild
from tests.process.shared_node import _nothing_left, me, otp_node
from tests.supervision.machine_children import Trapping, Worker
from tests.supervision.prediction import STUBBORN_SECONDS, Plan, Tree, World

REST_SECONDS = 8.0

RESTARTS = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
ENDS = st.sampled_from(
    [
        "raise",
        "sigkill",
        "segfault",
        ("os exit", 0),
        ("os exit", 3),
        ("stop", "normal"),
        ("stop", "shutdown"),
        ("stop", ("shutdown", "x")),
        ("stop", "boom"),
        ("exit", "boom"),
        ("exit", "shutdown"),
        ("exit", "kill"),
    ]
)
MOODS = st.lists(st.sampled_from(["ignore", "raise", "die", "stop"]), min_size=1, max_size=3)


@st.composite
def plans(draw, id, auto_shutdown):
    """Draw a worker."""
    restart = draw(RESTARTS)
    shutdown = draw(st.sampled_from([5.0, 5.0, None, "brutal_kill", STUBBORN_SECONDS]))
    is_stubborn = shutdown == STUBBORN_SECONDS
    return Plan(
        id,
        restart,
        shutdown,
        significant=auto_shutdown != "never" and restart != "permanent" and draw(st.booleans()),
        traps=is_stubborn or draw(st.integers(0, 3)) > 0,
        is_stubborn=is_stubborn,
    )


@st.composite
def trees(draw, ids, nested=None):
    """Draw a supervisor; `nested` are the ids of one below it."""
    auto_shutdown = draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
    children = [draw(plans(id, auto_shutdown)) for id in ids[: draw(st.integers(1, len(ids)))]]
    if nested is not None:
        below = Plan(
            "nested",
            draw(RESTARTS),
            draw(st.sampled_from([None, "brutal_kill"])),
            tree=draw(trees(nested)),
        )
        children.insert(draw(st.integers(0, len(children))), below)
    return Tree(draw(STRATEGIES), draw(st.sampled_from([0, 1, 2, 4, 8, 30])), auto_shutdown, tuple(children))


PICK = st.integers(0, 59)
FEW_MOODS = st.one_of(st.just([]), st.just([]), MOODS.map(lambda moods: moods[:1]))
BOOTS = st.tuples(
    trees("abcd", "xyz"),
    st.one_of(st.just({}), st.just({}), st.dictionaries(st.sampled_from("abx"), MOODS, max_size=1)),
)
REQUESTS = {
    TerminateChild: Supervisor.terminate_child,
    RestartChild: Supervisor.restart_child,
    DeleteChild: Supervisor.delete_child,
}


class RealSupervisors(RuleBasedStateMachine):
    """The real tree, and `worlds`: the predictions of which one must hold."""

    directory = None
    numbers = itertools.count()

    def __init__(self):
        super().__init__()
        self.worlds = []
        self.root = None
        self.seen = {}  # pid -> OS pid, of all that ever was
        self.path = None
        self.boots = iter(())
        self.is_as_predicted = True
        self.once = {}  # temporary children of the root: id -> where in the log their only start is

    # --- a tree begins ---

    @initialize(boots=st.lists(BOOTS, min_size=3, max_size=3), first=trees("abc", "xyz"))
    def begin(self, boots, first):
        """Whenever a tree has ended, the next one begins; the first one starts well."""
        self.boots = itertools.chain([(first, {})], itertools.cycle(boots))

    def is_up(self):
        """Have a tree; say whether there is one, as one whose children fail does not even start."""
        if self.root is None:
            self.boot(*next(self.boots))
        return self.root is not None

    def boot(self, tree, moods):
        self.path = os.path.join(self.directory, f"log-{next(self.numbers)}")
        for id, each in moods.items():
            self.set_moods(id, each)
        self.worlds = [World(tree, moods)]
        self.once = {plan.id: 0 for plan in tree.children if plan.restart == "temporary"}
        children = [self.child_spec(plan) for plan in tree.children]
        try:
            self.root = Supervisor.start_link(children, name="root", **flags(tree))
        except InitFailed as error:
            self.root, reason = None, error.reason
            assert reason[0] == "shutdown"
        self.compare()

    def child_spec(self, plan):
        fields = {
            "restart": plan.restart,
            "shutdown": plan.shutdown,
            "significant": plan.significant,
            "name": plan.id,
        }
        if plan.tree is not None:
            below = [self.child_spec(each) for each in plan.tree.children]
            return Supervisor.child_spec(below, **fields, **flags(plan.tree))
        cls = Trapping if plan.traps else Worker
        return cls.child_spec((self.path, plan.id, plan.is_stubborn), **fields)

    def set_moods(self, id, moods):
        """Let the next starts of a worker end so."""
        if moods:
            with open(f"{self.path}.{id}", "w", encoding="utf-8") as file:
                file.write("\n".join(moods))
            for world in self.worlds:
                world.moods[id] = list(moods)

    # --- what may happen to it ---
    #
    # What is drawn must not depend on what the tree is like, as that is not the same at every run: so the draws are
    # numbers, and the tree says what they mean.

    @rule(pick=PICK, how=ENDS, moods=st.one_of(st.just([]), MOODS))
    def worker_ends(self, pick, how, moods):
        """A worker ends of itself or is killed; its next starts may fail."""
        if not self.is_up() or not (workers := sorted(self.worlds[0].workers())):
            return
        id = workers[pick % len(workers)]
        self.set_moods(id, moods)
        pid = self.whereis(id)
        end(pid, how)
        pid.wait(REST_SECONDS)
        self.predict(lambda world: world.crash(id, how))

    @rule(pick=PICK)
    def two_workers_are_killed(self, pick):
        """The supervisor may see either first, and the second before or after it has dealt with the first."""
        if not self.is_up() or not (pairs := self.siblings()):
            return
        pair = pairs[pick % len(pairs)]
        pids = [self.whereis(id) for id in pair]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, TypeError):  # ended together with the first
                os.kill(pid.os_pid, signal.SIGKILL)
        for pid in pids:
            pid.wait(REST_SECONDS)
        ways = [
            lambda world, order=order, at_once=at_once: world.crash_two(*order, at_once=at_once)
            for order in (pair, pair[::-1])
            for at_once in (True, False)
        ]
        self.predict(*ways)

    def siblings(self):
        """Pairs of workers of one supervisor."""
        above = {id: name for id, (name, _plan) in self.worlds[0].workers().items()}
        return [pair for pair in itertools.combinations(sorted(above), 2) if above[pair[0]] == above[pair[1]]]

    @rule(how=st.sampled_from(["sigkill", "normal", "shutdown", "boom"]))
    def nested_supervisor_ends(self, how):
        """It is killed, or stopped by somebody else."""
        if not self.is_up() or "nested" not in self.worlds[0].supervisors():
            return
        pid = self.whereis("nested")
        if how == "sigkill":
            os.kill(pid.os_pid, signal.SIGKILL)
            pid.wait(REST_SECONDS)
            self.predict(lambda world: world.kill_supervisor("nested"))
            return
        GenServer.stop(pid, how)
        self.predict(lambda world: world.stop_supervisor("nested", how))

    @rule(pick=PICK, request=st.sampled_from([*REQUESTS]), moods=FEW_MOODS)
    def somebody_asks(self, pick, request, moods):
        """About a child that is there, or is not."""
        if not self.is_up():
            return
        name, id = self.address(pick, "nobody")
        if request is RestartChild and id not in {"nested", "nobody"}:
            self.set_moods(id, moods)
        self.ask(name, request(id), lambda: REQUESTS[request](self.whereis(name), id))

    @rule(pick=PICK, plan=plans("?", "any"), moods=FEW_MOODS)
    def somebody_adds_a_child(self, pick, plan, moods):
        """Also one that is there."""
        if not self.is_up():
            return
        name, id = self.address(pick)
        is_significant = plan.significant and self.worlds[0].supervisors()[name].state.flags.auto_shutdown != "never"
        plan = dataclasses.replace(plan, id=id, significant=is_significant)
        if id == "nested":
            return
        self.set_moods(id, moods)
        spec = self.child_spec(plan)
        if name == "root" and self.worlds[0].root.pid_of(id) is None:
            self.once.pop(id, None)
            if plan.restart == "temporary":
                self.once[id] = len(self.log())
        self.ask(name, StartChildRequest(plan.spec()), lambda: Supervisor.start_child(self.whereis(name), spec))

    def address(self, pick, *more):
        """Give a supervisor that is up and an id that is one of its own."""
        supervisors = sorted(self.worlds[0].supervisors(), reverse=True)
        name = supervisors[pick % len(supervisors)]
        ids = ["a", "b", "c", "d", "nested", *more] if name == "root" else ["x", "y", "z", *more]
        return name, ids[pick // 2 % len(ids)]

    @rule(reason=st.sampled_from(["normal", "shutdown"]), really=st.integers(0, 3))
    def tree_is_stopped(self, reason, really):
        """Now and then."""
        if really or not self.is_up():
            return
        self.stop(reason)

    def stop(self, reason):
        """Whatever the core says: those that stop do so last started first."""
        children = [child.id for child in Supervisor.which_children(self.root) if child.type == "worker"]
        before = len(self.log())
        GenServer.stop(self.root, reason)
        stopped = [line.split()[1] for line in self.log()[before:]]
        in_order = [id for id in children if id in stopped]

        assert in_order == [id for id in stopped if id in children]
        self.predict(lambda world: world.stop_supervisor("root", reason))

    # --- prediction and comparison ---

    def predict(self, *ways):
        """Go on from every prediction in each of these ways, and see which comes true."""
        self.is_as_predicted = False
        worlds = []
        for world, way in itertools.product(self.worlds, ways):
            after = world.copy() if len(ways) > 1 else world
            way(after)
            worlds.append(after)
        self.worlds = worlds
        self.compare()

    def ask(self, name, request, really):
        """Ask, and compare the answers."""
        try:
            answer = really()
        except OtpError as error:
            answer = error
        expected = [world.supervisors()[name].ask(request) for world in self.worlds]
        self.worlds = [world for world, each in zip(self.worlds, expected, strict=True) if is_answer(each, answer)]
        self.is_as_predicted = bool(self.worlds)
        assert self.worlds, f"{request!r}: expected {expected}, got {answer!r}"
        self.compare()

    def compare(self):
        """Wait until the tree is what one of the predictions says."""
        self.is_as_predicted = False
        deadline = time.monotonic() + REST_SECONDS
        predicted = [world.shown() for world in self.worlds]
        while (observed := self.observe()) is None or observed not in predicted:
            if time.monotonic() > deadline:
                raise AssertionError(difference(predicted, observed or self.last))
            self.last = observed or self.last
        # a tree at rest stays as it is
        assert observed == self.observe()
        self.worlds = distinct(world for world, shown in zip(self.worlds, predicted, strict=True) if shown == observed)
        for id, since in self.once.items():
            assert self.log()[since:].count(f"start {id}") <= 1, f"{id} is temporary"
        if self.worlds[0].root.ended is not None:
            self.check_end()
        self.is_as_predicted = True

    last = None

    def observe(self):
        """Look at the tree; None when it is not at rest."""
        trees = {}
        if self.root is not None and process.alive(self.root):
            try:
                if not self.look_at("root", self.root, trees):
                    return None
            except CallError:
                return None
        return trees, self.log()

    def look_at(self, name, sup, trees):
        self.see(sup)
        children = Supervisor.which_children(sup)
        counted = Supervisor.count_children(sup)
        for child in children:
            if child.pid == "restarting":
                return False
            if child.pid is not None:
                if not process.alive(child.pid) or process.whereis(child.id) != child.pid:
                    return False
                self.see(child.pid)
            elif process.whereis(child.id) is not None:
                return False
            if (
                isinstance(child.pid, Pid)
                and child.type == "supervisor"
                and not self.look_at(child.id, child.pid, trees)
            ):
                return False
        shown = [(child.id, None if child.pid is None else "up") for child in children]
        trees[name] = (shown, (counted.specs, counted.active, counted.supervisors, counted.workers))
        return True

    def see(self, pid):
        if pid not in self.seen:
            self.seen[pid] = pid.os_pid

    def whereis(self, name):
        pid = process.whereis(name)
        assert pid is not None, f"nobody is {name}"
        return pid

    def log(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                return tuple(file.read().splitlines())
        except FileNotFoundError:
            return ()

    # --- the end ---

    def check_end(self):
        """Nothing is left of a tree that ended, and it ended of what was predicted."""
        reasons = {world.root.ended[0] for world in self.worlds}
        if self.root is not None:
            assert self.root.wait(REST_SECONDS) in reasons
        self.root = None
        assert [] == [pid for pid in self.seen if process.alive(pid)]
        assert [] == [number for number in self.seen.values() if is_ours(number)]
        assert [] == [name for name in ("root", "nested", *"abcdxyz") if process.whereis(name) is not None]
        self.seen.clear()
        process.flush()

    def teardown(self):
        """Whatever it is like, it can be stopped."""
        if self.root is not None and self.is_as_predicted:
            self.stop("shutdown")
        elif self.root is not None:
            GenServer.stop(self.root, "shutdown", missing_ok=True)


def flags(tree):
    return {
        "strategy": tree.strategy,
        "max_restarts": tree.max_restarts,
        "max_seconds": 600,
        "auto_shutdown": tree.auto_shutdown,
    }


def end(pid, how):
    match how:
        case "sigkill":
            os.kill(pid.os_pid, signal.SIGKILL)
        case "segfault":
            os.kill(pid.os_pid, signal.SIGSEGV)
        case ("exit", reason):
            process.exit(pid, reason)
        case _:
            GenServer.cast(pid, how)


def is_answer(expected, answer):
    match expected:
        case Ok(value=Pid()):
            return isinstance(answer, Pid)
        case Ok(value=value):
            return answer == value
        case Err(error=error):
            return type(answer) is type(error)
        case None:
            return isinstance(answer, CallError)


def distinct(worlds):
    """Those that will go on differently: what can be seen is equal, what was counted may not be."""
    found = {}
    for world in worlds:
        counts = tuple(sorted((name, len(sup.state.restarts)) for name, sup in world.supervisors().items()))
        found.setdefault((counts, world.root.ended), world)
    return list(found.values())


def is_ours(os_pid):
    """Whether the OS process is there and below this program; another may have got its number."""
    try:
        with open(f"/proc/{os_pid}/environ", "rb") as file:
            return False if not file.read() else os.getppid() and _is_below(os_pid)
    except OSError:
        return False


def _is_below(os_pid):
    while os_pid > 1:
        if os_pid == os.getpid():
            return True
        with open(f"/proc/{os_pid}/stat", encoding="ascii") as file:
            os_pid = int(file.read().rpartition(")")[2].split()[1])
    return False


def difference(predicted, observed):
    lines = ["the tree did not become what was predicted"]
    lines += [f"  predicted {trees}\n    log {' | '.join(log)}" for trees, log in predicted]
    if observed is not None:
        lines.append(f"  observed  {observed[0]}\n    log {' | '.join(observed[1])}")
    return "\n".join(lines)


def run(examples, steps, *, at_random=False):
    machine_settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not at_random,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # what failed may be a race: the message has the whole story, shrinking would lose it
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(RealSupervisors, settings=machine_settings)


@pytest.mark.usefixtures("otp_node")
class TestRealSupervisors:
    @pytest.mark.slow
    def test_do_what_the_core_predicts(self, tmp_path, monkeypatch):
        """The same few trees at every run."""
        monkeypatch.setattr(RealSupervisors, "directory", str(tmp_path))

        run(examples=6, steps=15)

    @pytest.mark.stress
    @pytest.mark.timeout(1200)
    def test_do_what_the_core_predicts_for_long(self, tmp_path, monkeypatch):
        """Other trees each time."""
        monkeypatch.setattr(RealSupervisors, "directory", str(tmp_path))

        run(examples=200, steps=25, at_random=True)


__all__ = ["_nothing_left", "me", "otp_node"]
