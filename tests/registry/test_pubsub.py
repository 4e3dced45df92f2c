"""PubSub and presence on one node."""

import os
import signal

import pytest

from otp_runtime import (
    AlreadyRegistered,
    AlreadyStarted,
    CodecError,
    Down,
    GenServer,
    MailboxFull,
    NoProcess,
    NotTracked,
    Pid,
    PresenceDiff,
    ReceiveTimeout,
    Supervisor,
    presence,
    process,
    pubsub,
)
from otp_runtime.registry.hub import BROADCAST
from otp_runtime.testing import assert_receive, leaks, wait_restarted
from tests.registry.actors import Actor, Room, linger


@pytest.fixture
def running(otp_node):
    with pubsub.start_link() as pid:
        yield pid


@pytest.fixture
def actor(running):
    with Actor.start_link() as pid:
        yield pid


def end(pid):
    ref = process.monitor(pid)
    process.exit(pid, "kill")
    process.receive(lambda one: isinstance(one, Down) and one.ref == ref, 5.0)


def nothing_more():
    with pytest.raises(ReceiveTimeout):
        process.receive(timeout=0.0)
    return True


class TestStart:
    def test_two_of_a_name(self, running):
        """There is one."""
        with pytest.raises(AlreadyStarted):
            pubsub.start()

        assert running == process.whereis("pubsub")

    def test_none(self, otp_node):
        """Is `NoProcess`, whatever is asked."""
        for ask in (
            pubsub.subscribe,
            presence.list,
            lambda t: pubsub.broadcast(t, 1),
            lambda t: presence.track(t, "k"),
        ):
            with pytest.raises(NoProcess):
                ask("t")

    def test_under_a_supervisor(self, otp_node):
        """With a name of one's own."""
        with Supervisor.start_link([pubsub.child_spec("chat")], strategy="one_for_one"):
            pubsub.subscribe("t", name="chat")
            pubsub.broadcast("t", 1, name="chat")

            assert_receive(1, 5.0)
        assert [] == leaks.files(otp_node.directory / "tables")

    def test_wrong_name(self, otp_node):
        """Is refused before anything starts."""
        with pytest.raises((TypeError, ValueError)):
            pubsub.child_spec(7)


class TestBroadcast:
    def test_reaches_subscribers(self, actor):
        """Each once for each subscription, in order; nobody else, and nothing after unsubscribing."""
        pubsub.subscribe("t")
        pubsub.subscribe("t")
        pubsub.subscribe("u")
        GenServer.call(actor, (pubsub.subscribe, "u"))
        pubsub.broadcast("t", 1)
        pubsub.broadcast("u", 2)
        assert [1, 1, 2] == [process.receive(timeout=5.0) for _ in range(3)]
        pubsub.unsubscribe("t")
        pubsub.broadcast("t", 3)
        pubsub.broadcast("nobody", 4)

        assert nothing_more()

    def test_from(self, running):
        """All but one."""
        pubsub.subscribe("t")
        pubsub.broadcast_from(process.self(), "t", 1)
        pubsub.local_broadcast_from(process.self(), "t", 2)
        pubsub.local_broadcast("t", 3)

        assert 3 == process.receive(timeout=5.0)
        assert nothing_more()

    def test_direct(self, running, otp_node):
        """To one node; to one that is not there, nothing."""
        pubsub.subscribe("t")
        pubsub.direct_broadcast("x@nowhere", "t", 1)
        pubsub.direct_broadcast(process.self().node, "t", 2)

        assert 2 == process.receive(timeout=5.0)
        assert nothing_more()

    def test_any_message(self, running):
        """On one node: functions, too."""
        pubsub.subscribe("t")
        pubsub.broadcast("t", lambda: 7)

        assert 7 == process.receive(timeout=5.0)()

    @pytest.mark.parametrize("topic", [7, None, b"t", "", "t" * 1001])
    def test_no_topic(self, running, topic):
        """Is an error of the caller's."""
        for ask in (pubsub.subscribe, pubsub.unsubscribe, lambda t: pubsub.broadcast(t, 1), presence.list):
            with pytest.raises((TypeError, ValueError), match="a topic is"):
                ask(topic)

    def test_no_pid(self, running):
        """Is one as well."""
        with pytest.raises(TypeError, match="left out"):
            pubsub.broadcast_from("me", "t", 1)

    def test_dead_subscriber(self, running):
        """Gets nothing, and costs nothing."""
        pid = process.spawn(_subscribe_and_linger, process.self())
        assert_receive("subscribed", 5.0)
        end(pid)

        assert "ok" == pubsub.broadcast("t", 1)

    def test_full_mailbox(self, running):
        """Is waited for and then named, when all others have the message."""
        pid = process.spawn(_subscribe_and_linger, process.self())
        assert_receive("subscribed", 5.0)
        pubsub.subscribe("t")
        os.kill(pid.os_pid, signal.SIGSTOP)
        with pytest.raises(MailboxFull) as error:
            _broadcast_and_take(1_000)
        process.receive(bytes, 5.0)
        end(pid)

        assert pid == error.value.server
        assert nothing_more()


def _subscribe_and_linger(who):
    pubsub.subscribe("t")
    process.send(who, "subscribed")
    linger()


def _broadcast_and_take(count):
    for _ in range(count):
        pubsub.broadcast("t", bytes(1_000), timeout=0.01)
        process.receive(bytes, 5.0)


