"""Processes of another node: called, sent to, watched, linked and ended like those of this one."""

import gc
import os
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from otp_runtime import (
    CallTimeout,
    CodecError,
    Down,
    Exit,
    GenServer,
    Node,
    NoProcess,
    NotAllowed,
    Pid,
    ReceiveTimeout,
    Remote,
    ServerDown,
    Supervisor,
    process,
)
from otp_runtime.cluster import standing
from otp_runtime.process.current import current
from otp_runtime.terms.parcel import APART_FROM
from tests.cluster.servers import Colour, Hoard, Item, Trapping, eventually, full, rename, start
from tests.process.large import Block


@pytest.fixture
def hoard(there):
    """A server on the other node."""
    pid = there.call(start)
    yield pid
    process.exit(pid, "kill")


@pytest.fixture
def named(there):
    """A server on the other node, by its name."""
    pid = there.call(start, Hoard, "hoard")
    yield Remote("hoard", full("b"))
    process.exit(pid, "kill")
    pid.wait(5.0)


class TestRemote:
    def test_call(self, hoard):
        """A pid is a pid, wherever its process is."""
        assert GenServer.call(hoard, "value") == "value"

    def test_call_by_name(self, named):
        """`Remote(name, node)`."""
        assert GenServer.call(named, 5) == 5

    def test_remote_of_this_node(self, here):
        """Is a local name."""
        with Hoard.start_link(name="near"):
            assert GenServer.call(Remote("near", here.name), 5) == 5

    @pytest.mark.parametrize(
        "term",
        [(1, ("a",)), {"a": {1, 2}}, Item("apple", 2), Colour.RED, b"\xd4OP", 2**100, 1.5, None, ["é"] * 10_000],
        ids=repr,
    )
    def test_data_arrives_as_it_was(self, hoard, term):
        """What is data crosses nodes, dataclasses and enums of modules that both have included."""
        assert GenServer.call(hoard, term) == term

    def test_large_terms(self, hoard):
        """Up to what the engine takes."""
        data = bytes(3_000_000)

        assert GenServer.call(hoard, data) == data

    def test_too_large_a_term(self, hoard):
        """Is an error here that says the limit."""
        with pytest.raises(CodecError, match="a message between nodes at most"):
            GenServer.call(hoard, bytes(20_000_000))

    def test_cast_and_send(self, hoard):
        """In the order they were sent."""
        GenServer.cast(hoard, "cast")
        process.send(hoard, "sent")

        assert GenServer.call(hoard, "take") == ["cast", "sent"]

    def test_caller_is_known(self, hoard):
        """By its pid, which may be sent to."""
        assert GenServer.call(hoard, "who") == process.self()

    def test_messages_come_back_in_order(self, hoard):
        """What a server sent before its reply is there before it."""
        for n in range(50):
            assert GenServer.call(hoard, ("later", process.self(), n)) == n
            assert process.receive(timeout=0) == ("before", n)

    def test_send_request(self, hoard):
        """Many requests under way."""
        requests = [GenServer.send_request(hoard, n) for n in range(20)]

        assert [GenServer.receive_response(rid) for rid in requests] == list(range(20))

    def test_timeout(self, hoard):
        """A server that does not answer."""
        with pytest.raises(CallTimeout):
            GenServer.call(hoard, "never", timeout=0.1)

    def test_an_error_is_raised_here(self, hoard):
        """As data: type, arguments."""
        with pytest.raises(ZeroDivisionError, match="so"):
            GenServer.call(hoard, ("raise", ZeroDivisionError("so")))

    def test_whereis(self, named):
        """The pid behind the name; None where nobody has it."""
        pid = GenServer.whereis(named)
        assert GenServer.whereis(Remote("nobody", named.node)) is None

        assert (pid.node, GenServer.call(pid, "by pid")) == (named.node, "by pid")


