"""Terminals: real programs with a runtime directory of their own."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.terminals import start_in

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 30.0


class Running:
    """`otp run` in a terminal: its lines one by one, each with a deadline."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self._rest = b""

    def read_line(self):
        """Give the next line of standard output, None at its end."""
        deadline = time.monotonic() + SECONDS
        fd = self.process.stdout.fileno()
        while b"\n" not in self._rest:
            assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"no line after {self.lines}"
            chunk = os.read(fd, 65536)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        self.lines.append(line.decode())
        return self.lines[-1]

    def wait_line(self, part):
        """Read until a line with `part` in it."""
        while (line := self.read_line()) is not None:
            if part in line:
                return line
        raise AssertionError(f"{part!r} is not in {self.lines}; standard error: {self.process.stderr.read()}")

    def send(self, number):
        self.process.send_signal(number)

    def finish(self):
        """Wait for the end; give the exit code."""
        while self.read_line() is not None:
            pass
        return self.process.wait(SECONDS)


class Pty:
    """One command in a terminal of its own: what it draws, keys, sizes."""

    def __init__(self, arguments, here, environment, columns=120, rows=30):
        self._fd, theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = start_in(theirs, arguments, cwd=here, env={**environment, "TERM": "xterm"})
        self.drawn = ""

    def resize(self, columns, rows):
        """As a window manager does: the kernel tells the foreground process."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self._fd, keys.encode())

    def wait_drawn(self, *parts):
        """Read until all of `parts` were drawn after the last such wait; give what was drawn since then."""
        deadline = time.monotonic() + SECONDS
        seen = ""
        while not all(part in seen for part in parts):
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._fd], [], [], left)[0], f"{parts} not in {seen!r}"
            seen += os.read(self._fd, 65536).decode(errors="replace")
        self.drawn += seen
        return seen

    def finish(self):
        """Read what is still drawn until the command has ended; give its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.05)[0]:
                self.drawn += os.read(self._fd, 65536).decode(errors="replace")
        while select.select([self._fd], [], [], 0)[0]:
            self.drawn += os.read(self._fd, 65536).decode(errors="replace")
        return self.process.wait(0)

    def is_as_before(self):
        """Say whether the terminal is set as it was."""
        return termios.tcgetattr(self._theirs) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        os.close(self._fd)
        os.close(self._theirs)


class Terminal:
    """A user's terminal: commands, and applications in the foreground."""

    def __init__(self, directory):
        self.directory = directory
        self.here = HERE
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in {"OTP_NODE", "XDG_RUNTIME_DIR"}},
            "OTP_RUNTIME_DIR": str(directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def otp(self, *arguments, **environment):
        """Run one command to its end."""
        return self.otp_with("", *arguments, **environment)

    def otp_with(self, typed, *arguments, **environment):
        """Run one command to its end, with what is typed meanwhile."""
        return subprocess.run(
            [sys.executable, "-m", "otp_runtime", *arguments],
            cwd=self.here,
            env={**self.environment, **environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def json(self, *arguments):
        """Run one command with `--json`; give what it printed."""
        done = self.otp(*arguments, "--json")
        assert not done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def pty(self, *arguments, program=("-m", "otp_runtime"), **size):
        """Run one command in a terminal until the block ends."""
        one = Pty([sys.executable, *program, *arguments], self.here, self.environment, **size)
        try:
            yield one
        finally:
            one.close()

    @contextlib.contextmanager
    def run(self, app, *arguments, until="is up"):
        """Run an application until the block ends, then as long as it takes to stop it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "otp_runtime", "run", app, *arguments],
            cwd=self.here,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running = Running(process)
        try:
            if until is not None:
                running.wait_line(until)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.stdout.close()
            process.stderr.close()
            process.wait(SECONDS)


@pytest.fixture
def terminal(tmp_path):
    return Terminal(tmp_path / "nodes")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A terminal beside a running shop, one for all tests of a file."""
    terminal = Terminal(tmp_path_factory.mktemp("shop") / "nodes")
    with terminal.run("shop:shop", "--name", "shop"):
        yield terminal
