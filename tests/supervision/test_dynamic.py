"""What can be asked of a running supervisor, with every error."""

import pytest

from otp_runtime import (
    AlreadyPresent,
    AlreadyStarted,
    BadChildSpec,
    ChildCount,
    ChildInfo,
    ChildSpec,
    GenServer,
    NoProcess,
    NotFound,
    OtpError,
    Restarting,
    Running,
    StartFailed,
    Supervisor,
    process,
)
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.children import Recorder
from tests.supervision.watching import end, restart, shown


@pytest.fixture
def top(record):
    """A supervisor of a and b, which gives up late."""
    specs = [record.spec("a"), record.spec("b")]
    with Supervisor.start_link(specs, strategy="one_for_one", max_restarts=10_000_000) as pid:
        record.take()
        yield pid


@pytest.fixture
def stopped(top, record):
    """The same, with b stopped."""
    Supervisor.terminate_child(top, "b")
    record.take()
    return top


@pytest.fixture
def restarting(top, record):
    """The same, with a restart of b that fails again and again."""
    record.mood("b", "custom")
    sigkill("b")
    while shown(top)["b"] != "restarting":
        pass
    yield top
    record.mood("b")
    if shown(top).get("b"):
        wait_restarted("b")


class TestStartChild:
    def test_comes_last(self, top, record):
        """In the order, and so is stopped first."""
        pid = Supervisor.start_child(top, record.spec("c"))

        assert pid == process.whereis("c")
        assert [one.id for one in Supervisor.which_children(top)] == ["c", "b", "a"]
        Supervisor.stop(top)
        assert record.take() == ["start c", "stop c shutdown", "stop b shutdown", "stop a shutdown"]

    def test_is_supervised(self, top, record):
        """As any."""
        Supervisor.start_child(top, record.spec("c"))
        restart("c")

        assert shown(top)["c"] is True

    def test_runs_already(self, top, record):
        """Says which; the new spec is ignored."""
        with pytest.raises(AlreadyStarted) as error:
            Supervisor.start_child(top, record.spec("a"))

        assert error.value.pid == process.whereis("a")

    def test_is_present(self, stopped, record):
        """But not running."""
        with pytest.raises(AlreadyPresent) as error:
            Supervisor.start_child(stopped, record.spec("b"))

        assert error.value.id == "b"

    def test_is_restarting(self, restarting, record):
        """The same."""
        with pytest.raises(AlreadyPresent):
            Supervisor.start_child(restarting, record.spec("b"))

    @pytest.mark.parametrize("how", ["custom", "raise", "die"])
    def test_fails(self, top, record, how):
        """With its reason; nothing is left of it."""
        record.mood("c", how)
        with pytest.raises(StartFailed) as error:
            Supervisor.start_child(top, record.spec("c"))

        assert error.value.id == "c"
        assert how != "custom" or error.value.reason == "custom"
        assert shown(top) == {"b": True, "a": True}

    def test_its_name_is_taken(self, top, record):
        """Outside of this supervisor: by whom."""
        pid = Recorder.start_link((record.path, "outside"), name="outside")
        with pytest.raises(AlreadyStarted) as error:
            Supervisor.start_child(top, record.spec("outside"))

        assert error.value.pid == pid

    @pytest.mark.parametrize(("restart_type", "present"), [("permanent", True), ("temporary", False)])
    def test_ignores(self, top, record, restart_type, present):
        """None; kept as a spec, unless temporary."""
        record.mood("c", "ignore")

        assert Supervisor.start_child(top, record.spec("c", restart=restart_type)) is None
        assert ("c" in shown(top)) is present

    def test_a_bad_spec(self, top):
        """Before anything is sent."""
        with pytest.raises(BadChildSpec):
            Supervisor.start_child(top, 42)


class TestTerminateChild:
    def test_keeps_the_spec(self, top, record):
        """Stopped with `shutdown`, not brought back."""
        assert Supervisor.terminate_child(top, "b") is None
        assert (shown(top), record.take()) == ({"b": False, "a": True}, ["stop b shutdown"])

    def test_twice(self, stopped):
        """Is once."""
        assert Supervisor.terminate_child(stopped, "b") is None

    def test_a_temporary_one(self, top, record):
        """Is forgotten."""
        Supervisor.start_child(top, record.spec("c", restart="temporary"))
        Supervisor.terminate_child(top, "c")
        with pytest.raises(NotFound) as error:
            Supervisor.terminate_child(top, "c")

        assert error.value.id == "c"

    def test_one_that_is_restarting(self, restarting):
        """Cancels the attempts; who calls by name does not wait any more."""
        Supervisor.terminate_child(restarting, "b")

        assert shown(restarting)["b"] is False
        with pytest.raises(NoProcess):
            GenServer.call("b", "hello")

    def test_does_not_count(self, record):
        """As a restart."""
        with Supervisor.start_link([record.spec("a")], strategy="one_for_one", max_restarts=0) as top:
            for _ in range(3):
                Supervisor.terminate_child(top, "a")
                Supervisor.restart_child(top, "a")

            assert shown(top) == {"a": True}


