"""The kernel kills: for want of memory in a real cgroup, for a limit of CPU time; and what is said of it."""

import contextlib
import os
import time

import pytest

from otp_runtime import Down, GenServer, Signalled, Supervisor, process, why
from otp_runtime.host.oom import counter_of
from otp_runtime.process import boot
from otp_runtime.testing import oom, sigkill, wait_restarted
from tests.supervision.spenders import MB, Grouped, Spender, eat, limit_cpu, spin

ROOM = 96 * MB
PATIENCE = 20.0


def _remove(path):
    """A cgroup goes when the last of its dead is buried."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            os.rmdir(path)
            return
        os.sched_yield()


@pytest.fixture
def cgroup():
    """A memory cgroup with little room, below this process's own."""
    counter = counter_of(os.getpid())
    parent, name = os.path.split(counter)
    if name not in {"memory.events", "memory.oom_control"}:
        pytest.skip("there is no memory cgroup of this process's own in /sys/fs/cgroup")
    path = f"{parent}/otp-test-{os.getpid()}"
    limit = "memory.max" if name == "memory.events" else "memory.limit_in_bytes"
    try:
        os.mkdir(path)
    except OSError as error:
        pytest.skip(f"a memory cgroup cannot be made here: {error}")
    try:
        try:
            with open(f"{path}/{limit}", "w") as file:
                file.write(str(ROOM))
            with contextlib.suppress(OSError), open(f"{path}/memory.swap.max", "w") as file:
                file.write("0")
        except OSError as error:
            pytest.skip(f"a memory cgroup cannot be limited here: {error}")
        yield path
    finally:
        _remove(path)


def starve(name):
    """Have a server eat up its cgroup; give its reason."""
    pid = process.whereis(name)
    ref = process.monitor(pid)
    GenServer.cast(name, eat)
    down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, PATIENCE)
    return down.reason


def supervise(*names, cgroup=None):
    specs = [
        Spender.child_spec((None, 0), name=name) if cgroup is None else Grouped.child_spec(cgroup, name=name)
        for name in names
    ]
    return Supervisor.start_link(specs, strategy="one_for_one", max_restarts=100)


@pytest.mark.slow
@pytest.mark.usefixtures("otp_node")
class TestOom:
    def test_in_a_cgroup_of_its_own(self, cgroup):
        """It is told from any other SIGKILL, with the count that says so."""
        with supervise("spender", cgroup=cgroup):
            reason = starve("spender")
            record = why("spender")

        assert Signalled("SIGKILL", oom=True) == reason
        assert (record.oom, record.kind, record.signal) == (True, "signal", "SIGKILL")
        assert cgroup in record.evidence
        assert "oom_kill" in record.evidence

    def test_each_death_needs_a_kill_of_its_own(self, cgroup):
        """A SIGKILL from outside right after it is none of the OOM killer's; the next victim is."""
        with supervise("first", "second", "third", cgroup=cgroup):
            reasons = [starve("first")]
            ref = process.monitor("second")
            sigkill("second")
            down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, PATIENCE)
            reasons += [down.reason, starve("third")]

        assert [Signalled("SIGKILL", oom=True), Signalled("SIGKILL"), Signalled("SIGKILL", oom=True)] == reasons

    def test_sigkill_from_outside(self):
        """No evidence, no verdict."""
        with supervise("spender"):
            wait_restarted("spender", after=sigkill("spender"))
            record = why("spender")

        assert (False, None) == (record.oom, record.evidence)

    def test_a_memory_error(self):
        """Python said it: an exception."""
        with supervise("spender"):
            wait_restarted("spender", after=oom("spender"))
            record = why("spender")

        assert ("exception", "MemoryError", False) == (record.kind, record.reason.type, record.oom)


@pytest.mark.slow
@pytest.mark.usefixtures("otp_node")
class TestCpuLimit:
    @pytest.mark.parametrize(("soft", "hard", "name"), [(1, 2, "SIGXCPU"), (1, 1, "SIGKILL")])
    def test_of_the_kernels(self, soft, hard, name):
        """A limit that the server was given by others (ulimit -t): the signal, and the limit as evidence."""
        with supervise("spender"):
            ref = process.monitor("spender")
            GenServer.call("spender", limit_cpu(soft, hard))
            GenServer.cast("spender", spin)
            down = process.receive(lambda message: isinstance(message, Down) and message.ref == ref, PATIENCE)
            record = why("spender")

        assert (name, False) == (down.reason.name, down.reason.oom)
        assert record.evidence.startswith("RLIMIT_CPU")


@pytest.mark.usefixtures("otp_node")
class TestOomScore:
    def test_servers_go_before_supervisors(self):
        """The kernel takes the highest score."""

        def score(pid):
            with open(f"/proc/{pid.os_pid}/oom_score_adj") as file:
                return int(file.read())

        with supervise("spender") as sup:
            higher = score(process.whereis("spender")) - score(sup)

        assert higher == min(boot.OOM_SCORE, 1000)
