"""The module `timer`: intervals, functions later, how long something took."""

import os

import pytest

from otp_runtime import GenServer, NoReply, Reply, Supervisor, process, timer
from otp_runtime.host import poller
from otp_runtime.testing import assert_receive, freeze, gate, thaw
from tests.process import plain
from tests.process.shared_node import _nothing_left, me, otp_node

__all__ = ["_nothing_left", "me", "otp_node"]

LONG = 60.0
SOON = 0.02
TICK = 0.005

pytestmark = pytest.mark.usefixtures("otp_node")


class Ticker(GenServer):
    """Tells its starter of each tick, and how late it was."""

    def init(self, who):
        self.tick = timer.send_interval(TICK, "tick")
        return who

    def handle_info(self, message, who):
        process.send(who, (message, poller.now()))
        return NoReply(who)

    def handle_call(self, request, client, who):
        return Reply(timer.cancel(self.tick), who)


class TestSendAfter:
    def test_time_comes_first(self, me):
        """And without a receiver it is oneself."""
        timer.send_after(SOON, me, "to me")
        timer.send_after(2 * SOON, "to me too")

        assert ["to me", "to me too"] == [process.receive(timeout=5.0) for _ in range(2)]

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True, None])
    def test_a_wrong_time_is_refused(self, seconds):
        """Before anything is armed."""
        with pytest.raises(ValueError, match="seconds is a number >= 0"):
            timer.send_after(seconds, "late")

    def test_too_many_arguments(self, me):
        """Say what is allowed."""
        with pytest.raises(TypeError, match="not 4 arguments"):
            timer.send_after(1, me, "a", "b")


class TestSendInterval:
    def test_to_oneself(self, me):
        """Not before its time, until it is cancelled, and no other process has a part in it."""
        started = poller.now()
        tick = timer.send_interval(TICK, "tick")
        for _ in range(3):
            assert_receive("tick", 5.0)
        was_there = timer.cancel(tick)

        assert was_there
        assert poller.now() - started >= 3 * TICK
        assert not timer.cancel(tick)

    def test_cancelled_nothing_more_comes(self, me):
        """What lies in the mailbox stays there."""
        tick = timer.send_interval(TICK, "tick")
        assert_receive("tick", 5.0)
        timer.cancel(tick)
        process.flush()
        timer.send_after(4 * TICK, "marker")
        assert_receive("marker", 5.0)

        assert [] == process.flush()

    def test_it_does_not_drift(self, me):
        """Tick n is due at n intervals after the start, however late the one before it was taken."""
        started = poller.now()
        tick = timer.send_interval(TICK, "tick")
        for _ in range(10):
            assert_receive("tick", 5.0)
            while poller.now() % 0.004 > 0.0005:
                pass  # a receiver that dawdles
        left = process.read_timer(tick)
        phase = (poller.now() + left - started) % TICK
        timer.cancel(tick)

        assert min(phase, TICK - phase) < 0.001

    def test_ticks_that_were_missed_are_made_up_for(self, me):
        """As they would lie in the mailbox of a busy process."""
        tick = timer.send_interval(TICK, "tick")
        until = poller.now() + 5 * TICK
        while poller.now() < until:
            pass
        process.receive("tick", timeout=0.0)
        found = 1 + len(process.flush())
        timer.cancel(tick)

        assert found >= 5

    def test_each_message_is_a_copy(self, me):
        """What one receiver does to it no other message shows."""
        tick = timer.send_interval(TICK, [])
        for _ in range(2):
            process.receive(list, timeout=5.0).append("mine")
        third = process.receive(list, timeout=5.0)
        timer.cancel(tick)

        assert [] == third

    def test_in_a_server(self, me):
        """It keeps its own, and ends them."""
        with Ticker.start(me) as pid:
            ticks = [assert_receive(("tick", ...), 5.0) for _ in range(3)]

            assert GenServer.call(pid, "cancel")
        assert ticks == sorted(ticks)

    def test_to_another(self, me):
        """Kept by the receiver; ended by who made it."""
        pid = process.spawn(plain.echo)
        tick = timer.send_interval(TICK, pid, (me, "tick"))
        for _ in range(2):
            assert_receive("tick", 5.0)

        assert process.read_timer(tick) <= TICK
        assert timer.cancel(tick)

    def test_to_a_name(self, me):
        """Whoever has it when the time has come."""
        process.register(me, "ticked")
        tick = timer.send_interval(TICK, "ticked", "tick")
        for _ in range(2):
            assert_receive("tick", 5.0)
        timer.cancel(tick)
        process.unregister("ticked")

        assert process.read_timer(tick) is None

    def test_it_ends_with_its_receiver(self, me):
        """There is nothing to cancel then."""
        pid = process.spawn(plain.linger)
        tick = timer.send_interval(LONG, pid, "tick")
        process.exit(pid, "kill")
        pid.wait(5.0)

        assert process.read_timer(tick) is None
        assert not timer.cancel(tick)

    @pytest.mark.parametrize("seconds", [0, -1, "1"])
    def test_a_wrong_interval_is_refused(self, seconds):
        """Zero would be an endless loop."""
        with pytest.raises(ValueError, match="seconds"):
            timer.send_interval(seconds, "tick")


