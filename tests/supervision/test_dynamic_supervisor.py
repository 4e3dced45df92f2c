"""DynamicSupervisor as processes: children that come and go."""

import asyncio
import time

import pytest

from otp_runtime import (
    Agent,
    AlreadyStarted,
    BadChildSpec,
    BadSupervisorFlags,
    ChildCount,
    ChildInfo,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Ignore,
    InitFailed,
    MaxChildren,
    NoProcess,
    NotFound,
    OtpError,
    StartFailed,
    Supervisor,
    process,
    system,
)
from otp_runtime.core import supervisor_messages as core
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.children import Plain, Recorder, Stubborn
from tests.supervision.watching import end, restart


class Rooms(DynamicSupervisor):
    """One of a user's: `init` says what it is."""

    restart = "transient"

    def init(self, arg):
        return arg() if callable(arg) else DynamicSupervisor.spec(max_children=arg)


@pytest.fixture
def top(me):
    """A dynamic supervisor that gives up late."""
    with DynamicSupervisor.start_link(max_restarts=10_000_000) as pid:
        yield pid


@pytest.fixture
def restarting(top, record):
    """The same, with a child whose restart fails again and again; gives the supervisor and the child's last pid."""
    pid = DynamicSupervisor.start_child(top, record.spec("a"))
    record.mood("a", "custom")
    sigkill("a")
    while pids(top) != ["restarting"]:
        pass
    yield top, pid
    record.mood("a")
    if pids(top):
        wait_restarted("a")


def pids(sup):
    return [one.pid for one in DynamicSupervisor.which_children(sup)]


class TestStartLink:
    def test_has_a_name(self, me):
        """And is found by it."""
        with DynamicSupervisor.start_link(name="rooms") as pid:
            assert pid == process.whereis("rooms")
            assert [] == DynamicSupervisor.which_children("rooms")
            with pytest.raises(AlreadyStarted):
                DynamicSupervisor.start_link(name="rooms")

    def test_there_is_none(self, me):
        """The error of a start names the child, and shows no bytes."""
        with pytest.raises(NoProcess) as error:
            DynamicSupervisor.start_child("nobody", Agent.child_spec(dict, id="ann"))

        assert "no process 'nobody' (request StartChildRequest('ann'))" in str(error.value)

    def test_auto_shutdown(self, me):
        """May be said as of any supervisor, as in Elixir; but no child of this one is significant."""
        with DynamicSupervisor.start_link(auto_shutdown="never") as pid:
            assert process.alive(pid)

    @pytest.mark.parametrize(
        "flags",
        [
            {"strategy": "one_for_all"},
            {"max_children": -1},
            {"max_restarts": "3"},
            {"auto_shutdown": "any_significant"},
        ],
    )
    def test_bad_flags(self, me, flags):
        """Are refused in the caller."""
        with pytest.raises(BadSupervisorFlags) as error:
            DynamicSupervisor.start_link(**flags)

        assert [error.value.field] == list(flags)

    def test_children_at_the_start(self, me):
        """There are none: say where they belong."""
        with pytest.raises(TypeError, match="give them to start_child"):
            DynamicSupervisor.start_link([Recorder])

    def test_of_a_subclass(self, record):
        """Its `init` gives the flags, in a process of its own."""
        with Rooms.start_link(0) as top:
            with pytest.raises(MaxChildren):
                DynamicSupervisor.start_child(top, record.spec("a"))

            assert "Rooms" == system.get_status(top)["module"]
            assert 0 == system.get_status(top)["max_children"]
        with pytest.raises(TypeError, match="max_children"):
            Rooms.start_link(1, max_children=2)

    def test_init_ignores(self, me):
        """None."""
        assert Rooms.start_link(Ignore) is None

    def test_init_returns_something_else(self, me):
        """With OTP's reason."""
        with pytest.raises(InitFailed) as error:
            Rooms.start_link(dict)

        assert "bad_return" == error.value.reason[0]

    def test_in_an_event_loop(self, me):
        """Without blocking it."""
        pid = asyncio.run(DynamicSupervisor.astart())

        DynamicSupervisor.stop(pid)


class TestChildSpec:
    def test_id_is_the_name_or_the_class(self, me):
        """So that several can be children of one supervisor."""
        specs = [DynamicSupervisor.child_spec(name="rooms"), DynamicSupervisor.child_spec(), Rooms.child_spec(3)]

        assert ["rooms", "DynamicSupervisor", "Rooms"] == [spec.id for spec in specs]
        assert [("permanent", None, "supervisor")] * 2 + [("transient", None, "supervisor")] == [
            (spec.restart, spec.shutdown, spec.type) for spec in specs
        ]

    def test_bad_flags(self):
        """Are refused at once."""
        with pytest.raises(BadSupervisorFlags):
            DynamicSupervisor.child_spec(max_children="many")

    def test_begins_empty_after_a_restart(self, record):
        """Its children end with it."""
        with Supervisor.start_link([DynamicSupervisor.child_spec(name="rooms"), Rooms], strategy="one_for_one"):
            a = DynamicSupervisor.start_child("rooms", record.spec("a"))
            wait_restarted("rooms", after=sigkill("rooms"))
            a.wait(5.0)

            assert [] == pids("rooms")
            assert process.whereis("a") is None
            assert isinstance(DynamicSupervisor.start_child("rooms", record.spec("a")).id, int)


