"""Reports: every death once, through the program's `logging`, with what happened as attributes; and `why`."""

import json
import logging
import os

import pytest

from otp_runtime import Agent, GenServer, Node, ServerDown, Supervisor, process, why
from otp_runtime.testing import sigkill, wait_restarted
from otp_runtime.testing.nodes import private_node
from tests.process import plain


@pytest.fixture
def node():
    """A node whose reports have all been handed over when its test looks at them."""
    with private_node() as node:
        yield node


def fail(server):
    """Crash an agent as its caller sees it."""
    with pytest.raises(ServerDown):
        Agent.get(server, lambda _state: plain.raise_value_error())


def deaths(caplog, server):
    """Give the reports of a server's deaths. The node ends first: then nothing is on its way any more."""
    Node.stop()
    return [record for record in caplog.records if getattr(record, "server", None) == server]


class TestReport:
    def test_a_crash(self, node, caplog):
        """Once, as an error, with who, where and why."""
        pid = Agent.start(int, name="victim")
        os_pid = pid.os_pid
        fail("victim")
        (record,) = deaths(caplog, "victim")

        assert (record.name, record.levelno) == ("otp_runtime.crash", logging.ERROR)
        assert (record.os_pid, record.reason) == (os_pid, "exception ValueError: boom")
        assert "raise_value_error" in record.getMessage()

    def test_a_signal(self, node, caplog):
        """By its name."""
        sigkill(Agent.start(int, name="victim"))
        (record,) = deaths(caplog, "victim")

        assert (record.signal, record.reason) == ("SIGKILL", "killed by SIGKILL")

    def test_an_exit_code(self, node, caplog):
        """As a number."""
        pid = Agent.start(int, name="victim")
        with pytest.raises(ServerDown):
            Agent.get(pid, lambda _state: os._exit(7))
        (record,) = deaths(caplog, "victim")

        assert record.exit_code == 7

    def test_every_restart_once(self, node, caplog):
        """Each death of a supervised child; supervisor and number of the restart are said."""
        with Supervisor.start_link([Agent.child_spec(int, name="victim")], strategy="one_for_one", name="top"):
            for _ in range(3):
                wait_restarted("victim", after=sigkill("victim"))
                Agent.get("victim", str)
        records = deaths(caplog, "victim")

        assert [(record.supervisor, record.restart_count) for record in records] == [("top", 1), ("top", 2), ("top", 3)]
        assert len({record.os_pid for record in records}) == 3

    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "moving")])
    def test_an_end_that_was_meant(self, node, caplog, reason):
        """Is no error."""
        pid = Agent.start(int, name="victim")
        GenServer.stop(pid, reason)

        assert [record for record in deaths(caplog, "victim") if record.levelno >= logging.ERROR] == []

    def test_a_supervisor_that_gives_up(self, node, caplog):
        """Says so, and how often it tried."""
        children = [Agent.child_spec(int, name="victim")]
        top = Supervisor.start_link(children, strategy="one_for_one", max_restarts=0, name="top")
        sigkill("victim")
        top.wait(5.0)
        (record,) = deaths(caplog, "top")

        assert "gives up" in record.getMessage()
        assert record.restart_count == 1


class TestFacts:
    """What handlers, filters and formatters find in `record.otp`."""

    def test_of_a_crash(self, node, caplog):
        """All that `why` says, as plain data."""
        pid = Agent.start(int, name="victim")
        fail("victim")
        (record,) = deaths(caplog, "victim")

        assert ("crash", "victim", repr(pid), "exception") == tuple(
            record.otp[key] for key in ("report", "server", "pid", "kind")
        )
        assert record.otp == json.loads(json.dumps(record.otp))
        assert "raise_value_error" in record.otp["python_traceback"]

    def test_of_a_supervisor(self, node, caplog):
        """Under a logger of its own."""
        children = [Agent.child_spec(int, name="victim")]
        top = Supervisor.start_link(children, strategy="one_for_one", max_restarts=0, name="top")
        sigkill("victim")
        top.wait(5.0)
        (record,) = deaths(caplog, "top")

        assert ("otp_runtime.supervisor", "supervisor", "shutdown") == (
            record.name,
            record.otp["report"],
            record.otp["context"],
        )

    def test_of_what_a_server_logged(self, node, caplog):
        """Who it was."""
        pid = Agent.start(int, name="talker")
        Agent.get(pid, lambda _state: logging.getLogger("my.app").warning("hello"))
        os_pid = pid.os_pid
        (record,) = deaths(caplog, "talker")

        assert {"report": "log", "server": "talker", "pid": repr(pid), "os_pid": os_pid} == record.otp


