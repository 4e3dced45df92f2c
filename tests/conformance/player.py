"""What the players of all families share: terms, results, who is who, and the wait until nothing moves."""

import time

from otp_runtime import (
    AlreadyPresent,
    AlreadyStarted,
    CallError,
    Crash,
    Exit,
    InitFailed,
    MaxChildren,
    NoReply,
    NotFound,
    Pid,
    ReceiveTimeout,
    Restarting,
    Running,
    SpecError,
    StartFailed,
    StartTimeout,
    process,
)
from otp_runtime.errors import NotSuspended, UpgradeFailed

QUIET_SECONDS = 10.0
TIME_FACTOR = 5.0
"""Every duration of a scenario is multiplied by this: no trace depends on the absolute values."""

DRIVER = "driver"
UNKNOWN = "?"
"""A reason that could not be seen: agrees with any."""


class Tagged(Exception):
    """What `["raise", tag]` raises."""


class Thrown(Exception):
    """What `["throw", value]` raises: Python has no third class of exceptions."""


def to_term(value):
    """JSON to what travels: arrays are tuples."""
    if isinstance(value, list | tuple):
        return tuple(to_term(part) for part in value)
    return {key: to_term(part) for key, part in value.items()} if isinstance(value, dict) else value


def to_json(term, names):
    """What travels to JSON; `names` says whose ids are in it."""
    match term:
        case Crash(type=kind, message=message):
            if kind.endswith(".Tagged"):
                return ["error", message]
            if kind.endswith(".Thrown"):
                return ["nocatch", message]
            return ["start_spec"] if kind.endswith(_SPEC_ERRORS) else ["error", kind]
        case Pid():
            return names(term)
        case tuple() | list():
            return [to_json(part, names) for part in term]
        case {"$pid": number}:
            return names(number)
        case dict():
            return {key: to_json(part, names) for key, part in term.items()}
        case NoReply(state=value):
            # what stands for a bad return of `init`, where any plain value is a good one
            return to_json(value, names)
        case None | bool() | int() | float() | str():
            return term
        case _:
            return repr(term)


def sayable(*terms):
    """Make JSON of terms in a process that is not the player: pids are marked, for the player to name."""
    return [to_json(term, lambda pid: {"$pid": pid.id}) for term in terms]


_SPEC_ERRORS = (".BadChildSpec", ".BadSupervisorFlags", ".DuplicateChild", ".SpecError")


def seconds(milliseconds):
    """A duration of a scenario."""
    return None if milliseconds in {None, "infinity"} else milliseconds / 1000 * TIME_FACTOR


