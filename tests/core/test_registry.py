"""What a registry's table holds: which keys are the same, what each record does, and a log written anew."""

from dataclasses import dataclass
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otp_runtime.core import registry as core
from otp_runtime.core.registry import Entries, canonical
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Pid

CODEC = Codec()


class Colour(StrEnum):
    RED = "red"


@dataclass
class Room:
    floor: int
    tags: list


def pid_of(number):
    return Pid("n@h", number, 1)


def enc(term):
    return CODEC.encode(term)


def put(process, key, value=None, **flags):
    return core.put(process, enc(key), enc(value), **flags)


def replace(process, key, *values):
    return core.replace(process, enc(key), [enc(value) for value in values])


def played(*records, **options):
    entries = Entries(CODEC.decode, pid_of, **options)
    entries.feed(b"".join(records))
    return entries


def shown(entries):
    """The entries as `(key, process, value)`, in the order in which they lie."""
    return [(one.key, one.process, one.read()[1]) for under in entries.under.values() for one in under]


class TestCanonical:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 1.0),
            (1, True),
            (0, False),
            ((1,), (1.0,)),
            ((1,), [1]),
            ("a", b"a"),
            ("red", Colour.RED),
            (None, "None"),
            ({1}, frozenset({1})),
            ({"a": 1}, {"a": True}),
        ],
    )
    def test_different(self, one, other):
        """What differs in type is another key, however deep, though Python finds it equal."""
        assert canonical(one) != canonical(other)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: [1, [2]],
            lambda: {"a": [1], "b": {2}},
            lambda: dict(reversed(list({"a": [1], "b": {2}}.items()))),
            lambda: Room(3, ["x"]),
            lambda: (Room(3, [{}]), ...),
        ],
    )
    def test_what_cannot_be_hashed(self, make):
        """Lists, dicts, sets and mutable dataclasses are keys as well."""
        assert hash(canonical(make())) == hash(canonical(make()))
        assert canonical(make()) == canonical(make())

    def test_the_order_of_a_dict(self):
        """Does not make another key."""
        assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})

    def test_no_data(self):
        """What cannot be compared is refused, with its type."""

        class Odd:
            __hash__ = None

        with pytest.raises(TypeError, match="Odd"):
            canonical(("a", Odd()))

    @settings(max_examples=40)
    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of).map(tuple)))
    def test_survives_the_wire(self, key):
        """The key that arrives is the key that was sent."""
        assert canonical(CODEC.decode(enc(key))) == canonical(key)


class TestFeed:
    def test_put(self):
        """One more entry, also of the same process under the same key."""
        entries = played(put(1, "k", "a"), put(1, "k", "b"), put(2, "k", "c"))

        assert [("k", 1, "a"), ("k", 1, "b"), ("k", 2, "c")] == shown(entries)

    def test_replace(self):
        """All entries of the process under that key, and no others."""
        entries = played(put(1, "k", "a"), put(1, "k", "b"), put(2, "k", "c"), put(1, "l", "d"), replace(1, "k", "z"))

        assert {("k", 2, "c"), ("k", 1, "z"), ("l", 1, "d")} == set(shown(entries))

    def test_replace_by_nothing(self):
        """Leaves nothing of key and process behind."""
        entries = played(put(1, "k"), replace(1, "k"))

        assert ({}, {}) == (entries.under, entries.of)

    def test_gone(self):
        """All entries of a process, under whatever key."""
        entries = played(put(1, "k"), put(1, ("l", 1)), put(2, "k"), core.gone(1))

        assert [("k", 2, None)] == shown(entries)

    def test_a_name_stays_one(self):
        """A new value leaves an entry the name that it is."""
        entries = played(put(1, "k", 1, named=True), replace(1, "k", 2))

        assert [True] == [one.named for one in entries.under["k"]]

    def test_readers_keep_what_they_hold(self):
        """A key's entries are a tuple: what was read stays as it was."""
        entries = played(put(1, "k"))
        before = entries.under["k"]
        entries.feed(put(2, "k") + core.gone(1))

        assert [1] == [one.process for one in before]
        assert [2] == [one.process for one in entries.under["k"]]

    def test_metadata(self):
        """Is kept by key, the last value counts."""
        entries = played(
            core.meta(enc("a"), enc(1)), core.meta(enc("a"), enc(2)), core.meta(enc(2), enc(3)), core.unmeta(enc(2))
        )

        assert ((2,), None) == (entries.meta("a"), entries.meta(canonical(2)))

    def test_a_key_of_an_unknown_class(self):
        """Is in nobody's way: it counts, and goes with its process."""
        strange = core.put(1, b"\xc1", enc(None))
        entries = played(strange, put(2, "k"))

        assert {1, 2} == set(entries.of)
        assert [("k", 2, None)] == shown(played(strange, put(2, "k"), core.gone(1)))

    def test_blind(self):
        """Keys are not opened, and records do what they do."""
        entries = played(put(1, "k"), put(2, "k"), replace(1, "k"), put(3, "l"), core.gone(3), blind=True)

        assert [2] == list(entries.of)


