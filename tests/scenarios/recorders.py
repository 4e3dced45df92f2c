"""Servers with a durable mailbox that write down what they handle, and processes that send to them."""

import os

from otp_runtime import GenServer, NoReply, Reply, process


class Recorder(GenServer):
    """Appends each number that it handles to a file, in one write: what is there was handled, whoever died."""

    mailbox = "durable"

    def init(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return path

    def write(self, number):
        os.write(self.file, f"{number}\n".encode())

    def handle_cast(self, request, state):
        self.write(request[0])
        return NoReply(state)

    def handle_call(self, request, client, state):
        if request != "all":
            self.write(request[0])
        return Reply(request, state)


class AsyncRecorder(Recorder):
    """As Recorder, with callbacks that await."""

    async def handle_cast(self, request, state):
        self.write(request[0])
        return NoReply(state)


def cast_all(name, first, count, filling):
    """Cast that many numbers from `first` on, by name, each with a filling that gives it a size."""
    for number in range(first, first + count):
        GenServer.cast(name, (number, filling), timeout=30.0)


def call_all(name, first, count, tester):
    """Call with that many numbers from `first` on, across restarts; tell the tester which were answered."""
    answers = [GenServer.call(name, (number,), 30.0, across_restart=True)[0] for number in range(first, first + count)]
    process.send(tester, ("answers", answers))
