"""Servers whose mailbox outlives them. A cast or a message is noted with the tester, or a function of the server."""

import os
import resource
import signal

from otp_runtime import GenServer, NoReply, Reply, ServerDown, process, telemetry


def kill_me():
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def do(server, message, state):
    """Obey, or tell the tester, whose pid is the state, what was handled."""
    if callable(message):
        message(server)
    else:
        process.send(state, ("handled", message if len(repr(message)) < 1000 else len(message)))
    return NoReply(state)


class Mailer(GenServer):
    """Its state is the pid of the tester."""

    mailbox = "durable"

    def handle_cast(self, request, state):
        return do(self, request, state)

    def handle_info(self, message, state):
        return do(self, message, state)

    def handle_call(self, request, client, state):
        do(self, request, state)
        return Reply(("answer", request if not callable(request) else None), state)


class AsyncMailer(GenServer):
    """As Mailer, with callbacks that await."""

    mailbox = "durable"

    async def handle_cast(self, request, state):
        return do(self, request, state)

    async def handle_call(self, request, client, state):
        do(self, request, state)
        return Reply(("answer", request), state)


class Counter(GenServer):
    """Keeps its state as well: a pair of the tester and a count."""

    mailbox = "durable"
    restore = "last_good"

    def handle_cast(self, request, state):
        return request(self, state)

    def handle_call(self, request, client, state):
        return request(self, state) if callable(request) else Reply(state[1], state)


class AsyncCounter(Counter):
    """As Counter, with callbacks that await."""

    async def handle_cast(self, request, state):
        return request(self, state)


class Deadly:
    """What kills the process that encodes it, as an answer for example."""

    def __reduce__(self):
        kill_me()
        return (int, ())


def add_deadly(server, state):
    """Count one, with an answer that kills."""
    return Reply(Deadly(), (state[0], state[1] + 1))


def ask(name, request, tester, **options):
    """Call, and tell the tester what came."""
    try:
        process.send(tester, ("told", GenServer.call(name, request, 10.0, **options)))
    except ServerDown as error:
        process.send(tester, ("told", error.reason))


class DeadlyToRead:
    """What kills the process that decodes it."""

    def __reduce__(self):
        return (kill_me, ())


class Watched(Mailer):
    """Tells the tester of its telemetry."""

    def init(self, tester):
        telemetry.attach("letter", lambda event, facts: process.send(tester, (event, facts["deaths"], facts["reason"])))
        telemetry.attach("mailbox", lambda event, facts: process.send(tester, (event, facts["count"])))
        return tester


class Late(Mailer):
    """Its start waits at a gate, before it has its name; its init at another one."""

    @classmethod
    def start_link(cls, arg, **options):
        before, _within, _tester = arg
        if before is not None:
            before.wait()
        return super().start_link(arg, **options)

    def init(self, arg):
        _before, within, tester = arg
        if within is not None:
            within.wait()
        return tester


class Cramped(Mailer):
    """May write no file beyond so many bytes: its log is soon full."""

    def init(self, tester):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 8192, resource.RLIM_INFINITY))
        return tester
