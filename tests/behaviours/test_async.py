"""Event loops: servers with `async def` callbacks, and programs that call from one."""

import asyncio
import os
import signal

import pytest

from otp_runtime import (
    CallTimeout,
    CodecError,
    Exited,
    GenServer,
    InitFailed,
    NoProcess,
    NoReply,
    Reply,
    ServerDown,
    Stop,
    Supervisor,
    process,
    system,
)
from otp_runtime.host import box as boxes
from otp_runtime.host.box import Box
from otp_runtime.process.current import current
from otp_runtime.process.peers import await_verdict
from otp_runtime.testing import assert_receive, gate
from tests.behaviours import async_servers as servers
from tests.behaviours.async_servers import Async, Mixed
from tests.behaviours.servers import Scripted

call, cast, acall = GenServer.call, GenServer.cast, GenServer.acall


class TestAsyncServer:
    def test_init(self, me):
        """Awaited before the starter goes on."""
        assert system.get_state(Async.start_link(servers.value)) == 41

    def test_the_event_loop_is_imported_once(self, me):
        """By the first; those that follow are forked from a parent that has it."""
        first = Async.start_link(me)
        second = Async.start_link(me)
        GenServer.stop(first)

        assert call(second, servers.was_loop_there)

    def test_init_raises(self, me):
        """The starter is told."""
        with pytest.raises(InitFailed) as error:
            Async.start_link(servers.boom, name="failing")

        assert (error.value.reason.type, process.whereis("failing")) == ("ValueError", None)

    def test_init_dies(self, me):
        """As well."""
        with pytest.raises(InitFailed) as error:
            Async.start_link(servers.die)

        assert error.value.reason == Exited(5)

    def test_a_timer_that_it_set_itself(self, me):
        """Wakes its event loop, though nothing else does."""
        cast(Async.start_link(me), servers.remind)

        assert assert_receive(("info", ...), 5.0) == ("info", "reminded")

    def test_call(self, me):
        """Answers as any other."""
        assert call(Async.start_link(me), "state") == me

    def test_raises(self, me):
        """A Crash, and `terminate` is awaited."""
        pid = Async.start(me)
        with pytest.raises(ServerDown, match="ValueError: boom"):
            call(pid, servers.boom)

        assert assert_receive(("terminate", ...), 5.0)[1].type == "ValueError"

    def test_stop(self, me):
        """Its own and another's."""
        first, second = Async.start(me), Async.start(me)
        cast(first, servers.stop)
        reasons = [first.wait(5.0)]
        GenServer.stop(second, "other")

        assert [*reasons, second.wait(5.0)] == ["custom", "other"]
        assert process.flush() == [("terminate", "custom"), ("terminate", "other")]

    def test_handle_info_and_continue(self, me):
        """Continue first."""

        async def go_on(state):
            process.send(process.self(), "queued")
            return NoReply(state, continue_="next")

        cast(Async.start_link(me), go_on)

        assert [assert_receive(tuple, 5.0) for _ in range(2)] == [("continue", "next"), ("info", "queued")]

    def test_timeout(self, me):
        """Of a return."""

        async def wait_a_moment(state):
            return NoReply(state, timeout=0.01)

        cast(Async.start_link(me), wait_a_moment)

        assert assert_receive(("info", ...), 5.0) == ("info", "timeout")

    def test_one_callback_at_a_time(self, me):
        """A message waits until the callback before it has returned, however long that awaits."""

        async def slow(state):
            process.send(state, "begin")
            for _ in range(5):
                await asyncio.sleep(0)
            process.send(state, "end")
            return NoReply(state)

        pid = Async.start_link(me)
        for _ in range(3):
            cast(pid, slow)

        assert [process.receive(timeout=5.0) for _ in range(6)] == ["begin", "end"] * 3

    def test_tasks_run_while_a_callback_awaits(self, me):
        """Those it made."""
        pid = Async.start_link(me)
        cast(pid, servers.start_ticker)

        assert call(pid, servers.set_event_and_await) == "awaited"
        assert process.flush() == ["ticked"]

    def test_tasks_run_while_the_mailbox_is_empty(self, me):
        """Between callbacks."""
        pid = Async.start_link(me)
        cast(pid, servers.start_ticker)
        cast(pid, servers.set_event)

        assert assert_receive("ticked", 5.0)

    def test_a_task_that_crashes(self, me):
        """Crashes the server, as an exception of a callback does."""
        pid = Async.start(me)
        cast(pid, servers.keep_failing_task)

        assert pid.wait(5.0).type == "ValueError"
        assert assert_receive(("terminate", ...), 5.0)[1].message == "boom"

    def test_calls_another(self, me):
        """With `acall`."""
        other = Scripted.start_link(7)

        async def ask(client, state):
            return Reply(await acall(other, "state"), state)

        assert call(Async.start_link(me), ask) == 7

    def test_dies_of_an_exit_signal_while_it_awaits(self, me):
        """At once."""
        pid = Async.start(None)

        async def wait_for_ever(state):
            process.send(me, "awaiting")
            await asyncio.Event().wait()

        cast(pid, wait_for_ever)
        assert_receive("awaiting", 5.0)
        process.exit(pid, "custom")

        assert pid.wait(5.0) == "custom"

    def test_bad_return(self, me):
        """As in others."""
        pid = Async.start(None)

        async def wrong(state):
            return 42

        cast(pid, wrong)

        assert pid.wait(5.0) == ("bad_return_value", 42)

    def test_mixed(self, me):
        """A plain callback runs in the loop too."""
        pid = Mixed.start_link("a")
        cast(pid, "b")

        assert (call(pid, "from a task"), system.get_state(pid)) == ("from a task", "b")


