"""Erlang/OTP for Python: GenServers and supervisors, each an operating-system process.

Names are loaded when first asked for (PEP 562). Python runs this file before any module below it,
so an eager one would load every floor into every process of a tree.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names once more, where type checkers look for them
    from . import application, erpc, pg, presence, process, pubsub, statem, system, testing, timer, typed
    from .application.application import Application
    from .behaviours.agent import Agent
    from .behaviours.gen import Client, RequestId, Response
    from .behaviours.gen_event import EventHandler, GenEvent, RemoveHandler, SwapHandler
    from .behaviours.gen_server import GenServer
    from .behaviours.gen_statem import GenStateMachine
    from .behaviours.returns import Ignore, NoReply, Ok, Reply, Stop
    from .behaviours.task import Task
    from .core.backoff import Backoff
    from .core.child_spec import ChildSpec
    from .core.keep import Every
    from .core.limits import Limits
    from .core.patterns import Bind
    from .core.tasks import TaskDone, TaskExit
    from .core.watchdog import Watchdog
    from .errors import (
        AlreadyPresent,
        AlreadyRegistered,
        AlreadyStarted,
        BadChildSpec,
        BadSupervisorFlags,
        CallbackFailed,
        CallError,
        CallingSelf,
        CallTimeout,
        CodecError,
        DuplicateChild,
        DurableStateError,
        EventError,
        ExitWith,
        HandlerFailed,
        InitFailed,
        MailboxFull,
        MaxChildren,
        NoHandler,
        NoNode,
        NoProcess,
        NotAllowed,
        NotFound,
        NotStarted,
        NotSuspended,
        NotTracked,
        OtpError,
        ReceiveTimeout,
        RemoteError,
        Restarting,
        Running,
        RuntimeBug,
        ServerDown,
        SpecError,
        StartError,
        StartFailed,
        StartTimeout,
        SupervisorError,
        TaskExited,
        UpgradeFailed,
    )
    from .process.death import Death, why
    from .process.node import Node, attach
    from .registry.registry import Registry
    from .supervision.dynamic_supervisor import DynamicSupervisor
    from .supervision.partition_supervisor import PartitionSupervisor
    from .supervision.supervisor import ChildCount, ChildInfo, Supervisor
    from .supervision.task_supervisor import TaskSupervisor
    from .supervision.upgrade import upgrade
    from .terms.events import Down, Exit, NodeDown, NodeUp, PresenceDiff
    from .terms.pid import Global, Pid, Ref, Remote, ServerRef, Via
    from .terms.reason import Crash, Exited, ExitReason, Signalled

__all__ = [
    "Agent",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "Application",
    "Backoff",
    "BadChildSpec",
    "BadSupervisorFlags",
    "Bind",
    "CallError",
    "CallTimeout",
    "CallbackFailed",
    "CallingSelf",
    "ChildCount",
    "ChildInfo",
    "ChildSpec",
    "Client",
    "CodecError",
    "Crash",
    "Death",
    "Down",
    "DuplicateChild",
    "DurableStateError",
    "DynamicSupervisor",
    "EventError",
    "EventHandler",
    "Every",
    "Exit",
    "ExitReason",
    "ExitWith",
    "Exited",
    "GenEvent",
    "GenServer",
    "GenStateMachine",
    "Global",
    "HandlerFailed",
    "Ignore",
    "InitFailed",
    "Limits",
    "MailboxFull",
    "MaxChildren",
    "NoHandler",
    "NoNode",
    "NoProcess",
    "NoReply",
    "Node",
    "NodeDown",
    "NodeUp",
    "NotAllowed",
    "NotFound",
    "NotStarted",
    "NotSuspended",
    "NotTracked",
    "Ok",
    "OtpError",
    "PartitionSupervisor",
    "Pid",
    "PresenceDiff",
    "ReceiveTimeout",
    "Ref",
    "Registry",
    "Remote",
    "RemoteError",
    "RemoveHandler",
    "Reply",
    "RequestId",
    "Response",
    "Restarting",
    "Running",
    "RuntimeBug",
    "ServerDown",
    "ServerRef",
    "Signalled",
    "SpecError",
    "StartError",
    "StartFailed",
    "StartTimeout",
    "Stop",
    "Supervisor",
    "SupervisorError",
    "SwapHandler",
    "Task",
    "TaskDone",
    "TaskExit",
    "TaskExited",
    "TaskSupervisor",
    "UpgradeFailed",
    "Via",
    "Watchdog",
    "application",
    "attach",
    "erpc",
    "pg",
    "presence",
    "process",
    "pubsub",
    "statem",
    "system",
    "testing",
    "timer",
    "typed",
    "upgrade",
    "why",
]

# Name -> the module below this package that has it.
_HOMES = {
    "Agent": "behaviours.agent",
    "AlreadyPresent": "errors",
    "AlreadyRegistered": "errors",
    "AlreadyStarted": "errors",
    "Application": "application.application",
    "Backoff": "core.backoff",
    "BadChildSpec": "errors",
    "BadSupervisorFlags": "errors",
    "Bind": "core.patterns",
    "CallError": "errors",
    "CallTimeout": "errors",
    "CallbackFailed": "errors",
    "CallingSelf": "errors",
    "ChildCount": "supervision.supervisor",
    "ChildInfo": "supervision.supervisor",
    "ChildSpec": "core.child_spec",
    "Client": "behaviours.gen",
    "CodecError": "errors",
    "Crash": "terms.reason",
    "Death": "process.death",
    "Down": "terms.events",
    "DuplicateChild": "errors",
    "DurableStateError": "errors",
    "DynamicSupervisor": "supervision.dynamic_supervisor",
    "EventError": "errors",
    "EventHandler": "behaviours.gen_event",
    "Every": "core.keep",
    "Exit": "terms.events",
    "ExitReason": "terms.reason",
    "ExitWith": "errors",
    "Exited": "terms.reason",
    "GenEvent": "behaviours.gen_event",
    "GenServer": "behaviours.gen_server",
    "GenStateMachine": "behaviours.gen_statem",
    "Global": "terms.pid",
    "HandlerFailed": "errors",
    "Ignore": "behaviours.returns",
    "InitFailed": "errors",
    "Limits": "core.limits",
    "MailboxFull": "errors",
    "MaxChildren": "errors",
    "NoHandler": "errors",
    "NoNode": "errors",
    "NoProcess": "errors",
    "NotAllowed": "errors",
    "NoReply": "behaviours.returns",
    "Node": "process.node",
    "NodeDown": "terms.events",
    "NodeUp": "terms.events",
    "NotFound": "errors",
    "NotStarted": "errors",
    "NotSuspended": "errors",
    "NotTracked": "errors",
    "Ok": "behaviours.returns",
    "OtpError": "errors",
    "PartitionSupervisor": "supervision.partition_supervisor",
    "Pid": "terms.pid",
    "PresenceDiff": "terms.events",
    "ReceiveTimeout": "errors",
    "Ref": "terms.pid",
    "Registry": "registry.registry",
    "Remote": "terms.pid",
    "RemoteError": "errors",
    "RemoveHandler": "behaviours.gen_event",
    "Reply": "behaviours.returns",
    "RequestId": "behaviours.gen",
    "Response": "behaviours.gen",
    "Restarting": "errors",
    "Running": "errors",
    "RuntimeBug": "errors",
    "ServerDown": "errors",
    "ServerRef": "terms.pid",
    "Signalled": "terms.reason",
    "SpecError": "errors",
    "StartError": "errors",
    "StartFailed": "errors",
    "StartTimeout": "errors",
    "Stop": "behaviours.returns",
    "Supervisor": "supervision.supervisor",
    "SupervisorError": "errors",
    "SwapHandler": "behaviours.gen_event",
    "Task": "behaviours.task",
    "TaskDone": "core.tasks",
    "TaskExit": "core.tasks",
    "TaskExited": "errors",
    "TaskSupervisor": "supervision.task_supervisor",
    "UpgradeFailed": "errors",
    "Via": "terms.pid",
    "Watchdog": "core.watchdog",
    "attach": "process.node",
    "upgrade": "supervision.upgrade",
    "why": "process.death",
}

_SUBMODULES = frozenset(
    {"application", "erpc", "pg", "presence", "process", "pubsub", "statem", "system", "testing", "timer", "typed"}
)


if not TYPE_CHECKING:  # a checker that saw it would let every misspelt name pass

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return import_module(f"{__name__}.{name}")
        try:
            home = _HOMES[name]
        except KeyError:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name) from None
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return __all__
