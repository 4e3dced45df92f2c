"""A tree of 30 servers under every fault there is, while threads and programs call them.

    storm (one_for_one)
    ├── alone    (one_for_one)   10 servers
    ├── together (one_for_all)   10 servers
    └── in_row   (rest_for_one)  10 servers

Faults: exceptions in calls and casts, os._exit, SIGSEGV from inside; SIGKILL, SIGSTOP and SIGCONT from outside, also
of supervisors; floods of casts; children stopped and restarted by request, stopped by SIGSTOP at that.

Promises checked: every call ends in a reply or a CallError within its timeout (and SLACK for a busy machine); every
reply is the one to its own request; a name whose process is being restarted is waited for; no attached program dies;
every name is back at the end and answers; then no process, no zombie, no file and no descriptor is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from _chaos import Storm, checksum, payload_of

from otp_runtime import (
    CallError,
    ChildSpec,
    Client,
    GenServer,
    MailboxFull,
    Node,
    NoProcess,
    NoReply,
    OtpError,
    Reply,
    Supervisor,
    attach,
    process,
)
from otp_runtime.testing import leaks

if TYPE_CHECKING:
    from collections.abc import Callable

STRATEGIES = {"alone": "one_for_one", "together": "one_for_all", "in_row": "rest_for_one"}
SPARES = {"alone": 1, "together": 0, "in_row": 2}
NAMES = [f"{group}{number}" for group in STRATEGIES for number in range(10)]
STOPPED_BY_REQUEST = "alone"  # only there may a name be nobody's: elsewhere a supervisor is bringing it back
FOR_EVER = {"max_restarts": 1_000_000, "max_seconds": 5}
TIMEOUTS = (0.05, 0.3, 1.0, 3.0)
SIZES = (0, 10, 100, 3_000, 5_000, 70_000, 600_000)
SLACK = 1.5
BACK_SECONDS = 20.0
THREADS = 3
PROGRAMS = 2


class Misfortune(Exception):
    pass


class Echo(GenServer):
    """Replies what it was asked, and dies as it is told."""

    def handle_call(self, request: Any, client: Client, state: Any) -> Reply | NoReply:
        match request:
            case ("echo", token, data):
                return Reply((token, checksum(data), data), state)
            case ("later", token):
                GenServer.reply(client, ("later", token))
                return NoReply(state)
            case ("die", how):
                die(how)
        raise Misfortune(request)

    def handle_cast(self, request: Any, state: Any) -> NoReply:
        match request:
            case ("die", how):
                die(how)
        return NoReply(state)


def die(how: str) -> None:
    match how:
        case "raise":
            raise Misfortune("of the storm")
        case "exit":
            os._exit(3)
        case "segv":
            ctypes.string_at(0)
        case "sys.exit":
            sys.exit(0)


# -- callers -----------------------------------------------------------------------------------------------------------


class Caller:
    """Calls random servers and checks what comes of it; runs in a thread or in a program of its own."""

    def __init__(self, storm: Storm, seed: int, done: Callable[[], bool]) -> None:
        self.storm = storm
        self.random = random.Random(seed)
        self.seed = seed
        self.done = done

    def run(self) -> None:
        number = 0
        try:
            while not self.done():
                number += 1
                self.call_once((self.seed, number))
        except BaseException as error:  # a caller that ends is a finding, whatever it is
            self.storm.violated(f"caller {self.seed} ended: {error!r}")
            raise

    def call_once(self, token: tuple[int, int]) -> None:
        name, timeout = self.random.choice(NAMES), self.random.choice(TIMEOUTS)
        if self.random.random() < 0.2:
            request, expected = ("later", token), ("later", token)
        else:
            weights = (20, 20, 20, 20, 10, 5, 1)
            data = payload_of(self.random, self.random.choices(SIZES, weights)[0])
            request, expected = ("echo", token, data), (token, checksum(data), data)
        began = time.monotonic()
        try:
            reply = GenServer.call(name, request, timeout)
        except CallError as error:
            self.storm.count(f"calls that ended in {type(error).__name__}")
            if isinstance(error, NoProcess) and not name.startswith(STOPPED_BY_REQUEST):
                self.storm.violated(f"call of {name}, which is being restarted: {error}")
        except Exception as error:  # noqa: BLE001 - the promise is a CallError
            self.storm.violated(f"call of {name} raised {error!r}")
        else:
            self.storm.count("calls that ended in a reply")
            if reply != expected:
                self.storm.violated(f"call {token} of {name} got the reply {reply!r:.200}")
        over = time.monotonic() - began - timeout
        self.storm.note_worst("call beyond its timeout", over)
        if over > SLACK:
            self.storm.violated(f"call of {name} with timeout {timeout} took {over + timeout:.2f} s")


def be_a_program(storm: Storm, seed: int) -> None:
    """A second program of the node: calls until its standard input ends, then prints what it counted."""
    attach()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    Caller(storm, seed, ended.is_set).run()
    print(json.dumps([dict(storm.counts), storm.worst, storm.violations]), flush=True)


def start_program(storm: Storm, number: int) -> subprocess.Popen:
    seed = storm.options.seed + 1000 + number
    return subprocess.Popen(
        [sys.executable, __file__, "--json", "--role", "caller", str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def collect(storm: Storm, program: subprocess.Popen) -> None:
    try:
        said, _ = program.communicate(timeout=max(TIMEOUTS) + SLACK + 10.0)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        storm.violated("an attached program does not end: a call of it hangs")
        return
    if not said:
        storm.violated(f"an attached program died with status {program.returncode}")
        return
    counts, worst, violations = json.loads(said)
    for what, number in counts.items():
        storm.count(what, number)
    for what, value in worst.items():
        storm.note_worst(what, value)
    for one in violations:
        storm.violated(f"in an attached program: {one}")


# -- faults ------------------------------------------------------------------------------------------------------------


class Faults:
    """Draws a fault and commits it; what is stopped by SIGSTOP goes on some faults later."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.random = storm.random
        self.frozen: list[int] = []

    def next(self) -> None:
        kinds = {
            self.call: 6,
            self.cast: 6,
            self.sigkill: 8,
            self.freeze: 4,
            self.flood: 3,
            self.restart: 2,
            self.restart_frozen: 1,
            self.sigkill_supervisor: 1,
        }
        (fault,) = self.random.choices(list(kinds), list(kinds.values()))
        wants_thaw = self.random.random() < 0.5  # drawn always: what follows must not depend on timing
        if len(self.frozen) > 2 or (self.frozen and wants_thaw):
            self.thaw()
        self.storm.count(f"faults: {fault.__name__}")
        fault()

    def signal(self, name: str, signum: int) -> int | None:
        pid = process.whereis(name)
        os_pid = None if pid is None else pid.os_pid
        if os_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(os_pid, signum)
        return os_pid

    def how(self) -> str:
        return self.random.choice(["raise", "exit", "segv", "sys.exit"])

    def call(self) -> None:
        name, how = self.random.choice(NAMES), self.how()
        with contextlib.suppress(CallError):
            GenServer.call(name, ("die", how), 0.2)

    def cast(self) -> None:
        name, how = self.random.choice(NAMES), self.how()
        with contextlib.suppress(MailboxFull):
            GenServer.cast(name, ("die", how), 0.05)

    def sigkill(self) -> None:
        self.signal(self.random.choice(NAMES), signal.SIGKILL)

    def sigkill_supervisor(self) -> None:
        self.signal(self.random.choice(list(STRATEGIES)), signal.SIGKILL)

    def freeze(self) -> None:
        os_pid = self.signal(self.random.choice(NAMES), signal.SIGSTOP)
        if os_pid:
            self.frozen.append(os_pid)

    def thaw(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.frozen.pop(0), signal.SIGCONT)

    def flood(self) -> None:
        name, data = self.random.choice(NAMES), payload_of(self.random, self.random.choice((10, 1000)))
        with contextlib.suppress(MailboxFull):
            for _ in range(1000):
                GenServer.cast(name, ("flood", data), 0.1)
                self.storm.count("casts in floods")

    def restart(self) -> None:
        group, name = self.pick()
        with contextlib.suppress(OtpError):
            Supervisor.terminate_child(group, name)
        with contextlib.suppress(OtpError):
            Supervisor.restart_child(group, name)

    def restart_frozen(self) -> None:
        group, name = self.pick()
        self.signal(name, signal.SIGSTOP)
        with contextlib.suppress(OtpError):
            Supervisor.terminate_child(group, name)
        with contextlib.suppress(OtpError):
            Supervisor.restart_child(group, name)

    def pick(self) -> tuple[str, str]:
        name = self.random.choice([name for name in NAMES if name.startswith(STOPPED_BY_REQUEST)])
        return STOPPED_BY_REQUEST, name


