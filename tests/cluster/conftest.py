"""Nodes in programs of their own, on a real nats-server that the first of them starts."""

import contextlib

import pytest

from otp_runtime import Node
from otp_runtime.testing import Peer
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