class TestStartChild:
    def test_is_started_and_listed_by_its_pid(self, top, record):
        """Two children may have the same id."""
        a = DynamicSupervisor.start_child(top, record.spec("a", id="same"))
        b = DynamicSupervisor.start_child(top, record.spec("b", id="same"))

        assert [a, b] == [process.whereis("a"), process.whereis("b")]
        assert DynamicSupervisor.which_children(top) == [ChildInfo(None, a, "worker"), ChildInfo(None, b, "worker")]

    def test_any_form_of_a_spec(self, top, record):
        """As in a list of children."""
        first = DynamicSupervisor.start_child(top, (Plain, (record.path, "first")))
        spec = ChildSpec("x", (Plain.start_link, ((record.path, "second"),), {}))
        second = DynamicSupervisor.start_child(top, spec)

        assert ["start first", "start second"] == record.take()
        assert [first, second] == pids(top)

    @pytest.mark.parametrize(
        "spec", [42, Plain.child_spec(0, significant=True, restart="transient")], ids=["42", "sig"]
    )
    def test_a_bad_spec(self, spec):
        """Before anything is sent: there is not even a supervisor."""
        with pytest.raises(BadChildSpec):
            DynamicSupervisor.start_child("nobody", spec)

    @pytest.mark.parametrize("how", ["custom", "raise", "die"])
    def test_fails(self, top, record, how):
        """With its reason; nothing is left of it."""
        record.mood("a", how)
        with pytest.raises(StartFailed) as error:
            DynamicSupervisor.start_child(top, record.spec("a"))

        assert how != "custom" or error.value.reason == "custom"
        assert [] == pids(top)

    def test_its_name_is_taken(self, top, record):
        """By whom."""
        pid = DynamicSupervisor.start_child(top, record.spec("a"))
        with pytest.raises(AlreadyStarted) as error:
            DynamicSupervisor.start_child(top, record.spec("a"))

        assert error.value.pid == pid

    def test_ignores(self, top, record):
        """None, and is not kept."""
        record.mood("a", "ignore")

        assert DynamicSupervisor.start_child(top, record.spec("a")) is None
        assert [] == pids(top)

    def test_more_than_max_children_are_refused(self, record):
        """With the limit; there is room again when one is gone."""
        with DynamicSupervisor.start_link(max_children=1) as top:
            pid = DynamicSupervisor.start_child(top, record.spec("a"))
            with pytest.raises(MaxChildren) as error:
                DynamicSupervisor.start_child(top, record.spec("b"))
            DynamicSupervisor.terminate_child(top, pid)
            DynamicSupervisor.start_child(top, record.spec("b"))

            assert error.value.limit == 1
            assert [process.whereis("b")] == pids(top)

    def test_a_supervisor_as_a_child(self, top, record):
        """Is forked by the dynamic one, and counted."""
        inner = DynamicSupervisor.start_child(top, Supervisor.child_spec([record.spec("a")], strategy="one_for_one"))
        DynamicSupervisor.start_child(top, record.spec("b"))

        assert [ChildInfo(None, inner, "supervisor")] == DynamicSupervisor.which_children(top)[:1]
        assert ChildCount(2, 2, 1, 1) == DynamicSupervisor.count_children(top)


class TestExtraArguments:
    def test_come_first(self, record):
        """At the start and at a restart."""
        with DynamicSupervisor.start_link(extra_arguments=((record.path, "a"),)) as top:
            DynamicSupervisor.start_child(top, ChildSpec("x", (Recorder.start_link, (), {"name": "a"})))
            restart("a")

            assert ["start a", "start a"] == record.take()

    def test_of_a_subclass(self, record):
        """Which gives them in its spec."""
        with Rooms.start_link(lambda: Rooms.spec(extra_arguments=[(record.path, "b")])) as top:
            DynamicSupervisor.start_child(top, ChildSpec("x", (Recorder.start_link, (), {})))

            assert ["start b"] == record.take()

    def test_are_a_tuple(self, me):
        """Anything else is refused."""
        with pytest.raises(BadSupervisorFlags, match="extra_arguments"):
            DynamicSupervisor.start_link(extra_arguments="ab")


