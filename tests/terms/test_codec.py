"""The codec: what arrives equals what was sent and has its type; bad bytes are only an error."""

import asyncio
import io
import pickle
import signal
import socket
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otp_runtime.errors import CallTimeout, CodecError, RemoteError
from otp_runtime.terms.codec import Codec
from tests.strategies import Access, Checked, Inc, Job, Name, PickyError, Point, Row, same, terms


class ByPickle:
    """A shipper that knows its classes by heart and pickles the rest."""

    def __init__(self):
        self.classes = {}

    def class_ref(self, cls):
        self.classes[cls.__qualname__] = cls
        return ("class", cls.__qualname__)

    def load_class(self, ref):
        return self.classes[ref[1]]

    def dump(self, value):
        return pickle.dumps(value)

    def load(self, data):
        return pickle.loads(data)  # noqa: S301 - its own bytes


class Plain:
    """An instance that is not data."""

    def __init__(self, **parts):
        vars(self).update(parts)

    def __eq__(self, other):
        return vars(self) == vars(other)

    __hash__ = object.__hash__


codec = Codec()


def there_and_back(term, with_codec=codec):
    return with_codec.decode(with_codec.encode(term))


def nested(depth, wrap=lambda inner: [inner]):
    term = 1
    for _ in range(depth):
        term = wrap(term)
    return term


class TestRoundTrip:
    @given(terms())
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_arrives_equal_and_of_equal_type(self, term):
        """Whatever travels as data arrives as it was, in all its parts."""
        assert same(term, there_and_back(term))

    @given(terms())
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_shipper_changes_nothing_for_data(self, term):
        """Data is never pickled."""
        assert codec.encode(term) == Codec(ByPickle()).encode(term)

    def test_signalling_nan(self):
        """It can be neither compared nor hashed, but it travels."""
        assert "-sNaN12" == str(there_and_back(Decimal("-sNaN12")))

    def test_order_of_a_dict_is_kept(self):
        """As in Python."""
        assert ["b", "a", 1] == list(there_and_back({"b": 1, "a": 2, 1: 3}))

    def test_order_of_an_ordered_dict_is_its_own(self):
        """`move_to_end` is not visible in the dict underneath."""
        term = OrderedDict(a=1, b=2)
        term.move_to_end("a")

        assert term == there_and_back(term)

    def test_utc_is_the_one_object(self):
        """`zone is UTC` holds on arrival."""
        assert there_and_back(UTC) is UTC

    def test_memoryview_of_the_bytes_is_accepted(self):
        """A reader need not copy first."""
        data = codec.encode([1, (2,)])

        assert [1, (2,)] == codec.decode(memoryview(data)) == codec.decode(bytearray(data))

    def test_bytearray_deep_inside_keeps_its_type(self):
        """By itself msgpack would make bytes of it."""
        term = {"a": [(bytearray(b"x"), b"y")], "b": Inc({1: bytearray(b"z")})}

        assert same(term, there_and_back(term))

    def test_term_given_twice_arrives_equal(self):
        """Sharing is not kept, the values are."""
        part = [1]
        one, other = there_and_back([part, part])

        assert one == other
        assert one is not other

    def test_defaultdict_keeps_its_factory_and_deque_its_length(self):
        """Both are more than their items."""
        table, queue = there_and_back([defaultdict(list, a=[1]), deque([1], 3)])

        assert (list, 3) == (table.default_factory, queue.maxlen)


class TestInstances:
    def test_init_of_a_dataclass_is_not_run_again(self):
        """Its fields are put in place, also those that `__init__` makes."""
        assert 1 == there_and_back(Checked(3)).made

    def test_field_without_init_arrives(self):
        """What was set later is part of the value."""
        job = Job(3)
        job.done = True

        assert job == there_and_back(job)

    def test_unset_slot_stays_unset(self):
        """A half-made object arrives half-made."""
        half = object.__new__(Inc)

        assert not hasattr(there_and_back(half), "by")

    def test_flag_of_several_members(self):
        """A combination has no name, only a value."""
        assert there_and_back(Access.READ | Access.WRITE) is Access.READ | Access.WRITE

    def test_subclass_keeps_value_and_attributes(self):
        """Subclasses of builtins are not flattened."""
        row = Row([1, 2])
        row.label = Name("x")

        assert same(row, there_and_back(row))

    def test_class_itself_is_a_term(self):
        """A class that can be imported arrives as itself."""
        assert there_and_back([int, Point, Inc]) == [int, Point, Inc]

    def test_local_class_needs_a_shipper(self):
        """A class that cannot be imported is refused without, and is one object with."""

        @dataclass
        class Local:
            x: int

        class Local2(Enum):
            A = object()

        shipping = Codec(ByPickle())

        assert [Local(1), Local, Local2.A] == there_and_back([Local(1), Local, Local2.A], shipping)
        with pytest.raises(CodecError, match="cannot be imported"):
            codec.encode(Local(1))

    def test_plain_instance_goes_by_the_shipper(self):
        """What is not data is pickled, and only then."""
        assert Plain(x=1) == there_and_back([Plain(x=1)], Codec(ByPickle()))[0]
        with pytest.raises(CodecError, match=r"term\[0\] \(.*Plain\).*not data"):
            codec.encode([Plain(x=1)])

    def test_instances_may_know_each_other(self):
        """A pickler copes with cycles, and so does what looks for bytearrays."""
        parent = Plain(data=b"x")
        parent.child = Plain(parent=parent)
        arrived = there_and_back([parent, b"x"], Codec(ByPickle()))[0]

        assert arrived is arrived.child.parent

    def test_failing_shipper_is_a_codec_error(self):
        """Its text says what the pickler said."""
        with pytest.raises(CodecError, match="lambda"):
            Codec(ByPickle()).encode(lambda: 1)


