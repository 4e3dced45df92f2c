"""What a user's first programs look like to a type checker: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any

from otp_runtime import (
    Agent,
    Application,
    Client,
    DynamicSupervisor,
    EventHandler,
    Every,
    GenEvent,
    GenServer,
    GenStateMachine,
    Limits,
    NoReply,
    PartitionSupervisor,
    Pid,
    RemoveHandler,
    Reply,
    Supervisor,
    Task,
    TaskDone,
    TaskExit,
    TaskSupervisor,
    Via,
    application,
    process,
    statem,
    system,
    timer,
)


class Counter(GenServer[int]):
    """A typed counter."""

    def init(self, start: int, /) -> int:
        """The state is the count."""
        return start

    def handle_cast(self, request: str, state: int, /) -> NoReply[int]:
        """Count."""
        return NoReply(state + 1)

    def handle_call(self, request: str, client: Client[int], state: int, /) -> Reply[int, int]:
        """Tell."""
        return Reply(state, state)


class Kept(Counter):
    """Its state outlives it."""

    restore = "last_good"
    durable = True
    max_state_crashes = 5
    vsn = 2

    def restored(self, state: int, /) -> int:
        """Take it, and keep it at once."""
        self.commit(state)
        return state


class Bare(GenServer):
    """Without a type parameter the state is Any."""

    async def handle_call(self, request: Any, client: Client, state: Any, /) -> Reply:
        """A callback may be async."""
        return Reply(state, state)


class Door(GenStateMachine):
    """A state machine whose states are methods."""

    callback_mode = "state_functions"

    def init(self, arg: str, /) -> statem.Ok:
        """The first state."""
        return statem.Ok("closed", arg, [statem.StateTimeout(1.5, "tick")])

    def closed(self, event: Any, content: Any, data: str) -> statem.NextState | statem.KeepStateAndData:
        """Handle an event."""
        match event, content:
            case statem.Call(client), _:
                return statem.NextState("closed", data, statem.Reply(client, data))
            case _:
                return statem.KeepStateAndData([statem.Postpone(), statem.Timeout("name", None)])


class Watcher(EventHandler):
    """An event handler."""

    def handle_event(self, event: str, state: int, /) -> NoReply[int] | RemoveHandler:
        """Count."""
        return NoReply(state + 1) if event != "stop" else RemoveHandler()


def main() -> None:
    """Start, call, stop."""
    with Counter.start_link(0, name="counter", overflow="error") as counter:
        GenServer.cast(counter, "inc")
        pid: Pid = counter
        print(GenServer.call(pid, "val"))
    children = [Counter.child_spec(0, name="counter", restart="transient"), Bare, (Bare, 1)]
    with Supervisor.start_link(children, strategy="one_for_one", max_restarts=3) as sup:
        print(Supervisor.which_children(sup))
    with DynamicSupervisor.start_link(name="rooms", max_children=5) as rooms:
        room: Pid | None = DynamicSupervisor.start_child(rooms, Counter.child_spec(0, restart="temporary"))
        if room is not None:
            DynamicSupervisor.terminate_child(rooms, room)
        print(DynamicSupervisor.count_children(rooms).specs)
    with PartitionSupervisor.start_link(
        (Bare, 1), name="pool", partitions=2, with_arguments=lambda args, i: (*args, i)
    ):
        print(GenServer.call(Via(PartitionSupervisor, ("pool", "key")), "val"), PartitionSupervisor.partitions("pool"))
    with Agent.start_link(lambda: 1) as agent:
        n: int = Agent.get(agent, lambda state: int(state) + 1)
        print(n)
    with Door.start_link("1234", name="door") as door:
        GenStateMachine.cast(door, "open")
        print(GenStateMachine.call(door, "code", timeout=1.0), GenStateMachine.whereis("door"))
        GenStateMachine.stop(door, missing_ok=True)
    with GenEvent.start_link(name="events") as events:
        GenEvent.add_handler(events, Watcher, 0)
        GenEvent.swap_handler(events, (Watcher, None), ((Watcher, "id"), 0))
        GenEvent.notify("events", "something")
        print(GenEvent.call(events, (Watcher, "id"), "how many"))
    more = [Door.child_spec("1234", shutdown=None), GenEvent.child_spec(name="events"), (Door, "1234")]
    with Supervisor.start_link(more, strategy="rest_for_one"):
        pass


def length(text: str) -> int:
    """Give a number, for a task."""
    return len(text)


def tasks() -> None:
    """A task has the type of its function's value."""
    task = Task.async_(length, "text")
    value: int = Task.await_(task)
    values: list[int] = Task.await_many([task])
    match Task.yield_(task) or Task.shutdown(task, "brutal_kill"):
        case TaskDone(value=done):
            value = done
        case TaskExit(reason=reason):
            print(reason)
        case None:
            print("it was stopped")
    for result in Task.async_stream(["a"], length, max_concurrency=2):
        if isinstance(result, TaskDone):
            value = result.value
    with TaskSupervisor.start_link(max_children=3, name="tasks") as sup:
        task = TaskSupervisor.async_nolink(sup, length, "text", shutdown=1.0)
        pid: Pid = TaskSupervisor.start_child(sup, print, restart="transient")
        TaskSupervisor.terminate_child(sup, pid)
    children = [Task.child_spec(length, "text", restart="transient"), (Task, print), TaskSupervisor.child_spec()]
    print(children, value, values)


async def awaiting() -> int:
    """A task can be awaited."""
    return await Task.async_(length, "text")


class Shop(Application):
    """A tree with a name."""

    applications = ("shop:Stock",)
    args = 7

    def start(self, type: str, args: int, /) -> tuple[Pid, str]:
        """Give the top supervisor, and a state."""
        pid: Pid = Supervisor.start_link([], strategy="one_for_one")
        return pid, f"{type} {args}"

    def stop(self, state: str, /) -> None:
        """Clean up."""


def look(counter: Pid) -> None:
    """Debug, time and configure."""
    system.install(counter, lambda seen, event, name: (seen or 0) + len(event) + len(name), 0)
    system.log(counter, (True, 20))
    events: list[system.Event] = system.log(counter, "get")
    counted = system.statistics(counter)
    if not isinstance(counted, str):
        print(counted.messages_in, events)
    tick: timer.Timer = timer.send_interval(1.0, "tick")
    late = timer.send_after(1.0, counter, "late")
    print(timer.cancel(tick), process.cancel_timer(late), timer.tc(len, "abc")[1] + 1)
    started: list[str] = application.ensure_all_started(Shop, "transient", config="shop.toml")
    pid: Pid | None = application.start("shop:Shop")
    print(started, pid, application.get_env(Shop, "port", 80))


def keep() -> None:
    """The options of what is kept are typed."""
    Kept.start(1, restore="previous", durable="a.db", commit=Every(3), max_state_crashes=2, record=True)
    Agent.start_link(dict, restore="last_good", commit="manual")
    Supervisor.start_link([Kept.child_spec(1, commit=Every(seconds=0.5))], strategy="one_for_one")
    Kept.child_spec(1, limits=Limits(rss_soft="300MB", rss_hard=1 << 30, cpu_seconds=60, open_files=100))
    Kept.start(1, limits=None)
