"""Local names: one process each, free again when it ends."""

import pytest

from otp_runtime import Agent, AlreadyRegistered, AlreadyStarted, GenServer, NoProcess, process
from otp_runtime.testing import gate
from tests.process import plain

WEIRD = (
    "a/b",
    "/",
    ".",
    "..",
    "../../etc/passwd",
    ".hidden",
    "with blank",
    "größe",
    "名前",
    "🐢",
    "%2F",
    "a\nb",
    "a\x01",
    "-",
    "~",
    "UPPER",
    "upper",
    "12345",
    "1",
)


@pytest.fixture
def pid(me):
    return process.spawn(plain.linger)


class TestRegister:
    def test_whereis(self, pid):
        """Who has it."""
        process.register(pid, "name")

        assert process.whereis("name") == pid == GenServer.whereis("name")

    def test_taken(self, me, pid):
        """Says by whom; that one keeps it."""
        process.register(pid, "name")
        with pytest.raises(AlreadyRegistered) as error:
            process.register(process.spawn(plain.linger), "name")

        assert (error.value.pid, process.whereis("name")) == (pid, pid)

    def test_a_second_name(self, pid):
        """A process has one."""
        process.register(pid, "name")
        with pytest.raises(AlreadyRegistered):
            process.register(pid, "other")

        assert process.whereis("other") is None

    def test_the_same_again(self, pid):
        """Is taken, by itself."""
        process.register(pid, "name")
        with pytest.raises(AlreadyRegistered) as error:
            process.register(pid, "name")

        assert error.value.pid == pid

    def test_the_dead(self, me):
        """Get none."""
        pid = process.spawn(int)
        pid.wait(5.0)
        with pytest.raises(NoProcess):
            process.register(pid, "name")

        assert process.whereis("name") is None

    def test_oneself_from_inside(self, me):
        """A process gives itself a name."""

        def introduce():
            process.register(process.self(), "introduced")
            process.send(me, process.whereis("introduced"))

        pid = process.spawn(introduce)

        assert process.receive(timeout=5.0) == pid

    @pytest.mark.parametrize("name", WEIRD)
    def test_any_text(self, pid, name):
        """A name is a text, not a path."""
        process.register(pid, name)

        assert process.whereis(name) == pid
        assert name in process.registered()

    def test_a_long_one(self, pid):
        """Either works, or says why not, before anything changes."""
        name = "n" * 200
        process.register(pid, name)

        assert process.whereis(name) == pid

    @pytest.mark.parametrize("name", ["", "n" * 5000, "a\0b"])
    def test_no_name(self, pid, name):
        """Refused, with words."""
        with pytest.raises(ValueError, match="name"):
            process.register(pid, name)


class TestRegistered:
    def test_lists_names(self, me, pid):
        """Of the living."""
        other = process.spawn(plain.linger)
        process.register(pid, "b")
        process.register(other, "a")
        process.exit(other, "kill")
        other.wait(5.0)

        assert process.registered() == ["b"]


class TestUnregister:
    def test_frees_it(self, pid):
        """For another; the process goes on."""
        process.register(pid, "name")
        process.unregister("name")
        process.register(pid, "other")

        assert (process.whereis("name"), process.whereis("other")) == (None, pid)

    def test_nobody(self, me):
        """Says so."""
        with pytest.raises(NoProcess):
            process.unregister("nobody")


class TestDeath:
    @pytest.mark.parametrize("reason", ["kill", "shutdown", "custom"])
    def test_frees_the_name(self, pid, reason):
        """By the time that its end is told."""
        process.register(pid, "name")
        process.exit(pid, reason)
        pid.wait(5.0)

        assert process.whereis("name") is None

    def test_the_successor_is_not_disturbed(self, me):
        """A name that was taken anew stays with who took it."""
        for _ in range(5):
            pid = process.spawn(plain.linger)
            process.register(pid, "inherited")
            process.exit(pid, "kill")
            pid.wait(5.0)

        assert process.registered() == []


class TestStart:
    @pytest.mark.parametrize("name", WEIRD)
    def test_any_text(self, me, name):
        """Servers too."""
        with Agent.start_link(int, name=name) as pid:
            assert GenServer.whereis(name) == pid
            assert Agent.get(name, str) == "0"

    def test_taken(self, me, pid):
        """By a process that is no server."""
        process.register(pid, "name")
        with pytest.raises(AlreadyStarted) as error:
            Agent.start_link(int, name="name")

        assert error.value.pid == pid

    def test_is_registered_before_init(self, me):
        """So that a second starter is told while the first still initialises."""
        with gate() as hold:
            starter = process.spawn(lambda: Agent.start(hold.wait, name="slow"))
            hold.wait_arrival()
            with pytest.raises(AlreadyStarted):
                Agent.start(int, name="slow")
            hold.open()
            starter.wait(5.0)

        assert process.whereis("slow") is not None

    def test_a_failed_start_frees_it(self, me):
        """Before the starter is told."""
        for _ in range(5):
            with pytest.raises(Exception, match="boom"):
                Agent.start_link(plain.raise_value_error, name="failing")

            assert process.whereis("failing") is None
