"""Being told who writes into a directory, and giving back what was read."""

import os

import pytest

from otp_runtime.host import inotify, kernel


@pytest.fixture
def told(tmp_path):
    fd = inotify.watch_writes(str(tmp_path))
    yield fd
    os.close(fd)


class TestWritten:
    def test_names_who_wrote(self, told, tmp_path):
        """Each once, however often; who only made a file has not."""
        (tmp_path / "silent").touch()
        for _ in range(3):
            for name in "ab":
                with (tmp_path / name).open("a") as file:
                    file.write("x")

        assert kernel.has_ended(told)  # it is readable
        assert {"a", "b"} == inotify.written(told)
        assert set() == inotify.written(told)

    def test_too_many_to_tell(self, told, tmp_path):
        """None: everything has to be looked at."""
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            most = int(file.read())
        if most > 100_000:
            pytest.skip("the queue is too long to be filled")
        files = [(tmp_path / name).open("wb", buffering=0) for name in "ab"]
        for number in range(most + 10):  # those that are equal to the one before are told once
            files[number % 2].write(b"x")
        for file in files:
            file.close()

        while found := inotify.written(told):
            pass
        assert None is found

    def test_no_such_directory(self, tmp_path):
        """An OSError that names it; no descriptor is left."""
        with pytest.raises(OSError, match="nowhere"):
            inotify.watch_writes(str(tmp_path / "nowhere"))


class TestGiveBack:
    def test_frees_the_beginning(self, tmp_path):
        """The length stays, so does the end; the room is free."""
        path = tmp_path / "file"
        path.write_bytes(b"a" * 100_000 + b"end")
        fd = os.open(path, os.O_RDWR)
        before = os.fstat(fd).st_blocks
        inotify.give_back(fd, 98_304)
        after = os.fstat(fd)
        os.close(fd)

        assert (100_003, b"end") == (after.st_size, path.read_bytes()[-3:])
        assert after.st_blocks < before