class TestExceptions:
    def test_init_of_an_exception_is_not_run(self):
        """One that pickle cannot bring back arrives with its arguments and attributes."""
        error = there_and_back(PickyError(1, [2]))

        assert (PickyError, ("1 and [2]",), 1, [2]) == (
            type(error),
            error.args,
            error.left,
            error.right,
        )

    def test_state_in_c_arrives(self):
        """Builtin exceptions keep things beside their arguments."""
        sent = [
            FileNotFoundError(2, "No such file", "/x", None, "/y"),
            UnicodeDecodeError("utf8", b"\xff", 0, 1, "bad"),
            UnicodeEncodeError("ascii", "é", 0, 1, "bad"),
            ImportError("no", name="m", path="/m"),
            SyntaxError("bad", ("f.py", 1, 2, "x x", 1, 3)),
            StopIteration(3),
            SystemExit(4),
            KeyError("k"),
            OSError("only text"),
            TimeoutError(),
        ]
        arrived = there_and_back(sent)

        assert [(type(e), e.args, str(e)) for e in sent] == [(type(e), e.args, str(e)) for e in arrived]
        assert ("/x", "/y") == (arrived[0].filename, arrived[0].filename2)
        assert ("m", 3, 4) == (arrived[3].name, arrived[5].value, arrived[6].code)

    def test_group_arrives_with_its_exceptions(self):
        """An exception group is an exception like others."""
        group = there_and_back(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError()])]))

        assert [ValueError, ExceptionGroup] == [type(e) for e in group.exceptions]

    def test_part_that_cannot_travel_arrives_as_text(self):
        """The exception matters more than its arguments."""
        error = ValueError(threading.Lock(), [1, threading.Lock()], ValueError(lambda: 1), 7)
        error.lock = threading.Lock()
        arrived = there_and_back([error])[0]

        assert "lock object" in arrived.args[0]
        assert 1 == arrived.args[1][0]
        assert "lock object" in arrived.args[1][1]
        assert "function" in arrived.args[2].args[0]
        assert 7 == arrived.args[3]
        assert "lock object" in arrived.lock

    def test_number_of_exceptions_is_bounded(self):
        """`raise New(old) from old`, often, is not two to the power of it."""
        error = ValueError("first")
        for number in range(40):
            later = ValueError(number, error)
            later.__cause__ = error
            error = later

        assert len(codec.encode(error)) < 50_000

    def test_exception_that_holds_itself_arrives(self):
        """Cycles end in text, whether by argument or by cause."""
        error = ValueError()
        error.args = (error, b"x")
        error.__cause__ = error

        assert ValueError is type(there_and_back(error))

    def test_cause_arrives_and_the_chain_is_bounded(self):
        """Eight causes travel."""
        error = ValueError(0)
        for number in range(1, 30):
            later = ValueError(number)
            later.__cause__ = error
            error = later
        arrived = there_and_back(error)
        chain = []
        while arrived is not None:
            chain.append(arrived.args[0])
            arrived = arrived.__cause__

        assert list(range(29, 20, -1)) == chain

    def test_traceback_arrives_as_a_note_behind_the_others(self):
        """It is text; the frames stay where they are."""

        def fail():
            error = ValueError("x")
            error.add_note("mine")
            raise error

        with pytest.raises(ValueError, match="x") as caught:
            fail()
        notes = there_and_back(caught.value).__notes__

        assert "mine" == notes[0]
        assert "in fail" in notes[1]

    def test_unknown_class_becomes_a_remote_error(self):
        """Type, message and traceback are kept as text."""

        class LocalError(Exception):
            """One that only this function knows."""

        arrived = there_and_back([LocalError("x")])[0]

        assert RemoteError is type(arrived)
        assert arrived.type.endswith("LocalError")
        assert "x" == arrived.message

    def test_class_that_is_gone_becomes_a_remote_error(self):
        """Nor does a missing module stop the rest of the term."""
        data = codec.encode([PickyError(1, 2), 5]).replace(b"strategies:Picky", b"strategies:Pinky")

        assert [RemoteError, int] == [type(part) for part in codec.decode(data)]

    def test_local_exception_goes_by_the_shipper(self):
        """Its class is shipped, the exception stays data."""

        class LocalError(Exception):
            """One that only this function knows."""

        assert LocalError is type(there_and_back(LocalError(1), Codec(ByPickle())))

    def test_raising_str_does_not_stop_it(self):
        """An exception always arrives."""

        class MuteError(Exception):
            def __str__(self):
                raise ZeroDivisionError

        assert "ZeroDivisionError" in there_and_back(MuteError(1)).message

    def test_call_timeout_keeps_being_both(self):
        """One with two builtin bases of different layout."""
        arrived = there_and_back(CallTimeout("c", "r", 5.0))

        assert (("c", "r", 5.0), None) == (arrived.args, arrived.errno)


