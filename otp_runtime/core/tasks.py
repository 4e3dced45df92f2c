"""Tasks: what a result is, and what the end of a task that was shut down means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    V = TypeVar("V")

__all__ = ["How", "Result", "TaskDone", "TaskExit", "after_shutdown"]


@dataclass(frozen=True, slots=True)
class TaskDone(Generic[V]):
    """The task's function returned `value`."""

    value: V


@dataclass(frozen=True, slots=True)
class TaskExit:
    """The task ended with the exit `reason` instead of a value."""

    reason: Any


Result: TypeAlias = TaskDone[V] | TaskExit

How: TypeAlias = Literal["shutdown", "late_kill", "brutal_kill"]
"""How a task was ended: asked to, killed because it did not end when asked, or killed at once."""

_OURS = {"shutdown": "shutdown", "late_kill": "shutdown", "brutal_kill": "killed"}


def after_shutdown(how: How, reason: object) -> TaskExit | None:
    """Say what the shutdown of a task gives that left no value and ended with `reason`.

    None when it ended of just what it was sent; a task that had to be killed because it did not obey counts as an
    exit, `"killed"`, so that its owner sees that it did not end in order.

    >>> after_shutdown("shutdown", "shutdown"), after_shutdown("brutal_kill", "killed")
    (None, None)
    >>> after_shutdown("late_kill", "killed")
    TaskExit(reason='killed')
    """
    if isinstance(reason, str) and reason == _OURS[how]:
        return None
    return TaskExit(reason)
