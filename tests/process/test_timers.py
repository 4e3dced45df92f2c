"""Timers: messages that are sent later."""

import pytest

from otp_runtime import CodecError, Global, process
from otp_runtime.testing import assert_receive
from tests.process import plain

LONG = 60.0
SOON = 0.02


class TestSendAfter:
    def test_to_oneself(self, me):
        """The bare message, not before its time."""
        from otp_runtime.host import poller

        due = poller.now() + SOON
        process.send_after(me, ("late", 1), SOON)

        assert assert_receive(("late", ...), 5.0) == ("late", 1)
        assert due <= poller.now()

    def test_to_another(self, me):
        """Kept by the receiver."""
        pid = process.spawn(plain.echo)
        process.send_after(pid, (me, "late"), SOON)

        assert assert_receive("late", 5.0)

    def test_to_a_name(self, me):
        """Looked up when the time has come."""
        for seconds in (0.05, 0.5, 3.0):
            timer = process.send_after("later here", "late", seconds)
            process.register(me, "later here")
            if process.read_timer(timer) is not None:
                break  # the name was there in time, however slow this machine is
            process.unregister("later here")
        message = assert_receive("late", 5.0)
        process.unregister("later here")

        assert message == "late"

    def test_to_a_name_that_nobody_has(self, me):
        """Lost; what comes after it is not."""
        process.send_after("nobody at all", "lost", 0.0)
        process.send_after(me, "late", SOON)
        assert_receive("late", 5.0)

        assert process.flush() == []

    def test_in_the_order_of_their_time(self, me):
        """Whatever the order in which they were made."""
        for seconds in (0.03, 0.01, 0.02):
            process.send_after(me, seconds, seconds)

        assert [process.receive(timeout=5.0) for _ in range(3)] == [0.01, 0.02, 0.03]

    def test_zero(self, me):
        """At once."""
        process.send_after(me, "now", 0.0)

        assert assert_receive("now", 5.0)

    def test_of_a_process_that_ended(self, me):
        """The receiver keeps the timer, not the sender."""
        process.spawn(lambda: process.send_after(me, "from the dead", SOON)).wait(5.0)

        assert assert_receive("from the dead", 5.0)

    def test_due_while_this_process_was_busy(self, me):
        """It lies in the mailbox, for a receive that does not wait."""
        timer = process.send_after(me, "late", 0.001)
        while process.read_timer(timer) is not None:
            pass

        assert process.receive("late", timeout=0) == "late"

    def test_the_message_is_that_of_now(self, me):
        """What happens to it here later is not seen there, also to oneself."""
        message = ["a"]
        process.send_after(me, message, 0.0)
        message.append("b")

        assert process.receive(list, 5.0) == ["a"]

    def test_what_cannot_be_sent(self, me, unsendable):
        """Is said at once, also to oneself."""
        with pytest.raises(CodecError):
            process.send_after(me, unsendable["lock"], 0.0)

    def test_a_name_of_another_kind(self, me):
        """Is kept by the caller; lost when nobody has it."""
        timer = process.send_after(Global("nobody"), "lost", SOON)
        process.send_after(me, "marker", 2 * SOON)
        assert_receive("marker", 5.0)

        assert process.read_timer(timer) is None
        assert process.flush() == []

    @pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
    def test_a_wrong_time_is_refused(self, me, seconds):
        """As OTP's badarg."""
        with pytest.raises(ValueError, match="seconds is a number >= 0"):
            process.send_after(me, "late", seconds)

    def test_to_the_dead(self, me):
        """Nothing happens."""
        pid = process.spawn(int)
        pid.wait(5.0)

        assert process.send_after(pid, "late", 0.0) is not None


@pytest.fixture(params=["oneself", "another", "a name"])
def dest(request, me):
    if request.param == "oneself":
        yield me
    elif request.param == "another":
        yield process.spawn(plain.linger)
    else:
        process.register(me, "timed")
        yield "timed"
        process.unregister("timed")


class TestWrongInput:
    def test_a_destination_that_is_none(self, me):
        """Is told at once, and not when the time has come."""
        with pytest.raises(TypeError, match="3 is no server reference"):
            process.send_after(3, "x", 0.1)

    @pytest.mark.parametrize("function", [process.cancel_timer, process.read_timer])
    def test_no_timer(self, me, function):
        """Says what one is."""
        with pytest.raises(TypeError, match="gave, not 3"):
            function(3)


class TestCancelTimer:
    def test_gives_what_was_left(self, dest):
        """Seconds; the message never comes."""
        timer = process.send_after(dest, "late", LONG)
        left = process.cancel_timer(timer)

        assert LONG - 5.0 < left <= LONG
        assert process.flush() == []

    def test_twice(self, dest):
        """None: it was cancelled before."""
        timer = process.send_after(dest, "late", LONG)
        process.cancel_timer(timer)

        assert process.cancel_timer(timer) is None

    def test_before_its_time(self, me):
        """Another that comes later shows that it did not."""
        timer = process.send_after(me, "cancelled", SOON)
        process.send_after(me, "marker", 2 * SOON)
        was_in_time = process.cancel_timer(timer) is not None
        assert_receive("marker", 5.0)

        assert process.flush() == ([] if was_in_time else ["cancelled"])

    def test_too_late(self, me):
        """None; the message lies in the mailbox."""
        timer = process.send_after(me, "late", 0.0)
        process.send_after(me, "marker", SOON)
        assert_receive("marker", 5.0)

        assert process.cancel_timer(timer) is None
        assert process.flush() == ["late"]


class TestStartTimer:
    def test_the_message_names_its_timer(self, me):
        """So that one that was cancelled too late can be told from the next."""
        timer = process.start_timer(me, "late", SOON)

        assert assert_receive(("timeout", ..., ...), 5.0) == ("timeout", timer.ref, "late")

    def test_to_another(self, me):
        """The reference is the same everywhere."""
        timer = process.start_timer(process.spawn(plain.pass_on, me), "late", SOON)

        assert assert_receive(("timeout", ..., ...), 5.0) == ("timeout", timer.ref, "late")


class TestReadTimer:
    def test_gives_what_is_left(self, dest):
        """And changes nothing."""
        timer = process.send_after(dest, "late", LONG)
        found = [process.read_timer(timer) for _ in range(2)]
        process.cancel_timer(timer)

        assert LONG >= found[0] >= found[1] > LONG - 5.0

    def test_its_process_is_dead(self, me):
        """None: the timer ended with it."""
        pid = process.spawn(plain.linger)
        timer = process.send_after(pid, "late", LONG)
        process.exit(pid, "kill")
        pid.wait(5.0)

        assert process.read_timer(timer) is None
        assert process.cancel_timer(timer) is None

    def test_by_another(self, me):
        """A timer can be sent; who has it can cancel it."""
        timer = process.send_after(me, "late", LONG)
        process.spawn(lambda: process.send(me, (timer, process.cancel_timer(timer))))
        told, left = assert_receive((..., ...), 5.0)
        process.flush()

        assert LONG - 5.0 < left <= LONG
        assert (timer, None) == (told, process.read_timer(timer))

    def test_cancelled(self, dest):
        """None."""
        timer = process.send_after(dest, "late", LONG)
        process.cancel_timer(timer)

        assert process.read_timer(timer) is None

    def test_expired(self, me):
        """None."""
        timer = process.send_after(me, "late", 0.0)
        assert_receive("late", 5.0)

        assert process.read_timer(timer) is None
