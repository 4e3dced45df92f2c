"""The floor: Python processes that do the same work over bare pipes, without the library.

Each is a fresh interpreter that runs this very file, so it holds no pipe of another and ends with its parent.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from typing import Any

from msgpack import Packer, unpackb

CAST, CALL, REPLY = 1, 2, 3
VALUE = 0
MAGIC = 0xC1
READ_SIZE = 65536
DONE = "done"
REQUEST = ["get", 42]
"""Plain msgpack, so that both sides send the same bytes and neither pays for a type of its own."""

_pack = Packer().pack
_header = struct.Struct("<BBH").pack
_length = struct.Struct("<xxH").unpack_from
_seconds = struct.Struct("<dd")


def frame(*fields: Any) -> bytes:
    """Make the bytes that the library would write for the same message."""
    payload = _pack(fields)
    return _header(MAGIC, 0, len(payload) + 4) + payload


class Helper:
    """The parent's end of a floor process."""

    role = ""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.role], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.os_pid = self._process.pid
        self._to = self._process.stdin.fileno()
        self._from = self._process.stdout.fileno()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


class PingPong(Helper):
    """Answers each request frame with a reply frame."""

    role = "ping-pong"

    def call(self) -> Any:
        os.write(self._to, frame(CALL, 2, 100_000, REQUEST))
        _kind, _serial, _how, value = unpackb(os.read(self._from, READ_SIZE)[4:])
        return value


def _ping_pong() -> None:
    while chunk := os.read(0, READ_SIZE):
        _kind, _caller, serial, request = unpackb(chunk[4:])
        os.write(1, frame(REPLY, serial, VALUE, request))


class OneWay(Helper):
    """Counts frames that come one after the other, each by a write of its own."""

    role = "one-way"

    def rate(self, count: int) -> float:
        """Give frames a second, from the first write until the last frame was decoded."""
        fd = self._to
        started = time.perf_counter()
        for number in range(count):
            os.write(fd, frame(CAST, number))
        os.write(fd, frame(CAST, DONE))
        counted = unpackb(os.read(self._from, READ_SIZE)[4:])[0]
        elapsed = time.perf_counter() - started
        assert counted == count
        return count / elapsed


def _one_way() -> None:
    count = 0
    rest = b""
    while chunk := os.read(0, READ_SIZE):
        data = rest + chunk if rest else chunk
        at, size = 0, len(data)
        while size - at >= 4 and at + (length := _length(data, at)[0]) <= size:
            _kind, request = unpackb(data[at + 4 : at + length])
            at += length
            if request == DONE:
                os.write(1, frame(count))
                count = 0
            else:
                count += 1
        rest = data[at:]


class Forks(Helper):
    """Forks itself, waits for the child's first byte, kills and reaps it."""

    role = "forks"

    def once(self) -> tuple[float, float]:
        """Give the seconds from fork to first byte, and from kill to reaped."""
        os.write(self._to, b"x")
        fork, reap = _seconds.unpack(os.read(self._from, _seconds.size))
        return fork, reap


def _forks() -> None:
    while os.read(0, 1):
        read_end, write_end = os.pipe()
        started = time.perf_counter()
        os_pid = os.fork()
        if os_pid == 0:
            os.write(write_end, b"x")
            while True:
                signal.pause()
        os.read(read_end, 1)
        forked = time.perf_counter()
        os.kill(os_pid, signal.SIGKILL)
        os.waitpid(os_pid, 0)
        reaped = time.perf_counter()
        os.close(read_end)
        os.close(write_end)
        os.write(1, _seconds.pack(forked - started, reaped - forked))


if __name__ == "__main__":
    {PingPong.role: _ping_pong, OneWay.role: _one_way, Forks.role: _forks}[sys.argv[1]]()
