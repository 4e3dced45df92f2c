"""Parcels: what is large lies beside its term, and all of it arrives as it was sent."""

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.errors import CodecError
from otp_runtime.process.shipping import Shipper
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.parcel import APART_FROM, Parcel, layout_of, unflatten
from otp_runtime.terms.parcels import ParcelCodec
from tests.strategies import terms

LARGE = bytes(range(256)) * (APART_FROM // 256)
SMALL = LARGE[:-1]


class Block:
    """An object that puts its buffer aside when it is pickled, as arrays do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Block, (pickle.PickleBuffer(self.data),)


@dataclass
class Holder:
    """Data with something large in it."""

    name: str
    data: bytes


@pytest.fixture
def flat(tmp_path):
    return Codec(Shipper(str(tmp_path)))


@pytest.fixture
def codec(tmp_path):
    return ParcelCodec(Shipper(str(tmp_path)))


@pytest.fixture
def looking(codec):
    """One that has just sent something large."""
    codec.encode(LARGE * 2)
    return codec


class TestEncode:
    @given(terms())
    def test_small_terms(self, term):
        """What is small is encoded as by any codec."""
        codec = ParcelCodec(Shipper("/nowhere"))

        assert Codec().encode(term) == codec.encode(term)

    def test_object_with_a_large_buffer(self, codec):
        """The buffer is not copied: what lies aside is the sender's own memory."""
        data = bytearray(LARGE)
        parcel = codec.encode([1, Block(data)])
        data[0] = 77

        assert type(parcel) is Parcel
        assert (77, data) == (parcel.buffers[0][0], bytearray(parcel.buffers[0]))
        assert len(parcel.head) < 200

    def test_object_with_a_small_buffer(self, codec):
        """It goes into the term."""
        data = codec.encode([1, Block(SMALL)])

        assert type(data) is bytes
        assert bytes(codec.decode(data)[1].data) == SMALL

    def test_bytes_by_themselves(self, codec):
        """Nobody looks for them before something large was sent: the first are copied, the next lie aside."""
        assert [bytes, Parcel] == [type(codec.encode(["x", LARGE * 2])) for _ in range(2)]

    def test_looking_ends(self, looking):
        """After a number of small terms nothing is looked through any more."""
        for number in range(40):
            looking.encode(number)

        assert type(looking.encode(LARGE)) is bytes

    def test_refused_beside_something_large(self, looking):
        """What cannot travel is named as ever."""
        with pytest.raises(CodecError) as error:
            looking.encode({"a": [LARGE, memoryview(b"x")]}, "request")

        assert error.value.path == 'request["a"][1]'

    def test_length(self, looking):
        """A parcel's length is that of all of it: so much does its receiver keep."""
        parcel = looking.encode([LARGE, bytearray(LARGE)])

        assert len(parcel) == len(parcel.head) + 2 * len(LARGE)


class TestDecode:
    @pytest.mark.parametrize(
        "term",
        [
            LARGE,
            bytearray(LARGE),
            ("put", LARGE, {"k": [bytearray(LARGE), SMALL, {1, 2}]}, "\ud800"),
            Holder("x", LARGE),
            ValueError("wrong", LARGE),
            1 << (APART_FROM * 9),
        ],
        ids=["bytes", "bytearray", "nested", "dataclass", "exception", "number"],
    )
    def test_arrives_as_it_was(self, looking, flat, term):
        """With its types, from its pieces as from one piece."""
        parcel = looking.encode([LARGE, term])
        found = [looking.decode(parcel), flat.decode(bytes(parcel))]
        show = repr if isinstance(term, ValueError) else list

        assert type(parcel) is Parcel
        assert [show([LARGE, term])] * 2 == list(map(show, found))

    def test_objects(self, codec, flat):
        """Each gets its own buffers."""
        parcel = codec.encode([Block(LARGE), [Block(LARGE[::-1]), Block(b"small")]])
        for found in (codec.decode(parcel), flat.decode(bytes(parcel))):
            assert [LARGE, LARGE[::-1], b"small"] == [bytes(one.data) for one in (found[0], *found[1])]

    def test_object_in_an_exception(self, codec):
        """Tried first whether it can travel at all, packed once: one buffer."""
        parcel = codec.encode(ValueError(Block(LARGE)))

        assert [LARGE] == list(map(bytes, parcel.buffers))
        assert bytes(codec.decode(parcel).args[0].data) == LARGE

    def test_without_shipper(self, looking):
        """No codec of what comes over a network takes one."""
        parcel = looking.encode(LARGE)
        for data in (parcel, bytes(parcel)):
            with pytest.raises(CodecError, match="stay within their node"):
                Codec().decode(data)

    def test_head_alone(self, looking, flat):
        """Without its buffers it says so."""
        with pytest.raises(CodecError, match="are not here"):
            flat.decode(looking.encode(LARGE).head)


class TestFlatten:
    @given(cut=st.integers(0, 400_000), at=st.integers(0, 40), value=st.integers(0, 255))
    def test_bad_bytes(self, cut, at, value):
        """Cut or changed, it is an error, or a term, and nothing else."""
        flat = Codec(Shipper("/nowhere"))
        data = bytearray(bytes(Parcel.of(flat.encode([1, 2]), [LARGE, memoryview(LARGE)])))
        data[at] = value
        try:
            assert flat.decode(bytes(data[:cut])) is not None
        except CodecError:
            return

    def test_one_piece(self):
        """Every buffer begins at a page, and comes back as one of its own."""
        parcel = unflatten(bytes(Parcel.of(b"head", [b"one", memoryview(b"two"), bytearray(b"three")])))

        assert [b"head", b"one", b"two", b"three"] == [parcel.head, *parcel.buffers]

    def test_layout_needs_more(self):
        """With too little at hand it says how much it takes."""
        data = bytes(Parcel.of(b"head", [b"one"] * 600))

        assert layout_of(data[:10], len(data)) == 16
        assert layout_of(data[:16], len(data)) == 16 + 600 * 8
