"""What is measured. A measure gives the samples of one round: ours, and the floor's, taken right beside them."""

from __future__ import annotations

import contextlib
import functools
import mmap
import operator
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
from msgpack import Packer

from otp_runtime import DynamicSupervisor, GenServer, Registry, Supervisor, upgrade
from otp_runtime.cli.bench import measures
from otp_runtime.cli.bench.floor import REQUEST, Forks
from otp_runtime.cli.bench.measures import NAME, Measure, Point, Round, Samples, kill_to_answer, time_each
from otp_runtime.cli.bench.server import Echo
from otp_runtime.host.box import Box
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.supervision.upgrade import recycle
from scripts.bench.server import Kept, Upgraded, kept_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime import Pid
    from scripts.bench.cluster import Nodes

TUPLE = tuple(REQUEST)
FIRST = "bench_first"
SUPERVISORS = "otp_runtime.supervision.loop"
"""What a supervisor's process has imported."""

REGISTRY = "bench_registry"
ENTRIES = 1_000
UPGRADED = "bench_upgraded"
REST_SECONDS = 0.004
IDLE_SECONDS = 2.0


class Rig(measures.Rig):
    """The processes that are measured here beside those of `otp bench`."""

    @functools.cache  # noqa: B019 - one rig lives as long as the program
    def kept(self, size: str) -> Pid:
        return self.keep(Kept.start_link(SIZES[size], restore="last_good"))

    @functools.cached_property
    def unkept(self) -> Pid:
        return self.keep(Kept.start_link(SIZES["1k"]))

    @functools.cached_property
    def nodes(self) -> Nodes:
        # an event loop, and a pickler, which the other measures are to do without
        from scripts.bench.cluster import Nodes

        return self.keep(contextlib.closing(Nodes()))

    @functools.cached_property
    def equals(self) -> Forks:
        """Forks of a process of a supervisor's size, which does nothing."""
        return self.keep(contextlib.closing(Forks(SUPERVISORS)))

    @functools.cached_property
    def registry(self) -> str:
        """A registry with a thousand entries, all of this program."""
        self.keep(Registry.start_link(keys="unique", name=REGISTRY))
        for number in range(ENTRIES):
            Registry.register(REGISTRY, f"key {number}", number)
        return REGISTRY

    @functools.cached_property
    def upgraded(self) -> Pid:
        """A supervisor of its own: after an upgrade it forks from elsewhere."""
        children = [Upgraded.child_spec(name=UPGRADED)]
        return self.keep(Supervisor.start_link(children, strategy="one_for_one"))

    @functools.cached_property
    def link(self) -> str:
        """A link like those that names are, in memory like them where the machine has such a directory."""
        shared = "/dev/shm"  # noqa: S108 - a directory of our own in it
        directory = tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None)
        link = os.path.join(self.keep(directory), NAME)
        os.symlink("12", link)
        return link


# -- calls ---------------------------------------------------------------------------------------------------


def _call_by_name(rig: Rig) -> Round:
    return measures.call(rig, "one", "one", NAME, 100 if rig.quick else 500)


def _call_tuple(rig: Rig) -> Round:
    return measures.call(rig, "one", "one", rig.echo, 100 if rig.quick else 500, request=TUPLE)


def _call_rested(rig: Rig) -> Round:
    return measures.call(rig, "free", "free", rig.echo, 10 if rig.quick else 40, REST_SECONDS)


# -- casts, names --------------------------------------------------------------------------------------------


def _lookup(rig: Rig) -> Round:
    _ = rig.echo
    batch = 20

    def batches(function: Callable[[Any], Any], argument: str) -> Samples:
        def look_up() -> None:
            for _ in range(batch):
                function(argument)

        return [sample / batch for sample in time_each(look_up, 20 if rig.quick else 100)]

    return rig.in_turns(lambda: batches(GenServer.whereis, NAME), lambda: batches(os.readlink, rig.link))


def _registry_lookup(rig: Rig) -> Round:
    """Give thousands a second of look-ups of one of the entries, and of a bare readlink."""
    registry, link = rig.registry, rig.link
    count = 2_000 if rig.quick else 20_000

    def rate(function: Callable[[], Any]) -> Samples:
        started = time.perf_counter()
        for _ in range(count):
            function()
        return [count / (time.perf_counter() - started) / 1000]

    return rig.in_turns(
        lambda: rate(lambda: Registry.lookup(registry, "key 7")), lambda: rate(lambda: os.readlink(link))
    )


def _registry_register(rig: Rig) -> Round:
    """Give microseconds of registering one more key and of giving it back."""
    registry = rig.registry

    def once() -> None:
        Registry.register(registry, "one more", 1)
        Registry.unregister(registry, "one more")

    return time_each(once, 50 if rig.quick else 300), []


# -- kept states ---------------------------------------------------------------------------------------------

SIZES = {"1k": 1_000, "100k": 100_000, "10m": 10_000_000}


