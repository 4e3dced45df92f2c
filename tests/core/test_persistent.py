"""Values that share with older ones what did not change."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.persistent import Queue, Table, evolve

KEYS = st.one_of(st.integers(0, 20), st.sampled_from([4096, 8192, 4097, 2**63 - 1]))


class TestTable:
    @given(st.lists(st.tuples(KEYS, st.one_of(st.none(), st.text(max_size=2)))))
    def test_is_what_a_dict_would_be(self, changes):
        """`put` with a value, `drop` without one; every table on the way stays as it was."""
        table, model, history = Table(), {}, []
        for key, value in changes:
            if value is None:
                table, model = table.drop(key), {one: kept for one, kept in model.items() if one != key}
            else:
                table, model = table.put(key, value), {**model, key: value}
            history.append((table, model))

        for table, model in history:
            assert [model[key] for key in sorted(model)] == list(table.values())
            assert len(model) == len(table)
            assert all(model.get(key) == table.get(key) for key, _ in changes)

    def test_is_equal_by_its_items(self):
        """However it was made."""
        assert Table.of({1: "a", 5000: "b"}) == Table().put(5000, "b").put(2, "c").put(1, "a").drop(2)
        assert Table.of({1: "a", 4097: "b"}) == Table().put(4097, "c").put(1, "a").put(4097, "b")

    def test_empty_is_false(self):
        """As any collection."""
        assert not Table()
        assert Table().put(0, None)


class TestQueue:
    @given(st.lists(st.one_of(st.none(), st.integers())))
    def test_first_in_first_out(self, changes):
        """A number is pushed, None takes the first."""
        queue, model = Queue(), []
        for value in changes:
            if value is not None:
                queue, model = queue.push(value), [*model, value]
            elif model:
                first, queue = queue.pop()
                assert model.pop(0) == first

        assert model == list(queue)
        assert bool(model) == bool(queue)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


class TestEvolve:
    def test_the_fields_that_are_given(self):
        """Change, and no other; the value itself does not."""
        point = Point(1, 2)

        assert (evolve(point, y=3), point) == (Point(1, 3), Point(1, 2))

    def test_as_of_any_dataclass(self):
        """It gives what the standard library gives."""
        assert evolve(Point(1), x=5) == replace(Point(1), x=5)

    def test_a_field_that_is_not_there(self):
        """Is an error, as it is in the standard library."""
        with pytest.raises(TypeError, match="z"):
            evolve(Point(1), z=5)