class TestRefusals:
    @pytest.mark.parametrize(
        "make",
        [
            threading.Lock,
            threading.RLock,
            threading.Event,
            threading.Thread,
            io.BytesIO,
            lambda: memoryview(b"x"),
            lambda: (i for i in ()),
            sys._getframe,
        ],
    )
    def test_what_means_nothing_elsewhere(self, make):
        """Refused even with a shipper that could."""
        with pytest.raises(CodecError, match="means nothing in another process"):
            Codec(ByPickle()).encode([1, make()])

    def test_socket(self):
        """A descriptor belongs to its process."""
        with socket.socket() as sock, pytest.raises(CodecError, match=r"request\[0\] \(socket"):
            Codec(ByPickle()).encode([sock], "request")

    def test_coroutine(self):
        """So does running code."""

        async def work():
            await asyncio.sleep(0)

        running = work()
        try:
            with pytest.raises(CodecError, match="coroutine"):
                codec.encode(running)
        finally:
            running.close()

    def test_lock_held_by_an_instance(self):
        """The path leads into the object that would have been pickled."""
        job = Plain(steps=[1, {"lock": threading.Lock()}])
        with pytest.raises(CodecError) as caught:
            Codec(ByPickle()).encode({"jobs": [0, job]}, "request")

        assert 'request["jobs"][1].steps[1]["lock"]' == caught.value.path
        assert "_thread.lock" == caught.value.type

    def test_lock_held_by_a_closure(self):
        """A function carries what it closes over."""
        lock = threading.Lock()
        with pytest.raises(CodecError) as caught:
            Codec(ByPickle()).encode(lambda: lock, "fun")

        assert "fun.lock" == caught.value.path

    def test_lock_that_the_class_leaves_out(self):
        """A class that says what is sent is believed."""
        shipping = Codec(ByPickle())

        assert 1 == there_and_back(Careful(), shipping).x

    def test_path_of_a_key(self):
        """The key itself can be the part at fault."""
        with pytest.raises(CodecError) as caught:
            codec.encode({"a": {(1, test_function): 2}}, "state")

        assert caught.value.path.startswith('state["a"].key((1, <function')


class Careful:
    """An instance that leaves its lock at home."""

    def __init__(self):
        self.x = 1
        self.lock = threading.Lock()

    def __getstate__(self):
        return {"x": self.x}


def test_function():
    """A function that can be imported is no data either."""
    with pytest.raises(CodecError, match="not data"):
        codec.encode(test_function)


class TestDepth:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda inner: [inner],
            lambda inner: (inner,),
            lambda inner: {"k": inner},
            lambda inner: frozenset([inner]),
            Inc,
        ],
    )
    def test_256_levels_travel(self, wrap):
        """Any nesting a program means is carried."""
        term = nested(256, wrap)

        assert codec.encode(term) == codec.encode(there_and_back(term))

    @pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), Inc])
    def test_too_deep_is_refused_by_the_sender(self, wrap):
        """Neither a RecursionError nor a crash."""
        with pytest.raises(CodecError, match=r"nested|recursion"):
            codec.encode(nested(3_000, wrap))

    @pytest.mark.parametrize("depth", range(505, 513))
    @pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {1: (inner,)}])
    def test_what_is_encoded_can_be_decoded(self, depth, wrap):
        """The receiver never refuses a depth that the sender let pass."""
        data = codec.encode(nested(depth, wrap))

        assert data == codec.encode(codec.decode(data))

    def test_deep_bytes_are_refused_by_the_receiver(self):
        """A bomb of brackets is an error."""
        for opening in (b"\x91", b"\x81\x01", b"\x92\xd4\x4ft"):
            with pytest.raises(CodecError):
                codec.decode(opening * 100_000)

    def test_list_in_itself(self):
        """A cycle is named where it closes."""
        term = {"a": [1]}
        term["a"].append(term)
        with pytest.raises(CodecError, match="contains itself") as caught:
            codec.encode(term, "state")

        assert 'state["a"][1]' == caught.value.path


