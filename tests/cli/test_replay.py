"""`otp replay`: what led to a death, run again in the foreground."""

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT, Terminal

pytestmark = pytest.mark.slow  # each test starts programs

FLAT = "exception ZeroDivisionError: division by zero"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A terminal beside a running shop whose servers are recorded."""
    terminal = Terminal(tmp_path_factory.mktemp("recorded") / "nodes")
    with terminal.run("recorded:shop", "--name", "shop"):
        yield terminal


def die(shop, *requests, name="basket"):
    """Cast the requests, of which the last one is fatal; wait until the record of that is there."""
    known = shop.json("why", name)
    for request in requests:
        shop.otp("cast", name, request)
    shop.otp("call", name, "ticks" if name == "clock" else "sum")  # it is back
    assert shop.json("why", name) != known


def replayed(shop, name="basket"):
    """Give the replay as data; what callbacks print goes to standard error."""
    return json.loads(shop.otp("replay", name, "--json").stdout)


class TestReplay:
    def test_up_to_the_fatal_message(self, shop):
        """Each message, what it gave, the state; then the exception, from the program's first line on."""
        die(shop, "('add', 'apple', 3)", "('add', 'apple', 0)", "'then split'")
        done = shop.otp("replay", "basket")
        head, died, warning, *lines = done.stdout.splitlines()

        assert (0, "") == (done.returncode, done.stderr)
        assert head.startswith("basket <")
        assert head.endswith("4 messages since the state it had")
        assert died == f"it died of: {FLAT}"
        assert "the callbacks really run here" in warning
        assert lines[:8] == [
            "state: {}",
            "   1  cast ('add', 'apple', 3)",
            "      NoReply; state {'apple': 3}",
            "   2  cast ('add', 'apple', 0)",
            "      NoReply; state {'apple': 0}",
            "   3  cast 'then split'",
            "      NoReply; state as before",
            "   4  continue 'split'",
        ]
        assert lines[8] == "Traceback (most recent call last):"
        assert "recorded.py" in lines[9]
        assert lines[-2:] == ["ZeroDivisionError: division by zero", f"reproduced: {FLAT}"]

    def test_json(self, shop):
        """The same as data; what callbacks print is not in it."""
        shop.otp("call", "basket", "sum")
        die(shop, "('add', 'apple', 0)", "split")
        said = shop.otp("replay", "basket", "--json")
        found = json.loads(said.stdout)

        assert "asked for sum" in said.stderr
        assert ("exception", FLAT, FLAT, True) == tuple(
            found[key] for key in ("outcome", "reason", "died_of", "reproduced")
        )
        assert found["messages"][-2:] == [
            {
                "n": len(found["messages"]) - 1,
                "message": "cast ('add', 'apple', 0)",
                "callback": "handle_cast",
                "state": "{}",
                "returned": "NoReply",
                "state_after": "{'apple': 0}",
            },
            {
                "n": len(found["messages"]),
                "message": "cast 'split'",
                "callback": "handle_cast",
                "state": "{'apple': 0}",
                "returned": None,
            },
        ]

    def test_at(self, shop):
        """Stops before that message, whose state is shown; one that is not there is wrong usage."""
        die(shop, "('add', 'apple', 0)", "split")
        count = len(replayed(shop)["messages"])
        done = shop.otp("replay", "basket", "--at", str(count))

        assert done.returncode == 0
        assert done.stdout.splitlines()[-3:] == [
            "      NoReply; state {'apple': 0}",
            f"{count:>4}  cast 'split'",
            f"stopped before message {count}",
        ]
        assert shop.otp("replay", "basket", "--at", str(count + 1)).returncode == 2
        refused = shop.otp("replay", "basket", "--at", "0")
        assert refused.returncode == 2
        assert "argument --at: a whole number from 1 on is needed, not '0'" in refused.stderr

    def test_of_an_async_server(self, shop):
        """In an event loop."""
        die(shop, "('add', 'apple', 0)", "split", name="async")

        assert f"reproduced: {FLAT}" in shop.otp("replay", "async").stdout

    def test_of_a_state_machine(self, shop):
        """Its time-outs are due when they were, not all at once."""
        ticks = int(shop.otp("call", "clock", "ticks").stdout)
        while (now := int(shop.otp("call", "clock", "ticks").stdout)) == ticks:
            pass
        die(shop, "stop", name="clock")
        text = shop.otp("replay", "clock").stdout

        assert "a time-out is due\n      NoReply; state as before\n" in text
        assert f"state ('running', {now})\n" in text
        assert "reproduced: exception ValueError: stop" in text

    def test_nothing_reaches_the_node(self, shop):
        """Names are of nobody, pids are of nobody: the replay has a node of its own, and its own pid."""
        shop.otp("call", "basket", "'ask the till'", "--timeout", "0.2")
        die(shop, "stop")
        done = shop.otp("replay", "basket")

        assert "NoReply; state {'self': 1}" in done.stdout
        assert "reproduced: sold out" in done.stdout
        assert [line.split()[0] for line in shop.otp("ps").stdout.splitlines()].count("<1>") <= 1

    def test_a_bad_return(self, shop):
        """Said, as the server's end."""
        die(shop, "nothing")

        assert "reproduced: ('bad_return_value', None)" in shop.otp("replay", "basket").stdout

    def test_what_does_not_come_again(self, shop):
        """It is said that it did not, and that is no failure."""
        die(shop, "'first time only'")
        done = shop.otp("replay", "basket")

        assert done.returncode == 0
        assert "what it died of has not come again: exception ValueError: here" in done.stdout
        found = replayed(shop)
        assert ("returned", False) == (found["outcome"], found["reproduced"])

    def test_a_signal_ends_the_replay_only(self, shop):
        """The command tells its stack; exit code 1."""
        shop.otp("call", "basket", "crash")
        shop.otp("call", "basket", "sum")
        done = shop.otp("replay", "basket")

        assert done.returncode == 1
        assert "string_at" in done.stdout
        assert "reproduced: killed by SIGSEGV" in done.stdout

    def test_nor_does_an_exit(self, shop):
        """Exit code 1 as well: the replay did not come to an end of its own."""
        shop.otp("call", "basket", "leave")
        shop.otp("call", "basket", "sum")
        done = shop.otp("replay", "basket")

        assert (1, "reproduced: exit code 7") == (done.returncode, done.stdout.splitlines()[-1])

    def test_redacted(self, shop):
        """What `format_status` hides stays hidden."""
        die(shop, "('add', 'apple', 0)", "split", name="secret")
        text = shop.otp("replay", "secret").stdout

        assert "state: '<a basket>'" in text
        assert "cast '<a request>'" in text
        assert "'apple'" not in text

    def test_tasks_run(self, shop):
        """What a callback starts is a process of the replay's own node, and ends with it."""
        shop.otp("call", "basket", "'two tasks'")
        die(shop, "stop")
        done = shop.otp("replay", "basket")

        assert "Reply([1, 4])" in done.stdout
        assert "reproduced: sold out" in done.stdout

    def test_an_earlier_death(self, shop):
        """By its pid, which `why` tells."""
        die(shop, "stop")
        (line,) = [line for line in shop.otp("why", "basket").stdout.splitlines() if "is recorded" in line]
        die(shop, "('add', 'apple', 0)", "split")

        assert "reproduced: sold out" in shop.otp(*line.partition("otp ")[2].split()).stdout


