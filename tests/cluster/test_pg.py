"""pg across nodes: who joins on one is seen on all, and gone with its node."""

import contextlib

import pytest

from otp_runtime import CallError, CodecError, GenServer, OtpError, Pid, pg, process
from otp_runtime.core.copies import Change
from otp_runtime.registry.scope import DATA, TAG
from otp_runtime.testing import assert_receive
from tests.cluster.servers import Colour, Hoard, eventually, full, kill_gateway, start


@pytest.fixture
def scopes(here, there):
    """A scope on each node; they know each other."""
    pid = there.call(pg.start)
    scope = pg.start()
    yield scope, pid
    # whatever a test has put in their place as well
    for one in (pid, scope, there.call(process.whereis, "pg"), process.whereis("pg")):
        if one is not None:
            stop(one)


@pytest.fixture
def member(there):
    """A process on the other node."""
    pid = there.call(start)
    yield pid
    process.exit(pid, "kill")
    pid.wait(5.0)


def join(*args):
    return pg.join(*args)


def join_all(groups, pid):
    for group in groups:
        pg.join(group, pid)


def stop(pid):
    with contextlib.suppress(CallError):
        GenServer.stop(pid)


def members(*args):
    return pg.get_members(*args)


class TestMembers:
    def test_of_all_nodes(self, scopes, there, member):
        """Whoever joins anywhere is a member everywhere; local ones are those of one's own node."""
        ref, before = pg.monitor("g")
        there.call(join, "g", [member, member])
        assert_receive((ref, "join", "g", [member, member]), 5.0)
        pg.join("g", process.self())

        assert ([], [process.self()]) == (before, pg.get_local_members("g"))
        assert {member, process.self()} == set(pg.get_members("g"))
        assert 3 == len(eventually(lambda: len(found := there.call(members, "g")) == 3 and found))
        assert (["g"], ["g"]) == (pg.which_groups(), there.call(pg.which_local_groups))

    def test_leave(self, scopes, there, member):
        """As often as it joined; a group that nobody is in is none."""
        ref, _members = pg.monitor("g")
        there.call(join, "g", [member, member])
        assert_receive((ref, "join", "g", [member, member]), 5.0)
        there.call(pg.leave, "g", member)
        assert_receive((ref, "leave", "g", [member]), 5.0)
        assert ([member], []) == (pg.get_members("g"), pg.get_local_members("g"))
        there.call(pg.leave, "g", member)
        assert_receive((ref, "leave", "g", [member]), 5.0)

        assert ([], [], []) == (pg.get_members("g"), pg.which_groups(), there.call(pg.which_groups))

    def test_death_of_a_member(self, scopes, there, member):
        """Leaves all its groups, here as there."""
        ref, _groups = pg.monitor_scope()
        there.call(join, "g", member)
        there.call(join, ("h", 1), member)
        for group in ("g", ("h", 1)):
            assert_receive((ref, "join", group, [member]), 5.0)
        process.exit(member, "kill")
        left = {process.receive((ref, "leave", ..., [member]), 5.0)[2] for _ in range(2)}

        assert ({"g", ("h", 1)}, []) == (left, pg.which_groups())

    def test_what_was_there_before(self, here, there, member):
        """A scope that starts later asks the others, and is asked by them."""
        pid = there.call(pg.start, "late")
        there.call(join, "late", "g", member)
        with pg.start_link("late"):
            ref, found = pg.monitor("late", "g")
            if not found:
                assert_receive((ref, "join", "g", [member]), 5.0)
            pg.join("late", "g", process.self())

            assert [member, process.self()] == pg.get_members("late", "g")
            assert eventually(lambda: len(there.call(members, "late", "g")) == 2)
        assert eventually(lambda: there.call(members, "late", "g") == [member])
        GenServer.stop(pid)

    def test_many(self, scopes, there, member):
        """More than one message holds."""
        groups = [(f"{'x' * 500}", number) for number in range(300)]
        there.call(join_all, groups, member)

        assert eventually(lambda: len(pg.which_groups()) == 300)
        process.exit(scopes[0], "kill")
        scopes[0].wait(5.0)
        pg.start()

        assert eventually(lambda: len(pg.which_groups()) == 300)


