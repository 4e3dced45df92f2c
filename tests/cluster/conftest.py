"""Nodes in programs of their own, on a real nats-server that the first of them starts."""

import contextlib

import pytest

from otp_runtime import CallError, Node, process
from otp_runtime.cluster import standing
from otp_runtime.process import route
from otp_runtime.process.current import current
from otp_runtime.testing import Peer, leaks
from otp_runtime.testing.nodes import private_node

LEASE = 2.0


@pytest.fixture(scope="module")
def here():
    """This program's node, "a": in a cluster, for the tests of one module."""
    with private_node("a", cluster="embedded", lease=LEASE) as node:
        yield node


@pytest.fixture(scope="module")
def there(here):
    """Another program with a node of its own, "b", for the tests of one module."""
    with Peer("b", cluster="embedded", lease=LEASE) as peer:
        peer.call(Node.ping, here.name)
        # from here on this program has its gateway open
        Node.ping(peer.call(Node.self))
        yield peer


@pytest.fixture
def another(here):
    """Start one more program with a node of its own, for one test."""
    with contextlib.ExitStack() as programs:
        yield lambda name, **options: programs.enter_context(
            Peer(name, **{"cluster": "embedded", "lease": LEASE, **options})
        )


@pytest.fixture(autouse=True)
def _nothing_left(request):
    """End what the test started on this node; what it opened must be closed by then."""
    is_node_shared = {"here", "there"} & set(request.fixturenames)
    for name in is_node_shared:
        request.getfixturevalue(name)
    if not is_node_shared:
        before = leaks.descriptors()
        yield
        assert [] == leaks.opened_since(before)
        return
    started, opened = set(process.list()), _opened()
    yield
    nodes_own = {process.whereis(route.SUPERVISOR), current().pid_of(standing.read(current().directory).gateway)}
    for pid in process.list():
        if pid not in started | nodes_own:
            with contextlib.suppress(CallError):
                process.exit(pid, "kill")
                pid.wait(5.0)
    process.flush()

    assert [] == sorted(_opened() - opened)


def _opened():
    """What is open, by what it is; launcher and gateway, and peers that nobody watches, are not counted."""
    context = current()
    context.pump(0)
    context._forget_idle_peers()
    own = {f"/p/{number}." for number in (1, standing.read(context.directory).gateway)}
    opened = leaks.descriptors().values()
    return {what for what in opened if "pidfd" not in what and not any(one in what for one in own)}
