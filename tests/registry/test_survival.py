"""What a registry survives: kill -9 of its processes, a stop of them, its own end."""

import contextlib
import os
import signal
import time

import pytest

from otp_runtime import GenServer, NoProcess, ReceiveTimeout, Registry, Supervisor, process
from otp_runtime.core import registry
from otp_runtime.host.tables import TableFile
from otp_runtime.testing import leaks
from tests.registry.actors import Actor, write_for_ever

LOOKUPS_PER_SECOND = 100_000


def keepers(registry):
    return {child.id: child.pid for child in Supervisor.which_children(registry)}


def kill_a_keeper(registry, number):
    """Kill who looks after a partition, and wait until it is back."""
    before = keepers(registry)[number]
    os.kill(before.os_pid, signal.SIGKILL)
    before.wait(5.0)
    while keepers(registry)[number] == before:
        pause()
    return keepers(registry)[number]


def pause():
    """Let a moment pass, and take no message out."""
    with contextlib.suppress(ReceiveTimeout):
        process.receive("never sent", 0.001)


def log_bytes(otp_node, name):
    return sum(one.stat().st_size for one in (otp_node.directory / "tables" / name).iterdir())


class TestKilledPartition:
    @pytest.mark.parametrize("keys", ["unique", "duplicate"])
    def test_keeps_the_living(self, otp_node, keys, me):
        """Their entries and the metadata; nobody who registered is touched."""
        with (
            Registry.start_link(keys=keys, name="kept", partitions=2),
            Actor.start_link([("kept", "a", 1), ("kept", ("b", 2), 2)]) as actor,
        ):
            Registry.register("kept", "mine", 3)
            Registry.put_meta("kept", "m", 4)
            for number in (0, 1):
                kill_a_keeper("kept", number)
            found = [Registry.lookup("kept", key) for key in ("a", ("b", 2), "mine")]

            assert [[(actor, 1)], [(actor, 2)], [(me, 3)]] == found
            assert (3, 4, True) == (Registry.count("kept"), Registry.meta("kept", "m"), process.alive(actor))

    def test_forgets_who_died_meanwhile(self, otp_node):
        """Nothing of it is left in the log either."""
        with Registry.start_link(keys="unique", name="kept"):
            keeper = keepers("kept")[0]
            os.kill(keeper.os_pid, signal.SIGSTOP)
            pid = Actor.start([("kept", number, "x" * 1000) for number in range(30)])
            process.exit(pid, "kill")
            pid.wait(5.0)
            grown = log_bytes(otp_node, "kept")
            kill_a_keeper("kept", 0)

            assert (0, True) == (Registry.count("kept"), log_bytes(otp_node, "kept") < 1000 < grown)

    def test_clears_up_again(self, otp_node):
        """After the one who was brought back has heard of a death, the log holds nothing of it."""
        with Registry.start_link(keys="unique", name="kept"):
            kill_a_keeper("kept", 0)
            before = log_bytes(otp_node, "kept")
            with Actor.start_link([("kept", "k", "x" * 3000)]):
                pass
            # only who has been told of the death writes that it has left
            while not _says_gone(otp_node, "kept"):
                pause()
            kill_a_keeper("kept", 0)

            assert before == log_bytes(otp_node, "kept")


def _says_gone(otp_node, name):
    """Whether the last record of the log is that of a process that left."""
    path = otp_node.directory / "tables" / name / "0"
    file = TableFile.open(str(path))
    generation, length = file.stamp
    return registry.GONE == file.read(generation, length - 18, length)[4]


class TestStopped:
    def test_nobody_waits(self, otp_node, me):
        """With the registry and its partitions stopped, all that is asked of it is done."""
        with Registry.start_link(keys="unique", name="stopped") as sup:
            stopped = [sup.os_pid, *(pid.os_pid for pid in keepers("stopped").values())]
            for one in stopped:
                os.kill(one, signal.SIGSTOP)
            try:
                with Actor.start_link([("stopped", "a", 1)]) as actor:
                    Registry.register("stopped", "mine", 2)
                    there = Registry.lookup("stopped", "a"), Registry.lookup("stopped", "mine")
                Registry.register("stopped", "a", 3)
                Registry.update_value("stopped", "a", lambda value: value + 1)
                Registry.unregister("stopped", "mine")
                left = Registry.select("stopped", lambda _key, _pid, _value: True)
            finally:
                for one in stopped:
                    os.kill(one, signal.SIGCONT)

        assert (([(actor, 1)], [(me, 2)]), [("a", me, 4)]) == (there, left)

    def test_does_not_grow(self, otp_node):
        """The log of a registry that nobody looks after is written anew by those who register."""
        with Registry.start_link(keys="unique", name="stopped"):
            keeper = keepers("stopped")[0].os_pid
            os.kill(keeper, signal.SIGSTOP)
            try:
                for number in range(4000):
                    Registry.register("stopped", number % 10, "x" * 100)
                    Registry.unregister("stopped", number % 10)
            finally:
                os.kill(keeper, signal.SIGCONT)

            assert log_bytes(otp_node, "stopped") < 150_000

    def test_is_as_fast(self, otp_node):
        """A hundred thousand look-ups a second and more, with the registry stopped: nobody is asked."""
        with Registry.start_link(keys="unique", name="stopped") as sup:
            Registry.register("stopped", "k", 1)
            stopped = [sup.os_pid, *(pid.os_pid for pid in keepers("stopped").values())]
            for one in stopped:
                os.kill(one, signal.SIGSTOP)
            try:
                rates = [_rate(2_000) for _ in range(20)]
            finally:
                for one in stopped:
                    os.kill(one, signal.SIGCONT)

        assert max(rates) > LOOKUPS_PER_SECOND


