"""The black box: what a process wrote is there after its end, however it ended."""

import os
import signal

import pytest

from otp_runtime.host import box as boxes
from otp_runtime.host.box import Box, BoxView
from otp_runtime.host.directory import DirectoryUnusable
from otp_runtime.host.kernel import OsProcess


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "7.box")


@pytest.fixture
def box(path):
    made = Box.create(path, 7, 3, boxes.KIND_SERVER, 12.5)
    yield made
    made.close()


class TestCreate:
    def test_identity(self, box):
        """It says whose it is; the OS process comes later."""
        assert box.identity == (7, 3, OsProcess(0, 0), 12.5)
        assert box.kind == boxes.KIND_SERVER

    def test_only_once(self, box, path):
        """An id's box is made once."""
        with pytest.raises(FileExistsError):
            Box.create(path, 7, 3, boxes.KIND_SERVER, 0.0)

    def test_is_this_users_alone(self, box, path):
        """Nobody else reads a state or a message in hand."""
        assert os.stat(path).st_mode & 0o777 == 0o600

    def test_full_disk(self, small_disk):
        """Its blocks are reserved: who writes into it later never dies of SIGBUS. The failed file goes."""
        (small_disk / "filler").write_bytes(bytes(60 * 1024))
        with pytest.raises(DirectoryUnusable, match="no room"):
            Box.create(str(small_disk / "8.box"), 8, 3, boxes.KIND_SERVER, 0.0)

        assert [entry.name for entry in small_disk.iterdir()] == ["filler"]


class TestOpen:
    def test_sees_what_the_owner_writes(self, box, path):
        """Two mappings of one file."""
        other = Box.open(path)
        box.inhabit(OsProcess(11, 22))
        box.name = "counter"

        assert (other.identity.os_process, other.name) == (OsProcess(11, 22), "counter")
        other.close()

    def test_not_there(self, path):
        """None."""
        assert Box.open(path) is None

    @pytest.mark.parametrize("content", [b"", b"short", bytes(boxes.SIZE)])
    def test_no_box(self, path, content):
        """A file that is too short or lacks the magic is none."""
        with open(path, "wb") as file:
            file.write(content)

        assert Box.open(path) is None

    def test_survives_a_kill(self, path):
        """What was written before SIGKILL is read after it."""
        os_pid = os.fork()
        if os_pid == 0:
            box = Box.create(path, 9, 1, boxes.KIND_SERVER, 0.0)
            box.enter_callback(1.5, 4, b"in hand")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(os_pid, 0)
        box = Box.open(path)

        assert (box.handled, box.busy_since, box.message_in_hand) == (4, 1.5, b"in hand")
        box.close()


class TestFlags:
    FLAGS = ("TRAP_EXIT", "KILL_REQUESTED", "SPOKEN", "JUDGED", "SUSPENDED", "OVERFLOW", "READY", "SIGNALLED")

    def test_begin_unset(self, box):
        """All of them."""
        assert [box.flag(getattr(boxes, name)) for name in self.FLAGS] == [0] * len(self.FLAGS)

    @pytest.mark.parametrize("name", FLAGS)
    def test_each_is_its_own(self, box, name):
        """Setting one leaves the others."""
        box.set_flag(getattr(boxes, name))

        assert [other for other in self.FLAGS if box.flag(getattr(boxes, other))] == [name]

    def test_take_a_value(self, box):
        """A flag is a byte."""
        box.set_flag(boxes.OVERFLOW, 2)

        assert box.flag(boxes.OVERFLOW) == 2


class TestTexts:
    def test_unicode(self, box):
        """Any text comes back."""
        box.name, box.label = "größe/…", "module.Class"

        assert (box.name, box.label) == ("größe/…", "module.Class")

    def test_shorter_after_longer(self, box):
        """The older one's end does not show."""
        box.name = "a long name"
        box.name = "b"

        assert box.name == "b"

    def test_too_long(self, box):
        """Cut at its room; the neighbour is untouched."""
        box.label = "label"
        box.name = "n" * 1000

        assert (box.name, box.label) == ("n" * 254, "label")

    def test_cut_inside_a_character(self, box):
        """Still a text."""
        box.name = "ü" * 127 + "aü"

        assert isinstance(box.name, str)


class TestCallback:
    def test_enter_and_leave(self, box):
        """In hand while it runs, not after."""
        box.enter_callback(2.0, 1, b"message")
        during = box.message_in_hand
        box.leave_callback()

        assert (during, box.message_in_hand, box.busy_since, box.handled) == (b"message", None, 0.0, 1)

    def test_a_long_message(self, box):
        """Its first bytes."""
        box.enter_callback(2.0, 1, b"m" * 10_000)

        assert box.message_in_hand == b"m" * 2048

    def test_counters(self, box):
        """Queued bytes, limit and garbage stand beside each other."""
        box.queued_bytes, box.mailbox_limit = 2**40, 2**41
        box.count_garbage()
        box.count_garbage()

        assert (box.queued_bytes, box.mailbox_limit, box.garbage) == (2**40, 2**41, 2)


class TestLastWords:
    def test_none(self, box, tmp_path):
        """Who went without a word left none, not an empty one."""
        assert box.last_words(str(tmp_path / "words")) is None

    @pytest.mark.parametrize("size", [0, 1, 4092])
    def test_short(self, box, tmp_path, size):
        """In the box itself."""
        box.speak(b"w" * size, str(tmp_path / "words"))

        assert box.last_words(str(tmp_path / "words")) == b"w" * size
        assert not (tmp_path / "words").exists()

    def test_long(self, box, tmp_path):
        """In a file, for this user alone."""
        box.speak(b"w" * 4093, str(tmp_path / "words"))

        assert box.last_words(str(tmp_path / "words")) == b"w" * 4093
        assert (tmp_path / "words").stat().st_mode & 0o777 == 0o600

    def test_the_file_is_gone(self, box, tmp_path):
        """Empty, not an error."""
        box.speak(b"w" * 5000, str(tmp_path / "words"))
        (tmp_path / "words").unlink()

        assert box.last_words(str(tmp_path / "words")) == b""


class TestVerdict:
    def test_none(self, box):
        """Before there is one."""
        assert box.verdict("") is None

    @pytest.mark.parametrize("size", [0, 1, 1020, 1021, 50_000])
    def test_any_length(self, box, tmp_path, size):
        """Short in the box, long beside it."""
        box.judge(b"v" * size, str(tmp_path / "verdict"))

        assert box.verdict(str(tmp_path / "verdict")) == b"v" * size

    def test_stands_beside_the_last_words(self, box, tmp_path):
        """Neither overwrites the other."""
        box.speak(b"w" * 4092, str(tmp_path / "words"))
        box.judge(b"v" * 1020, str(tmp_path / "verdict"))

        assert box.last_words(str(tmp_path / "words")) == b"w" * 4092
        assert box.verdict(str(tmp_path / "verdict")) == b"v" * 1020


class TestBoxView:
    @pytest.mark.parametrize("size", [0, 100])
    def test_a_box_that_was_cut_off(self, path, size):
        """Says of a process that it does nothing: whoever looks must go on."""
        with open(path, "wb") as file:
            file.write(bytes(size))
        view = BoxView(path)
        try:
            assert (0.0, 0.0) == view.watchdog()
            assert 0.0 == view.loop().busy_since
        finally:
            view.close()
