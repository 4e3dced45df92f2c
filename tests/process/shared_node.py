"""One node for the tests of a class: to start one takes longer than most tests.

Each test must end all it started, or leave it to `clean`, which ends it and sees that nothing else is left: no
process of the node, no message, no descriptor.
"""

import collections
import contextlib
import gc

import pytest

from otp_runtime import CallError, GenServer, Node, process
from otp_runtime.host import box as boxes
from otp_runtime.process.current import current, peek
from otp_runtime.testing import leaks
from otp_runtime.testing.nodes import private_node

END_SECONDS = 5.0


@pytest.fixture(scope="class")
def otp_node():
    """A node for the tests of one class."""
    with private_node() as node:
        yield node


@pytest.fixture
def me(otp_node):
    """This program's pid, for functions that run elsewhere to send to."""
    return process.self()


@pytest.fixture(autouse=True)
def _nothing_left(request):
    """End what the test started; what it opened must be closed by then."""
    if "otp_node" not in request.fixturenames:
        before = leaks.descriptors()
        yield
        left = leaks.opened_since(before)
        if left:
            Node.stop()  # one that the test started without a word would be in the way of all that follow
            pytest.fail(f"the test left {', '.join(left)}")
        return
    request.getfixturevalue("otp_node")
    started, opened = set(process.list()), _opened()
    yield
    if peek() is None:
        return
    _end(pid for pid in process.list() if pid not in started)
    process.flush()
    left = [f"{pid!r}" for pid in process.list() if pid not in started]
    if _opened() - opened:
        gc.collect()  # the traceback of an expected exception holds what its frames had open
    left += (_opened() - opened).elements()
    if left:
        pytest.fail(f"the test left {', '.join(left)}")


def _opened():
    context = current()
    context.pump(0)
    context._forget_idle_peers()
    return collections.Counter(what for what in leaks.descriptors().values() if "/p/1." not in what)


def _end(pids):
    """Stop supervisors, kill what is left of the others, and wait for all."""
    pids = sorted(pids, key=_rank)
    for pid in pids:
        with contextlib.suppress(CallError):
            if _rank(pid) == 0:
                GenServer.stop(pid, "shutdown", END_SECONDS)
        with contextlib.suppress(CallError):
            process.exit(pid, "kill")
            pid.wait(END_SECONDS)


def _rank(pid):
    box = boxes.Box.open(current().directory.box(pid.id))
    if box is None:
        return 1
    try:
        return 0 if box.kind == boxes.KIND_SUPERVISOR else 1
    finally:
        box.close()


@pytest.fixture
def unsendable():
    """Things that cannot travel between processes, by name."""
    import socket
    import threading

    with open("/dev/null", encoding="ascii") as file, socket.socket() as connection:
        yield {"lock": threading.Lock(), "socket": connection, "file": file, "generator": (n for n in ())}
