"""Processes that are forked to be forked: who has one, whose child comes from it, and what happens without it."""

import os
import signal

import pytest

from otp_runtime import Agent, DynamicSupervisor, GenServer, Reply, Supervisor, process, why
from otp_runtime.host import kernel, poller
from otp_runtime.process.boot_path import PATH
from otp_runtime.process.current import current
from otp_runtime.process.template import TITLE
from otp_runtime.testing import sigkill, wait_restarted
from scripts import boot_path
from tests.supervision.children import logs_in_a_thread

MANY = 1_000_000
WAIT = 10.0


class Told(GenServer):
    """Does what it is told."""

    def init(self, arg):
        return arg

    def handle_call(self, request, client, state):
        if request == "abort":
            os.abort()
        if request == "descriptors":
            return Reply(len(os.listdir("/proc/self/fd")), state)
        return Reply((os.getpid(), os.getppid()), state)


def supervise(*children):
    return Supervisor.start_link(list(children), strategy="one_for_one", max_restarts=MANY)


def templates_of(sup):
    """The OS pid of the template that a supervisor has, in a list, which is empty when it has none.

    What a template has just forked, a spare for example, has its title for a moment: it is younger.
    """
    return [os_pid for os_pid in kernel.children_of(sup.os_pid) if kernel.title_of(os_pid) == TITLE][:1]


def template_of(sup, besides=None):
    """Wait until a supervisor has a template that is ready, another one than `besides`; give its OS pid."""
    deadline = poller.now() + WAIT
    while (found := templates_of(sup)) in ([], [besides]):
        assert poller.now() < deadline
        current().pump(0.001)
    return found[0]


def start(sup):
    return DynamicSupervisor.start_child(sup, Told.child_spec(restart="temporary"))


def boxes_open_in(sup):
    """How many black boxes a supervisor has mapped."""
    directory = f"/proc/{sup.os_pid}/fd"
    return sum(".box" in os.readlink(f"{directory}/{number}") for number in os.listdir(directory))


def kill_and_wait(os_pid):
    """End a process, and wait until it has ended."""
    pidfd = os.pidfd_open(os_pid)
    os.kill(os_pid, signal.SIGKILL)
    deadline = poller.now() + WAIT
    while not kernel.has_ended(pidfd):
        assert poller.now() < deadline
        current().pump(0.001)
    os.close(pidfd)


class TestThreadsOfTheChild:
    @pytest.mark.parametrize("number", [1, 2])
    def test_they_log(self, me, number):
        """Nothing that is held during a fork is held after it, in the first server of a program and in later ones."""
        agents = [Agent.start_link(int) for _ in range(number)]

        assert Agent.get(agents[-1], logs_in_a_thread)

    def test_in_one_that_was_forked_ahead(self, me):
        """Either."""
        with supervise(Agent.child_spec(int, name="ahead", spare=1)):
            wait_restarted("ahead", after=sigkill("ahead"))

            assert Agent.get("ahead", logs_in_a_thread)


class TestWhoHasOne:
    def test_a_supervisor_of_one_child_has_none(self, me):
        """It would be as large as the child."""
        with supervise(Told.child_spec(name="told")) as sup:
            found = templates_of(sup)

        assert [] == found

    def test_a_supervisor_that_restarts_has_one(self, me):
        """The second start has it made."""
        with supervise(Told.child_spec(name="told")) as sup:
            wait_restarted("told", after=sigkill("told"))

            assert template_of(sup)

    def test_a_dynamic_supervisor_has_one_from_its_first_child_on(self, me):
        """It is there to have many."""
        with DynamicSupervisor.start_link() as sup:
            before = templates_of(sup)
            start(sup)

            assert template_of(sup)
            assert [] == before

    def test_starts_go_on_with_the_same_one(self, me):
        """It is forked again and again."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            first = template_of(sup)
            start(sup)
            second = template_of(sup)

        assert first == second

    def test_what_is_imported_ahead_has_a_new_one_made(self, me):
        """The old one has not got it."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            first = template_of(sup)
            from tests.supervision.keepers import Keeper

            DynamicSupervisor.start_child(sup, Keeper.child_spec(0))

            assert template_of(sup, besides=first)

    def test_it_ends_with_its_supervisor(self, me):
        """Also when that is killed: the kernel tells it."""
        sup = DynamicSupervisor.start_link()
        process.unlink(sup)
        start(sup)
        pidfd = os.pidfd_open(template_of(sup))
        os.kill(sup.os_pid, signal.SIGKILL)
        deadline = poller.now() + WAIT
        while not (ended := kernel.has_ended(pidfd)) and poller.now() < deadline:
            current().pump(0.001)
        os.close(pidfd)

        assert ended


