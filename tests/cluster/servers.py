"""Servers that both nodes import: what travels between them is data of these."""

import enum
from dataclasses import dataclass

from otp_runtime import GenServer, Node, NoReply, Reply, Stop, process


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


def full(name):
    """The full name of a node of this machine."""
    return f"{name}@{Node.self().partition('@')[2]}"
