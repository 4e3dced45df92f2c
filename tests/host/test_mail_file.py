"""The log of a mailbox: nothing is lost between the one and the other, and marks are there or not."""

import os
import random
import signal
import time

import pytest

from otp_runtime.host import mail_file
from otp_runtime.host.directory import DirectoryUnusable
from otp_runtime.host.mail_file import BEGUN, DONE, HEADER, TAKEN, TAKEN_MAX, MailFile, NoRoom, drain, in_hand


@pytest.fixture
def fifo(tmp_path):
    """A mailbox that this process holds open, for reading and writing."""
    os.mkfifo(tmp_path / "in")
    fd = os.open(tmp_path / "in", os.O_RDWR | os.O_NONBLOCK)
    yield fd
    os.close(fd)


@pytest.fixture
def log(tmp_path):
    file = MailFile.open(str(tmp_path / "place" / "log.mail"))
    yield file
    file.close()


class TestTake:
    def test_what_was_written_is_in_the_log(self, fifo, log):
        """And given, once."""
        os.write(fifo, b"one")
        assert log.take(fifo, 65536) == b"one"
        os.write(fifo, b"two")

        assert (b"two", b"onetwo") == (log.take(fifo, 65536), log.read_all())

    def test_nothing(self, fifo, log):
        """As a read of an empty pipe."""
        with pytest.raises(BlockingIOError):
            log.take(fifo, 65536)

    def test_not_more_than_asked_for(self, fifo, log):
        """The rest stays."""
        os.write(fifo, b"onetwo")

        assert (b"one", b"two") == (log.take(fifo, 3), log.take(fifo, 65536))

    def test_opened_again(self, fifo, log):
        """Another one goes on at the end."""
        os.write(fifo, b"one")
        log.take(fifo, 65536)
        log.marks[DONE] = 7
        other = MailFile.open(log.path)
        os.write(fifo, b"two")
        other.take(fifo, 65536)

        assert (b"onetwo", 7) == (other.read_all(), other.marks[DONE])
        other.close()

    def test_no_room(self, fifo, log):
        """What finds none stays in the mailbox."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER + 4, hard))
        try:
            os.write(fifo, b"123456")
            assert log.take(fifo, 65536) == b"1234"
            with pytest.raises(NoRoom, match=r"no room in .*\.mail"):
                log.take(fifo, 65536)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert log.take(fifo, 65536) == b"56"

    @pytest.mark.slow
    def test_sigkill_loses_nothing(self, fifo, tmp_path):
        """At whatever instant: what is not in the log is in the mailbox, byte by byte, and nothing is in both."""
        chance = random.Random(1)  # noqa: S311 - the same in each run
        wrong = []
        for number in range(150):
            path = str(tmp_path / f"{number}.mail")
            MailFile.open(path).close()
            reader = os.fork()
            if reader == 0:
                _take_for_ever(path, fifo)
            sent = b""
            end = time.monotonic() + chance.random() * 0.004
            while time.monotonic() < end:
                frame = os.urandom(4) * chance.choice([10, 300, 1000])
                try:
                    os.write(fifo, frame)
                    sent += frame
                except BlockingIOError:
                    os.sched_yield()
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
            drain(fifo, path)
            with open(path, "rb") as file:
                wrong += [number] if file.read()[HEADER:] != sent else []

        assert [] == wrong


def _take_for_ever(path, fifo):
    file = MailFile.open(path)
    while True:
        try:
            file.take(fifo, 65536)
        except BlockingIOError:
            os.sched_yield()


class TestOpen:
    def test_something_else(self, tmp_path):
        """It is not overwritten."""
        for text in ("", "a diary " * 1000):
            (tmp_path / "log").write_text(text)
            with pytest.raises(OSError, match="is no mailbox"):
                MailFile.open(str(tmp_path / "log"))

            assert (tmp_path / "log").read_text() == text

    def test_only_this_user(self, log):
        """As all files of a node."""
        assert os.stat(log.path).st_mode & 0o777 == 0o600

    def test_no_room(self, tmp_path, monkeypatch):
        """An error that names the path, and no half file."""

        def no_room(fd, size, path):
            raise DirectoryUnusable(28, f"no room for {size} bytes of {path}")

        monkeypatch.setattr(mail_file, "reserve", no_room)
        with pytest.raises(DirectoryUnusable, match="no room for 4096 bytes"):
            MailFile.open(str(tmp_path / "log"))

        assert [] == os.listdir(tmp_path)


class TestClear:
    def test_empty_again(self, fifo, log):
        """Without marks, and with another epoch."""
        os.write(fifo, b"one")
        log.take(fifo, 65536)
        log.marks[DONE] = 1
        epoch = log.marks[mail_file.EPOCH]
        log.clear()

        assert (b"", 0, HEADER) == (log.read_all(), log.marks[DONE], log.end)
        assert epoch != log.marks[mail_file.EPOCH]

    def test_goes_on(self, fifo, log):
        """At its beginning."""
        os.write(fifo, b"one")
        log.take(fifo, 65536)
        log.clear()
        os.write(fifo, b"two")

        assert (b"two", b"two") == (log.take(fifo, 65536), log.read_all())

    def test_a_death_in_the_middle_of_it(self, fifo, log):
        """The marks of what is gone mean nothing to what the OS parent moves there then."""
        log.marks[DONE] = log.marks[BEGUN] = log.marks[TAKEN] = 7
        os.truncate(log.path, HEADER)
        os.write(fifo, b"behind")
        drain(fifo, log.path)
        other = MailFile.open(log.path)

        assert (b"behind", [0, 0, 0]) == (other.read_all(), [other.marks[mark] for mark in (DONE, BEGUN, TAKEN)])
        other.close()
        assert in_hand(log.path) is None

    def test_a_log_that_is_not_empty_keeps_its_marks(self, fifo, log):
        """What is handled of it stays handled."""
        os.write(fifo, b"one")
        log.take(fifo, 65536)
        log.marks[DONE] = 1
        os.write(fifo, b"two")
        drain(fifo, log.path)

        assert 1 == log.marks[DONE]


class TestReplace:
    def test_by_what_is_left(self, fifo, log):
        """The marks count from there."""
        os.write(fifo, b"onetwo")
        log.take(fifo, 65536)
        log.marks[DONE] = 5
        log.replace([b"tw", b"o"], begun=True)
        os.write(fifo, b"three")
        log.take(fifo, 65536)

        assert (b"twothree", 0, 1) == (log.read_all(), log.marks[DONE], log.marks[BEGUN])

    def test_no_room(self, fifo, log, monkeypatch):
        """It is as it was."""
        os.write(fifo, b"one")
        log.take(fifo, 65536)

        def no_room(fd, size, path):
            raise DirectoryUnusable(28, f"no room for {size} bytes of {path}")

        monkeypatch.setattr(mail_file, "reserve", no_room)
        with pytest.raises(DirectoryUnusable):
            log.replace([b"two"], begun=False)

        assert (b"one", ["log.mail"]) == (log.read_all(), os.listdir(os.path.dirname(log.path)))


class TestMarks:
    def test_taken(self, log):
        """Numbers, as many as have room."""
        noted = [log.note_taken(number * 2) for number in range(TAKEN_MAX + 1)]

        assert [True] * TAKEN_MAX + [False] == noted
        assert {number * 2 for number in range(TAKEN_MAX)} == log.taken()

    def test_in_hand(self, log):
        """Begun and not done; of a log that is not there, nothing."""
        assert in_hand(log.path) is None
        log.marks[BEGUN], log.marks[DONE] = 4, 3
        assert in_hand(log.path).number == 3
        log.marks[DONE] = 4

        assert (None, None) == (in_hand(log.path), in_hand(f"{log.path}.none"))