class TestPdb:
    def test_post_mortem(self, shop):
        """At the line that raised."""
        die(shop, "('add', 'apple', 0)", "split")
        done = shop.otp_with("p total\nq\n", "replay", "basket", "--pdb")

        assert "(Pdb) 0\n" in done.stdout
        assert "-> return NoReply({article: price / total" in done.stdout

    def test_in_a_callback(self, shop):
        """Before its first line."""
        die(shop, "('add', 'pear', 5)", "('add', 'apple', -5)", "split")
        count = len(replayed(shop)["messages"])
        done = shop.otp_with("p request, basket\nc\nq\n", "replay", "basket", "--pdb", "--at", str(count - 1))

        assert "-> match request:" in done.stdout
        assert "(Pdb) (('add', 'apple', -5), {'pear': 5})" in done.stdout

    def test_in_an_async_callback(self, shop):
        """The same."""
        die(shop, "('add', 'apple', 0)", "split", name="async")
        done = shop.otp_with("p basket\nc\nq\n", "replay", "async", "--pdb", "--at", "1")

        assert "(Pdb) {}" in done.stdout

    def test_left_early(self, shop):
        """It is no failure of the recording."""
        die(shop, "('add', 'apple', 0)", "split")
        done = shop.otp_with("q\n", "replay", "basket", "--pdb", "--at", "1")

        assert (1, "(Pdb) interrupted") == (done.returncode, done.stdout.splitlines()[-1])

    def test_not_with_json(self, shop):
        """A debugger is for people."""
        assert shop.otp("replay", "basket", "--pdb", "--json").returncode == 2


class TestNothingToReplay:
    def test_of_nobody(self, shop):
        """Exit code 3, and what to do."""
        done = shop.otp("replay", "nobody")

        assert done.returncode == 3
        assert (
            "no death of nobody is recorded in this node; servers are recorded that run with record=True" in done.stderr
        )

    def test_of_one_that_is_not_recorded(self, shop):
        """That it died is known."""
        die(shop, "('add', 'apple', 0)", "split", name="plain")

        assert "plain died, but was not recorded: start it with record=True" in shop.otp("replay", "plain").stderr

    @pytest.mark.parametrize("damage", [b"", b"\0" * 64])
    def test_of_one_whose_recording_is_damaged(self, shop, damage):
        """That there was one is said, and where it lies."""
        die(shop, "('add', 'apple', 0)", "split")
        for path in shop.directory.glob("*/records/basket@*"):
            path.write_bytes(damage)
        done = shop.otp("replay", "basket")

        assert 1 == done.returncode
        assert "the recording of basket cannot be read: something has damaged /" in done.stderr


SCRIPT = """
import subprocess, sys
from dataclasses import dataclass
from otp_runtime import GenServer, NoReply, Supervisor
from otp_runtime.testing import wait_restarted

@dataclass
class Add:
    by: int

class Counter(GenServer):
    options = {"record": True}
    def init(self, start): return start
    def handle_cast(self, request, count):
        return NoReply(count + request.by)

with Supervisor.start_link([Counter.child_spec(1, name="counter")], strategy="one_for_one"):
    before = GenServer.whereis("counter")
    GenServer.cast("counter", Add(2))
    GenServer.cast("counter", Add("three"))
    wait_restarted("counter", after=before)
    done = subprocess.run([sys.executable, "-m", "otp_runtime", "replay", "counter"], capture_output=True, text=True)
print(done.stdout, done.stderr)
"""


class TestScript:
    def test_a_class_of_the_main_script(self, tmp_path, terminal):
        """Its definition lies in the node."""
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path,
            env={**terminal.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

        assert "   1  cast Add(by=2)\n      NoReply; state 3\n   2  cast Add(by='three')" in done.stdout
        assert "reproduced: exception TypeError: unsupported operand" in done.stdout
