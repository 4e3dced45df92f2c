"""TaskSupervisor: tasks that are somebody's children."""

import pytest

from otp_runtime import (
    BadChildSpec,
    BadSupervisorFlags,
    CallTimeout,
    Down,
    Exit,
    MaxChildren,
    NoProcess,
    NotFound,
    Supervisor,
    Task,
    TaskDone,
    TaskExit,
    TaskExited,
    TaskSupervisor,
    process,
)
from otp_runtime.process.current import current
from otp_runtime.testing import gate, sigkill
from otp_runtime.testing.nodes import private_node
from tests.behaviours.tasks import fail, forever, leave, odd_exits, square, wait_for, wait_if

LONG = 10.0
SHORT = 0.05


@pytest.fixture(scope="module")
def otp_node():
    """One node for all of them."""
    with private_node() as node:
        yield node


@pytest.fixture
def hold():
    with gate() as closed:
        yield closed


@pytest.fixture
def sup(me):
    with TaskSupervisor.start_link() as pid:
        yield pid


@pytest.fixture
def narrow(me):
    """A supervisor of one task at a time."""
    with TaskSupervisor.start_link(max_children=1) as pid:
        yield pid


def own_under(to, sup, start, fun, *args):
    """Start a task under `sup`, tell its pid, and await it without catching anything."""
    task = start(sup, fun, *args)
    process.send(to, task.pid)
    Task.await_(task, LONG)


STARTS = [TaskSupervisor.async_, TaskSupervisor.async_nolink]


@pytest.mark.parametrize("start", STARTS)
class TestAsync:
    def test_value(self, sup, start):
        """As of any task."""
        assert Task.await_(start(sup, lambda a, b: a + b, 1, 2)) == 3

    def test_is_the_supervisors_child(self, sup, start, hold):
        """Its OS parent, too."""
        task = start(sup, forever, hold)

        assert (TaskSupervisor.children(sup), process.info(task.pid).supervisor) == ([task.pid], sup)

    def test_by_name(self, me, start):
        """Of the supervisor."""
        with TaskSupervisor.start_link(name="tasks"):
            assert Task.await_(start("tasks", int)) == 0

    def test_too_many(self, narrow, start, hold):
        """Raises in who wanted one more."""
        start(narrow, forever, hold)
        pending = len(current().pending)
        with pytest.raises(MaxChildren, match="max_children=1"):
            start(narrow, int)

        assert len(current().pending) == pending

    def test_there_is_room_after_an_end(self, narrow, start):
        """As soon as a Down is there."""
        for _ in range(5):
            task = start(narrow, int)
            process.receive(Down, LONG)

            assert Task.yield_(task, 0) == TaskDone(0)

    def test_there_is_room_after_a_value(self, narrow, start):
        """As soon as it was awaited, though an OS process takes a while to end."""
        values = [Task.await_(start(narrow, lambda number=number: number)) for number in range(30)]

        assert values == list(range(30))

    def test_timeout(self, sup, start, hold):
        """It goes on; nothing of it arrives."""
        task = start(sup, hold.wait)
        with pytest.raises(CallTimeout):
            Task.await_(task, SHORT)
        hold.open()
        task.pid.wait(LONG)

        assert process.flush() == []

    def test_shutdown(self, sup, start, hold):
        """It is gone from its supervisor as well."""
        task = start(sup, forever, hold)
        hold.wait_arrival()

        assert (Task.shutdown(task), TaskSupervisor.children(sup), process.flush()) == (None, [], [])

    def test_the_supervisors_stop_ends_it(self, me, start, hold):
        """With its tree."""
        sup = TaskSupervisor.start_link()
        task = start(sup, forever, hold)
        hold.wait_arrival()
        TaskSupervisor.stop(sup)

        assert Task.yield_(task) == TaskExit("shutdown")

    def test_a_shutdown_time(self, me, start, hold):
        """Brutal, if so wanted."""
        sup = TaskSupervisor.start_link()
        task = start(sup, forever, hold, shutdown="brutal_kill")
        hold.wait_arrival()
        TaskSupervisor.stop(sup)

        assert Task.yield_(task) == TaskExit("killed")

    def test_wrong_shutdown_time(self, sup, start):
        """Refused before anything starts."""
        with pytest.raises(BadChildSpec, match="shutdown=-1"):
            start(sup, int, shutdown=-1)

    def test_nobody_there(self, me, start):
        """Says so."""
        with pytest.raises(NoProcess):
            start("nobody", int)

    def test_the_owners_crash_while_it_waits(self, sup, start, me):
        """A crash of the task is the owner's, when it awaits it without a catch."""
        process.spawn_monitor(own_under, me, sup, start, leave, "oops")

        assert process.receive(Down, LONG).reason == "oops"


