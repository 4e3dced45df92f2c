"""OTP's `sys`: what any server does when it is looked into, held, or given new code."""

import asyncio
import os
import time

import pytest

from otp_runtime import (
    CallTimeout,
    Crash,
    Down,
    DynamicSupervisor,
    ExitWith,
    GenServer,
    NoProcess,
    NoReply,
    Ok,
    Reply,
    Stop,
    Supervisor,
    process,
    system,
)
from otp_runtime.behaviours import gen
from otp_runtime.errors import CallbackFailed, NotSuspended, UpgradeFailed
from otp_runtime.host import box as boxes
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, gate

QUEUED = 2000  # what fits into a mailbox, and takes far longer to handle than the lane may wait

pytestmark = pytest.mark.usefixtures("otp_node")


class Counter(GenServer):
    def handle_call(self, request, client, state):
        return Reply(state, state)

    def handle_cast(self, request, state):
        if callable(request):
            request()
        return NoReply(state + 1)

    def code_change(self, old_vsn, state, extra):
        if extra == "refuse":
            return Stop("not today")
        if extra in {"bad", "ok"}:
            return NoReply(state) if extra == "bad" else Ok(state + 1)
        return {"new": state, "from": old_vsn, "sum": extra + 1}


class AsyncCounter(Counter):
    async def handle_call(self, request, client, state):
        return Reply(state, state)

    async def code_change(self, old_vsn, state, extra):
        return extra + 1


def explode(_state):
    raise ValueError("boom")


def leave(_state):
    raise ExitWith("leave")


@pytest.fixture(params=[Counter, AsyncCounter])
def counter(request):
    with request.param.start(0) as pid:
        yield pid


class TestState:
    def test_get_state_gives_it_after_what_was_queued_before(self, counter):
        GenServer.cast(counter, "inc")

        assert system.get_state(counter) == 1

    def test_replace_state_gives_the_new_state_and_keeps_it(self, counter):
        assert system.replace_state(counter, lambda state: state + 41) == 41
        assert GenServer.call(counter, "val") == 41

    @pytest.mark.parametrize(("function", "reason"), [(explode, "ValueError"), (leave, "leave")])
    def test_a_function_that_fails_leaves_the_state_as_it_was(self, counter, function, reason):
        with pytest.raises(CallbackFailed) as caught:
            system.replace_state(counter, function)

        assert reason in {caught.value.reason, getattr(caught.value.reason, "type", None)}
        assert GenServer.call(counter, "val") == 0

    def test_a_dead_server_is_no_process(self):
        pid = Counter.start(0)
        GenServer.stop(pid)

        with pytest.raises(NoProcess):
            system.get_state(pid)


class TestSuspend:
    def test_messages_wait_in_order_and_calls_time_out(self, counter):
        system.suspend(counter)
        GenServer.cast(counter, "inc")

        with pytest.raises(CallTimeout):
            GenServer.call(counter, "val", timeout=0.05)
        assert system.get_state(counter) == 0
        assert system.get_status(counter)["status"] == "suspended"

    def test_one_resume_undoes_two_suspends(self, counter):
        system.suspend(counter)
        system.suspend(counter)
        GenServer.cast(counter, "inc")
        system.resume(counter)

        assert GenServer.call(counter, "val") == 1

    @pytest.mark.parametrize("behaviour", [Supervisor, DynamicSupervisor])
    def test_one_resume_undoes_two_suspends_of_a_supervisor(self, behaviour):
        with behaviour.start_link(
            **({"children": [], "strategy": "one_for_one"} if behaviour is Supervisor else {})
        ) as sup:
            system.suspend(sup, timeout=2.0)
            system.suspend(sup, timeout=2.0)
            system.resume(sup)

            assert system.get_status(sup)["status"] == "running"
            assert behaviour.count_children(sup).active == 0

    def test_a_suspended_server_obeys_stop(self):
        pid = Counter.start(0)
        system.suspend(pid)
        GenServer.cast(pid, "inc")
        GenServer.stop(pid, "enough")

        assert pid.wait() == "enough"


class TestChangeCode:
    def test_a_running_server_refuses(self, counter):
        with pytest.raises(NotSuspended):
            system.change_code(counter)

    def test_the_state_is_converted(self):
        with Counter.start(5) as pid:
            system.suspend(pid)
            system.change_code(pid, "v1", 6)
            system.resume(pid)

            assert GenServer.call(pid, "val") == {"new": 5, "from": "v1", "sum": 7}

    def test_an_async_code_change_is_awaited(self):
        with AsyncCounter.start(5) as pid:
            system.suspend(pid)
            system.change_code(pid, "v1", 6)

            assert system.get_state(pid) == 7

    @pytest.mark.parametrize("cls", [Counter, AsyncCounter])
    def test_one_that_raises_leaves_the_state_and_the_server_suspended(self, cls):
        with cls.start(5) as pid:
            system.suspend(pid)
            with pytest.raises(UpgradeFailed) as caught:
                system.change_code(pid, None, "no number")

            assert isinstance(caught.value.reason, Crash)
            assert system.get_state(pid) == 5
            assert system.get_status(pid)["status"] == "suspended"

    def test_one_that_stops_is_refused_with_its_reason(self):
        with Counter.start(5) as pid:
            system.suspend(pid)
            with pytest.raises(UpgradeFailed) as caught:
                system.change_code(pid, None, "refuse")

            assert caught.value.reason == "not today"

    def test_one_that_returns_what_is_no_state_is_refused(self):
        """Which would else be the state that the next callback is given."""
        with Counter.start(5) as pid:
            system.suspend(pid)
            with pytest.raises(UpgradeFailed) as caught:
                system.change_code(pid, None, "bad")

            assert caught.value.reason == ("bad_return_value", NoReply(5))
            assert system.get_state(pid) == 5

    def test_ok_holds_the_state(self):
        with Counter.start(5) as pid:
            system.suspend(pid)
            system.change_code(pid, None, "ok")

            assert system.get_state(pid) == 6

    def test_a_call_that_times_out_says_that_the_server_is_suspended(self, counter):
        system.suspend(counter)

        with pytest.raises(CallTimeout, match=r"it is suspended, and handles no messages before system\.resume"):
            GenServer.call(counter, "val", timeout=0.02)
        assert "suspended" in asyncio.run(timeout_of(counter))