class TestCode:
    def test_function(self, hoard):
        """Does not leave the node; the error says where it is in the term."""
        with pytest.raises(CodecError) as error:
            GenServer.call(hoard, {"jobs": [1, lambda: 2]})

        assert error.value.path == 'request["jobs"][1]'

    def test_function_in_a_cast_and_a_message(self, hoard):
        """Refused in the sender as well."""
        with pytest.raises(CodecError, match="request"):
            GenServer.cast(hoard, print)
        with pytest.raises(CodecError, match="message"):
            process.send(hoard, print)

        assert GenServer.call(hoard, "take") == []

    def test_large_buffers(self, hoard):
        """They do not lie beside what goes to another node: bytes go with it, pickled objects do not go."""
        data = os.urandom(2 * APART_FROM)
        for _ in range(3):
            GenServer.cast(hoard, ("put", data, bytearray(data)))
        with pytest.raises(CodecError, match="request"):
            GenServer.cast(hoard, ("put", Block(data)))

        assert [("put", data, bytearray(data))] * 3 == GenServer.call(hoard, "take")

    def test_class(self, hoard):
        """Is code too."""
        with pytest.raises(CodecError, match="a class is code"):
            GenServer.call(hoard, Item)

    def test_class_of_a_function(self, hoard):
        """Nobody else could import it."""

        class Local(tuple):
            __slots__ = ()

        with pytest.raises(CodecError, match="cannot be imported"):
            GenServer.call(hoard, Local())

    def test_reply_that_holds_one(self, hoard):
        """The caller is told, and the server lives on."""
        with pytest.raises(CodecError, match="reply"):
            GenServer.call(hoard, "lambda")

        assert GenServer.call(hoard, "on") == "on"

    def test_child_spec(self, there):
        """Starts of children hold code: their names are compared with what the node allows."""
        sup = there.call(lambda: Supervisor.start([], strategy="one_for_one"))
        with pytest.raises(NotAllowed, match="does not run"):
            Supervisor.start_child(sup, Hoard)

        assert Supervisor.count_children(sup).specs == 0


class TestNobody:
    def test_dead_pid(self, hoard):
        """As on one node."""
        process.exit(hoard, "kill")
        with pytest.raises((NoProcess, ServerDown)):
            GenServer.call(hoard, "take")
        with pytest.raises(NoProcess):
            GenServer.call(hoard, "take")

    def test_unknown_name(self, there):
        """No process."""
        with pytest.raises(NoProcess):
            GenServer.call(Remote("nobody", full("b")), 1)

    def test_cast_and_send_to_nobody(self, there):
        """Are dropped."""
        GenServer.cast(Remote("nobody", full("b")), 1)
        process.send(Remote("nobody", full("b")), 1)

    def test_unknown_node(self, here):
        """No connection, at once."""
        with pytest.raises(ServerDown) as error:
            GenServer.call(Remote("x", "nowhere@x"), 1)

        assert error.value.reason == "noconnection"

    def test_earlier_life(self, hoard):
        """A pid of another incarnation is nobody's, though its id is somebody's now."""
        with pytest.raises(NoProcess):
            GenServer.call(Pid(hoard.node, hoard.id, hoard.incarnation + 1), "take")

    def test_launcher(self, hoard):
        """Takes orders from its own node only."""
        with pytest.raises(NoProcess):
            GenServer.call(Pid(hoard.node, 1, hoard.incarnation), ["start", []])