class Player:
    """Plays one scenario: `setup`, then an `op_…` for each action; after each of them the step's state."""

    def __init__(self, recorder):
        self.recorder = recorder
        recorder.forget()
        self._shown = 0
        self._gone = {}
        process.flush()

    # -- a play ------------------------------------------------------------------------------------------------

    def play(self, scenario):
        """Play it; give the trace."""
        trace = []
        try:
            if (result := self.setup(scenario["setup"])) is not None:
                trace.append(self._step({"op": "setup"}, result))
                if result != "ok" and result[:1] != ["ok"]:
                    return trace
            for action in scenario["actions"]:
                fields = {key: value for key, value in action.items() if key not in {"op", "await", "busy"}}
                result = getattr(self, f"op_{action['op']}")(**fields)
                for prefix in action.get("await", ()):
                    assert self.recorder.wait(lambda prefix=prefix: self._is_logged(prefix)), f"no event {prefix}"
                trace.append(self._step(action, result))
        finally:
            self.clear_up()
        return trace

    def setup(self, setup):
        """Build what the scenario begins with; None when there is no such step."""
        return

    def _is_logged(self, prefix):
        return any(event[: len(prefix)] == prefix for _, event in self.recorder.events[self._shown :])

    def _step(self, action, result):
        state = self.settle() if not action.get("busy") else self.busy_snapshot()
        events = [self.json(event) for _, event in self.recorder.events[self._shown :]]
        self._shown += len(events)
        return {"op": action["op"], "result": result, "events": events, **state, **self.once()}

    def clear_up(self):
        """End what is left."""
        for pid in list(self.recorder.generations):
            if process.alive(pid):
                process.exit(pid, "kill")
        for pid in list(self.recorder.generations):
            pid.wait(QUIET_SECONDS)
        assert self.recorder.wait_hung_up()
        process.flush()

    # -- quiescence --------------------------------------------------------------------------------------------

    def settle(self):
        """Wait until nothing moves: until a snapshot is consistent and the same twice."""
        deadline = time.monotonic() + QUIET_SECONDS
        before = None
        while True:
            mark = len(self.recorder.events)
            state = self.snapshot()
            now = None if state is None else (mark, len(self.recorder.events), state)
            if now is not None and now == before and now[0] == now[1]:
                return state
            before = now
            assert time.monotonic() < deadline, f"no quiet within {QUIET_SECONDS} s: {self.unrest()}"
            if state is None:
                pause()

    def snapshot(self):
        """Look at everything; None when something is on the move."""
        raise NotImplementedError

    def busy_snapshot(self):
        """Look only at what can be seen without asking anybody."""
        raise NotImplementedError

    def once(self):
        """Give what is taken once a step, when all is quiet."""
        return {}

    def unrest(self):
        living = [who for pid, who in self.recorder.generations.items() if process.alive(pid)]
        return f"living: {living}, events: {[event for _, event in self.recorder.events]}"

    # -- who is who --------------------------------------------------------------------------------------------

    def json(self, term):
        return to_json(term, self.name_of)

    def name_of(self, pid):
        """Name a process, by its pid or its number."""
        return self.recorder.pids.get(pid.id if isinstance(pid, Pid) else pid, DRIVER)

    def pid(self, name):
        return self.recorder.latest[name]

    def reason_of(self, pid):
        """The reason of a dead process, kept: the node keeps only the latest dead."""
        if pid not in self._gone:
            self._gone[pid] = self.json(pid.wait(QUIET_SECONDS))
        return self._gone[pid]

    def fate(self, name):
        """`"alive"`, or `["dead", reason]`, of the latest process of that name."""
        pid = self.pid(name)
        return "alive" if process.alive(pid) else ["dead", self.reason_of(pid)]

    def newly_dead(self):
        """Give `[id, generation, reason]` of every process that has gone since the last time."""
        found = []
        for pid, (name, generation) in list(self.recorder.generations.items()):
            if pid not in self._reported and not process.alive(pid):
                self._reported.add(pid)
                found.append([name, generation, self.reason_of(pid)])
        return sorted(found, key=repr)

    @property
    def _reported(self):
        return self.__dict__.setdefault("_reported_set", set())

    def take_mail(self):
        """The exits of linked servers that the player got, but for normal ones: a program does not get those."""
        mail = [["EXIT", self.name_of(one.pid), self.json(one.reason)] for one in process.flush() if type(one) is Exit]
        return sorted((one for one in mail if one[1] != DRIVER), key=repr)

    # -- results -----------------------------------------------------------------------------------------------

    def outcome(self, function, *args, **options):
        """Call, and give `["ok", value]` or what it raised."""
        try:
            return ["ok", self.json(function(*args, **options))]
        except Exception as error:  # noqa: BLE001 - whatever a function raises is its result
            return self.failure(error)

    def bare(self, function, *args, **options):
        """As `outcome`; just `"ok"` for a function without a value."""
        result = self.outcome(function, *args, **options)
        return "ok" if result == ["ok", None] else result

    def failure(self, error):
        match error:
            case AlreadyStarted(pid=pid):
                return ["error", ["already_started", self.name_of(pid)]]
            case NotFound() | Running() | Restarting() | AlreadyPresent() | MaxChildren() | NotSuspended():
                return ["error", _WORDS[type(error)]]
            case StartTimeout():
                return ["error", "timeout"]
            case InitFailed(reason=reason) | StartFailed(reason=reason) | UpgradeFailed(reason=reason):
                return ["error", self.json(reason)]
            case CallError(reason=reason):
                return ["exit", self.json(reason)]
            case SpecError():
                return ["error", ["start_spec"]]
            case _:
                return ["raised", ["error", type(error).__name__]]


_WORDS = {
    NotFound: "not_found",
    Running: "running",
    Restarting: "restarting",
    AlreadyPresent: "already_present",
    MaxChildren: "max_children",
    NotSuspended: "not_suspended",
}


def pause(length=0.001):
    """Let a moment pass, taking in deaths and messages, and no message out: a poll's interval."""
    try:
        process.receive(_Never, length)
    except ReceiveTimeout:
        return


class _Never:
    """Nothing is one of these."""
