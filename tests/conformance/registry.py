"""Family F: registries."""

import itertools

from otp_runtime import (
    Agent,
    AlreadyRegistered,
    Bind,
    Registry,
    Supervisor,
    Via,
    process,
)
from tests.conformance.player import QUIET_SECONDS, Player, pause, to_term
from tests.conformance.recorder import Line

NAME = "played_registry"


def body(path, name):
    """The life of a process of the scenario: it registers itself as it is told, and collects what it hears."""
    line = Line(path)
    line.born(name, 1)
    while True:
        match process.receive(_is_command):
            case ("$do", key, op, args):
                line.tell(key, do(op, *args))
            case ("$mail", key):
                pause()
                line.tell(key, [sayable(message) for message in process.flush() if not _is_command(message)])


def _is_command(message):
    return isinstance(message, tuple) and message[:1] in {("$do",), ("$mail",)}


def sayable(message):
    what, _registry, key, pid, *more = message
    return [what, key, {"$pid": pid.id}, *more]


def do(op, key, *args):
    match op:
        case "register":
            try:
                Registry.register(NAME, key, *args)
            except AlreadyRegistered as error:
                return ["error", ["already_registered", {"$pid": error.pid.id}]]
            return ["ok"]
        case "unregister":
            Registry.unregister(NAME, key)
        case "unregister_match":
            Registry.unregister_match(NAME, key, to_pattern(args[0]))
        case "update_value":
            try:
                changed = Registry.update_value(NAME, key, changing(args[0]))
            except ValueError as error:
                return ["raised", ["error", type(error).__name__]]
            return "error" if changed is None else list(changed)
    return "ok"


def changing(fn):
    match fn:
        case ("add", number):
            return lambda value: value + number
        case ("const", new):
            return lambda _value: new
        case ("id",):
            return lambda value: value


def to_pattern(value):
    match value:
        case "_":
            return ...
        case str() if value.startswith("$"):
            return Bind(value)
        case list() | tuple():
            return tuple(to_pattern(part) for part in value)
        case _:
            return value


class RegistryPlayer(Player):
    def setup(self, setup):
        self._keys = itertools.count()
        self.mail = []
        self.actors = [one["id"] for one in setup["procs"]]
        listener = setup.get("listener")
        self.registry = Registry.start_link(
            keys=setup["keys"],
            name=NAME,
            partitions=setup.get("partitions", 1),
            listeners=[listener] if listener else [],
        )
        for one in setup["procs"]:
            pid = process.spawn(body, self.recorder.path, one["id"])
            assert self.recorder.wait(lambda one=one: one["id"] in self.recorder.latest), one
            if one["id"] == listener:
                process.register(pid, listener)

    def clear_up(self):
        super().clear_up()
        Supervisor.stop(self.registry)

    # -- by a process of the scenario --------------------------------------------------------------------------

    def ask(self, p, *message):
        key = f"step {next(self._keys)}"
        process.send(self.pid(p), (message[0], key, *message[1:]))
        assert self.recorder.wait(lambda: self.recorder.told(key) is not None), message
        return self.json(self.recorder.told(key))

    def op_register(self, p, key, value):
        return self.ask(p, "$do", "register", (to_term(key), to_term(value)))

    def op_unregister(self, p, key):
        return self.ask(p, "$do", "unregister", (to_term(key),))

    def op_unregister_match(self, p, key, pattern):
        return self.ask(p, "$do", "unregister_match", (to_term(key), pattern))

    def op_update_value(self, p, key, fn):
        return self.ask(p, "$do", "update_value", (to_term(key), to_term(fn)))

    def op_die(self, p):
        ref = process.monitor(self.pid(p))
        process.exit(self.pid(p), "kill")
        process.receive(lambda message: message.ref == ref, QUIET_SECONDS)
        return "ok"

    # -- by the player -----------------------------------------------------------------------------------------

    def sorted(self, found):
        return sorted(self.json(found), key=repr)

    def op_lookup(self, key):
        return self.sorted(Registry.lookup(NAME, to_term(key)))

    def op_keys(self, p):
        return self.sorted(Registry.keys(NAME, self.pid(p)))

    def op_values(self, p, key):
        return self.sorted(Registry.values(NAME, to_term(key), self.pid(p)))

    def op_count(self):
        return Registry.count(NAME)

    def op_match(self, key, pattern):
        return self.sorted(Registry.match(NAME, to_term(key), to_pattern(pattern)))

    def op_count_match(self, key, pattern):
        return Registry.count_match(NAME, to_term(key), to_pattern(pattern))

    def op_dispatch(self, key):
        found = []
        Registry.dispatch(NAME, to_term(key), found.extend)
        return ["ok", self.sorted(found)]

    def op_dispatch_send(self, key, msg):
        def send(entries):
            for pid, _value in entries:
                process.send(pid, to_term(msg))

        Registry.dispatch(NAME, to_term(key), send)
        return "ok"

    def op_put_meta(self, key, value):
        return self.bare(Registry.put_meta, NAME, to_term(key), to_term(value))

    def op_meta(self, key):
        found = Registry.meta(NAME, to_term(key), _NOTHING)
        return "error" if found is _NOTHING else ["ok", self.json(found)]

    def op_delete_meta(self, key):
        return self.bare(Registry.delete_meta, NAME, to_term(key))

    # -- named via the registry --------------------------------------------------------------------------------

    def op_start_via(self, id, key, value=None):
        def start():
            pid = Agent.start(_first, name=Via(Registry, (NAME, to_term(key), to_term(value))))
            self.recorder.know(id, 1, pid)

        result = self.outcome(start)
        return ["ok"] if result == ["ok", None] else result

    def via(self, key):
        return Via(Registry, (NAME, to_term(key)))

    def op_call_via(self, key):
        return self.outcome(Agent.get, self.via(key), _same)

    def op_cast_via(self, key):
        return self.bare(Agent.cast, self.via(key), _same)

    def op_stop_via(self, key):
        return self.bare(Agent.stop, self.via(key))

    def op_whereis_via(self, key):
        found = Registry.whereis_name((NAME, to_term(key)))
        return None if found is None else self.name_of(found)

    # -- a step ------------------------------------------------------------------------------------------------

    def snapshot(self):
        for name in self.actors:
            self.collect(name)
        return {"count": Registry.count(NAME), "heard": len(self.mail)}

    def collect(self, name):
        if process.alive(self.pid(name)):
            self.mail += [[name, message] for message in self.ask(name, "$mail")]

    def once(self):
        mail, self.mail = self.mail, []
        return {"mail": sorted(mail, key=repr)}


_NOTHING = object()


def _first():
    return "value"


def _same(state):
    return state
