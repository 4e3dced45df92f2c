"""What processes use, beside what psutil says of them."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from otp_runtime.host import kernel
from otp_runtime.host.kernel import OsProcess
from otp_runtime.host.oom import cpu_evidence
from otp_runtime.host.usage import Scan, open_files

PAGES = 4 << 20
SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def child():
    """A subprocess that waits."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        started.stdout.readline()
        yield OsProcess(started.pid, kernel.start_time(started.pid))
        started.stdin.close()


@pytest.fixture(params=["by lists", "by a scan"])
def scan(request):
    """A reader, also as on a kernel that keeps no lists of children."""
    return Scan(by_lists=request.param == "by lists")


class TestScan:
    def test_memory_and_time(self, child, scan):
        """As psutil has them."""
        used = scan.used_by(child)
        told = psutil.Process(child.pid)

        assert abs(used.rss - told.memory_info().rss) < PAGES
        assert abs(used.cpu - sum(told.cpu_times()[:4])) < 0.05

    def test_descendants_count(self, child, scan):
        """With all they use."""
        alone = scan.used_by(kernel.own_process(), descendants=False)
        family = scan.used_by(kernel.own_process())

        assert (child.pid in family.descendants, alone.descendants) == (True, ())
        assert family.rss >= alone.rss + scan.used_by(child).rss - PAGES

    def test_descriptors(self, child):
        """Of the whole family."""
        used = Scan().used_by(child, files=True)

        assert psutil.Process(child.pid).num_fds() == used.files == open_files(child.pid)

    def test_another_of_that_number(self, child):
        """It is not the process that is meant."""
        assert Scan().used_by(OsProcess(child.pid, child.start + 1)) is None

    def test_nobody(self):
        """A process that is gone uses nothing that could be told."""
        assert Scan().used_by(OsProcess(0, 0)) is None


class TestCpuEvidence:
    def test_which_limit(self):
        """SIGXCPU comes of the soft one, SIGKILL of the hard one."""
        texts = [cpu_evidence((2.0, 2.0), 2.01, number) for number in (signal.SIGXCPU, signal.SIGKILL)]

        assert texts == [
            f"RLIMIT_CPU: 2.01 s of CPU time used, the {text} s" for text in ("soft limit was 1", "hard limit was 2")
        ]

    @pytest.mark.parametrize(("hard", "used"), [(-1.0, 100.0), (20.0, 15.0)])
    def test_none(self, hard, used):
        """No limit, or one that is far off."""
        assert cpu_evidence((-1.0, hard), used, signal.SIGKILL) is None


def test_own_descriptors():
    """As many as there are, with the one that is opened now."""
    before = open_files(os.getpid())
    with open(os.devnull):
        assert open_files(os.getpid()) == before + 1
