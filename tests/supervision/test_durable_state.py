"""States that outlive the node: found by the next run, kept at a normal end, and never silently fresh."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from otp_runtime import DurableStateError, GenServer, InitFailed, Reply, ServerDown, Supervisor, process
from otp_runtime.host import durable
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.keepers import Keeper, New, Old, Refusing, put

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, sys
from dataclasses import dataclass
from otp_runtime import GenServer, Node, Reply, Supervisor

@dataclass
class Account:
    entries: list

class Bank(GenServer):
    durable = True
    def init(self, arg):
        return Account([])
    def handle_call(self, request, client, account):
        account.entries.append(request)
        return Reply(account.entries, account)

if len(sys.argv) > 2:
    Node.start(sys.argv[2])
Supervisor.start_link([Bank.child_spec(id=("bank", 1), name=None)], strategy="one_for_one", name="shop")
(bank,) = Supervisor.which_children("shop")
print(GenServer.call(bank.pid, len(sys.argv[1])), flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
"""


MESSAGES = """
import enum, os, sys
from collections import namedtuple
from dataclasses import dataclass
from typing import NamedTuple
from otp_runtime import GenServer, Reply, Supervisor
from tests.supervision.keepers import Keeper, put

class Kind(enum.Enum):
    BOOK = 1

class Right(enum.Flag):
    READ = 1
    WRITE = 2

class Point(NamedTuple):
    x: int

@dataclass
class Order:
    kind: Kind
    class Line(dict):
        pass

    def total(self):
        return 1

if sys.argv[1] != "late":
    @dataclass(frozen=True)
    class Late:
        number: int

{start}

if sys.argv[1] == "first":
    GenServer.call("k", put([Order(Kind.BOOK), Point(3), Right.READ | Right.WRITE, Order.Line(a=1), Late(1), Order]))
state = GenServer.call("k", "get")
print(state == [Order(Kind.BOOK), Point(3), Right.READ | Right.WRITE, Order.Line(a=1), Late(1), Order])
print(state[0].total(), type(state[1]) is Point)
"""
STARTS = {
    "option": 'Supervisor.start_link([Keeper.child_spec(0, name="k", durable=True)], strategy="one_for_one")',
    "class": "class Mine(Keeper):\n    durable = True\nMine.start_link(0, name='k')",
    "elsewhere": "from tests.supervision.keepers import Disks\nDisks.start_link()",
}


def warned(caplog, *words):
    """Whether one warning in the log has all these words; it may still be on its way."""
    deadline = time.monotonic() + 5
    while not any(all(word in message for word in words) for message in caplog.messages):
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(TimeoutError):
            process.receive("nothing", 0.01)
    return True


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "states.db")


def run(directory, *arguments, program=PROGRAM):
    """Run the program; give what it printed, and on failure its errors."""
    script = directory / "bank.py"
    script.write_text(program, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTP_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "OTP_RUNTIME_DIR": str(directory / "runtime"),
        "XDG_DATA_HOME": str(directory / "data"),
    }
    ended = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return ended.stdout.strip() or ended.stderr


@pytest.mark.slow
class TestNextRun:
    def test_finds_the_state(self, tmp_path):
        """Of a run that was killed, of one that ended well; a class of the main script is this run's class."""
        said = [run(tmp_path, "kill"), run(tmp_path, "end"), run(tmp_path, "kill")]

        assert ["[4]", "[4, 3]", "[4, 3, 4]"] == said
        assert len(os.listdir(tmp_path / "data" / "otp_runtime")) >= 1

    def test_nodes_are_apart(self, tmp_path):
        """A named node has a database of its own name."""
        said = [run(tmp_path, "end"), run(tmp_path, "end", "shop@here"), run(tmp_path, "end", "shop@here")]

        assert ["[3]", "[3]", "[3, 3]"] == said
        assert "shop@here.db" in os.listdir(tmp_path / "data" / "otp_runtime")


