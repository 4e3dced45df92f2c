"""When a child is started again, and when a supervisor has had enough.

Two rules, both OTP's:

- *Which end is followed by a restart* depends on the restart type alone:

  ============  ====================  ===============
  restart       normal or shutdown    any other reason
  ============  ====================  ===============
  permanent     restart               restart
  transient     no                    restart
  temporary     no                    no
  ============  ====================  ===============

- *How many restarts are too many*: a supervisor survives `max_restarts` of them within
  `max_seconds`; the next one ends it. All children share one list of stamps, no success
  clears it, and a failed attempt counts as much as a good one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from otp_runtime.core.child_spec import Restart

__all__ = ["Intensity", "add_restart", "should_restart"]


@dataclass(frozen=True, slots=True)
class Intensity:
    """What one more restart means: `allowed`, or one too many; and the stamps to keep."""

    allowed: bool
    restarts: tuple[float, ...]


def should_restart(restart_type: Restart, reason: object) -> bool:
    """Whether a child of `restart_type` that ended by itself with `reason` is started again."""
    match restart_type:
        case "permanent":
            return True
        case "transient":
            return is_abnormal(reason)
        case "temporary":
            return False
        case _:
            assert_never(restart_type)


def add_restart(restarts: tuple[float, ...], now: float, max_restarts: int, max_seconds: float) -> Intensity:
    """Count one more restart at `now`; stamps and `now` are monotonic seconds, newest first.

    The window is inclusive: a stamp that is exactly `max_seconds` old still counts. OTP
    compares whole seconds, which makes its window up to a second longer; here fractions
    count, so `max_seconds=0.5` means what it says.
    """
    kept = tuple(stamp for stamp in restarts if now - stamp <= max_seconds)
    stamps = (now, *kept)
    return Intensity(len(stamps) <= max_restarts, stamps)
