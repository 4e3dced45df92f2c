"""What docs/guide/cluster-protocol.md says is what nodes do: to a side that was written from it alone."""

import pytest

from otp_runtime import (
    CallError,
    Down,
    GenServer,
    Global,
    Node,
    NodeDown,
    NodeUp,
    Pid,
    PresenceDiff,
    Remote,
    RemoteError,
    ServerDown,
    pg,
    presence,
    process,
    pubsub,
)
from otp_runtime.cluster.engine import EngineDirectory
from tests.cluster.servers import Hoard, Item, eventually
from tests.cluster.stranger import (
    CALL,
    CAST,
    DOWN,
    EXIT,
    LINK,
    MESSAGE,
    REPLY,
    SEND,
    URGENT,
    WATCH,
    Stranger,
    marked,
    pack,
    tup,
    unpack,
)

OTHER = "other@elsewhere"


@pytest.fixture
def arrive(here):
    """Let a stranger join."""

    def arrive(**options):
        said = EngineDirectory(here.base, "otp").read()
        return Stranger(said["url"], said["user"], said["password"], "otp", OTHER, **options)

    return arrive


@pytest.fixture
def other(here, arrive):
    """A stranger that this node knows."""
    Node.monitor_nodes(True)
    with arrive() as other:
        assert process.receive(NodeUp, 5.0) == NodeUp(OTHER)
        yield other
    assert process.receive(NodeDown, 5.0).node == OTHER
    Node.monitor_nodes(False)


@pytest.fixture
def hoard(here):
    with Hoard.start_link(name="hoard") as pid:
        yield pid


class TestJoining:
    def test_seen(self, other, here):
        """A record with an epoch is a node: listed, and pinged through its gateway."""
        assert (Node.list(), Node.ping(OTHER)) == ([OTHER], "pong")
        assert list(other.nodes()) == [here.name]

    @pytest.mark.slow
    def test_not_renewed(self, here, arrive):
        """A record whose time is over is a node that went."""
        Node.monitor_nodes(True)
        with arrive(lease=1) as other:
            assert process.receive(NodeUp, 5.0) == NodeUp(OTHER)
            other.vanish()
            gone = process.receive(NodeDown, 5.0)
            Node.monitor_nodes(False)
            other.revision = 0  # what is not there any more need not be given back
            assert gone == NodeDown(OTHER, "net_tick_timeout")

    def test_another_cluster(self, here, caplog):
        """Whoever finds another value in the table does not join, and those who are in hear of it."""
        said = EngineDirectory(here.base, "otp").read()
        with pytest.raises(PermissionError, match="version 1 of otp"):
            Stranger(said["url"], said["user"], said["password"], "shop", OTHER)

        assert eventually(lambda: f"{OTHER} tried to join and was refused" in caplog.text)


