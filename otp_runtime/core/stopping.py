"""How one child is stopped, and whether it ended as it was told to.

Shared by the static and the dynamic supervisor. The ladder is OTP's: a child with a budget
gets the exit signal `"shutdown"` and is killed when the budget is spent; None waits for ever;
`"brutal_kill"` kills at once. After the kill the wait has no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp_runtime.core.supervisor_messages import ArmTimer, Kill, SendExit
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from otp_runtime.core.child_spec import ChildSpec
    from otp_runtime.terms.pid import Pid

__all__ = ["ended_as_told", "stop_actions"]


def stop_actions(spec: ChildSpec, pid: Pid) -> tuple[SendExit | ArmTimer | Kill, ...]:
    """Say what starts the stop of `pid`; with an `ArmTimer` among it the stop is timed."""
    if isinstance(spec.shutdown, str):
        return (Kill(pid),)
    if spec.shutdown is None:
        return (SendExit(pid, "shutdown"),)
    return (SendExit(pid, "shutdown"), ArmTimer(pid, spec.shutdown))


def ended_as_told(spec: ChildSpec, reason: object) -> bool:
    """Whether `reason` is a good end for a child that was stopped; else it is reported.

    Good is `"killed"` after a brutal kill and `"shutdown"` otherwise; for a child that may end
    by itself (transient, temporary) every reason that is not abnormal is. Having to be killed
    after the budget is no good end, and neither is having died of something else before.
    """
    if spec.restart != "permanent" and not is_abnormal(reason):
        return True
    told = "killed" if spec.shutdown == "brutal_kill" else "shutdown"
    return isinstance(reason, str) and reason == told
