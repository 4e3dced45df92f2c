"""The post-mortem: what `why` knows of a death, whatever killed the process."""

import os
import subprocess
import sys
import textwrap

import pytest

from otp_runtime import (
    Backoff,
    Crash,
    Down,
    Exited,
    GenServer,
    InitFailed,
    Registry,
    Signalled,
    StartFailed,
    Supervisor,
    Task,
    TaskExited,
    Via,
    process,
    why,
)
from otp_runtime.process import death
from otp_runtime.process.current import current
from otp_runtime.testing import sigkill, wait_restarted
from tests.process import dying
from tests.process.dying import AsyncMortal, Mortal

MANY = 1000


def supervise(*children, strategy="one_for_one", **flags):
    return Supervisor.start_link(list(children), strategy=strategy, **{"max_restarts": MANY, **flags})


def mortal(name="victim", arg=None, **fields):
    return Mortal.child_spec(arg, name=name, **fields)


def die(how, name="victim"):
    """Let the server of that name die, and give the record."""
    pid = process.whereis(name)
    ref = process.monitor(pid)
    GenServer.cast(pid, how if isinstance(how, tuple) else ("die", how))
    process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)
    return why(pid)


@pytest.fixture
def victim(me):
    with supervise(mortal()) as sup:
        yield sup


class TestSignals:
    def test_a_segfault(self, victim):
        """The signal by name, the stack down to the line of Python, and what to look for."""
        record = die("segfault")

        assert (Signalled("SIGSEGV"), "signal", "SIGSEGV") == (
            Signalled(record.reason.name),
            record.kind,
            record.signal,
        )
        assert "string_at" in record.native_stack
        assert "dying.py" in record.native_stack
        assert "native stack" in record.explanation
        assert "cast ('die', 'segfault')" == record.message_in_hand

    def test_an_abort_of_the_c_library(self, victim):
        """What glibc wrote to descriptor 2 before it aborted is in the record."""
        record = die("double free")

        assert "SIGABRT" == record.signal
        assert "double free" in record.stderr_tail
        assert "native code called abort()" in record.explanation

    def test_kill_9(self, victim):
        """Nothing in the process could react."""
        record = why(sigkill("victim"))

        assert ("signal", "SIGKILL", None, None) == (
            record.kind,
            record.signal,
            record.message_in_hand,
            record.native_stack,
        )
        assert record.explanation.startswith("killed from outside")

    def test_the_last_good_state(self, me):
        """Of a server that keeps it."""
        with supervise(mortal(restore="last_good")):
            GenServer.call("victim", {"apples": 3})
            record = why(sigkill("victim"))

        assert "{'apples': 3}" == record.last_good_state

    def test_a_signal_from_the_program(self, victim):
        """Any other is named, and explained where there is something to say."""
        record = die("sigterm")

        assert ("SIGTERM", True) == (record.signal, "asked to end" in record.explanation)


class TestExits:
    def test_without_a_word(self, victim):
        """The exit code."""
        record = die("exit 3")

        assert (Exited(3), "exit_code", 3) == (record.reason, record.kind, record.exit_code)
        assert "os._exit(3)" in record.explanation

    def test_an_exception(self, victim):
        """With its cause and its notes."""
        record = die("raise")

        assert "exception" == record.kind
        assert all(
            part in record.python_traceback
            for part in ("deep cause", "direct cause", "on the surface", "a note that helps")
        )

    @pytest.mark.parametrize(("how", "type"), [("memory", "MemoryError"), ("recursion", "RecursionError")])
    def test_explained_exceptions(self, victim, how, type):
        """Those that mean more than they say."""
        record = die(how)

        assert (type, True) == (record.reason.type, bool(record.explanation))
        assert len(record.python_traceback) < 25_000

    def test_a_killed_one(self, victim):
        """By a process of the node: that is known."""
        pid = process.whereis("victim")
        process.exit(pid, "kill")
        pid.wait(5.0)
        record = why(pid)

        assert ("killed", "killed") == (record.reason, record.kind)
        assert "somebody in this node" in record.explanation

    def test_an_async_server(self, me):
        """As any other."""
        with supervise(AsyncMortal.child_spec(name="victim")):
            pid = process.whereis("victim")
            GenServer.cast(pid, "raise")
            assert isinstance(pid.wait(5.0), Crash)

            assert "deep cause" in why("victim").python_traceback

    @pytest.mark.parametrize(("how", "kind"), [("raise", "exception"), ("segfault", "signal"), ("exit 3", "exit_code")])
    def test_a_task(self, me, how, kind):
        """By its pid, with the function that it ran."""
        process.trap_exit(True)
        task = Task.async_(dying.task, how)
        with pytest.raises(TaskExited):
            Task.await_(task)

        assert kind == why(task.pid).kind


