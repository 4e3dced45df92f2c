"""Classes that cannot be imported: of a script, of a function, of a notebook's cell. No main guard anywhere."""

import os
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

import pytest

from otp_runtime import GenServer, NoReply, Reply, Supervisor
from tests.behaviours.servers import Counter, Inc

SCRIPT = """
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from otp_runtime import GenServer, NoReply, Reply, Supervisor, process

STEP = 10

class Color(Enum):
    RED = "red"

class Point(NamedTuple):
    x: int

@dataclass(frozen=True)
class Inc:
    by: int

def scaled(number):
    return number * STEP

class Counter(GenServer):
    @staticmethod
    def inc(counter, by): GenServer.cast(counter, Inc(by))

    def init(self, start): return start
    def handle_cast(self, request, state):
        match request:
            case Inc(by): return NoReply(state + scaled(by))
    def handle_call(self, request, client, state):
        match request:
            case "val": return Reply(state, state)
            case Color.RED: return Reply((Color.RED, Inc(1), Point(2)), state)
            case Point(x): return Reply(x, state)
            case "crash": return Reply(1 / 0, state)

with Supervisor.start_link([Counter.child_spec(1, name="counter")], strategy="one_for_one"):
    Counter.inc("counter", 2)
    print(GenServer.call("counter", "val"))
    color, inc, point = GenServer.call("counter", Color.RED)
    print(color is Color.RED, isinstance(inc, Inc), inc == Inc(1), type(point) is Point)
    print(GenServer.call("counter", Point(5)))
    try: GenServer.call("counter", "crash")
    except Exception as error: print(type(error).__name__, error.reason.type)
    print(GenServer.call("counter", "val"))
"""
SAID = "21\nTrue True True True\n5\nServerDown ZeroDivisionError\n1\n"


def run(*args, text=None):
    """Run Python as a program of its own; give what it printed."""
    done = subprocess.run(
        [sys.executable, *args],
        input=text,
        capture_output=True,
        text=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base directory for the programs of a test."""
    from otp_runtime.testing.nodes import private_directory

    with private_directory() as path:
        yield path


CALL_EACH_OTHER = """
import dill
from otp_runtime import GenServer, Reply, upgrade

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

class Parity(GenServer):
    def init(self, arg): return upgrade.__name__
    def handle_call(self, n, client, state): return Reply((even(n), state), state)

with Parity.start_link() as parity:
    print(GenServer.call(parity, 4))
print(list(dill.detect.globalvars(lambda: Parity)), dill.loads(dill.dumps(lambda: len))().__name__)
"""


class TestScript:
    def test_a_file(self, base, tmp_path):
        """Run by its path."""
        path = tmp_path / "script.py"
        path.write_text(SCRIPT)

        assert run(str(path)) == SAID

    def test_functions_that_call_each_other(self, base):
        """The script's own, and an imported one that belongs to such a pair; dill itself works as before."""
        assert run("-c", CALL_EACH_OTHER) == "(True, 'upgrade')\n['Parity'] len\n"

    def test_a_command(self, base):
        """`python -c`."""
        assert run("-c", SCRIPT) == SAID

    def test_standard_input(self, base):
        """There is no file to import."""
        assert run("-", text=SCRIPT) == SAID

    def test_a_module(self, base, tmp_path, monkeypatch):
        """`python -m`."""
        (tmp_path / "my_script.py").write_text(SCRIPT)
        code = (
            f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r})\n"
            "runpy.run_module('my_script', run_name='__main__')"
        )

        assert run("-c", code) == SAID

    def test_cells(self, base):
        """A class that is defined again is another; servers that run keep theirs."""
        code = """
cells = [
    "from otp_runtime import GenServer, Reply",
    "class Hello(GenServer):\\n    def handle_call(self, request, client, state): return Reply('first', state)",
    "first = Hello.start_link()",
    "class Hello(GenServer):\\n    def handle_call(self, request, client, state): return Reply('second', state)",
    "second = Hello.start_link()",
    "print(GenServer.call(first, 1), GenServer.call(second, 1))",
    "GenServer.stop('nobody', missing_ok=True)",
]
space = {"__name__": "__main__"}
for number, cell in enumerate(cells):
    exec(compile(cell, f"<cell {number}>", "exec"), space)
"""

        assert run("-c", code) == "first second\n"

    def test_an_exit_of_the_program(self, base):
        """Its tree stops, in order; nothing is left."""
        code = """
from otp_runtime import GenServer, Supervisor
class Loud(GenServer):
    trap_exit = True
    def terminate(self, reason, state): print("stopping", state, reason, flush=True)
Supervisor.start_link([Loud.child_spec(n, name=f"loud{n}") for n in (1, 2)], strategy="one_for_one")
"""

        assert run("-c", code) == "stopping 2 shutdown\nstopping 1 shutdown\n"
        assert list(base.iterdir()) == []


class TestClassesOfAFunction:
    def test_server_request_and_reply(self, me):
        """All three local."""

        class Shade(Enum):
            DARK = 1

        @dataclass(frozen=True)
        class Ask:
            shade: Shade

        class Local(GenServer):
            def handle_call(self, request, client, state):
                match request:
                    case Ask(shade):
                        return Reply([shade, Ask(shade)], state)

        shade, ask = GenServer.call(Local.start_link(), Ask(Shade.DARK))

        assert shade is Shade.DARK
        assert isinstance(ask, Ask)

    def test_a_subclass_of_a_local_class(self, me):
        """With `super` and class attributes."""

        class Base(GenServer):
            word = "base"

            def handle_call(self, request, client, state):
                return Reply(self.word, state)

        class Derived(Base):
            word = "derived"

            def handle_call(self, request, client, state):
                reply = super().handle_call(request, client, state)
                return Reply([reply.value, type(self).__name__], state)

        assert GenServer.call(Derived.start_link(), 1) == ["derived", "Derived"]

    def test_is_restarted(self, me, start_supervised):
        """Its definition outlives the program's attention."""
        from otp_runtime.testing import sigkill

        class Local(GenServer):
            def handle_call(self, request, client, state):
                return Reply(state, state)

        start_supervised(Local.child_spec(7, name="local"))
        sigkill("local")

        assert GenServer.call("local", 1) == 7


class TestImportable:
    def test_a_request_that_is_a_class(self, me):
        """`case Inc(by):` fits."""
        pid = Counter.start_link(1)
        GenServer.cast(pid, Inc(2))

        assert GenServer.call(pid, Inc(4)) == 7

    def test_an_overridden_start_link(self, me, start_supervised):
        """OTP's idiom: used by the child spec, and it runs in the new process."""

        class Named(GenServer):
            @classmethod
            def start_link(cls, arg):
                return super().start_link(("wrapped", arg), name="from start_link")

            def handle_cast(self, request, state):
                return NoReply(state)

            def handle_call(self, request, client, state):
                return Reply(state, state)

        start_supervised(Named.child_spec(7))

        assert GenServer.call("from start_link", 1) == ("wrapped", 7)

    def test_a_tree(self, me):
        """Of local and importable children."""
        with Supervisor.start_link([(Counter, 5)], strategy="one_for_one") as top:
            (child,) = Supervisor.which_children(top)

            assert (child.id, GenServer.call(child.pid, "val")) == ("Counter", 5)
