"""What callbacks return and what comes of it: replies, order, time-outs, bad values."""

import pytest

from otp_runtime import Down, GenServer, NoReply, Ok, Reply, ServerDown, Stop, process, system, why
from otp_runtime.testing import assert_receive, gate
from tests.behaviours import servers
from tests.behaviours.servers import Bare, Scripted, Teller

call, cast = GenServer.call, GenServer.cast
SOON = 0.02


class TestReply:
    @pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": (2, b"3")}], {1: 2}, ("error", 1)])
    def test_any_value(self, me, value):
        """None too."""
        assert call(Scripted.start_link(0), lambda client, state: Reply(value, state)) == value

    def test_state(self, me):
        """The new one is there at the next message."""
        pid = Scripted.start_link(0)
        call(pid, servers.set_state([1]))

        assert call(pid, "state") == [1]

    @pytest.mark.parametrize("size", [1, 4092, 4093, 600_000, 4 << 20])
    def test_of_any_size(self, me, size):
        """Request and reply."""
        data = b"x" * size

        assert call(Scripted.start_link(0), lambda client, state: Reply(data, state)) == data

    def test_that_cannot_travel(self, me):
        """Raises in the caller; the server is unharmed."""
        import threading

        from otp_runtime import CodecError

        pid = Scripted.start_link(7)
        with pytest.raises(CodecError) as error:
            call(pid, lambda client, state: Reply({"lock": threading.Lock()}, state))

        assert error.value.path == 'reply["lock"]'
        assert call(pid, "state") == 7

    def test_later(self, me):
        """By the server itself, in another callback."""
        pid = Scripted.start_link(None)
        rid = GenServer.send_request(pid, lambda client, state: NoReply(client))
        cast(pid, lambda client: (GenServer.reply(client, "late"), NoReply(None))[1])

        assert GenServer.receive_response(rid) == "late"

    def test_by_another(self, me):
        """Any process may answer."""
        pid = Scripted.start_link(None)
        rid = GenServer.send_request(
            pid, lambda client, state: (process.spawn(GenServer.reply, client, "elsewhere"), NoReply(state))[1]
        )

        assert GenServer.receive_response(rid) == "elsewhere"

    def test_before_it_returns(self, me):
        """A server may answer first and work on."""
        with gate() as hold:
            pid = Scripted.start_link(0)

            def answer_then_work(client, state):
                GenServer.reply(client, "early")
                hold.wait()
                return NoReply(state)

            assert call(pid, answer_then_work) == "early"

    def test_twice(self, me):
        """The second is dropped."""
        pid = Scripted.start_link(0)
        first = call(pid, lambda client, state: (GenServer.reply(client, 1), Reply(2, state))[1])

        assert (first, call(pid, "state"), process.flush()) == (1, 0, [])

    def test_to_the_dead(self, me):
        """Is nothing."""
        pid = Scripted.start_link(None)
        caller = process.spawn(lambda: call(pid, lambda client, _state: NoReply(client)))
        while (client := call(pid, "state")) is None:
            pass
        process.exit(caller, "kill")
        caller.wait(5.0)

        assert GenServer.reply(client, "nobody hears") is None


class TestReplyError:
    def test_raises_in_the_caller(self, me):
        """With its type and text; the server goes on with the new state."""
        pid = Scripted.start_link(0)
        with pytest.raises(KeyError, match="no such key"):
            call(pid, lambda client, state: Reply.error(KeyError("no such key"), 1))

        assert call(pid, "state") == 1

    def test_one_that_cannot_be_pickled(self, me):
        """Something is raised all the same."""

        class StrangeError(Exception):
            def __init__(self, handle):
                super().__init__("strange")
                self.handle = handle

        pid = Scripted.start_link(0)
        with pytest.raises(Exception, match="strange"):
            call(pid, lambda client, state: Reply.error(StrangeError(open("/dev/null")), state))  # noqa: SIM115

        assert call(pid, "state") == 0


