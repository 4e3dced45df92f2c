"""What a supervisor core hears and says: events, requests and actions.

`otp_runtime.core.supervision` decides with these and nothing else. All are values: an event
says what happened, a request what somebody asked for, an action what the performer should do.
Each action with an outcome is answered by an event:

===================  ==================================================================
action               answered by
===================  ==================================================================
`StartChild`         one of `ChildStarted`, `ChildIgnored`, `ChildStartFailed`, always
`AbortStart`         the same three: the start it aborts still ends in one of them
`SendExit`, `Kill`   `ChildExited`
`ArmTimer`           `DeadlinePassed`, unless `DisarmTimer` came first
`Retry`              `RetryDue`, when its time has come, and behind every event and request
                     that is queued by then
===================  ==================================================================

`DeadlinePassed` and `ChildExited` may cross an action on its way; a late one is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from otp_runtime.core.child_spec import ChildSpec, ChildType, Strategy
    from otp_runtime.terms.pid import Pid

__all__ = [
    "AbortStart",
    "Action",
    "Answer",
    "ArmTimer",
    "Asked",
    "Begin",
    "ChildCount",
    "ChildExited",
    "ChildIgnored",
    "ChildInfo",
    "ChildStartFailed",
    "ChildStarted",
    "CountChildren",
    "DeadlinePassed",
    "DeleteChild",
    "DisarmTimer",
    "Err",
    "Event",
    "GetChildspec",
    "Kill",
    "Note",
    "Ok",
    "Release",
    "Report",
    "ReportContext",
    "Request",
    "RestartChild",
    "RestartCount",
    "Resumed",
    "Retry",
    "RetryDue",
    "SendExit",
    "StartChild",
    "StartChildRequest",
    "Started",
    "Stop",
    "StopRequested",
    "Suspend",
    "TerminateChild",
    "WhichChildren",
]

ReportContext: TypeAlias = Literal["start_error", "child_terminated", "shutdown_error", "shutdown"]
# Restart number `n` of the `of` that are survived within `seconds`.
RestartCount: TypeAlias = tuple[int, int, float]
# One line of which_children: (id, pid, type).
ChildInfo: TypeAlias = "tuple[Any, Pid | Literal['restarting'] | None, ChildType]"
# The answer of count_children: (specs, active, supervisors, workers).
ChildCount: TypeAlias = tuple[int, int, int, int]


# --- requests: what somebody asks of a supervisor -----------------------------------------


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """List the children; answered by a tuple of `ChildInfo`, last started first."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Count the children; answered by a `ChildCount`."""


@dataclass(frozen=True, slots=True)
class GetChildspec:
    """Give the spec of a child; answered by the `ChildSpec` or `NotFound`."""

    id: Any


