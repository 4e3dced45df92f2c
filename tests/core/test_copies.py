"""Copies: what scopes tell each other makes them know the same, whatever was lost while they could not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.copies import PIECE_BYTES, Change, Copies, pieces, read
from otp_runtime.terms.pid import Pid

HERE = Pid("a@host", 2, 1)
GROUPS = ("g", "h")


def group_of(data):
    return data.decode(), data.decode()


def changes(joined, left=()):
    """One change for each group that has members in `joined` or `left`, lists of `(group, id, value)`."""
    sides = {group: ([], []) for group in GROUPS}
    for number, side in enumerate((left, joined)):
        for group, one, value in side:
            sides[group][number].append((Pid("a@host", one, 1), value))
    return [Change(group, group, tuple(gone), tuple(come)) for group, (gone, come) in sides.items() if gone or come]


def over_the_wire(items):
    """Give them as they arrive, in pieces."""
    return [
        read(HERE, piece, group_of)
        for piece in pieces((change.group.encode(), change.left, change.joined) for change in items)
    ]


def known(copies):
    return Counter((group, pid.id, value) for group in GROUPS for pid, value in copies.under(group))


MEMBERS = st.tuples(st.sampled_from(GROUPS), st.integers(1, 3), st.sampled_from([b"", b"x"]))
STEPS = st.lists(st.tuples(st.sampled_from(["join", "leave", "cut", "heal"]), MEMBERS), max_size=30)


class TestCopies:
    @given(STEPS)
    def test_two_know_the_same(self, steps):
        """Deltas in order, HELLO after every cut: then the copies are what the owner has, and so is what was told."""
        owned, copies, told, is_cut = Counter(), Copies(), Counter(), True
        for what, member in [*steps, ("heal", None)]:
            happened = []
            if what == "heal":
                is_cut = False
                parts = over_the_wire(changes(owned.elements()))
                for number, part in enumerate(parts):
                    last = number == len(parts) - 1
                    happened += copies.hello(HERE, part, is_first=number == 0, is_last=last)
            elif what == "cut":
                is_cut = True
                happened = copies.lost(HERE)
            elif what == "join" or owned[member]:
                owned[member] += 1 if what == "join" else -1
                said = changes([member]) if what == "join" else changes([], [member])
                for part in over_the_wire(said):
                    happened += [] if is_cut else copies.delta(HERE, part)
            for change in happened:
                told.update((change.index, pid.id, value) for pid, value in change.joined)
                told.subtract((change.index, pid.id, value) for pid, value in change.left)

        assert +owned == known(copies) == +told
        assert not any(count < 0 for count in told.values())

    def test_delta_of_a_stranger(self):
        """Counts only after a HELLO."""
        copies = Copies()

        assert [] == copies.delta(HERE, changes([("g", 1, b"")]))
        assert [] == copies.scopes()

    def test_hello_in_parts(self):
        """Nothing of it is there before the last; a new first part forgets what was not finished."""
        copies = Copies()
        copies.hello(HERE, changes([("g", 1, b"")]), is_last=False)
        assert [] == copies.under("g")
        copies.hello(HERE, changes([("g", 2, b"")]), is_last=False)
        copies.hello(HERE, changes([("g", 3, b"")]), is_first=False)

        assert [2, 3] == [pid.id for pid, _value in copies.under("g")]


class TestPieces:
    def test_are_of_limited_size(self):
        """However much there is; together they are all of it."""
        items = [("g", number, b"x" * 1000) for number in range(1, 200)]
        arrived = over_the_wire(changes(items))

        assert len(arrived) > 2
        assert all(
            sum(len(value) for one in part for _pid, value in one.joined) < PIECE_BYTES + 2000 for part in arrived
        )
        assert items == [("g", pid.id, value) for part in arrived for one in part for pid, value in one.joined]

    def test_of_nothing(self):
        """One, empty: that too is said."""
        assert [[]] == list(pieces([]))


class TestRead:
    def test_nonsense(self):
        """Is None."""
        for said in (
            None,
            [1],
            [[b"g", [], [[0, b""]]]],
            [[b"g", [], [[True, b""]]]],
            [["g", [], []]],
            [[b"g", [[1]], []]],
        ):
            assert read(HERE, said, group_of) is None

    def test_a_group_that_cannot_be_read(self):
        """Is left out."""
        assert [] == read(HERE, [[b"g", [], [[1, b""]]]], lambda _data: None)