class TestWhatComesFromIt:
    def test_its_os_parent_is_the_supervisor(self, me):
        """So the supervisor reaps it, and it dies with the supervisor."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            template_of(sup)
            child = start(sup)
            found = GenServer.call(child, "who")[1] == sup.os_pid

        assert found

    def test_the_c_library_knows_who_it_is(self, me):
        """`abort` signals the thread whose id glibc keeps: with another's, the template would die."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            template = template_of(sup)
            child = start(sup)
            with pytest.raises(Exception, match="SIGABRT"):
                GenServer.call(child, "abort")
            left = templates_of(sup)

        assert [template] == left

    def test_it_shares_no_descriptor_of_its_siblings(self, me):
        """As many are open in the third as in the second, and in the first, which its parent forked."""
        with DynamicSupervisor.start_link() as sup:
            counts = [GenServer.call(start(sup), "descriptors")]
            template_of(sup)
            counts += [GenServer.call(start(sup), "descriptors") for _ in range(2)]

        assert 1 == len(set(counts))


class TestWithoutIt:
    def test_one_that_was_killed_is_replaced(self, me):
        """The start that finds it dead has its process all the same."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            killed = template_of(sup)
            kill_and_wait(killed)
            child = start(sup)

            assert GenServer.call(child, "who")[0] == child.os_pid
            assert template_of(sup, besides=killed)

    @pytest.mark.slow
    def test_one_that_does_not_answer_is_ended(self, me):
        """A stopped one keeps nobody waiting for longer than a second."""
        with DynamicSupervisor.start_link() as sup:
            start(sup)
            stopped = template_of(sup)
            os.kill(stopped, signal.SIGSTOP)
            child = start(sup)
            answers = GenServer.call(child, "who")[0] == child.os_pid

        assert (True, None) == (answers, kernel.start_time(stopped))

    def test_its_death_is_no_childs(self, me):
        """Nothing is restarted or recorded for it."""
        with DynamicSupervisor.start_link(max_restarts=0) as sup:
            child = start(sup)
            kill_and_wait(template_of(sup))
            answers = GenServer.call(child, "who")[0] == child.os_pid
            record = why(child)

        assert (True, None) == (answers, record)


class TestWhatAKilledSupervisorLeaves:
    def test_whoever_ends_it_keeps_nothing_of_it_open(self, me):
        """Children that fell to the supervisor above are ended there, and their boxes closed."""
        children = [Told.child_spec(id=number) for number in range(3)]
        inner = Supervisor.child_spec(children, strategy="one_for_one", name="inner")
        with supervise(inner) as sup:
            before = boxes_open_in(sup)
            for _ in range(3):
                wait_restarted("inner", after=sigkill("inner"))
            # the last one's is open until its start has been heard of
            deadline = poller.now() + WAIT
            while (after := boxes_open_in(sup)) > before and poller.now() < deadline:
                current().pump(0.001)

        assert before == after

    def test_what_it_had_not_cleared_up_is_cleared_up(self, me):
        """The verdict on a child comes before its mailbox is removed: a supervisor can be killed in between."""
        child = Told.child_spec(restart="temporary", name="dead")
        inner = Supervisor.child_spec([child], strategy="one_for_one", name="inner")
        with supervise(inner):
            dead, directory = sigkill("dead"), current().directory
            dead.wait(WAIT)
            directory.make_mailbox(dead.id)
            wait_restarted("inner", after=sigkill("inner"))
            left = os.path.exists(directory.mailbox(dead.id))

        assert not left


class TestWhatLiesTogether:
    def test_the_list_is_what_a_boot_runs(self, me):
        """Nine of ten at least; else write it again, with `python -m scripts.boot_path`."""
        ran = boot_path.ran()
        missing = [name for name in ran if name not in PATH]

        assert len(missing) < len(ran) / 10, missing

    def test_the_list_has_nothing_else(self, me):
        """A name that is no longer run is rarely there."""
        ran = boot_path.ran()
        idle = [name for name in PATH if name not in ran]

        assert len(idle) < len(PATH) / 10, idle
