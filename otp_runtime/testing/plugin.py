"""The pytest plugin: `otp_node`, `start_supervised`, `peer`. Loaded by its entry point; costs nothing until used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otp_runtime.testing.nodes import PrivateNode, Supervised
    from otp_runtime.testing.peers import Peer


@pytest.fixture
def otp_node() -> Iterator[PrivateNode]:
    """A fresh node for this test; the test fails if a process, a descriptor or a file of it is left."""
    from otp_runtime.testing.nodes import private_node

    with private_node() as node:
        yield node


@pytest.fixture
def start_supervised(otp_node: PrivateNode) -> Iterator[Supervised]:  # noqa: ARG001 - asked for by naming it
    """Start a child (`start_supervised(spec)`) that is brought back when it dies, and stopped when the test ends."""
    from otp_runtime.testing.nodes import supervised

    with supervised() as start:
        yield start


@pytest.fixture
def peer(otp_node: PrivateNode) -> Iterator[Callable[..., Peer]]:  # noqa: ARG001 - asked for by naming it
    """Start a second program (`peer("b").call(fun, *args)`); without `cluster` it attaches to this test's node."""
    from otp_runtime.testing.peers import Peer

    with contextlib.ExitStack() as programs:
        yield lambda name, cluster=None, **options: programs.enter_context(Peer(name, cluster=cluster, **options))