class TestStop:
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "custom", ("a", [1])])
    def test_in_a_call_without_a_reply(self, me, reason):
        """The caller is told the reason, normal too."""
        with pytest.raises(ServerDown) as error:
            call(Scripted.start(0), lambda client, state: Stop(reason, state))

        assert error.value.reason == reason

    def test_in_a_call_with_a_reply(self, me):
        """First `terminate`, then the reply, then the end."""
        pid, ref = Teller.start_monitor(me)
        value = call(pid, lambda client, state: Stop("custom", state, reply="bye"))
        order = [process.receive(timeout=0)]

        assert (value, order) == ("bye", [("terminate", "custom")])
        assert assert_receive(Down, 5.0) == Down(ref, pid, "custom")

    def test_reply_none(self, me):
        """Is a reply."""
        assert call(Scripted.start(0), lambda client, state: Stop("normal", reply=None)) is None

    @pytest.mark.parametrize("send", [cast, process.send], ids=["cast", "info"])
    def test_in_others(self, me, send):
        """`handle_cast`, `handle_info`."""
        pid, ref = Scripted.start_monitor(0)
        send(pid, lambda state: Stop("custom"))

        assert assert_receive(Down, 5.0) == Down(ref, pid, "custom")

    def test_keeps_the_state(self, me):
        """Unless one is given."""
        for given, seen in ((Stop("custom"), "old"), (Stop("custom", "new"), "new"), (Stop("custom", None), "None")):
            pid, _ref = Scripted.start_monitor("old", name="stopping")
            cast(pid, lambda state, given=given: given)
            assert_receive(Down, 5.0)

            assert why(pid).state.strip("'") == seen


BAD = (None, 42, "ok", ("reply", 1, 2), Ok(1), [])


class TestBadReturn:
    @pytest.mark.parametrize("value", BAD, ids=repr)
    def test_from_handle_call(self, me, value):
        """OTP's reason, for the caller too."""
        pid = Scripted.start(0)
        with pytest.raises(ServerDown) as error:
            call(pid, lambda client, state: value)

        assert error.value.reason == ("bad_return_value", value)
        assert pid.wait(5.0) == ("bad_return_value", value)

    @pytest.mark.parametrize("value", [*BAD, Reply(1, 2), Reply.error(ValueError("x"), 1)], ids=repr)
    @pytest.mark.parametrize("send", [cast, process.send], ids=["cast", "info"])
    def test_from_others(self, me, send, value):
        """There a Reply is bad too."""
        pid = Scripted.start(0)
        send(pid, lambda state: value)
        kind, what = pid.wait(5.0)

        assert (kind, type(what)) == ("bad_return_value", type(value))

    def test_from_handle_continue(self, me):
        """As well."""
        pid = Scripted.start(0)
        call(pid, lambda client, state: Reply(1, state, continue_=lambda state: 42))

        assert pid.wait(5.0) == ("bad_return_value", 42)

    def test_calls_terminate(self, me):
        """With that reason."""
        pid = Teller.start(me)
        cast(pid, lambda state: 42)

        assert assert_receive(("terminate", ...), 5.0) == ("terminate", ("bad_return_value", 42))

    def test_that_cannot_travel(self, me, unsendable):
        """Is told as text."""
        pid = Scripted.start(0)
        cast(pid, lambda state: open("/dev/null"))  # noqa: SIM115
        kind, text = pid.wait(5.0)

        assert (kind, "/dev/null" in text) == ("bad_return_value", True)


class TestBadReturnReport:
    @pytest.mark.parametrize(
        ("name", "trigger", "allowed"),
        [
            ("handle_call", lambda pid: GenServer.send_request(pid, lambda *_: 42), "Reply(value, state)"),
            ("handle_cast", lambda pid: cast(pid, lambda _: 42), "NoReply(state) or Stop(reason, state)"),
            ("handle_info", lambda pid: process.send(pid, lambda _: 42), "NoReply(state) or Stop(reason, state)"),
        ],
        ids=["call", "cast", "info"],
    )
    def test_names_the_callback_and_what_is_allowed(self, caplog, name, trigger, allowed):
        """For whoever wrote it."""
        from otp_runtime import Node
        from otp_runtime.testing.nodes import private_node

        with private_node():
            pid = Scripted.start(0, name="wrong")
            trigger(pid)
            pid.wait(5.0)
            Node.stop()
        (text,) = [message for message in caplog.messages if "returned" in message]

        assert text.startswith(f"wrong {pid!r}: {name} returned 42; allowed: {allowed}")


