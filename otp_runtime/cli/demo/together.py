"""The chapter of the story in which two programs have a node each, and one of them is killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.cli.demo.members import OPEN, START, TILL, TOPIC, tree
from otp_runtime.cli.demo.servers import Counter
from otp_runtime.cli.demo.story import milliseconds
from otp_runtime.errors import CallError, NoNode, ReceiveTimeout
from otp_runtime.process import primitives as process
from otp_runtime.process.node import Node
from otp_runtime.registry import presence, pubsub
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.events import Down, NodeDown, NodeUp, PresenceDiff
from otp_runtime.terms.pid import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otp_runtime.cli.demo.story import Story

LEASE_SECONDS = 2.0
WAIT_SECONDS = 20.0
EXTRA = "pip install 'otp-runtime[cluster]'"


def two_nodes(story: Story) -> None:
    """A call, a name and a presence across two programs; what is left when one is killed."""
    story.chapter("Two programs, one of them killed")
    if importlib.util.find_spec("nats") is None:
        story.say(f"Left out: nodes that know each other need an extra. {EXTRA}")
        return
    story.say("This program's node joins a cluster, and so does the node of a second program. Both run the same tree.")
    cluster = f"embedded:demo{os.getpid()}"
    name = Node.self().partition("@")[0]
    Node.stop()
    try:
        Node.start(name, cluster=cluster, lease=LEASE_SECONDS)
    except NoNode as error:
        story.say(f"Left out: {error}")
        Node.start(name)
        return
    Node.monitor_nodes(True)
    with _second_program(f"far{os.getpid()}", cluster) as program:
        far = _hear(NodeUp).node
        counter = Remote("counter", far)
        story.claim(f"they see each other: here {Node.list()}", Node.list() == [far])
        with pubsub.start_link():
            pubsub.subscribe(TOPIC)
            pubsub.subscribe(OPEN)
            _hear_of(TOPIC, "ada")
            _hear_of(OPEN, far)
            with Supervisor.start_link(tree("bob")[1:], strategy="one_for_one", name="supervisor"):
                _before(story, far, counter)
                _after(story, far, counter, program)


@contextlib.contextmanager
def _second_program(name: str, cluster: str) -> Iterator[subprocess.Popen[bytes]]:
    what = ["-m", "otp_runtime", "run", "otp_runtime.cli.demo.members:app", "--name", name]
    program = subprocess.Popen(
        [sys.executable, *what, "--cluster", cluster, "--lease", str(LEASE_SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def _before(story: Story, far: str, counter: Remote) -> None:
    story.tree()
    _hear_of(TOPIC, "bob")
    Counter.inc(counter)
    story.claim(
        f"its counter, called from here, answers {START + 1}; the one here {START}",
        (Counter.val(counter), Counter.val("counter")) == (START + 1, START),
    )
    story.claim('Global("till") runs there; the one here stands by', GenServer.call(TILL, "where") == far)
    story.claim(f"present: {', '.join(sorted(presence.list(TOPIC)))}", {*presence.list(TOPIC)} == {"ada", "bob"})


def _after(story: Story, far: str, counter: Remote, program: subprocess.Popen[bytes]) -> None:
    story.line("")
    story.say(story.paint("kill -9 of the second program, with its node", "bold"))
    ref = process.monitor(counter)
    started = time.perf_counter()
    program.kill()
    down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, WAIT_SECONDS)
    story.claim(f"who watched its counter hears it after {milliseconds(started)}", down.reason == "noconnection")
    story.claim("a call to it fails at once", _is_lost(counter))
    _hear_that(lambda: "ada" not in presence.list(TOPIC))
    story.claim(f"ada has left; present: {', '.join(presence.list(TOPIC))}", [*presence.list(TOPIC)] == ["bob"])
    story.claim("this node was told that the other is gone", _hear(NodeDown).node == far)
    _hear_of(OPEN, Node.self())
    story.claim(
        f'Global("till") is here after {milliseconds(started)} (the lease that bounds it: {LEASE_SECONDS:g} s)',
        GenServer.call(TILL, "where") == Node.self(),
    )
    story.claim(f"nothing here was restarted: the counter answers {START}", Counter.val("counter") == START)


def _is_lost(counter: Remote) -> bool:
    try:
        Counter.val(counter)
    except CallError as error:
        return bool(error.reason == "noconnection")
    return False


def _hear(kind: type) -> Any:
    return process.receive(kind, WAIT_SECONDS)


def _hear_of(topic: str, key: str) -> None:
    """Wait until somebody is present."""
    _hear_that(lambda: key in presence.list(topic))


def _hear_that(is_so: Callable[[], bool]) -> None:
    """Wait for changes of who is present until they make it so; what is claimed next says if it is not."""
    while not is_so():
        try:
            process.receive(PresenceDiff, WAIT_SECONDS)
        except ReceiveTimeout:
            return