class TestRestart:
    def test_a_permanent_child(self, top, record):
        """Comes back under another pid, with its name."""
        DynamicSupervisor.start_child(top, record.spec("a"))
        pid = restart("a")

        assert [pid] == pids(top)

    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1)])
    def test_a_transient_child_that_ended_well(self, top, record, reason):
        """Does not."""
        DynamicSupervisor.start_child(top, record.spec("a", restart="transient"))
        end("a", reason)

        assert [] == pids(top)

    def test_a_temporary_child(self, top, record):
        """Never."""
        DynamicSupervisor.start_child(top, record.spec("a", restart="temporary"))
        sigkill("a")

        assert ChildCount(0, 0, 0, 0) == DynamicSupervisor.count_children(top)
        assert process.whereis("a") is None

    def test_that_fails_once(self, top, record):
        """Is tried again; who calls by name waits."""
        DynamicSupervisor.start_child(top, record.spec("a"))
        record.mood("a", "once custom")
        pid = restart("a")

        assert [pid] == pids(top)

    def test_that_ignores(self, top, record):
        """Is the end of that child."""
        DynamicSupervisor.start_child(top, record.spec("a"))
        record.mood("a", "ignore")
        sigkill("a")

        assert [] == pids(top)

    def test_the_others_are_not_touched(self, top, record):
        """Each is alone."""
        b = DynamicSupervisor.start_child(top, record.spec("b"))
        DynamicSupervisor.start_child(top, record.spec("a"))
        restart("a")

        assert b in pids(top)

    def test_one_too_many(self, record):
        """The supervisor gives up and stops the others."""
        top = DynamicSupervisor.start(max_restarts=0)
        DynamicSupervisor.start_child(top, record.spec("a"))
        b = DynamicSupervisor.start_child(top, record.spec("b"))
        sigkill("a")

        assert ("shutdown", "shutdown") == (top.wait(5.0), b.wait(5.0))
        with pytest.raises(NoProcess, match="gave up"):
            GenServer.call("a", "hello")


class TestTerminateChild:
    def test_stops_and_forgets_it(self, top, record):
        """A second time there is no such child."""
        pid = DynamicSupervisor.start_child(top, record.spec("a"))
        DynamicSupervisor.terminate_child(top, pid)
        with pytest.raises(NotFound):
            DynamicSupervisor.terminate_child(top, pid)

        assert ["start a", "stop a shutdown"] == record.take()

    def test_one_that_is_restarting(self, restarting):
        """Cancels the attempts, and its name is nobody's."""
        top, pid = restarting
        assert ChildCount(1, 0, 0, 1) == DynamicSupervisor.count_children(top)
        DynamicSupervisor.terminate_child(top, pid)

        assert [] == pids(top)
        with pytest.raises(NoProcess):
            GenServer.call("a", "hello")

    def test_brutally(self, top, record):
        """At once."""
        pid = DynamicSupervisor.start_child(top, record.spec("a", Stubborn, shutdown="brutal_kill"))
        DynamicSupervisor.terminate_child(top, pid)

        assert "killed" == pid.wait(0)

    def test_by_a_name(self, top):
        """A child is known by its pid."""
        with pytest.raises(TypeError, match="by pid"):
            DynamicSupervisor.terminate_child(top, "a")


class TestStop:
    @pytest.mark.slow
    def test_all_at_once(self, record):
        """Three that need to be killed take the time of one."""
        top = DynamicSupervisor.start()
        stubborn = [DynamicSupervisor.start_child(top, record.spec(n, Stubborn, shutdown=0.5)) for n in "abc"]
        quick = DynamicSupervisor.start_child(top, record.spec("d", shutdown=None))
        brutal = DynamicSupervisor.start_child(top, record.spec("e", Stubborn, shutdown="brutal_kill"))
        started = time.monotonic()
        DynamicSupervisor.stop(top)

        assert 0.5 <= time.monotonic() - started < 1.4
        assert ["killed"] * 3 == [pid.wait(0) for pid in stubborn]
        assert ("shutdown", "killed") == (quick.wait(0), brutal.wait(0))

    def test_a_killed_supervisor_leaves_nobody(self, record):
        """Its children end with it."""
        top = DynamicSupervisor.start()
        children = [DynamicSupervisor.start_child(top, record.spec(name)) for name in "ab"]
        process.exit(top, "kill")

        assert "killed" == top.wait(5.0)
        assert ["killed"] * 2 == [pid.wait(5.0) for pid in children]


class TestStrangers:
    @pytest.mark.parametrize("request_", ["hello", core.RestartChild("a"), core.GetChildspec("a")], ids=repr)
    def test_a_call_it_does_not_know(self, top, request_):
        """Raises in the caller; the supervisor goes on. There is nothing to restart by id."""
        with pytest.raises(OtpError, match="does not understand"):
            GenServer.call(top, request_)

        assert [] == pids(top)


class TestSystem:
    def test_suspended_it_restarts_nothing(self, top, record):
        """Until resumed."""
        DynamicSupervisor.start_child(top, record.spec("a"))
        system.suspend(top)
        first = sigkill("a")
        assert ("suspended", 1) == tuple(system.get_status(top)[key] for key in ("status", "queued"))
        system.resume(top)

        assert wait_restarted("a", after=first) != first

    def test_its_events(self, top, record):
        """As of any supervisor."""
        system.log(top, True)
        pid = DynamicSupervisor.start_child(top, record.spec("a"))
        events = system.log(top, "get")

        assert ["in", "noreply", "out"] == [event[0] for event in events]
        assert ("noreply", [("a", pid)]) in events