class TestPresence:
    def test_track_and_untrack(self, running):
        """Is there from then until then, and subscribers hear of both."""
        pubsub.subscribe("t")
        presence.track("t", "ada", {"n": 1})
        assert_receive(PresenceDiff("t", {"ada": [{"n": 1}]}, {}), 5.0)
        assert ({"ada": [{"n": 1}]}, {}) == (presence.list("t"), presence.list("u"))
        assert ([{"n": 1}], []) == (presence.get_by_key("t", "ada"), presence.get_by_key("t", "bob"))
        presence.untrack("t", "ada")
        assert_receive(PresenceDiff("t", {}, {"ada": [{"n": 1}]}), 5.0)

        assert {} == presence.list("t")

    def test_more_than_one(self, actor):
        """Under a key as many as there are processes; one process under as many keys."""
        presence.track("t", "ada", 1)
        GenServer.call(actor, (presence.track, "t", "ada", 2))
        presence.track("t", "bob", 3, pid=actor)
        presence.track("u", "ada", 4)

        assert {"ada": [1, 2], "bob": [3]} == presence.list("t")
        presence.untrack("t")
        assert ({"ada": [2], "bob": [3]}, {"ada": [4]}) == (presence.list("t"), presence.list("u"))
        presence.untrack(pid=actor)
        presence.untrack("t", "nobody")
        assert ({}, {"ada": [4]}) == (presence.list("t"), presence.list("u"))

    def test_twice(self, running):
        """Is refused: it is updated instead."""
        presence.track("t", "ada")
        with pytest.raises(AlreadyRegistered):
            presence.track("t", "ada", 2)

        assert {"ada": [None]} == presence.list("t")

    def test_update(self, running):
        """One event that is both; by a function of the old, too."""
        pubsub.subscribe("t")
        presence.track("t", "ada", 1)
        presence.update("t", "ada", 2)
        presence.update("t", "ada", lambda old: old + 1)
        diffs = [process.receive(PresenceDiff, 5.0) for _ in range(3)]

        assert {"ada": [3]} == presence.list("t")
        assert [({"ada": [n]}, {"ada": [n - 1]} if n > 1 else {}) for n in (1, 2, 3)] == [
            (diff.joins, diff.leaves) for diff in diffs
        ]

    def test_update_of_nobody(self, running):
        """Is an error that says who is not there."""
        for meta in (1, lambda old: old):
            with pytest.raises(NotTracked, match="'ada'"):
                presence.update("t", "ada", meta)

    def test_death(self, running):
        """Ends it, before its `Down`."""
        actor = process.spawn(linger)
        pubsub.subscribe("t")
        presence.track("t", "ada", 1, pid=actor)
        presence.track("t", "bob", 2, pid=actor)
        end(actor)

        assert {} == presence.list("t")
        left = {}
        while len(left) < 2:
            left |= process.receive(PresenceDiff, 5.0).leaves
        assert {"ada": [1], "bob": [2]} == left

    @pytest.mark.parametrize("meta", [Room(1), [len], {"a": {1: Room(1)}}, {Room(1)}, object()])
    def test_meta_that_is_no_plain_data(self, running, meta):
        """Is refused in the caller, with its path."""
        with pytest.raises(CodecError, match="meta"):
            presence.track("t", "ada", meta)

        assert {} == presence.list("t")

    def test_wrong_arguments(self, running):
        """Say what is wrong."""
        with pytest.raises(TypeError, match="key of a presence"):
            presence.track("t", 7)
        with pytest.raises(TypeError, match="a Pid"):
            presence.track("t", "ada", pid="me")
        with pytest.raises(ValueError, match="another node"):
            presence.track("t", "ada", pid=Pid("x@y", 3, 1))
        with pytest.raises(ValueError, match="at most"):
            presence.track("t", "ada", "x" * 20_000)


class TestCrash:
    def test_hub_killed(self, running):
        """Who was present still is, and is watched; who died meanwhile is not."""
        pids = [process.spawn(linger) for _ in range(2)]
        for pid in pids:
            presence.track("t", "ada", 1, pid=pid)
        presence.track("t", "bob", 2)
        hub = process.whereis("pubsub.hub")
        os.kill(hub.os_pid, signal.SIGKILL)
        process.exit(pids[0], "kill")
        pids[0].wait(5.0)
        wait_restarted("pubsub.hub", after=hub)
        pubsub.subscribe("t")

        presence.track("t", "new", 3)
        assert_receive(PresenceDiff("t", {"new": [3]}, {}), 5.0)
        assert {"ada": [1], "bob": [2], "new": [3]} == presence.list("t")
        process.exit(pids[1], "kill")
        assert_receive(PresenceDiff("t", {}, {"ada": [1]}), 5.0)

    def test_broadcast_while_the_hub_is_stopped(self, running):
        """Asks nobody."""
        pubsub.subscribe("t")
        hub = process.whereis("pubsub.hub")
        os.kill(hub.os_pid, signal.SIGSTOP)
        try:
            pubsub.broadcast("t", 1)

            assert_receive(1, 1.0)
        finally:
            os.kill(hub.os_pid, signal.SIGCONT)

    def test_subscriptions_outlive_their_keeper(self, running):
        """A registry's rule."""
        pubsub.subscribe("t")
        with Actor.start_link() as actor:
            GenServer.call(actor, (pubsub.subscribe, "t"))
            keeper = process.whereis("pubsub.topics")
            process.exit(keeper, "kill")
            wait_restarted("pubsub.topics", after=keeper)
            pubsub.broadcast("t", 1)

            assert_receive(1, 5.0)

    @pytest.mark.parametrize("body", [b"", b"\x92\x01\x01", b"\x93\x05\x01\xa4kill", 7])
    def test_nonsense(self, running, body):
        """That looks like a broadcast of another node: nobody gets anything."""
        pubsub.subscribe("t")
        process.send("pubsub.hub", (BROADCAST, process.self(), "t", body))
        presence.track("u", "ada")

        assert nothing_more()
