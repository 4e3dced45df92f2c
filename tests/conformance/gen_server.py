"""Families C and J: servers whose messages carry programs, and OTP's `sys` on them."""

import functools
import time

from otp_runtime import (
    CallError,
    Exit,
    ExitWith,
    GenServer,
    Ignore,
    NoReply,
    Ok,
    Reply,
    Stop,
    process,
    system,
)
from tests.conformance.player import (
    QUIET_SECONDS,
    Player,
    Tagged,
    pause,
    sayable,
    seconds,
    to_term,
)
from tests.conformance.recorder import Line

BARRIER_SECONDS = 0.001


class Server(GenServer):
    """Does what the programs in its messages say. Its state is the value; what it saved lives on `self`."""

    def init(self, arg):
        self.line, self.name, self.action = Line(arg[0]), arg[1], arg[2]
        self.saved = {}
        self.line.born(self.name, self.line.start_count(self.name))
        return self.run("init", self.action.get("init", {}), self.action.get("state"))

    def handle_call(self, request, client, state):
        return self.run("call", request, state, client)

    def handle_cast(self, request, state):
        return self.run("cast", request, state)

    def handle_continue(self, term, state):
        return self.run("continue", term, state)

    def handle_info(self, message, state):
        match message:
            case "timeout":
                return self.run("timeout", self.action.get("on_timeout", {}), state)
            case ("$prog", program):
                return self.run("info", program, state)
            case Exit(pid=pid, reason=reason):
                self.log("exit_msg", pid, reason)
            case other:
                self.log("unknown_info", other)
        return NoReply(state)

    def terminate(self, reason, state):
        self.log("terminate", reason)
        match self.action.get("terminate"):
            case ("raise", tag):
                raise Tagged(tag)
            case ("exit", why):
                raise ExitWith(why)
            case ("reply_saved", key, value):
                GenServer.reply(self.saved[key], value)

    def code_change(self, old_vsn, state, extra):
        self.log("code_change", old_vsn, extra)
        match extra:
            case ("ok", value):
                return value
            case ("error", reason):
                return Stop(reason)
            case ("raise", tag):
                raise Tagged(tag)

    def log(self, kind, *terms):
        self.line.log(kind, self.name, *sayable(*terms))

    # -- programs --------------------------------------------------------------------------------------------------

    def run(self, kind, program, value, client=None):
        self.log(kind, *([program["tag"]] if "tag" in program else []))
        for effect in program.get("do", ()):
            value = self.do(effect, value, client)
        return self.result(kind, program.get("ret", ("ok",) if kind == "init" else ("noreply",)), value)

    def do(self, effect, value, client):
        match effect:
            case ("set", new):
                return new
            case ("add", number):
                return value + number
            case ("save", key):
                self.saved[key] = client
            case ("reply", reply):
                GenServer.reply(client, reply)
            case ("reply_saved", key, reply):
                GenServer.reply(self.saved[key], reply)
            case ("send_self", program):
                process.send(process.self(), ("$prog", program))
            case ("cast_self", program):
                GenServer.cast(process.self(), program)
            case ("event", tag):
                self.log("mark", tag)
            case ("gate", gate):
                self.line.wait_gate(gate)
            case ("call", name, program):
                return GenServer.call(self.line.pid_of(name), program)
            case ("try_call", name, program, timeout):
                try:
                    return ("ok", GenServer.call(self.line.pid_of(name), program, seconds(timeout)))
                except CallError as error:
                    return ("exit", to_term(sayable(error.reason)[0]))
            case ("trap_exit", flag):
                process.trap_exit(flag)
            case ("link", name):
                process.link(self.line.pid_of(name))
            case ("stop_self_async", reason):
                process.spawn(GenServer.stop, process.self(), reason)
        return value

    def result(self, kind, ret, value):
        match ret:
            case ("ok", *ext):
                return Ok(value, **extended(ext))
            case ("reply", reply, *ext):
                return Reply(reply, value, **extended(ext))
            case ("reply_state", *ext):
                return Reply(value, value, **extended(ext))
            case ("noreply", *ext):
                return NoReply(value, **extended(ext))
            case ("stop", reason):
                return Stop(reason, value)
            case ("stop", reason, reply):
                return Stop(reason, value, reply=reply)
            case ("ignore",):
                return Ignore()
            case ("throw_reply", reply):
                return Reply(reply, value)
            case ("bad" | "throw", other):
                # gen_server takes what a callback throws as its result. In `init` a plain value is a state here
                return NoReply(other) if kind == "init" else other
            case ("raise", tag):
                raise Tagged(tag)
            case ("exit", reason):
                raise ExitWith(reason)