def pack_and_copy(size: str, count: int, *, in_ms: bool) -> Samples:
    """Encode such a state and copy the bytes into mapped memory, without asking what changed or keeping it safe."""
    state = kept_state(SIZES[size])
    pack = Packer(autoreset=True).pack
    with mmap.mmap(-1, len(pack(state)) + 4096) as memory:
        started = time.perf_counter()
        for number in range(count):
            packed = pack({**state, "calls": number})
            memory[: len(packed)] = packed
        each = (time.perf_counter() - started) / count
    return [each * (1e3 if in_ms else 1e6)]


def _call_kept(rig: Rig) -> Round:
    """A call that changes a state of 1 KB, kept and not kept, both on one core."""
    return beside_unkept(rig, rig.kept("1k"))


def beside_unkept(rig: Rig, server: Pid) -> Round:
    """Calls that change a state of 1 KB, beside those of a server that keeps nothing, both on one core."""
    count = 50 if rig.quick else 200

    def calls(server: Pid) -> Samples:
        assert server.os_pid is not None
        rig.place("one", server.os_pid)
        return time_each(lambda: GenServer.call(server, REQUEST), count)

    try:
        return rig.in_turns(lambda: calls(server), lambda: calls(rig.unkept))
    finally:
        rig.place("free", os.getpid())