class TestRaise:
    @pytest.mark.parametrize("send", [cast, process.send], ids=["cast", "info"])
    def test_ends_the_server(self, me, send):
        """A Crash; `terminate` runs with it."""
        pid = Teller.start(me)
        send(pid, servers.boom)

        assert assert_receive(("terminate", ...), 5.0)[1].type == "ValueError"
        assert pid.wait(5.0).message == "boom"

    def test_in_a_call(self, me):
        """The caller gets the remote traceback as a note."""
        with pytest.raises(ServerDown, match="ValueError: boom") as error:
            call(Scripted.start(0), servers.boom)

        assert "in boom" in error.value.__notes__[0]

    @pytest.mark.parametrize("reason", ["normal", "shutdown", "custom", ("a", 1)])
    def test_exit_with(self, me, reason):
        """From anywhere in a callback."""
        pid = Teller.start(me)
        cast(pid, servers.exit_with(reason))

        assert assert_receive(("terminate", ...), 5.0) == ("terminate", reason)
        assert pid.wait(5.0) == reason

    def test_an_uncaught_call_error(self, me):
        """Gives its reason, not a Crash."""
        victim = Scripted.start(0)
        reasons = []
        for function in (
            lambda state: call("nobody", 1),
            lambda state: call(victim, lambda client, state: NoReply(state), 0.01),
            lambda state: call(victim, lambda client, state: Stop("custom", state)),
            lambda state: call(process.self(), 1),
        ):
            pid = Scripted.start(0)
            cast(pid, function)
            reasons.append(pid.wait(5.0))

        assert reasons == ["noproc", "timeout", "custom", "calling_self"]

    def test_a_caught_one(self, me):
        """Is the server's own business."""

        def careful(client, state):
            try:
                call("nobody", 1)
            except LookupError:
                pass
            except Exception as error:  # noqa: BLE001 - any
                return Reply(type(error).__name__, state)

        assert call(Scripted.start_link(0), careful) == "NoProcess"


class TestMissing:
    def test_handle_call(self, me):
        """A crash that says what is missing."""
        pid = Bare.start(0)
        with pytest.raises(ServerDown, match="Bare has no handle_call, and was called with 'hello'"):
            call(pid, "hello")

        assert pid.wait(5.0).type == "NotImplementedError"

    def test_handle_cast(self, me):
        """As well."""
        pid = Bare.start(0)
        cast(pid, "hello")

        assert pid.wait(5.0).message == "Bare has no handle_cast, and was cast 'hello'"

    def test_handle_info(self, me, caplog):
        """A warning; the message is dropped, the server lives."""
        pid = Bare.start(7)
        process.send(pid, "hello")

        assert system.get_state(pid) == 7

    def test_handle_continue(self, me):
        """A crash."""

        class WithoutContinue(Bare):
            def handle_cast(self, request, state):
                return NoReply(state, continue_="more")

        pid = WithoutContinue.start(0)
        cast(pid, "x")

        assert "has no handle_continue" in pid.wait(5.0).message