class TestValue:
    def test_of_what_cannot_change(self):
        """Is decoded once."""
        (entry,) = played(put(1, "k", ("a", 1, None))).under["k"]

        assert entry.read() is entry.read()

    def test_of_what_can_change(self):
        """Is everybody's own."""
        (entry,) = played(put(1, "k", ("a", [1]))).under["k"]
        entry.read()[1][1].append(2)

        assert ("a", [1]) == entry.read()[1]


class TestHolder:
    def test_nobody(self):
        """A key that nobody has."""
        assert core.holder(played(), "k", lambda _process: False) is None

    @pytest.mark.parametrize("is_dead", [True, False])
    def test_somebody(self, is_dead):
        """Alive or not."""
        found = core.holder(played(put(1, "k")), "k", lambda _process: is_dead)

        assert (1, not is_dead) == (found.entry.process, found.is_alive)


class TestPack:
    def test_only_what_is_kept(self):
        """Entries as the function says, metadata and configuration always."""
        entries = played(core.config(enc(["l"])), put(1, "k"), put(2, "k"), core.meta(enc("m"), enc(1)))
        again = played(entries.pack(lambda entry: entry.process == 2))

        assert ([("k", 2, None)], (1,), ["l"]) == (shown(again), again.meta("m"), again.config())

    def test_blind_as_well(self):
        """Who looks after a table without opening keys writes the same log."""
        records = put(1, "k", [1], named=True), put(2, ("l", 1.0)), put(1, "m")

        assert played(*records).pack(lambda _one: True) == played(*records, blind=True).pack(lambda _one: True)

    def test_without_a_process(self):
        """The records with which it leaves, but for what is kept."""
        entries = played(put(1, "k", named=True), put(1, "l"), put(2, "k"))
        entries.feed(entries.without(1, lambda entry: entry.named))

        assert {("k", 1, None), ("k", 2, None)} == set(shown(entries))
        assert entries.without(1, lambda entry: entry.named) == entries.without(3, lambda _entry: False) == b""


changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3), st.sampled_from(["a", 1, 1.0, ("a", 1)]), st.integers(0, 3)),
        st.tuples(
            st.just("replace"), st.integers(1, 3), st.sampled_from(["a", 1, 1.0, ("a", 1)]), st.lists(st.integers(0, 3))
        ),
        st.tuples(st.just("gone"), st.integers(1, 3)),
    ),
    max_size=30,
)


class TestAnyLog:
    @settings(max_examples=50)
    @given(changes, st.lists(st.integers(0, 30), max_size=5))
    def test_does_what_a_list_would(self, log, cuts):
        """However it is cut into pieces, and written anew it means the same."""
        entries, model = Entries(CODEC.decode, pid_of), []
        pieces, piece = [], b""
        for number, change in enumerate(log):
            if number in cuts:
                pieces.append(piece)
                piece = b""
            match change:
                case "put", process, key, value:
                    piece += put(process, key, value)
                    model.append((process, repr(key), value))
                case "replace", process, key, values:
                    piece += replace(process, key, *values)
                    model = [one for one in model if one[:2] != (process, repr(key))]
                    model += [(process, repr(key), value) for value in values]
                case "gone", process:
                    piece += core.gone(process)
                    model = [one for one in model if one[0] != process]
        for one in [*pieces, piece]:
            entries.feed(one)
        again = played(entries.pack(lambda _entry: True))

        for found in (entries, again):
            assert sorted(model) == sorted((process, repr(key), value) for key, process, value in shown(found))
            by_process = [one for mine in found.of.values() for one in mine]
            assert len(by_process) == len(model)