def _rate(count):
    started = time.perf_counter()
    for _ in range(count):
        Registry.lookup("stopped", "k")
    return count / (time.perf_counter() - started)


class TestEnd:
    def test_leaves_no_file(self, otp_node):
        """Stopped or killed."""
        Registry.start_link(keys="unique", name="first")
        second = Registry.start_link(keys="unique", name="second/x", partitions=3)
        Registry.register("first", "k", 1)
        Registry.register("second/x", "k", 1)
        Supervisor.stop("first")
        process.exit(second, "kill")
        second.wait(5.0)

        assert [] == leaks.files(otp_node.directory / "tables")

    def test_is_noticed(self, otp_node):
        """By who read it a moment ago."""
        with Registry.start_link(keys="unique", name="over"):
            Registry.register("over", "k", 1)
            Registry.lookup("over", "k")
        for ask in (Registry.lookup, Registry.register, Registry.unregister):
            with pytest.raises(NoProcess):
                ask("over", "k")

    def test_with_its_supervisor(self, otp_node):
        """A tree that stops, and one that is killed, take registries along."""
        specs = [Registry.child_spec(keys="unique", name=f"r{number}") for number in range(2)]
        with Supervisor.start_link(specs, strategy="one_for_one"):
            there = sorted(one.name for one in (otp_node.directory / "tables").iterdir())
        left = leaks.files(otp_node.directory / "tables")
        tree = Supervisor.start(specs, strategy="one_for_one")
        process.exit(tree, "kill")
        tree.wait(5.0)

        assert (["r0", "r1"], []) == (there, left)
        assert [] == leaks.files(otp_node.directory / "tables")

    def test_that_comes_back_keeps_its_entries(self, otp_node, me):
        """A registry killed under a supervisor: nobody who is registered hears of it."""
        spec = Registry.child_spec(keys="unique", name="back", partitions=2)
        with Supervisor.start_link([spec], strategy="one_for_one"):
            Registry.register("back", "k", 1)
            Registry.put_meta("back", "m", 2)
            seen = []
            for number in range(3):
                pid = process.whereis("back") or GenServer.whereis("back")
                os.kill(pid.os_pid, signal.SIGKILL)
                seen.append(Registry.lookup("back", "k"))
                pid.wait(5.0)
                Registry.register("back", ("meanwhile", number))
                Supervisor.count_children("back")

            assert [[(me, 1)]] * 3 == seen
            assert ([(me, 1)], 2, 4) == (
                Registry.lookup("back", "k"),
                Registry.meta("back", "m"),
                Registry.count("back"),
            )

    def test_that_was_stopped_and_started_again(self, otp_node):
        """By its supervisor, on request, begins empty, as in Elixir."""
        spec = Registry.child_spec(keys="unique", name="back")
        with Supervisor.start_link([spec], strategy="one_for_one") as sup:
            Registry.register("back", "k", 1)
            Supervisor.terminate_child(sup, "back")
            with pytest.raises(NoProcess):
                Registry.lookup("back", "k")
            Supervisor.restart_child(sup, "back")

            assert [] == Registry.lookup("back", "k")


class TestKilledWriters:
    @pytest.mark.slow
    def test_tear_nothing(self, otp_node):
        """Killed at any instant while they register: every entry is whole, and others go on registering."""
        with Registry.start_link(keys="duplicate", name="torn"):
            for _ in range(6):
                writers = [process.spawn(write_for_ever, "torn", number) for number in range(2)]
                until = time.monotonic() + 5.0
                while Registry.count("torn") < 20 and time.monotonic() < until:
                    pause()
                for one in writers:
                    process.exit(one, "kill")
                found = Registry.select("torn", lambda _key, _pid, _value: True)
                for one in writers:
                    one.wait(5.0)
                Registry.register("torn", "mine")
                Registry.unregister("torn", "mine")

                assert all(value == [key[0]] * 50 for key, _pid, value in found)
                assert 0 == Registry.count("torn")
