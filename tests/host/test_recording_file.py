"""The file of what a server received: whole entries, one round, whatever is done to its writer."""

import os
import random
import signal
import stat
import struct
import time

import pytest

from otp_runtime.host import directory, recording_file
from otp_runtime.host.directory import DirectoryUnusable
from otp_runtime.host.recording_file import BASE, CONTINUE, ENTRIES_MAX, ENTRY_MAX, LOST, MESSAGE, Entry, RecordingFile


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "12" / "child.record")


@pytest.fixture
def file(path):
    opened = RecordingFile(path, b"about")
    yield opened
    opened.close()


def said(file):
    """Give what another process finds: the base's bytes and those of the entries."""
    found = recording_file.read(file.path)
    return found.base.data, [entry.data for entry in found.entries]


class TestRounds:
    def test_a_new_file_has_none_and_is_private(self, file):
        """It says what it is of; nobody else reads messages."""
        found = recording_file.read(file.path)

        assert (b"about", LOST, ()) == (found.about, found.base.kind, found.entries)
        assert recording_file.about(file.path) == b"about"
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600

    def test_entries_in_order(self, file):
        """With their kinds and times."""
        file.begin(BASE, b"state", 1.0)
        file.append(MESSAGE, b"one", 2.0)
        file.append(CONTINUE, b"", 3.5)
        found = recording_file.read(file.path)

        assert Entry(BASE, b"state", 1.0) == found.base
        assert (Entry(MESSAGE, b"one", 2.0), Entry(CONTINUE, b"", 3.5)) == found.entries

    def test_a_round_has_only_its_own(self, file):
        """Entries of the same length lie where those of the round before lay."""
        file.begin(BASE, b"a", 0.0)
        for text in (b"1", b"2", b"3"):
            file.append(MESSAGE, text, 0.0)
        file.begin_again()
        file.append(MESSAGE, b"4", 0.0)
        assert said(file) == (b"a", [b"4"])
        file.begin(BASE, b"b", 0.0)
        assert said(file) == (b"b", [])
        file.begin(BASE, b"c", 0.0)

        assert said(file) == (b"c", [])

    def test_it_grows_for_a_base_and_for_entries(self, file):
        """What was there goes with it."""
        file.begin(BASE, b"small", 0.0)
        file.append(MESSAGE, b"m", 0.0)
        file.append(MESSAGE, b"x" * 200_000, 0.0)
        assert said(file) == (b"small", [b"m", b"x" * 200_000])
        file.begin(BASE, b"y" * 500_000, 0.0)
        file.append(MESSAGE, b"n", 0.0)

        assert said(file) == (b"y" * 500_000, [b"n"])

    def test_a_full_round_takes_no_more(self, file):
        """But one entry may have more than a round has, alone."""
        file.begin(BASE, b"s", 0.0)
        taken = 0
        while file.append(MESSAGE, bytes(1000), 0.0):
            taken += 1
        assert ENTRIES_MAX // 1100 < taken <= ENTRIES_MAX // 1000
        file.begin_again()

        assert file.append(MESSAGE, bytes(2 * ENTRIES_MAX), 0.0)
        file.begin_again()
        assert not file.append(MESSAGE, bytes(ENTRY_MAX + 1), 0.0)

    def test_it_replaces_what_is_there(self, file, path):
        """A successor's recording is its own."""
        file.begin(BASE, b"old", 0.0)
        other = RecordingFile(path, b"other")
        other.close()

        assert recording_file.about(path) == b"other"

    def test_forgotten(self, file):
        """Closed for good."""
        RecordingFile(file.path, b"").close(forget=True)

        assert not os.path.exists(file.path)

    def test_no_room(self, file, monkeypatch):
        """Said, and the round is as it was."""
        file.begin(BASE, b"s", 0.0)

        def full(_fd, _size, path):
            raise DirectoryUnusable(28, f"no room for {path}")

        monkeypatch.setattr(directory, "reserve", full)
        with pytest.raises(DirectoryUnusable, match="no room"):
            file.append(MESSAGE, bytes(100_000), 0.0)

        assert said(file) == (b"s", [])


class TestRead:
    @pytest.mark.parametrize("data", [b"", b"no recording", bytes(5000)])
    def test_something_else(self, tmp_path, data):
        """Named."""
        other = tmp_path / "other"
        other.write_bytes(data)
        with pytest.raises(ValueError, match="is no recording"):
            recording_file.read(str(other))

        assert recording_file.about(str(other)) == b""

    def test_another_format(self, file):
        """Both numbers are said."""
        with open(file.path, "r+b") as raw:
            raw.seek(4)
            raw.write(struct.pack("I", 9))

        with pytest.raises(ValueError, match="in format 9, and this version of otp_runtime reads 1"):
            recording_file.read(file.path)

    def test_what_is_not_whole_is_left_out(self, file):
        """And all that follows it; a base that is not whole is an error."""
        file.begin(BASE, b"state", 0.0)
        file.append(MESSAGE, b"first", 0.0)
        file.append(MESSAGE, b"second", 0.0)
        with open(file.path, "r+b") as raw:
            data = raw.read()
            raw.seek(data.index(b"second"))
            raw.write(b"S")
        assert said(file) == (b"state", [b"first"])
        with open(file.path, "r+b") as raw:
            raw.seek(data.index(b"state"))
            raw.write(b"S")

        with pytest.raises(ValueError, match="damaged"):
            recording_file.read(file.path)


@pytest.mark.slow
class TestSigkill:
    def test_whole_entries_at_any_instant(self, path):
        """Numbered entries after a numbered base: none is missing, none is of another round."""
        chance = random.Random(7)  # noqa: S311 - the same in each run
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                _write_for_ever(path)
            while not os.path.exists(path):
                time.sleep(0.0005)
            # not a wait for something: the instant of the kill
            time.sleep(chance.random() * 0.01)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            base, entries = _numbers(path)
            os.unlink(path)

            assert [base + 1 + at for at in range(len(entries))] == entries


def _write_for_ever(path):
    file = RecordingFile(path, b"")
    number = 0
    while True:
        if number % 7 == 0:
            file.begin(BASE, number.to_bytes(8, "little") * (1 + number % 5000), 0.0)
        number += 1
        file.append(MESSAGE, number.to_bytes(8, "little") * (1 + number % 90), 0.0)


def _numbers(path):
    found = recording_file.read(path)
    base = int.from_bytes(found.base.data[:8], "little") if found.base.kind == BASE else -1
    return base, [int.from_bytes(entry.data[:8], "little") for entry in found.entries]
