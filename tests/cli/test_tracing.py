"""`trace` and `logs`, in another terminal."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.conftest import HERE, Running

pytestmark = pytest.mark.slow  # each test starts programs


@pytest.fixture
def begin(shop):
    """Begin a command in a terminal of its own; it has begun when this returns."""
    begun = []

    def begin(*arguments, until):
        process = subprocess.Popen(
            [sys.executable, "-m", "otp_runtime", *arguments],
            cwd=HERE,
            env=shop.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        begun.append(process)
        running = Running(process)
        running.wait_line(until)
        return running

    yield begin
    for process in begun:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def tracing(begin):
    return lambda *arguments: begin("trace", *arguments, until="tracing")


class TestTrace:
    def test_events_are_lines(self, shop, tracing):
        """As they happen; it ends after as many as were asked for."""
        terminal = tracing("counter", "--count", "2")
        shop.otp("call", "counter", "val")

        assert 0 == terminal.finish()
        assert terminal.lines[1].split(" ", 1)[1].startswith("counter got call 'val' from <")
        assert " sent 1 to <" in terminal.lines[2]

    def test_json(self, shop, tracing):
        """One object a line."""
        terminal = tracing("counter", "--json", "--count", "2")
        shop.otp("cast", "counter", "hello")
        terminal.finish()
        first, second = map(json.loads, terminal.lines[1:])

        assert ("in", "cast", "'hello'", "counter") == tuple(
            first[key] for key in ("event", "kind", "message", "server")
        )
        assert ("noreply", "1") == (second["event"], second["state"])

    def test_it_follows_a_restart(self, shop, tracing):
        """By name: the end, and the events of the successor."""
        terminal = tracing("polite")
        shop.otp("kill", "polite")
        ended, traced = terminal.wait_line("ended"), terminal.wait_line("tracing")
        shop.otp("call", "polite", "val")

        assert "polite ended: killed" in ended
        assert "tracing <" in traced
        assert "polite got call 'val'" in terminal.read_line()

    def test_its_end_leaves_the_server_alone(self, shop, tracing):
        """What it hooked in is taken out."""
        terminal = tracing("counter")
        os.kill(terminal.process.pid, 9)
        terminal.process.wait(10)
        shop.otp("call", "counter", "val")

        assert [] == shop.json("inspect", "counter")["said"]["debug"]

    def test_a_supervisor(self, shop, tracing):
        """Has events too."""
        terminal = tracing("shop", "--count", "1")
        shop.otp("kill", "counter")

        assert 0 == terminal.finish()
        assert "shop got Exit(" in terminal.lines[1]

    @pytest.mark.parametrize(("name", "code"), [("nobody", 3), ("1", 1)])
    def test_what_has_no_events(self, shop, name, code):
        """Exit codes as everywhere."""
        assert code == shop.otp("trace", name).returncode


class TestLogs:
    def test_reports_are_shown_as_they_come(self, shop, begin):
        """With the level and what happened; the program gets them too."""
        terminal = begin("logs", "--level", "error", "--count", "1", until="reading")
        shop.otp("kill", "counter")

        assert 0 == terminal.finish()
        assert "ERROR" in terminal.lines[1]
        assert "counter (process" in terminal.lines[1]
        assert "ended: killed" in terminal.lines[1]

    def test_json(self, shop, tmp_path):
        """One object a line, with the facts."""
        process = subprocess.Popen(
            [sys.executable, "-m", "otp_runtime", "logs", "--json", "--level", "error", "--count", "1"],
            cwd=HERE,
            env=shop.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        (node,) = shop.directory.glob("shop@*")
        while process.poll() is None and not (node / "tails" / str(process.pid)).exists():
            pass
        shop.otp("kill", "counter")
        said = json.loads(process.communicate(timeout=30)[0])

        assert ("otp_runtime.crash", "crash", "counter", "killed") == (
            said["logger"],
            said["otp"]["report"],
            said["otp"]["server"],
            said["otp"]["reason"],
        )

    def test_a_reader_that_died_is_forgotten(self, shop, begin):
        """By the next report."""
        terminal = begin("logs", until="reading")
        (node,) = shop.directory.glob("shop@*")
        terminal.process.kill()
        terminal.process.wait(10)
        assert [str(terminal.process.pid)] == [path.name for path in (node / "tails").iterdir()]
        shop.otp("kill", "counter")
        shop.otp("call", "counter", "val")

        assert [] == list((node / "tails").iterdir())