class TestLinks:
    @pytest.mark.slow
    def test_async_takes_its_owner_along(self, sup, me, hold):
        """By the link."""

        def work():
            hold.wait()
            leave("oops")

        def own():
            TaskSupervisor.async_(sup, work)
            forever(hold)

        process.spawn_monitor(own)
        hold.wait_arrival()
        hold.open()

        assert process.receive(Down, LONG).reason == "oops"

    def test_async_ends_with_its_owner(self, sup, me, hold):
        """By the link."""
        pid = process.spawn(own_under, me, sup, TaskSupervisor.async_, forever, hold)
        task = process.receive(type(pid), LONG)
        hold.wait_arrival()
        process.exit(pid, "kill")

        assert task.wait(LONG) == "killed"

    def test_nolink_leaves_its_owner_alone(self, sup, me, hold):
        """Which hears of it by the Down only."""
        task = TaskSupervisor.async_nolink(sup, fail)
        down = process.receive(Down, LONG)

        assert (down.ref, down.reason.type, process.flush()) == (task.ref, "ValueError", [])

    def test_a_linked_one_is_an_exit_in_a_program(self, sup, me):
        """It traps."""
        task = TaskSupervisor.async_(sup, leave, "odd")
        with pytest.raises(TaskExited):
            Task.await_(task)

        assert process.flush() == [Exit(task.pid, "odd")]

    def test_nolink_outlives_its_owner(self, sup, me, hold):
        """It is the supervisor's."""
        pid = process.spawn(own_under, me, sup, TaskSupervisor.async_nolink, forever, hold)
        task = process.receive(type(pid), LONG)
        hold.wait_arrival()
        process.exit(pid, "kill")
        pid.wait(LONG)

        assert TaskSupervisor.children(sup) == [task]

    def test_the_supervisor_goes_on(self, sup, me):
        """Whatever its tasks do."""
        for _ in range(5):
            Task.yield_(TaskSupervisor.async_nolink(sup, leave, "odd"))

        assert process.alive(sup)


class TestStartChild:
    def test_runs(self, sup, me):
        """Nobody awaits it."""
        pid = TaskSupervisor.start_child(sup, process.send, me, "done")

        assert (process.receive("done", LONG), pid.wait(LONG)) == ("done", "normal")

    def test_is_temporary(self, sup, me):
        """A crash is its end."""
        TaskSupervisor.start_child(sup, fail).wait(LONG)

        assert TaskSupervisor.children(sup) == []

    @pytest.mark.slow
    def test_transient(self, sup, me, hold):
        """Runs again after a crash, and not after it is done."""

        def work():
            process.send(me, process.self())
            hold.wait()
            if len(TaskSupervisor.children(sup)) and process.receive(str, LONG) == "crash":
                leave("odd")

        first = TaskSupervisor.start_child(sup, work, restart="transient")
        hold.open()
        process.send(process.receive(type(me), LONG), "crash")
        second = process.receive(type(me), LONG)
        process.send(second, "end")
        second.wait(LONG)

        assert (first != second, TaskSupervisor.children(sup)) == (True, [])

    def test_too_many(self, narrow, hold):
        """Is the one error."""
        TaskSupervisor.start_child(narrow, forever, hold)
        with pytest.raises(MaxChildren):
            TaskSupervisor.start_child(narrow, int)

    def test_no_function(self, sup):
        """Refused in the caller."""
        with pytest.raises(TypeError, match="'work' is none"):
            TaskSupervisor.start_child(sup, "work")

    def test_terminate_child(self, sup, hold):
        """Stops it; a second time there is none."""
        pid = TaskSupervisor.start_child(sup, forever, hold)
        hold.wait_arrival()
        TaskSupervisor.terminate_child(sup, pid)
        with pytest.raises(NotFound):
            TaskSupervisor.terminate_child(sup, pid)

        assert pid.wait(LONG) == "shutdown"


