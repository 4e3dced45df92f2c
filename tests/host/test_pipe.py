"""Frames: what was written whole is read whole, and nothing else harms the reader."""

import collections
import contextlib
import os
import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.host import pipe
from otp_runtime.host.pipe import Unframer, abort, parts, segment, whole
from otp_runtime.host.segments import Segments

LONG = bytes(range(256)) * 100


@pytest.fixture
def unframer(tmp_path):
    return Unframer(str(tmp_path))


class TestWhole:
    def test_one_frame(self, unframer):
        """A chunk that is one frame gives its payload."""
        assert unframer.feed(whole(b"hello")) == [b"hello"]

    def test_empty_payload(self, unframer):
        """Nothing is a payload too."""
        assert unframer.feed(whole(b"")) == [b""]

    def test_largest_payload(self, unframer):
        """The largest frame has the size of an atomic write."""
        frame = whole(b"x" * pipe.PAYLOAD_MAX)

        assert len(frame) == pipe.FRAME_MAX == 4096
        assert unframer.feed(frame) == [b"x" * pipe.PAYLOAD_MAX]

    def test_several_in_a_chunk(self, unframer):
        """They come out in the order in which they were written."""
        chunk = b"".join(whole(bytes([number])) for number in range(10))

        assert unframer.feed(chunk) == [bytes([number]) for number in range(10)]

    def test_magic_inside_a_payload(self, unframer):
        """A payload may contain the byte that begins a frame."""
        payload = bytes([pipe.MAGIC]) * 50

        assert unframer.feed(whole(payload) + whole(b"next")) == [payload, b"next"]
        assert unframer.garbage == 0

    @given(payloads=st.lists(st.binary(max_size=pipe.PAYLOAD_MAX), max_size=20))
    def test_any_payloads(self, payloads):
        """All come out, in order, whatever their bytes."""
        unframer = Unframer("/nowhere")

        assert unframer.feed(b"".join(map(whole, payloads))) == payloads


class TestReadSize:
    def test_a_frame_cut_by_a_full_read(self, unframer):
        """What a full read cut is kept until the next one completes it."""
        frames = [whole(bytes([number]) * 1000) for number in range(70)]
        stream = b"".join(frames)
        first = unframer.feed(stream[: pipe.READ_SIZE])
        second = unframer.feed(stream[pipe.READ_SIZE :])

        assert [bytes([number]) * 1000 for number in range(70)] == first + second
        assert unframer.garbage == 0

    @pytest.mark.parametrize("behind", [1, 2, 3, 4, 5, 100])
    def test_cut_inside_the_head(self, unframer, behind):
        """Wherever the cut is, also before the length is known."""
        filler = [whole(b"x" * 4092)] * 15
        last = whole(b"y" * (4096 - 4 - behind))
        stream = b"".join([*filler, last, whole(b"z" * 200)])
        found = unframer.feed(stream[: pipe.READ_SIZE]) + unframer.feed(stream[pipe.READ_SIZE :])

        assert len(found) == 17
        assert found[-1] == b"z" * 200
        assert unframer.garbage == 0

    def test_a_short_read_ends_with_a_frame(self, unframer):
        """A short read that ends inside one was not written by us: the rest is garbage and does not wait."""
        assert unframer.feed(whole(b"good") + whole(b"torn")[:5]) == [b"good"]
        assert unframer.feed(whole(b"next")) == [b"next"]
        assert unframer.garbage == 1


