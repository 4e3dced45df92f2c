"""What the tests run in processes of their own: one that does to a registry what it is told."""

import os
from dataclasses import dataclass

from otp_runtime import GenServer, NoReply, Registry, Reply, process


@dataclass(frozen=True)
class Room:
    number: int


class Actor(GenServer):
    """Runs functions, and collects the messages it gets."""

    def init(self, keys):
        self.heard = []
        for registry, key, *value in keys or ():
            Registry.register(registry, key, *value)

    def handle_call(self, request, client, state):
        match request:
            case "heard":
                heard, self.heard = self.heard, []
                return Reply(heard, state)
            case (function, *args):
                try:
                    return Reply(function(*args), state)
                except Exception as error:  # noqa: BLE001 - raised in the caller
                    return Reply.error(error, state)

    def handle_info(self, message, state):
        self.heard.append(message)
        return NoReply(state)


def linger():
    process.receive("never sent")


def register_and_linger(registry, key, value, to):
    Registry.register(registry, key, value)
    process.send(to, "registered")
    linger()


def os_pid():
    return os.getpid()


def write_for_ever(registry, writer):
    number = 0
    while True:
        Registry.register(registry, (writer, number), [writer] * 50)
        number += 1


def hold(registry, key, to, number):
    """Take a lock, say so, and give it back when told to."""
    Registry.lock(registry, key, lambda: hold_until_told(to, number))
    process.send(to, ("out", number))
    linger()


def hold_until_told(to, number):
    process.send(to, ("in", number))
    match process.receive():
        case "leave":
            return
        case "raise":
            raise ValueError("raised inside")


def lock_and_raise(registry, key, to):
    try:
        Registry.lock(registry, key, lambda: hold_until_told(to, "raising"))
    except ValueError as error:
        process.send(to, str(error))
    linger()


def count_up(path, registry, rounds):
    """Read, add one, write: what comes out right only if nobody comes in between."""
    for _ in range(rounds):
        Registry.lock(registry, "file", lambda: _add_one(path))


def _add_one(path):
    with open(path, encoding="ascii") as file:
        number = int(file.read())
    with open(path, "w", encoding="ascii") as file:
        file.write(str(number + 1))