class TestSupervised:
    def test_by_another(self, me):
        """As a child among others."""
        children = [TaskSupervisor.child_spec(name="tasks", max_children=2), (Task, forever)]
        with Supervisor.start_link(children, strategy="one_for_one") as top:
            ids = [one.id for one in Supervisor.which_children(top)]

            assert (ids, Task.await_(TaskSupervisor.async_("tasks", int))) == (["Task", "tasks"], 0)

    def test_its_kill_ends_its_tasks(self, me, hold):
        """Their owner is told."""
        sup = TaskSupervisor.start()
        task = TaskSupervisor.async_nolink(sup, forever, hold)
        hold.wait_arrival()
        sigkill(sup)

        assert Task.yield_(task) == TaskExit("killed")

    def test_wrong_flags(self, me):
        """Refused before anything starts."""
        with pytest.raises(BadSupervisorFlags):
            TaskSupervisor.start_link(max_children=-1)


@pytest.mark.parametrize("stream", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink])
class TestStreams:
    def test_results(self, sup, stream):
        """In order."""
        assert list(stream(sup, range(4), square, max_concurrency=2)) == [TaskDone(n * n) for n in range(4)]

    def test_exits_are_values(self, sup, stream):
        """In a process that traps, without an Exit."""
        results = list(stream(sup, range(2), odd_exits))

        assert (results, process.flush()) == ([TaskDone(0), TaskExit(("odd", 1))], [])

    def test_left_early(self, sup, stream, hold):
        """Nothing runs on, nothing is left."""
        for _ in stream(sup, [(0, None), (1, hold)], wait_if, max_concurrency=2):
            break

        assert (TaskSupervisor.children(sup), process.flush()) == ([], [])

    def test_no_more_than_the_supervisor_allows(self, narrow, stream):
        """As many at once as there is room for."""
        assert list(stream(narrow, range(5), square, max_concurrency=1)) == [TaskDone(n * n) for n in range(5)]

    def test_more_than_the_supervisor_allows(self, narrow, stream, hold):
        """Raises, and what ran is gone."""
        with pytest.raises(MaxChildren):
            list(stream(narrow, [hold, hold], wait_for, max_concurrency=2))

        assert (TaskSupervisor.children(narrow), process.flush()) == ([], [])

    @pytest.mark.slow
    def test_kill_task(self, sup, stream, hold):
        """Who is late."""
        results = list(
            stream(sup, [(0, hold), (1, None)], wait_if, max_concurrency=2, timeout=0.3, on_timeout="kill_task")
        )

        assert results == [TaskExit("timeout"), TaskDone(1)]

    @pytest.mark.slow
    def test_an_owner_that_does_not_trap(self, sup, me, stream):
        """Dies with a linked task, not with another."""
        _, ref = process.spawn_monitor(lambda: process.send(me, list(stream(sup, range(2), odd_exits))))
        end = process.receive(Down(ref, ..., ...), LONG).reason
        linked = stream is TaskSupervisor.async_stream

        assert (end, process.flush()) == (
            (("odd", 1), []) if linked else ("normal", [[TaskDone(0), TaskExit(("odd", 1))]])
        )

    @pytest.mark.slow
    def test_the_owners_end_is_theirs(self, sup, me, stream, hold):
        """Killed in mid-stream."""
        pid = process.spawn(lambda: list(stream(sup, [hold, hold], wait_for, max_concurrency=2, timeout=None)))
        hold.wait_arrival()
        hold.wait_arrival()
        tasks = TaskSupervisor.children(sup)
        process.exit(pid, "kill")

        assert {task.wait(LONG) for task in tasks} == {"killed"}