class TestBadBytes:
    @given(st.binary(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_random_bytes_raise_nothing_else(self, data):
        """The reader survives whatever arrives."""
        decode_or_refuse(data)

    @given(terms(), st.data())
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_mutated_bytes_raise_nothing_else(self, term, data):
        """Also when only a few bytes of a real term are wrong."""
        raw = bytearray(codec.encode(term))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at] = data.draw(st.integers(0, 255))
        decode_or_refuse(bytes(raw))

    @given(st.lists(st.sampled_from(b"tsfibcrlenpRDdTmzZNuqKkOEFSXP"), min_size=1), st.data())
    @settings(max_examples=200, deadline=None)
    def test_marks_with_any_parts_raise_nothing_else(self, letters, data):
        """Every builder refuses parts it does not know."""
        term = b"\xc0"
        for letter in letters:
            parts = [
                data.draw(st.sampled_from([b"\xc0", b"\x01", b"\xa1x", b"\x90", b"\x80", term]))
                for _ in range(data.draw(st.integers(0, 9)))
            ]
            term = bytes([0x90 + len(parts) + 1, 0xD4, 0x4F, letter]) + b"".join(parts)
        decode_or_refuse(term)

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01\x02", b"\x92\x01", b"\xdd\xff\xff\xff\xff"])
    def test_torn_bytes(self, data):
        """Nothing, too little, too much, and promises that are not kept."""
        with pytest.raises(CodecError):
            codec.decode(data)

    def test_pickled_object_without_a_shipper(self):
        """Bytes from a network are never unpickled."""
        data = Codec(ByPickle()).encode(Plain(x=1))
        with pytest.raises(CodecError, match="nothing is unpickled"):
            codec.decode(data)

    def test_class_of_another_kind(self):
        """Only dataclasses are made from fields, only enums from names."""
        data = codec.encode(Inc(1)).replace(b"tests.strategies:Inc", b"socket:socket\x00\x00\x00\x00\x00\x00\x00")
        with pytest.raises(CodecError):
            codec.decode(data)

    def test_without_imports_no_module_is_imported(self):
        """A name from a network does not run a module's code."""
        data = codec.encode([int]).replace(b"\xacbuiltins:int", b"\xacthis:Exceptn")
        with pytest.raises(CodecError):
            Codec(imports=False).decode(data)

        assert "this" not in sys.modules


def decode_or_refuse(data):
    with suppress(CodecError):
        Codec(imports=False).decode(data)


class TestSharing:
    def test_encoding_inside_an_encoding(self):
        """A pickler may itself send something."""

        class Nesting(ByPickle):
            def dump(self, value):
                return codec_with_it.encode([(1,), value.x])

            def load(self, data):
                return codec_with_it.decode(data)

        codec_with_it = Codec(Nesting())

        assert [1, [(1,), 2], 3] == there_and_back([1, Plain(x=2), 3], codec_with_it)

    def test_threads_share_one_codec(self):
        """Each encoding has a packer of its own."""
        shared = Codec()
        wrong = []

        def work(number):
            for _ in range(500):
                term = [(number, Inc(number))] * 5
                if shared.decode(shared.encode(term)) != term:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [] == wrong

    def test_exception_from_a_signal_leaves_no_half_term(self):
        """Whenever it strikes, what is encoded afterwards is whole."""

        class Struck(BaseException):
            """What the handler raises."""

        def strike(*_):
            raise Struck

        shared = Codec()
        term = [(n, {n}) for n in range(3_000)]
        expected = shared.encode((1, 2))
        old = signal.signal(signal.SIGALRM, strike)
        try:
            for delay in range(1, 40):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay * 0.0001)
                    while True:
                        shared.encode(term)
                except Struck:
                    assert expected == shared.encode((1, 2))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)

    def test_large_term_keeps_no_buffer(self):
        """One message of many megabytes must not stay in memory."""
        shared = Codec()
        shared.encode("x" * 1_000_000)

        assert [] == shared._idle
