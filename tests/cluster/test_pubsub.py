"""PubSub and presence on two nodes and three."""

import contextlib
import os

import pytest

from otp_runtime import CallError, CodecError, GenServer, PresenceDiff, presence, process, pubsub
from otp_runtime.testing import assert_receive, wait_restarted
from tests.cluster.servers import Hoard, Item, eventually, full, start

MEETINGS, TOPICS = 3, 300


class Listener(Hoard):
    """Subscribes to what it is told to, and keeps what comes."""

    def init(self, arg):
        topic, name = arg if isinstance(arg, tuple) else (arg, "pubsub")
        pubsub.subscribe(topic, name=name)
        return []


@pytest.fixture
def both(here, there):
    """A PubSub on each node; their hubs know each other."""
    pid, own = there.call(pubsub.start), pubsub.start()
    pubsub.subscribe("meet")
    listener, heard = there.call(Listener.start, "meet"), set()
    assert eventually(lambda: _is_met(there, listener, heard))
    process.exit(listener, "kill")
    pubsub.unsubscribe("meet")
    process.flush()
    yield own
    for one in (pid, own):
        with contextlib.suppress(CallError):
            GenServer.stop(one)


def _is_met(there, listener, heard):
    """Whether a broadcast from there has arrived here, and one from here there."""
    there.call(pubsub.broadcast, "meet", "from there")
    pubsub.broadcast("meet", "from here")
    heard.update(("here", message) for message in process.flush())
    heard.update(("there", message) for message in GenServer.call(listener, "take"))
    return {("here", "from there"), ("there", "from here")} <= heard


@pytest.fixture
def listener(both, there):
    """A process of the other node that listens to "t"."""
    pid = there.call(Listener.start, "t")
    yield pid
    process.exit(pid, "kill")
    pid.wait(5.0)


def taken(pid, count):
    found = []
    eventually(lambda: found.extend(GenServer.call(pid, "take")) or len(found) >= count)
    return found


class TestBroadcast:
    def test_reaches_all_nodes(self, both, there, listener):
        """Once each, in the order of the sender; data of classes of both sides, too."""
        pubsub.subscribe("t")
        messages = [*range(200), Item("apple", 1)]
        for message in messages:
            pubsub.broadcast("t", message)

        assert messages == taken(listener, len(messages))
        assert messages == [process.receive(timeout=5.0) for _ in messages]

    def test_kinds(self, both, there, listener):
        """To all but one, to this node, to that one."""
        pubsub.subscribe("t")
        pubsub.broadcast_from(process.self(), "t", 1)
        pubsub.local_broadcast("t", 2)
        pubsub.direct_broadcast(full("b"), "t", 3)
        pubsub.broadcast("t", 4)

        assert [1, 3, 4] == taken(listener, 3)
        assert [2, 4] == [process.receive(timeout=5.0) for _ in range(2)]

    def test_code(self, both, listener):
        """Does not leave the node: nobody gets it, unless it is for this node only."""
        pubsub.subscribe("t")
        with pytest.raises(CodecError, match="message"):
            pubsub.broadcast("t", len)
        with pytest.raises(CodecError, match="at most"):
            pubsub.broadcast("t", bytes(20_000_000))
        pubsub.broadcast("t", "after")
        assert ["after"] == taken(listener, 1)
        assert ["after"] == process.flush()
        pubsub.local_broadcast("t", len)

        assert len == process.receive(timeout=5.0)


class TestPresence:
    def test_of_all_nodes(self, both, there, listener):
        """Who is tracked anywhere is listed everywhere, and subscribers everywhere hear of all changes."""
        pubsub.subscribe("t")
        there.call(_track, listener, {"n": 1})
        assert_receive(PresenceDiff("t", {"ada": [{"n": 1}]}, {}), 5.0)
        presence.track("t", "ada", {"n": 2})
        assert {"ada": [{"n": 1}, {"n": 2}]} == presence.list("t")
        there.call(_update, listener, {"n": 3})
        assert_receive(PresenceDiff("t", {"ada": [{"n": 3}]}, {"ada": [{"n": 1}]}), 5.0)
        presence.untrack("t", "ada")
        process.exit(listener, "kill")
        assert_receive(PresenceDiff("t", {}, {"ada": [{"n": 3}]}), 5.0)

        assert ({}, {}) == (presence.list("t"), eventually(lambda: not there.call(presence.list, "t")) and {})

    def test_hub_killed(self, both, there, listener):
        """Those here stay, those elsewhere are asked for again; so is the way for broadcasts."""
        there.call(_track, listener, 1)
        presence.track("t", "bob", 2)
        hub = process.whereis("pubsub.hub")
        process.exit(hub, "kill")
        wait_restarted("pubsub.hub", after=hub)
        everybody = {"ada": [1], "bob": [2]}

        assert eventually(lambda: presence.list("t") == everybody)
        assert eventually(lambda: there.call(presence.list, "t") == everybody)
        GenServer.call(listener, "take")
        pubsub.broadcast("t", "after")
        assert "after" in taken(listener, 1)
        presence.untrack()

    def test_what_is_told_when_a_hub_is_killed(self, both, there, listener):
        """Agrees with what is listed: who is elsewhere leaves, and comes again."""
        pubsub.subscribe("t")
        there.call(_track, listener, 1)
        assert_receive(PresenceDiff("t", {"ada": [1]}, {}), 5.0)
        hub = process.whereis("pubsub.hub")
        process.exit(hub, "kill")
        told = [process.receive(PresenceDiff, 5.0) for _ in range(2)]

        assert [PresenceDiff("t", {}, {"ada": [1]}), PresenceDiff("t", {"ada": [1]}, {})] == told
        assert {"ada": [1]} == presence.list("t")

    @pytest.mark.slow
    def test_is_reached_as_soon_as_it_is_seen(self, here, there):
        """Whoever is listed gets what is broadcast at that moment, also when the two nodes are just meeting."""
        other = there.call(pubsub.start, "late")
        listener = there.call(Listener.start, ("t", "late"))
        # with many topics two hubs take their time to meet
        there.call(_track_in, ["t", *map(str, range(TOPICS))], listener, "late")
        GenServer.call(listener, "take")
        for number in range(MEETINGS):
            with pubsub.start_link("late"):
                while not presence.list("t", name="late"):
                    os.sched_yield()
                pubsub.broadcast("t", number, name="late")
        heard = taken(listener, MEETINGS)
        GenServer.stop(other)

        assert [*range(MEETINGS)] == heard

    @pytest.mark.slow
    def test_node_killed(self, both, another):
        """All who were there have left, in one event."""
        pubsub.subscribe("t")
        other = another("c")
        other.call(pubsub.start)
        for number in range(3):
            other.call(_track, other.call(start, Hoard), number)
        joined = []
        while len(joined) < 3:
            joined += process.receive(PresenceDiff, 5.0).joins["ada"]
        other.kill()
        left = process.receive(PresenceDiff, 5.0)

        assert ([0, 1, 2], {}) == (sorted(left.leaves["ada"]), left.joins)
        assert {} == presence.list("t")


def _track(pid, meta):
    presence.track("t", "ada", meta, pid=pid)


def _track_in(topics, pid, name):
    for topic in topics:
        presence.track(topic, "ada", pid=pid, name=name)


def _update(pid, meta):
    presence.update("t", "ada", meta, pid=pid)