class TestInit:
    def test_at_a_restart(self, me, tmp_path):
        """Each attempt is on record."""
        mood = tmp_path / "mood"
        backoff = Backoff(first=60, cap=60)
        with supervise(mortal(arg=str(mood), backoff=backoff)):
            mood.touch()
            killed = sigkill("victim")
            assert 60 == pytest.approx(why(killed).backoff, rel=0.2)

    def test_at_a_start_that_was_asked_for(self, me, tmp_path):
        """The caller is told, nobody else; `why` knows it, standard error included."""
        mood = tmp_path / "mood"
        mood.touch()
        with supervise() as sup, pytest.raises(StartFailed):
            Supervisor.start_child(sup, mortal(arg=str(mood)))
        record = why("victim")

        assert ("start_error", "no luck today\n") == (record.context, record.stderr_tail)
        assert "init has no luck" in record.python_traceback

    def test_of_a_root(self, me, tmp_path):
        """Here too."""
        mood = tmp_path / "mood"
        mood.touch()
        with pytest.raises(InitFailed):
            Mortal.start(str(mood), name="root")

        assert "init has no luck" in why("root").python_traceback


class TestStandardError:
    def test_the_last_lines(self, victim):
        """Whole lines, two kilobytes of them."""
        for number in range(100):
            GenServer.cast("victim", ("say", f"{number} {'x' * 60}"))
        tail = die("raise").stderr_tail

        assert len(tail) <= 2048
        assert [f"{number} {'x' * 60}" for number in range(100 - 32, 100)] == tail.splitlines()[-32:]

    def test_after_sigkill(self, victim):
        """What was printed is there, whatever ended the process."""
        GenServer.cast("victim", ("say", "famous last words"))
        GenServer.call("victim", None)

        assert "famous last words\n" == why(sigkill("victim")).stderr_tail

    def test_of_subprocesses(self, victim):
        """They write to the same place."""
        GenServer.cast("victim", ("shell", "echo from the shell >&2"))

        assert "from the shell\n" == die("exit 3").stderr_tail

    def test_of_threads_and_forks(self, victim):
        """Each line once and whole; what a fork of the server's own prints is not its own last word."""
        GenServer.cast("victim", ("together", 4, 8))
        GenServer.call("victim", None)
        lines = why(sigkill("victim")).stderr_tail.splitlines()

        assert sorted(f"thread {thread} line {line}" for thread in range(4) for line in range(8)) == sorted(lines)

    def test_nothing_written(self, victim):
        """Is nothing known."""
        assert None is why(sigkill("victim")).stderr_tail

    def test_a_text_given_to_sys_exit(self, victim):
        """Is exit code 1 with the text on record."""
        record = die("sys.exit text")

        assert Exited(1) == record.reason


class TestWhatItHad:
    def test_open_files_of_one_that_crashed(self, victim, tmp_path):
        """As they were when it did; what is the node's is not shown."""
        path = tmp_path / "orders.txt"
        path.touch()
        GenServer.cast("victim", ("open", str(path)))
        record = die("raise")

        assert ([str(path)], None) == (record.open_files, record.open_files_at)

    @pytest.mark.slow
    def test_open_files_of_one_that_was_killed(self, victim, tmp_path):
        """As of the last look, with its time."""
        path = tmp_path / "orders.txt"
        path.touch()
        GenServer.cast("victim", ("open", str(path)))
        record = die(("kill me in", 1.6))

        assert [str(path)] == record.open_files
        assert record.started_at < record.open_files_at < record.died_at

    def test_subprocesses(self, victim):
        """Those that outlived it, by number and command."""
        GenServer.cast("victim", ("start", "sh", "-c", "echo; sleep 1000; true"))
        GenServer.call("victim", None)
        left = why(sigkill("victim")).subprocesses

        assert "sh -c echo; sleep 1000; true" == left[0]["command"]
        assert [] == [one for one in left if os.path.exists(f"/proc/{one['os_pid']}")]

    @pytest.mark.parametrize("how", ["state", "message"])
    def test_long_texts_are_cut(self, victim, how):
        """With a note of how much is missing."""
        padding = "x" * 100_000
        if how == "state":
            GenServer.cast("victim", ("state", padding))
        record = die(("die", "raise", padding if how == "message" else ""))
        text = record.state if how == "state" else record.message_in_hand

        assert len(text) < 21_000
        assert "more characters" in text or "characters left out" in text


