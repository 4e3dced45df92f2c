"""Functions of other nodes, children under supervisors of other nodes, and servers of one name on all nodes."""

import time

import pytest

from otp_runtime import (
    BadChildSpec,
    CallTimeout,
    ChildSpec,
    CodecError,
    DynamicSupervisor,
    GenServer,
    Node,
    NotAllowed,
    NotFound,
    Remote,
    ServerDown,
    StartFailed,
    Supervisor,
    Task,
    erpc,
    process,
)
from otp_runtime.cluster import protocol
from otp_runtime.testing import Peer
from otp_runtime.testing.nodes import private_node
from tests.cluster.conftest import LEASE
from tests.cluster.servers import Hoard, Item, full

B = full("b")
MODULE = "tests.cluster.allowed"


@pytest.fixture(scope="module")
def here():
    """This program's node, which allows nothing."""
    with private_node("a", cluster="embedded", lease=LEASE) as node:
        yield node


@pytest.fixture(scope="module")
def there(here):
    """A node that allows some functions."""
    names = [f"{MODULE}:{name}" for name in ALLOWED]
    with Peer("b", cluster="embedded", lease=LEASE, erpc=names) as peer:
        peer.call(Node.ping, here.name)
        Node.ping(B)
        yield peer


ALLOWED = ("double", "keywords", "os_pid", "fail", "die", "leave", "code", "slow", "tell", "today", "Cart", "missing")


class TestCall:
    def test_value(self, there):
        """The function runs there, and its value comes back."""
        assert erpc.call(B, f"{MODULE}:double", 21) == 42

    def test_function_itself(self, there):
        """Goes by its name."""
        from tests.cluster import allowed

        assert erpc.call(B, allowed.double, 4) == 8

    def test_arguments(self, there):
        """Of all kinds that a function takes; the time-out is not one of them."""
        found = erpc.call(B, f"{MODULE}:keywords", 1, Item("a", 2), timeout=5.0, x={"y": (1,)})

        assert found == ((1, Item("a", 2)), {"x": {"y": (1,)}})

    def test_long_value(self, there):
        """Longer than a message between nodes may be: an error that says so."""
        with pytest.raises(CodecError, match="a message between nodes at most"):
            erpc.call(B, f"{MODULE}:double", "x" * 5_000_000)

    def test_a_process_of_its_own(self, there):
        """A new one for each."""
        pids = {erpc.call(B, f"{MODULE}:os_pid") for _ in range(2)}

        assert (len(pids), there.os_pid in pids) == (2, False)

    def test_exception(self, there):
        """Is raised here, with the traceback of there."""
        with pytest.raises(ZeroDivisionError, match="because") as error:
            erpc.call(B, f"{MODULE}:fail", "because")

        assert "allowed.py" in "".join(error.value.__notes__)

    @pytest.mark.parametrize(("name", "reason"), [("die", "SIGKILL"), ("leave", "code=3")])
    def test_its_process_dies(self, there, name, reason):
        """And the caller is told of what."""
        with pytest.raises(ServerDown) as error:
            erpc.call(B, f"{MODULE}:{name}", timeout=5.0)

        assert reason in repr(error.value.reason)

    def test_value_that_is_no_data(self, there):
        """Is an error that says so."""
        with pytest.raises(CodecError, match="result"):
            erpc.call(B, f"{MODULE}:code", timeout=5.0)

    def test_class_that_this_node_has_not(self, there):
        """A value that cannot be read here is an error, and nobody waits for ever."""
        with pytest.raises(CodecError, match="cannot be read here"):
            erpc.call(B, f"{MODULE}:today", timeout=5.0)

    def test_timeout(self, there):
        """Of the wait; the function goes on."""
        with pytest.raises(CallTimeout):
            erpc.call(B, f"{MODULE}:slow", timeout=0.1)

    def test_no_such_node(self, there):
        """Is not connected."""
        with pytest.raises(ServerDown, match="noconnection"):
            erpc.call(full("nowhere"), f"{MODULE}:double", 1)

    def test_allowed_and_not_there(self, there):
        """Says what is missing."""
        with pytest.raises(LookupError, match="has no missing"):
            erpc.call(B, f"{MODULE}:missing", timeout=5.0)


