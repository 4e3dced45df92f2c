"""One of each behaviour under a global name, and how it is used from anywhere."""

from otp_runtime import (
    Agent,
    CallError,
    DynamicSupervisor,
    GenEvent,
    GenServer,
    GenStateMachine,
    Global,
    Reply,
    Supervisor,
    TaskSupervisor,
    statem,
)
from tests.cluster.servers import Hoard


class Async(GenServer):
    async def init(self, arg):
        return arg

    async def handle_call(self, request, client, state):
        return Reply(request, state)


class Door(GenStateMachine):
    callback_mode = "handle_event_function"

    def init(self, arg):
        return statem.Ok("open", arg)

    def handle_event(self, kind, content, state, data):
        return statem.KeepState(data, statem.Reply(kind.client, state))


def spec_of(kind):
    name = Global(kind)
    match kind:
        case "async":
            return Async.child_spec(name=name)
        case "agent":
            return Agent.child_spec(dict, name=name)
        case "statem":
            return Door.child_spec(name=name)
        case "event":
            return GenEvent.child_spec(name=name)
        case "supervisor":
            return Supervisor.child_spec([Hoard.child_spec()], strategy="one_for_one", name=name)
        case "dynamic":
            return DynamicSupervisor.child_spec(name=name)
        case "tasks":
            return TaskSupervisor.child_spec(name=name)


def use(kind):
    """Ask it something that has the same answer wherever it runs; the error's type while nobody has the name."""
    name = Global(kind)
    try:
        match kind:
            case "async":
                return GenServer.call(name, 1)
            case "statem":
                return GenStateMachine.call(name, 1)
            case "event":
                return GenEvent.which_handlers(name)
            case "supervisor" | "dynamic" | "tasks":
                return Supervisor.count_children(name)
            case "agent":
                return GenServer.whereis(name) is not None
    except CallError as error:
        return type(error)