class TestStrategy:
    def test_siblings(self, me):
        """The one that ended names them; each of them names it."""
        with supervise(*map(mortal, "abc"), strategy="rest_for_one"):
            last = process.whereis("c")
            sigkill("b")
            last.wait(5.0)
            wait_restarted("c", after=last)
            first, then = why("b"), why("c")

        assert ("rest_for_one", ["c"], None) == (first.strategy, first.siblings, first.because)
        assert ("stopped", "shutdown", "b", []) == (then.context, then.reason, then.because, then.siblings)
        assert {"n": 1, "of": MANY, "seconds": 5} == first.restart
        assert None is why("a")
        assert "because b ended (rest_for_one)" in death.text_of(then)

    def test_a_supervisor_that_gave_up(self, me):
        """Its parent's record of it says so."""
        team = Supervisor.child_spec([mortal()], strategy="one_for_one", max_restarts=0, name="team")
        with supervise(team):
            old = process.whereis("team")
            sigkill("victim")
            assert "shutdown" == old.wait(5.0)
            wait_restarted("team", after=old)
            records = death.records_of(current().directory, "team")

        assert ["shutdown", "child_terminated"] == [record.context for record in records]
        assert "end number 1 within 5 s, and 0 restarts are allowed" in records[-1].notes[0]


class TestWhy:
    def test_by_every_reference(self, me):
        """Name, pid of the dead, pid of the successor, name in a registry."""
        with Registry.start_link(keys="unique", name="reg"), supervise(mortal()):
            dead = sigkill("victim")
            alive = wait_restarted("victim", after=dead)
            with Mortal.start_link(None, name=Via(Registry, ("reg", 1))) as other:
                of_other = why(Via(Registry, ("reg", 1)))
                found = {why(ref).os_pid for ref in ("victim", dead, alive)}

        assert 1 == len(found)
        assert None is of_other
        assert None is why(other)

    def test_nobody_knows(self, me):
        """Nothing is on record."""
        assert None is why("nobody")
        assert None is why(Via(Registry, ("no registry", 1)))

    def test_ten_are_kept(self, me):
        """Of each server, also of one without a name; the latest."""
        with supervise(Mortal.child_spec(None, id="x"), mortal("other")) as sup:
            first = why(sigkill("other"))
            for _ in range(12):
                pid = next(child.pid for child in Supervisor.which_children(sup) if child.id == "x")
                sigkill(pid)
                while next(child.pid for child in Supervisor.which_children(sup) if child.id == "x") in {pid, None}:
                    process.flush()
            # the oldest is forgotten when nobody waits for anything
            while len(kept := death.records_of(current().directory, "Mortal")) > 10:
                current().pump(0.01)

        assert 10 == len(kept)
        assert first == why("other")
        assert [record.restart["n"] for record in kept] == list(range(4, 14))

    def test_a_damaged_record(self, me):
        """Is one that says so."""
        with supervise(mortal("broken")):
            sigkill("broken")
            (path,) = (path for path in current().directory.deaths.iterdir() if path.name.startswith("broken@"))
            path.write_bytes(b"\xc1garbage")
            record = why("broken")

        assert "cannot be read" in record.notes[0]

    def test_as_json(self, victim):
        """Plain data with every field of the contract."""
        data = die("raise").to_json()
        fields = """server id os_pid reason kind signal exit_code oom message_in_hand last_good_state python_traceback
            native_stack samples subprocesses open_files stderr_tail strategy siblings restart started_at died_at"""

        assert set(fields.split()) <= data.keys()