class TestNotAllowed:
    def test_not_listed(self, there):
        """Nothing runs, and the error says what to write where."""
        with pytest.raises(NotAllowed) as error:
            erpc.call(B, f"{MODULE}:secret")

        assert f"{B} does not run {MODULE}:secret" in str(error.value)
        assert f"Node.start(..., erpc=('{MODULE}:secret',))" in str(error.value)

    @pytest.mark.parametrize(
        "name", ["os:system", "os:getpid", f"{MODULE}:Cart.terminate", f"{MODULE}:double.__call__"]
    )
    def test_what_looks_like_it(self, there, name):
        """A listed name allows that name."""
        with pytest.raises(NotAllowed):
            erpc.call(B, name, "true")

    def test_off_by_default(self, there):
        """A node that lists nothing runs nothing, for itself neither."""
        with pytest.raises(NotAllowed):
            erpc.call(Node.self(), f"{MODULE}:double", 1)
        with pytest.raises(NotAllowed):
            there.call(erpc.call, Node.self(), f"{MODULE}:double", 1)

    @pytest.mark.parametrize("function", [lambda: 1, TestCall().test_value, "double", "os.getpid", "__main__:f", ":f"])
    def test_has_no_name(self, there, function):
        """What another node cannot import is refused here."""
        with pytest.raises(ValueError, match=r"module"):
            erpc.call(B, function)

    def test_no_function(self, there):
        """Neither is a number."""
        with pytest.raises(TypeError, match="not 5"):
            erpc.call(B, 5)

    def test_argument_that_is_no_data(self, there):
        """Says which."""
        with pytest.raises(CodecError, match=r"args\[1\]"):
            erpc.call(B, f"{MODULE}:keywords", 1, lambda: 1)

    @pytest.mark.parametrize("erpc", ["os:getpid", 5, (5,), ("os.getpid",), (lambda: 1,)])
    def test_bad_list(self, here, erpc):
        """Is refused before anything starts."""
        from otp_runtime.cluster.settings import check

        with pytest.raises((TypeError, ValueError), match=r"module|not"):
            check("x", "embedded", 5.0, None, None, erpc)

    def test_without_a_cluster(self, here):
        """There is nobody to allow anything."""
        with pytest.raises(ValueError, match="are for a cluster"):
            Node.start("x", erpc=("os:getpid",))

    def test_hostile_requests(self, there):
        """Whatever is asked of the server: it lives, and nothing runs."""
        server = Remote("otp_erpc", B)
        body = protocol.DATA.encode(((1,), {}))
        for request in (1, ("call",), ("call", 1, body), ("call", "x", "y"), ("run", f"{MODULE}:double", body), ()):
            with pytest.raises(Exception, match="erpc was asked"):
                GenServer.call(server, request)
            GenServer.cast(server, request)
        for bad in (b"", b"\xc1", b"\x01", protocol.DATA.encode(5), protocol.DATA.encode((1, 2))):
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it says
                GenServer.call(server, ("call", f"{MODULE}:double", bad))

        assert erpc.call(B, f"{MODULE}:double", 1) == 2


class TestCast:
    def test_runs(self, there):
        """Nobody waits for it."""
        erpc.cast(B, f"{MODULE}:tell", process.self(), "done")

        assert process.receive("done", 5.0) == "done"

    def test_refused_or_lost(self, there):
        """Is nothing, for the caller."""
        erpc.cast(B, f"{MODULE}:secret")
        erpc.cast(full("nowhere"), f"{MODULE}:double", 1)

        assert erpc.call(B, f"{MODULE}:double", 1) == 2


class TestMulticall:
    def test_what_came_of_it(self, there):
        """For each node, in order, at the same time."""
        mine, theirs, lost = erpc.multicall([Node.self(), B, full("nowhere")], f"{MODULE}:double", 3)

        assert theirs == erpc.Done(B, 6)
        assert (type(mine.error), lost.error.reason) == (NotAllowed, "noconnection")

    def test_all(self, there):
        """Without a list."""
        assert [one.node for one in erpc.multicall(None, f"{MODULE}:double", 3)] == [Node.self(), B]

    def test_timeout(self, there):
        """For all together."""
        started = time.monotonic()
        (slow,) = erpc.multicall([B], f"{MODULE}:slow", timeout=0.2)

        assert (type(slow.error), time.monotonic() - started < 2.0) == (CallTimeout, True)