class TestParts:
    def test_come_together(self, unframer):
        """A payload too large for one frame arrives whole, with its last part."""
        frames = parts(LONG, 7, 1)

        assert len(frames) == 7
        assert all(len(frame) <= pipe.FRAME_MAX for frame in frames)
        assert [unframer.feed(frame) for frame in frames] == [[]] * 6 + [[LONG]]

    def test_of_several_senders_interleaved(self, unframer):
        """Each sender's parts are put together by themselves."""
        one, other = parts(LONG, 7, 1), parts(LONG[::-1], 8, 1)
        mixed = [frame for pair in zip(one, other, strict=True) for frame in pair]

        assert unframer.feed(b"".join(mixed)) == [LONG, LONG[::-1]]

    def test_small_messages_between(self, unframer):
        """They overtake what is unfinished."""
        frames = parts(LONG, 7, 1)
        frames.insert(2, whole(b"small"))

        assert unframer.feed(b"".join(frames)) == [b"small", LONG]

    def test_a_new_number_drops_the_unfinished(self, unframer):
        """A sender that begins another term has given up the first."""
        chunk = b"".join(parts(LONG, 7, 1)[:3] + parts(LONG[::-1], 7, 2))

        assert unframer.feed(chunk) == [LONG[::-1]]

    def test_out_of_order(self, unframer):
        """A part that does not follow is garbage, and so is the rest of its term."""
        frames = parts(LONG, 7, 1)
        frames[1], frames[2] = frames[2], frames[1]

        assert unframer.feed(b"".join(frames)) == []
        assert unframer.garbage > 0
        assert unframer.feed(b"".join(parts(LONG, 7, 2))) == [LONG]

    def test_abort(self, unframer):
        """The sender's own word drops its unfinished term; another sender's stays."""
        one, other = parts(LONG, 7, 1), parts(LONG, 8, 1)
        found = unframer.feed(b"".join(one[:3] + other[:3] + [abort(7, 99)] + other[3:] + one[3:]))

        assert found == [LONG]

    def test_forget(self, unframer):
        """A sender that died leaves no half term in memory."""
        unframer.feed(b"".join(parts(LONG, 7, 1)[:3]))
        unframer.forget(7)

        assert unframer._partial == {}

    def test_a_part_that_claims_too_many(self, unframer):
        """Nobody makes the reader hold an unbounded term."""
        head = pipe._PART.pack(7, 1, 0, 0xFFFFFFFF)
        unframer.feed(pipe._HEADER.pack(pipe.MAGIC, pipe.PART, 4 + len(head)) + head)

        assert unframer._partial == {}
        assert unframer.garbage == 1

    @given(sizes=st.lists(st.integers(4093, 30_000), min_size=1, max_size=4), order=st.randoms())
    def test_any_interleaving(self, sizes, order):
        """However the frames of several senders mix, every term arrives."""
        payloads = {sender: bytes([sender]) * size for sender, size in enumerate(sizes)}
        queues = [parts(payload, sender, 1) for sender, payload in payloads.items()]
        mixed = []
        while any(queues):
            queue = order.choice([queue for queue in queues if queue])
            mixed.append(queue.pop(0))
        found = Unframer("/nowhere").feed(b"".join(mixed))

        assert sorted(payloads.values()) == sorted(found)

    @given(cuts=st.lists(st.integers(1, 8), max_size=8), others=st.lists(st.integers(0, 2), max_size=8))
    def test_in_any_chunks(self, cuts, others):
        """Read in runs of any length, with frames of others between: nothing is lost, all keep their order."""
        frames = parts(LONG, 7, 1)
        unframer, found, expected = Unframer("/nowhere"), [], []
        while frames:
            count = cuts.pop() if cuts else 2
            words = [b"word %d" % number for number in range(others.pop() if others else 1)]
            expected += words
            found += unframer.feed(b"".join([*map(whole, words), *frames[:count]]))
            del frames[:count]

        assert [*expected, LONG] == found
        assert unframer.garbage == 0

    def test_amid(self, unframer):
        """It tells that the last chunk ended in the middle of a term, until somebody took that back."""
        frames = parts(LONG, 7, 1)
        seen = []
        for chunk in (frames[0], frames[1] + frames[2], b"".join(frames[3:])):
            unframer.feed(chunk)
            seen.append(unframer.amid)

        assert [True, True, False] == seen

    def test_half_a_term_is_data(self, unframer):
        """What has come of a term goes to another reader as bytes, however it was read."""
        frames = parts(LONG, 7, 1)
        unframer.feed(frames[0])
        unframer.feed(frames[1] + frames[2])
        half, partial = unframer.unfinished()
        other = Unframer("/nowhere")
        other.resume(half, partial)

        assert {bytes} == set(map(type, partial[0][3]))
        assert [LONG] == other.feed(b"".join(frames[3:]))


class TestSegment:
    def test_is_read_and_removed(self, unframer, tmp_path):
        """The frame only names it; its reader takes the file away."""
        segments = Segments(str(tmp_path), 2)
        path = segments.lay(LONG, 1, 3)
        assert path is not None
        segments.drop()

        assert unframer.feed(segment(path)) == [LONG]
        assert list(tmp_path.iterdir()) == []

    def test_that_is_not_there(self, unframer):
        """Garbage, nothing more."""
        assert unframer.feed(segment("1.2.3") + whole(b"next")) == [b"next"]
        assert unframer.garbage == 1

    def test_outside_of_the_directory(self, unframer, tmp_path):
        """A frame cannot make the reader read and remove somebody else's file."""
        victim = tmp_path.parent / "victim"
        victim.write_bytes(b"secret")
        data = b"../victim"
        frame = pipe._HEADER.pack(pipe.MAGIC, pipe.SEGMENT, 4 + len(data)) + data

        assert unframer.feed(frame) == []
        assert victim.exists()

    @pytest.mark.parametrize("name", [b"", b".", b"..", b"a\0b", b"\xff\xfe"])
    def test_a_name_that_is_none(self, unframer, name):
        """Garbage in the name is garbage."""
        frame = pipe._HEADER.pack(pipe.MAGIC, pipe.SEGMENT, 4 + len(name)) + name

        assert unframer.feed(frame + whole(b"next")) == [b"next"]
        assert unframer.garbage == 1

    def test_a_link_is_not_followed(self, unframer, tmp_path):
        """What lies there as a link was not laid there by us."""
        (tmp_path / "1.2.3").symlink_to("/etc/hostname")

        assert unframer.feed(segment("1.2.3")) == []


