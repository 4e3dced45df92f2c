"""A second program, under the test's command: `Peer(name).call(fun, *args)` runs a function there.

Functions and values travel by dill over two pipes that nothing else uses, so what the function prints disturbs
nothing. The program ends when its pipe does: with `close`, or with the test's process.
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self

import dill

from otp_runtime.host import interpreter
from otp_runtime.process.node import Node
from otp_runtime.process.shipping import is_importable

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = struct.Struct("<Q")
READY_SECONDS = 20.0
END_SECONDS = 10.0


class Peer:
    """A program named `name`: one more process of this program's node, or with `cluster` a node of its own.

    A context manager; leaving the block ends the program and waits for it.
    """

    def __init__(self, name: str, *, cluster: str | None = None, within: Sequence[str] = (), **options: Any) -> None:
        """Start it and wait until it takes part in its node. `options`: what else `Node.start` takes.

        `within`: a command in front of the program's, such as `("ip", "netns", "exec", "lab")`; it has to become the
        program, and to leave it its descriptors.
        """
        self.name = name
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", "otp_runtime.testing.peer_program", str(requests), str(replies), name],
            pass_fds=(requests, replies),
            stdin=subprocess.DEVNULL,
            env=interpreter.environment(),
        )
        os.close(requests)
        os.close(replies)
        node = None if cluster is not None else Node.self()
        try:
            self._ask((sys.path, node, {"cluster": cluster, **options}), READY_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def os_pid(self) -> int:
        """The number of its OS process."""
        return self._process.pid

    def call(self, fun: Any, *args: Any, timeout: float = 30.0) -> Any:
        """Run `fun(*args)` in the program's main thread and give what it returns; what it raises is raised here.

        `fun` may be a lambda or a closure. Raises ChildProcessError when the program ended, TimeoutError after
        `timeout` seconds (the function may still be running).
        """
        return self._ask((fun, args), timeout)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send the program a signal, by default the one that nothing can catch, and wait for its end."""
        self._process.send_signal(signum)
        self._process.wait(END_SECONDS)

    def close(self) -> None:
        """Let the program end as programs do, and wait for it; one that does not is killed."""
        for fd in (self._requests, self._replies):
            if fd >= 0:
                os.close(fd)
        self._requests = self._replies = -1
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _ask(self, request: Any, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        try:
            write_frame(self._requests, dump(request))
            how, value = load(read_frame(self._replies, deadline))
        except (BrokenPipeError, EOFError):
            status = self._process.wait(END_SECONDS)
            msg = f"the program {self.name} ended with status {status}"
            raise ChildProcessError(msg) from None
        if how == "raise":
            raise value
        return value


# -- what travels ------------------------------------------------------------------------------------------------------


class _Plain(pickle.Pickler):
    """Refuses what another program cannot import: that goes by value."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and not is_importable(obj):
            raise pickle.PicklingError
        return NotImplemented


def dump(thing: Any) -> bytes:
    """Pickle anything, functions and classes that cannot be imported by value."""
    file = io.BytesIO()
    try:
        _Plain(file).dump(thing)
    except Exception:  # noqa: BLE001 - whatever the plain one cannot do, dill may
        return bytes(dill.dumps(thing, recurse=True))
    return file.getvalue()


def load(data: bytes) -> Any:
    """Unpickle what `dump` gave, in another program of the same test."""
    return dill.loads(data)  # noqa: S301 - pipes that only the two of them have


# -- frames ------------------------------------------------------------------------------------------------------------


def write_frame(fd: int, data: bytes) -> None:
    """Write a length and as many bytes."""
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def read_frame(fd: int, deadline: float | None = None) -> bytes:
    """Read what `write_frame` wrote; raises EOFError at the end, TimeoutError at `deadline`."""
    (length,) = _LENGTH.unpack(_read(fd, _LENGTH.size, deadline))
    return _read(fd, length, deadline)


def _read(fd: int, size: int, deadline: float | None) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    found = bytearray()
    while len(found) < size:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            msg = "the program did not answer in time"
            raise TimeoutError(msg)
        chunk = os.read(fd, size - len(found))
        if not chunk:
            raise EOFError
        found += chunk
    return bytes(found)
