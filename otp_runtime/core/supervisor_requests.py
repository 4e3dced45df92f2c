"""What a supervisor does about a request: each becomes a plan whose last step is the answer.

A request is looked at only when the supervisor is idle, so the children are what they seem:
running, stopped (`pid` None) or `"restarting"`. A child that died and whose death is still in
the backlog, behind this request, counts as running, as it does in OTP.
"""

from __future__ import annotations

from typing import Any, assert_never

from otp_runtime.core.child_spec import ChildSpec, check_child_spec
from otp_runtime.core.persistent import evolve
from otp_runtime.core.supervisor_messages import (
    Answer,
    ChildCount,
    ChildInfo,
    CountChildren,
    DeleteChild,
    Err,
    GetChildspec,
    Ok,
    Request,
    RestartChild,
    StartChildRequest,
    Suspend,
    TerminateChild,
    WhichChildren,
)
from otp_runtime.core.supervisor_state import (
    AnswerStep,
    Busy,
    Child,
    Errand,
    Start,
    StartStep,
    State,
    StopStep,
    find_child,
    is_running,
)
from otp_runtime.errors import (
    AlreadyPresent,
    AlreadyStarted,
    BadChildSpec,
    NotFound,
    Restarting,
    Running,
    StartFailed,
)
from otp_runtime.terms.pid import Pid

__all__ = ["plan_request", "start_error"]


def plan_request(state: State, tag: Any, request: Request) -> State:
    """Give the state in which the plan for `request` is about to run; `state` is idle."""
    match request:
        case WhichChildren():
            return _answered(state, tag, Ok(_which(state)))
        case CountChildren():
            return _answered(state, tag, Ok(_count(state)))
        case GetChildspec(child_id):
            child = find_child(state, child_id)
            found = Err(NotFound(child_id)) if child is None else Ok(child.spec)
            return _answered(state, tag, found)
        case StartChildRequest(spec):
            return _start(state, tag, spec)
        case TerminateChild(child_id):
            return _terminate(state, tag, child_id)
        case RestartChild(child_id):
            return _restart(state, tag, child_id)
        case DeleteChild(child_id):
            return _delete(state, tag, child_id)
        case Suspend():
            return _answered(evolve(state, suspended=True), tag, Ok())
        case _:
            assert_never(request)


def start_error(child_id: object, reason: object) -> AlreadyStarted | StartFailed:
    """Give what a caller is told whose child did not start."""
    match reason:
        case ("already_started", Pid() as pid):
            return AlreadyStarted(pid)
        case _:
            return StartFailed(child_id, reason)


def _which(state: State) -> tuple[ChildInfo, ...]:
    children = reversed(state.children)
    return tuple((child.spec.id, child.pid, child.spec.type) for child in children)


def _count(state: State) -> ChildCount:
    types = [child.spec.type for child in state.children]
    active = sum(is_running(child) for child in state.children)
    return len(types), active, types.count("supervisor"), types.count("worker")


def _start(state: State, tag: Any, spec: ChildSpec) -> State:
    try:
        check_child_spec(spec, state.flags.auto_shutdown)
    except BadChildSpec as error:
        return _answered(state, tag, Err(error))
    match find_child(state, spec.id):
        case None:
            children = state.children.add(Child(spec))
            plan = Busy((StartStep(spec.id),), Start(tag, new=True))
            return evolve(state, children=children, phase=plan)
        case Child(pid=Pid() as pid):
            return _answered(state, tag, Err(AlreadyStarted(pid)))
        case _:
            return _answered(state, tag, Err(AlreadyPresent(spec.id)))


def _terminate(state: State, tag: Any, child_id: object) -> State:
    """Whatever the child is: a stop of one that is down is done at once and cancels a retry."""
    if find_child(state, child_id) is None:
        return _answered(state, tag, Err(NotFound(child_id)))
    steps = (StopStep(child_id), AnswerStep(Answer(tag, Ok())))
    return evolve(state, phase=Busy(steps, Errand()))


def _restart(state: State, tag: Any, child_id: object) -> State:
    refusal = _why_not_stopped(state, child_id)
    if refusal is not None:
        return _answered(state, tag, Err(refusal))
    return evolve(state, phase=Busy((StartStep(child_id),), Start(tag, new=False)))


def _delete(state: State, tag: Any, child_id: object) -> State:
    refusal = _why_not_stopped(state, child_id)
    if refusal is not None:
        return _answered(state, tag, Err(refusal))
    return _answered(evolve(state, children=state.children.drop(child_id)), tag, Ok())


def _why_not_stopped(state: State, child_id: object) -> NotFound | Running | Restarting | None:
    match find_child(state, child_id):
        case None:
            return NotFound(child_id)
        case Child(pid=None):
            return None
        case Child(pid="restarting"):
            return Restarting(child_id)
        case _:
            return Running(child_id)


def _answered(state: State, tag: Any, result: Ok | Err) -> State:
    return evolve(state, phase=Busy((AnswerStep(Answer(tag, result)),), Errand()))