class TestScopeElsewhere:
    def test_ends(self, scopes, there, member):
        """Takes its members along; a new one begins anew."""
        ref, _members = pg.monitor("g")
        there.call(join, "g", member)
        assert_receive((ref, "join", "g", [member]), 5.0)
        GenServer.stop(scopes[1])
        assert_receive((ref, "leave", "g", [member]), 5.0)
        again = there.call(pg.start)
        there.call(join, "g", member)
        assert_receive((ref, "join", "g", [member]), 5.0)
        GenServer.stop(again)
        assert_receive((ref, "leave", "g", [member]), 5.0)
        there.call(pg.start)

    def test_of_another_name(self, scopes, there, member):
        """Has nothing to do with this one."""
        other = there.call(pg.start, "other")
        there.call(join, "other", "g", member)
        there.call(join, "h", member)

        assert eventually(lambda: pg.which_groups() == ["h"])
        assert [] == pg.get_members("g")
        GenServer.stop(other)

    @pytest.mark.parametrize(
        "said",
        [
            ("delta", [[b"\xa1g", [], [[1, b""]]]]),
            ("hello", True, True, [[b"\xa1g", [], [["1", b""]]]]),
            ("hello", True, True, [[b"\xc1", [], [[1, b""]]]]),
            ("hello", 1, 2, []),
            ("who", 1),
            ("hello",),
            ("x", None),
        ],
    )
    def test_nonsense(self, scopes, said):
        """Of a scope that nobody met, or that is none: nobody joins, and nobody dies."""
        process.send(scopes[0], (TAG, said[0], Pid("c@nowhere", 7, 1), *said[1:]))
        pg.join("h", process.self())

        assert ["h"] == pg.which_groups()
        assert scopes[0] == process.whereis("pg")

    def test_call_from_there(self, scopes, there, member):
        """Joins nobody: each scope speaks for its own node."""
        answer = there.call(_call, scopes[0], ("join", "g", [member], b""))

        assert ("OtpError", []) == (answer, pg.get_members("g"))


def _call(pid, request):
    try:
        return GenServer.call(pid, request)
    except OtpError as error:
        return type(error).__name__


class TestGroup:
    def test_that_is_no_data(self, scopes):
        """Is refused where it is given: the others could not read it."""
        with pytest.raises(CodecError, match="group"):
            pg.join((len,), process.self())
        with pytest.raises(ValueError, match="at most"):
            pg.join("g" * 10_000, process.self())

        assert [] == pg.which_groups()

    def test_of_a_class(self, scopes, there, member):
        """One that the other scope has not imported is not seen there, all else is."""
        there.call(join, Colour.RED, member)
        there.call(join, {"a", "b"}, member)

        assert eventually(lambda: pg.get_members({"b", "a"}) == [member])
        there.call(pg.leave, {"b", "a"}, member)
        assert eventually(lambda: pg.get_members({"b", "a"}) == [])
        assert DATA.decode(DATA.encode(Change("g", "g"))) == Change("g", "g")


class TestGateway:
    @pytest.mark.slow
    def test_killed(self, scopes, there, member):
        """The others are gone with it and come back with all that happened meanwhile; so do this node's, there."""
        mine = process.self()
        pg.join("g", mine)
        there.call(join, "g", member)
        assert eventually(lambda: member in pg.get_members("g") and mine in there.call(members, "g"))
        for number in range(2):
            (kill_gateway if number % 2 else lambda: there.call(kill_gateway))()
            there.call(join, ("while", number), member)
            pg.join(("while", number), mine)
            there.call(pg.leave, ("while", number - 1), member)

            assert eventually(lambda n=number: _seen(there, mine, member, n))

    @pytest.mark.slow
    def test_killed_in_a_crowd(self, scopes, there):
        """Whatever is joined and left meanwhile: in the end both know the same."""
        pids = there.call(start_many, 20)
        for _ in range(2):
            kill_gateway()
            there.call(churn, pids)
        there.call(pg.join, "last", pids[0])

        assert eventually(lambda: pg.get_members("last") == [pids[0]])
        for group in range(5):
            assert sorted(there.call(members, group)) == sorted(pg.get_members(group))
        there.call(end_all, pids)
        assert eventually(lambda: pg.which_groups() == [])


def _seen(there, mine, member, number):
    here = {group: set(pg.get_members(group)) for group in pg.which_groups()}
    over_there = {group: set(there.call(members, group)) for group in there.call(pg.which_groups)}
    both, expected = {mine, member}, {("while", n): {mine} for n in range(number)}
    return here == over_there == {**expected, "g": both, ("while", number): both}


def start_many(count):
    return [Hoard.start() for _ in range(count)]


def churn(pids):
    for number, pid in enumerate(pids * 3):
        pg.join(number % 5, pid)
        if number % 3 == 0:
            pg.leave(number % 5, pids[number // 2 % len(pids)])


def end_all(pids):
    for pid in pids:
        process.exit(pid, "kill")
    for pid in pids:
        pid.wait(5.0)


class TestNode:
    @pytest.mark.slow
    def test_killed_and_another(self, scopes, another):
        """Its members leave; a node that comes brings its own."""
        ref, _members = pg.monitor("g")
        other = another("c")
        other.call(pg.start)
        pid = other.call(start, Hoard)
        other.call(join, "g", [pid, pid])
        assert_receive((ref, "join", "g", [pid, pid]), 5.0)
        other.kill()
        assert_receive((ref, "leave", "g", [pid, pid]), 5.0)

        assert ([], full("c")) == (pg.get_members("g"), pid.node)
