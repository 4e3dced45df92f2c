"""Family A: static supervisors, their trees, strategies, limits, and the admin functions."""

import contextlib

from otp_runtime import (
    CallError,
    Exit,
    ExitWith,
    GenServer,
    Ignore,
    NoReply,
    Pid,
    Reply,
    Stop,
    Supervisor,
    process,
)
from tests.conformance.player import QUIET_SECONDS, UNKNOWN, Player, Tagged, sayable, seconds, to_term
from tests.conformance.recorder import Line

STOP_SECONDS = 2.0


def outcome_of(line, spec, kind="worker"):
    """Count one more start; give its number and the outcome it is to have."""
    number = line.start_count(spec["id"], kind)
    starts = spec.get("starts", ["ok"])
    return number, starts[min(number, len(starts)) - 1]


class Worker(GenServer):
    def init(self, arg):
        path, spec, above = arg
        self.line, self.spec = Line(path), spec
        self.ended_by_op = False
        self.generation, outcome = outcome_of(self.line, spec)
        self.line.above(*above)
        match outcome:
            case "ok":
                self.line.born(spec["id"], self.generation)
                self.log("start")
                return self.generation
            case "ignore":
                self.log("ignore")
                return Ignore()
            case ("stop", reason):
                self.log("init_stop")
                return Stop(reason)
            case ("raise", tag):
                self.log("init_raise")
                raise Tagged(tag)

    def log(self, kind, *more):
        self.line.log(kind, self.spec["id"], self.generation, *more)

    def handle_call(self, request, client, state):
        return Reply(None, state)

    def handle_cast(self, request, state):
        self.ended_by_op = True
        match request:
            case ("raise", tag):
                raise Tagged(tag)
            case ("exit", reason):
                raise ExitWith(reason)
            case ("stop", reason):
                return Stop(reason)

    def handle_info(self, message, state):
        if type(message) is Exit:
            self.log("exit_msg", *sayable(message.pid, message.reason))
        return NoReply(state)

    def terminate(self, reason, state):
        self.log("terminate", *sayable(reason))
        match self.spec.get("terminate"):
            case "hang" if not self.ended_by_op:
                self.line.wait_gate("never")
            case ("raise", tag):
                raise Tagged(tag)
            case ("exit", reason):
                raise ExitWith(reason)


class TrappingWorker(Worker):
    trap_exit = True


class Tree(Supervisor):
    def init(self, arg):
        path, spec, above = arg
        line = Line(path)
        generation, outcome = outcome_of(line, spec, "supervisor")
        match outcome:
            case "ignore":
                line.log("ignore", spec["id"], generation)
                return Ignore()
            case ("raise", tag):
                line.log("init_raise", spec["id"], generation)
                raise Tagged(tag)
        line.log("start", spec["id"], generation)
        children = [child_spec(path, child, (spec["id"], *above)) for child in spec.get("children", ())]
        return Supervisor.spec(children, **flags(spec))


def flags(spec):
    return {
        "strategy": spec.get("strategy", "one_for_one"),
        "max_restarts": spec.get("max_restarts", 3),
        "max_seconds": spec.get("max_seconds", 60),
        "auto_shutdown": spec.get("auto_shutdown", "never"),
    }


def child_spec(path, spec, above):
    is_supervisor = spec.get("type") == "supervisor"
    shutdown = spec.get("shutdown", "infinity" if is_supervisor else 5000)
    options = {
        "id": spec.get("spec_id", spec["id"]),
        "restart": spec.get("restart", "permanent"),
        "shutdown": shutdown if shutdown == "brutal_kill" else seconds(shutdown),
        "significant": spec.get("significant", False),
    }
    if is_supervisor:
        return Tree.child_spec((path, spec, above), **options)
    return (TrappingWorker if spec.get("trap_exit") else Worker).child_spec((path, spec, above), **options)