class TestMonitor:
    def test_down(self, hoard):
        """Once, with the reason."""
        ref = process.monitor(hoard)
        GenServer.cast(hoard, ("stop", ("shutdown", Item("x", 1))))

        assert process.receive(Down, 5.0) == Down(ref, hoard, ("shutdown", Item("x", 1)))

    def test_long_reason(self, hoard, there):
        """Longer than the engine takes: told as a cut text, and the connection holds."""
        epoch = there.call(_epoch)
        process.monitor(hoard)
        there.call(_end_with, hoard, 9_000_000)
        reason = process.receive(Down, 5.0).reason

        assert (reason[0], len(reason[1])) == ("shutdown", 1000)
        assert there.call(_epoch) == epoch

    def test_twice(self, hoard):
        """Monitors stack."""
        refs = {process.monitor(hoard), process.monitor(hoard)}
        process.exit(hoard, "kill")

        assert {process.receive(Down, 5.0).ref, process.receive(Down, 5.0).ref} == refs

    def test_by_name(self, named):
        """Dead or alive."""
        ref = process.monitor(named)
        gone = process.monitor(Remote("nobody", named.node))
        assert process.receive(lambda m: m.ref == gone, 5.0).reason == "noproc"
        GenServer.cast(named, ("stop", "normal"))

        assert process.receive(lambda m: m.ref == ref, 5.0).reason == "normal"

    def test_by_name_means_who_has_it_now(self, there, named):
        """A process that lost its name later is watched all the same, also when the name was used again."""
        old = GenServer.whereis(named)
        ref = process.monitor(named)
        new = there.call(rename, "hoard")
        assert GenServer.call(named, "new") == "new"
        process.exit(old, "kill")

        assert process.receive(Down, 5.0) == Down(ref, old, "killed")
        assert GenServer.call(new, "on") == "on"
        GenServer.stop(new)

    def test_demonitor(self, hoard):
        """No Down comes any more."""
        ref = process.monitor(hoard)
        other = process.monitor(hoard)

        assert process.demonitor(ref) is True
        process.exit(hoard, "kill")
        assert process.receive(Down, 5.0).ref == other
        assert process.flush() == []

    def test_from_there(self, hoard):
        """The other way round."""
        with Hoard.start_link() as mine:
            ref = GenServer.call(hoard, ("monitor", mine))
        GenServer.call(hoard, "settle")
        (down,) = _eventually(lambda: GenServer.call(hoard, "take"))

        assert down == Down(ref, mine, "normal")

    def test_unknown_node(self, here):
        """`noconnection`."""
        process.monitor(Remote("x", "nowhere@x"))

        assert process.receive(Down, 1.0).reason == "noconnection"

    def test_wait_and_stop(self, hoard):
        """`GenServer.stop` waits for the end there."""
        GenServer.stop(hoard, "normal", 5.0)

        assert hoard.wait(5.0) == "noproc"


class TestStop:
    def test_nobody(self, named):
        """As with a name of this node: `NoProcess`, unless that is well."""
        nobody = Remote("nobody", named.node)
        with pytest.raises(NoProcess):
            GenServer.stop(nobody)

        assert GenServer.stop(nobody, missing_ok=True) is None


class TestKeptRequest:
    def test_keeps_nothing_open(self, hoard):
        """Who keeps a request that was answered does not keep the process that made it, which may be over."""
        kept = []

        def ask():
            kept.append(GenServer.send_request(hoard, 1))
            GenServer.receive_response(kept[-1])
            return current()

        with ThreadPoolExecutor(1) as pool:
            context = weakref.ref(pool.submit(ask).result())
        eventually(lambda: gc.collect() and context() is None, 2.0)

        assert context() is None
        assert kept


class TestLink:
    def test_exit_arrives(self, hoard):
        """A program traps."""
        process.link(hoard)
        GenServer.cast(hoard, ("stop", "oops"))

        assert process.receive(Exit, 5.0) == Exit(hoard, "oops")

    def test_untrapped(self, there, hoard):
        """A server there dies with one here."""
        mine = Hoard.start()
        assert GenServer.call(hoard, ("link", mine)) == "linked"
        ref = process.monitor(hoard)
        process.exit(mine, "kill")

        assert process.receive(Down, 5.0) == Down(ref, hoard, "killed")

    def test_unlink(self, hoard):
        """No exit comes any more."""
        process.link(hoard)
        process.unlink(hoard)
        ref = process.monitor(hoard)
        GenServer.cast(hoard, ("stop", "oops"))

        assert process.receive(timeout=5.0) == Down(ref, hoard, "oops")

    def test_of_a_dead_one(self, hoard):
        """`noproc`."""
        process.exit(hoard, "kill")
        hoard.wait(5.0)
        process.link(hoard)

        assert process.receive(Exit, 5.0).reason in {"noproc", "killed"}


