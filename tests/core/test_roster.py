"""Children in their order, found without a look at the others."""

import gc
import sys

from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.roster import Roster
from otp_runtime.core.supervisor_state import Child
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import Driver, child

IDS = st.one_of(st.integers(0, 5), st.sampled_from(["a", "b", ("a", 1), -1, -2, 1 << 30]))  # -1 and -2 hash alike
PIDS = st.one_of(st.sampled_from([None, "restarting"]), st.integers(1, 4).map(lambda number: Pid("n@h", number, 1)))


def made(id, pid):
    return Child(child(id), pid=pid)


class TestRoster:
    @given(st.lists(st.tuples(st.sampled_from(["add", "put", "drop"]), IDS, PIDS)))
    def test_is_what_a_dict_would_be(self, changes):
        """Whatever is done to it; and every roster on the way stays as it was."""
        roster, model, history = Roster(), {}, []
        for what, id, pid in changes:
            if isinstance(pid, Pid) and any(one.pid == pid for one in model.values()):
                continue
            if what == "drop":
                roster, model = roster.drop(id), {known: one for known, one in model.items() if known != id}
            elif what == "put" and id in model:
                roster, model = roster.put(made(id, pid)), {**model, id: made(id, pid)}
            elif what == "add" and id not in model:
                roster, model = roster.add(made(id, pid)), {**model, id: made(id, pid)}
            history.append((roster, model))

        for roster, model in history:
            assert list(model.values()) == list(roster) == list(reversed(roster))[::-1]
            assert [model.get(id) for _, id, _ in changes] == [roster.get(id) for _, id, _ in changes]
            for number in range(1, 5):
                pid = Pid("n@h", number, 1)
                assert next((one for one in model.values() if one.pid == pid), None) == roster.of_process(pid)
            assert all(list(model.values())[at:] == list(roster.since(id)) for at, id in enumerate(model))
            assert len(model) == len(roster)

    def test_somebody_elses_process(self):
        """A pid of the same number and another incarnation is not found."""
        assert None is Roster.of([made("a", Pid("n@h", 1, 1))]).of_process(Pid("n@h", 1, 2))

    def test_who_is_not_there(self):
        """Is neither put nor dropped."""
        roster = Roster.of([made("a", None)])

        assert roster is roster.put(made("b", None)) is roster.drop("b")


class TestDecision:
    def test_among_many(self):
        """A death and the start that follows take the same steps among ten children and among two thousand."""
        few, many = (self.calls_among(count) for count in (10, 2000))

        assert few == many

    def calls_among(self, count):
        sup = Driver(*(child(number) for number in range(count))).begin()
        calls = 0

        def note(_frame, event, _argument):
            nonlocal calls
            calls += event in {"call", "c_call"}

        # a collection runs what somebody wants to be called at one
        gc.disable()
        sys.setprofile(note)
        try:
            sup.end(count // 2)
            sup.start(count // 2)
        finally:
            sys.setprofile(None)
            gc.enable()
        return calls
