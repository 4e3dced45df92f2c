"""Pids and references: values that are equal wherever they were made."""

import asyncio
import copy
import pickle

import pytest

from otp_runtime.terms import pid as pid_module
from otp_runtime.terms.pid import Global, Pid, Ref, Remote, Via, install_pid_services


class Services:
    """Notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def os_pid(self, pid):
        return 1000 + pid.id

    def wait(self, pid, timeout):
        return ("waited", timeout)

    async def wait_async(self, pid, timeout):
        return ("awaited", timeout)

    def enter(self, pid):
        self.asked.append(("enter", pid))

    def leave(self, pid, exc):
        self.asked.append(("leave", pid, exc))

    async def leave_async(self, pid, exc):
        self.asked.append(("leave_async", pid, exc))


@pytest.fixture
def services(monkeypatch):
    monkeypatch.setattr(pid_module, "pid_services", None)
    installed = Services()
    install_pid_services(installed)
    return installed


VALUES = [Pid("n@h", 12, 1), Ref("n@h", 1, 12, 7)]


@pytest.mark.parametrize("value", VALUES, ids=repr)
class TestValue:
    def test_equal_when_made_again(self, value):
        """Copies and pickles are equal and have the same hash."""
        for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - its own bytes
            assert value == other
            assert hash(value) == hash(other)

    def test_cannot_be_changed(self, value):
        """Fields can be neither set nor deleted, and none added."""
        with pytest.raises(AttributeError, match="immutable"):
            value.id = 3
        with pytest.raises(AttributeError, match="immutable"):
            del value.node
        with pytest.raises(AttributeError, match="immutable"):
            value.more = 3

    def test_differs_from_other_types(self, value):
        """Comparison with anything else is not an error."""
        assert value != 12
        assert value not in [None, "x", object()]


class TestPid:
    def test_repr_names_id_and_node(self):
        """As short as Erlang's."""
        assert "<12@n@h>" == repr(Pid("n@h", 12, 1))

    @pytest.mark.parametrize("other", [Pid("m@h", 12, 1), Pid("n@h", 13, 1), Pid("n@h", 12, 2)])
    def test_each_field_counts(self, other):
        """Two pids are equal only when node, id and incarnation are."""
        assert Pid("n@h", 12, 1) != other

    def test_order_is_by_node_then_incarnation_then_id(self):
        """Pids of one node sort in the order they were made."""
        expected = [Pid("a", 9, 1), Pid("b", 5, 1), Pid("b", 6, 1), Pid("b", 1, 2)]

        assert expected == sorted([expected[2], expected[3], expected[0], expected[1]])
        assert expected[0] <= expected[1]
        assert expected[1] > expected[0]

    def test_without_a_runtime_it_says_so(self, monkeypatch):
        """A pid in a process that runs no library code can only be looked at."""
        monkeypatch.setattr(pid_module, "pid_services", None)

        with pytest.raises(RuntimeError, match="no runtime in this process"):
            Pid("n@h", 12, 1).wait()

    def test_os_pid_and_wait_ask_the_services(self, services):
        """What a pid can do is done by the floor that knows processes."""
        pid = Pid("n@h", 12, 1)

        assert 1012 == pid.os_pid
        assert ("waited", None) == pid.wait()
        assert ("waited", 2.0) == pid.wait(timeout=2.0)
        assert ("awaited", 1.0) == asyncio.run(pid.await_(1.0))

    def test_with_block_enters_and_leaves(self, services):
        """The block gets the pid; leaving without exception passes None."""
        pid = Pid("n@h", 12, 1)
        with pid as inside:
            assert pid is inside

        assert [("enter", pid), ("leave", pid, None)] == services.asked

    def test_with_block_passes_the_exception_on(self, services):
        """What the block raised is told to `leave` and is not swallowed."""
        error = ValueError("x")
        with pytest.raises(ValueError, match="x"), Pid("n@h", 12, 1):
            raise error

        assert error is services.asked[-1][2]

    def test_async_with_block_leaves_asynchronously(self, services):
        """`async with` waits for the end without blocking the loop."""

        async def block():
            async with Pid("n@h", 12, 1) as inside:
                return inside

        pid = asyncio.run(block())

        assert [("enter", pid), ("leave_async", pid, None)] == services.asked


class TestRef:
    def test_repr_names_maker_and_serial(self):
        """As short as Erlang's."""
        assert "#Ref<12.7@n@h>" == repr(Ref("n@h", 1, 12, 7))

    @pytest.mark.parametrize(
        "other",
        [Ref("m@h", 1, 12, 7), Ref("n@h", 2, 12, 7), Ref("n@h", 1, 13, 7), Ref("n@h", 1, 12, 8)],
    )
    def test_each_field_counts(self, other):
        """Two references are equal only when all four fields are."""
        assert Ref("n@h", 1, 12, 7) != other

    def test_is_ordered(self):
        """References of one process sort in the order they were made."""
        assert Ref("n@h", 1, 12, 7) < Ref("n@h", 1, 12, 8)


class TestServerRef:
    def test_other_references_are_values(self):
        """`Global`, `Via` and `Remote` are hashable and equal by their fields."""
        refs = {Global("x"), Global("x"), Via(dict, "k"), Remote("x", "n@h")}

        assert 3 == len(refs)