@pytest.mark.slow
class TestClassesOfTheMainScript:
    @pytest.mark.parametrize("start", STARTS)
    def test_those_that_only_came_with_messages(self, tmp_path, start):
        """The next run finds them by name, wherever it is said that the state is durable."""
        program = MESSAGES.replace("{start}", STARTS[start])
        said = [run(tmp_path, "first", program=program), run(tmp_path, "next", program=program)]

        assert ["True\n1 True"] * 2 == said

    def test_one_that_is_not_there(self, tmp_path):
        """The start fails and names the class and what to do; the state stays."""
        program = MESSAGES.replace("{start}", STARTS["option"])
        run(tmp_path, "first", program=program)
        said = run(tmp_path, "late", program=program)

        assert "this run of the program has no class __main__.Late when the server starts: define it before" in said
        assert run(tmp_path, "next", program=program) == "True\n1 True"


class TestInOneNode:
    def test_it_outlives_its_tree(self, me, path):
        """Under its local name, whoever supervises it."""
        with Supervisor.start_link([Keeper.child_spec(0, name="k", durable=path)], strategy="one_for_one"):
            GenServer.call("k", put({"a": (1,)}))
        with Keeper.start_link(0, name="k", durable=path) as server:
            assert GenServer.call(server, "get") == {"a": (1,)}

    def test_a_normal_end_keeps_it(self, me, path):
        """Only `state drop` forgets."""
        for expected in (0, 5):
            server = Keeper.start(0, name="k", durable=path)
            assert GenServer.call(server, "get") == expected
            GenServer.call(server, put(5))
            GenServer.stop(server)

    def test_a_restart(self, me, path):
        """Of the server alone, as with any kept state."""
        with Supervisor.start_link([Keeper.child_spec(0, name="k", durable=path)], strategy="one_for_one"):
            GenServer.call("k", put(1))
            wait_restarted("k", after=sigkill("k"))

            assert GenServer.call("k", "get") == 1

    def test_types_as_values(self, me, path):
        """Also those of the interpreter that have no name of their own."""
        types = {"t": int, "none": type(None), "function": type(print_nothing), "own": Keeper}
        for _ in range(2):
            with Keeper.start_link({}, name="k", durable=path) as server:
                GenServer.call(server, put(types))
        with Keeper.start_link({}, name="k", durable=path) as server:
            assert GenServer.call(server, "get") == types

    def test_a_class_that_came_with_a_message(self, me, path):
        """A successor knows it too, though nothing in the code of the server names it."""

        @dataclass
        class Order:
            number: int

        with Supervisor.start_link([Keeper.child_spec(0, name="k", durable=path)], strategy="one_for_one"):
            GenServer.call("k", put(Order(1)))
            assert GenServer.call("k", "get") == Order(1)
            wait_restarted("k", after=sigkill("k"))

            assert GenServer.call("k", "get") == Order(1)

    def test_written_and_not_restored(self, me, path):
        """`restore="fresh"` says so."""
        for _ in range(2):
            with Keeper.start_link(0, name="k", durable=path, restore="fresh") as server:
                assert GenServer.call(server, "get") == 0
                GenServer.call(server, put(1))

        (row,) = durable.rows_of(path)
        assert row.generation >= 2

    def test_only_data(self, me, path):
        """A function means nothing to a later version of the program."""
        server = Keeper.start({}, name="k", durable=path)
        with pytest.raises(ServerDown) as caught:
            GenServer.call(server, put({"f": print_nothing.__get__(1)}))

        assert caught.value.reason == ("bad_state", 'state["f"]')

    def test_of_an_older_version_of_the_class(self, me, path):
        """It goes through `code_change`; one that refuses fails the start, and the state stays for the next one."""
        with Old.start_link(7, name="k", durable=path) as server:
            GenServer.call(server, put(8))
        with pytest.raises(InitFailed, match="too old"):
            Refusing.start_link(0, name="k", durable=path)
        with New.start_link({}, name="k", durable=path) as server:
            assert GenServer.call(server, "get") == {"value": 8, "from": 1, "extra": None}
            GenServer.call(server, put({"new": 1}))
        with New.start_link({}, name="k", durable=path) as server:
            assert GenServer.call(server, "get") == {"new": 1}

    def test_a_relative_path_is_the_callers(self, me, tmp_path, monkeypatch):
        """The new process may work elsewhere."""
        monkeypatch.chdir(tmp_path)
        with Keeper.start_link(0, name="k", durable="here.db") as server:
            GenServer.call(server, put(1))

        assert (tmp_path / "here.db").exists()


