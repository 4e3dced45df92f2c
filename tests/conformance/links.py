"""Family D: plain processes, links, monitors, exit signals."""

import itertools
import time

from otp_runtime import Down, Exit, ExitWith, process
from tests.conformance.player import QUIET_SECONDS, Player, Tagged, pause, sayable, to_term
from tests.conformance.recorder import Line


def body(path, name, trap, actor_class):
    """The life of a process of the scenario: it does what the player tells it, and dies of what it is told to."""
    line = Line(path)
    process.trap_exit(trap)
    line.born(name, 1)
    actor = actor_class(line, name)
    while True:
        match process.receive(is_command):
            case ("$do", key, ops):
                actor.do(key, ops)
                line.tell(key, actor.results)
                if actor.is_over:
                    return
            case ("$mail", key):
                pause(0.001)
                line.tell(key, [actor.shown(message) for message in process.flush() if not is_command(message)])


def is_command(message):
    return isinstance(message, tuple) and message[:1] in {("$do",), ("$mail",)}


class _Found(Exception):
    """Ends a look into the mailbox without taking anything out."""


class Actor:
    def __init__(self, line, name):
        self.line, self.name = line, name
        self.refs, self.labels = {}, {}
        self.results = []
        self.is_over = False

    def do(self, key, ops):
        self.results = []
        for op in ops:
            self.results.append(self.op(*op))
            if self.is_over:
                return

    def op(self, kind, *args):
        return getattr(self, f"op_{kind}")(*args)

    def pid(self, name):
        return process.self() if name == self.name else self.line.pid_of(name)

    def op_link(self, other):
        process.link(self.pid(other))
        return True

    def op_unlink(self, other):
        process.unlink(self.pid(other))
        return True

    def op_monitor(self, label, other):
        self.know(label, process.monitor(self.pid(other)))
        return "ok"

    def know(self, label, ref):
        self.refs[label] = ref
        self.labels[ref] = label

    def op_demonitor(self, label, options):
        was_there = process.demonitor(self.refs[label], flush="flush" in options)
        return was_there if "info" in options else True

    def op_trap(self, flag):
        return process.trap_exit(flag)

    def op_send(self, other, term):
        process.send(self.pid(other), term)
        return "ok"

    def op_exit(self, other, reason):
        process.exit(self.pid(other), reason)
        return True

    def op_alive(self, other):
        return process.alive(self.pid(other))

    def op_spawn(self, name, trap):
        return self.born(name, process.spawn(body, self.line.path, name, trap, type(self)))

    def op_spawn_link(self, name, trap):
        return self.born(name, process.spawn_link(body, self.line.path, name, trap, type(self)))

    def op_spawn_monitor(self, name, trap, label):
        pid, ref = process.spawn_monitor(body, self.line.path, name, trap, type(self))
        self.know(label, ref)
        return self.born(name, pid)

    def born(self, name, pid):
        deadline = time.monotonic() + QUIET_SECONDS
        while self.line.pid_of(name) != pid and time.monotonic() < deadline:
            pause()
        return name

    def op_die(self, kind, value=None):
        match kind:
            case "exit":
                raise ExitWith(value)
            case "raise":
                raise Tagged(value)
            case "throw":
                raise ExitWith(("nocatch", value))
            case "return":
                self.is_over = True

    def op_wait_down_queued(self, label):
        return self.wait_queued(lambda one: isinstance(one, Down) and one.ref == self.refs[label])

    def op_wait_exit_queued(self, other):
        pid = self.pid(other)
        return self.wait_queued(lambda one: isinstance(one, Exit) and one.pid == pid)

    def wait_queued(self, fits):
        def look(message):
            if fits(message):
                raise _Found
            return False

        try:
            process.receive(look, QUIET_SECONDS)
        except _Found:
            return "ok"

    def shown(self, message):
        match message:
            case Exit(pid=pid, reason=reason):
                return ["EXIT", *sayable(pid, reason)]
            case Down(ref=ref, pid=pid, reason=reason):
                return ["DOWN", self.labels.get(ref, "?"), *sayable(pid, reason)]
            case _:
                return sayable(message)[0]


class LinksPlayer(Player):
    actor = Actor

    def setup(self, setup):
        self._keys = itertools.count()
        self.before = {}
        self.mail = {}
        for one in setup["procs"]:
            process.spawn(body, self.recorder.path, one["id"], one["trap"], self.actor)
            assert self.recorder.wait(lambda one=one: one["id"] in self.recorder.latest), one
        for first, second in setup.get("links", ()):
            self.tell(first, [["link", second]])
        for label, watcher, target in setup.get("monitors", ()):
            self.tell(watcher, [["monitor", label, target]])
        return "ok"

    def tell(self, name, ops):
        """Let a process do `ops`; give its results, None when it died meanwhile."""
        key = f"step {next(self._keys)}"
        pid = self.pid(name)
        process.send(pid, ("$do", key, to_term(ops)))
        while self.recorder.told(key) is None and process.alive(pid):
            pause()
        return self.recorder.told(key)

    def op_do(self, p, ops):
        self.doer = p
        if self.fate(p) != "alive":
            return "skipped"
        results = self.tell(p, ops)
        # whether it died shows when all is quiet
        return results if results is not None else "died"

    def op_signal(self, to, reason):
        self.doer = None
        process.exit(self.pid(to), to_term(reason))
        return "ok"

    def _step(self, action, result):
        step = super()._step(action, result)
        if action["op"] == "do" and result != "skipped" and step["procs"][action["p"]] != "alive":
            step["result"] = "died"
        step["mail"], self.mail = {name: ordered(mail) for name, mail in self.mail.items() if mail}, {}
        return step

    def snapshot(self):
        fates = {name: self.fate(name) for name in list(self.recorder.latest)}
        for name, fate in fates.items():
            if fate == "alive" and not self.collect(name):
                return None
        return {"procs": fates}

    def collect(self, name):
        """Take the mail of a process, which takes in meanwhile what became of others; False when it died."""
        key = f"mail {next(self._keys)}"
        pid = self.pid(name)
        process.send(pid, ("$mail", key))
        while self.recorder.told(key) is None:
            if not process.alive(pid):
                return False
            pause()
        got = [self.json(one) for one in self.recorder.told(key)]
        if got:
            self.mail.setdefault(name, []).extend(got)
        return not got


def ordered(mail):
    """The canonical order: grouped by sender, as received, runs of EXIT and DOWN sorted."""
    groups = {}
    for message in mail:
        groups.setdefault(sender_of(message), []).append(message)
    return [message for sender in sorted(groups) for message in _sorted_runs(groups[sender])]


def sender_of(message):
    match message:
        case ["EXIT", sender, _] | ["DOWN", _, sender, _] | ["msg", sender, *_]:
            return sender
        case _:
            return ""


def _sorted_runs(messages):
    found, run = [], []
    for message in messages:
        if isinstance(message, list) and message[0] in {"EXIT", "DOWN"}:
            run.append(message)
            continue
        found += [*sorted(run, key=repr), message]
        run = []
    return found + sorted(run, key=repr)
