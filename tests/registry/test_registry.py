"""Registry: who is registered under what, as Elixir has it."""

import os
import signal
import threading

import pytest

from otp_runtime import (
    Agent,
    AlreadyRegistered,
    AlreadyStarted,
    Bind,
    CodecError,
    Down,
    GenServer,
    NoProcess,
    Registry,
    Supervisor,
    process,
)
from otp_runtime.testing import assert_receive
from tests.registry.actors import Actor, Room, register_and_linger


@pytest.fixture(params=[1, 3], ids=["whole", "partitioned"])
def unique(otp_node, request):
    with Registry.start_link(keys="unique", name="unique", partitions=request.param):
        yield "unique"


@pytest.fixture(params=[1, 3], ids=["whole", "partitioned"])
def duplicate(otp_node, request):
    with Registry.start_link(keys="duplicate", name="duplicate", partitions=request.param):
        yield "duplicate"


@pytest.fixture
def actor(otp_node):
    with Actor.start_link() as pid:
        yield pid


def do(actor, function, *args):
    return GenServer.call(actor, (function, *args))


class TestStart:
    def test_is_a_supervisor(self, unique):
        """Of its partitions."""
        children = Supervisor.which_children(unique)

        assert {"worker"} == {child.type for child in children}
        assert len(children) in {1, 3}

    def test_name_taken(self, unique):
        """Says by whom."""
        with pytest.raises(AlreadyStarted) as error:
            Registry.start_link(keys="unique", name=unique)

        assert process.whereis(unique) == error.value.pid

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"keys": "both"}, "'unique' or 'duplicate'"),
            ({"name": 7}, "name"),
            ({"partitions": 0}, "1 to 64"),
            ({"partitions": True}, "1 to 64"),
            ({"listeners": "log"}, "list"),
            ({"listeners": [7]}, "name"),
            ({"listeners": 7}, "list of local names"),
        ],
    )
    @pytest.mark.parametrize("start", [Registry.start_link, Registry.child_spec])
    def test_wrong_arguments(self, start, wrong, says):
        """Are refused in the caller, and the text says what is allowed."""
        with pytest.raises((TypeError, ValueError), match=says):
            start(**{"keys": "unique", "name": "wrong", **wrong})

    def test_child_spec(self, otp_node):
        """Its id is the name, its type supervisor."""
        spec = Registry.child_spec(keys="unique", name="spec")
        with Supervisor.start_link([spec], strategy="one_for_one") as sup:
            (child,) = Supervisor.which_children(sup)
            Registry.register("spec", "k")
            count = Registry.count("spec")

        assert ("spec", "supervisor", 1) == (child.id, child.type, count)

    @pytest.mark.parametrize("ask", [Registry.lookup, Registry.register, Registry.unregister, Registry.meta])
    def test_unknown(self, me, ask):
        """A registry that is not there."""
        with pytest.raises(NoProcess, match="nowhere"):
            ask("nowhere", "k")

    def test_no_name(self, me):
        """What cannot be one is an error of type."""
        with pytest.raises(TypeError, match="registry"):
            Registry.lookup(["r"], "k")

    def test_by_its_pid(self, otp_node):
        """As any server reference."""
        with Registry.start_link(keys="unique", name="by_pid") as pid:
            Registry.register(pid, "k", 1)
            found = Registry.lookup("by_pid", "k"), Registry.lookup(pid, "k")

        assert found[0] == found[1] != []


