"""An object with a buffer, and a server that keeps what it is sent. Importable: a pickled object is found by name."""

import contextlib
import os
import pickle
import time

from otp_runtime import GenServer, NoReply, Reply, Task, process


def segments_of(node, pid):
    """The segments for a process that has just died, and of it: they go right after its `Down`. Waits a second."""
    until = time.monotonic() + 1.0
    while left := [name for name in os.listdir(node.directory / "seg") if str(pid.id) in name.split(".")[:2]]:
        if time.monotonic() > until:
            break
        with contextlib.suppress(TimeoutError):
            process.receive("never sent", 0.005)
    return left


class Block:
    """Puts its buffer aside when it is pickled, as arrays do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Block, (pickle.PickleBuffer(self.data),)


def facts(block):
    """What there is to know of a block's buffer: first and last byte, length, and whether it may be written."""
    view = memoryview(block.data)
    return view[0], view[-1], len(view), not view.readonly


class Shelf(GenServer):
    """Keeps what is cast, and answers in several ways."""

    def init(self, arg):
        return []

    def handle_cast(self, request, blocks):
        return NoReply([*blocks, request])

    def handle_info(self, message, blocks):
        return NoReply([*blocks, message])

    def handle_call(self, request, client, blocks):
        match request:
            case "facts":
                return Reply([facts(block) for block in blocks], blocks)
            case "give":
                return Reply(blocks, blocks)
            case "give later":
                GenServer.reply(client, blocks)
                return NoReply(blocks)
            case "forget":
                return Reply(len(blocks), [])
            case ("echo", value):
                return Reply(value, blocks)
            case ("task", size):
                return Reply(Task.await_(Task.async_(made, size)), blocks)


def made(size):
    """A block of ones."""
    return Block(b"\x01" * size)
