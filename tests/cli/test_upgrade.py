"""`otp upgrade`, and `otp run --reload`: an application whose code changes on disk."""

import os

import pytest

from tests.supervision.upgrading import Code

pytestmark = pytest.mark.slow  # each test starts programs

APP = """
from otp_runtime import GenServer, Reply, Supervisor

class Till(GenServer):
    vsn = {vsn}

    def handle_call(self, request, client, state):
        return Reply(({vsn}, state), state)

    def code_change(self, old_vsn, state, extra):
        {code_change}
        return [*(state or []), old_vsn, extra]

def app():
    return Supervisor.start_link([Till.child_spec(name="till")], strategy="one_for_one", name="top")
"""


@pytest.fixture
def code(terminal, tmp_path):
    """A directory with an application in it; the terminal is there."""
    terminal.here = tmp_path / "app"
    terminal.here.mkdir()
    code = Code(terminal.here, "till")
    code.write(APP.format(vsn=1, code_change="pass"))
    return code


class TestUpgrade:
    def test_a_server(self, terminal, code):
        """Exit code 0; the OS processes are told."""
        with terminal.run("till:app"):
            code.write(APP.format(vsn=2, code_change="pass"))
            done = terminal.otp("upgrade", "till", "--extra", "('why', 1)")
            reply = terminal.otp("call", "till", "val").stdout

        assert (0, "") == (done.returncode, done.stderr)
        assert done.stdout.startswith("till <")
        assert "(2, [1, ('why', 1)])\n" == reply

    def test_a_supervisor(self, terminal, code):
        """Its servers; as JSON."""
        with terminal.run("till:app"):
            code.write(APP.format(vsn=2, code_change="pass"))
            done = terminal.json("upgrade", "top")

        assert ("top", True) == (done["name"], done["upgraded"])

    def test_a_failure(self, terminal, code):
        """Exit code 1, with the reason and the traceback; the old code serves."""
        with terminal.run("till:app"):
            code.write(APP.format(vsn=2, code_change="raise ValueError('no luck')"))
            done = terminal.otp("upgrade", "till")
            reply = terminal.otp("call", "till", "val").stdout

        assert (1, "(1, None)\n") == (done.returncode, reply)
        assert "no luck" in done.stderr

    def test_nobody(self, terminal, code):
        """Exit code 3."""
        with terminal.run("till:app"):
            assert 3 == terminal.otp("upgrade", "nobody").returncode


class TestReload:
    def test_a_change(self, terminal, code):
        """The tree is upgraded; code that is broken is reported, and the old one serves; the next change heals it."""
        with terminal.run("till:app", "--reload") as running:
            code.write(APP.format(vsn=2, code_change="pass"))
            running.wait_line("1 root upgraded")
            second = terminal.otp("call", "till", "val").stdout
            code.write("1 +")
            running.wait_line("SyntaxError")
            still = terminal.otp("call", "till", "val").stdout
            code.write(APP.format(vsn=3, code_change="pass"))
            running.wait_line("1 root upgraded")
            third = terminal.otp("call", "till", "val").stdout

        assert ["(2, [1, None])\n", "(2, [1, None])\n", "(3, [1, None, 2, None])\n"] == [second, still, third]

    def test_without_the_extra(self, terminal, code):
        """Exit code 1, naming what to install."""
        (terminal.here / "watchfiles.py").write_text("raise ImportError")
        done = terminal.otp(
            "run",
            "till:app",
            "--reload",
            PYTHONPATH=os.pathsep.join([str(terminal.here), terminal.environment["PYTHONPATH"]]),
        )

        assert 1 == done.returncode
        assert "otp-runtime[reload]" in done.stderr
