"""A server that dies as it is told. Importable and light."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

from otp_runtime import GenServer, NoReply, Ok, Reply, Stop, process


class Mortal(GenServer):
    """Does what it is cast; its `init` may be told to fail by a file."""

    def init(self, arg):
        if isinstance(arg, str) and os.path.exists(arg):
            print("no luck today", file=sys.stderr)
            raise LookupError("init has no luck")
        return Ok(arg)

    def handle_call(self, request, client, state):
        return Reply(os.getpid(), state if request is None else request)

    def handle_cast(self, request, state):
        match request:
            case ("say", text):
                print(text, file=sys.stderr)
            case ("together", threads, lines):
                print_together(threads, lines)
            case ("shell", command):
                subprocess.run(["sh", "-c", command], check=False)
            case ("start", *command):
                self.left = subprocess.Popen(command, stdout=subprocess.PIPE)
                self.left.stdout.readline()
            case ("open", path):
                self.file = open(path, encoding="utf-8")  # noqa: SIM115 - it is there to be left open
            case ("kill me in", seconds):
                process.send_after(process.self(), "now", seconds)
            case ("state", new):
                return NoReply(new)
            case ("stop", reason):
                return Stop(reason)
            case ("die", how, *_padding):
                DEATHS[how]()
        return NoReply(state)

    def handle_info(self, message, state):
        os.kill(os.getpid(), signal.SIGKILL)


class AsyncMortal(GenServer):
    async def handle_cast(self, request, state):
        DEATHS[request]()


def print_together(count, lines):
    def run(number):
        for line in range(lines):
            print(f"thread {number} line {line}\n", end="", file=sys.stderr)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = multiprocessing.get_context("fork").Process(target=print, args=("a fork",), kwargs={"file": sys.stderr})
    child.start()
    child.join()


def double_free():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(64)
    libc.free(block)
    libc.free(block)


def fail_with_a_cause():
    try:
        {}["deep cause"]
    except KeyError as error:
        failure = ValueError("on the surface")
        failure.add_note("a note that helps")
        raise failure from error


def for_ever():
    for_ever()


DEATHS = {
    "segfault": lambda: ctypes.string_at(0),
    "double free": double_free,
    "abort": os.abort,
    "exit 3": lambda: os._exit(3),
    "sys.exit text": lambda: sys.exit("I cannot go on"),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "raise": fail_with_a_cause,
    "memory": lambda: bytes(1 << 60),
    "recursion": for_ever,
}


def task(how):
    DEATHS[how]()
