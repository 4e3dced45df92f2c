"""How a child is stopped, and which ends are good ones."""

import pytest

from otp_runtime.core.stopping import ended_as_told, stop_actions
from otp_runtime.core.supervisor_messages import ArmTimer, Kill, SendExit
from otp_runtime.terms.pid import Pid
from tests.core.supervisor_driver import child

PID = Pid("test@host", 1, 1)


class TestStopActions:
    @pytest.mark.parametrize(
        ("shutdown", "actions"),
        [
            ("brutal_kill", (Kill(PID),)),
            (None, (SendExit(PID, "shutdown"),)),
            (0.0, (SendExit(PID, "shutdown"), ArmTimer(PID, 0.0))),
        ],
    )
    def test_shutdown_says_how(self, shutdown, actions):
        """Kill at once, ask and wait for ever, or ask and wait so long."""
        assert actions == stop_actions(child("a", shutdown=shutdown), PID)


class TestEndedAsTold:
    @pytest.mark.parametrize(
        ("restart", "shutdown", "reason", "good"),
        [
            ("permanent", 5.0, "shutdown", True),
            ("permanent", 5.0, "normal", False),
            ("permanent", 5.0, ("shutdown", "x"), False),
            ("permanent", 5.0, "killed", False),
            ("transient", 5.0, "normal", True),
            ("temporary", 5.0, ("shutdown", "x"), True),
            ("temporary", 5.0, "boom", False),
            ("permanent", "brutal_kill", "killed", True),
            ("permanent", "brutal_kill", "shutdown", False),
            ("transient", "brutal_kill", "normal", True),
            ("transient", "brutal_kill", "boom", False),
        ],
    )
    def test_end_is_judged_by_what_it_was_told(self, restart, shutdown, reason, good):
        """Others are reported as `shutdown_error`."""
        assert good is ended_as_told(child("a", restart, shutdown=shutdown), reason)
