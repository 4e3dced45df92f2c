"""PartitionSupervisor as processes: which partition a key means, and what becomes of it."""

import asyncio
import os

import pytest

from otp_runtime import (
    Agent,
    AlreadyStarted,
    BadChildSpec,
    BadSupervisorFlags,
    ChildCount,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    InitFailed,
    NoProcess,
    PartitionSupervisor,
    Supervisor,
    Via,
    process,
)
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.children import Recorder


class Book:
    """A registry that is a file: `register_name` and `whereis_name` are all that `Via` needs."""

    path = ""

    @classmethod
    def register_name(cls, key, pid):
        """Note a pid under a key, in the process that has it."""
        with open(key, "w", encoding="utf-8") as file:
            file.write(f"{pid.node} {pid.id} {pid.incarnation}")

    @classmethod
    def whereis_name(cls, key):
        """Give the pid under a key."""
        from otp_runtime import Pid

        if not os.path.exists(key):
            return None
        with open(key, encoding="utf-8") as file:
            node, *numbers = file.read().split()
        return Pid(node, *map(int, numbers))


def via(key, name="pool"):
    return Via(PartitionSupervisor, (name, key))


def number(arg, partition):
    return (*arg, partition)


def both(arg, partition):
    """A start function of a user's, with two arguments."""
    return Agent.start_link(lambda: (arg, partition))


@pytest.fixture
def pool(me):
    """Four agents, which give up late."""
    spec = Agent.child_spec(dict)
    with PartitionSupervisor.start_link(spec, name="pool", partitions=4, max_restarts=10_000_000) as pid:
        yield pid


class TestStartLink:
    def test_starts_one_per_partition(self, pool):
        """Their ids are their numbers."""
        assert [3, 2, 1, 0] == [one.id for one in PartitionSupervisor.which_children("pool")]
        assert ChildCount(4, 4, 0, 4) == PartitionSupervisor.count_children(pool)
        assert 4 == PartitionSupervisor.partitions("pool") == PartitionSupervisor.partitions(pool)

    def test_default_is_one_per_processor(self, me):
        """Of those that this program may use."""
        with PartitionSupervisor.start_link(Agent, name="pool"):
            assert len(os.sched_getaffinity(0)) == PartitionSupervisor.partitions("pool")

    def test_with_arguments(self, me):
        """Each partition has its own."""
        child = ChildSpec("both", (both, ("arg",), {}))
        with PartitionSupervisor.start_link(child, name="pool", partitions=2, with_arguments=number):
            assert [("arg", 0), ("arg", 1)] == [Agent.get(via(key), tuple) for key in (0, 1)]

    def test_partitions_that_are_supervisors(self, me):
        """Named like any partition."""
        with PartitionSupervisor.start_link(DynamicSupervisor, name="pool", partitions=2):
            pid = DynamicSupervisor.start_child(via(1), Agent)

            assert [pid] == [one.pid for one in DynamicSupervisor.which_children("pool/1")]
            assert [] == DynamicSupervisor.which_children(via(0))
            assert ChildCount(2, 2, 0, 2) != PartitionSupervisor.count_children("pool")

    def test_partitions_that_are_supervisors_of_a_kind(self, me):
        """Of a class with `init` as well: that ran elsewhere, and the supervisor got the name."""
        with PartitionSupervisor.start_link(Rooms, name="pool", partitions=2):
            before = GenServer.whereis(via(1))
            after = wait_restarted("pool/1", after=sigkill("pool/1"))

            assert before != after
            assert "supervisor" == PartitionSupervisor.which_children("pool")[0].type

    def test_via_a_registry(self, me, tmp_path):
        """The supervisor's own name may be of any kind."""
        name = Via(Book, str(tmp_path / "book"))
        with PartitionSupervisor.start_link(Agent, name=name, partitions=2):
            Agent.update(via("key", name), lambda held: {**held, "a": 1})

            assert {"a": 1} == Agent.get(via("key", name), dict)
            assert 2 == PartitionSupervisor.partitions(name)
            PartitionSupervisor.stop(name)

    def test_its_name_is_taken(self, pool):
        """By whom."""
        with pytest.raises(AlreadyStarted) as error:
            PartitionSupervisor.start_link(Agent, name="pool")

        assert error.value.pid == pool

    @pytest.mark.parametrize("partitions", [0, -1, 1.5, "2", True])
    def test_bad_partitions(self, partitions):
        """Are refused in the caller."""
        with pytest.raises(BadSupervisorFlags, match="partitions"):
            PartitionSupervisor.start_link(Agent, name="pool", partitions=partitions)

    @pytest.mark.parametrize(
        ("child", "options", "error"),
        [
            (42, {"name": "pool"}, BadChildSpec),
            (Agent, {}, TypeError),
            (Agent, {"name": None}, TypeError),
            (Agent, {"name": "pool", "strategy": "any"}, BadSupervisorFlags),
            (Agent, {"name": "pool", "auto_shutdown": "never"}, TypeError),
            (Agent, {"name": "pool", "with_arguments": lambda *_: 1}, BadChildSpec),
            (Agent, {"name": "pool", "with_arguments": 1}, BadChildSpec),
            (Agent.child_spec(dict, name="mine"), {"name": "pool"}, BadChildSpec),
            (Agent, {"name": "p" * 199}, ValueError),
        ],
        ids=["child", "no name", "None", "strategy", "unknown", "with_arguments", "no function", "own name", "long"],
    )
    def test_bad_arguments(self, me, child, options, error):
        """Are refused in the caller."""
        with pytest.raises(error):
            PartitionSupervisor.start_link(child, **options)

    def test_in_an_event_loop(self, me):
        """Without blocking it."""
        pid = asyncio.run(PartitionSupervisor.astart(Agent, name="pool", partitions=1))

        PartitionSupervisor.stop(pid)

    def test_is_a_child(self, me):
        """Of another supervisor; its id is its name."""
        spec = PartitionSupervisor.child_spec(Agent, name="pool", partitions=2, with_arguments=lambda args, _: args)
        with Supervisor.start_link([spec], strategy="one_for_one") as top:
            assert ["pool"] == [one.id for one in Supervisor.which_children(top)]
            assert {} == Agent.get(via(0), dict)
        with pytest.raises(BadSupervisorFlags):
            PartitionSupervisor.child_spec(Agent, name="pool", partitions=0)


