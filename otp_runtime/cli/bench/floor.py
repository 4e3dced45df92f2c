"""The floor: Python processes that do the same work over bare pipes, without the library.

Each is a fresh interpreter that runs this very file, so it holds no pipe of another and ends with its parent.
"""

from __future__ import annotations

import importlib
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
_go = struct.Struct("<Iq")
_nanoseconds = struct.Struct("<I")
_long = struct.Struct("<Q")


def frame(*fields: Any) -> bytes:
    """Make the bytes that the library would write for the same message."""
    payload: bytes = _pack(fields)
    return _header(MAGIC, 0, len(payload) + 4) + payload


class Helper:
    """The parent's end of a floor process."""

    role = ""

    def __init__(self, *arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.role, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.os_pid = self._process.pid
        self._to = self._process.stdin.fileno()
        self._from = self._process.stdout.fileno()

    def close(self) -> None:
        """End it, and wait for that."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


class PingPong(Helper):
    """Answers each request frame with a reply frame."""

    role = "ping-pong"

    def call(self) -> Any:
        """Ask; give what it answers."""
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
    """Forks itself, waits for the child's first byte, kills and reaps it; bare, or with what a supervisor imports."""

    role = "forks"

    def __init__(self, *modules: str) -> None:
        super().__init__(*modules)

    def once(self) -> tuple[float, float]:
        """Give the seconds from fork to first byte, and from kill to reaped."""
        os.write(self._to, b"x")
        fork, reap = _seconds.unpack(os.read(self._from, _seconds.size))
        return fork, reap


def _forks(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)
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


class Large(Helper):
    """Gives back terms of any size, each behind its length."""

    role = "large"

    def call(self, term: Any) -> Any:
        """Send a term; give the one that comes back."""
        _write_large(self._to, _pack(term))
        return unpackb(_read_large(self._from))


def _large() -> None:
    while payload := _read_large(0):
        _write_large(1, _pack(unpackb(payload)))


def _write_large(fd: int, payload: bytes) -> None:
    data = memoryview(_long.pack(len(payload)) + payload)
    while data:
        data = data[os.write(fd, data) :]


def _read_large(fd: int) -> bytes:
    """Read one payload; nothing at the end."""
    first = os.read(fd, READ_SIZE)
    if not first:
        return b""
    (length,) = _long.unpack_from(first)
    if len(first) - _long.size == length:
        return first[_long.size :]
    chunks, missing = [first[_long.size :]], length - len(first) + _long.size
    while missing:
        chunks.append(os.read(fd, min(missing, 1 << 20)))
        missing -= len(chunks[-1])
    return b"".join(chunks)


class FanIn(Helper):
    """So many clients, forked from one server, that all write into its one pipe and read each from its own."""

    role = "fan-in"

    def __init__(self, clients: int) -> None:
        super().__init__(clients)
        self._clients = clients
        self.clients = list(struct.unpack(f"<{clients}i", self._take(4 * clients)))
        """Their process ids."""

    def run(self, count: int, at: int = 0) -> list[float]:
        """Let all clients call `count` times, from `at` on by the clock; give the microseconds of each call."""
        os.write(self._to, _go.pack(count, at))
        size = 4 * self._clients * count
        return [ns / 1000 for (ns,) in _nanoseconds.iter_unpack(self._take(size))]

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self._from, size - len(data))
        return data


def _fan_in(count: str) -> None:
    clients = int(count)
    requests, results = os.pipe(), os.pipe()
    starts: list[int] = []
    replies: list[int] = []
    os_pids = []
    for number in range(clients):
        go, reply = os.pipe(), os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            for fd in (0, 1, go[1], reply[1], *starts, *replies):
                os.close(fd)
            _fan_in_client(number, go[0], requests[1], reply[0], results[1])
            os._exit(0)
        os.close(go[0])
        os.close(reply[0])
        starts.append(go[1])
        replies.append(reply[1])
        os_pids.append(os_pid)
    os.write(1, struct.pack(f"<{clients}i", *os_pids))
    while order := os.read(0, _go.size):
        for start in starts:
            os.write(start, order)
        calls = clients * _go.unpack(order)[0]
        _serve(calls, requests[0], replies)
        while calls:
            chunk = os.read(results[0], READ_SIZE)
            os.write(1, chunk)
            calls -= len(chunk) // 4
    for start in starts:
        os.close(start)
    for os_pid in os_pids:
        os.waitpid(os_pid, 0)


def _serve(calls: int, requests: int, replies: list[int]) -> None:
    rest = b""
    while calls:
        data = rest + os.read(requests, READ_SIZE)
        at, size = 0, len(data)
        while size - at >= 4 and at + (length := _length(data, at)[0]) <= size:
            _kind, caller, serial, request = unpackb(data[at + 4 : at + length])
            os.write(replies[caller], frame(REPLY, serial, VALUE, request))
            at += length
            calls -= 1
        rest = data[at:]


def _fan_in_client(number: int, go: int, requests: int, reply: int, results: int) -> None:
    clock = time.perf_counter_ns
    while order := os.read(go, _go.size):
        samples = []
        count, at = _go.unpack(order)
        time.sleep(max(0, at - clock()) / 1e9)
        for serial in range(count):
            started = clock()
            os.write(requests, frame(CALL, number, serial, serial))
            unpackb(os.read(reply, READ_SIZE)[4:])
            samples.append(clock() - started)
        for first in range(0, len(samples), 512):  # so few are one atomic write
            os.write(results, b"".join(map(_nanoseconds.pack, samples[first : first + 512])))


if __name__ == "__main__":
    roles = (PingPong, _ping_pong), (OneWay, _one_way), (Forks, _forks), (Large, _large), (FanIn, _fan_in)
    {helper.role: run for helper, run in roles}[sys.argv[1]](*sys.argv[2:])
