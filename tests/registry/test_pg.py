"""pg: process groups, as OTP's pg_SUITE has them for one node."""

import os
import signal

import pytest

from otp_runtime import (
    AlreadyStarted,
    Down,
    GenServer,
    NoProcess,
    Pid,
    Registry,
    Supervisor,
    pg,
    process,
)
from otp_runtime.testing import assert_receive, leaks, wait_restarted
from tests.registry.actors import Actor, Room, linger


@pytest.fixture
def scope(otp_node):
    with pg.start_link() as pid:
        yield pid


@pytest.fixture
def pids(otp_node):
    return [process.spawn(linger) for _ in range(3)]


def end(pid):
    """Kill, and hear of it."""
    ref = process.monitor(pid)
    process.exit(pid, "kill")
    process.receive(lambda one: isinstance(one, Down) and one.ref == ref, 5.0)


class TestScope:
    def test_its_name(self, scope):
        """Is "pg", and only one has it."""
        with pytest.raises(AlreadyStarted) as error:
            pg.start()

        assert scope == process.whereis("pg") == error.value.pid

    def test_another(self, scope, me):
        """Has groups of its own."""
        with pg.start_link("other"):
            pg.join("other", "g", me)
            found = pg.get_members("g"), pg.get_members("other", "g"), pg.which_groups(), pg.which_groups("other")

        assert ([], [me], [], ["g"]) == found

    def test_none(self, me):
        """Is `NoProcess`, to read and to join."""
        for ask in (pg.which_groups, lambda: pg.get_members("g"), lambda: pg.join("g", me)):
            with pytest.raises(NoProcess):
                ask()

    def test_is_no_registry(self, scope, otp_node):
        """Nor is a registry a scope."""
        with Registry.start_link(keys="unique", name="registry"):
            with pytest.raises(NoProcess):
                pg.which_groups("registry")
            with pytest.raises(NoProcess):
                Registry.lookup("pg", "g")

    def test_restarted(self, otp_node, me):
        """Begins empty: who wants to be a member joins again."""
        with Supervisor.start_link([pg.child_spec()], strategy="one_for_one"):
            pg.join("g", me)
            pid = process.whereis("pg")
            os.kill(pid.os_pid, signal.SIGKILL)
            wait_restarted("pg", after=pid)
            found = pg.get_members("g")
            pg.join("g", me)

            assert ([], [me]) == (found, pg.get_members("g"))

    def test_leaves_no_file(self, otp_node, me):
        """When it ends."""
        pid = pg.start()
        pg.join("g", me)
        pg.get_members("g")
        end(pid)

        assert [] == leaks.files(otp_node.directory / "tables")


class TestJoin:
    @pytest.mark.parametrize("group", ["g", 1, ("room", 7), ["a", {"b": 1}], Room(1)])
    def test_any_group(self, scope, me, group):
        """Named by any data."""
        said = pg.join(group, me)

        assert ("ok", [me], [group]) == (said, pg.get_members(group), pg.which_groups())
        assert ([me], [group]) == (pg.get_local_members(group), pg.which_local_groups())

    def test_more_than_once(self, scope, me):
        """It is a member as often, and leaves as often."""
        pg.join("g", me)
        pg.join("g", [me, me])
        counts = [len(pg.get_members("g"))]
        for _ in range(3):
            pg.leave("g", me)
            counts.append(len(pg.get_members("g")))

        assert [3, 2, 1, 0] == counts
        assert ("not_joined", []) == (pg.leave("g", me), pg.which_groups())

    def test_many(self, scope, pids):
        """A list of processes, and any number of groups."""
        pg.join("g", pids)
        pg.join("h", pids[:1])
        said = pg.leave("g", [pids[0], pids[0], pids[1]])

        assert ("ok", [pids[2]], pids[:1]) == (said, pg.get_members("g"), pg.get_members("h"))

    @pytest.mark.parametrize("wrong", ["pid", 7, ["pid"], None])
    def test_no_pid(self, scope, wrong):
        """Is an error of the caller's."""
        for ask in (pg.join, pg.leave):
            with pytest.raises(TypeError, match="members of a group are"):
                ask("g", wrong)

        assert [] == pg.which_groups()

    def test_anothers_process(self, scope):
        """A process joins on its own node."""
        with pytest.raises(ValueError, match="another node"):
            pg.join("g", Pid("other@host", 1, 1))

    def test_number_of_arguments(self, scope, me):
        """One too few, one too many."""
        for arguments in ((), (me,), ("pg", "g", me, me)):
            with pytest.raises(TypeError, match=r"pg\.join"):
                pg.join(*arguments)

    def test_oneself_from_a_server(self, scope):
        """As servers do in `init`."""
        with Actor.start_link() as actor:
            GenServer.call(actor, (pg.join, "g", actor))
            found = pg.get_members("g")

        assert ([actor], []) == (found, pg.get_members("g"))


