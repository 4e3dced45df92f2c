"""What a process has open, and what it runs, looked up from outside."""

import os
import signal
import subprocess

import pytest

from otp_runtime.host.open_files import MOST_FILES, command_of, open_files


@pytest.fixture
def echo():
    """A subprocess that runs: it has answered."""
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdin.write(b"\n")
        process.stdout.read(1)
        yield process
        process.kill()


class TestOpenFiles:
    def test_paths(self, tmp_path):
        """Files by path, each once; what is below the hidden directory is left out."""
        (tmp_path / "hidden").mkdir()
        files = [open(tmp_path / name, "w") for name in ("a", "a", "hidden/b")]  # noqa: SIM115 - closed below
        found = open_files("self", str(tmp_path / "hidden"))
        for file in files:
            file.close()

        assert [str(tmp_path / "a")] == [path for path in found if path.startswith(str(tmp_path))]

    def test_no_plumbing(self):
        """Pipes and event descriptors say nothing."""
        fds = os.pipe()
        found = open_files("self", "/nowhere")
        for fd in fds:
            os.close(fd)

        assert [] == [path for path in found if path.startswith(("pipe:", "anon_inode:", "/proc/"))]

    def test_very_many_are_counted(self, tmp_path):
        """So that a leak of descriptors does not fill the record."""
        files = [open(tmp_path / str(number), "w") for number in range(MOST_FILES + 10)]  # noqa: SIM115 - closed below
        found = open_files("self", "/nowhere")
        for file in files:
            file.close()

        assert MOST_FILES + 1 == len(found)
        assert found[-1].startswith("… and ")

    def test_nobody(self):
        """Nothing, and no error."""
        assert [] == open_files(1 << 22, "/nowhere")


class TestCommandOf:
    def test_a_process(self, echo):
        """With its arguments."""
        assert "cat -" == command_of(echo.pid)

    def test_a_zombie(self, echo):
        """It has ended."""
        pidfd = os.pidfd_open(echo.pid)
        echo.send_signal(signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        os.close(pidfd)

        assert None is command_of(echo.pid)

    def test_nobody(self):
        """Neither."""
        assert None is command_of(1 << 22)
