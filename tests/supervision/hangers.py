"""Servers that hang in every way there is. Importable and light."""

import asyncio
import atexit
import collections
import ctypes
import hashlib
import itertools
import os
import sys
import threading
import time
from pathlib import Path

from otp_runtime import GenServer, NoReply, Ok, Reply, Watchdog, process, statem
from otp_runtime.behaviours.gen_statem import GenStateMachine

QUICK = Watchdog(busy=0.3, grace=1.0)
FOR_EVER = 1000.0


class Hanger(GenServer):
    """Hangs as it is told. The line of each way is the last one of its function."""

    options = {"watchdog": QUICK}  # noqa: RUF012 - never changed

    def handle_call(self, request, client, state):
        return Reply(request(state) if callable(request) else state, state)

    def handle_cast(self, how, state):
        how()
        return NoReply(state)


class Spoken(Hanger):
    """Hangs where no callback runs, or in one that is not a message's."""

    def init(self, how):
        if how == "init":
            lock()
        if how == "slow":
            time.sleep(1.0)
        if how == "continue":
            return Ok(how, continue_=how)
        return how

    def handle_continue(self, term, state):
        lock()

    def terminate(self, reason, state):
        if state == "terminate":
            lock()


class Trapping(Hanger):
    """Takes its time when it is shut down, and is given it."""

    trap_exit = True
    shutdown = None

    def terminate(self, reason, seconds):
        time.sleep(seconds or 0)


class Leaving(Hanger):
    """Hangs when it is handed over: in the process that leaves, or in the one that succeeds it.

    Its state says where, and which file says that the first one leaves.
    """

    def init(self, state):
        where, left = state
        if where == "init" and os.path.exists(left):
            os.unlink(left)
            lock()
        return state

    def release(self, state):
        where, left = state
        if where == "release":
            lock()
        Path(left).touch()

    def code_change(self, vsn, state, extra):
        if state[0] == "code_change":
            lock()
        return state


class AsyncLeaving(Leaving):
    """The same with an event loop."""

    async def handle_info(self, message, state):
        return NoReply(state)


class AsyncHanger(GenServer):
    """The same with an event loop."""

    options = {"watchdog": QUICK}  # noqa: RUF012 - never changed

    async def init(self, arg):
        return arg

    async def handle_call(self, request, client, state):
        return Reply(state, state)

    async def handle_cast(self, how, state):
        result = how()
        if asyncio.iscoroutine(result):
            await result
        return NoReply(state)

    async def handle_info(self, message, state):
        self.task = asyncio.create_task(message())
        return NoReply(state)


class Machine(GenStateMachine):
    """Hangs in a state."""

    options = {"watchdog": QUICK}  # noqa: RUF012 - never changed

    def init(self, arg):
        return statem.Ok("idle", None)

    def handle_event(self, event, content, state, data):
        content()


# -- ways --------------------------------------------------------------------------------------------------------------


def spin():
    while True:
        pass


def lock():
    held = threading.Lock()
    held.acquire()
    held.acquire()


def read():
    reader, _writer = os.pipe()
    os.read(reader, 1)


def sleep():
    time.sleep(FOR_EVER)


def holds_the_gil():
    ctypes.PyDLL(None).sleep(int(FOR_EVER))


def computes_in_c():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def computes_with_the_gil():
    collections.deque(itertools.repeat(None), maxlen=0)


class Clinging:
    """What hangs when it is let go of."""

    def __del__(self):
        lock()


def lets_go():
    clinging = Clinging()
    del clinging


def starts_a_thread(state):
    threading.Thread(target=sleep, daemon=True).start()


def with_a_thread():
    threading.Thread(target=sleep, daemon=True).start()
    lock()


async def deep():
    await asyncio.Event().wait()


async def awaits():
    await deep()


async def yields_for_ever():
    while True:  # noqa: ASYNC110 - it is to hang
        await asyncio.sleep(0)


async def task_that_blocks():
    await asyncio.sleep(0)
    time.sleep(FOR_EVER)  # noqa: ASYNC251 - it is to hang


class Unreadable:
    """Hangs whoever decodes it: no callback runs then."""

    def __reduce__(self):
        return time.sleep, (FOR_EVER,)


def ends_never():
    atexit.register(lock)
    raise ValueError("done")


def tell_and_block(pid):
    process.send(pid, ("stopped in", sys._getframe(1).f_code.co_name))
    time.sleep(FOR_EVER)
