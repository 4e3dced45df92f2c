"""Segments: a large term lies in a file that is gone when it arrives, and whose memory is used again."""

import ctypes
import gc
import os

import pytest

from otp_runtime.host import segments
from otp_runtime.host.segments import KEPT_MAX, Mapped, Segments, take
from otp_runtime.terms.parcel import Parcel

DATA = bytes(range(256)) * 1024


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The segments of a process on a disk with room."""
    monkeypatch.setattr(segments, "_bytes_to_half", lambda _fd: 1 << 40)
    monkeypatch.setattr(segments, "_room", segments._Room())
    made = Segments(str(tmp_path), 2)
    yield made
    made.drop()


def names(tmp_path):
    return sorted(os.listdir(tmp_path))


def inode_of(path):
    return os.stat(path).st_ino


class TestLay:
    def test_is_read_and_removed(self, mine, tmp_path):
        """What arrives equals what was laid; only what its sender keeps is left."""
        assert DATA == take(mine.lay(DATA, 1, 3))
        assert ["2.2.3"] == names(tmp_path)

    def test_parcel(self, mine):
        """Bytes come as bytes, what may be read where it lies as a view of its mapping."""
        parcel = take(mine.lay(Parcel.of(b"head", [DATA, memoryview(DATA)[::-1].tobytes(), memoryview(DATA)]), 1, 3))

        assert [b"head", DATA, DATA[::-1], DATA] == [parcel.head, *parcel.buffers]
        assert [bytes, bytes, memoryview] == list(map(type, parcel.buffers))

    def test_no_room(self, tmp_path):
        """Where none can be made it says so, and leaves nothing."""
        assert Segments(str(tmp_path / "missing"), 2).lay(DATA, 1, 3) is None
        assert [] == names(tmp_path)

    def test_full_disk(self, small_disk):
        """The draft that did not fit is removed."""
        assert Segments(str(small_disk), 2).lay(bytes(1 << 20), 1, 3) is None
        assert [] == names(small_disk)

    def test_many_buffers(self, mine):
        """More than one system call takes."""
        parcel = Parcel.of(b"head", [bytes([number % 256]) for number in range(1500)])

        assert parcel.buffers == take(mine.lay(parcel, 1, 3)).buffers


class TestKeeping:
    def test_is_used_again(self, mine):
        """The next term goes into the same file, when nobody uses it."""
        first = inode_of(path := mine.lay(DATA, 1, 1))
        take(path)
        second = inode_of(path := mine.lay(DATA[::-1], 1, 2))

        assert first == second
        assert DATA[::-1] == take(path)

    def test_not_while_it_is_under_way(self, mine):
        """What nobody has taken yet stays as it is."""
        one, other = mine.lay(DATA, 1, 1), mine.lay(DATA[::-1], 1, 2)

        assert [DATA, DATA[::-1]] == [take(one), take(other)]

    def test_not_while_it_is_mapped(self, mine):
        """Whoever still looks at a buffer never sees another term in it."""
        parcel = Parcel.of(b"head", [memoryview(DATA)])
        held = take(mine.lay(parcel, 1, 1)).buffers[0]
        for number in range(2, 6):
            take(mine.lay(Parcel.of(b"head", [memoryview(DATA[::-1])]), 1, number))

        assert held == DATA

    def test_not_while_a_fork_has_it(self, mine):
        """A mapping that a user's fork inherited counts, too."""
        held = take(path := mine.lay(Parcel.of(b"head", [memoryview(DATA)]), 1, 1))
        (kept,) = mine._kept
        gate, opened = os.pipe()
        if (child := os.fork()) == 0:
            os.close(opened)
            os.read(gate, 1)
            os._exit(0)
        del held
        while_forked = segments._open_unused(kept)
        os.close(opened)
        os.close(gate)
        os.waitpid(child, 0)

        after = segments._open_unused(kept)
        os.close(after)

        assert not os.path.exists(path)
        assert while_forked is None

    def test_not_for_much_less(self, mine):
        """A small term does not keep a large segment from being given back."""
        first = inode_of(path := mine.lay(DATA * 5, 1, 1))
        take(path)

        assert first != inode_of(mine.lay(DATA, 1, 2))

    def test_the_last_ones(self, mine, tmp_path):
        """Not more than a few, of whatever sizes."""
        for number in range(10):
            take(mine.lay(DATA * (number + 1), 1, number))

        assert len(names(tmp_path)) == KEPT_MAX

    def test_dropped(self, mine, tmp_path):
        """Nothing is left of them."""
        take(mine.lay(DATA, 1, 1))
        mine.drop()

        assert [] == names(tmp_path)
        assert not mine.are_kept

    def test_of_a_predecessor(self, mine, tmp_path):
        """Its successor removes the names; it goes on with others itself, should that one fail."""
        take(mine.lay(DATA, 1, 1))
        take(mine.lay(DATA * 2, 1, 2))
        for name in names(tmp_path):
            os.unlink(tmp_path / name)
        after = [take(mine.lay(DATA, 1, number)) for number in (3, 4)]

        assert [DATA, DATA] == after
        assert ["2.2.3"] == names(tmp_path)

    def test_holds_no_descriptor(self, mine):
        """What is kept is a name."""
        before = os.listdir("/proc/self/fd")
        take(mine.lay(DATA, 1, 1))

        assert before == os.listdir("/proc/self/fd")

    def test_scarce(self, monkeypatch, mine, tmp_path):
        """Where memory of this kind is scarce, nothing is kept."""
        monkeypatch.setattr(segments, "_is_scarce", lambda _fd: True)
        take(mine.lay(DATA, 1, 1))

        assert [] == names(tmp_path)