class TestUnique:
    def test_lookup(self, unique, me):
        """Nobody, then who registered."""
        before = Registry.lookup(unique, "k")
        Registry.register(unique, "k", "v")

        assert ([], [(me, "v")]) == (before, Registry.lookup(unique, "k"))

    def test_taken_by_oneself(self, unique, me):
        """Is taken."""
        Registry.register(unique, "k", 1)
        with pytest.raises(AlreadyRegistered) as error:
            Registry.register(unique, "k", 2)

        assert (me, [(me, 1)], 1) == (error.value.pid, Registry.lookup(unique, "k"), Registry.count(unique))

    def test_taken_by_another(self, unique, actor):
        """Says by whom, and nothing has changed."""
        do(actor, Registry.register, unique, "k", 1)
        with pytest.raises(AlreadyRegistered) as error:
            Registry.register(unique, "k", 2)

        assert (actor, [(actor, 1)]) == (error.value.pid, Registry.lookup(unique, "k"))

    def test_many_at_once(self, unique, otp_node):
        """One wins."""
        actors = [Actor.start_link() for _ in range(4)]
        requests = [GenServer.send_request(one, (Registry.register, unique, "k")) for one in actors]
        outcomes = [_outcome(rid) for rid in requests]
        ((winner, _),) = Registry.lookup(unique, "k")

        assert {None} | {winner} == set(outcomes)
        assert 1 == outcomes.count(None)

    def test_keys_of_one_process(self, unique, me):
        """In the order registered, of whatever type."""
        keys = ["a", 1, 1.0, True, None, b"a", ("a", 1), ["list"], {"b": [1]}, Room(1), me]
        for key in keys:
            Registry.register(unique, key)
        found = Registry.keys(unique, me)

        assert len(keys) == len(found) == Registry.count(unique)
        assert sorted(map(repr, keys)) == sorted(map(repr, found))

    @pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), ((0,), (False,))])
    def test_compares_types_too(self, unique, one, other):
        """As Elixir's `===`."""
        Registry.register(unique, one)

        assert [] == Registry.lookup(unique, other) == Registry.match(unique, other, ...)

    @pytest.mark.parametrize("key", ["_", "$1", ("_", "$1"), ...])
    def test_no_key_is_special(self, unique, key):
        """What is a pattern in Elixir's match specifications, or here, is a key like any other."""
        Registry.register(unique, key)
        Registry.register(unique, "other")

        assert 1 == len(Registry.lookup(unique, key))

    def test_dead_owner(self, unique, me):
        """Is replaced on the spot."""
        actor = Actor.start()
        do(actor, Registry.register, unique, "k", 1)
        _end(actor)
        Registry.register(unique, "k", 2)

        assert [(me, 2)] == Registry.lookup(unique, "k")

    def test_unregister(self, unique, me):
        """None of its entry is left; what is not there may be unregistered."""
        Registry.register(unique, "k")
        Registry.unregister(unique, "k")
        Registry.unregister(unique, "never")

        assert ([], [], 0) == (Registry.lookup(unique, "k"), Registry.keys(unique, me), Registry.count(unique))

    def test_unregister_anothers(self, unique, actor):
        """Does nothing."""
        do(actor, Registry.register, unique, "k", 1)
        Registry.unregister(unique, "k")

        assert [(actor, 1)] == Registry.lookup(unique, "k")

    def test_update_value(self, unique, me):
        """Gives the new value and the old one; the function runs here."""
        Registry.register(unique, "k", 1)
        here = []
        changed = Registry.update_value(unique, "k", lambda value: here.append(value) or value + 1)

        assert ((2, 1), [1], [(me, 2)]) == (changed, here, Registry.lookup(unique, "k"))

    def test_update_anothers_value(self, unique, actor):
        """None, and nothing has changed; the same for a key that nobody has."""
        do(actor, Registry.register, unique, "k", 1)

        assert None is Registry.update_value(unique, "k", lambda value: value + 1)
        assert None is Registry.update_value(unique, "never", lambda value: value + 1)
        assert [(actor, 1)] == Registry.lookup(unique, "k")

    def test_what_cannot_travel(self, unique, me):
        """Is an error of the caller's, and nothing has changed."""
        with open("/dev/null", encoding="ascii") as file:
            with pytest.raises(CodecError, match="value"):
                Registry.register(unique, "k", file)
            with pytest.raises((CodecError, TypeError)):
                Registry.register(unique, ("k", file))

        assert 0 == Registry.count(unique)

    def test_a_value_is_ones_own(self, unique):
        """To change what was looked up changes nothing in the registry."""
        Registry.register(unique, "k", {"a": []})
        Registry.lookup(unique, "k")[0][1]["a"].append(1)

        assert {"a": []} == Registry.lookup(unique, "k")[0][1]


class TestDuplicate:
    def test_many(self, duplicate, actor, me):
        """Processes under one key, a process more than once."""
        Registry.register(duplicate, "k", 1)
        Registry.register(duplicate, "k", 2)
        do(actor, Registry.register, duplicate, "k", 3)

        assert {(me, 1), (me, 2), (actor, 3)} == set(Registry.lookup(duplicate, "k"))
        assert (["k", "k"], [1, 2]) == (Registry.keys(duplicate, me), Registry.values(duplicate, "k", me))
        assert 3 == Registry.count(duplicate)

    def test_unregister(self, duplicate, actor, me):
        """All of one's own under the key, nobody else's."""
        for key, value in (("k", 1), ("k", 2), ("l", 3)):
            Registry.register(duplicate, key, value)
        do(actor, Registry.register, duplicate, "k", 4)
        Registry.unregister(duplicate, "k")

        assert ([(actor, 4)], ["l"]) == (Registry.lookup(duplicate, "k"), Registry.keys(duplicate, me))

    def test_dispatch(self, duplicate, actor, me):
        """Here, with all entries; not at all when there are none."""
        Registry.register(duplicate, "k", 1)
        do(actor, Registry.register, duplicate, "k", 2)
        calls = []
        Registry.dispatch(duplicate, "k", calls.append)
        Registry.dispatch(duplicate, "never", calls.append)

        assert [{(me, 1), (actor, 2)}] == [set(entries) for entries in calls]

    def test_update_value(self, duplicate):
        """Is refused: which of its values?"""
        with pytest.raises(ValueError, match="unique"):
            Registry.update_value(duplicate, "k", str)


