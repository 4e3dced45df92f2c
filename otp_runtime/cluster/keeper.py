"""The keeper of an embedded engine: a process that belongs to no node. Runs the server, ends with the last node.

    first node ──spawns──► starter ──forks──► keeper (a session of its own, nobody's child) ──► nats-server
                             └ ends

It sleeps until a node's guard dies, the server dies, or somebody knocks. A server that died is started again at the
same port, so whoever was connected finds it where it was. The server dies with the keeper.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import msgpack

from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.host import kernel
from otp_runtime.host.interpreter import READY_FD

READY_SECONDS = 15.0
STOP_SECONDS = 2.0
AGAIN_SECONDS = (0.05, 2.0)
LONELY_SECONDS = 10.0
"""How long an engine waits for its first node."""

CONFIG = """\
listen: "127.0.0.1:{port}"
server_name: "otp-{cluster}"
ports_file_dir: "ports"
logfile: "nats.log"
max_payload: {max_payload}
max_pending: 256MB
write_deadline: "10s"
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "store", max_memory_store: 64MB, max_file_store: 256MB }}
authorization {{ user: "{user}", password: "{password}" }}
"""
MAX_PAYLOAD = 8 * 1024 * 1024


class Keeper:
    """One engine."""

    def __init__(self, directory: EngineDirectory, binary: str, lock: int) -> None:
        """Keep the server `binary` in `directory`; `lock` is held until the end."""
        self.directory = directory
        self.path = directory.path
        self.binary = binary
        self.lock = lock
        self.user, self.password = "otp", secrets.token_urlsafe(24)
        self.port = -1
        self.server: subprocess.Popen[bytes] | None = None
        self.server_pidfd = -1
        self.guards: dict[kernel.OsProcess, int] = {}
        self.poll = select.poll()
        self.knock = os.open(self.path / "knock", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.poll.register(self.knock, select.POLLIN)
        self.over = False

    # -- the server -------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start the server and wait until it takes connections; raises OSError when it does not."""
        ports = self.path / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(mode=0o700)
        config = self.path / "server.conf"
        fd = os.open(config, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(
                CONFIG.format(
                    port=self.port,
                    cluster=self.directory.cluster,
                    max_payload=MAX_PAYLOAD,
                    user=self.user,
                    password=self.password,
                )
            )
        self.server = subprocess.Popen(
            [self.binary, "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # its files are named from there: a path may hold what its configuration has other uses for
            cwd=self.path,
            preexec_fn=_die_with_keeper,  # noqa: PLW1509 - this process has one thread
        )
        self.server_pidfd = os.pidfd_open(self.server.pid)
        self.poll.register(self.server_pidfd, select.POLLIN)
        url = self._await_port(ports / f"nats-server_{self.server.pid}.ports")
        self.port = int(url.rpartition(":")[2])
        self._tell(url)

    def _await_port(self, path: Path) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
                return str(json.loads(path.read_text(encoding="utf-8"))["nats"][0])
            if kernel.has_ended(self.server_pidfd):
                raise OSError(f"{self.binary} ended: {self._last_words()}")
            time.sleep(0.005)
        raise OSError(f"{self.binary} was not ready within {READY_SECONDS:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.path / "nats.log").read_text(encoding="utf-8", errors="replace").splitlines()
            told = [line for line in lines if "[FTL]" in line or "[ERR]" in line] or lines
            return " ".join(told[-3:])[-500:]
        return "it left no log"

    def _tell(self, url: str) -> None:
        me = kernel.own_process()
        said = {
            "url": url,
            "user": self.user,
            "password": self.password,
            "keeper": [me.pid, me.start],
            "server": self.server.pid if self.server is not None else 0,
        }
        draft = self.path / "engine~"
        fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgpack.packb(said))
        os.rename(draft, self.path / "engine")

    def _restart_server(self) -> None:
        """Start the server again; when its port is taken meanwhile, at another one."""
        pause = AGAIN_SECONDS[0]
        while True:
            self._bury_server()
            try:
                self.start_server()
                return
            except OSError:
                self.port = -1
            self.look()
            if self.over:
                return
            time.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS[1])

    def _bury_server(self) -> None:
        if self.server is not None:
            if self.server_pidfd >= 0:
                self.poll.unregister(self.server_pidfd)
                os.close(self.server_pidfd)
            self.server_pidfd = -1
            self.server.kill()
            self.server.wait()

    # -- the nodes --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See which nodes are there, watch those that are new; when none is left, end."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.knock, 4096)
        if not self._is_ours():
            # somebody removed the directory; who has lost the engine finds the one that is there now, or starts one
            self.over = True
            self._stop_server()
            return
        alive = self._alive()
        for guard, pidfd in list(self.guards.items()):
            if guard not in alive:
                self.poll.unregister(pidfd)
                os.close(pidfd)
                del self.guards[guard]
        if not alive:
            with self.directory.lock():
                if not self._alive():
                    self._end()

    def _alive(self) -> set[kernel.OsProcess]:
        alive = set()
        for guard in self.directory.members().values():
            pidfd = self.guards.get(guard)
            if pidfd is None:
                pidfd = kernel.open_pidfd(guard)
                if pidfd is None:
                    continue
                self.guards[guard] = pidfd
                self.poll.register(pidfd, select.POLLIN)
            if not kernel.has_ended(pidfd):
                alive.add(guard)
        return alive

    def _is_ours(self) -> bool:
        """Say whether the directory is still the one that this keeper has its lock in."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.lock), os.stat(self.path / "keeper"))
        return False

    def _stop_server(self) -> None:
        if self.server is not None:
            self.server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(STOP_SECONDS)
            self._bury_server()

    def _end(self) -> None:
        """Stop the server and remove everything. Called under the lock: nobody joins meanwhile."""
        self.over = True
        self._stop_server()
        grave = self.directory.base / f".gone-{os.getpid()}"
        os.rename(self.path, grave)
        shutil.rmtree(grave, ignore_errors=True)

    def run(self) -> None:
        """Keep it until the last node has ended."""
        deadline: float | None = time.monotonic() + LONELY_SECONDS
        while not self.over:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {fd for fd, _events in self.poll.poll(left)}
            if self.server_pidfd in ready:
                self._restart_server()
            # who takes part is written down before it knocks: when nobody is there then, it came and went
            if deadline is not None and (self.knock in ready or time.monotonic() >= deadline):
                deadline = None
            if deadline is None and not self.over:
                self.look()


def _die_with_keeper() -> None:
    ctypes.CDLL(None).prctl(kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main(argv: list[str]) -> int:
    """Fork the keeper of the engine `argv[1]` below the directory `argv[0]`, with the server `argv[2]`, and end."""
    kernel.close_all_but({READY_FD})
    # whoever waits for the end of the program's output does not wait for this
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)
    if os.fork():
        return 0
    base, cluster, binary = argv
    directory = EngineDirectory(Path(base), cluster)
    status = 1
    try:
        status = _keep(directory, binary)
    finally:
        os._exit(status)


def _keep(directory: EngineDirectory, binary: str) -> int:
    os.chdir(directory.base)
    kernel.set_title("otp:engine")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keeper: Keeper | None = None
    try:
        lock = os.open(directory.path / "keeper", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        keeper = Keeper(directory, binary, lock)
        keeper.start_server()
    except Exception as error:  # noqa: BLE001 - whoever started it waits for a word
        os.write(READY_FD, str(error).encode(errors="replace"))
        if keeper is not None:
            keeper._bury_server()  # noqa: SLF001 - it never became one
        return 1
    os.write(READY_FD, b"ready")
    os.close(READY_FD)
    keeper.run()
    return 0


def run() -> NoReturn:
    """Be the program."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