@dataclass(frozen=True, slots=True, repr=False)
class StartChildRequest:
    """Add and start a child, last in the order.

    Answered by its pid, None when it ignored, or `AlreadyStarted`, `AlreadyPresent`,
    `StartFailed`. The spec is checked already.
    """

    spec: ChildSpec

    def __repr__(self) -> str:
        # errors show it, and in the spec is a start function as bytes
        return f"StartChildRequest({self.spec.id!r})"


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child and keep its spec (a temporary one's goes); answered by None or `NotFound`."""

    id: Any


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a stopped child; answered as a start, or `NotFound`, `Running`, `Restarting`."""

    id: Any


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget a stopped child; answered by None or `NotFound`, `Running`, `Restarting`."""

    id: Any


@dataclass(frozen=True, slots=True)
class Suspend:
    """Handle nothing more before `Resumed`: neither requests nor deaths; answered by None."""


Request: TypeAlias = (
    WhichChildren
    | CountChildren
    | GetChildspec
    | StartChildRequest
    | TerminateChild
    | RestartChild
    | DeleteChild
    | Suspend
)


# --- events: what happened ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The supervisor runs: start the children."""


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """The start that was asked for is complete: `init` returned, the child is `pid`."""

    id: Any
    pid: Pid


@dataclass(frozen=True, slots=True)
class ChildIgnored:
    """The start that was asked for is complete, and there is no process: `init` ignored."""

    id: Any


@dataclass(frozen=True, slots=True)
class ChildStartFailed:
    """The start that was asked for failed, and nothing of it is left alive."""

    id: Any
    reason: Any


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A process that had started is dead."""

    pid: Pid
    reason: Any


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The timer armed for `pid` ran out."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The retry asked for with `Retry` has reached the head of the queue."""

    id: Any


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody sent a request; `tag` is whatever the performer needs to answer it."""

    tag: Any
    request: Request


@dataclass(frozen=True, slots=True)
class Resumed:
    """Go on after `Suspend`, however often that was asked."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The supervisor has to end with `reason`: its parent's exit signal, or a stop call."""

    reason: Any


Event: TypeAlias = (
    Begin
    | ChildStarted
    | ChildIgnored
    | ChildStartFailed
    | ChildExited
    | DeadlinePassed
    | RetryDue
    | Asked
    | Resumed
    | StopRequested
)


# --- actions: what the performer should do --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ok:
    """The request was granted."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Err:
    """The request was refused; `error` is raised in the caller."""

    error: Exception


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start a process for this spec, linked."""

    id: Any
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class AbortStart:
    """Kill the start that is under way, whatever it is doing."""

    id: Any


@dataclass(frozen=True, slots=True)
class SendExit:
    """Send an exit signal."""

    pid: Pid
    reason: Any


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process untrappably; its reason becomes `"killed"`."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Report `DeadlinePassed(pid)` in `seconds`."""

    pid: Pid
    seconds: float


@dataclass(frozen=True, slots=True)
class DisarmTimer:
    """The timer of `pid` is of no more interest."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Retry:
    """Report `RetryDue(id)` in `after` seconds, and after what is queued by then."""

    id: Any
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """The child is not coming back after all: nobody shall wait for its name."""

    id: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the request that came with `tag`."""

    tag: Any
    result: Ok | Err


@dataclass(frozen=True, slots=True)
class Report:
    """Write a supervisor report.

    Attributes:
        context: `"start_error"` (a child did not start), `"child_terminated"` (it ended and
            that is worth a line), `"shutdown_error"` (it did not stop as it should have),
            `"shutdown"` (the supervisor gives up).
        child_id: The child it is about.
        pid: Its process, or None when there is none (any more).
        reason: Its exit or start reason; `"reached_max_restart_intensity"` with `"shutdown"`.
        restart: With a restart: its number, of how many, in how many seconds; else None.
        strategy: The supervisor's.
        siblings: Ids of other children that are stopped and started because of it.
        wait: Seconds until it is started again: what its `backoff` says.
        because: With `"shutdown_error"`: id of the sibling for whose restart it was stopped; else None.
    """

    context: ReportContext
    child_id: Any
    pid: Pid | None
    reason: Any
    restart: RestartCount | None
    strategy: Strategy | None
    siblings: tuple[Any, ...] = ()
    wait: float = 0.0
    because: Any = None


@dataclass(frozen=True, slots=True)
class Note:
    """Keep on record, and report to nobody, that a child was stopped for the restart of a sibling.

    Attributes:
        child_id: The child.
        pid: Its process.
        reason: Its exit reason.
        strategy: The supervisor's.
        because: Id of the sibling whose end began it.
    """

    child_id: Any
    pid: Pid
    reason: Any
    strategy: Strategy
    because: Any


@dataclass(frozen=True, slots=True)
class Started:
    """Every child is started: the supervisor's own start is complete."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Everything is down: exit with `reason`."""

    reason: Any


Action: TypeAlias = (
    StartChild
    | AbortStart
    | SendExit
    | Kill
    | ArmTimer
    | DisarmTimer
    | Retry
    | Release
    | Answer
    | Report
    | Note
    | Started
    | Stop
)