class TestManyNodes:
    @pytest.fixture
    def everywhere(self, there):
        """A server of the same name on both nodes."""
        theirs = there.call(lambda: Hoard.start(name="all"))
        with Hoard.start_link(name="all") as mine:
            yield mine, theirs
        process.exit(theirs, "kill")
        theirs.wait(5.0)

    def test_multi_call(self, everywhere):
        """The replies by node, and the nodes that have none."""
        nodes = [Node.self(), full("nowhere"), B]

        assert GenServer.multi_call(nodes, "all", 1) == ([(Node.self(), 1), (B, 1)], [full("nowhere")])
        assert GenServer.multi_call(None, "all", 2) == ([(Node.self(), 2), (B, 2)], [])
        assert GenServer.multi_call(None, "nobody", 2) == ([], [Node.self(), B])

    def test_multi_call_waits_for_all_together(self, everywhere):
        """The time is one, not one for each."""
        started = time.monotonic()

        assert GenServer.multi_call(None, "all", "never", 0.2) == ([], [Node.self(), B])
        assert time.monotonic() - started < 2.0

    def test_abcast(self, everywhere):
        """To all, and to those that are named."""
        GenServer.abcast(None, "all", "one")
        GenServer.abcast([B, full("nowhere")], "all", "two")

        assert [GenServer.call(pid, "take") for pid in everywhere] == [["one"], ["one", "two"]]

    def test_one_node_is_no_list(self, there):
        """A text would be its letters."""
        with pytest.raises(TypeError, match="list of node names"):
            GenServer.abcast(B, "all", 1)


class TestStartChild:
    @pytest.fixture
    def sup(self, there):
        """A dynamic supervisor of the other node."""
        pid = there.call(lambda: DynamicSupervisor.start(name="carts"))
        yield pid
        there.call(DynamicSupervisor.stop, pid)

    def test_dynamic(self, sup):
        """A child under a supervisor of the other node, restarted there."""
        from tests.cluster.allowed import Cart

        pid = DynamicSupervisor.start_child(sup, Cart.child_spec("apple", name="cart"))
        assert (pid.node, GenServer.call(pid, "take")) == (B, ["apple"])
        assert DynamicSupervisor.count_children(Remote("carts", B)).active == 1
        process.exit(pid, "kill")
        pid.wait(5.0)
        assert GenServer.call(Remote("cart", B), "take") == ["apple"]
        (child,) = DynamicSupervisor.which_children(sup)
        DynamicSupervisor.terminate_child(sup, child.pid)

        assert DynamicSupervisor.count_children(sup).specs == 0

    def test_not_allowed(self, sup):
        """Says what to allow."""
        from tests.cluster.allowed import Locked

        with pytest.raises(NotAllowed, match=f"erpc=\\('{MODULE}:Locked.start_link',\\)"):
            DynamicSupervisor.start_child(sup, Locked)

    def test_functions_as_arguments(self, sup):
        """Go by name, and need to be allowed as well."""
        from tests.cluster import allowed

        with pytest.raises(NotAllowed, match=r"Task\.start_link"):
            DynamicSupervisor.start_child(sup, Task.child_spec(allowed.double, 1))
        with pytest.raises(NotAllowed, match=f"{MODULE}:secret"):
            DynamicSupervisor.start_child(sup, allowed.Cart.child_spec(allowed.secret))

    def test_lambda(self, sup):
        """Does not travel."""
        spec = ChildSpec(id="x", start=(lambda: None, (), {}))
        with pytest.raises(BadChildSpec, match="functions do not cross nodes"):
            DynamicSupervisor.start_child(sup, spec)
        with pytest.raises(BadChildSpec, match="functions do not cross nodes"):
            DynamicSupervisor.start_child(sup, Task.child_spec(lambda: None))

    def test_no_supervisor(self, there):
        """Or no node."""
        from tests.cluster.allowed import Cart

        with pytest.raises(ServerDown, match="noconnection"):
            DynamicSupervisor.start_child(Remote("carts", full("nowhere")), Cart)
        with pytest.raises(Exception, match="no process"):
            DynamicSupervisor.start_child(Remote("nobody", B), Cart)

    def test_start_fails(self, sup):
        """Says why."""
        from tests.cluster.allowed import Cart

        DynamicSupervisor.start_child(sup, Cart.child_spec(1, name="taken"))
        with pytest.raises(Exception, match="already started") as error:
            DynamicSupervisor.start_child(sup, Cart.child_spec(1, name="taken"))

        assert not isinstance(error.value, StartFailed)

    def test_static(self, there):
        """And everything else that a supervisor is asked, from another node."""
        from tests.cluster.allowed import Cart

        sup = there.call(lambda: Supervisor.start([], strategy="one_for_one", name="static"))
        there_by_name = Remote("static", B)
        pid = Supervisor.start_child(there_by_name, Cart.child_spec("a", id="a"))
        assert [(one.id, one.pid) for one in Supervisor.which_children(there_by_name)] == [("a", pid)]
        Supervisor.terminate_child(sup, "a")
        assert Supervisor.restart_child(sup, "a").node == B
        Supervisor.terminate_child(sup, "a")
        Supervisor.delete_child(sup, "a")
        with pytest.raises(NotFound):
            Supervisor.delete_child(sup, "a")
        assert Supervisor.count_children(sup).specs == 0
        Supervisor.stop(there_by_name)

        assert there.call(GenServer.whereis, "static") is None
