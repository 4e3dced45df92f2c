"""Casts that wait one behind the other are handled without a look at anything else; what one of them wants comes first.

Each server here is held in a callback until what it is to find is in its mailbox.
"""

import pytest

from otp_runtime import Crash, GenServer, NoReply, Reply, ServerDown, Stop, process, system
from otp_runtime.testing import gate

pytestmark = pytest.mark.usefixtures("otp_node")


class Log(GenServer):
    """Keeps what it was told, in order; a cast may be a function that acts inside the server."""

    def init(self, arg):
        return []

    def handle_cast(self, request, state):
        if callable(request):
            return request(state)
        return NoReply([*state, request])

    def handle_call(self, request, client, state):
        return Reply(state, state)

    def handle_info(self, message, state):
        if message == "timeout":
            process.send(state, message)
            return NoReply([])
        return NoReply([*state, ("info", message)])

    def handle_continue(self, term, state):
        return NoReply([*state, ("continue", term)])


@pytest.fixture
def log():
    with Log.start_link() as server:
        yield server


@pytest.fixture
def doomed():
    return Log.start()


def told(server, *requests):
    """Cast all of it to a server that is held meanwhile, then let it go; give what it has kept at the end."""
    with gate() as hold:
        GenServer.cast(server, lambda state: (hold.wait(), NoReply(state))[1])
        hold.wait_arrival()
        for request in requests:
            GenServer.cast(server, request)
        hold.open()
    return GenServer.call(server, "all")


class TestOrder:
    def test_is_that_of_sending(self, log):
        """Whatever size they have: some travel in parts."""
        requests = [number if number % 40 else "x" * 9000 for number in range(120)]

        assert requests == told(log, *requests)

    def test_a_callback_that_receives_takes_what_is_next(self, log):
        """What waits behind a cast is in the inbox, whoever looks."""
        me = process.self()

        def receive(state):
            process.send(me, "receiving")
            return NoReply([*state, ("received", process.receive(str, timeout=5)), process.receive(timeout=0)])

        with gate() as hold:
            GenServer.cast(log, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            GenServer.cast(log, receive)
            GenServer.cast(log, 1)
            process.send(log, "word")
            hold.open()
        assert process.receive("receiving", timeout=5) == "receiving"

        assert [("received", "word"), ("$gen_cast", 1)] == GenServer.call(log, "all")

    def test_messages_between_casts(self, log):
        """Each kind goes to its callback, in the order of sending."""
        with gate() as hold:
            GenServer.cast(log, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            for number in range(3):
                GenServer.cast(log, number)
                process.send(log, number)
            hold.open()

        assert [0, ("info", 0), 1, ("info", 1), 2, ("info", 2)] == GenServer.call(log, "all")


class TestWhatACastWants:
    def test_continues_first(self, log):
        """`handle_continue` comes before the next cast."""
        kept = told(log, 1, lambda state: NoReply(state, continue_="now"), 2)

        assert [1, ("continue", "now"), 2] == kept

    def test_a_timeout_is_over_with_the_next_message(self, log):
        """A cast that waits comes before the time-out, and ends it."""
        assert [1, 2] == told(log, lambda state: NoReply(state, timeout=0.0), 1, 2)

    def test_a_timeout_of_the_last(self, log):
        """When nothing waits behind it, it fires."""
        me = process.self()
        with gate() as hold:
            GenServer.cast(log, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            GenServer.cast(log, 1)
            GenServer.cast(log, lambda state: NoReply(me, timeout=0.0))
            hold.open()

        assert "timeout" == process.receive(timeout=5)

    def test_stop(self, doomed):
        """What waits behind it is handled by nobody."""
        ref = process.monitor(doomed)
        with pytest.raises(ServerDown) as caught:
            told(doomed, 1, lambda state: Stop("enough", state), 2)

        assert ("enough", ref) == (caught.value.reason, process.receive(timeout=5).ref)

    def test_a_crash_tells_its_message(self, doomed):
        """The message in hand is that of the callback which failed."""
        with pytest.raises(ServerDown) as caught:
            told(doomed, 1, lambda state: state[7], 2)

        assert isinstance(caught.value.reason, Crash)
        assert "IndexError" in repr(caught.value.reason)

    def test_a_bad_return(self, doomed):
        """It ends the server, as it does alone."""
        with pytest.raises(ServerDown) as caught:
            told(doomed, lambda state: "what?", 2)

        assert ("bad_return_value", "what?") == caught.value.reason


class TestFromOutside:
    def test_suspend_passes_a_flood(self, log):
        """A system message on the control lane is seen between two casts of a row; the rest waits for `resume`."""
        with gate() as hold, gate() as second:
            GenServer.cast(log, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            GenServer.cast(log, 1)
            GenServer.cast(log, lambda state: (second.wait(), NoReply(state))[1])
            GenServer.cast(log, 2)
            hold.open()
            second.wait_arrival()
            asked = GenServer.send_request(log, "all")
            second.open()
            assert GenServer.receive_response(asked) == [1, 2]
            system.suspend(log)
            GenServer.cast(log, 3)
            system.resume(log)

        assert [1, 2, 3] == GenServer.call(log, "all")

    def test_an_exit_signal_ends_a_row(self, doomed):
        """It ends the server in the middle of its casts, and those behind are not handled."""
        ref = process.monitor(doomed)
        me = process.self()
        with gate() as hold:
            GenServer.cast(doomed, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            process.exit(doomed, "enough")
            GenServer.cast(doomed, lambda state: (process.send(me, "handled"), NoReply(state))[1])
        down = process.receive(timeout=5)

        assert (ref, "enough") == (down.ref, down.reason)