def print_nothing(_self):
    """Be a function that is bound."""


class TestWhatIsWrong:
    def test_no_database_fails_the_start(self, me, path):
        """With the error's own name, and the file as it was."""
        Path(path).write_bytes(b"a diary " * 100)

        with pytest.raises(DurableStateError, match="file is not a database"):
            Keeper.start(0, name="k", durable=path)
        assert Path(path).read_bytes() == b"a diary " * 100

    def test_under_a_supervisor(self, me, path):
        """The reason is a term that names the file."""
        Path(path).write_bytes(b"a diary " * 100)
        with pytest.raises(InitFailed) as caught:
            Supervisor.start_link([Keeper.child_spec(0, name="k", durable=path)], strategy="one_for_one")

        reason = ("durable_state", path, "file is not a database")
        assert ("shutdown", ("failed_to_start_child", "k", reason)) == caught.value.reason

    def test_a_damaged_state_is_not_silently_fresh(self, me, path):
        """The start fails."""
        with Keeper.start_link(0, name="k", durable=path) as server:
            GenServer.call(server, put(1))
        with durable._open(path) as connection:
            connection.execute("UPDATE state SET body = x'c1', checksum = checksum + 1")
        connection.close()

        with pytest.raises(DurableStateError, match="the state of 'k' is damaged"):
            Keeper.start(0, name="k", durable=path)

    def test_a_full_disk_ends_the_server_before_the_reply(self, me, path):
        """What the caller was told before is still there."""
        server = Keeper.start(0, name="k", durable=path)
        GenServer.call(server, put(1))
        with pytest.raises(ServerDown) as caught:
            GenServer.call(server, fill)
        kind, where, _why = caught.value.reason
        assert ("durable_state", path) == (kind, where)

        with Keeper.start_link(0, name="k", durable=path) as again:
            assert GenServer.call(again, "get") == 1

    @pytest.mark.parametrize("replaced", [False, True])
    @pytest.mark.parametrize("changes", [False, True])
    def test_the_database_goes_while_it_is_used(self, me, tmp_path, path, caplog, replaced, changes):
        """The next callback finds out, changed or not: the state is written again, and a warning says so."""
        with Keeper.start_link(0, name="k", durable=path) as server:
            for _ in range(4):
                GenServer.call(server, put("kept"))
            if replaced:
                durable.DurableStore(str(tmp_path / "other.db"), "n", "key", "c", "p").close()
                os.rename(tmp_path / "other.db", path)
            else:
                os.unlink(path)
            GenServer.call(server, put("new") if changes else put("kept"))
        assert warned(caplog, "replaced" if replaced else "removed", "while this server kept its state in it")
        with Keeper.start_link(0, name="k", durable=path) as server:
            assert GenServer.call(server, "get") == ("new" if changes else "kept")

    def test_two_servers_of_one_key(self, me, path):
        """They would write over each other's state."""
        with (
            Keeper.start_link(0, durable=path) as first,
            pytest.raises(DurableStateError, match=f"kept by another server, OS process {first.os_pid}"),
        ):
            Keeper.start(0, durable=path)


def fill(_server, _client, _state):
    """Let this process write no more than it has: a disk that is full."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    return Reply("ok", "x" * 1_000_000)


def test_the_names_in_the_database(me, path):
    """A local name, else the way down from the root."""
    children = [Keeper.child_spec(0, name="named", durable=path), Keeper.child_spec(0, id=("till", 1), durable=path)]
    with Supervisor.start_link(children, strategy="one_for_one", name="shop") as sup:
        for child in Supervisor.which_children(sup):
            GenServer.call(child.pid, put(1))

    assert ["/shop/('till', 1)", "named"] == [row.key for row in durable.rows_of(path)]
    assert process.whereis("named") is None
