"""Family G: tasks. One owner process runs the operations; the player only opens gates and sends exits."""

import itertools

from otp_runtime import CallError, Exit, ExitWith, Task, TaskDone, TaskExit, TaskExited, TaskSupervisor, process
from tests.conformance.player import QUIET_SECONDS, UNKNOWN, Player, Tagged, pause, sayable, seconds, to_term
from tests.conformance.recorder import Line, pack

NEVER = "no gate"
"""Where a task is parked that waits for ever."""


def perform(path, name, body):
    """What a task does."""
    line = Line(path)
    if name is not None:
        line.born(name, 1)
    return follow(line, name, body)


def follow(line, name, body):
    match body:
        case ("return", value):
            return value
        case ("raise", tag):
            raise Tagged(tag)
        case ("exit", reason):
            raise ExitWith(reason)
        case ("gate", gate, rest):
            line.tell(f"parked {name}", gate)
            line.wait_gate(gate)
            return follow(line, name, rest)
        case ("forever" | "trap_forever" as how,):
            process.trap_exit(how == "trap_forever")
            wait_for_ever(line, name)
    return None


def wait_for_ever(line, name):
    line.tell(f"parked {name}", NEVER)
    while True:
        process.receive()


def owner(path, trap, sup):
    """The life of the owner: it does what the player tells it."""
    process.trap_exit(trap)
    line = Line(path)
    line.born("owner", 1)
    body = Owner(line, sup)
    while True:
        match process.receive(_is_command):
            case ("$do", key, op, fields):
                line.tell(key, sayable(body.do(op, fields)))
            case ("$mail", key):
                pause(0.001)
                line.tell(key, [body.mail()])


def _is_command(message):
    return isinstance(message, tuple) and message[:1] in {("$do",), ("$mail",)}


class Owner:
    def __init__(self, line, sup):
        self.line, self.sup = line, sup
        self.tasks = {}
        self.exits = []

    def do(self, op, fields):
        try:
            return getattr(self, f"op_{op}")(**fields)
        except (TaskExited, CallError) as error:
            return ["exit", error.reason]
        except Exception as error:  # noqa: BLE001 - whatever a function raises is its result
            return ["raised", ["error", type(error).__name__]]

    def mail(self):
        """Every EXIT that is in the mailbox; they stay, so that each step shows them."""
        self.exits += [one for one in process.flush() if type(one) is Exit and one.pid != self.sup]
        return sayable([["EXIT", one.pid, one.reason] for one in self.exits])[0]

    def begun(self, name, task):
        self.tasks[name] = task
        self.line.ask("born", name, 1, pack(task.pid if isinstance(task, Task) else task))
        return ["ok"]

    def op_async(self, task, fn):
        return self.begun(task, Task.async_(perform, self.line.path, task, fn))

    def op_sup_async(self, task, fn):
        return self.begun(task, TaskSupervisor.async_(self.sup, perform, self.line.path, task, fn))

    def op_async_nolink(self, task, fn):
        return self.begun(task, TaskSupervisor.async_nolink(self.sup, perform, self.line.path, task, fn))

    def op_sup_start_child(self, task, fn):
        return self.begun(task, TaskSupervisor.start_child(self.sup, perform, self.line.path, task, fn))

    def op_sup_children(self):
        return sorted(TaskSupervisor.children(self.sup))

    def op_sup_terminate(self, task):
        pid = getattr(self.tasks[task], "pid", self.tasks[task])
        TaskSupervisor.terminate_child(self.sup, pid)
        return "ok"

    def op_await(self, task, timeout=5000):
        return ["ok", Task.await_(self.tasks[task], seconds(timeout))]

    def op_await_many(self, tasks, timeout=5000):
        return ["ok", Task.await_many([self.tasks[one] for one in tasks], seconds(timeout))]

    def op_yield(self, task, timeout=5000):
        return shown(Task.yield_(self.tasks[task], seconds(timeout)))

    def op_yield_many(self, tasks, timeout=5000):
        found = Task.yield_many([self.tasks[one] for one in tasks], seconds(timeout))
        return [shown(result) for _, result in found]

    def op_shutdown(self, task, how=5000):
        return shown(Task.shutdown(self.tasks[task], how if how == "brutal_kill" else seconds(how)))

    def op_ignore(self, task):
        return shown(Task.ignore(self.tasks[task]))

    def op_stream(self, fns, nolink=False, take=None, on_result=(), **options):
        on_result = dict(on_result)
        if "timeout" in options:
            options["timeout"] = seconds(options["timeout"])
        path = self.line.path

        def run(fn):
            return perform(path, None, fn)

        if nolink:
            results = TaskSupervisor.async_stream_nolink(self.sup, fns, run, **options)
        else:
            results = Task.async_stream(fns, run, **options)
        found = []
        for result in itertools.islice(results, take):
            found.append(shown(result))
            if (gate := on_result.get(str(len(found)))) is not None:
                self.line.ask("open", gate)
        results.close()
        return found


def shown(result):
    match result:
        case TaskDone(value=value):
            return ["ok", value]
        case TaskExit(reason=reason):
            return ["exit", reason]
        case _:
            return None


class TaskPlayer(Player):
    def setup(self, setup):
        self._keys = itertools.count()
        self.sup = TaskSupervisor.start_link(max_children=setup.get("max_children"))
        process.spawn(owner, self.recorder.path, setup.get("trap", False), self.sup)
        assert self.recorder.wait(lambda: "owner" in self.recorder.latest)

    def clear_up(self):
        super().clear_up()
        TaskSupervisor.stop(self.sup)
        process.flush()

    def __getattr__(self, name):
        """What is no operation of the player's own is the owner's."""
        if not name.startswith("op_") or not hasattr(Owner, name):
            raise AttributeError(name)
        return lambda await_dead=(), **fields: self._done(self.tell("$do", name[3:], to_term(fields)), await_dead)

    def tell(self, kind, *what):
        """Let the owner do something; give what it says, UNKNOWN when it died meanwhile."""
        key = f"step {next(self._keys)}"
        pid = self.pid("owner")
        process.send(pid, (kind, key, *what))
        while self.recorder.told(key) is None and process.alive(pid):
            pause()
        told = self.recorder.told(key)
        return UNKNOWN if told is None else self.json(told[0])

    def _done(self, result, await_dead):
        for name in await_dead:
            self.pid(name).wait(QUIET_SECONDS)
        return result

    def op_open(self, gate, await_dead=()):
        self.recorder.open_gate(gate)
        return self._done("ok", await_dead)

    def op_kill_task(self, task, await_dead=()):
        process.exit(self.pid(task), "kill")
        return self._done("ok", await_dead)

    def op_exit_owner(self, reason, await_dead=()):
        process.exit(self.pid("owner"), to_term(reason))
        return self._done("ok", await_dead)

    def snapshot(self):
        procs = {name: self.fate(name) for name in list(self.recorder.latest)}
        if any(fate == "alive" and not self._is_parked(name) for name, fate in procs.items()):
            return None
        mail = self.tell("$mail") if procs["owner"] == "alive" else []
        return None if mail == UNKNOWN else {"procs": procs, "mail": sorted(mail, key=repr)}

    def _is_parked(self, name):
        """Say whether a living process waits for something: what runs will end, or come to a gate."""
        where = self.recorder.told(f"parked {name}")
        return name == "owner" or (where is not None and where not in self.recorder.gates)
