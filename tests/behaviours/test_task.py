"""Task: a function in a process of its own, and whoever awaits it."""

import asyncio
import os
import threading
import time

import pytest

from otp_runtime import (
    CallTimeout,
    CodecError,
    Crash,
    Down,
    Exit,
    GenServer,
    Pid,
    Signalled,
    Supervisor,
    Task,
    TaskDone,
    TaskExit,
    TaskExited,
    process,
    why,
)
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, gate, sigkill
from otp_runtime.testing.nodes import private_node
from tests.behaviours.tasks import AsyncBoss, Boss, fail, forever, leave, own_and_wait, owner, task_error

SHORT = 0.02
LONG = 10.0


@pytest.fixture(scope="module")
def otp_node():
    """One node for all of them."""
    with private_node() as node:
        yield node


@pytest.fixture
def hold():
    with gate() as closed:
        yield closed


class TestAsync:
    def test_runs_in_a_process_of_its_own(self, me):
        """Under the pid that the task has."""
        task = Task.async_(lambda: (os.getpid(), process.self()))

        os_pid, pid = Task.await_(task)

        assert (os_pid != os.getpid(), pid) == (True, task.pid)

    def test_arguments_and_closures_travel(self, me):
        """What it closes over as a copy."""
        seen = [1]

        def add(*more):
            seen.extend(more)
            return seen

        task = Task.async_(add, 2, 3)

        assert (Task.await_(task), seen) == ([1, 2, 3], [1])

    def test_says_what_it_is(self, me):
        """The function and the process."""
        task = Task.async_(fail)

        assert repr(task) == f"<Task fail {task.pid!r}>"

    def test_two_run_at_once(self, me, hold):
        """Neither waits for the other."""
        tasks = [Task.async_(hold.wait), Task.async_(hold.wait)]
        hold.wait_arrival()
        hold.wait_arrival()
        hold.open()

        assert Task.await_many(tasks) == [None, None]

    def test_no_function(self, me):
        """Refused in the caller."""
        with pytest.raises(TypeError, match="a task runs a function, and 5 is none"):
            Task.async_(5)

    def test_what_cannot_travel(self, me, unsendable):
        """Nothing is started."""
        pending = len(current().pending)
        with pytest.raises(CodecError):
            Task.async_(print, unsendable["lock"])

        assert len(current().pending) == pending

    def test_a_server_learns_of_the_end_by_down(self, me):
        """With the task's own reference; then the result is there at once."""
        task = Task.async_(int)
        down = process.receive(Down, LONG)

        assert (down, Task.yield_(task, 0)) == (Down(task.ref, task.pid, "normal"), TaskDone(0))

    def test_nothing_is_left_in_the_mailbox(self, me):
        """The reply went to its waiter and the monitor with it."""
        task = Task.async_(int)
        Task.await_(task)
        task.pid.wait(LONG)

        assert process.flush() == []

    def test_the_report_says_what_ran_and_for_whom(self, me):
        """A crash is explained as a server's is."""
        task = Task.async_(leave, "odd")
        process.receive(Down, LONG)

        assert why(task.pid).message_in_hand == f"leave('odd'), started by {me!r}"