class TestDeath:
    def test_leaves(self, scope, pids):
        """All its groups, however often it is in them, before its `Down` is told."""
        pg.join("g", [*pids, pids[0]])
        pg.join("h", pids[0])
        end(pids[0])

        assert (pids[1:], ["g"]) == (pg.get_members("g"), pg.which_groups())

    def test_in_a_race_with_leave(self, scope):
        """Leaves the group empty, whoever came first."""
        _ref, before = pg.monitor("g")
        for _ in range(10):
            pid = process.spawn(linger)
            pg.join("g", pid)
            process.exit(pid, "kill")
            pg.leave("g", pid)
            pid.wait(5.0)
        events = [process.receive(tuple, 5.0)[1] for _ in range(20)]

        assert ([], [], ["join", "leave"] * 10) == (before, pg.get_members("g"), events)

    def test_of_the_dead(self, scope, pids):
        """Who is dead does not join."""
        end(pids[0])
        pg.join("g", pids[0])

        assert [] == pg.get_members("g")

    def test_seen_while_the_scope_is_stopped(self, scope, pids):
        """Reading asks nobody."""
        pg.join("g", pids)
        os.kill(scope.os_pid, signal.SIGSTOP)
        try:
            end(pids[0])
            found = pg.get_members("g")
        finally:
            os.kill(scope.os_pid, signal.SIGCONT)

        assert pids[1:] == found


class TestMonitor:
    def test_of_a_group(self, scope, pids):
        """Its members now, then who joins it and leaves it, in order; nothing of other groups."""
        pg.join("g", pids[0])
        ref, members = pg.monitor("g")
        pg.join("h", pids)
        pg.join("g", pids[1:])
        pg.leave("g", pids[1])
        end(pids[0])
        events = [assert_receive(tuple, 5.0) for _ in range(3)]

        assert [pids[0]] == members
        assert [(ref, "join", "g", pids[1:]), (ref, "leave", "g", [pids[1]]), (ref, "leave", "g", [pids[0]])] == events
        assert [] == process.flush()

    def test_of_a_scope(self, scope, pids):
        """All groups."""
        pg.join("g", pids[:2])
        pg.join(("h", 1), pids[0])
        ref, groups = pg.monitor_scope()
        pg.join("new", pids[2])

        assert {"g": pids[:2], ("h", 1): pids[:1]} == groups
        assert (ref, "join", "new", [pids[2]]) == assert_receive(tuple, 5.0)

    def test_of_oneself(self, scope, me):
        """A process hears of its own joins, and watches as often as it likes."""
        one, _ = pg.monitor("g")
        other, _ = pg.monitor("g")
        pg.join("g", me)

        assert {one, other} == {assert_receive(tuple, 5.0)[0] for _ in range(2)}

    def test_ends(self, scope, me):
        """On request; another request finds nothing."""
        one, _ = pg.monitor("g")
        other, _ = pg.monitor_scope()
        said = pg.demonitor(one), pg.demonitor("pg", one)
        pg.join("g", me)

        assert ("ok", False) == said
        assert [(other, "join", "g", [me])] == [assert_receive(tuple, 5.0), *process.flush()]

    def test_ends_with_who_watches(self, scope, me):
        """The scope then holds nothing for it."""
        with Actor.start_link() as actor:
            GenServer.call(actor, (pg.monitor_scope,))
            pg.join("g", me)
            heard = GenServer.call(actor, "heard")
        pg.join("g", me)

        assert ["join"] == [what for _ref, what, *_ in heard]
        assert 2 == len(pg.get_members("g"))


class TestCrowd:
    @pytest.mark.slow
    def test_joins_and_leaves(self, scope):
        """Many processes at once, each several groups."""
        actors = [Actor.start_link() for _ in range(5)]
        for number in range(20):
            requests = [GenServer.send_request(one, (pg.join, number % 3, one)) for one in actors]
            for rid in requests:
                GenServer.receive_response(rid)
        counts = {group: len(pg.get_members(group)) for group in range(3)}
        for one in actors:
            GenServer.stop(one)

        assert {0: 35, 1: 35, 2: 30} == counts
        assert [] == pg.which_groups()