class Rooms(DynamicSupervisor):
    def init(self, arg):
        return DynamicSupervisor.spec(max_children=3)


class TestVia:
    def test_a_key_means_one_partition(self, pool):
        """An int its remainder, anything else always the same."""
        assert process.whereis("pool/2") == GenServer.whereis(via(2)) == GenServer.whereis(via(-6))
        assert GenServer.whereis(via("key")) == GenServer.whereis(via("key"))

    def test_in_another_process(self, pool):
        """It means the same: a hash that is salted would not."""
        names = [PartitionSupervisor.whereis_name(("pool", ("user", key))) for key in "abcdef"]

        assert names == Agent.get(
            via(0), lambda _: [PartitionSupervisor.whereis_name(("pool", ("user", key))) for key in "abcdef"]
        )

    def test_a_call_waits_for_a_restart(self, pool, record):
        """As by any name."""
        sigkill("pool/1")

        assert {} == Agent.get(via(1), dict)
        assert GenServer.whereis(via(1)) == process.whereis("pool/1")

    def test_a_call_waits_for_the_supervisor(self, me):
        """That is restarted itself."""
        spec = PartitionSupervisor.child_spec(Agent, name="pool", partitions=2)
        with Supervisor.start_link([spec], strategy="one_for_one"):
            old = GenServer.whereis(via(1))
            sigkill("pool")

            assert {} == Agent.get(via(1), dict)
            assert old != GenServer.whereis(via(1))

    def test_an_asynchronous_call_waits_too(self, me):
        """For both."""
        spec = PartitionSupervisor.child_spec(Agent, name="pool", partitions=2)

        async def ask():
            return await GenServer.acall(via(1), ("get", dict))

        with Supervisor.start_link([spec], strategy="one_for_one"):
            sigkill("pool")
            assert {} == asyncio.run(ask())
            sigkill("pool/1")
            assert {} == asyncio.run(ask())

    def test_the_supervisor_is_not_asked(self, pool):
        """Which may be busy or stopped."""
        import signal

        os.kill(pool.os_pid, signal.SIGSTOP)
        try:
            assert {} == Agent.get(via("key"), dict)
            assert 4 == PartitionSupervisor.partitions("pool")
        finally:
            os.kill(pool.os_pid, signal.SIGCONT)

    @pytest.mark.parametrize("name", ["nobody", Via(Book, "/nowhere/at/all")], ids=["local", "via"])
    def test_no_such_supervisor(self, me, name):
        """NoProcess."""
        for ask in (
            lambda: Agent.get(via(1, name), dict),
            lambda: PartitionSupervisor.partitions(name),
            lambda: PartitionSupervisor.which_children(name),
            lambda: PartitionSupervisor.count_children(name),
        ):
            with pytest.raises(NoProcess):
                ask()

    def test_another_process_by_that_name(self, pool):
        """Is no partition supervisor."""
        with pytest.raises(NoProcess, match="no PartitionSupervisor"):
            GenServer.call(via(1, "pool/1"), "hello")

    @pytest.mark.parametrize("key", ["pool", ("pool",), 7])
    def test_needs_a_pair(self, pool, key):
        """Of the supervisor's name and the key."""
        with pytest.raises(TypeError, match="needs a pair"):
            GenServer.call(Via(PartitionSupervisor, key), "hello")

    def test_is_no_name_to_take(self, pool):
        """Partitions get theirs from their supervisor."""
        with pytest.raises(TypeError, match="cannot be named via PartitionSupervisor"):
            Agent.start_link(dict, name=via(1))


class TestDeath:
    def test_only_one_is_restarted(self, pool):
        """Unless the strategy says otherwise."""
        before = [GenServer.whereis(via(key)) for key in range(4)]
        new = wait_restarted("pool/2", after=sigkill("pool/2"))

        assert [*before[:2], new, before[3]] == [GenServer.whereis(via(key)) for key in range(4)]

    def test_a_start_that_fails(self, record):
        """Takes back those before it, as with any supervisor."""
        child = Recorder.child_spec((record.path, "bad"))
        record.mood("bad", "once custom")
        with pytest.raises(InitFailed, match="failed_to_start_child"):
            PartitionSupervisor.start_link(child, name="pool", partitions=3)

        assert process.whereis("pool") is None

    def test_stop(self, record):
        """The last one first; then nobody has the names."""
        child = Recorder.child_spec((record.path, "x"))
        PartitionSupervisor.start(child, name="pool", partitions=2)
        PartitionSupervisor.stop("pool")

        assert ["start x", "start x", "stop x shutdown", "stop x shutdown"] == record.take()
        assert [None, None] == [process.whereis("pool/0"), process.whereis("pool")]