class TestMatch:
    @pytest.fixture(autouse=True)
    def _entries(self, duplicate):
        for value in ((1, "a", 1), (2, "a", 1), (1, "b", 2), "text"):
            Registry.register(duplicate, "k", value)
        Registry.register(duplicate, "l", (1, "a", 1))

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ((1, ..., ...), {(1, "a", 1), (1, "b", 2)}),
            ((Bind("x"), ..., Bind("x")), {(1, "a", 1)}),
            (str, {"text"}),
            (..., {(1, "a", 1), (2, "a", 1), (1, "b", 2), "text"}),
            (lambda value: value[0] > 1, {(2, "a", 1)}),
            ("none", set()),
        ],
    )
    def test_patterns(self, duplicate, me, pattern, found):
        """Select values under one key; so do their counts."""
        matched = Registry.match(duplicate, "k", pattern)

        assert {(me, value) for value in found} == set(matched)
        assert len(found) == Registry.count_match(duplicate, "k", pattern)

    def test_unregister_match(self, duplicate, me):
        """One's own entries under that key that fit."""
        Registry.unregister_match(duplicate, "k", (1, ..., ...))
        Registry.unregister_match(duplicate, "k", "none")

        assert {(me, (2, "a", 1)), (me, "text")} == set(Registry.lookup(duplicate, "k"))
        assert 1 == len(Registry.lookup(duplicate, "l"))

    def test_select(self, duplicate, me):
        """Over all keys; a predicate that was written for another shape does not fit."""
        found = Registry.select(duplicate, lambda key, _pid, value: key == "l" or value[0] == 2)

        assert {("l", me, (1, "a", 1)), ("k", me, (2, "a", 1))} == set(found)
        assert 5 == Registry.count_select(duplicate, lambda _key, pid, _value: pid == me)


class TestNoFunction:
    """What is given where a function is called is refused, and not taken for one that fits nothing."""

    def test_select(self, unique):
        with pytest.raises(TypeError, match=r"Registry.select calls predicate\(key, pid, value\)"):
            Registry.select(unique, "k")

    @pytest.mark.parametrize("name", ["dispatch", "update_value", "lock"])
    def test_for_a_key_that_nobody_has(self, unique, name):
        with pytest.raises(TypeError, match=f"Registry.{name} calls fun"):
            getattr(Registry, name)(unique, "never", 7)


class TestNoPid:
    @pytest.mark.parametrize("wrong", ["name", None])
    def test_is_refused(self, unique, wrong):
        """A name is not looked up, and nobody is not taken for one without keys."""
        with pytest.raises(TypeError, match=r"Registry.keys is of one process, given by its Pid"):
            Registry.keys(unique, wrong)
        with pytest.raises(TypeError, match=r"Registry.values is of one process, given by its Pid"):
            Registry.values(unique, "k", wrong)


class TestMeta:
    def test_kept(self, unique):
        """With the registry, by any key; the default where there is nothing."""
        before = Registry.meta(unique, ("m", 1)), Registry.meta(unique, "m", "default")
        Registry.put_meta(unique, ("m", 1), ["v"])
        Registry.put_meta(unique, "m", None)

        assert ((None, "default"), ["v"], None) == (
            before,
            Registry.meta(unique, ("m", 1)),
            Registry.meta(unique, "m", "default"),
        )

    def test_deleted(self, unique):
        """It is no more, and is no entry either."""
        Registry.put_meta(unique, "m", 1)
        Registry.delete_meta(unique, "m")
        Registry.delete_meta(unique, "never")

        assert (None, 0) == (Registry.meta(unique, "m"), Registry.count(unique))


