"""Budgets: above the soft limit a server is recycled, above a hard one it is killed, and both are told."""

import itertools
import logging
import os
import queue
import threading

import psutil
import pytest

from otp_runtime import (
    Agent,
    BadChildSpec,
    BadSupervisorFlags,
    Down,
    DynamicSupervisor,
    GenServer,
    InitFailed,
    Limits,
    NoReply,
    PartitionSupervisor,
    ServerDown,
    Supervisor,
    Via,
    process,
    why,
)
from otp_runtime.host import poller
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, sigkill, wait_restarted
from tests.supervision.spenders import (
    MB,
    AsyncSpender,
    GreedyInit,
    Locked,
    Spender,
    SpendingMachine,
    burn,
    creep,
    employ,
    keep,
    leak,
    open_files,
    value,
    waste,
    whoami,
)

SOON = 10.0
"""A limit is found in a fraction of a second; the machine may be busy."""


def supervise(*children, **flags):
    return Supervisor.start_link(list(children), strategy="one_for_one", **{"max_restarts": 10, **flags})


def spend(what, name="spender", timeout=10.0):
    return GenServer.call(name, what, timeout)


def base(name="spender"):
    """What a server uses before it does anything."""
    return psutil.Process(process.whereis(name).os_pid).memory_info().rss


@pytest.fixture
def reports():
    """The reports of recycles, as they come."""
    came = queue.SimpleQueue()

    class Handler(logging.Handler):
        def emit(self, record):
            came.put(record)

    logger = logging.getLogger("otp_runtime.recycle")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield came
    logger.removeHandler(handler)
    logger.setLevel(level)


class TestWrong:
    @pytest.mark.parametrize("limits", ["400MB", 400, {"rss_hard": 1}, Limits, True])
    def test_no_limits_at_all(self, limits):
        """The caller hears of it, before anything starts."""
        for start in (Spender.child_spec, Spender.start_link, Spender.start):
            with pytest.raises(BadChildSpec, match=r"Limits\(rss_soft=") as caught:
                start((None, 0), limits=limits)
            assert caught.value.field == "limits"

    def test_a_method_of_that_name(self):
        """It would be no limit."""
        with pytest.raises(TypeError, match="limits = …"):
            type("Wrong", (GenServer,), {"limits": lambda self: None})

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor, PartitionSupervisor])
    def test_supervisors(self, kind):
        """They run no code of yours."""
        arguments = {
            Supervisor: (([],), {"strategy": "one_for_one"}),
            DynamicSupervisor: ((), {}),
            PartitionSupervisor: ((Spender,), {"name": "pool"}),
        }
        args, keywords = arguments[kind]
        for start in (kind.start_link, kind.start, kind.child_spec):
            with pytest.raises(BadSupervisorFlags, match="give limits to its children"):
                start(*args, **keywords, limits=Limits(rss_hard="1GB"))

    def test_a_supervisors_class(self):
        """The same as an attribute."""
        limited = type("Limited", (DynamicSupervisor,), {"limits": Limits(rss_hard="1GB")})

        with pytest.raises(BadSupervisorFlags, match="Limited"):
            limited.start_link()


def others_of(parent, helpers):
    """The OS pids of the children of a supervisor that are no helpers."""
    return [one.pid for one in parent.children() if one.is_running() and one.name() not in helpers]