class TestToUs:
    def test_call_by_name_and_by_pid(self, other, here, hoard):
        """A request is answered with its serial, to the process that asked."""
        assert other.call(here.name, "hoard", ["x", 1, None]) == ["x", 1, None]
        assert other.call(here.name, hoard.id, "who") == ("p", OTHER, 9, other.incarnation)

    def test_messages_in_order(self, other, here, hoard):
        """Casts and messages of one sender; the next call comes behind them."""
        for number in range(50):
            other.tell(here.name, "hoard", 9, [CAST, number] if number % 2 else [SEND, number])

        assert other.call(here.name, "hoard", "take") == list(range(50))

    def test_terms(self, other, here, hoard):
        """What the table of the page says, back as it came."""
        terms = [
            tup("inc", 2),
            marked("s", 1),
            marked("i", (1 << 70).to_bytes(9, "little", signed=True)),
            marked("N", "1.5"),
            marked("p", OTHER, 9, other.incarnation),
            marked("R", OTHER, other.incarnation, 9, 4),
            marked("O", "tests.cluster.servers:Item", {"name": "x", "count": 1}),
            marked("E", "tests.cluster.servers:Colour", "RED"),
            marked("d", 2026, 11, 25),
        ]

        assert other.call(here.name, "hoard", terms) == unpack(pack(terms))

    def test_refused(self, other, here, hoard):
        """A function, an object: an error for the caller, and nothing happens here."""
        for letter in "PkK":
            with pytest.raises(RuntimeError, match="CodecError"):
                other.call(here.name, "hoard", marked(letter, b"x"))

    def test_dead(self, other, here):
        """A process that there is not owes its DOWN at once; one that dies says why."""
        with pytest.raises(LookupError, match="noproc"):
            other.call(here.name, "nobody", 1)
        pid = Hoard.start()
        other.call(here.name, pid.id, "take")
        other.tell(here.name, pid.id, 9, [CAST, tup("stop", tup("shutdown", 5))])

        assert other.next(DOWN, 9) == (*_self(other, here), pid.id, ("shutdown", 5))

    def test_exit_and_link(self, other, here):
        """An exit signal; a link is broken by the DOWN of whom it is with."""
        killed, linked = Hoard.start(), Hoard.start()
        ref, second = process.monitor(killed), process.monitor(linked)
        other.tell(here.name, killed.id, 9, [EXIT, 9, "bored"])
        assert process.receive(Down, 5.0) == Down(ref, killed, "bored")
        other.send(here.name, WATCH, linked.id, 10)
        other.send(here.name, URGENT, linked.id, None, [LINK, 10])
        assert other.next(WATCH, 10)[3] == linked.id
        other.send(here.name, DOWN, linked.id, 10, "dead")

        assert process.receive(Down, 5.0) == Down(second, linked, "dead")

    def test_gateway(self, other, here, hoard):
        """Answers what the page lists."""
        assert other.call(here.name, 0, tup("ping")) == "pong"
        assert other.call(here.name, 0, tup("whereis", "hoard")) == hoard.id
        assert other.call(here.name, 0, tup("whereis", "nobody")) is None

    def test_erpc(self, other, here):
        """A node that lists nothing has no server for it."""
        body = pack(tup(tup(5), {}))
        with pytest.raises(LookupError, match="noproc"):
            other.call(here.name, "otp_erpc", tup("call", "math:factorial", body))


class TestFromUs:
    def test_call(self, other, here):
        """Watched first; then the request. The reply goes to the caller's id."""
        request = GenServer.send_request(Remote("echo", OTHER), ("hello", {1}))
        node, _incarnation, _epoch, watcher, _nothing = other.next(WATCH, "echo")
        _node, _incarnation, _epoch, _by, term = other.next(MESSAGE, "echo", CALL)
        assert (node, term[0], term[1], term[3]) == (here.name, CALL, watcher, ("hello", ("s", 1)))
        other.send(here.name, MESSAGE, term[1], None, [REPLY, term[2], 0, tup("reply", marked("f", 2))])

        assert GenServer.receive_response(request, 5.0) == ("reply", frozenset({2}))

    def test_exception(self, other, here):
        """What is to be raised in the caller: of a class that it has, of another, and of none."""
        raised = []
        for reference, name in (("builtins:KeyError", "KeyError"), (None, "Shop.NotFound"), ("no.module:X", "X")):
            request = GenServer.send_request(Remote("echo", OTHER), 1)
            term = other.next(MESSAGE, "echo", CALL)[4]
            error = marked("X", reference, ["x"], {}, {}, None, False, name, "it is not there", "")
            other.send(here.name, MESSAGE, term[1], None, [REPLY, term[2], 1, error])
            with pytest.raises(Exception, match=r"x|it is not there") as caught:
                GenServer.receive_response(request, 5.0)
            raised.append(type(caught.value))

        assert raised == [KeyError, RemoteError, RemoteError]

    def test_monitor(self, other, here):
        """The DOWN that is owed; `noproc` for a process that there is not."""
        pid = Pid(OTHER, 12, other.incarnation)
        ref = process.monitor(pid)
        watcher = other.next(WATCH, 12)[3]
        other.send(here.name, DOWN, watcher, 12, tup("shutdown", 7))
        assert process.receive(Down, 5.0) == Down(ref, pid, ("shutdown", 7))
        request = GenServer.send_request(Remote("nobody", OTHER), 1)
        watcher = other.next(WATCH, "nobody")[3]
        other.send(here.name, DOWN, watcher, "nobody", "noproc")

        with pytest.raises(CallError):
            GenServer.receive_response(request, 5.0)

    def test_dataclass(self, other, here):
        """As the page says: its name and its fields."""
        process.send(Remote("echo", OTHER), Item("x", 2))

        assert other.next(MESSAGE, "echo", SEND)[4][1] == ("O", "tests.cluster.servers:Item", {"name": "x", "count": 2})

    def test_global_name(self, other, here):
        """Claimed by creating the record: from then on a call goes there."""
        token = other.claim("echo", 12)
        assert eventually(lambda: Global.whereis("echo") == Pid(OTHER, 12, other.incarnation))
        request = GenServer.send_request(Global("echo"), 1)
        term = other.next(MESSAGE, 12, CALL)[4]
        other.send(here.name, MESSAGE, term[1], None, [REPLY, term[2], 0, 2])

        assert GenServer.receive_response(request, 5.0) == 2
        Global.unregister("echo")
        assert Global.register("echo", process.self()) > token
        Global.unregister("echo")

    def test_lost(self, here, arrive):
        """A call to a node that goes is `noconnection`."""
        with arrive() as other:
            assert eventually(lambda: Node.list() == [OTHER])
            request = GenServer.send_request(Remote("echo", OTHER), 1)
            other.next(MESSAGE, "echo", CALL)
            other.leave()

            with pytest.raises(ServerDown, match="noconnection"):
                GenServer.receive_response(request, 5.0)


