"""Calls beside the second floor: the same exchange of frames in C, where a compiler is there."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from otp_runtime import GenServer
from otp_runtime.cli.bench.floor import CALL, REQUEST, frame
from scripts.bench.measures import Measure, Rig, Round, Samples, time_each

SOURCE = Path(__file__).with_name("ping_pong.c")
FRAME_BYTES = len(frame(CALL, 2, 100_000, REQUEST))
_order = struct.Struct("<iiii")


def compiler() -> str | None:
    """Find the C compiler that CC names, or the usual one."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")


def no_compiler() -> str:
    return "" if compiler() else "there is no C compiler (CC, cc, gcc, clang)"


class CPingPong:
    """The compiled program, running; `close` ends it and removes it."""

    def __init__(self) -> None:
        found = compiler()
        assert found is not None
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "ping_pong")
            subprocess.run([found, "-O2", "-o", program, str(SOURCE)], check=True, timeout=60)
            self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def calls(self, count: int, here: int, there: int) -> Samples:
        """Exchange `count` frames between two cores (-1: any); give the microseconds of each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_order.pack(count, FRAME_BYTES, here, there))
        data = b""
        while len(data) < 4 * count:
            chunk = self._process.stdout.read(4 * count - len(data))
            assert chunk, "the C program ended"
            data += chunk
        return [ns / 1000 for (ns,) in struct.iter_unpack("<I", data)]

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


@functools.cache
def _program(rig: Rig) -> CPingPong:
    return rig.keep(contextlib.closing(CPingPong()))


def _calls(rig: Rig, placement: str, floor_placement: str) -> Round:
    count = 100 if rig.quick else 500
    os_pid = rig.echo.os_pid
    assert os_pid is not None
    cores = {"free": (-1, -1), "one": (rig.cpus[-1],) * 2, "own": (rig.cpus[-1], rig.cpus[-2:][0])}[floor_placement]

    def ours() -> Samples:
        rig.place(placement, os_pid)
        return time_each(lambda: GenServer.call(rig.echo, REQUEST), count)

    program = _program(rig)
    try:
        return rig.in_turns(ours, lambda: program.calls(count, *cores))
    finally:
        rig.place("free", os_pid)


MEASURES = (
    Measure(
        "c-one-core",
        "call, both on one core (floor: in C)",
        "us",
        lambda rig: _calls(rig, "one", "one"),
        every=4,
        lacks=no_compiler,
    ),
    Measure(
        "c-own-cores",
        "call, each on its own core (floor: in C)",
        "us",
        lambda rig: _calls(rig, "own", "own"),
        every=4,
        cores=2,
        lacks=no_compiler,
    ),
    Measure(
        "c-free",
        "call, placed freely (floor: in C, own cores)",
        "us",
        lambda rig: _calls(rig, "free", "own"),
        every=4,
        cores=2,
        lacks=no_compiler,
    ),
)