@pytest.mark.slow
@pytest.mark.usefixtures("otp_node")
class TestSoft:
    @pytest.mark.parametrize("cls", [Spender, AsyncSpender])
    def test_a_recycle(self, me, reports, cls):
        """Another OS process; the same process, state and name; nobody died; reported once, as information."""
        with supervise(cls.child_spec((me, 7), name="spender", limits=Limits(rss_soft="150MB"))) as sup:
            (_, first) = assert_receive(("init", ...), SOON)
            pid = process.whereis("spender")
            spend(leak(200 * MB))
            (_, second) = assert_receive(("init", ...), SOON)
            report = reports.get(timeout=SOON)

            assert (8, second, pid) == (spend(value), spend(whoami), process.whereis("spender"))
            assert (first != second, base() < 150 * MB) == (True, True)
            assert (report.levelno, report.otp["server"], report.otp["allowed"]) == (logging.INFO, "spender", 150 * MB)
            assert report.otp["used"] > 150 * MB > report.otp["used_after"]
            assert why(pid) is None
            assert Supervisor.count_children(sup).active == 1
        assert reports.empty()

    def test_a_class_that_cannot_be_imported(self, me):
        """No new code is needed, so none is looked for."""

        class Local(Spender):
            limits = Limits(rss_soft="150MB")

            def handle_call(self, request, client, state):
                return leak(request)(self, client, state) if request else whoami(self, client, state)

        with supervise(Local.child_spec((me, 7), name="spender")):
            (_, first) = assert_receive(("init", ...), SOON)
            spend(200 * MB)
            assert_receive(("init", ...), SOON)

            assert spend(None) != first

    def test_a_state_machine(self, me):
        """Its state and data are kept."""
        spec = SpendingMachine.child_spec(me, name="spender", limits=Limits(rss_soft="150MB"))
        with supervise(spec):
            (_, first) = assert_receive(("init", ...), SOON)
            spend(200 * MB)
            (_, second) = assert_receive(("init", ...), SOON)

            assert (2, True) == (spend(1), first != second)

    def test_a_root(self, me):
        """A server that no supervisor has."""
        pid = Spender.start_link((me, 7), limits=Limits(rss_soft="150MB"))
        assert_receive(("init", ...), SOON)
        spend(leak(200 * MB), pid)
        (_, second) = assert_receive(("init", ...), SOON)

        assert (second, 8) == (spend(whoami, pid), spend(value, pid))

    def test_a_partition(self, me):
        """It has the name of its partition, which its successor does not take again."""
        spec = Spender.child_spec((me, 7), limits=Limits(rss_soft="150MB"))
        with PartitionSupervisor.start_link(spec, name="pool", partitions=1):
            partition = Via(PartitionSupervisor, ("pool", 0))
            assert_receive(("init", ...), SOON)
            spend(leak(200 * MB), partition)
            (_, second) = assert_receive(("init", ...), SOON)

            assert (second, 8) == (spend(whoami, partition), spend(value, partition))

    def test_no_call_fails(self, me):
        """A megabyte leaks with every message; calls go on meanwhile, and each is counted once."""
        with supervise(Spender.child_spec((me, 0), name="spender", limits=Limits(rss_soft="120MB"))):
            (_, first) = assert_receive(("init", ...), SOON)
            answers = [spend(leak(MB)) for _ in range(300)]
            (_, second) = assert_receive(("init", ...), SOON)

            assert (list(range(1, 301)), 300) == (answers, spend(value))
            assert first != second

    def test_two_thousand_calls(self, me, reports):
        """Of several callers at once."""
        failed, counts = [], []

        def call():
            try:
                counts.extend(spend(leak(MB)) for _ in range(500))
            except Exception as error:  # noqa: BLE001 - whatever it is
                failed.append(error)

        with supervise(Spender.child_spec((None, 0), name="spender", limits=Limits(rss_soft="120MB"))):
            callers = [threading.Thread(target=call) for _ in range(4)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            total = spend(value)

        assert ([], 2000, list(range(1, 2001))) == (failed, total, sorted(counts))
        assert reports.get(timeout=SOON).levelno == logging.INFO

    def test_a_state_that_is_too_large(self, me, reports):
        """One recycle in vain is told as a warning, and no other follows."""
        with supervise(Spender.child_spec((me, b""), name="spender", limits=Limits(rss_soft="100MB"))):
            spend(keep(120 * MB))
            report = reports.get(timeout=SOON)
            until = poller.now() + 1.5
            while poller.now() < until:
                spend(whoami)
            inits = [message for message in process.flush() if message[0] == "init"]

        assert (logging.WARNING, 2) == (report.levelno, len(inits))
        assert "recycled in vain" in report.getMessage()
        assert "60 s" in report.getMessage()
        assert reports.empty()

    def test_a_state_that_cannot_be_sent(self, me, reports):
        """The server serves on in the process it has."""
        with supervise(Locked.child_spec((me, 0), name="spender", limits=Limits(rss_soft="100MB"))):
            (_, first) = assert_receive(("init", ...), SOON)
            spend(lambda server, client, state: whoami(server.hoard.append(waste(120 * MB)), client, state))
            report = reports.get(timeout=SOON)

            assert (logging.WARNING, first) == (report.levelno, spend(whoami))
            assert "could not be recycled" in report.getMessage()
            assert "bad_state" in report.otp["refusal"]


@pytest.mark.slow
@pytest.mark.usefixtures("otp_node")
class TestHard:
    def limited(self, **limits):
        return supervise(Spender.child_spec((None, 0), name="spender", limits=Limits(**limits)))

    def dies(self, what, name="spender"):
        """Have a server do what it must not; give its reason, as a monitor hears it."""
        pid = process.whereis(name)
        ref = process.monitor(pid)
        GenServer.cast(name, lambda server, state: NoReply(what(server, None, state) and state))
        down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)
        return down.reason

    def test_rss_hard(self):
        """Killed and started again; the reason says which limit and how far, in `Down` and in `why`."""
        with self.limited(rss_hard="150MB"):
            old = process.whereis("spender")
            reason = self.dies(leak(200 * MB))
            wait_restarted("spender", after=old)
            record = why("spender")
        limit, field, used, allowed = reason

        assert ("limit", "rss_hard", 150 * MB) == (limit, field, allowed)
        assert used > allowed
        assert (record.kind, record.reason, record.restart["n"]) == ("limit", reason, 1)
        assert record.samples[-1]["rss"] > 0

    def test_the_text(self):
        """For people, with the unit."""
        with self.limited(rss_hard="150MB"):
            old = process.whereis("spender")
            self.dies(leak(200 * MB))
            wait_restarted("spender", after=old)
            text = why("spender").to_json()["reason"]

        assert text[:2] == ["limit", "rss_hard"]

    def test_a_caller(self):
        """It hears the same."""
        with self.limited(rss_hard="150MB"), pytest.raises(ServerDown) as caught:
            spend(lambda server, client, state: leak(200 * MB)(server, client, state) and burn(5.0)(server, client, 0))

        assert caught.value.reason[:2] == ("limit", "rss_hard")

    def test_cpu_seconds(self):
        """The time it computed, not the time that passed."""
        with self.limited(cpu_seconds=0.3):
            _limit, field, used, allowed = self.dies(burn(30.0))

        assert ("cpu_seconds", 0.3) == (field, allowed)
        assert 0.3 < used < 1.0

    def test_cpu_seconds_outlive_a_recycle(self, me):
        """They are the process's, which is the same."""
        limits = Limits(rss_soft="150MB", cpu_seconds=1.0)
        with supervise(Spender.child_spec((me, 0), name="spender", limits=limits)):
            assert_receive(("init", ...), SOON)
            spend(burn(0.7))
            spend(leak(200 * MB))
            assert_receive(("init", ...), SOON)
            _limit, field, used, _allowed = self.dies(burn(30.0))

        assert field == "cpu_seconds"
        assert used < 1.5

    def test_open_files(self):
        """Its descriptors, the library's included."""
        with self.limited(open_files=50):
            reason = self.dies(open_files(60))

        assert ("limit", "open_files", 50) == (*reason[:2], reason[3])
        assert 60 < reason[2] < 80

    def test_subprocesses_count(self, me):
        """And end with their server."""
        with self.limited(rss_hard="150MB"):
            reason = self.dies(employ(me, 200 * MB))
            (_, child) = assert_receive(("employed", ...), SOON)

        assert reason[:2] == ("limit", "rss_hard")
        assert not psutil.pid_exists(child)

    def test_in_init(self):
        """A start that uses too much fails."""
        with pytest.raises(InitFailed) as caught:
            supervise(GreedyInit.child_spec(20 * MB, name="greedy", limits=Limits(rss_hard="150MB")), max_restarts=0)

        assert caught.value.reason[1][2][:2] == ("limit", "rss_hard")

    def test_in_the_middle_of_a_recycle(self, me, reports):
        """A callback that never ends is waited for by the recycle, not by the hard limit; no process is left.

        Nor is there word of a recycle that failed.
        """
        limits = Limits(rss_soft="100MB", rss_hard="300MB")
        with supervise(Spender.child_spec((me, 0), name="spender", limits=limits)):
            old = process.whereis("spender")
            reason = self.dies(creep)
            new = wait_restarted("spender", after=old)
            # from the second start on a supervisor has a template, and for some seconds a process kept ahead
            helpers = {"otp:template", "otp:spare"}
            deadline = poller.now() + 5.0
            while [new.os_pid] != (members := others_of(psutil.Process(new.os_pid).parent(), helpers)):
                # what has just been forked is not called a helper yet
                assert poller.now() < deadline, members
                current().pump(0.01)

            assert reason[:2] == ("limit", "rss_hard")
        assert reports.empty()

    def test_it_counts_against_the_intensity(self):
        """As every abnormal end."""
        spec = Spender.child_spec((None, 0), name="spender", limits=Limits(open_files=30))
        sup = Supervisor.start([spec], strategy="one_for_one", max_restarts=0)
        ref = process.monitor(sup)
        GenServer.cast("spender", lambda server, state: NoReply(open_files(60)(server, None, state) and state))
        down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)

        assert down.reason == "shutdown"

    def test_a_root(self):
        """It is killed, and nobody starts it again."""
        pid = Spender.start((None, 0), name="spender", limits=Limits(open_files=30))
        reason = self.dies(open_files(60))

        assert reason[:2] == ("limit", "open_files")
        assert (why(pid).kind, process.whereis("spender")) == ("limit", None)

    def test_an_agent(self):
        """By its options."""
        with supervise(Agent.child_spec(list, name="spender", limits=Limits(open_files=30))):
            old = process.whereis("spender")
            ref = process.monitor(old)
            Agent.cast("spender", lambda state: [*state, *map(open, [os.devnull] * 60)])
            down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)

        assert down.reason[:2] == ("limit", "open_files")

    def test_within_its_limits(self):
        """It is left alone."""
        with self.limited(rss_hard="300MB", cpu_seconds=60.0, open_files=100):
            pid = process.whereis("spender")
            spend(leak(100 * MB))
            spend(burn(0.4))
            spend(open_files(20))

            assert pid == process.whereis("spender")
        # what is on record is the death of an earlier one by that name
        assert pid.id != getattr(why(pid), "id", None)


