"""A program in a terminal: what reaches its node, and what does not."""

import os
import pty
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from otp_runtime.testing import leaks
from otp_runtime.testing.nodes import END_SECONDS, private_directory
from tests.terminals import start_in

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10.0

PROGRAM = """
import os, signal, sys
from otp_runtime import Agent, GenServer
from otp_runtime.testing.faults import freeze
from tests.process.in_terminal import Careful, has_terminal, ids

server = Careful.start_link(sys.argv[1])
stopped = Agent.start_link(int)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print("node", *ids(), *GenServer.call(server, ids), has_terminal(), GenServer.call(server, has_terminal), flush=True)
signal.sigwait({signal.SIGINT})
print("interrupted", GenServer.call(server, os.getpid) == server.os_pid, flush=True)
freeze(stopped)
print("stopped", flush=True)
signal.pause()
"""
HIDDEN = 'mount --bind /dev/null /dev/tty && exec "$@"'
"""Runs a program in a system where the terminal has no name, as in some containers."""

INTERPRETERS = 2
"""Those that say what they import: the program's and the node's."""


def _stop_writers(terminal):
    """Have who writes to the terminal from the background stopped: `stty tostop`."""
    settings = termios.tcgetattr(terminal)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(terminal, termios.TCSANOW, settings)


class Shown:
    """A program in the foreground of a terminal of its own."""

    def __init__(self, end, *, before=(), environment=(), set_up=lambda _terminal: None):
        self.fd, theirs = pty.openpty()
        set_up(theirs)
        command = [*before, sys.executable, "-c", PROGRAM, str(end)]
        self.process = start_in(theirs, command, env={**os.environ, "PYTHONPATH": str(ROOT), **dict(environment)})
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
def show(end, tmp_path):
    """Start a program of a node in a terminal; it may be told how in the words of `Shown`."""
    programs = []

    def show(**how):
        programs.append(Shown(tmp_path / "end", **how))
        return programs[-1]

    with private_directory() as base:
        yield show
        for program in programs:
            program.process.kill()
            program.process.wait()
            os.close(program.fd)
        assert leaks.outlive(leaks.naming(str(base)), END_SECONDS) == []


class TestInATerminal:
    def test_its_processes(self, show):
        """They are of the program's session and not of its group, and have no terminal."""
        session, group, server_session, server_group, *have_terminals = show().read_until(b"node ")
        assert session == server_session
        assert group != server_group
        assert have_terminals == ["True", "False"]

    def test_that_has_no_name(self, show):
        """It is left all the same."""
        if subprocess.run(["unshare", "-m", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("this user may not hide a file")
        program = show(before=["unshare", "-m", "sh", "-c", HIDDEN, "sh"])
        assert program.read_until(b"node ")[-2:] == ["True", "False"]

    def test_that_stops_who_writes(self, show):
        """What the node says while it starts stops nobody."""
        program = show(environment={"PYTHONPROFILEIMPORTTIME": "1"}, set_up=_stop_writers)
        assert program.read_until(b"node ")[-2:] == ["True", "False"]
        assert program.seen.count(b"zipimport") == INTERPRETERS

    def test_ctrl_c(self, show):
        """Reaches the program alone."""
        program = show()
        program.read_until(b"node ")
        os.write(program.fd, b"\x03")
        assert program.read_until(b"interrupted ") == ["True"]

    def test_the_program_dies_while_a_server_is_stopped(self, show, end):
        """The others end in order: nothing hangs up on them, as it does on a group that is left alone."""
        program = show()
        program.read_until(b"node ")
        os.write(program.fd, b"\x03")
        program.read_until(b"stopped")
        program.process.kill()
        assert _read(end) == b"shutdown"