class TestLinks:
    def test_a_crash_takes_its_owner_along(self, me, hold):
        """That does not trap exits, wherever it is."""

        def crash_later():
            hold.wait()
            leave("oops")

        process.spawn_monitor(owner, me, lambda: Task.async_(crash_later).pid)
        process.receive(("did", ...), LONG)
        hold.open()

        assert process.receive(Down, LONG).reason == "oops"

    def test_a_crash_ends_its_awaiting_owner(self, me):
        """With the task's reason."""
        process.spawn_monitor(own_and_wait, me, leave, "oops")

        assert process.receive(Down, LONG).reason == "oops"

    def test_a_trapping_owner_gets_an_exit(self, me):
        """And goes on."""
        process.spawn(lambda: owner(me, lambda: Task.async_(leave, "oops").pid, trap=True))
        pid = process.receive(("did", ...), LONG)[1]

        assert process.receive(("got", ...), LONG) == ("got", Exit(pid, "oops"))

    def test_the_end_of_its_owner_takes_it_along(self, me, hold):
        """Killed or crashed."""
        pid, _ = process.spawn_monitor(own_and_wait, me, forever, hold)
        task = process.receive(type(pid), LONG)
        hold.wait_arrival()
        process.monitor(task)
        process.exit(pid, "kill")
        ends = {down.pid: down.reason for down in (process.receive(Down, LONG), process.receive(Down, LONG))}

        assert ends == {pid: "killed", task: "killed"}

    def test_a_normal_end_of_its_owner_does_not(self, me, hold):
        """A link breaks with "normal", which kills nobody."""
        _, ref = process.spawn_monitor(lambda: process.send(me, Task.async_(forever, hold).pid))
        task = process.receive(type(me), LONG)
        hold.wait_arrival()
        process.receive(Down(ref, ..., ...), LONG)

        assert process.alive(task)

    def test_a_program_gets_an_exit_of_a_crash_only(self, me):
        """It traps exits always; normal ends of what it started are not queued."""
        Task.yield_(good := Task.async_(int))
        good.pid.wait(LONG)
        Task.yield_(bad := Task.async_(fail))

        assert [(one.pid, one.reason.type) for one in process.flush()] == [(bad.pid, "ValueError")]


class TestAwait:
    def test_raises_when_it_crashed(self, me):
        """The exception, with its traceback as a note."""
        with pytest.raises(TaskExited, match="ValueError: boom") as error:
            Task.await_(Task.async_(fail))

        assert ("in fail" in error.value.__notes__[0], isinstance(error.value.reason, Crash)) == (True, True)

    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x"), "odd", ("a", 1)])
    def test_raises_when_it_exits(self, me, reason):
        """Also in order: there is no value."""
        with pytest.raises(TaskExited) as error:
            Task.await_(Task.async_(leave, reason))

        assert error.value.reason == reason

    def test_raises_when_it_is_killed(self, me, hold):
        """By its signal."""
        task = Task.async_(forever, hold)
        hold.wait_arrival()
        sigkill(task.pid)
        with pytest.raises(TaskExited) as error:
            Task.await_(task)

        assert error.value.reason == Signalled("SIGKILL")

    def test_a_value_that_cannot_travel(self, me):
        """The task ends of it."""
        with pytest.raises(TaskExited, match=r"value of the task \(generator\) cannot travel"):
            Task.await_(Task.async_(lambda: (n for n in ())))

    def test_an_owner_that_catches_nothing_exits_with_the_reason(self, me):
        """As one whose call failed does."""

        def work():
            process.trap_exit(True)
            Task.await_(Task.async_(leave, "oops"))

        process.spawn_monitor(work)

        assert process.receive(Down, LONG).reason == "oops"

    def test_timeout(self, me, hold):
        """Says what it waited for; the task goes on."""
        task = Task.async_(hold.wait)
        with pytest.raises(CallTimeout, match=r"no reply from <Task Gate.wait .*> in time .*it goes on") as error:
            Task.await_(task, SHORT)

        assert (error.value.reason, process.alive(task.pid)) == ("timeout", True)

    def test_a_late_reply_is_dropped(self, me, hold):
        """And no Down comes."""
        task = Task.async_(hold.wait)
        with pytest.raises(CallTimeout):
            Task.await_(task, SHORT)
        hold.open()
        task.pid.wait(LONG)

        assert (process.flush(), task.ref.serial in current().pending) == ([], False)

    def test_a_second_time(self, me):
        """Waits for its whole time, for what cannot come."""
        task = Task.async_(int)
        Task.await_(task)
        started = time.monotonic()
        with pytest.raises(CallTimeout, match="its result was taken"):
            Task.await_(task, SHORT)

        assert time.monotonic() - started >= SHORT

    def test_a_second_time_for_ever(self, me):
        """Raises at once instead."""
        task = Task.async_(int)
        Task.await_(task)

        with pytest.raises(CallTimeout, match="its result was taken"):
            Task.await_(task, None)

    def test_not_by_another(self, me):
        """Names the owner and who asked."""
        task = Task.async_(int)
        stranger = process.spawn(owner, me, lambda: task_error(task))
        text = process.receive(("did", ...), LONG)[1]
        process.exit(stranger, "kill")

        assert text == (
            f"Task.await_: {task!r} belongs to {me!r}, which started it, and was asked for by {stranger!r}; "
            "only its owner gets its result: await it there and send the value on"
        )

    @pytest.mark.parametrize(
        "ask",
        [
            Task.await_,
            lambda task: Task.await_many([task]),
            Task.yield_,
            lambda task: Task.yield_many([Task.completed(0), task]),
            Task.shutdown,
            Task.ignore,
        ],
    )
    def test_not_by_another_in_any_way(self, me, ask):
        """Another thread is another process."""
        task = Task.async_(int)
        errors = []

        def work():
            try:
                ask(task)
            except ValueError as error:
                errors.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

        assert (len(errors), f"{task!r} belongs to {me!r}" in errors[0]) == (1, True)

    def test_other_messages_stay(self, me):
        """In their order."""
        process.send(me, "before")
        task = Task.async_(process.send, me, "from the task")
        Task.await_(task)
        process.send(me, "after")

        assert process.flush() == ["before", "from the task", "after"]


