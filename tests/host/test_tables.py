"""Shared tables: a writer that is killed leaves nothing, a reader sees whole changes, files go with their owner."""

import os
import signal
from pathlib import Path

import pytest

from otp_runtime.host import tables
from otp_runtime.host.directory import FATES_STEP, DirectoryUnusable, NodeDirectory
from otp_runtime.host.fates import DEAD, Fates
from otp_runtime.host.tables import SLACK_BYTES, WATCHED_BYTES, TableFile, split_watched


@pytest.fixture
def directory(tmp_path):
    made = NodeDirectory(tmp_path / "node")
    made.create()
    return made


@pytest.fixture
def path(directory):
    return f"{directory.table('rooms')}/0"


def create(path, log=b"", owner=7):
    return TableFile.create(path, owner=owner, kind=1, partitions=1, log=log)


def content(file):
    generation, length = file.stamp
    return file.read(generation, 0, length)


def in_a_fork(function):
    """Run it in a process of its own, which is then killed in the middle of whatever it did last."""
    os_pid = os.fork()
    if os_pid == 0:
        try:
            function()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(os_pid, 0)


class TestTableFile:
    def test_what_it_says_of_itself(self, path):
        """To whoever opens it."""
        create(path, b"abc")
        file = TableFile.open(path)

        assert (7, 1, 1, b"abc") == (file.owner, file.kind, file.partitions, content(file))

    def test_private(self, path):
        """Of this user alone, head and log."""
        create(path, b"abc")

        assert {0o600} == {one.stat().st_mode & 0o777 for one in Path(path).parent.iterdir()}
        assert Path(path).parent.stat().st_mode & 0o777 == 0o700

    def test_append(self, path):
        """Everybody who has it mapped sees that there is more."""
        file, other = create(path, b"abc"), TableFile.open(path)
        before = other.mapped[:WATCHED_BYTES]
        with file.locked():
            file.append(b"de")

        assert before != other.mapped[:WATCHED_BYTES]
        assert (True, 0, 5) == split_watched(other.mapped[:WATCHED_BYTES])
        assert b"de" == other.read(0, 3, 5)

    def test_a_writer_killed_before_it_said_so(self, path):
        """Has written nothing; the next one writes over it."""
        file = create(path, b"abc")

        def half():
            fd = os.open(file.log_path(0), os.O_WRONLY)
            os.pwrite(fd, b"XXXXXXXX", 3)

        in_a_fork(half)
        seen = content(file)
        file.append(b"de")

        assert (b"abc", b"abcde") == (seen, content(file))

    def test_a_writer_killed_with_the_lock(self, path):
        """Gives it back."""
        file = create(path)
        in_a_fork(lambda: file.locked().__enter__())
        with file.locked():
            file.append(b"x")

        assert b"x" == content(file)

    def test_a_fork_does_not_keep_the_lock(self, path):
        """One that was made while it was held, by another thread, has the descriptor too."""
        file = create(path)
        read_end, write_end = os.pipe()
        with file.locked():
            os_pid = os.fork()
            if os_pid == 0:
                os.read(read_end, 1)
                os._exit(0)
        with file.locked():
            file.append(b"x")
        os.write(write_end, b"x")
        os.waitpid(os_pid, 0)
        os.close(read_end)
        os.close(write_end)

        assert b"x" == content(file)

    def test_writers_in_turn(self, path):
        """Nobody's record is lost or torn."""
        file = create(path)
        os_pids = []
        for letter in b"abcd":
            if (os_pid := os.fork()) == 0:
                for _ in range(100):
                    with file.locked():
                        file.append(bytes([letter]) * 10)
                os._exit(0)
            os_pids.append(os_pid)
        for os_pid in os_pids:
            os.waitpid(os_pid, 0)
        records = [content(file)[at : at + 10] for at in range(0, 4000, 10)]

        assert dict.fromkeys(b"abcd", 100) == {letter: records.count(bytes([letter]) * 10) for letter in b"abcd"}

    def test_written_anew(self, path):
        """Begins the next generation; who reads the old one is told that it is no more."""
        file = create(path, b"abc")
        file.rewrite(b"z")

        assert ((1, 1), b"z", None) == (file.stamp, content(file), file.read(0, 0, 3))
        assert ["0", "0.1"] == sorted(one.name for one in Path(path).parent.iterdir())

    def test_when_to_write_anew(self, path):
        """When it has doubled, and some more."""
        file = create(path, b"x" * 100)
        file.append(b"x" * (100 + SLACK_BYTES))
        before = file.is_due
        file.append(b"x")

        assert (False, True) == (before, file.is_due)

    def test_made_again(self, path):
        """Who has the old one mapped is told, and nothing of it is left."""
        old = create(path, b"abc")
        new = create(path, b"z")

        assert (False, True, b"z") == (old.is_open, new.is_open, content(TableFile.open(path)))
        assert 2 == len(list(Path(path).parent.iterdir()))

    def test_none(self, path):
        """None is there, or one that is closed."""
        nothing = TableFile.open(path)
        create(path).close_for_all()

        assert (None, None) == (nothing, TableFile.open(path))


class TestFullDisk:
    def test_append(self, small_disk):
        """An error of the writer's, who has changed nothing."""
        file = create(str(small_disk / "t" / "0"), b"abc")
        with pytest.raises(OSError, match=r"room|space"):
            file.append(b"x" * 200_000)

        assert b"abc" == content(file)

    def test_create(self, small_disk):
        """An error that says what to do; a head without its blocks would be a SIGBUS."""
        (small_disk / "full").write_bytes(b"x" * 64 * 1024)
        with pytest.raises(DirectoryUnusable, match="OTP_RUNTIME_DIR"):
            create(str(small_disk / "t" / "0"))


class TestSweep:
    @pytest.mark.parametrize(
        ("fates", "is_there"),
        [
            ({}, True),
            ({7: DEAD}, False),
            ({7: 5}, True),
            ({7: 5, 5: 3}, True),
            ({7: 5, 5: DEAD}, False),
            ({7: 5, 5: 3, 3: DEAD}, False),
        ],
    )
    def test_by_the_owners_fate(self, directory, path, fates, is_there):
        """It goes when nobody is bringing the owner back, or who is will not come back."""
        file = create(path, b"abc", owner=7)
        for process_id, fate in fates.items():
            directory.seal_fate(process_id, fate)
        tables.sweep(directory)

        assert (is_there, is_there) == (file.is_open, os.path.exists(os.path.dirname(path)))


class TestFates:
    def test_grow_before_an_id_is_given(self, directory):
        """So every id that anybody knows has its word."""
        fates = Fates(directory)
        last = [directory.next_id() for _ in range(FATES_STEP * 2)][-1]
        directory.seal_fate(last, DEAD)

        assert DEAD == fates.fate(last)
        assert os.path.getsize(directory.fates) > last * 8

    def test_seen_at_once(self, directory):
        """By who has it mapped."""
        fates = Fates(directory)
        before = fates.fate(3)
        directory.seal_fate(3, DEAD)

        assert (0, DEAD) == (before, fates.fate(3))

    def test_coming_back(self, directory):
        """As long as the chain of those who bring back ends with one alive."""
        fates = Fates(directory)
        directory.seal_fate(9, 5)
        first = fates.is_coming_back(9)
        directory.seal_fate(5, 2)
        second = fates.is_coming_back(9)
        directory.seal_fate(2, DEAD)

        assert (True, True, False) == (first, second, fates.is_coming_back(9))
