"""OS processes: a number and a start time, so that a number that is used again is another process."""

import os
import signal

import pytest

from otp_runtime.host import kernel
from otp_runtime.host.kernel import OsProcess


@pytest.fixture
def child():
    """A process that waits until it is killed."""
    os_pid = os.fork()
    if os_pid == 0:
        while True:
            signal.pause()
    yield OsProcess(os_pid, kernel.start_time(os_pid))
    os.kill(os_pid, signal.SIGKILL)
    os.waitpid(os_pid, 0)


@pytest.fixture
def count():
    """Of the children of this process."""
    count = kernel.ChildCount()
    yield count
    count.close()


@pytest.fixture
def zombie():
    """A process that ended with code 3 and was not waited for."""
    os_pid = os.fork()
    if os_pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, os_pid, os.WEXITED | os.WNOWAIT)
    yield os_pid
    os.waitpid(os_pid, 0)


class TestStartTime:
    def test_stays(self, child):
        """The same whenever one looks."""
        assert kernel.start_time(child.pid) == child.start > 0

    def test_nobody(self):
        """None for a number that nobody has."""
        assert kernel.start_time(2**22 + 1) is None

    def test_a_name_with_parentheses(self, child):
        """A command may hold blanks and parentheses."""
        read_end, write_end = os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            kernel.set_title(") S 1 (x)")
            os.write(write_end, str(kernel.start_time(os.getpid())).encode())
            os.read(write_end, 0) if False else signal.pause()
        said = int(os.read(read_end, 100))
        seen = kernel.start_time(os_pid)
        os.kill(os_pid, signal.SIGKILL)
        os.waitpid(os_pid, 0)
        os.close(read_end)
        os.close(write_end)

        assert said == seen >= child.start


class TestOpenPidfd:
    def test_the_process(self, child):
        """Readable when it has ended."""
        pidfd = kernel.open_pidfd(child)
        before = kernel.has_ended(pidfd)
        kernel.send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)

        assert (before, kernel.has_ended(pidfd)) == (False, True)
        os.close(pidfd)

    def test_another_with_the_number(self, child):
        """A wrong start time is another process: None."""
        assert kernel.open_pidfd(OsProcess(child.pid, child.start + 1)) is None

    def test_nobody(self):
        """None."""
        assert kernel.open_pidfd(OsProcess(2**22 + 1, 1)) is None

    @pytest.mark.parametrize("number", [0, -1])
    def test_no_number_of_a_process(self, number):
        """As a spoilt box says it: that is nobody."""
        assert kernel.open_pidfd(OsProcess(number, 0)) is None


class TestSendSignal:
    def test_to_the_dead(self, zombie):
        """Does not raise."""
        pidfd = os.pidfd_open(zombie)
        kernel.send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)

        assert kernel.zombie_status(zombie) is not None


class TestZombieStatus:
    def test_of_a_zombie(self, zombie):
        """Its wait status, before anybody waited."""
        assert os.WEXITSTATUS(kernel.zombie_status(zombie)) == 3

    def test_of_the_living(self, child):
        """None."""
        assert kernel.zombie_status(child.pid) is None


