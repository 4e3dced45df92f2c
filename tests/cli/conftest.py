"""Terminals: real programs with a runtime directory of their own."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