async def timeout_of(pid):
    try:
        await GenServer.acall(pid, "val", timeout=0.02)
    except CallTimeout as error:
        return str(error)


class Sleeper(Counter):
    """Hibernates after every call."""

    def handle_call(self, request, client, state):
        return Reply(state, state, hibernate=True)


class AsyncSleeper(Sleeper):
    async def handle_call(self, request, client, state):
        return super().handle_call(request, client, state)


@pytest.mark.parametrize("cls", [Sleeper, AsyncSleeper])
class TestHibernating:
    def test_system_messages_only_interrupt_it(self, cls):
        """It hibernates again after each, as its last callback said."""
        with cls.start(7) as pid:
            GenServer.call(pid, "val")
            found = [system.get_state(pid), system.replace_state(pid, lambda n: n + 1)]
            found += [system.get_status(pid)["status"], wait_flag(pid, boxes.HIBERNATING)]

            assert found == [7, 8, "running", 1]

    def test_a_message_ends_it(self, cls):
        """Its own callback says what comes next."""
        with cls.start(7) as pid:
            GenServer.call(pid, "val")
            GenServer.cast(pid, "inc")

            assert system.get_state(pid) == 8
            assert wait_flag(pid, boxes.HIBERNATING, 0) == 0

    def test_it_can_be_suspended(self, cls):
        """And goes on."""
        with cls.start(7) as pid:
            GenServer.call(pid, "val")
            system.suspend(pid)
            GenServer.cast(pid, "inc")
            assert system.get_state(pid) == 7

            system.resume(pid)
            assert GenServer.call(pid, "val") == 8


def wait_flag(pid, flag, value=1):
    """Wait until a flag in a server's box has this value: the loop sets it after it has answered."""
    box = boxes.Box.open(current().directory.box(pid.id))
    try:
        deadline = time.monotonic() + 5.0
        while box.flag(flag) != value and time.monotonic() < deadline:
            os.sched_yield()
        return box.flag(flag)
    finally:
        box.close()


class TestBusy:
    def test_what_keeps_mailbox_order_waits(self, counter):
        """For all that was queued before; what overtakes waits for the callback in hand alone."""
        with gate() as hold:
            GenServer.cast(counter, hold.wait)
            hold.wait_arrival()
            for _ in range(10):
                GenServer.cast(counter, "inc")
            with pytest.raises(CallTimeout):
                system.get_state(counter, timeout=0.01)
            hold.open()

            assert system.get_state(counter) == 11
            assert system.get_status(counter)["state"] == 11


class TestTerminate:
    def test_it_returns_and_the_server_ends_with_the_reason(self):
        pid = Counter.start(0)
        process.monitor(pid)
        system.terminate(pid, "bye")

        assert assert_receive(Down).reason == "bye"


class TestPastAFlood:
    def test_what_goes_over_the_lane_overtakes_what_is_queued(self):
        with gate() as hold:
            pid = Reporter.start(0)
            GenServer.cast(pid, hold.wait)
            hold.wait_arrival()
            for _ in range(QUEUED):
                GenServer.cast(pid, "inc")
            with pytest.raises(CallTimeout):
                gen.request_past_queue(pid, ("terminate", "normal"), 0)
            hold.open()

            assert pid.wait(10) < QUEUED

    def test_a_flooded_server_hears_of_deaths(self):
        pid, victim = Listener.start(None), Counter.start(0)
        GenServer.call(pid, victim)
        flood = process.spawn(cast_until_dead, pid)
        process.exit(victim, "kill")

        assert pid.wait(10) == ("heard", True)
        assert flood.wait(10) == "normal"


class Reporter(Counter):
    """Its exit reason is its last state."""

    def terminate(self, reason, state):
        raise ExitWith(state)


class Listener(GenServer):
    """Ends when it has heard of a death, under a flood of casts."""

    def handle_call(self, victim, client, state):
        process.monitor(victim)
        return Reply(None, state)

    def handle_cast(self, request, state):
        return NoReply(state)

    def handle_info(self, message, state):
        return Stop(("heard", isinstance(message, Down)))


def cast_until_dead(pid):
    while process.alive(pid):
        GenServer.cast(pid, "more")