class TestNoTask:
    """What is not a task is named as such, before anything is waited for."""

    @pytest.mark.parametrize("wait", [Task.await_, Task.yield_, Task.shutdown, Task.ignore])
    @pytest.mark.parametrize("given", [None, "task"])
    def test_one(self, me, wait, given):
        with pytest.raises(TypeError, match=r"needs what Task.async_ gave, a Task, and got"):
            wait(given)

    @pytest.mark.parametrize("wait", [Task.await_many, Task.yield_many])
    def test_among_several(self, me, wait):
        with pytest.raises(TypeError, match=r"needs what Task.async_ gave, a Task, and got 1"):
            wait([1, 2])

    @pytest.mark.parametrize("wait", [Task.await_many, Task.yield_many])
    def test_one_instead_of_several(self, me, wait):
        with pytest.raises(TypeError, match="put it into a list"):
            wait(Task.completed(0))


class TestBigResults:
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [200_000, 3_000_000])
    def test_wait_for_an_owner_that_is_busy(self, me, size):
        """For longer than a process lingers for what it owes otherwise."""
        with gate() as done:
            task = Task.async_(lambda: done.arrive() or b"x" * size)
            done.wait_arrival()
            _block(1.3)

        assert len(Task.await_(task)) == size

    def test_of_several(self, me):
        """Each arrives whole."""
        tasks = [Task.async_(lambda n=n: bytes([n]) * 100_000) for n in range(4)]

        assert [(len(value), value[0]) for value in Task.await_many(tasks)] == [(100_000, n) for n in range(4)]