@pytest.mark.slow
@pytest.mark.usefixtures("otp_node")
class TestSamples:
    def test_of_a_server_that_works(self, me):
        """What the kernel says of it and its subprocesses, once a second at most."""
        with supervise(Spender.child_spec((None, 0), name="spender")):
            spend(leak(50 * MB))
            # two looks fall into it, a second apart
            spend(burn(2.1))
            sees = base()
            wait_restarted("spender", after=sigkill("spender"))
            samples = why("spender").samples

        assert [{"t", "rss", "cpu", "mailbox"}] * len(samples) == [set(sample) for sample in samples]
        assert all(after["t"] - before["t"] > 0.8 for before, after in itertools.pairwise(samples))
        assert len(samples) >= 2
        assert abs(samples[-1]["rss"] - sees) < 5 * MB
        assert 0.0 < samples[-1]["cpu"] <= 1.1

    def test_the_mailbox(self):
        """Bytes that wait, read already or not."""
        with supervise(Spender.child_spec((None, 0), name="spender")):
            GenServer.cast("spender", lambda server, state: NoReply(burn(2.1)(server, None, state).state))
            for _ in range(20):
                GenServer.cast("spender", b"x" * 1000)
            ref = process.monitor("spender")
            process.receive(lambda message: isinstance(message, Down) and message.ref == ref, 10.0)
            samples = why("spender").samples

        assert max(sample["mailbox"] for sample in samples) >= 20_000

    def test_of_a_server_that_was_new(self):
        """There is at least what it used at its start, if it lived that long."""
        with supervise(Spender.child_spec((None, 0), name="spender")):
            spend(burn(0.3))
            wait_restarted("spender", after=sigkill("spender"))

            assert why("spender").samples[0]["rss"] > 0