class SupervisionPlayer(Player):
    def setup(self, setup):
        self.root = to_term(setup["tree"])
        self.supervisors = {}
        self.learn(self.root)
        result = self.outcome(self.start_root)
        if result == ["ok", None]:
            return "ignore"
        if result[0] == "ok":
            self.recorder.know(self.root["id"], 1, self.started)
            return ["ok", self.root["id"]]
        self.root_failure = result[1]
        return result

    def start_root(self):
        return Tree.start_link((self.recorder.path, self.root, ()))

    root_failure = UNKNOWN
    started = None

    def outcome(self, function, *args, **options):
        def call():
            self.started = function(*args, **options)
            return self.started

        return super().outcome(call)

    def learn(self, spec):
        """Note which ids are supervisors."""
        if spec.get("type") == "supervisor":
            self.supervisors[spec["id"]] = spec
        for child in spec.get("children", ()):
            self.learn(child)

    # -- ops -------------------------------------------------------------------------------------------------------

    def op_crash(self, id, how):
        pid = self.pid(id)
        GenServer.cast(pid, to_term(how))
        pid.wait(QUIET_SECONDS)
        return "ok"

    def op_kill(self, id):
        pid = self.pid(id)
        process.exit(pid, "kill")
        pid.wait(QUIET_SECONDS)
        return "ok"

    def op_exit(self, id, reason):
        process.exit(self.pid(id), to_term(reason))
        return "ok"

    def op_terminate_child(self, sup, id):
        return self.bare(Supervisor.terminate_child, self.pid(sup), id)

    def op_delete_child(self, sup, id):
        return self.bare(Supervisor.delete_child, self.pid(sup), id)

    def op_restart_child(self, sup, id):
        return self.child_result(id, self.outcome(Supervisor.restart_child, self.pid(sup), id))

    def op_start_child(self, sup, child):
        spec = self.learn_child(sup, child)

        def start():
            return Supervisor.start_child(self.pid(sup), child_spec(self.recorder.path, spec, self.above(sup)))

        return self.child_result(spec["id"], self.outcome(start))

    def learn_child(self, sup, child):
        spec = to_term(child)
        self.learn(spec)
        known = self.supervisors[sup]
        self.supervisors[sup] = {**known, "children": (*known.get("children", ()), spec)}
        return spec

    def above(self, sup):
        """A supervisor and those above it, nearest first."""
        for id, spec in self.supervisors.items():
            if any(child["id"] == sup for child in spec.get("children", ())):
                return (sup, *self.above(id))
        return (sup,)

    def op_get_childspec(self, sup, id):
        def ask():
            spec = Supervisor.get_childspec(self.pid(sup), id)
            shutdown = {None: "infinity", "brutal_kill": "brutal_kill"}.get(spec.shutdown, spec.shutdown)
            if isinstance(shutdown, int | float):
                shutdown = round(shutdown / seconds(1000) * 1000)
            return {
                "id": spec.id,
                "restart": spec.restart,
                "shutdown": shutdown,
                "significant": spec.significant,
                "type": spec.type,
            }

        return self.outcome(ask)

    def op_stop(self, sup, reason):
        return self.bare(Supervisor.stop, self.pid(sup), to_term(reason))

    def child_result(self, id, result):
        if result[0] != "ok":
            return result
        if isinstance(self.started, Pid):
            self.recorder.know(id, self.recorder.counts[id], self.started)
            return ["ok", id]
        return ["ok", "undefined"]

    # -- the state of a step ---------------------------------------------------------------------------------------

    def snapshot(self):
        tree, listed = {}, set()
        root = self.recorder.latest.get(self.root["id"])
        if root is not None and process.alive(root):
            listed.add(root)
            if not self.walk(self.root["id"], tree, listed):
                return None
        if any(process.alive(pid) and pid not in listed for pid in list(self.recorder.generations)):
            return None
        for id in self.supervisors:
            started = self.recorder.started.get(("supervisor", id))
            if id in tree or started is None or self.ignored(id, started):
                continue
            tree[id] = {"state": "dead", "reason": self.reason_of_supervisor(id, started)}
        return {"tree": tree}

    def ignored(self, id, number):
        starts = self.supervisors[id].get("starts", ["ok"])
        return starts[min(number, len(starts)) - 1] == "ignore"

    def reason_of_supervisor(self, id, number):
        for pid, who in self.recorder.generations.items():
            if who == (id, number):
                return self.reason_of(pid)
        return self.root_failure if id == self.root["id"] else UNKNOWN

    def walk(self, id, tree, listed):
        """Look at one supervisor and all below it; say whether all of it is at rest."""
        pid = self.pid(id)
        try:
            children = self.children_of(id, pid)
            count = self.count_of(id, pid)
        except CallError:
            return False
        if any(child.pid == "restarting" for child in children):
            return False
        shown = []
        for child in children:
            if child.pid is None:
                shown.append([child.id, "undefined"])
                continue
            if not process.alive(child.pid) or child.id is None:
                return False
            listed.add(child.pid)
            self.recorder.know(child.id, self.recorder.counts[child.id], child.pid)
            shown.append([child.id, self.recorder.generations[child.pid][1]])
            if not (self.walk(child.id, tree, listed) if child.type == "supervisor" else self.answers(child.pid)):
                return False
        tree[id] = {
            "state": "alive",
            "gen": self.recorder.generations[pid][1],
            "children": shown,
            "count": {
                "specs": count.specs,
                "active": count.active,
                "supervisors": count.supervisors,
                "workers": count.workers,
            },
        }
        return True

    def children_of(self, id, pid):
        return Supervisor.which_children(pid)

    def count_of(self, id, pid):
        return Supervisor.count_children(pid)

    def answers(self, pid):
        try:
            GenServer.call(pid, "sync", QUIET_SECONDS)
        except CallError:
            return False
        return True

    def once(self):
        return {"exits": self.newly_dead()}

    def clear_up(self):
        root = self.recorder.latest.get(self.root["id"])
        if root is not None and process.alive(root):
            with contextlib.suppress(CallError):
                Supervisor.stop(root, "shutdown", STOP_SECONDS)
        super().clear_up()