class TestApplyAfter:
    def test_it_runs_in_a_process_of_its_own(self, me):
        """Neither the caller's nor one that was there before."""
        known = set(process.list())
        timer.apply_after(SOON, lambda: process.send(me, process.self()))
        pid = assert_receive(process.self().__class__, 5.0)

        assert pid not in known
        assert pid.wait(5.0) == "normal"

    def test_not_before_its_time(self, me):
        """Counted from the call, not from when its process is up."""
        due = poller.now() + SOON
        timer.apply_after(SOON, lambda: process.send(me, poller.now()))

        assert assert_receive(float, 5.0) >= due

    def test_cancel(self, me):
        """In time: the function never runs, and the process is gone."""
        waiting = timer.apply_after(LONG, process.send, me, "late")

        assert timer.cancel(waiting)
        assert waiting.dest.wait(5.0) == "shutdown"
        assert not timer.cancel(waiting)

    def test_cancel_too_late(self, me):
        """It is not interrupted."""
        with gate() as hold:
            waiting = timer.apply_after(0.0, lambda: (hold.wait(), process.send(me, "done")))
            hold.wait_arrival()
            assert not timer.cancel(waiting)
            hold.open()

            assert assert_receive("done", 5.0)

    def test_one_that_raises_ends_alone(self, me):
        """Its process crashes; nobody is linked to it."""
        waiting = timer.apply_after(0.0, plain.raise_value_error)

        assert waiting.dest.wait(5.0).type == "ValueError"

    def test_a_function_is_needed(self):
        """Said before anything starts."""
        with pytest.raises(TypeError, match="not callable"):
            timer.apply_after(1, "print")


def end(tick):
    """Cancel an interval of runs, and wait until none can begin any more."""
    timer.cancel(tick)
    tick.dest.wait(5.0)
    # a run that was asked for in the last moment: the launcher serves its requests in order
    process.spawn(int).wait(5.0)


class TestApplyInterval:
    def test_each_run_has_a_process_of_its_own(self, me):
        """And one that hangs holds up no other."""
        with gate() as hold:
            tick = timer.apply_interval(TICK, lambda: (process.send(me, os.getpid()), hold.wait()))
            os_pids = {assert_receive(int, 5.0) for _ in range(3)}
            end(tick)
            hold.open()

        assert 3 == len(os_pids)
        process.flush()

    def test_cancel_ends_it(self, me):
        """With the process that kept it."""
        tick = timer.apply_interval(TICK, process.send, me, "tick")
        assert_receive("tick", 5.0)
        end(tick)
        process.flush()

        assert tick.dest not in process.list()


class TestApplyRepeatedly:
    def test_one_at_a_time(self, me):
        """The next waits for the end of the one before."""
        with gate() as hold:
            tick = timer.apply_repeatedly(TICK, lambda: (hold.wait(), process.send(me, "ran")))
            hold.wait_arrival()
            with pytest.raises(AssertionError):
                hold.wait_arrival(4 * TICK)
            hold.admit()
            hold.wait_arrival()
            end(tick)
            hold.open()

        assert assert_receive("ran", 5.0)
        assert assert_receive("ran", 5.0)


class TestExitAfter:
    @pytest.mark.parametrize(
        ("ask", "reason"),
        [
            (lambda pid: timer.exit_after(0.0, pid, "enough"), "enough"),
            (lambda pid: timer.kill_after(0.0, pid), "killed"),
        ],
    )
    def test_it_ends(self, ask, reason):
        """With the reason that was given."""
        pid = process.spawn(plain.linger)
        ask(pid)

        assert reason == pid.wait(5.0)


class TestSleep:
    def test_takes_in_what_arrives(self, me):
        """And leaves it in the mailbox."""
        process.send(me, "before")
        timer.send_after(TICK, "meanwhile")
        started = poller.now()
        timer.sleep(2 * TICK)

        assert poller.now() - started >= 2 * TICK
        assert ["before", "meanwhile"] == process.flush()

    def test_an_exit_signal_ends_it(self):
        """Also one that would last for ever."""
        pid = process.spawn(timer.sleep, None)
        process.exit(pid, "enough")

        assert "enough" == pid.wait(5.0)


class TestTc:
    def test_gives_seconds_and_the_value(self):
        """Of a function that runs here."""
        seconds, value = timer.tc(lambda pid: (pid, os.getpid()), os.getpid())

        assert seconds >= 0
        assert value == (os.getpid(), os.getpid())


class TestFrozenReceiver:
    def test_its_ticks_come_when_it_goes_on(self, me):
        """A stopped process keeps its timers; nobody waits for it."""
        with Supervisor.start_link([Ticker.child_spec(me, name="ticker")], strategy="one_for_one"):
            assert_receive(("tick", ...), 5.0)
            freeze("ticker")
            process.flush()
            timer.send_after(5 * TICK, "marker")
            assert_receive("marker", 5.0)
            while_frozen = process.flush()
            thaw("ticker")
            missed = [assert_receive(("tick", ...), 5.0) for _ in range(5)]

        assert len(while_frozen) <= 1
        assert 5 == len(missed)