class TestExit:
    def test_untrapped(self, hoard):
        """Ends it with the reason."""
        ref = process.monitor(hoard)
        process.exit(hoard, ("a", 1))

        assert process.receive(Down, 5.0) == Down(ref, hoard, ("a", 1))

    def test_trapped(self, there):
        """Is a message."""
        pid = there.call(start, Trapping)
        process.exit(pid, "so")

        assert GenServer.call(pid, "take") == [Exit(process.self(), "so")]
        process.exit(pid, "kill")

    def test_kill(self, there):
        """Is never trapped."""
        pid = there.call(start, Trapping)
        ref = process.monitor(pid)
        process.exit(pid, "kill")

        assert process.receive(Down, 5.0) == Down(ref, pid, "killed")


class TestRestart:
    def test_a_call_waits_for_the_name(self, there):
        """As on one node: while its supervisor brings the process back."""
        there.call(
            lambda: Supervisor.start(
                [Hoard.child_spec(name="again")], strategy="one_for_one", max_restarts=100, name="again_sup"
            )
        )
        again = Remote("again", full("b"))
        for n in range(10):
            process.exit(GenServer.whereis(again), "kill")
            try:
                assert GenServer.call(again, n) == n
            except ServerDown:
                assert GenServer.call(again, n) == n
        there.call(lambda: Supervisor.stop("again_sup"))


class TestManyMessages:
    @pytest.mark.slow
    def test_none_is_lost_and_order_is_kept(self, hoard):
        """20,000 casts and 2,000 calls."""
        for n in range(20_000):
            GenServer.cast(hoard, n)
        assert GenServer.call(hoard, "take", 30.0) == list(range(20_000))
        requests = []
        for n in range(1_000):
            GenServer.cast(hoard, n)
            requests.append(GenServer.send_request(hoard, n))
            if n % 2:
                requests.append(GenServer.send_request(hoard, n))
        replies = [GenServer.receive_response(rid, 30.0) for rid in requests]
        assert replies == [n for n in range(1_000) for _ in range(1 + n % 2)]

        assert GenServer.call(hoard, "take", 30.0) == list(range(1_000))


def _eventually(ask, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not (found := ask()) and time.monotonic() < deadline:
        pass
    return found


def _end_with(pid, length):
    process.exit(pid, ("shutdown", "x" * length))


def _epoch():
    return standing.read(current().directory).epoch


class TestTimers:
    def test_send_after(self, hoard):
        """Kept by the sender, as the clocks of machines differ."""
        timer = process.send_after(hoard, "late", 0.05)
        cancelled = process.send_after(hoard, "never", 0.05)
        assert process.cancel_timer(cancelled) is not None
        assert process.read_timer(timer) is not None

        with pytest.raises(ReceiveTimeout):
            process.receive("nothing", 0.1)
        assert GenServer.call(hoard, "take") == ["late"]


class TestNodeNames:
    def test_self_and_list(self, here, there):
        """Each sees the other."""
        assert (Node.self(), Node.list()) == (full("a"), [full("b")])
        assert there.call(Node.list) == [full("a")]

    def test_ping(self, there):
        """Pong, or pang."""
        assert (Node.ping(full("b")), Node.ping(full("c")), Node.ping(Node.self())) == ("pong", "pang", "pong")

    def test_connect(self, there):
        """Those of a cluster are connected."""
        assert (Node.connect(full("b")), Node.connect(full("c"))) == (True, False)
