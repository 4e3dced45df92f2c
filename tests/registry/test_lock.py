"""Registry.lock: one at a time, in the order asked, whoever dies."""

import pytest

from otp_runtime import NoProcess, ReceiveTimeout, Registry, process
from otp_runtime.testing import assert_receive
from tests.registry.actors import count_up, hold, lock_and_raise


@pytest.fixture(params=["unique", "duplicate"])
def registry(otp_node, request):
    with Registry.start_link(keys=request.param, name="locks", partitions=2):
        yield "locks"


def holder(registry, key, me, number):
    """A process that asks for a lock; give it when the one before it has been heard of."""
    return process.spawn(hold, registry, key, me, number)


def silent(seconds=0.05):
    """Whether nobody says anything for a moment."""
    try:
        process.receive(tuple, seconds)
    except ReceiveTimeout:
        return True
    return False


class TestLock:
    def test_gives_what_the_function_gives(self, registry):
        """It runs here; the lock is free again afterwards."""
        said = [Registry.lock(registry, ("k", 1), lambda number=number: (process.self(), number)) for number in (1, 2)]

        assert [(process.self(), 1), (process.self(), 2)] == said

    def test_different_keys(self, registry, me):
        """Have nothing to do with each other."""
        for number in range(3):
            holder(registry, f"k{number}", me, number)

        assert {("in", 0), ("in", 1), ("in", 2)} == {assert_receive(tuple, 5.0) for _ in range(3)}

    def test_same_key(self, registry, me):
        """One at a time, in the order asked."""
        first = holder(registry, "k", me, 1)
        seen = [assert_receive(tuple, 5.0)]
        second = holder(registry, "k", me, 2)
        waits = silent()
        process.send(first, "leave")
        seen += sorted(assert_receive(tuple, 5.0) for _ in range(2))
        process.send(second, "leave")

        assert waits
        assert [("in", 1), ("in", 2), ("out", 1), ("out", 2)] == [*seen, assert_receive(tuple, 5.0)]

    def test_not_an_entry(self, registry, me):
        """A key that is registered can be locked, and a lock registers nothing."""
        Registry.register(registry, "k")

        assert (1, 1) == (Registry.lock(registry, "k", lambda: Registry.count(registry)), Registry.count(registry))

    def test_holder_raises(self, registry, me):
        """The exception is the caller's, the lock is free."""
        pid = process.spawn(lock_and_raise, registry, "k", me)
        assert_receive(tuple, 5.0)
        process.send(pid, "raise")
        said = assert_receive(str, 5.0)

        assert ("raised inside", "free") == (said, Registry.lock(registry, "k", lambda: "free"))

    def test_holder_dies(self, registry, me):
        """Whoever waits longest has it then."""
        first = holder(registry, "k", me, 1)
        assert_receive(tuple, 5.0)
        holder(registry, "k", me, 2)
        process.exit(first, "kill")

        assert ("in", 2) == assert_receive(tuple, 5.0)

    def test_who_waits_dies(self, registry, me):
        """And is passed over."""
        first = holder(registry, "k", me, 1)
        assert_receive(tuple, 5.0)
        second = holder(registry, "k", me, 2)
        waits = silent()
        third = holder(registry, "k", me, 3)
        waits = waits and silent()
        process.exit(second, "kill")
        second.wait(5.0)
        process.send(first, "leave")
        heard = {assert_receive(tuple, 5.0) for _ in range(2)}
        process.send(third, "leave")

        assert waits
        assert {("in", 3), ("out", 1)} == heard

    def test_no_registry(self, me):
        """The function is not called."""
        with pytest.raises(NoProcess):
            Registry.lock("nowhere", "k", lambda: pytest.fail("it was called"))

    def test_holds(self, registry, tmp_path):
        """What is done inside is done by nobody else at the same time."""
        path = tmp_path / "number"
        path.write_text("0", encoding="ascii")
        pids = [process.spawn(count_up, str(path), registry, 25) for _ in range(4)]
        for pid in pids:
            pid.wait(10.0)

        assert "100" == path.read_text(encoding="ascii")
