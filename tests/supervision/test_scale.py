"""Many children: what one costs does not depend on how many there are, and limits of the machine are said."""

import contextlib
import logging
import os
import resource
import signal
import time

import pytest

from otp_runtime import Agent, CallError, DynamicSupervisor, GenServer, StartFailed, Supervisor, process
from otp_runtime.process.current import current
from otp_runtime.testing import sigkill, wait_restarted

MANY = 1_000_000


def cpu_ms(pid):
    """Processor time of a process so far: a busy machine disturbs it less than the clock."""
    with open(f"/proc/{pid.os_pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e6


def memory_kb(os_pid):
    """What a process has for itself."""
    with open(f"/proc/{os_pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def node_memory_kb():
    """What guard, launcher and supervisors have for themselves, which live as long as the node."""
    lasting = {info.os_pid for pid in process.list() if (info := process.info(pid)) and "upervisor" in info.label}
    launcher = process.info(current().pid_of(1)).os_pid
    return sum(memory_kb(os_pid) for os_pid in {*lasting, launcher})


def restart_cost(sup, pid):
    """Kill a child of a dynamic supervisor; give what the supervisor spent until there is another one."""
    before = cpu_ms(sup)
    count = len(process.list())
    os.kill(pid.os_pid, signal.SIGKILL)
    pid.wait(10.0)
    while len(process.list()) < count:
        current().pump(0.001)
    return cpu_ms(sup) - before


class TestDescriptors:
    def test_too_few(self, me):
        """A start that finds none left says so, with the limit and what to do; the supervisor goes on."""
        with DynamicSupervisor.start_link() as sup:
            soft, hard = resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE)
            resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE, (40, hard))
            children = []

            def fill():
                while True:
                    children.append(DynamicSupervisor.start_child(sup, Agent.child_spec(int)))

            with pytest.raises(StartFailed, match=r"Too many open files \(of 40, .* raise the limit with `ulimit -n`"):
                fill()
            before = len(children)
            sigkill(children.pop())
            while DynamicSupervisor.count_children(sup).active < before:
                current().pump(0.001)
            resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE, (soft, hard))
            more = DynamicSupervisor.start_child(sup, Agent.child_spec(int))

            assert before > 5
            assert Agent.get(more, lambda n: n) == 0

    def test_those_who_ask_do_not_take_the_last(self, me):
        """With no child more to be had, a supervisor answers whoever asks, and sees to the deaths of its children."""
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            others = [Agent.start_link(int) for _ in range(6)]
            soft, hard = resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE)
            resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE, (40, hard))
            children = []
            with contextlib.suppress(StartFailed):
                while True:
                    children.append(DynamicSupervisor.start_child(sup, Agent.child_spec(int)))
            asked = [Agent.get(one, lambda _: DynamicSupervisor.count_children(sup).specs) for one in others]
            for child in children[:4]:
                sigkill(child)
            resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE, (soft, hard))

            assert [len(children)] * 6 == asked
            assert len(children) == DynamicSupervisor.count_children(sup).specs

    def test_a_supervisor_may_have_all_there_are(self, me):
        """Its soft limit is lifted to the hard one."""
        with DynamicSupervisor.start_link() as sup:
            soft, hard = resource.prlimit(sup.os_pid, resource.RLIMIT_NOFILE)

            assert soft == hard


class TestMany:
    @pytest.mark.slow
    def test_a_restart_among_many(self, me):
        """It costs its supervisor what it costs among few, in processor time."""
        few, many = (self.cost_among(count) for count in (5, 60))

        assert many < 1.5 * few + 0.5

    @pytest.mark.stress
    @pytest.mark.timeout(1200)
    def test_two_thousand(self, me):
        """They start, answer, are restarted at the price of one among ten, and stop."""
        few, many = (self.cost_among(count) for count in (10, 2000))

        # a fork copies the page table of a larger parent, and the looks at children go on meanwhile
        assert many < 2 * few + 1.0

    def cost_among(self, count):
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            children = [DynamicSupervisor.start_child(sup, Agent.child_spec(int)) for _ in range(count)]
            assert [0] * count == [Agent.get(child, lambda n: n, 60.0) for child in children]
            costs = sorted(restart_cost(sup, pid) for pid in children[:5])
            assert DynamicSupervisor.count_children(sup).active == count
        return costs[1]


class TestStorm:
    @pytest.mark.slow
    def test_restarts_do_not_starve_calls(self, me):
        """While one child is killed again and again, each call of a sibling is answered, and within a second."""
        self.storm(50, 1.0)

    @pytest.mark.stress
    def test_two_hundred_restarts_a_second(self, me):
        """For ten seconds: as many as the machine gives, up to two hundred a second."""
        self.storm(2000, 1.0)

    def storm(self, kills, longest_allowed):
        specs = [Agent.child_spec(int, name="calm"), Agent.child_spec(int, name="victim", spare=1)]
        with Supervisor.start_link(specs, strategy="one_for_one", max_restarts=MANY):
            longest = 0.0
            for _ in range(kills):
                began = time.monotonic()
                if (pid := process.whereis("victim")) is not None and (os_pid := pid.os_pid) is not None:
                    with contextlib.suppress(ProcessLookupError):  # the last kill was not followed yet
                        os.kill(os_pid, signal.SIGKILL)
                asked = time.monotonic()
                assert Agent.get("calm", lambda n: n) == 0
                longest = max(longest, time.monotonic() - asked)
                current().pump(max(0.0, began + 0.005 - time.monotonic()))
            assert GenServer.whereis("calm") is not None

            assert longest < longest_allowed


class TestLeaks:
    @pytest.mark.slow
    def test_memory_is_flat(self, me):
        """What lives as long as the node does not grow with calls and restarts."""
        assert self.growth_kb(calls=2_000, restarts=60) < 1_500

    @pytest.mark.stress
    @pytest.mark.timeout(1200)
    def test_memory_is_flat_for_long(self, me, caplog):
        """Not with a hundred thousand calls and ten thousand restarts either."""
        caplog.set_level(logging.CRITICAL, logger="otp_runtime")  # it keeps five kilobytes of each restart
        assert self.growth_kb(calls=100_000, restarts=10_000) < 1_500

    def growth_kb(self, calls, restarts):
        with Supervisor.start_link([Agent.child_spec(int, name="a")], strategy="one_for_one", max_restarts=MANY):
            self.use(calls // 10, 120)
            before = node_memory_kb(), memory_kb(os.getpid())
            self.use(calls, restarts)
            after = node_memory_kb(), memory_kb(os.getpid())
        return max(new - old for old, new in zip(before, after, strict=True))

    def use(self, calls, restarts):
        for _ in range(restarts):
            wait_restarted("a", after=sigkill("a"))
        for _ in range(calls):
            try:
                Agent.get("a", lambda n: n)
            except CallError:
                pytest.fail("a call of a server that nobody kills failed")