class TestAcall:
    def test_gives_the_reply(self, me):
        """Of any server."""
        assert asyncio.run(acall(Scripted.start_link(7), "state")) == 7

    def test_a_hundred_at_once(self, me):
        """Each task gets its own."""
        pid = Scripted.start_link(0)

        async def ask_all():
            return await asyncio.gather(*(acall(pid, lambda client, state, n=n: Reply(n, state)) for n in range(100)))

        assert asyncio.run(ask_all()) == list(range(100))

    def test_the_loop_goes_on(self, me):
        """While it waits."""
        with gate() as hold:
            pid = Scripted.start_link(0)

            async def ask():
                asking = asyncio.ensure_future(acall(pid, lambda client, state: (hold.wait(), Reply("late", state))[1]))
                while not asking.done():
                    await asyncio.sleep(0)
                    hold.open()
                return await asking

            assert asyncio.run(ask()) == "late"

    def test_errors(self, me):
        """As `call`'s."""

        async def ask(server, request, timeout=5.0):
            return await acall(server, request, timeout)

        pid = Scripted.start(0)
        for error, server, request, timeout in (
            (NoProcess, "nobody", 1, 5.0),
            (CallTimeout, pid, lambda client, state: NoReply(state), 0.01),
            (CodecError, pid, (n for n in ()), 5.0),
            (KeyError, pid, lambda client, state: Reply.error(KeyError(1), state), 5.0),
            (ServerDown, pid, lambda client, state: Stop("custom", state), 5.0),
        ):
            with pytest.raises(error):
                asyncio.run(ask(server, request, timeout))

    def test_cancelled(self, me):
        """The late reply is dropped; the request is not recalled."""
        with gate() as hold:
            pid = Scripted.start_link(0)

            async def ask():
                slow = asyncio.ensure_future(
                    acall(pid, lambda client, state: (hold.wait(), Reply("late", "handled"))[1])
                )
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                hold.wait_arrival()
                slow.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await slow
                hold.open()
                return await acall(pid, "state")

            assert asyncio.run(ask()) == "handled"
        assert process.flush() == []

    def test_the_tasks_of_a_thread_share_its_pid(self, me):
        """And its mailbox."""

        async def who():
            await asyncio.sleep(0)
            return process.self()

        async def all_of_them():
            return await asyncio.gather(who(), who())

        assert asyncio.run(all_of_them()) == [me, me]

    def test_during_a_restart(self, me, start_supervised):
        """By name, waits for it."""
        from otp_runtime.testing import sigkill

        start_supervised(Scripted.child_spec(7, name="coming back"))
        sigkill("coming back")

        assert asyncio.run(acall("coming back", "state")) == 7

    def test_an_end_that_is_seen_on_the_way(self, me):
        """The server is known, has died, and nothing was looked at since."""
        pid = _dead_unseen()
        with pytest.raises(ServerDown) as error:
            asyncio.run(acall(pid, "state"))

        assert error.value.reason.name == "SIGKILL"


