"""The file of kept states: what is written is whole or not there, whatever is done to its writer."""

import os
import random
import signal
import stat
import time

import pytest

from otp_runtime.host import snapshot_file
from otp_runtime.host.directory import DirectoryUnusable
from otp_runtime.host.snapshot_file import Saved, SnapshotFile


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "12" / "child.state")


@pytest.fixture
def file(path):
    opened = SnapshotFile.open(path)
    yield opened
    opened.close()


def again(file):
    """Give what another process finds in the file: (slots, states)."""
    other = SnapshotFile.open(file.path)
    try:
        slots = other.slots()
        return slots, [other.read(at) if generation else None for at, (generation, _parent) in enumerate(slots)]
    finally:
        other.close()


class TestSlots:
    def test_a_new_file_is_empty_and_private(self, file):
        """Nobody else reads states, nor the directories they lie in."""
        assert [(0, 0)] * 3 == file.slots()
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(file.path)).st_mode) == 0o700

    def test_what_is_written_is_found(self, file):
        """By whoever opens the file next."""
        file.write(1, 7, 6, b"v", b"state")

        assert ([(0, 0), (7, 6), (0, 0)], [None, Saved(7, 6, b"v", b"state"), None]) == again(file)

    def test_a_slot_is_written_over(self, file):
        """A shorter state leaves nothing of a longer one."""
        file.write(0, 1, 0, b"v1", b"a long state")
        file.write(0, 4, 3, b"", b"short")

        assert again(file)[1][0] == Saved(4, 3, b"", b"short")

    def test_it_grows(self, file):
        """The other slots, the streak and the flags go with it."""
        file.write(0, 1, 0, b"v", b"small")
        file.streak, file.phase = 77, 2
        file.redact(True)
        file.write(1, 2, 1, b"v", b"x" * 100_000)
        file.write(2, 3, 2, b"v", b"y" * 3_000_000)

        slots, states = again(file)
        assert [(1, 0), (2, 1), (3, 2)] == slots
        assert [b"small", b"x" * 100_000, b"y" * 3_000_000] == [saved.body for saved in states]
        assert (77, 2, True) == (file.streak, file.phase, snapshot_file.look(file.path).body is None)
        assert ["child.state"] == os.listdir(os.path.dirname(file.path))

    def test_every_byte_is_reserved(self, file):
        """A hole would be SIGBUS on a full disk."""
        file.write(0, 1, 0, b"", b"x" * 1_000_000)

        status = os.stat(file.path)
        assert status.st_blocks * 512 >= status.st_size

    @pytest.mark.parametrize("at", [4096, 4096 + 16, 4096 + 32, 4096 + 64, 4096 + 66])
    def test_a_damaged_slot_is_none(self, file, at):
        """Whether its numbers or its bytes are damaged; the others are as they were."""
        file.write(0, 1, 0, b"v", b"first")
        file.write(1, 2, 1, b"v", b"second")
        with open(file.path, "r+b") as raw:
            raw.seek(at)
            byte = raw.read(1)
            raw.seek(at)
            raw.write(bytes([byte[0] ^ 1]))

        assert again(file)[0] == [(0, 0), (2, 1), (0, 0)]

    def test_something_else_in_its_place(self, path, tmp_path):
        """Is not written over."""
        os.mkdir(tmp_path / "12")
        with open(path, "wb") as raw:
            raw.write(b"a diary" * 1000)

        with pytest.raises(OSError, match="is no file of kept states"):
            SnapshotFile.open(path)

    @pytest.mark.parametrize("version", [0, 2])
    def test_another_format(self, file, path, version):
        """Older or newer, both numbers are said; nothing in it is touched, nor shown."""
        file.write(0, 1, 0, b"v", b"state")
        with open(path, "r+b") as raw:
            before = raw.read()
            raw.seek(4)
            raw.write(version.to_bytes(4, "little"))
        with pytest.raises(OSError, match=f"in format {version}, and this version of otp_runtime reads 1"):
            SnapshotFile.open(path)

        assert snapshot_file.look(path) is None
        with open(path, "rb") as raw:
            assert raw.read()[8:] == before[8:]

    def test_no_room(self, small_disk):
        """Said with path and bytes; what was kept is still there, and nothing half made."""
        file = SnapshotFile.open(f"{small_disk}/child.state")
        file.write(0, 1, 0, b"", b"kept")

        with pytest.raises(DirectoryUnusable, match=r"no room for \d+ bytes of .*child\.state\.new"):
            file.write(1, 2, 1, b"", b"x" * 50_000)
        slots = again(file)[0]
        file.close()
        assert ([(1, 0), (0, 0), (0, 0)], ["child.state"]) == (slots, os.listdir(small_disk))


class TestSigkill:
    @pytest.mark.parametrize("size", [100, 200_000])
    def test_leaves_a_whole_state(self, path, size):
        """The newest state is whole, and is the last that was written or the one under way, never one before."""
        chance = random.Random(size)  # noqa: S311 - the same in each run
        newest = 0
        for _ in range(25):
            told, writer = _start_writer(path, newest, size)
            os.read(told, 8)
            time.sleep(chance.random() * 0.004)  # not a wait for something: the instant of the kill
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            data = b"".join(iter(lambda fd=told: os.read(fd, 65536), b""))
            os.close(told)
            last = int.from_bytes(data[-8:], "little") or newest + 1
            found = SnapshotFile.open(path)
            slots = found.slots()
            at = max(range(3), key=lambda number, slots=slots: slots[number][0])
            saved = found.read(at)
            found.close()

            assert last <= saved.generation <= last + 1
            assert saved.body == _body(saved.generation, size)
            newest = saved.generation


def _body(generation, size):
    return generation.to_bytes(8, "little") * ((size + generation % 97) // 8)


def _start_writer(path, newest, size):
    """Fork a process that writes one generation after the other, and tells of each that it has written."""
    reading, writing = os.pipe()
    os_pid = os.fork()
    if os_pid:
        os.close(writing)
        return reading, os_pid
    try:
        file = SnapshotFile.open(path)
        while True:
            newest += 1
            file.write(newest % 3, newest, newest - 1, b"", _body(newest, size))
            os.write(writing, newest.to_bytes(8, "little"))
    finally:
        os._exit(1)


class TestRemains:
    def test_no_file(self, path):
        """Most servers keep nothing."""
        assert snapshot_file.look(path) is None
        snapshot_file.forget(path)

    def test_look(self, file):
        """The newest state, where it is small and may be shown."""
        file.write(0, 1, 0, b"v", b"old")
        file.write(1, 2, 1, b"v", b"new")
        file.phase = 1

        assert snapshot_file.look(file.path) == (0, 1, b"new")

    @pytest.mark.parametrize("hide", ["large", "redacted"])
    def test_what_is_not_shown(self, file, hide):
        """A large state would hold the supervisor up; a redacted one is a secret."""
        file.write(0, 1, 0, b"", b"x" * (70_000 if hide == "large" else 1))
        file.redact(hide == "redacted")

        assert snapshot_file.look(file.path).body is None

    def test_set_streak(self, file):
        """The OS parent counts what the dead cannot."""
        snapshot_file.set_streak(file.path, 5)

        assert file.streak == 5

    def test_forget(self, file):
        """With what a growing left half made."""
        with open(f"{file.path}.new", "wb"):
            snapshot_file.forget(file.path)

        assert [] == os.listdir(os.path.dirname(file.path))
