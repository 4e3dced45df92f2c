"""Servers that both nodes import: what travels between them is data of these."""

import enum
import os
import select
import signal
import time
from dataclasses import dataclass

from otp_runtime import GenServer, Global, Node, NoReply, OtpError, Reply, Stop, process
from otp_runtime.host import kernel
from otp_runtime.process import route


@dataclass(frozen=True)
class Item:
    """A class that both sides can import."""

    name: str
    count: int


class Colour(enum.Enum):
    RED = 1


class Hoard(GenServer):
    """Keeps what it is sent, in order."""

    def init(self, arg):
        return []

    def handle_cast(self, request, state):
        match request:
            case ("reply then cast", client, n):
                GenServer.reply(client, n)
            case ("stop", reason):
                return Stop(reason, state)
        state.append(request)
        return NoReply(state)

    def handle_info(self, message, state):
        state.append(message)
        return NoReply(state)

    def handle_call(self, request, client, state):
        match request:
            case "take":
                return Reply(state, [])
            case "never":
                return NoReply(state)
            case "who":
                return Reply(client.pid, state)
            case "lambda":
                return Reply(lambda: 1, state)
            case ("raise", error):
                return Reply.error(error, state)
            case ("stop", reason):
                return Stop(reason, state)
            case ("monitor", pid):
                return Reply(process.monitor(pid), state)
            case ("link", pid):
                process.link(pid)
                return Reply("linked", state)
            case ("later", pid, count):
                process.send(pid, ("before", count))
                return Reply(count, state)
            case _:
                return Reply(request, state)


class Trapping(Hoard):
    trap_exit = True


def start(cls=Hoard, name=None, **options):
    return cls.start(name=name, **options)


def rename(name):
    """Give a local name of this node to another process, while the one that had it lives."""
    process.unregister(name)
    return Hoard.start(name=name)


def full(name):
    """The full name of a node of this machine."""
    return f"{name}@{os.uname().nodename}"


class Owner(Hoard):
    """Says with which token it has a global name."""

    def handle_call(self, request, client, state):
        match request:
            case ("token", name):
                return Reply(Global.token(name), state)
            case _:
                return super().handle_call(request, client, state)


class Watcher(GenServer):
    """Hears of nodes, and of what it is told to watch."""

    def init(self, arg):
        Node.monitor_nodes(True)
        return []

    def handle_info(self, message, state):
        return NoReply([*state, message])

    def handle_call(self, request, client, state):
        match request:
            case "seen":
                return Reply(state, state)
            case ("monitor", pid):
                return Reply(process.monitor(pid), state)
            case ("wait", closed):
                closed.wait()
                return Reply("waited", state)
            case "os_pid":
                return Reply(os.getpid(), state)


class LateWatcher(Watcher):
    """Hears of nodes once it is told to."""

    def init(self, arg):
        return []

    def handle_cast(self, request, state):
        Node.monitor_nodes(True)
        return NoReply(state)


class Claimer(GenServer):
    """Claims global names for itself."""

    def init(self, arg):
        return arg

    def handle_call(self, request, client, state):
        match request:
            case ("claim", name):
                return Reply(Global.register(name, process.self()), state)


def eventually(ask, seconds=5.0):
    """Ask again and again until the answer is true; give the last one."""
    deadline = time.monotonic() + seconds
    while not (found := ask()) and time.monotonic() < deadline:
        os.sched_yield()
    return found


def pillars():
    """The OS pids of this program's node, those first that could say goodbye: gateway, guard, launcher, program."""
    boxes = {info.label: info for pid in process.list() if (info := process.info(pid)) is not None}
    launcher = boxes["launcher"].os_pid
    return [boxes["gateway"].os_pid, kernel.parent_of(launcher), launcher, os.getpid()]


def every_process():
    """The OS pids of this program's node, its program not: that one answers."""
    found = {info.os_pid for pid in process.list() if (info := process.info(pid)) is not None}
    return sorted(found - {os.getpid()})


def gateway():
    """The id of this program's gateway, and its OS pid."""
    found = [pid for pid in process.list() if (info := process.info(pid)) is not None and info.label == "gateway"]
    return found[-1].id, found[-1].os_pid


def kill_gateway():
    os_pid = gateway()[1]
    pidfd = os.pidfd_open(os_pid)
    os.kill(os_pid, signal.SIGKILL)
    select.select([pidfd], [], [], 5.0)
    os.close(pidfd)


def kill_supervisor(also_gateway):
    """Kill what the gateway is below, and perhaps the gateway in the same moment."""
    os_pids = [process.info(process.whereis(route.SUPERVISOR)).os_pid]
    if also_gateway:
        os_pids.append(gateway()[1])
    for os_pid in os_pids:
        os.kill(os_pid, signal.SIGKILL)


def whereis(name):
    """Who has a global name; None also while nobody can tell."""
    try:
        return Global.whereis(name)
    except OtpError:
        return None