class TestBlackBox:
    @pytest.mark.parametrize("damage", ["gone", "garbage"])
    def test_that_is_lost(self, victim, damage):
        """The server is restarted under its name, and the record says what is missing."""
        GenServer.call("victim", None)
        pid = process.whereis("victim")
        os_pid, path = pid.os_pid, current().directory.box(pid.id)
        ref = process.monitor(pid)
        if damage == "gone":
            os.unlink(path)
        else:
            with open(path, "r+b") as file:
                file.write(b"\0" * 64)
        os.kill(os_pid, 9)
        process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)
        successor = wait_restarted("victim", after=pid)
        record = why(pid)

        assert GenServer.call("victim", None) == successor.os_pid
        assert (os_pid, "SIGKILL", "victim") == (record.os_pid, record.signal, record.server)
        assert "black box" in record.notes[0]


# -- where it is shown ---------------------------------------------------------------------------------------------


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


PREAMBLE = """
import logging, os, sys
from otp_runtime import GenServer, Supervisor, process
from tests.process.dying import Mortal

logging.disable()
"""


@pytest.mark.slow
class TestShown:
    def test_all_of_it(self):
        """What Python prints in order and at once, what C code and subprocesses print all the same."""
        script = """
            with Mortal.start_link(None) as victim:
                for number in range(3):
                    GenServer.cast(victim, ("say", f"line {number}"))
                    GenServer.call(victim, None)
                    print("program", number, file=sys.stderr)
                GenServer.cast(victim, ("shell", "echo shell >&2"))
                GenServer.call(victim, None)
        """
        shown = run(PREAMBLE + textwrap.dedent(script)).stderr.splitlines()

        in_order = [line for number in range(3) for line in (f"line {number}", f"program {number}")]
        assert in_order == [line for line in shown if line != "shell"]
        assert 1 == shown.count("shell")

    def test_a_great_deal(self):
        """Ten megabytes of a subprocess are passed on whole, and their room is given back."""
        script = """
            with Mortal.start_link(None) as victim:
                GenServer.cast(victim, ("shell", "yes 0123456789abcdef | head -c 10000000 >&2"))
                GenServer.call(victim, None, 30)
        """
        shown = run(PREAMBLE + textwrap.dedent(script)).stderr

        assert 10_000_000 == len(shown)

    def test_nobody_reads(self):
        """A reader that takes nothing holds up neither the launcher nor other servers."""
        script = """
            with Mortal.start_link(None) as victim:
                GenServer.cast(victim, ("shell", "head -c 1000000 /dev/zero >&2"))
                GenServer.call(victim, None, 30)
                for _ in range(3):
                    with Mortal.start_link(None) as other:
                        GenServer.call(other, None)
                print("all well", flush=True)
                os._exit(0)
        """
        reader, writer = os.pipe()
        done = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=writer, text=True
        )
        os.close(writer)
        try:
            assert "all well\n" == done.stdout.readline()
        finally:
            os.close(reader)
            done.wait(10)
            done.stdout.close()

    def test_a_writer_that_never_stops(self):
        """Holds up neither the launcher nor other servers, however fast its lines are taken."""
        script = """
            import time
            with Mortal.start_link(None) as victim:
                GenServer.cast(victim, ("shell", "timeout 5 yes 0123456789abcdef >&2"))
                began = time.monotonic()
                for _ in range(3):
                    with Mortal.start_link(None) as other:
                        GenServer.call(other, None)
                print(time.monotonic() - began, flush=True)
                os._exit(0)
        """
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)

        assert 4.0 > float(done.stdout)

    def test_more_than_anybody_reads(self):
        """It is dropped, but for the end, with a line that says so: it would fill the memory."""
        script = """
            with Mortal.start_link(None) as victim:
                for _ in range(3):
                    GenServer.cast(victim, ("shell", "head -c 10000000 /dev/zero >&2"))
                    GenServer.call(victim, None, 30)
                print("written", flush=True)
                GenServer.cast(victim, ("shell", "echo the end >&2"))
                GenServer.call(victim, None, 30)
                input()
        """
        reader, writer = os.pipe()
        program = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writer,
        )
        os.close(writer)
        assert b"written\n" == program.stdout.readline()
        shown = b""
        with open(reader, "rb") as file:
            while b"the end" not in shown[-100:]:
                shown += file.read1(1 << 16)
            program.communicate(b"\n", 10)

        assert b"more than anybody read" in shown
        assert len(shown) < 20_000_000