class TestListeners:
    @pytest.fixture
    def heard(self, otp_node):
        with (
            Actor.start_link(name="listener") as listener,
            Registry.start_link(keys="duplicate", name="heard", listeners=["absent", "listener"]),
        ):
            yield lambda: GenServer.call(listener, "heard")

    def test_hear(self, heard, me):
        """What is registered and what is unregistered; not what never was."""
        Registry.register("heard", "k", 1)
        Registry.unregister("heard", "k")
        Registry.register("heard", ("k", 1), 2)

        assert [
            ("register", "heard", "k", me, 1),
            ("unregister", "heard", "k", me),
            ("register", "heard", ("k", 1), me, 2),
        ] == heard()

    def test_unregister_match(self, heard, me):
        """Is heard of when no entry of the key is left."""
        for value in (1, 2):
            Registry.register("heard", "k", value)
        heard()
        Registry.unregister_match("heard", "k", 1)
        first = heard()
        Registry.unregister_match("heard", "k", 2)

        assert ([], [("unregister", "heard", "k", me)]) == (first, heard())

    def test_unregister_what_never_was(self, heard, me):
        """Is heard of all the same, as in Elixir."""
        Registry.unregister("heard", "k")
        Registry.unregister_match("heard", "l", 1)

        assert [("unregister", "heard", "k", me), ("unregister", "heard", "l", me)] == heard()

    def test_hear_nothing_of_deaths(self, heard):
        """Monitor who interests you."""
        with Actor.start_link([("heard", "k")]) as pid:
            registered = heard()
        gone = Registry.lookup("heard", "k")

        assert ([("register", "heard", "k", pid, None)], [], []) == (registered, gone, heard())

    def test_that_is_stopped(self, heard):
        """Holds nobody up: what it will hear waits with who registered."""
        listener = process.whereis("listener")
        os.kill(listener.os_pid, signal.SIGSTOP)
        try:
            for number in range(2000):
                Registry.register("heard", number)
        finally:
            os.kill(listener.os_pid, signal.SIGCONT)

        assert list(range(2000)) == [key for _what, _registry, key, *_ in _all(heard, 2000)]


class TestDeath:
    @pytest.mark.slow
    @pytest.mark.parametrize("keys", ["unique", "duplicate"])
    def test_after_a_down(self, otp_node, keys, me):
        """No look-up of any kind gives the dead; a dozen times."""
        shown = []
        with Registry.start_link(keys=keys, name="deaths"):
            for _ in range(12):
                pid = process.spawn(register_and_linger, "deaths", "k", None, me)
                assert_receive("registered", 5.0)
                before = len(Registry.lookup("deaths", "k"))
                ref = process.monitor(pid)
                process.exit(pid, "kill")
                process.receive(lambda one, ref=ref: isinstance(one, Down) and one.ref == ref, 5.0)
                shown.append((before, Registry.lookup("deaths", "k"), Registry.count("deaths")))
                shown.append((before, Registry.keys("deaths", pid), Registry.count_match("deaths", "k", ...)))

        assert [(1, [], 0)] * 24 == shown

    def test_of_a_thread(self, unique, me):
        """Is that of a process: its entries go when it ends."""
        thread = threading.Thread(target=Registry.register, args=(unique, "k"))
        thread.start()
        thread.join()

        assert ([], 0) == (Registry.lookup(unique, "k"), Registry.count(unique))

    def test_of_many(self, duplicate, me):
        """Leaves those who live."""
        actors = [Actor.start_link([(duplicate, "k", number)]) for number in range(6)]
        for pid in actors[::2]:
            _end(pid)

        assert set(actors[1::2]) == {pid for pid, _value in Registry.lookup(duplicate, "k")}


class TestElsewhere:
    def test_classes_of_a_program(self, unique, actor):
        """A key and a value are what they were, where the class is known."""
        do(actor, Registry.register, unique, Room(1), Room(2))

        assert [(actor, Room(2))] == Registry.lookup(unique, Room(1))

    def test_another_program(self, unique, me, request):
        """Reads the same."""
        peer = request.getfixturevalue("peer")
        Registry.register(unique, "k", 1)

        assert [(me, 1)] == peer("other").call(Registry.lookup, unique, "k")

    def test_a_fork(self, unique, me):
        """That the user made is another process, and the parent keeps its entries."""
        from tests.process.test_fork import forked

        Registry.register(unique, "k", 1)
        Registry.lookup(unique, "k")
        said = forked(lambda: (Registry.lookup(unique, "k"), Registry.register(unique, "child")))

        assert (str(([(me, 1)], None)), [(me, 1)]) == (said, Registry.lookup(unique, "k"))

    def test_a_registry_of_the_same_name(self, me):
        """Is another one: nothing of the first is left."""
        for number in range(3):
            with Registry.start_link(keys="unique", name="again"):
                before = Registry.lookup("again", "k")
                Registry.register("again", "k", number)

                assert ([], [(me, number)]) == (before, Registry.lookup("again", "k"))

    def test_agents_of_a_supervisor(self, unique):
        """What a lambda registers is the agent's."""
        with Agent.start_link(lambda: Registry.register("unique", "agent", 7)) as agent:
            assert [(agent, 7)] == Registry.lookup(unique, "agent")


def _end(pid):
    process.exit(pid, "kill")
    pid.wait(5.0)


def _outcome(rid):
    try:
        return GenServer.receive_response(rid)
    except AlreadyRegistered as error:
        return error.pid


def _all(heard, count):
    found = heard()
    while len(found) < count:
        found += heard()
    return found
