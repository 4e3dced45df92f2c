"""DynamicSupervisor as processes: children that come and go."""

import pytest

from otp_runtime import (
    ChildCount,
    ChildInfo,
    DynamicSupervisor,
    MaxChildren,
    NotFound,
    process,
)
from otp_runtime.testing import sigkill
from tests.supervision.watching import restart


@pytest.fixture
def top(me):
    """A dynamic supervisor that gives up late."""
    with DynamicSupervisor.start_link(max_restarts=10_000_000) as pid:
        yield pid


def pids(sup):
    return [one.pid for one in DynamicSupervisor.which_children(sup)]


class TestStartChild:
    def test_is_started_and_listed_by_its_pid(self, top, record):
        """Two children may have the same id."""
        a = DynamicSupervisor.start_child(top, record.spec("a", id="same"))
        b = DynamicSupervisor.start_child(top, record.spec("b", id="same"))

        assert [a, b] == [process.whereis("a"), process.whereis("b")]
        assert DynamicSupervisor.which_children(top) == [ChildInfo(None, a, "worker"), ChildInfo(None, b, "worker")]

    def test_a_permanent_child_is_restarted(self, top, record):
        """Under another pid."""
        DynamicSupervisor.start_child(top, record.spec("a"))
        pid = restart("a")

        assert [pid] == pids(top)

    def test_a_temporary_child_is_forgotten(self, top, record):
        """When it is dead."""
        DynamicSupervisor.start_child(top, record.spec("a", restart="temporary"))
        sigkill("a")

        assert [] == pids(top)
        assert ChildCount(0, 0, 0, 0) == DynamicSupervisor.count_children(top)

    def test_more_than_max_children_are_refused(self, record):
        """With the limit; there is room again when one is gone."""
        with DynamicSupervisor.start_link(max_children=1) as top:
            pid = DynamicSupervisor.start_child(top, record.spec("a"))
            with pytest.raises(MaxChildren) as error:
                DynamicSupervisor.start_child(top, record.spec("b"))
            DynamicSupervisor.terminate_child(top, pid)
            DynamicSupervisor.start_child(top, record.spec("b"))

            assert error.value.limit == 1
            assert [process.whereis("b")] == pids(top)


class TestTerminateChild:
    def test_stops_and_forgets_it(self, top, record):
        """A second time there is no such child."""
        pid = DynamicSupervisor.start_child(top, record.spec("a"))
        DynamicSupervisor.terminate_child(top, pid)
        with pytest.raises(NotFound):
            DynamicSupervisor.terminate_child(top, pid)

        assert ["start a", "stop a shutdown"] == record.take()
