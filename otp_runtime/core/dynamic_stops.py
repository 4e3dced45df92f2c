"""How a dynamic supervisor's children are stopped: one that is to be terminated, or all, at its end.

Also what a `Turn` of it is, and how what was under way is left.
"""

from __future__ import annotations

from typing import Any

from otp_runtime.core import turns
from otp_runtime.core.dynamic_state import Child, Ended, Halting, Idle, Starting, State, Stopping
from otp_runtime.core.persistent import Queue, Table, evolve
from otp_runtime.core.stopping import ended_as_told, stop_actions
from otp_runtime.core.supervisor_messages import Answer, ArmTimer, DisarmTimer, Ok, Release

__all__ = ["Turn", "done", "halt", "stopped", "terminate", "told_to_stop"]


class Turn(turns.Turn[State]):
    """One step of a dynamic supervisor in the making."""

    __slots__ = ()

    def put(self, child: Child) -> None:
        """Have this child, in the place of who was known by its process."""
        self.change(children=self.state.children.put(child.pid.id, child))

    def drop(self, child: Child) -> None:
        """Forget a child."""
        self.change(children=self.state.children.drop(child.pid.id))


def terminate(turn: Turn, tag: Any, child: Child) -> None:
    """Stop one child, for a caller who asked for it under `tag`."""
    if child.restarting or child.ended is not None:
        _down_already(turn, child)
        turn.do(Answer(tag, Ok()))
        return
    turn.put(told_to_stop(turn, child))
    turn.change(phase=Stopping(child.pid, tag))


def halt(turn: Turn, reason: object, under_way: Starting | Stopping | None = None) -> None:
    """Stop all children at once, and then the supervisor."""
    stopping = under_way.pid if isinstance(under_way, Stopping) else None
    left: dict[int, Child] = {}
    for child in turn.state.children.values():
        if child.pid == stopping:
            left[child.pid.id] = child
        elif child.restarting or child.ended is not None:
            _report_end(turn, child)
        else:
            left[child.pid.id] = told_to_stop(turn, child)
    turn.change(children=Table.of(left), backlog=Queue(), phase=Halting(reason, under_way))


def told_to_stop(turn: Turn, child: Child) -> Child:
    """Tell a child to stop; give it as it is now."""
    actions = stop_actions(child.spec, child.pid)
    turn.do(*actions)
    return evolve(child, timed=any(isinstance(action, ArmTimer) for action in actions))


def stopped(turn: Turn, child: Child, reason: object) -> None:
    """A child that was told to stop has ended."""
    if child.timed:
        turn.do(DisarmTimer(child.pid))
    _report_end(turn, evolve(child, ended=Ended(reason)))
    turn.drop(child)


def done(turn: Turn) -> None:
    """What was under way is done; a stop is answered."""
    match turn.state.phase:
        case Halting() as halting:
            if isinstance(halting.under_way, Stopping):
                turn.do(Answer(halting.under_way.tag, Ok()))
            turn.change(phase=evolve(halting, under_way=None))
        case Stopping(_pid, tag):
            turn.do(Answer(tag, Ok()))
            turn.change(phase=Idle())
        case _:
            turn.change(phase=Idle())


def _down_already(turn: Turn, child: Child) -> None:
    """There is no process (any more) to be stopped."""
    _report_end(turn, child)
    turn.drop(child)
    turn.do(Release(child.pid))


def _report_end(turn: Turn, child: Child) -> None:
    if child.ended is not None and not ended_as_told(child.spec, child.ended.reason):
        turn.report("shutdown_error", child.spec.id, child.pid, child.ended.reason)
