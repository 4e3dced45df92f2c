"""A node's directory: private, of this user alone, and its ids are given once."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from otp_runtime.host.directory import (
    SUBDIRECTORIES,
    DirectoryUnusable,
    NodeDirectory,
    base_directory,
    check_private,
    ensure_private,
    reserve,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
FOREIGNER = 65534


@pytest.fixture
def directory(tmp_path):
    made = NodeDirectory(tmp_path / "node")
    made.create()
    return made


def in_processes(count, function):
    """Run `function(number)` in so many processes at once and give what each wrote."""
    pipes = []
    go_read, go_write = os.pipe()
    for number in range(count):
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.close(go_write)
            os.read(go_read, 1)
            os.write(write_end, function(number).encode())
            os._exit(0)
        os.close(write_end)
        pipes.append(read_end)
    os.close(go_read)
    os.close(go_write)
    found = []
    for read_end in pipes:
        with open(read_end, encoding="ascii") as file:
            found.append(file.read())
        os.wait()
    return found


class TestBaseDirectory:
    def test_chosen(self, monkeypatch):
        """`OTP_RUNTIME_DIR` goes first."""
        monkeypatch.setenv("OTP_RUNTIME_DIR", "/some/where")
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")

        assert base_directory() == Path("/some/where")

    def test_of_the_session(self, monkeypatch):
        """Then the session's."""
        monkeypatch.delenv("OTP_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")

        assert base_directory() == Path("/run/user/0/otp_runtime")

    def test_in_memory(self, monkeypatch):
        """Then shared memory, with the user's number."""
        monkeypatch.delenv("OTP_RUNTIME_DIR", raising=False)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

        assert base_directory().name == f"otp_runtime-{os.getuid()}"


class TestEnsurePrivate:
    def test_makes_it(self, tmp_path):
        """With its parents, mode 0700."""
        made = ensure_private(tmp_path / "a" / "b")

        assert stat.S_IMODE(made.stat().st_mode) == 0o700

    def test_twice(self, tmp_path):
        """It may be there."""
        ensure_private(tmp_path / "a")

        assert ensure_private(tmp_path / "a") == tmp_path / "a"

    def test_a_file_is_in_the_way(self, tmp_path):
        """Says what to do."""
        (tmp_path / "a").touch()
        with pytest.raises(DirectoryUnusable, match="not a directory; remove it or set OTP_RUNTIME_DIR"):
            ensure_private(tmp_path / "a")

    def test_cannot_be_made(self):
        """Says which, why and what to do."""
        with pytest.raises(DirectoryUnusable, match=r"cannot make /proc/here: .*OTP_RUNTIME_DIR"):
            ensure_private(Path("/proc/here"))


class TestCheckPrivate:
    @pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o755, 0o777])
    def test_open_to_others(self, tmp_path, mode):
        """Any right of anybody else."""
        tmp_path.chmod(mode)
        with pytest.raises(DirectoryUnusable, match=rf"can be entered by others \(mode {mode:o}\); chmod 700"):
            check_private(tmp_path)
        tmp_path.chmod(0o700)

    @as_root
    def test_of_another_user(self, tmp_path):
        """Nothing of another user is read or written."""
        os.chown(tmp_path, FOREIGNER, FOREIGNER)
        with pytest.raises(DirectoryUnusable, match=f"belongs to user {FOREIGNER}, you are {os.geteuid()}"):
            check_private(tmp_path)
        os.chown(tmp_path, os.geteuid(), os.getegid())

    def test_a_link(self, tmp_path):
        """Is not followed, wherever it leads."""
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(DirectoryUnusable, match="a link is not followed"):
            check_private(tmp_path / "link")


class TestReserve:
    def test_no_room(self, small_disk):
        """Found when it is made, not when it is written to."""
        fd = os.open(small_disk / "file", os.O_CREAT | os.O_RDWR)
        with pytest.raises(DirectoryUnusable, match="no room for 1048576 bytes"):
            reserve(fd, 1 << 20, "file")
        os.close(fd)