class TestContinue:
    def test_before_what_is_queued(self, me):
        """Any message that lies in the mailbox already comes after it."""
        with gate() as hold:
            pid = Teller.start_link(me)
            cast(pid, lambda state: (hold.wait(), NoReply(state, continue_="first"))[1])
            hold.wait_arrival()
            process.send(pid, "second")
            hold.open()

            assert [assert_receive(tuple, 5.0) for _ in range(2)] == [("continue", "first"), ("info", "second")]

    def test_from_init(self, me):
        """After the starter was told, before any message."""
        with gate() as hold:
            pid = Teller.start_link(
                servers.ok(me, continue_=lambda me: (hold.wait(), process.send(me, "c"), NoReply(me))[2])
            )
            process.send(pid, "queued")
            hold.open()

            assert [process.receive(timeout=5.0) for _ in range(2)] == ["c", ("info", "queued")]

    def test_after_the_reply(self, me):
        """The caller does not wait for it."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            value = call(pid, lambda client, state: Reply("r", state, continue_=lambda s: (hold.wait(), NoReply(s))[1]))
            hold.open()

            assert value == "r"

    def test_chains(self, me):
        """One may ask for another, still before what is queued."""
        pid = Teller.start_link(me)

        def one(state):
            process.send(state, 1)
            return NoReply(state, continue_=two)

        def two(state):
            process.send(state, 2)
            return NoReply(state)

        with gate() as hold:
            cast(pid, lambda state: (hold.wait(), NoReply(state, continue_=one))[1])
            process.send(pid, "queued")
            hold.open()

            assert [process.receive(timeout=5.0) for _ in range(3)] == [1, 2, ("info", "queued")]

    def test_none_is_a_term(self, me):
        """Only a missing one is none."""
        pid = Teller.start_link(me)
        cast(pid, lambda state: NoReply(state, continue_=None))

        assert assert_receive(("continue", ...), 5.0) == ("continue", None)

    def test_stops(self, me):
        """It may end the server."""
        pid = Scripted.start(0)
        cast(pid, lambda state: NoReply(state, continue_=lambda state: Stop("custom")))

        assert pid.wait(5.0) == "custom"


class TestTimeout:
    def test_comes(self, me):
        """As the message `timeout`, when nothing else did."""
        Teller.start_link(servers.ok(me, timeout=SOON))

        assert assert_receive(("info", ...), 5.0) == ("info", "timeout")

    def test_once(self, me):
        """It is not periodic."""
        pid = Teller.start_link(servers.ok(me, timeout=0.0))
        assert_receive(("info", "timeout"), 5.0)
        process.send_after(pid, "marker", 2 * SOON)

        assert assert_receive(("info", ...), 5.0) == ("info", "marker")

    @pytest.mark.parametrize(
        "message",
        [
            lambda pid: process.send(pid, NoReply),
            lambda pid: cast(pid, NoReply),
            lambda pid: GenServer.send_request(pid, lambda client, state: Reply(1, state)),
        ],
        ids=["info", "cast", "call"],
    )
    def test_any_message_ends_the_wait(self, me, message):
        """Also one that nobody knows."""
        with gate() as hold:
            pid = Teller.start_link(me)
            cast(pid, lambda state: (hold.wait(), NoReply(state, timeout=SOON))[1])
            hold.wait_arrival()
            message(pid)
            process.send_after(pid, "marker", 3 * SOON)
            hold.open()

            assert assert_receive(("info", ...), 5.0) == ("info", "marker")

    def test_from_each_return(self, me):
        """Reply and NoReply too."""
        pid = Teller.start_link(me)
        call(pid, lambda client, state: Reply(1, state, timeout=0.0))
        first = assert_receive(("info", ...), 5.0)
        cast(pid, lambda state: NoReply(state, timeout=0.0))

        assert (first, assert_receive(("info", ...), 5.0)) == (("info", "timeout"),) * 2

    def test_zero_after_what_is_queued(self, me):
        """A message that is there wins."""
        with gate() as hold:
            pid = Teller.start_link(me)
            cast(pid, lambda state: (hold.wait(), NoReply(state, timeout=0.0))[1])
            hold.wait_arrival()
            process.send(pid, "queued")
            process.send_after(pid, "marker", SOON)
            hold.open()

            assert [assert_receive(("info", ...), 5.0)[1] for _ in range(2)] == ["queued", "marker"]

    def test_a_system_message_starts_it_afresh(self, me):
        """It does not cancel it."""
        pid = Teller.start_link(servers.ok(me, timeout=SOON))
        system.get_state(pid)

        assert assert_receive(("info", ...), 5.0) == ("info", "timeout")


class TestHibernate:
    @pytest.mark.parametrize("wake", [0, 1])
    def test_wakes_for_a_message(self, me, wake):
        """Queued already or not; the state is kept."""
        pid = Scripted.start_link(servers.ok([1, 2], hibernate=True))
        if wake:
            process.send_after(pid, "wake", SOON)

        assert call(pid, "state") == [1, 2]

    def test_from_each_return(self, me):
        """Reply and NoReply too."""
        pid = Scripted.start_link(0)
        call(pid, lambda client, state: Reply(1, state, hibernate=True))
        cast(pid, lambda state: NoReply(state + 1, hibernate=True))

        assert call(pid, "state") == 1

    def test_with_a_timeout(self, me):
        """Both."""
        Teller.start_link(servers.ok(me, hibernate=True, timeout=SOON))

        assert assert_receive(("info", ...), 5.0) == ("info", "timeout")


class TestOrder:
    def test_of_one_sender(self, me):
        """Casts, calls and messages come as they were sent."""
        pid = Scripted.start_link([])
        for number in range(50):
            cast(pid, lambda state, number=number: NoReply([*state, number]))
            process.send(pid, lambda state, number=number: NoReply([*state, -number]))

        assert call(pid, "state") == [one for number in range(50) for one in (number, -number)]


class TestFormatStatus:
    def test_redacts_the_record(self, me):
        """What reports and `why` show."""
        pid = servers.Redacting.start("secret", name="redacting")
        cast(pid, servers.boom)
        pid.wait(5.0)
        record = why(pid)

        assert record.state == "'<redacted>'"
        assert "secret" not in repr(record)

    def test_redacts_get_status(self, me):
        """Not `get_state`, which asks for it."""
        pid = servers.Redacting.start("secret")

        assert system.get_status(pid)["state"] == "<redacted>"
        assert system.get_state(pid) == "secret"

    def test_one_that_raises(self, me):
        """Hides no death and shows no state."""
        pid = servers.RedactingBadly.start("secret")
        cast(pid, servers.boom)

        assert pid.wait(5.0).message == "boom"
        assert why(pid).state == "\"(format_status raised ValueError('broken'))\""
