"""A program in a terminal: what reaches its node, and what does not."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from otp_runtime.testing import leaks
from otp_runtime.testing.nodes import END_SECONDS, private_directory

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10.0

PROGRAM = """
import os, signal, sys
from otp_runtime import Agent, GenServer
from tests.process.in_terminal import Careful, ids, opens_terminal

server = Careful.start_link(sys.argv[1])
stopped = Agent.start_link(int)
print("node", *ids(), *GenServer.call(server, ids), opens_terminal(), GenServer.call(server, opens_terminal))
sys.stdout.flush()
try:
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", GenServer.call(server, os.getpid) == server.os_pid, flush=True)
os.kill(stopped.os_pid, signal.SIGSTOP)
print("stopped", flush=True)
signal.pause()
"""


def _enter_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Shown:
    """A program in the foreground of a terminal of its own."""

    def __init__(self, end):
        self.fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(end)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=_enter_terminal,  # noqa: PLW1509 - no thread here
        )
        os.close(theirs)
        self.seen = b""

    def read_until(self, word):
        """Give the words that were written behind `word` in its line."""
        while not (found := self.seen.partition(word)[2].partition(b"\n"))[1]:
            self.seen += _read(self.fd)
        return found[0].decode().split()


def _read(fd):
    assert select.select([fd], [], [], SECONDS)[0]
    return os.read(fd, 4096)


@pytest.fixture
def end(tmp_path):
    """A pipe with a name, into which the program's server writes how it ended."""
    os.mkfifo(tmp_path / "end")
    fd = os.open(tmp_path / "end", os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def shown(end, tmp_path):
    """A program of a node in a terminal."""
    with private_directory() as base:
        program = Shown(tmp_path / "end")
        yield program
        program.process.kill()
        program.process.wait()
        os.close(program.fd)
        assert leaks.outlive(leaks.naming(str(base)), END_SECONDS) == []


class TestInATerminal:
    def test_its_processes(self, shown):
        """They are of the program's session and not of its group, and have no terminal."""
        session, group, server_session, server_group, opens, server_opens = shown.read_until(b"node ")
        assert session == server_session
        assert group != server_group
        assert (opens, server_opens) == ("True", "False")

    def test_ctrl_c(self, shown):
        """Reaches the program alone."""
        shown.read_until(b"node ")
        os.write(shown.fd, b"\x03")
        assert shown.read_until(b"interrupted ") == ["True"]

    def test_the_program_dies_while_a_server_is_stopped(self, shown, end):
        """The others end in order: nothing hangs up on them, as it does on a group that is left alone."""
        shown.read_until(b"node ")
        os.write(shown.fd, b"\x03")
        shown.read_until(b"stopped")
        shown.process.kill()
        assert _read(end) == b"shutdown"
