"""Code on disk that changes, and programs that call it without pause meanwhile."""

import os
import sys
import textwrap
import time

from otp_runtime import GenServer, Reply, ServerDown, process, upgrade
from otp_runtime.host import kernel
from otp_runtime.process import primitives
from otp_runtime.process.current import current
from otp_runtime.testing.gates import Gate

SHOP = """
import os, signal, socket
from otp_runtime import GenServer, Ignore, NoReply, Ok, Reply, Stop, process

class Shop(GenServer):
    vsn = {vsn}
    {extra}

    def init(self, arg):
        {init}
        return {{"sold": [], "arg": arg}}

    def handle_cast(self, request, state):
        return NoReply({{**state, "sold": [*state["sold"], request]}})

    def handle_info(self, message, state):
        return NoReply({{**state, "info": [*state.get("info", []), message]}})

    def handle_call(self, request, client, state):
        match request:
            case "version":
                return Reply({vsn}, state)
            case "state":
                return Reply(state, state)
            case ("do", function, args):
                return Reply(function(self, *args), state)
            case ("echo", value):
                return Reply(value, state)

    def code_change(self, old_vsn, state, extra):
        {code_change}
        return {{**state, "changed": [*state.get("changed", []), (old_vsn, {vsn}, extra)]}}
"""


class Code:
    """A module on disk, importable by everyone started from now on."""

    def __init__(self, directory, name):
        self.path = directory / f"{name}.py"
        self.name = name
        self._age = 1_600_000_000

    def write(self, text):
        """Put other code in its place; each has a time of its own, as compiled files go by that."""
        self.path.write_text(textwrap.dedent(text))
        self._age += 10
        os.utime(self.path, (self._age, self._age))

    def shop(self, vsn, *, init="pass", code_change="pass", extra="pass", **more):
        """Put version `vsn` of the shop in its place."""
        self.write(SHOP.format(vsn=vsn, init=init, code_change=code_change, extra=extra, **more))

    def load(self):
        """Import it here, once."""
        return __import__(self.name)

    def forget(self):
        sys.modules.pop(self.name, None)


def call_without_pause(name, me, number):
    """A client: calls and casts in turn until it is told to stop; then tells what failed, and how long it waited."""
    failed, longest, sent = [], 0.0, 0
    primitives.send(me, ("ready", number))
    while not _told_to_stop():
        GenServer.cast(name, (number, sent))
        sent += 1
        started = time.monotonic()
        try:
            if GenServer.call(name, ("echo", sent), 10.0) != sent:
                failed.append((sent, "another's reply"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the call failed
            failed.append((sent, repr(error)))
        longest = max(longest, time.monotonic() - started)
    process.send(me, ("done", number, sent, failed, longest))


def _told_to_stop():
    try:
        return process.receive("stop", 0)
    except TimeoutError:
        return False


class Clients:
    """Four client processes; leaving the block gathers what they saw."""

    def __init__(self, name, count=4):
        self.name, self.count = name, count
        self.failed, self.sent, self.longest = [], {}, 0.0

    def __enter__(self):
        me = process.self()
        self.pids = [process.spawn(call_without_pause, self.name, me, number) for number in range(self.count)]
        for number in range(self.count):
            process.receive(("ready", number), 10.0)
        return self

    def __exit__(self, *exc):
        for pid in self.pids:
            process.send(pid, "stop")
        for _ in self.pids:
            _, number, sent, failed, longest = process.receive(lambda message: message[0] == "done", 20.0)
            self.failed += failed
            self.sent[number] = sent
            self.longest = max(self.longest, longest)
        for pid in self.pids:
            pid.wait(5.0)

    def lost(self, sold):
        """What of each client's casts did not arrive, came twice, or came out of order."""
        return {
            number: (count, len(got))
            for number, count in self.sent.items()
            if (got := [item[1] for item in sold if item[0] == number]) != list(range(count))
        }


def wait_at(path):
    """Wait at a gate that is known by its path."""
    gate = Gate.__new__(Gate)
    gate.__setstate__(path)
    gate.wait()


def os_processes(title):
    """OS pids of the processes below this one that have a title."""
    return [os_pid for os_pid in kernel.descendants_of(os.getpid()) if title_of(os_pid) == title]


def title_of(os_pid):
    """What `ps` calls a process."""
    try:
        with open(f"/proc/{os_pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def await_gone(*titles):
    """Wait until no process has one of these titles."""
    deadline = time.monotonic() + 5.0
    while left := [os_pid for title in titles for os_pid in os_processes(title)]:
        assert time.monotonic() < deadline, left


# -- what servers are asked to do ----------------------------------------------------------------------------


def run(_server, function, *args):
    return function(*args)


def upgrade_itself(_server):
    upgrade(process.self())


def wait(_server, gate):
    gate.wait()


def has_its_socket(server):
    return server.socket.fileno() > 0


def timers(_server):
    return len(current().timers)


def with_a_file(state):
    return {**state, "file": open(os.devnull)}


def asking(key, pid, state):
    """Ask another server and keep the request in the state."""
    return {**state, key: GenServer.send_request(pid, "wait")}


def waited(state):
    """Wait for both requests, in the server."""
    try:
        GenServer.receive_response(state["dead"], 10.0)
        dead = "answered"
    except ServerDown:
        dead = "ServerDown"
    return {**state, "slow": GenServer.receive_response(state["slow"], 10.0), "dead": dead}


class Slow(GenServer):
    """Answers when a gate opens."""

    def handle_call(self, request, client, held):
        held.wait()
        return Reply("slept", held)


def send_large(name, count, sizes):
    for number in range(count):
        GenServer.cast(name, (number, bytes(sizes[number % len(sizes)])), 20.0)


def with_apples(fruit):
    return {**fruit, "apples": 3}
