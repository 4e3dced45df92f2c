"""The list of an event manager's handlers."""

from otp_runtime.core.event_handlers import Entry, added, find, next_key, replaced, split, supervised_by, without

A = Entry(1, int, None, "a")
B = Entry(2, int, "b", "b", supervisor=7)
C = Entry(3, int, None, "c", supervisor=8)
ALL = (C, B, A)


class TestNames:
    def test_a_class_or_a_class_and_an_id(self):
        assert (int, (int, "b")) == (A.name, B.name)
        assert ((int, None), (int, "b")) == (split(int), split((int, "b")))

    def test_find_gives_the_newest(self):
        """The same name may be there twice."""
        assert (C, B, None, None) == (find(ALL, int), find(ALL, (int, "b")), find(ALL, (int, "x")), find(ALL, str))


class TestList:
    def test_added_comes_first(self):
        assert ALL == added(added(added((), A), B), C)

    def test_without_takes_one_entry(self):
        """Not all of its name."""
        assert (B, A) == without(ALL, C)

    def test_replaced_stays_in_its_place(self):
        new = Entry(9, str, None, "new")

        assert (C, new, A) == replaced(ALL, B, new)

    def test_supervised_by(self):
        assert ((B,), ()) == (supervised_by(ALL, 7), supervised_by(ALL, 9))

    def test_next_key_is_nobodys(self):
        assert (1, 4) == (next_key(()), next_key(ALL))
