"""A wait before a restart: how long, and what happens to callers, siblings and requests meanwhile."""

import pytest

from otp_runtime import (
    Agent,
    Backoff,
    BadChildSpec,
    CallTimeout,
    DynamicSupervisor,
    GenEvent,
    GenServer,
    GenStateMachine,
    NoProcess,
    PartitionSupervisor,
    Registry,
    Restarting,
    Supervisor,
    Task,
    TaskSupervisor,
    pg,
    process,
    why,
)
from otp_runtime.host import poller
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.children import Plain, Recorder

LONG = Backoff(first=60.0, cap=60.0)
SHORT = Backoff(first=0.1, cap=0.4, jitter=0.0)


def supervise(*children, strategy="one_for_one", **flags):
    return Supervisor.start_link(list(children), strategy=strategy, **{"max_restarts": 99, **flags})


def agent(name="a", **fields):
    return Agent.child_spec(dict, name=name, **fields)


def pid_of(sup, id):
    return next(child.pid for child in Supervisor.which_children(sup) if child.id == id)


class TestWait:
    @pytest.mark.slow
    def test_grows(self, me):
        """Each restart in a row waits twice as long; the clock of this program sees at least that."""
        with supervise(agent(backoff=SHORT)):
            waited = []
            for _ in range(3):
                killed = sigkill("a")
                at = poller.now()
                wait_restarted("a", after=killed)
                waited.append(poller.now() - at)

        assert [True] * 3 == [least <= each for least, each in zip((0.1, 0.2, 0.4), waited, strict=True)]

    def test_the_record_says_it(self, me):
        """How long the child waits, beside the number of the restart."""
        with supervise(agent(backoff=SHORT)):
            record = why(sigkill("a"))

        assert (0.1, 1) == (record.backoff, record.restart["n"])

    def test_a_call_by_name_waits(self, me):
        """As in any restart."""
        with supervise(agent(backoff=SHORT)):
            sigkill("a")

            assert {} == Agent.get("a", lambda held: held)

    def test_a_call_waits_no_longer_than_its_timeout(self, me):
        """The name is known to come back, but not in time."""
        with supervise(agent(backoff=LONG)):
            sigkill("a")
            assert None is process.whereis("a")

            with pytest.raises(CallTimeout):
                Agent.get("a", lambda held: held, timeout=0.05)

    def test_a_seed_is_drawn_and_kept(self, me):
        """`get_childspec` shows it; one that was given stays."""
        with supervise(agent("a", backoff=Backoff()), agent("b", backoff=Backoff(seed=7))) as sup:
            seeds = [Supervisor.get_childspec(sup, id).backoff.seed for id in "ab"]

        assert isinstance(seeds[0], int)
        assert 7 == seeds[1]

    def test_the_intensity_counts(self, me):
        """The restart one too many is not waited for."""
        sup = supervise(agent(backoff=LONG), max_restarts=0)
        sigkill("a")
        assert "shutdown" == sup.wait(5.0)

        with pytest.raises(NoProcess, match="gave up"):
            Agent.get("a", len)


