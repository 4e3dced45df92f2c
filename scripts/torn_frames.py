"""Writers killed in mid-send, thousands of rounds: no torn term arrives, no order is broken, nobody hangs.

Several writers at once send terms of 1 byte to 1 MB, numbered and with checksums, to one receiver (this program)
as fast as it takes them; each is killed with SIGKILL after a random moment and followed by another. Some are
processes of the node, some are forks of an attached program, which become processes of the node by their first send.

Promises checked: every term that arrives is whole (checksum) and what its writer sent; each writer's terms arrive in
order, none twice and none left out before the last; the receiver never waits in vain while a writer sends; what
killed writers left unfinished is dropped, large terms' segments and boxes included; then nothing at all is left. What
is read where it lies is still what it was when twenty more terms have come, whatever its writer did to its own.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import random
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _chaos import Aside, Storm, checksum, write_for_ever

from otp_runtime import Down, Node, Pid, Signalled, attach, process
from otp_runtime.testing import leaks

SPAWNED = 3
FORKED = 2
SILENCE_SECONDS = 10.0
LONGEST_START_SECONDS = 0.1
MEAN_LIFE_SECONDS = 0.004
HELD = 20


def fork_writers(receiver: Pid, seed: int) -> None:
    """Be an attached program: fork writers and kill them until the standard input ends; print how many."""
    random_ = random.Random(seed)
    number = 0
    living: list[Forked] = []
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    ready: set[int] = set()
    while sys.stdin.fileno() not in ready:
        while len(living) < FORKED:
            number -= 1
            living.append(Forked(receiver, number, random_))
            poll.register(living[-1].fd, select.POLLIN)
        soonest = min(writer.dies_at for writer in living)
        ready = {fd for fd, _ in poll.poll(max(0.0, soonest - time.monotonic()) * 1000)}
        for writer in list(living):
            if writer.fd in ready:
                poll.unregister(writer.fd)
                writer.dies_at = time.monotonic() + writer.life
            if writer.dies_at <= time.monotonic():
                with contextlib.suppress(KeyError):
                    poll.unregister(writer.fd)
                living.remove(writer)
                writer.end()
    for writer in living:
        writer.end()
    print(-number, flush=True)


class Forked:
    """A fork of the attached program; its end of a pipe tells when it begins to send."""

    def __init__(self, receiver: Pid, number: int, random_: random.Random) -> None:
        seed = random_.randrange(1 << 32)
        self.life = random_.expovariate(1 / MEAN_LIFE_SECONDS)
        self.fd, ready = os.pipe()
        self.dies_at = time.monotonic() + LONGEST_START_SECONDS
        self.os_pid = os.fork()
        if self.os_pid == 0:
            try:
                write_for_ever(receiver, number, seed, ready)
            finally:
                os._exit(1)
        os.close(ready)

    def end(self) -> None:
        os.kill(self.os_pid, signal.SIGKILL)
        os.waitpid(self.os_pid, 0)
        os.close(self.fd)


@dataclass
class Writer:
    """A writer as the receiver sees it; those of the attached program have negative numbers."""

    said_hello: bool = False
    next: int = 0
    pid: Pid | None = None
    os_pid: int | None = None
    dies_at: float = 0.0
    life: float = 0.0


class Receiver:
    """The program: receives, checks, kills the writers it spawned and spawns the next."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.random = storm.random
        self.me = process.self()
        self.number = 0
        self.writers: collections.defaultdict[int, Writer] = collections.defaultdict(Writer)
        self.living: dict[int, Writer] = {}
        self.by_ref: dict[Any, int] = {}
        self.heard = time.monotonic()
        self.held: collections.deque[tuple[int, bytes | Aside]] = collections.deque()

    def run(self) -> None:
        while self.storm.left > 0 and self.is_alive():
            while len(self.living) < SPAWNED:
                self.start()
            self.turn()
        for number in list(self.living):
            self.kill(number)

    def turn(self) -> None:
        soonest = min(writer.dies_at for writer in self.living.values())
        with contextlib.suppress(TimeoutError):
            self.take(process.receive(None, max(0.0, soonest - time.monotonic())))
        for number in [one for one, writer in self.living.items() if writer.dies_at <= time.monotonic()]:
            self.kill(number)

    def is_alive(self) -> bool:
        silence = time.monotonic() - self.heard
        self.storm.note_worst("silence while writers send", silence)
        return self.storm.check(silence < SILENCE_SECONDS, f"nothing arrived for {silence:.1f} s: a hang")

    def start(self) -> None:
        self.number += 1
        writer = self.living[self.number] = self.writers[self.number]
        seed = self.random.randrange(1 << 32)
        began = time.monotonic()
        writer.pid, ref = process.spawn_monitor(write_for_ever, self.me, self.number, seed)
        self.storm.note_worst("start of a writer under this flood", time.monotonic() - began)
        writer.os_pid = writer.pid.os_pid
        writer.dies_at = time.monotonic() + LONGEST_START_SECONDS
        writer.life = self.random.expovariate(1 / MEAN_LIFE_SECONDS)
        self.by_ref[ref] = self.number

    def kill(self, number: int) -> None:
        writer = self.living.pop(number)
        if self.storm.check(writer.os_pid is not None, f"writer {number} ended unasked"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(writer.os_pid, signal.SIGKILL)
        self.storm.count("rounds: spawned writers killed")

    def take(self, message: Any) -> None:
        self.heard = time.monotonic()
        match message:
            case ("hello", number):
                self.writers[number].said_hello = True
                self.writers[number].dies_at = time.monotonic() + self.writers[number].life
                self.storm.count("writers that got to write")
            case ("term", number, sequence, check, data):
                self.term(number, sequence, check, data)
            case Down(ref=ref, reason=reason):
                self.down(self.by_ref.pop(ref), reason)
            case _:
                self.storm.violated(f"a message that nobody sent: {message!r:.200}")

    def term(self, number: int, sequence: int, check: int, data: bytes | Aside) -> None:
        self.storm.count("terms checked")
        self.storm.count("bytes checked", len(data))
        self.storm.check(checksum(data) == check, f"term {sequence} of writer {number} is torn ({len(data)} bytes)")
        self.look_again()
        self.held.append((check, data))
        writer = self.writers[number]
        self.storm.check(writer.said_hello, f"term {sequence} of writer {number} came before its hello")
        expected = writer.next
        self.storm.check(sequence == expected, f"writer {number}: term {sequence} came, {expected} was next")
        writer.next = sequence + 1

    def look_again(self) -> None:
        """See that what came a while ago is still what it was, now that more has come in after it."""
        if len(self.held) < HELD:
            return
        check, data = self.held.popleft()
        self.storm.check(checksum(data) == check, f"a term of {len(data)} bytes has changed since it came")
        if isinstance(data, Aside):
            self.storm.count("buffers read where they lie" if type(data.data) is memoryview else "buffers copied")

    def down(self, number: int, reason: Any) -> None:
        self.storm.count("deaths told")
        self.storm.check(reason == Signalled("SIGKILL"), f"writer {number} died of {reason!r}")
        self.storm.check(number not in self.living, f"writer {number} ended unasked: {reason!r}")

    def drain(self) -> None:
        """Take what is still under way: it ends, as all writers are dead; and see that it is all there is."""
        deadline = time.monotonic() + SILENCE_SECONDS
        while self.by_ref and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                self.take(process.receive(None, 0.2))
        self.storm.check(not self.by_ref, f"{len(self.by_ref)} deaths were never told")
        with contextlib.suppress(TimeoutError):
            while True:
                self.take(process.receive(None, 0.3))
        (node,) = Path(os.environ["OTP_RUNTIME_DIR"]).iterdir()
        left = sorted(path.name for path in (node / "seg").iterdir())
        self.storm.check(not left, f"{len(left)} segment(s) of dead writers are left: {left[:5]}")


def run(storm: Storm) -> None:
    process.register(process.self(), "receiver")
    receiver = Receiver(storm)
    command = [sys.executable, __file__, "--role", "farm", "--seed", str(storm.options.seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as farm:
        try:
            receiver.run()
        finally:
            said, _ = farm.communicate("")
    if storm.check(said.strip().isdecimal(), f"the attached program died with status {farm.returncode}"):
        storm.count("rounds: forked writers of an attached program killed", int(said))
    receiver.drain()


def main() -> int:
    storm = Storm("torn_frames", __doc__.splitlines()[0], 10.0)
    logging.getLogger("otp_runtime").propagate = False
    logging.getLogger("otp_runtime").addHandler(logging.NullHandler())
    if storm.options.role is not None:
        attach()
        fork_writers(process.whereis("receiver"), storm.options.seed)
        return 0
    before = leaks.take()
    with storm.directory():
        with storm.surviving(), Node.start("torn"):
            run(storm)
        storm.nothing_left(before)
    return storm.finish()


if __name__ == "__main__":
    sys.exit(main())