class TestGroups:
    def test_pg(self, other, here):
        """Who, hello, delta, and the end."""
        with pg.start_link() as scope:
            asked = other.next(MESSAGE, "pg", SEND)[4][1]
            assert asked == ("$scope", "who", ("p", here.name, scope.id, scope.node and scope.incarnation))
            me = marked("p", OTHER, 20, other.incarnation)
            group = pack("g")
            pg.join("g", process.self())
            hello = tup("$scope", "hello", me, True, True, [[group, [], [[21, b""]]]])
            other.tell(here.name, scope.id, 20, [SEND, hello])
            there = Pid(OTHER, 21, other.incarnation)
            assert eventually(lambda: there in pg.get_members("g"))
            _tag, kind, _scope, first, last, items = other.next(MESSAGE, 20, SEND)[4][1]
            assert (kind, first, last, items) == ("hello", True, True, [[group, [], [[process.self().id, b""]]]])
            other.tell(here.name, scope.id, 20, [SEND, tup("$scope", "delta", me, [[group, [[21, b""]], []]])])
            assert eventually(lambda: pg.get_members("g") == [process.self()])
            pg.leave("g", process.self())

            assert other.next(MESSAGE, 20, SEND)[4][1][3] == [[group, [[process.self().id, b""]], []]]

    def test_pubsub(self, other, here):
        """A broadcast is a plain message in a message; a presence is a member with a value."""
        with pubsub.start_link():
            hub = process.whereis("pubsub.hub")
            other.next(MESSAGE, "pubsub.hub", SEND)
            me = marked("p", OTHER, 20, other.incarnation)
            value = pack(tup("ada", {"mood": "fine"}))
            hello = tup("$scope", "hello", me, True, True, [[pack("room"), [], [[21, value]]]])
            pubsub.subscribe("room")
            other.tell(here.name, hub.id, 20, [SEND, hello])
            assert eventually(lambda: presence.list("room") == {"ada": [{"mood": "fine"}]})
            assert process.receive(PresenceDiff, 5.0).joins == {"ada": [{"mood": "fine"}]}
            said = tup("$broadcast", marked("p", OTHER, 21, other.incarnation), "room", pack([SEND, tup("hi", 1)]))
            other.tell(here.name, hub.id, 20, [SEND, said])
            assert process.receive(("hi", 1), 5.0) == ("hi", 1)
            assert eventually(lambda: pubsub.direct_broadcast(OTHER, "room", "x") == "ok")
            pubsub.broadcast("room", ("all", 2))
            while (message := other.next(MESSAGE, 20, SEND)[4][1])[0] != "$broadcast" or message[3][-1:] == b"x":
                pass

            assert (message[2], unpack(message[3])) == ("room", [SEND, ("all", 2)])


def _self(other, here):
    incarnation, epoch = other.nodes()[here.name]
    return here.name, incarnation, epoch