def tree() -> list[ChildSpec]:
    return [
        Supervisor.child_spec(
            [Echo.child_spec(name=f"{group}{number}", shutdown=0.5, spare=SPARES[group]) for number in range(10)],
            strategy=strategy,
            name=group,
            **FOR_EVER,
        )
        for group, strategy in STRATEGIES.items()
    ]


def all_back(storm: Storm) -> None:
    """Every child that a lost `restart_child` left stopped is started; then every name has to answer."""
    deadline = time.monotonic() + BACK_SECONDS
    for name in NAMES:
        group = name.rstrip("0123456789")
        with contextlib.suppress(OtpError):
            Supervisor.restart_child(group, name)
        answer = None
        while answer is None and time.monotonic() < deadline:
            with contextlib.suppress(CallError):
                answer = GenServer.call(name, ("later", name), 1.0)
        if storm.check(answer == ("later", name), f"{name} is not back {BACK_SECONDS:g} s after the last fault"):
            storm.count("names back")


def run(storm: Storm) -> None:
    faults = Faults(storm)
    over = threading.Event()
    threads = []
    with Supervisor.start_link(tree(), strategy="one_for_one", name="storm", **FOR_EVER):
        programs = [start_program(storm, number) for number in range(PROGRAMS)]
        for number in range(THREADS):
            caller = Caller(storm, storm.options.seed + number, over.is_set)
            threads.append(threading.Thread(target=caller.run, name=f"caller {number}"))
            threads[-1].start()
        try:
            while storm.left > 0:
                faults.next()
                # a pause of its own random length: a message that nobody sends is waited for
                with contextlib.suppress(TimeoutError):
                    process.receive("never", storm.random.expovariate(100.0))
            while faults.frozen:
                faults.thaw()
        finally:
            over.set()
            for thread in threads:
                thread.join(max(TIMEOUTS) + SLACK + 10.0)
                storm.check(not thread.is_alive(), f"{thread.name} does not end: a call of it hangs")
            for program in programs:
                collect(storm, program)
        all_back(storm)


def main() -> int:
    storm = Storm("crash_storm", __doc__.splitlines()[0], 10.0)
    logging.getLogger("otp_runtime").addHandler(logging.NullHandler())
    logging.getLogger("otp_runtime").propagate = False
    if storm.options.role is not None:
        be_a_program(storm, int(storm.options.role[1]))
        return 0
    before = leaks.take()
    with storm.directory():
        with storm.surviving(), Node.start("storm"):
            run(storm)
        storm.nothing_left(before)
    return storm.finish()


if __name__ == "__main__":
    sys.exit(main())