class TestIsStopped:
    def test_stopped_and_continued(self, child):
        """As the kernel says."""
        before = kernel.is_stopped(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

        assert (before, kernel.is_stopped(child.pid)) == (False, True)


class TestDescendants:
    def test_children_and_theirs(self):
        """At any depth; not oneself."""
        read_end, write_end = os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(write_end, str(grandchild).encode())
            signal.pause()
        grandchild = int(os.read(read_end, 100))
        found = kernel.descendants_of(os.getpid())
        for victim in (os_pid, grandchild):
            os.kill(victim, signal.SIGKILL)
        os.waitpid(os_pid, 0)
        os.close(read_end)
        os.close(write_end)

        assert [os_pid, grandchild] == found
        assert os.getpid() not in found

    def test_none(self, child):
        """A process without children."""
        assert kernel.descendants_of(child.pid) == []


class TestDieWithParent:
    def test_the_parent_is_gone(self, child):
        """Told apart from a living one, so that nobody waits for a signal that came before."""
        read_end, write_end = os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            me = OsProcess(os.getppid(), 0)
            answers = (kernel.die_with_parent(me), kernel.die_with_parent(child))
            os.write(write_end, repr(answers).encode())
            os._exit(0)
        os.waitpid(os_pid, 0)
        said = os.read(read_end, 100)
        os.close(read_end)
        os.close(write_end)

        assert said == b"(True, False)"


class TestCloseAllBut:
    def test_keeps_what_it_is_told(self):
        """And the standard three."""
        read_end, write_end = os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            extra = os.open("/dev/null", os.O_RDONLY)
            kernel.close_all_but({write_end})
            left = sorted(int(one) for one in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{one}"))
            os.write(write_end, repr((left == sorted({0, 1, 2, write_end} & set(left)), extra in left)).encode())
            os._exit(0)
        os.waitpid(os_pid, 0)
        said = os.read(read_end, 100)
        os.close(read_end)
        os.close(write_end)

        assert said == b"(True, False)"


class TestWriteBeside:
    @pytest.fixture
    def reader(self):
        """A process that reads a line, and then says what it read and on which cores it may run."""
        (reads, writes), (heard, says) = os.pipe(), os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            os.close(writes)
            data = b""
            while not data.endswith(b"\n") and (more := os.read(reads, 100)):
                data += more
            os.write(says, repr((data, sorted(os.sched_getaffinity(0)))).encode())
            os._exit(0)
        os.close(reads)
        os.close(says)
        yield os_pid, writes, heard
        os.close(writes)
        os.close(heard)
        os.waitpid(os_pid, 0)

    def test_the_reader_has_its_cores(self, reader):
        """When it has read all: what it sets itself from then on stays."""
        os_pid, writes, heard = reader
        cores = sorted(os.sched_getaffinity(os_pid))
        written = kernel.write_beside(writes, b"a line\n", os_pid)

        assert (written, os.read(heard, 1000)) == (7, repr((b"a line\n", cores)).encode())

    def test_a_reader_of_one_core(self, reader):
        """Stays on it, be it that of the writer."""
        os_pid, writes, heard = reader
        cores = os.sched_getaffinity(0)
        only = {min(cores)}
        os.sched_setaffinity(os_pid, only)
        os.sched_setaffinity(0, only)
        try:
            kernel.write_beside(writes, b"a line\n", os_pid)
        finally:
            os.sched_setaffinity(0, cores)

        assert os.read(heard, 1000) == repr((b"a line\n", sorted(only))).encode()

    def test_a_reader_that_is_gone(self, zombie):
        """Is not minded: what is written is there for whoever has its pipe."""
        reads, writes = os.pipe()
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        written = kernel.write_beside(writes, b"a line", zombie)
        data = os.read(reads, 100)
        os.close(reads)
        os.close(writes)

        assert (written, data) == (6, b"a line")


class TestCheckSystem:
    def test_here(self):
        """This machine will do."""
        assert kernel.check_system() is None

    def test_an_old_kernel(self, monkeypatch):
        """Says what it needs and what it found."""
        monkeypatch.setattr(kernel, "_release", lambda: "4.19.0-x")
        with pytest.raises(kernel.UnsupportedSystem, match=r"needs Linux >= 5\.4; this kernel is 4\.19\.0-x"):
            kernel.check_system()


class TestChildCount:
    def test_just_those(self, child, zombie, count):
        """Zombies count, and however often one asks, it is the same."""
        known = len(kernel.children_of(os.getpid()))

        assert [True] * 3 + [False, True, True] == [count.is_just(known + more) for more in (0, 0, 0, 1, 0, 0)]

    def test_one_more(self, child, count):
        """Noticed, whether it was counted before or not, until it is known."""
        known = len(kernel.children_of(os.getpid()))
        before = count.is_just(known)
        os_pid = os.fork()
        if os_pid == 0:
            os._exit(0)
        after = [count.is_just(known), count.is_just(known), count.is_just(known + 1), count.is_just(known + 1)]
        os.waitpid(os_pid, 0)

        assert (True, [False, False, True, True], True) == (before, after, count.is_just(known))

    def test_one_for_another(self):
        """Who falls to a process while one that it knows ends is noticed too."""
        os_pid = os.fork()
        if os_pid == 0:
            os._exit(self.a_child_leaves_a_child())

        assert [True, False] == list(divmod(os.waitstatus_to_exitcode(os.waitpid(os_pid, 0)[1]), 2))

    def a_child_leaves_a_child(self):
        """Say in two bits whether three children were counted, and whether one was told from the two that are left."""
        kernel.become_subreaper()
        count = kernel.ChildCount()
        if os.fork() == 0:
            signal.pause()
        if (parent := os.fork()) == 0:
            if os.fork() == 0:
                signal.pause()
            os._exit(0)
        os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)
        counted = count.is_just(3)
        os.waitpid(parent, 0)
        missed = count.is_just(1)
        for os_pid in kernel.children_of(os.getpid()):
            os.kill(os_pid, signal.SIGKILL)
            os.waitpid(os_pid, 0)
        return 2 * counted + missed