class TestMapped:
    def test_holds_no_descriptor(self, mine):
        """However many are held, and none is counted when they are gone."""
        before = len(os.listdir("/proc/self/fd")), Mapped.count
        held = [take(mine.lay(Parcel.of(b"", [memoryview(DATA)]), 1, number)).buffers[0] for number in range(20)]
        during = len(os.listdir("/proc/self/fd")), Mapped.count - 20

        assert before == during
        del held
        gc.collect()
        assert before[1] == Mapped.count

    def test_too_many(self, monkeypatch, mine):
        """Past a limit they are copies."""
        monkeypatch.setattr(segments, "MAPPED_MAX", Mapped.count + 1)
        parcel = take(mine.lay(Parcel.of(b"", [memoryview(DATA)] * 2), 1, 1))

        assert [memoryview, bytes] == list(map(type, parcel.buffers))
        assert [DATA, DATA] == parcel.buffers

    def test_scarce(self, monkeypatch, mine):
        """Where memory of this kind is scarce they are copies, so that it is free again at once."""
        monkeypatch.setattr(segments, "_bytes_to_half", lambda _fd: -1)
        monkeypatch.setattr(segments, "_room", segments._Room())

        assert type(take(mine.lay(Parcel.of(b"", [memoryview(DATA)]), 1, 1)).buffers[0]) is bytes

    def test_is_read_only(self, mine):
        """And whoever gets round that changes no one else's."""
        path = mine.lay(Parcel.of(b"", [memoryview(DATA)]), 1, 1)
        again = f"{path}.2"
        os.link(path, again)
        one, other = (take(name).buffers[0] for name in (path, again))
        with pytest.raises(TypeError):
            one[0] = 1
        ctypes.c_char.from_buffer(one.obj).value = b"\x07"

        assert (7, 0) == (one[0], other[0])
        assert len(one.obj) == len(DATA)


class TestTake:
    @pytest.mark.parametrize(
        "content", [b"", b"x" * 15, b"x" * 100, b"\xc1\x01" + b"\xff" * 14, b"\xc1\x01\0\0\xff\xff\0\0" + bytes(8)]
    )
    def test_what_is_no_segment(self, tmp_path, content):
        """It is nothing, and goes."""
        path = tmp_path / "1.2.3"
        path.write_bytes(content)

        assert take(str(path)) == b""
        assert [] == names(tmp_path)
