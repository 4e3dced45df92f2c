"""What the end of a task that was shut down means to its owner."""

import pytest

from otp_runtime import TaskExit
from otp_runtime.core.tasks import after_shutdown


class TestAfterShutdown:
    @pytest.mark.parametrize(
        ("how", "reason"), [("shutdown", "shutdown"), ("late_kill", "shutdown"), ("brutal_kill", "killed")]
    )
    def test_an_end_as_sent_is_nothing(self, how, reason):
        """It ended of what its owner did."""
        assert after_shutdown(how, reason) is None

    @pytest.mark.parametrize("how", ["shutdown", "late_kill", "brutal_kill"])
    @pytest.mark.parametrize("reason", ["normal", "noproc", ("shutdown", "x"), "boom", 5, None])
    def test_another_end_is_an_exit(self, how, reason):
        """It had its own reason."""
        assert after_shutdown(how, reason) == TaskExit(reason)

    @pytest.mark.parametrize(("how", "reason"), [("shutdown", "killed"), ("brutal_kill", "shutdown")])
    def test_the_other_way_is_an_exit(self, how, reason):
        """Somebody else did that."""
        assert after_shutdown(how, reason) == TaskExit(reason)

    def test_killed_for_being_late_is_an_exit(self):
        """The owner sees that it did not end when asked."""
        assert after_shutdown("late_kill", "killed") == TaskExit("killed")