class TestProgress:
    @pytest.mark.parametrize(("level", "expected"), [("DEBUG", ["a", "a", "b"]), ("INFO", ["a", "a"]), ("WARNING", [])])
    def test_a_supervisor_tells_of_its_children(self, node, caplog, level, expected):
        """At level info of those it starts itself, at debug of those that somebody asked for; no news costs nothing."""
        with caplog.at_level(level):
            children = [Agent.child_spec(int, name="a")]
            with Supervisor.start_link(children, strategy="one_for_one", name="top") as top:
                wait_restarted("a", after=sigkill("a"))
                Agent.get("a", str)
                Supervisor.start_child(top, Agent.child_spec(int, name="b"))
            Node.stop()
        found = [record for record in caplog.records if record.name == "otp_runtime.progress"]

        assert expected == [record.otp["server"] for record in found]
        assert {"top"} >= {record.otp["supervisor"] for record in found}

    def test_a_supervised_server_logs_at_the_programs_level(self, node, caplog):
        """As one that the program started itself does."""
        with caplog.at_level("INFO"):
            with Supervisor.start_link([Agent.child_spec(int, name="talker")], strategy="one_for_one"):
                Agent.get("talker", lambda _state: logging.getLogger("my.app").info("hello"))
            found = [record.getMessage() for record in deaths(caplog, "talker")]

        assert "hello" in found


class TestLogging:
    def test_of_a_server(self, node, caplog):
        """Its own records appear in the program, with its name and pid."""
        pid = Agent.start(int, name="talker")

        def talk(_state):
            logging.getLogger("my.app").warning("hello %s", "world", extra={"order": 7})

        Agent.get(pid, talk)
        (record,) = deaths(caplog, "talker")

        assert (record.name, record.getMessage(), record.order) == ("my.app", "hello world", 7)
        assert record.process == pid.os_pid or record.process > 0

    def test_with_an_exception(self, node, caplog):
        """Its traceback comes along as text."""

        def talk(_state):
            try:
                plain.raise_value_error()
            except ValueError:
                logging.getLogger("my.app").exception("failed")

        Agent.get(Agent.start(int, name="talker"), talk)
        (record,) = deaths(caplog, "talker")

        assert "ValueError: boom" in record.exc_text

    def test_in_order(self, node, caplog):
        """Those of one server."""

        def talk(_state):
            for number in range(200):
                logging.getLogger("my.app").warning("%d", number)

        Agent.get(Agent.start(int, name="talker"), talk)

        assert [int(record.getMessage()) for record in deaths(caplog, "talker")] == list(range(200))

    def test_of_any_size(self, node, caplog):
        """A long text arrives whole."""

        def talk(_state):
            logging.getLogger("my.app").warning("%s", "x" * 100_000)

        Agent.get(Agent.start(int, name="talker"), talk)

        assert [len(record.getMessage()) for record in deaths(caplog, "talker")] == [100_000]


class TestWhy:
    def test_a_crash(self, node):
        """What happened, to whom, when, with its message and state."""
        pid = Agent.start(lambda: {"secret": 1}, name="victim")
        os_pid = pid.os_pid
        fail("victim")
        death = why("victim")

        assert (death.server, death.id, death.os_pid, death.kind) == ("victim", pid.id, os_pid, "exception")
        assert (death.reason.type, death.state) == ("ValueError", "{'secret': 1}")
        assert death.message_in_hand.startswith("call ('get'")
        assert 0 < death.started_at < death.died_at

    def test_by_pid(self, node):
        """The same."""
        pid = Agent.start(int, name="victim")
        fail(pid)

        assert why(pid) == why("victim") is not None

    def test_killed_in_mid_call(self, node):
        """The message in hand is known, though it could not say so."""
        pid = Agent.start(int, name="victim")
        with pytest.raises(ServerDown):
            Agent.get(pid, lambda _state: os.kill(os.getpid(), 9))

        assert why("victim").message_in_hand.startswith("call ('get'")
        assert (why("victim").signal, why("victim").kind) == ("SIGKILL", "signal")

    def test_a_segfault(self, node):
        """With the stack of the interpreter."""
        from otp_runtime.testing import segfault

        segfault(Agent.start(int, name="victim"))

        assert "string_at" in why("victim").native_stack

    def test_killed_by_request(self, node):
        """Has a kind of its own."""
        with Supervisor.start_link([Agent.child_spec(int, name="victim")], strategy="one_for_one"):
            pid = process.whereis("victim")
            process.exit(pid, "kill")
            pid.wait(5.0)

            assert (why(pid).reason, why(pid).kind) == ("killed", "killed")

    def test_the_last_one(self, node):
        """Of several."""
        with Supervisor.start_link([Agent.child_spec(int, name="victim")], strategy="one_for_one"):
            first = sigkill("victim")
            second = wait_restarted("victim", after=first)
            sigkill("victim")

            assert (why("victim").id, why("victim").restart["n"]) == (second.id, 2)

    def test_nobody(self, node):
        """None."""
        assert why("nobody") is None

    def test_one_that_ended_normally(self, node):
        """Nothing is known."""
        pid = Agent.start(int, name="victim")
        GenServer.stop(pid)

        assert why("victim") is None

    def test_as_json(self, node):
        """Plain data."""
        fail(Agent.start(int, name="victim"))
        data = json.loads(json.dumps(why("victim").to_json()))

        assert (data["server"], data["reason"]) == ("victim", "exception ValueError: boom")