def _dead_unseen():
    """Start a server and kill it; give its pid when its death is judged, which this process has not taken in."""
    pid = Scripted.start(0)
    call(pid, "state")
    box = Box.open(current().directory.box(pid.id))
    os.kill(pid.os_pid, signal.SIGKILL)
    await_verdict(box)
    assert box.flag(boxes.JUDGED)
    box.close()
    return pid


class TestAstart:
    def test_starts(self, me):
        """Without blocking the loop; the program's, as any."""

        async def start():
            pid = await Scripted.astart_link(7)
            return await acall(pid, "state")

        assert asyncio.run(start()) == 7

    def test_errors(self, me):
        """As `start`'s."""

        async def start():
            await Scripted.astart(lambda: 1 / 0)

        with pytest.raises(InitFailed):
            asyncio.run(start())

    def test_a_supervisor(self, me):
        """Too; the block stops it."""

        async def start():
            async with await Supervisor.astart_link([Scripted.child_spec(7, name="child")], strategy="one_for_one"):
                return await acall("child", "state")

        assert asyncio.run(start()) == 7
        assert process.whereis("child") is None


class TestAstop:
    def test_waits_for_the_end(self, me):
        """As `stop`."""
        pid = Async.start_link(me, name="stopped")
        asyncio.run(GenServer.astop(pid))

        assert (process.whereis("stopped"), process.flush()) == (None, [("terminate", "normal")])

    def test_of_something_else(self, me):
        """Is told."""
        pid = Scripted.start(0)
        with gate() as hold:
            cast(pid, lambda state: (hold.wait(), Stop("custom"))[1])
            hold.wait_arrival()

            async def stop():
                stopping = asyncio.ensure_future(GenServer.astop(pid))
                await asyncio.sleep(0)
                hold.open()
                await stopping

            with pytest.raises(ServerDown) as error:
                asyncio.run(stop())

        assert error.value.reason == "custom"

    def test_an_end_that_is_seen_on_the_way(self, me):
        """The server is known, has died, and nothing was looked at since."""
        pid = _dead_unseen()
        with pytest.raises(ServerDown) as error:
            asyncio.run(GenServer.astop(pid))

        assert error.value.reason.name == "SIGKILL"


class TestAwait:
    def test_gives_the_reason(self, me):
        """Of an end, before or after."""
        pid = process.spawn(int)

        assert asyncio.run(pid.await_(5.0)) == "normal"
        assert asyncio.run(pid.await_(5.0)) == "normal"

    def test_times_out(self, me):
        """A TimeoutError."""
        pid = Scripted.start_link(0)
        with pytest.raises(TimeoutError):
            asyncio.run(pid.await_(0.01))

    def test_block(self, me):
        """Leaving it stops the process."""

        async def use():
            async with await Scripted.astart_link(7) as pid:
                return pid, await acall(pid, "state")

        pid, state = asyncio.run(use())

        assert (state, pid.wait(5.0)) == (7, "normal")