class TrappingServer(Server):
    trap_exit = True


def extended(ext):
    match ext:
        case [("timeout", milliseconds)]:
            return {"timeout": seconds(milliseconds)}
        case [("continue", program)]:
            return {"continue_": program}
        case ["hibernate"]:
            return {"hibernate": True}
        case _:
            return {}


def client_of(path, name, pid, program, timeout):
    """A client process: makes one call, tells what came of it, and keeps its mailbox for whoever asks."""
    line = Line(path)
    line.born(name, 1)
    try:
        result = ["ok", sayable(GenServer.call(pid, program, timeout))[0]]
    except CallError as error:
        result = ["exit", sayable(error.reason)[0]]
    line.tell(f"result of {name}", result)
    while True:
        question = process.receive(lambda message: isinstance(message, tuple) and message[:1] == ("$mail",))
        mail = [one for one in process.flush() if not isinstance(one, tuple) or one[:1] != ("$mail",)]
        line.tell(question[1], sayable(*mail))


class GenServerPlayer(Player):
    def setup(self, setup):
        self.servers = []
        self.clients = {}
        self.suspended = set()

    # -- ops -------------------------------------------------------------------------------------------------------

    def op_start(self, srv, link=False, name=None, trap_exit=False, start_timeout=None, **action):
        cls = TrappingServer if trap_exit else Server
        start = cls.start_link if link else cls.start
        arg = (self.recorder.path, srv, to_term(action))
        result = self.outcome(start, arg, name=name, timeout=seconds(start_timeout))
        if srv not in self.servers and srv in self.recorder.latest:
            self.servers.append(srv)
        if result[0] == "ok":
            return "ignore" if result[1] is None else ["ok"]
        return result

    def target(self, srv=None, name=None):
        return name if srv is None else self.pid(srv)

    def op_call(self, prog, srv=None, name=None, timeout=5000):
        return self.outcome(GenServer.call, self.target(srv, name), to_term(prog), seconds(timeout))

    def op_cast(self, prog, srv=None, name=None):
        return self.bare(GenServer.cast, self.target(srv, name), to_term(prog))

    def op_info(self, prog, srv=None, name=None):
        return self.op_send(("$prog", prog), srv, name)

    def op_send(self, msg, srv=None, name=None):
        result = self.bare(process.send, self.target(srv, name), to_term(msg))
        # a send to an unknown name is an argument error in Erlang, not an exit
        return ["raised", result] if result == ["exit", "noproc"] else result

    def op_burst(self, srv, msgs):
        for message in msgs:
            fields = {key: value for key, value in message.items() if key != "op"}
            if message["op"] == "stop":
                # a stop that is not waited for: the request stays queued
                self.op_stop(srv, reason=message.get("reason", "normal"), timeout=0)
            else:
                getattr(self, f"op_{message['op']}")(**{"srv": srv, **fields})
        return "ok"

    def op_call_async(self, client, prog, srv=None, name=None, timeout=5000):
        target = self.target(srv, name)
        pid = GenServer.whereis(target)
        queued = self.queued(pid)
        seen = len(self.recorder.events)
        caller = process.spawn(client_of, self.recorder.path, client, target, to_term(prog), seconds(timeout))
        self.clients[client] = caller

        def has_come():
            return self.recorder.told(f"result of {client}") is not None or any(
                event[0] == "call" and event[2:3] == [prog.get("tag")] for _, event in self.recorder.events[seen:]
            )

        deadline = time.monotonic() + QUIET_SECONDS
        while not has_come() and not (srv in self.suspended and self.queued(pid) > queued):
            assert time.monotonic() < deadline, "the request did not come"
            pause()
        return "ok"

    def queued(self, pid):
        """How many messages wait in a suspended server."""
        if not self.suspended or pid is None:
            return 0
        return system.get_status(pid)["queued"]

    def op_await(self, client):
        key = f"result of {client}"
        assert self.recorder.wait(lambda: self.recorder.told(key) is not None), f"{client} has no answer"
        return self.json(self.recorder.told(key))

    def op_client_mail(self, client):
        key = f"mail of {client}, {time.monotonic_ns()}"
        process.send(self.clients[client], ("$mail", key))
        self.recorder.wait(lambda: self.recorder.told(key) is not None)
        return self.json(self.recorder.told(key))

    def op_stop(self, srv=None, name=None, reason="normal", timeout=None):
        return self.bare(GenServer.stop, self.target(srv, name), to_term(reason), seconds(timeout))

    def op_exit(self, srv, reason):
        process.exit(self.pid(srv), to_term(reason))
        return "ok"

    def op_whereis(self, name):
        pid = process.whereis(name)
        return None if pid is None else self.name_of(pid)

    def op_alive(self, srv):
        return process.alive(self.pid(srv))

    def op_open(self, gate):
        self.recorder.open_gate(gate)
        return "ok"

    # -- sys -------------------------------------------------------------------------------------------------------

    def op_get_state(self, srv):
        return self.outcome(system.get_state, self.pid(srv))

    def op_replace_state(self, srv, fn):
        return self.outcome(system.replace_state, self.pid(srv), functools.partial(replaced, to_term(fn)))

    def op_suspend(self, srv):
        self.suspended.add(srv)
        return self.bare(system.suspend, self.pid(srv))

    def op_resume(self, srv):
        self.suspended.discard(srv)
        return self.bare(system.resume, self.pid(srv))

    def op_status(self, srv):
        result = self.outcome(lambda: system.get_status(self.pid(srv))["status"])
        return result[1] if result[0] == "ok" else result

    def op_change_code(self, srv, vsn=None, extra=None):
        return self.bare(system.change_code, self.pid(srv), to_term(vsn), to_term(extra))

    # -- the state of a step ---------------------------------------------------------------------------------------

    def snapshot(self):
        servers = {}
        somebody_died = any(not process.alive(self.pid(name)) for name in self.servers)
        for name in self.servers:
            pid = self.pid(name)
            if not process.alive(pid):
                servers[name] = ["dead", self.reason_of(pid)]
                continue
            try:
                if somebody_died:
                    system.replace_state(pid, take_in, QUIET_SECONDS)
                servers[name] = ["alive", self.json(system.get_state(pid, QUIET_SECONDS))]
            except CallError:
                return None
        for name, pid in self.clients.items():
            if self.recorder.told(f"result of {name}") is None and not process.alive(pid):
                return None
        return {"servers": servers}

    def busy_snapshot(self):
        return {"servers": None}

    def once(self):
        dead = [one for one in self.newly_dead() if one[0] in self.servers]
        return {"exits": dead, "mail": self.take_mail()}


def replaced(fn, value):
    match fn:
        case ("add", number):
            return value + number
        case ("const", new):
            return new
        case ("raise", tag):
            raise Tagged(tag)


def take_in(value):
    """Let a server take in what happened to others, and keep its state."""
    pause(BARRIER_SECONDS)
    return value