def _block(seconds):
    """Be busy without taking in anything: what is under test is that the task waits for this."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.sched_yield()


class TestAwaitMany:
    def test_in_the_order_given(self, me, hold):
        """Whichever ends first."""
        tasks = [Task.async_(lambda: hold.wait() or 1), Task.async_(lambda: 2)]
        tasks[1].pid.wait(LONG)
        hold.open()

        assert Task.await_many(tasks) == [1, 2]

    def test_of_none(self, me):
        """Is there at once."""
        assert Task.await_many([]) == []

    @pytest.mark.parametrize("fun", [fail, lambda: leave("odd")])
    def test_the_first_failure_raises(self, me, hold, fun):
        """Without waiting for the others, whose results are given up."""
        slow = Task.async_(hold.wait)
        with pytest.raises(TaskExited):
            Task.await_many([slow, Task.async_(fun)], None)

        assert (process.alive(slow.pid), slow.ref.serial in current().pending) == (True, False)

    def test_a_failure_that_was_there_before(self, me, hold):
        """Raises at once too."""
        slow, failed = Task.async_(hold.wait), Task.async_(fail)
        while not current().pending[failed.ref.serial].done:
            current().pump(LONG)
        with pytest.raises(TaskExited):
            Task.await_many([slow, failed], None)

        assert process.alive(slow.pid)

    def test_timeout(self, me, hold):
        """For all together; all are given up."""
        tasks = [Task.async_(int), Task.async_(hold.wait)]
        with pytest.raises(CallTimeout, match=r"Task Gate\.wait"):
            Task.await_many(tasks, SHORT)
        hold.open()
        for task in tasks:
            task.pid.wait(LONG)

        assert process.flush() == []


class TestYield:
    def test_a_value(self, me):
        """In a TaskDone."""
        assert Task.yield_(Task.async_(int)) == TaskDone(0)

    def test_an_exit(self, me):
        """In a TaskExit: it does not raise."""
        assert Task.yield_(Task.async_(leave, "odd")) == TaskExit("odd")

    def test_not_yet(self, me, hold):
        """None, and later again."""
        task = Task.async_(lambda: hold.wait() or "late")
        first = Task.yield_(task, SHORT)
        hold.open()

        assert (first, Task.yield_(task)) == (None, TaskDone("late"))

    def test_a_reply_that_lies_there(self, me):
        """Is taken, without time to wait."""
        task = Task.async_(int)
        task.pid.wait(LONG)

        assert (Task.yield_(task, 0), process.flush()) == (TaskDone(0), [])

    @pytest.mark.parametrize("timeout", [SHORT, None])
    def test_a_second_time(self, me, timeout):
        """Nothing is there any more."""
        task = Task.async_(int)
        Task.yield_(task)

        assert Task.yield_(task, timeout) is None


class TestYieldMany:
    def test_each_with_its_task(self, me, hold):
        """In the order given, what came of it or None."""
        tasks = [Task.async_(hold.wait), Task.async_(int), Task.async_(leave, "odd")]
        found = Task.yield_many(tasks, 0.5, limit=2)
        hold.open()

        assert found == [(tasks[0], None), (tasks[1], TaskDone(0)), (tasks[2], TaskExit("odd"))]

    def test_for_ever(self, me):
        """All of them."""
        tasks = [Task.async_(int), Task.async_(str)]

        assert [result for _, result in Task.yield_many(tasks, None)] == [TaskDone(0), TaskDone("")]

    def test_kill_task(self, me, hold):
        """Who is late is gone."""
        task = Task.async_(hold.wait)
        found = Task.yield_many([task], SHORT, on_timeout="kill_task")

        assert (found, task.pid.wait(LONG), process.flush()) == ([(task, None)], "killed", [])

    def test_ignore(self, me, hold):
        """Who is late goes on alone."""
        task = Task.async_(hold.wait)
        found = Task.yield_many([task], SHORT, on_timeout="ignore")
        hold.open()

        assert (found, task.pid.wait(LONG), process.flush()) == ([(task, None)], "normal", [])

    @pytest.mark.parametrize("options", [{"on_timeout": "exit"}, {"limit": 0}, {"limit": True}])
    def test_wrong_options(self, me, options):
        """Say what is allowed."""
        with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
            Task.yield_many([], **options)


class TestShutdown:
    def test_one_that_runs(self, me, hold):
        """It is gone then, and leaves no Exit."""
        task = Task.async_(forever, hold)
        hold.wait_arrival()

        assert (Task.shutdown(task), process.alive(task.pid), process.flush()) == (None, False, [])

    def test_brutally(self, me, hold):
        """At once, whatever it traps."""
        task = Task.async_(lambda: forever(hold, trap=True))
        hold.wait_arrival()

        assert (Task.shutdown(task, "brutal_kill"), task.pid.wait(LONG)) == (None, "killed")

    def test_one_that_does_not_obey(self, me, hold):
        """It is killed when its time is up, which is an exit."""
        task = Task.async_(lambda: forever(hold, trap=True))
        hold.wait_arrival()

        assert Task.shutdown(task, SHORT) == TaskExit("killed")

    def test_one_that_has_replied(self, me):
        """The value counts."""
        task = Task.async_(int)
        task.pid.wait(LONG)

        assert (Task.shutdown(task), process.flush()) == (TaskDone(0), [])

    def test_one_that_answers_the_order(self, me, hold):
        """With a value, in the time it has."""

        def work():
            process.trap_exit(True)
            hold.arrive()
            return process.receive(Exit).reason

        task = Task.async_(work)
        hold.wait_arrival()

        assert Task.shutdown(task) == TaskDone("shutdown")

    @pytest.mark.parametrize(
        ("how", "reason", "result"),
        [
            (1.0, "normal", TaskExit("normal")),
            (1.0, "odd", TaskExit("odd")),
            (1.0, "shutdown", None),
            (1.0, "killed", TaskExit("killed")),
            ("brutal_kill", "shutdown", TaskExit("shutdown")),
            ("brutal_kill", "killed", None),
        ],
    )
    def test_one_that_has_exited(self, me, how, reason, result):
        """What it would have been sent is no exit."""
        task = Task.async_(leave, reason)
        task.pid.wait(LONG)

        assert Task.shutdown(task, how) == result

    @pytest.mark.parametrize("how", [1.0, "brutal_kill"])
    def test_one_whose_result_was_taken(self, me, how):
        """There is nobody any more."""
        task = Task.async_(int)
        Task.await_(task)
        task.pid.wait(LONG)

        assert Task.shutdown(task, how) == TaskExit("noproc")

    @pytest.mark.parametrize("timeout", ["kill", -1, True])
    def test_wrong_time(self, me, timeout):
        """Says what is allowed."""
        with pytest.raises(ValueError, match="timeout is seconds"):
            Task.shutdown(Task.completed(0), timeout)

    def test_runs_its_finally(self, me, hold, tmp_path):
        """An order to shut down unwinds it."""
        path = str(tmp_path / "file")

        def work():
            try:
                forever(hold)
            finally:
                os.mkdir(path)

        task = Task.async_(work)
        hold.wait_arrival()
        Task.shutdown(task)

        assert os.path.isdir(path)


class TestIgnore:
    def test_one_that_runs(self, me, hold):
        """It goes on, unlinked; nothing of it arrives."""
        task = Task.async_(lambda: hold.wait() or leave("odd"))
        result = Task.ignore(task)
        hold.open()

        assert (result, task.pid.wait(LONG), process.flush()) == (None, "odd", [])

    def test_one_that_has_replied(self, me):
        """The value, and no Down."""
        task = Task.async_(int)
        task.pid.wait(LONG)

        assert (Task.ignore(task), process.flush()) == (TaskDone(0), [])

    def test_one_that_has_failed(self, me):
        """The reason."""
        task = Task.async_(leave, ("shutdown", "x"))
        task.pid.wait(LONG)

        assert Task.ignore(task) == TaskExit(("shutdown", "x"))

    def test_saves_the_owner(self, me, hold):
        """What happens to the task is its own affair."""

        def work():
            task = Task.async_(lambda: hold.wait() or leave("odd"))
            Task.ignore(task)
            return task.pid

        pid = process.spawn(owner, me, work)
        task = process.receive(("did", ...), LONG)[1]
        hold.open()
        task.wait(LONG)
        process.send(pid, "alive")

        assert process.receive(("got", ...), LONG) == ("got", "alive")


class TestCompleted:
    def test_has_its_value(self, me):
        """And no process."""
        task = Task.completed("v")

        assert (task.pid, Task.await_(task)) == (None, "v")

    @pytest.mark.parametrize("ask", [Task.yield_, Task.ignore, Task.shutdown])
    def test_as_any_task(self, me, ask):
        """However it is asked."""
        assert ask(Task.completed("v")) == TaskDone("v")


class TestStart:
    @pytest.mark.parametrize("start", [Task.start, Task.start_link])
    def test_runs(self, me, start):
        """Nobody awaits it."""
        pid = start(process.send, me, "done")

        assert (process.receive("done", LONG), pid.wait(LONG)) == ("done", "normal")

    def test_start_is_not_linked(self, me):
        """Its crash is its own."""
        Task.start(leave, "odd").wait(LONG)

        assert process.flush() == []

    def test_start_link_is(self, me):
        """Its crash arrives."""
        pid = Task.start_link(leave, "odd")
        pid.wait(LONG)

        assert process.flush() == [Exit(pid, "odd")]

    def test_no_function(self, me):
        """Refused in the caller."""
        with pytest.raises(TypeError, match="'work' is none"):
            Task.start("work")


class TestChildSpec:
    def test_is_temporary(self):
        """A task is not run again by itself."""
        spec = Task.child_spec(process.send, "to", "done")

        assert (spec.id, spec.restart, spec.shutdown, spec.start[1]) == (
            "Task",
            "temporary",
            5.0,
            (process.send, "to", "done"),
        )

    def test_under_a_supervisor(self, me):
        """It has started when the supervisor has, and runs once."""
        task = Task.child_spec(lambda: process.send(me, process.self()))
        with Supervisor.start_link([task], strategy="one_for_one") as sup:
            reason = assert_receive(Pid, LONG).wait(LONG)
            left, more = Supervisor.which_children(sup), process.flush()

        assert ("normal", [], []) == (reason, left, more)

    @pytest.mark.slow
    def test_starting_another_from_within(self, me):
        """The task is a task, and what it starts is another process."""

        def work():
            process.send(me, (process.self(), Task.start_link(int)))

        with Supervisor.start_link([(Task, work)], strategy="one_for_one"):
            task, other = process.receive(tuple, LONG)

        assert task != other

    @pytest.mark.slow
    def test_transient(self, me, hold):
        """Runs again after a crash."""

        def work():
            process.send(me, process.self())
            hold.wait()
            leave("odd")

        spec = Task.child_spec(work, restart="transient", id="job")
        with Supervisor.start_link([spec], strategy="one_for_one", max_restarts=1):
            hold.wait_arrival()
            hold.admit()
            hold.wait_arrival()

            assert len({process.receive(type(me), LONG), process.receive(type(me), LONG)}) == 2


class TestAwaitInAsyncio:
    def test_value(self, me):
        """Without blocking the loop."""

        async def main():
            return await asyncio.gather(Task.async_(int), Task.async_(str))

        assert asyncio.run(main()) == [0, ""]

    def test_exit(self, me):
        """Raises."""

        async def main():
            await Task.async_(leave, "odd")

        with pytest.raises(TaskExited) as error:
            asyncio.run(main())

        assert error.value.reason == "odd"

    def test_cancelled(self, me, hold):
        """The task goes on, and can be awaited again."""
        task = Task.async_(lambda: hold.wait() or "late")

        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORT):
                    await task
            hold.open()
            return await task

        assert asyncio.run(main()) == "late"

    def test_by_two_at_once(self, me, hold):
        """The second is told."""
        task = Task.async_(hold.wait)

        async def wait():
            return await task

        async def main():
            async with asyncio.timeout(LONG):
                first = asyncio.create_task(wait())
                await asyncio.sleep(0)
                try:
                    await task
                finally:
                    hold.open()
                    await first

        with pytest.raises(RuntimeError, match="is being awaited already"):
            asyncio.run(main())

    def test_a_second_time(self, me):
        """It is never there."""
        task = Task.async_(int)
        Task.await_(task)

        async def main():
            await task

        with pytest.raises(CallTimeout, match="its result was taken"):
            asyncio.run(main())

    def test_not_by_another(self, me):
        """A worker thread is another process."""
        task = Task.async_(int)

        async def wait():
            return await task

        async def main():
            await asyncio.to_thread(lambda: asyncio.run(wait()))

        with pytest.raises(ValueError, match="belongs to"):
            asyncio.run(main())


class TestServers:
    def test_a_server_awaits_in_a_callback(self, me):
        """As a program does."""
        boss = Boss.start(None)

        assert GenServer.call(boss, ("await", int)) == 0

    @pytest.mark.parametrize(("fun", "result"), [(int, TaskDone(0)), (lambda: leave("odd"), TaskExit("odd"))])
    def test_a_server_goes_on_meanwhile(self, me, fun, result):
        """And collects the result when the Down comes."""
        boss = Boss.start(None)

        assert GenServer.call(boss, ("run", fun)) == result

    def test_an_async_server(self, me):
        """Awaits without blocking itself."""
        boss = AsyncBoss.start(None)

        assert GenServer.call(boss, int) == 0