class TestCreate:
    def test_parts(self, directory):
        """All there, for this user alone."""
        modes = {name: stat.S_IMODE((directory.path / name).stat().st_mode) for name in SUBDIRECTORIES}

        assert modes == dict.fromkeys(SUBDIRECTORIES, 0o700)

    def test_only_once(self, directory):
        """A second one of the name sees it."""
        with pytest.raises(FileExistsError):
            directory.create()

    def test_full_disk(self, small_disk):
        """Says so, and what to do."""
        (small_disk / "filler").write_bytes(bytes(64 * 1024))
        with pytest.raises(DirectoryUnusable, match="OTP_RUNTIME_DIR"):
            NodeDirectory(small_disk / "node").create()

    def test_remove_what_another_began_to(self, directory):
        """Who removes a directory can be killed over it; a node that only has such a name is spared."""
        for end in (".gone-1", ".gone-2", ".gone-west"):
            directory.path.with_name(directory.path.name + end).mkdir()
        fd = os.open(directory.path.with_name(directory.path.name + ".gone-2") / "guard", os.O_CREAT | os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        directory.remove()
        os.close(fd)

        assert {".gone-2", ".gone-west"} == {entry.suffix for entry in directory.path.parent.iterdir()}

    def test_remove(self, directory):
        """All of it; twice is once."""
        directory.remove()
        directory.remove()

        assert not directory.path.exists()


class TestNextId:
    def test_counts(self, directory):
        """From 1."""
        assert [directory.next_id() for _ in range(3)] == [1, 2, 3]

    def test_unique_from_several_processes(self, directory):
        """No id is given twice, none is left out."""
        lists = in_processes(4, lambda _number: " ".join(str(directory.next_id()) for _ in range(100)))
        found = sorted(int(one) for text in lists for one in text.split())

        assert found == list(range(1, 401))


class TestLock:
    def test_excludes(self, directory):
        """Of several at once each has it alone."""
        counter = directory.path / "counter"
        counter.write_text("0")

        def count(_number):
            for _ in range(50):
                with directory.lock():
                    counter.write_text(str(int(counter.read_text()) + 1))
            return "done"

        in_processes(4, count)

        assert counter.read_text() == "200"

    def test_freed_by_a_kill(self, directory):
        """The kernel frees it when its holder dies."""
        read_end, write_end = os.pipe()
        os_pid = os.fork()
        if os_pid == 0:
            with directory.lock():
                os.write(write_end, b"x")
                while True:
                    os.read(read_end, 0)
        os.read(read_end, 1)
        os.kill(os_pid, 9)
        os.waitpid(os_pid, 0)
        os.close(read_end)
        os.close(write_end)
        with directory.lock():
            pass


class TestForget:
    def test_kept_segments(self, directory):
        """What a process has kept for itself goes, what is under way from it or to it does not."""
        for name in ("7.7.1", "7.3.1", "3.7.1", "77.77.1"):
            (directory.path / "seg" / name).touch()
        directory.forget_kept_segments(7)

        assert sorted(os.listdir(directory.path / "seg")) == ["3.7.1", "7.3.1", "77.77.1"]

    def test_mailbox(self, directory):
        """The dead keep their box; their mailbox and what lay in segments for them goes."""
        directory.make_mailbox(7)
        (directory.path / "p" / "7.box").touch()
        for name in ("7.3.1", "70.3.1"):
            (directory.path / "seg" / name).touch()
        directory.forget_mailbox(7)

        assert os.listdir(directory.path / "p") == ["7.box"]
        assert os.listdir(directory.path / "seg") == ["70.3.1"]

    def test_all(self, directory):
        """Nothing of it is left; again is nothing."""
        directory.make_mailbox(7)
        (directory.path / "p" / "7.box").touch()
        directory.forget(7)
        directory.forget(7)

        assert os.listdir(directory.path / "p") == []

    def test_process_ids(self, directory):
        """Those whose box is there, in order."""
        for number in (10, 9, 2):
            (directory.path / "p" / f"{number}.box").touch()

        assert directory.process_ids() == [2, 9, 10]