def commits_of(size: str, count: int, *, changing: bool = True, in_ms: bool = False) -> Callable[[Rig], Round]:
    """Commits alone, beside the bare work: pack and copy. Of an unchanged state, beside one that changes."""

    def commits(rig: Rig, changing: bool) -> Samples:
        each = GenServer.call(rig.kept(size), ("commit", max(2, count // 8) if rig.quick else count, changing), None)
        return [each / 1000 if in_ms else each]

    def take(rig: Rig) -> Round:
        if changing:
            return rig.in_turns(lambda: commits(rig, True), lambda: pack_and_copy(size, count, in_ms=in_ms))
        return rig.in_turns(lambda: commits(rig, False), lambda: commits(rig, True))

    return take


# -- nodes ---------------------------------------------------------------------------------------------------


def _cluster_call(rig: Rig) -> Round:
    """A call from node to node, and a request from one bare NATS client to another."""
    count = 100 if rig.quick else 300
    return rig.in_turns(lambda: rig.nodes.calls(count), lambda: rig.nodes.round_trips(count))


def _cluster_cast(rig: Rig) -> Round:
    return [rig.nodes.cast_rate(2_000 if rig.quick else 20_000) / 1000], []


EQUAL: Final = operator.attrgetter("equals")
"""Whose forks a start is compared with beside the bare ones: those of a process of a supervisor's size."""


# -- life and death --------------------------------------------------------------------------------------------


def _first_restart(rig: Rig) -> Round:
    """The first death under a supervisor: nothing could be expected, and nothing was forked ahead."""
    flags: dict[str, Any] = {"strategy": "one_for_one"}

    def ours() -> Samples:
        with Supervisor.start_link([Echo.child_spec(name=FIRST)], **flags):
            return [kill_to_answer(FIRST)]

    return rig.in_turns(ours, lambda: [sum(rig.equals.once()) * 1000])


def _first_start(rig: Rig) -> Round:
    """The first child of a supervisor, likewise."""

    def ours() -> Samples:
        with DynamicSupervisor.start_link() as sup:
            started = time.perf_counter()
            DynamicSupervisor.start_child(sup, Echo)
            return [(time.perf_counter() - started) * 1000]

    return rig.in_turns(ours, lambda: [rig.equals.once()[0] * 1000])


def _pause(rig: Rig, hand_over: Callable[[], None]) -> Round:
    """Give the longest that one call took, of a caller that called without pause while the server changed hands."""
    _ = rig.upgraded

    def ours() -> Samples:
        thread = threading.Thread(target=hand_over)
        longest = 0.0
        thread.start()
        while thread.is_alive():
            started = time.perf_counter()
            GenServer.call(UPGRADED, REQUEST)
            longest = max(longest, time.perf_counter() - started)
        thread.join()
        return [longest * 1000]

    return rig.in_turns(ours, lambda: [sum(rig.forks.once()) * 1000])


_LONE = """
import psutil
from otp_runtime import GenServer
from ours_server import Counter

with Counter.start_link(0) as server:
    GenServer.call(server, "get")
    print(psutil.Process(server.os_pid).memory_full_info().uss)
"""


def _memory_alone(_rig: Rig) -> Round:
    """Ask a program that starts one server and no more."""
    here = Path(__file__).parent
    path = [str(here / "counters"), str(here.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", _LONE]
    said = subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, env=environment).stdout
    return [int(said) / 1e6], []


def _memory_of_one_more(_rig: Rig) -> Round:
    with Echo.start_link() as server:
        GenServer.call(server, REQUEST)
        return [psutil.Process(server.os_pid).memory_full_info().uss / 1e6], []


def _many(rig: Rig) -> Round:
    """Give milliseconds a server, start, call and stop together."""
    count = 20 if rig.quick else 100
    started = time.perf_counter()
    servers = [Echo.start_link() for _ in range(count)]
    assert [GenServer.call(server, number) for number, server in enumerate(servers)] == list(range(count))
    for server in reversed(servers):
        GenServer.stop(server)
    return [(time.perf_counter() - started) / count * 1000], []


def _idle(rest: float) -> Callable[[Rig], Round]:
    """Give a `take`: the percentage of a core that a node uses whose servers were all called so many seconds ago."""

    def take(rig: Rig) -> Round:
        servers = [Echo.start_link() for _ in range(20 if rig.quick else 100)]
        for server in servers:
            GenServer.call(server, REQUEST)
        time.sleep(rest)
        launcher = Box.open(current().directory.box(LAUNCHER_ID))
        assert launcher is not None
        guard = psutil.Process(launcher.identity.os_process.pid).parent()
        assert guard is not None
        processes = [guard, *guard.children(recursive=True)]
        before = {process: _cpu_ns(process) for process in processes}
        time.sleep(IDLE_SECONDS)
        used = sum(max(0, _cpu_ns(process) - begun) for process, begun in before.items())
        for server in servers:
            GenServer.stop(server)
        return [used / 1e9 / IDLE_SECONDS * 100], []

    return take


def _cpu_ns(process: psutil.Process) -> int:
    """Give the time that a process spent on a core, which /proc/PID/stat counts too coarsely for an idle one.

    0 when it is gone: a process forked ahead that nobody used ends after some seconds.
    """
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{process.pid}/schedstat") as file:
        return int(file.read().split()[0])
    return 0


# -- all of them ---------------------------------------------------------------------------------------------


MEASURES = (
    measures.CALL_ONE_CORE,
    measures.CALL_OWN_CORES,
    Measure("call-free", "call, placed freely (floor: own cores)", "us", measures.many_calls("free", "own"), cores=2),
    Measure("call-name", "call by name, both on one core", "us", _call_by_name),
    Measure("call-tuple", "call with a tuple (floor: a list), both on one core", "us", _call_tuple),
    Measure(
        "call-rested", f"call after {REST_SECONDS * 1000:g} ms of rest, placed freely", "us", _call_rested, every=4
    ),
    measures.CAST,
    Measure("call-kept", "call, 1 KB of state kept (floor: not kept), both on one core", "us", _call_kept),
    Measure("commit-same", "commit of 1 KB, unchanged (floor: changed)", "us", commits_of("1k", 400, changing=False)),
    Measure(
        "commit-same-10m",
        "commit of 10 MB, unchanged (floor: changed)",
        "us",
        commits_of("10m", 2, changing=False),
        every=16,
    ),
    Measure(
        "commit-100k",
        "commit of 100 KB, changed (floor: pack and copy)",
        "ms",
        commits_of("100k", 16, in_ms=True),
        every=4,
        point=Point("state", "commit", 1e5),
    ),
    Measure(
        "commit-10m",
        "commit of 10 MB, changed (floor: pack and copy)",
        "ms",
        commits_of("10m", 2, in_ms=True),
        every=16,
        point=Point("state", "commit", 1e7),
    ),
    Measure("lookup", "look a name up (floor: readlink)", "us", _lookup),
    Measure("registry", "registry look-ups (floor: readlinks)", "k/s", _registry_lookup),
    Measure("registry-write", "register a key and unregister it", "us", _registry_register),
    Measure("cluster", "call between nodes (floor: bare NATS round trip)", "us", _cluster_call, every=4),
    Measure("cluster-cast", "casts between nodes, handled", "k/s", _cluster_cast, every=8),
    measures.RESTART,
    Measure("restart-equal", "the same (floor: of a supervisor's size)", "ms", measures.restarts(EQUAL), repeat=4),
    Measure("restart-first", "the same, the first death under a supervisor (floor: of its size)", "ms", _first_restart),
    measures.START,
    Measure("start-equal", "the same (floor: of a supervisor's size)", "ms", measures.starts(EQUAL), repeat=4),
    Measure("start-first", "the first of a supervisor, module and all (floor: of its size)", "ms", _first_start),
    Measure(
        "upgrade-pause",
        "upgrade: the longest call of a caller without pause (floor: fork + reap)",
        "ms",
        lambda rig: _pause(rig, lambda: upgrade(UPGRADED)),
        every=2,
    ),
    Measure(
        "recycle-pause",
        "the same without new code",
        "ms",
        lambda rig: _pause(rig, lambda: recycle(UPGRADED)),
        every=2,
    ),
    Measure("memory", "unique memory of an idle server, the only one of a program", "MB", _memory_alone, every=8),
    Measure("memory-next", "the same, of one more that a program has just started", "MB", _memory_of_one_more, every=8),
    Measure("many", "100 servers started, called, stopped: each", "ms", _many, every=8),
    Measure("idle", "CPU of an idle node of 100 servers, just started", "%", _idle(0.2), every=16),
    Measure("idle-rested", "the same, five seconds later", "%", _idle(5.0), every=16),
)
