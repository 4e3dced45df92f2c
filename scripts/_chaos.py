"""What the storms share: options, a private node, counts, violations, the report.

A storm draws every fault from `random.Random(seed)`, so a seed repeats the choice of faults and their order; when
exactly each strikes is up to the machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pickle
import platform
import random
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import otp_runtime as _installed  # noqa: F401
except ModuleNotFoundError:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from otp_runtime import process
from otp_runtime.testing import leaks
from otp_runtime.testing.nodes import private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime import Pid

SHOWN = 20
ASIDE = 0.4
"""Of so many terms the buffer lies beside the term, when it is large."""
SIZES = {1: 30, 30: 30, 300: 30, 3_000: 30, 4_080: 30, 5_000: 30, 20_000: 20, 70_000: 5, 300_000: 1, 600_000: 1}
SIZES |= {1_000_000: 1}


class Storm:
    """One run: what was asked for, what was counted, what was violated."""

    def __init__(self, name: str, description: str, seconds: float) -> None:
        parser = argparse.ArgumentParser(prog=name, description=description)
        parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="repeats a run's faults")
        parser.add_argument("--seconds", type=float, default=seconds, help=f"how long (default {seconds:g})")
        parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
        parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
        self.options = parser.parse_args()
        self.name = name
        self.random = random.Random(self.options.seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.worst: dict[str, float] = {}
        self.violations: list[str] = []
        self.started = time.monotonic()
        self.until = self.started + self.options.seconds
        if self.options.role is None and not self.options.json:
            print(f"{name}: seed {self.options.seed}, {self.options.seconds:g} s, Python {platform.python_version()}")

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def note_worst(self, what: str, value: float) -> None:
        self.worst[what] = max(value, self.worst.get(what, 0.0))

    def violated(self, promise: str) -> None:
        self.violations.append(promise)
        if not self.options.json and len(self.violations) <= SHOWN:
            print(f"  VIOLATED after {time.monotonic() - self.started:.1f} s: {promise}", flush=True)

    def check(self, holds: bool, promise: str) -> bool:
        if not holds:
            self.violated(promise)
        return holds

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """A runtime directory of this run's own, that must be empty at the end, with no process naming it."""
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(_no_files_left(self))
            yield base
            for one in leaks.outlive(leaks.naming(str(base)), 2.0):
                self.violated(f"left behind: {leaks.describe(one)}")

    def nothing_left(self, before: leaks.Census) -> None:
        """No process, zombie or descriptor that was not there before."""
        left = leaks.since(before, wait=2.0)
        self.count("leak checks")
        for one in left:
            self.violated(f"left behind: {one}")

    @contextlib.contextmanager
    def surviving(self) -> Iterator[None]:
        """What ends the storm itself is a violation, and what was counted until then is still told."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.violated(f"the storm itself ended: {error!r}")

    def finish(self) -> int:
        took = time.monotonic() - self.started
        result = {
            "name": self.name,
            "seed": self.options.seed,
            "seconds": round(took, 1),
            "ok": not self.violations,
            "counts": dict(sorted(self.counts.items())),
            "worst": {key: round(value, 4) for key, value in sorted(self.worst.items())},
            "violations": self.violations[:SHOWN],
            "violations_in_all": len(self.violations),
        }
        if self.options.json:
            print(json.dumps(result), flush=True)
        else:
            self._print(took)
        return 1 if self.violations else 0

    def _print(self, took: float) -> None:
        for what, number in sorted(self.counts.items()):
            print(f"  {number:>9,}  {what}")
        for what, value in sorted(self.worst.items()):
            print(f"  {value:>9.3f}  {what}, at worst (s)")
        verdict = "every promise held" if not self.violations else f"{len(self.violations)} violation(s)"
        print(f"{self.name}: {verdict}, {took:.1f} s, --seed {self.options.seed}", flush=True)


@contextlib.contextmanager
def _no_files_left(storm: Storm) -> Iterator[Path]:
    try:
        with private_directory() as base:
            yield base
    except AssertionError as error:
        storm.violated(str(error))


def payload_of(random_: random.Random, size: int) -> bytes:
    """Bytes that nobody mistakes for others', and quickly made."""
    block = random_.randbytes(min(size, 4096))
    return (block * (size // len(block) + 1))[:size] if size else b""


class Aside:
    """Puts its buffer aside when it is pickled, as arrays do."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Aside, (pickle.PickleBuffer(self.data),)

    def __len__(self) -> int:
        return len(self.data)


def checksum(data: bytes | Aside) -> int:
    return zlib.crc32(data.data if isinstance(data, Aside) else data)


def lines_to(fd: int, thing: object) -> None:
    """Write one JSON line to a pipe that another program reads."""
    os.write(fd, json.dumps(thing).encode() + b"\n")


def write_for_ever(receiver: Pid, number: int, seed: int, ready: int = -1) -> None:
    """Be a writer: say hello, then send numbered terms with checksums until killed.

    Here, where the new process can import it: one that has to be shipped by value starts later.
    """
    random_ = random.Random(seed)
    if ready >= 0:
        process.self()  # a process of the node from here on
        os.write(ready, b"x")
    process.send(receiver, ("hello", number), None)
    sequence = 0
    while True:
        (size,) = random_.choices(list(SIZES), list(SIZES.values()))
        data = payload_of(random_, size + random_.randrange(3))
        check = checksum(data)
        if random_.random() < ASIDE:
            own = bytearray(data)
            process.send(receiver, ("term", number, sequence, check, Aside(own)), None)
            own[:] = bytes(len(own))  # what was sent is not seen to change
        else:
            process.send(receiver, ("term", number, sequence, check, data), None)
        sequence += 1