class TestMeanwhile:
    def test_the_child_is_restarting(self, me):
        """And the supervisor answers, starts others, and refuses what OTP refuses."""
        with supervise(agent(backoff=LONG)) as sup:
            sigkill("a")
            assert "restarting" == pid_of(sup, "a")
            Supervisor.start_child(sup, agent("b"))
            for refused in (Supervisor.restart_child, Supervisor.delete_child):
                with pytest.raises(Restarting):
                    refused(sup, "a")

            assert 1 == Supervisor.count_children(sup).active

    def test_terminate_child(self, me):
        """It is down, its name nobody's, and it can be started by hand."""
        with supervise(agent(backoff=LONG)) as sup:
            sigkill("a")
            Supervisor.terminate_child(sup, "a")
            with pytest.raises(NoProcess):
                Agent.get("a", len)
            assert process.alive(Supervisor.restart_child(sup, "a"))

            assert {} == Agent.get("a", lambda held: held)

    def test_a_shutdown_does_not_wait(self, me):
        """It takes no longer than without a wait."""
        with supervise(agent(backoff=LONG)) as sup:
            sigkill("a")
            at = poller.now()
            Supervisor.stop(sup)

        assert poller.now() - at < 5.0

    @pytest.mark.slow
    def test_siblings(self, me, tmp_path):
        """One_for_all: they stop at once, and start after the wait, in order."""
        path = str(tmp_path / "record")
        specs = [Recorder.child_spec((path, id), name=id, backoff=SHORT if id == "b" else None) for id in "abc"]
        with supervise(*specs, strategy="one_for_all") as sup:
            killed = sigkill("b")
            assert [None, "restarting", None] == [pid_of(sup, id) for id in "abc"]
            wait_restarted("c", after=killed)
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()

        assert ["stop c shutdown", "stop a shutdown", "start a", "start b", "start c"] == lines[3:]

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_siblings_are_waited_for(self, me, strategy):
        """Each of those that were stopped with it: a call by name finds its successor."""
        with supervise(*(agent(id, backoff=SHORT) for id in "abc"), strategy=strategy):
            before = [process.whereis(id) for id in "bc"]
            sigkill("a")
            for pid in before:
                pid.wait(5.0)

            assert [{}, {}] == [Agent.get(id, lambda held: held) for id in "bc"]

    def test_of_a_dynamic_supervisor(self, me):
        """The child goes by its last pid, and can be terminated by that."""
        with DynamicSupervisor.start_link() as sup:
            pid = DynamicSupervisor.start_child(sup, Plain.child_spec(("/dev/null", "x"), backoff=LONG))
            sigkill(pid)
            assert ["restarting"] == [child.pid for child in DynamicSupervisor.which_children(sup)]
            DynamicSupervisor.terminate_child(sup, pid)

            assert [] == DynamicSupervisor.which_children(sup)

    def test_a_dynamic_child_comes_back(self, me):
        """After the wait, with its name."""
        with DynamicSupervisor.start_link() as sup:
            DynamicSupervisor.start_child(sup, agent(backoff=SHORT))
            old = sigkill("a")
            new = wait_restarted("a", after=old)

            assert [new] == [child.pid for child in DynamicSupervisor.which_children(sup)]


class Patient(GenServer):
    """Says for its class how long to wait."""

    backoff = LONG


class Door(GenStateMachine):
    """So does a machine."""

    backoff = LONG


class TestGiven:
    @pytest.mark.parametrize(
        "make",
        [
            GenServer.child_spec,
            Door.child_spec,
            GenEvent.child_spec,
            Agent.child_spec,
            lambda **given: Task.child_spec(print, **given),
            lambda **given: Supervisor.child_spec([], strategy="one_for_one", **given),
            DynamicSupervisor.child_spec,
            TaskSupervisor.child_spec,
            lambda **given: PartitionSupervisor.child_spec(Agent, name="p", **given),
            lambda **given: Registry.child_spec(keys="unique", name="r", **given),
            lambda **given: pg.child_spec("s", **given),
        ],
    )
    def test_to_every_child_spec(self, make):
        """The keyword is a field of the spec."""
        assert SHORT == make(backoff=SHORT).backoff

    @pytest.mark.parametrize("cls", [Patient, Door])
    def test_by_the_class(self, cls):
        """Unless a spec says otherwise, also that there is none."""
        assert (LONG, None) == (cls.child_spec().backoff, cls.child_spec(backoff=None).backoff)

    def test_none_is_the_default(self):
        """A restart does not wait, as in OTP."""
        assert None is GenServer.child_spec().backoff

    def test_wrong_is_refused_in_the_caller(self, me):
        """Nothing is started."""
        with pytest.raises(BadChildSpec, match="spec of child 'a': backoff=5; allowed"):
            supervise(agent(backoff=5))

        assert None is process.whereis("a")

    def test_a_method_of_that_name_is_refused(self):
        """It is a setting."""
        with pytest.raises(TypeError, match="backoff is a setting"):
            type("Bad", (GenServer,), {"backoff": lambda self: 1})
