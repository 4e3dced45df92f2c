"""Servers that use what they are told to use. Importable and light."""

import os
import subprocess
import sys
import time

from otp_runtime import GenServer, GenStateMachine, NoReply, Ok, Reply, process, statem

MB = 1_000_000


def waste(size):
    """Memory that is there: a bytearray alone is a promise."""
    return bytearray(b"x") * size


class Spender(GenServer):
    """A call is a function of it: what that leaves on `self` is leaked, what it returns is the state."""

    def init(self, arg):
        self.hoard = []
        tester, state = arg
        if tester is not None:
            process.send(tester, ("init", os.getpid()))
        return state

    def handle_call(self, request, client, state):
        return request(self, client, state)

    def handle_cast(self, request, state):
        return request(self, state)


class AsyncSpender(Spender):
    """The same, in an event loop."""

    async def handle_info(self, message, state):
        return NoReply(state)


class Grouped(Spender):
    """Lives in a cgroup of its own."""

    def init(self, path):
        with open(f"{path}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        return super().init((None, 0))


class GreedyInit(GenServer):
    """Never gets out of its `init`."""

    def init(self, size):
        hoard = []
        while True:
            hoard.append(waste(size))
            time.sleep(0.001)


class SpendingMachine(GenStateMachine):
    """A state machine of the same kind: its data is a list of what it was given."""

    def init(self, tester):
        process.send(tester, ("init", os.getpid()))
        return statem.Ok("on", [])

    def handle_event(self, event, content, state, data):
        self.hoard = [*getattr(self, "hoard", []), waste(content)]
        return statem.KeepState([*data, content], [statem.Reply(event.client, len(data) + 1)])


class Locked(Spender):
    """Keeps in its state what cannot be sent."""

    def init(self, arg):
        super().init(arg)
        return Ok(sys._getframe())


class leak:  # noqa: N801 - it reads as the function it is
    """Leak so many bytes, and count in the state."""

    def __init__(self, size):
        self.size = size

    def __call__(self, server, client, state):
        server.hoard.append(waste(self.size))
        return Reply(state + 1, state + 1)


class keep:  # noqa: N801
    """Keep so many bytes in the state."""

    def __init__(self, size):
        self.size = size

    def __call__(self, server, client, state):
        return Reply(len(state), bytes(waste(self.size)))


class burn:  # noqa: N801
    """Use a core for so many seconds of its time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, server, client, state):
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            pass
        return Reply(os.getpid(), state)


class open_files:  # noqa: N801
    """Open so many files."""

    def __init__(self, count):
        self.count = count

    def __call__(self, server, client, state):
        server.hoard += map(open, [os.devnull] * self.count)
        return Reply(None, state)


class employ:  # noqa: N801
    """Have a subprocess that uses so many bytes, tell who it is, and wait for its word."""

    def __init__(self, tester, size):
        self.tester = tester
        self.size = size

    def __call__(self, server, client, state):
        code = f"import sys; x = bytearray(b'x') * {self.size}; print('ready', flush=True); sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        server.hoard.append(child)
        process.send(self.tester, ("employed", child.pid))
        assert child.stdout is not None
        child.stdout.readline()
        return Reply(child.pid, state)


class hold:  # noqa: N801
    """As a cast: wait at a gate, so that what comes behind it waits in the mailbox."""

    def __init__(self, gate):
        self.gate = gate

    def __call__(self, server, state):
        self.gate.arrive()
        self.gate.wait()
        return NoReply(state)


class waited:  # noqa: N801
    """As a cast: only count."""

    def __init__(self, ballast=b""):
        self.ballast = ballast

    def __call__(self, server, state):
        return NoReply(state + 1)


def whoami(server, client, state):
    """Say which OS process this is."""
    return Reply(os.getpid(), state)


def value(server, client, state):
    """Say the state."""
    return Reply(state, state)


def creep(server, client, state):
    """Grow, and never come back."""
    while True:
        server.hoard.append(waste(5 * MB))
        time.sleep(0.01)


def eat(server, state):
    """As a cast: use memory until the kernel says stop."""
    while True:
        server.hoard.append(waste(4 * MB))


class limit_cpu:  # noqa: N801
    """Give itself a limit of CPU seconds."""

    def __init__(self, soft, hard):
        self.limits = soft, hard

    def __call__(self, server, client, state):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, self.limits)
        return Reply(None, state)


def spin(server, state):
    """As a cast: never come back."""
    while True:
        pass