class TestGarbage:
    def test_between_frames(self, unframer):
        """Skipped up to the next frame, and counted once."""
        assert unframer.feed(whole(b"a") + b"garbage" + whole(b"b")) == [b"a", b"b"]
        assert unframer.garbage == 1

    def test_unknown_kind(self, unframer):
        """A frame of a kind that there is not is none."""
        frame = pipe._HEADER.pack(pipe.MAGIC, 9, 8) + b"1234"

        assert unframer.feed(frame + whole(b"next")) == [b"next"]
        assert unframer.garbage > 0

    def test_impossible_length(self, unframer):
        """Shorter than its head or longer than an atomic write: no frame."""
        for length in (0, 3, 4097, 65535):
            head = pipe._HEADER.pack(pipe.MAGIC, pipe.WHOLE, length)

            assert unframer.feed(head + whole(b"next")) == [b"next"]

    @given(
        st.lists(
            st.tuples(st.binary(max_size=40).map(lambda data: data.replace(b"\xc1", b"\xc2")), st.binary(max_size=200)),
            max_size=12,
        )
    )
    def test_without_the_magic_byte_loses_nothing(self, pairs):
        """Whatever bytes lie between frames, as long as none looks like a frame's first: every frame arrives."""
        unframer = Unframer("/nowhere")
        found = unframer.feed(b"".join(garbage + whole(payload) for garbage, payload in pairs))

        assert found == [payload for _garbage, payload in pairs]
        assert unframer.garbage == sum(bool(garbage) for garbage, _payload in pairs)

    @given(st.lists(st.binary(max_size=6000), max_size=8))
    def test_never_raises(self, chunks):
        """Any bytes in any chunks; a frame read by itself afterwards arrives."""
        unframer = Unframer("/nowhere")
        for chunk in chunks:
            unframer.feed(chunk)

        assert unframer.feed(whole(b"still here")) == [b"still here"]

    @given(kind=st.integers(0, 5), data=st.binary(max_size=60))
    def test_any_content_of_a_special_frame(self, kind, data):
        """Parts, segments and aborts made by a stranger do no harm."""
        unframer = Unframer("/nowhere")
        frame = pipe._HEADER.pack(pipe.MAGIC, kind, 4 + len(data)) + data

        assert unframer.feed(frame + whole(b"next"))[-1] == b"next"


class TestRun:
    def test_is_written_as_far_as_there_is_room(self):
        """Whole frames only, however little room there is: the rest is for the next time."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        frames = [frame for frame in parts(bytes(200_000), 7, 1) if len(frame) == pipe.FRAME_MAX]
        os.write(write_end, whole(b"a little"))
        written = pipe.write_run(write_end, frames[:40])
        with pytest.raises(BlockingIOError):
            pipe.write_run(write_end, frames[written:])
        read = os.read(read_end, 1 << 20)
        os.close(read_end)
        os.close(write_end)

        assert 0 < written < 40
        assert whole(b"a little") + b"".join(frames[:written]) == read

    @pytest.mark.slow
    def test_nobody_writes_in_between(self):
        """Two writers of runs and one of short frames: every term is read whole."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        children = [_fork_writer(write_end, number) for number in range(3)]
        os.close(write_end)
        unframer, terms = Unframer("/nowhere"), []
        while chunk := os.read(read_end, pipe.READ_SIZE):
            terms += unframer.feed(chunk)
        os.close(read_end)
        for child in children:
            os.waitpid(child, 0)

        assert (0, {0: 300, 1: 300, 2: 300}) == (unframer.garbage, collections.Counter(term[0] for term in terms))
        assert all(term == term[:1] * len(term) for term in terms)


def _fork_writer(fd, number):
    """Fork a process that writes 300 terms; the last one only short ones."""
    child = os.fork()
    if child:
        return child
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    for term in range(300):
        payload = bytes([number]) * (40_000 if number < 2 else 1000)
        frames = [whole(payload)] if number == 2 else parts(payload, number, term)
        while frames:
            full = [frame for frame in frames[: pipe.RUN_MAX] if len(frame) == pipe.FRAME_MAX]
            try:
                done = pipe.write_run(fd, full) if full else bool(os.write(fd, frames[0]))
                del frames[:done]
            except BlockingIOError:
                ready.poll()
    os._exit(0)


class TestPipe:
    def test_atomic_against_a_full_pipe(self, unframer):
        """A frame goes into a pipe whole or not at all."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        frame, count = whole(b"x" * 4000), 0
        with contextlib.suppress(BlockingIOError):
            while os.write(write_end, frame) == len(frame):
                count += 1
        os.close(write_end)
        found = []
        while chunk := os.read(read_end, pipe.READ_SIZE):
            found += unframer.feed(chunk)
        os.close(read_end)

        assert [b"x" * 4000] * count == found
        assert unframer.garbage == 0