class TestRestartChild:
    def test_starts_it_again(self, stopped):
        """In its old place."""
        pid = Supervisor.restart_child(stopped, "b")

        assert [one.pid for one in Supervisor.which_children(stopped)] == [pid, process.whereis("a")]

    def test_runs(self, top):
        """Says so."""
        with pytest.raises(Running):
            Supervisor.restart_child(top, "a")

    def test_is_restarting(self, restarting):
        """Says so."""
        with pytest.raises(Restarting):
            Supervisor.restart_child(restarting, "b")

    def test_nobody(self, top):
        """Says so."""
        with pytest.raises(NotFound):
            Supervisor.restart_child(top, "nobody")

    def test_fails(self, stopped, record):
        """With its reason; the spec stays."""
        record.mood("b", "custom")
        with pytest.raises(StartFailed) as error:
            Supervisor.restart_child(stopped, "b")

        assert (error.value.id, error.value.reason) == ("b", "custom")
        assert shown(stopped)["b"] is False

    def test_ignores(self, stopped, record):
        """None."""
        record.mood("b", "ignore")

        assert Supervisor.restart_child(stopped, "b") is None

    def test_one_that_ended(self, top, record):
        """A transient child."""
        Supervisor.start_child(top, record.spec("c", restart="transient"))
        end("c", "normal")

        assert Supervisor.restart_child(top, "c") == process.whereis("c")


class TestDeleteChild:
    def test_forgets_it(self, stopped):
        """A stopped one."""
        assert Supervisor.delete_child(stopped, "b") is None
        assert shown(stopped) == {"a": True}

    def test_runs(self, top):
        """Says so."""
        with pytest.raises(Running):
            Supervisor.delete_child(top, "a")

    def test_is_restarting(self, restarting):
        """Says so."""
        with pytest.raises(Restarting):
            Supervisor.delete_child(restarting, "b")

    def test_nobody(self, top):
        """Says so."""
        with pytest.raises(NotFound):
            Supervisor.delete_child(top, "nobody")

    def test_the_id_is_free(self, stopped, record):
        """For another."""
        Supervisor.delete_child(stopped, "b")

        assert Supervisor.start_child(stopped, record.spec("b")) == process.whereis("b")


class TestLists:
    def test_which_children(self, stopped, record):
        """Last started first."""
        inner = Supervisor.child_spec([], strategy="one_for_one", name="inner")
        pid = Supervisor.start_child(stopped, inner)

        assert Supervisor.which_children(stopped) == [
            ChildInfo("inner", pid, "supervisor"),
            ChildInfo("b", None, "worker"),
            ChildInfo("a", process.whereis("a"), "worker"),
        ]

    def test_restarting(self, restarting):
        """Says so instead of a pid."""
        assert Supervisor.which_children(restarting)[0] == ChildInfo("b", "restarting", "worker")

    def test_count_children(self, stopped):
        """By what they are, running or not."""
        Supervisor.start_child(stopped, Supervisor.child_spec([], strategy="one_for_one", name="inner"))

        assert Supervisor.count_children(stopped) == ChildCount(specs=3, active=2, supervisors=1, workers=2)

    def test_count_restarting(self, restarting):
        """Is not active."""
        assert Supervisor.count_children(restarting) == ChildCount(specs=2, active=1, supervisors=0, workers=2)

    def test_get_childspec(self, top, record):
        """With all defaults; equal to what was given."""
        spec = Supervisor.get_childspec(top, "a")

        assert (spec.id, spec.restart, spec.shutdown, spec.type) == ("a", "permanent", 5.0, "worker")
        assert spec.start == record.spec("a").start

    def test_get_childspec_of_nobody(self, top):
        """Says so."""
        with pytest.raises(NotFound):
            Supervisor.get_childspec(top, "nobody")

    def test_can_be_started_again(self, stopped):
        """What it gives is a spec."""
        spec = Supervisor.get_childspec(stopped, "b")
        Supervisor.delete_child(stopped, "b")

        assert Supervisor.start_child(stopped, spec) == process.whereis("b")


class TestStrangers:
    def test_a_call_it_does_not_know(self, top):
        """Raises in the caller; the supervisor goes on."""
        with pytest.raises(OtpError, match="is a supervisor and does not understand 'hello'"):
            GenServer.call(top, "hello")

        assert shown(top) == {"b": True, "a": True}

    def test_a_message(self, top):
        """Ignored."""
        process.send(top, "hello")
        GenServer.cast(top, "hello")

        assert shown(top) == {"b": True, "a": True}

    def test_of_one_that_is_dead(self, record):
        """As any server."""
        top = Supervisor.start([], strategy="one_for_one")
        Supervisor.stop(top)
        with pytest.raises(NoProcess):
            Supervisor.which_children(top)


class TestIds:
    @pytest.mark.parametrize("child_id", ["text", 7, ("worker", 1), frozenset({1}), 1.5, b"bytes"], ids=repr)
    def test_any_hashable_term(self, top, record, child_id):
        """Comes back as what it was."""
        pid = Supervisor.start_child(top, ChildSpec(child_id, (Recorder.start_link, ((record.path, "x"),), {})))

        assert Supervisor.which_children(top)[0] == ChildInfo(child_id, pid, "worker")
        assert Supervisor.terminate_child(top, child_id) is None
