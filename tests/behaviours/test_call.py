"""Calling: whom, how long, and what the caller is told when no reply comes."""

import os

import pytest

from otp_runtime import (
    CallingSelf,
    CallTimeout,
    CodecError,
    Down,
    GenServer,
    NoProcess,
    NoReply,
    Reply,
    ServerDown,
    Signalled,
    Stop,
    Supervisor,
    process,
)
from otp_runtime.testing import assert_receive, gate, sigkill
from tests.behaviours import servers
from tests.behaviours.servers import Scripted, Teller

call, cast = GenServer.call, GenServer.cast


def never(client, state):
    """Leave a call unanswered."""
    return NoReply(state)


class TestCall:
    def test_by_name_and_pid(self, me):
        """The same server."""
        pid = Scripted.start_link(7, name="seven")

        assert call(pid, "state") == call("seven", "state") == 7

    @pytest.mark.parametrize("server", ["nobody", None])
    def test_nobody(self, me, server):
        """At once; says whom and what."""
        if server is None:
            server = process.spawn(int)
            server.wait(5.0)
        with pytest.raises(NoProcess) as error:
            call(server, "hello", 60.0)

        assert (error.value.server, error.value.request, error.value.reason) == (server, "hello", "noproc")

    @pytest.mark.parametrize("reason", ["normal", "shutdown", "custom", ("shutdown", 1)])
    def test_dies_meanwhile(self, me, reason):
        """The exact reason."""
        pid = Scripted.start(0, name="dying")
        with pytest.raises(ServerDown) as error:
            call("dying", lambda client, state: Stop(reason, state))

        assert (error.value.reason, error.value.server) == (reason, "dying")
        assert pid.wait(5.0) == reason

    def test_is_killed_meanwhile(self, me):
        """By the world."""
        with pytest.raises(ServerDown) as error:
            call(Scripted.start(0), lambda client, state: os.kill(os.getpid(), 9))

        assert error.value.reason == Signalled("SIGKILL")

    def test_those_who_wait_are_told(self, me):
        """Callers whose request lies in the mailbox of the dead."""
        pid = Scripted.start(0)
        with gate() as hold:
            cast(pid, lambda state: (hold.wait(), NoReply(state))[1])
            rids = [GenServer.send_request(pid, "state") for _ in range(3)]
            hold.wait_arrival()
            process.exit(pid, "kill")
        reasons = []
        for rid in rids:
            with pytest.raises(ServerDown) as error:
                GenServer.receive_response(rid)
            reasons.append(error.value.reason)

        assert reasons == ["killed"] * 3

    def test_oneself(self, me):
        """Could never be answered."""
        pid = Scripted.start(0, name="selfish")
        with pytest.raises(ServerDown) as error:
            call(pid, lambda client, state: call("selfish", "state"))

        assert error.value.reason == "calling_self"

    def test_the_programs_own_thread(self, me):
        """As well."""
        with pytest.raises(CallingSelf):
            call(me, "hello")

    @pytest.mark.parametrize("what", ["lock", "socket", "file", "generator"])
    def test_a_request_that_cannot_travel(self, me, unsendable, what):
        """Says where in the request; nothing was sent and the server is unharmed."""
        pid = Scripted.start_link(7)
        for send in (call, cast, GenServer.send_request):
            with pytest.raises(CodecError) as error:
                send(pid, {"jobs": [0, unsendable[what]]})

            assert error.value.path == 'request["jobs"][1]'
        assert (call(pid, "state"), process.info(pid).handled) == (7, 1)

    def test_what_is_no_reference(self, me):
        """A mistake in the program."""
        with pytest.raises(TypeError, match="is no server reference"):
            call(42, "hello")

    def test_many(self, me):
        """Each gets its own."""
        pid = Scripted.start_link(0)

        assert [call(pid, lambda client, state, n=n: Reply(n, state)) for n in range(100)] == list(range(100))


class TestTimeout:
    def test_says_so(self, me):
        """A TimeoutError with server, request and the time that went by."""
        pid = Scripted.start_link(0, name="slow")
        with pytest.raises(CallTimeout) as error:
            call("slow", never, 0.05)

        assert isinstance(error.value, TimeoutError)
        assert (error.value.server, error.value.reason) == ("slow", "timeout")
        assert 0.05 <= error.value.elapsed < 5.0
        assert process.alive(pid)

    def test_the_server_still_handles_it(self, me):
        """It is not told."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            cast(pid, lambda state: (hold.wait(), NoReply(state))[1])
            with pytest.raises(CallTimeout):
                call(pid, servers.set_state("handled"), 0.01)
            hold.open()

            assert call(pid, "state") == "handled"

    def test_the_late_reply_is_never_seen(self, me):
        """Neither in the mailbox nor by the next call."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            with pytest.raises(CallTimeout):
                call(pid, lambda client, state: (hold.wait(), Reply("late", state))[1], 0.01)
            hold.open()

            assert call(pid, lambda client, state: Reply("next", state)) == "next"
        assert process.flush() == []

    def test_zero(self, me):
        """Does not wait."""
        with pytest.raises(CallTimeout):
            call(Scripted.start_link(0), never, 0)

    def test_for_ever(self, me):
        """None."""
        pid = Scripted.start_link(0)
        with gate() as hold:
            cast(pid, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            hold.open()

            assert call(pid, "state", None) == 0

    def test_kills_if_asked_to(self, me):
        """`on_timeout="kill"`."""
        pid, ref = Scripted.start_monitor(0)
        with pytest.raises(CallTimeout):
            call(pid, never, 0.01, on_timeout="kill")

        assert assert_receive(Down, 5.0) == Down(ref, pid, "killed")

    def test_kills_nobody_in_time(self, me):
        """A reply is a reply."""
        pid = Scripted.start_link(7)

        assert call(pid, "state", 5.0, on_timeout="kill") == 7
        assert process.alive(pid)


class TestDuringARestart:
    @pytest.fixture
    def name(self, otp_node, start_supervised):
        start_supervised(servers.Scripted.child_spec(7, name="coming back"))
        return "coming back"

    def test_a_call_by_name_waits(self, name):
        """Until the name is back."""
        for _ in range(5):
            sigkill(name)

            assert call(name, "state") == 7

    def test_dies_in_the_call(self, name):
        """Is told; the next call waits."""
        with pytest.raises(ServerDown):
            call(name, lambda client, state: os.kill(os.getpid(), 9))

        assert call(name, "state") == 7

    def test_across_restart(self, name, tmp_path):
        """Sent once more when the server died and is back."""
        flag = tmp_path / "died"

        def die_once(client, state):
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), 9)
            return Reply("second time", state)

        assert call(name, die_once, across_restart=True) == "second time"

    def test_across_two(self, name):
        """A second death raises."""
        with pytest.raises(ServerDown) as error:
            call(name, lambda client, state: os.kill(os.getpid(), 9), across_restart=True)

        assert error.value.reason == Signalled("SIGKILL")

    def test_across_the_restart_of_a_pid(self, name):
        """A pid does not come back."""
        pid = process.whereis(name)
        with pytest.raises((ServerDown, NoProcess)):
            call(pid, lambda client, state: os.kill(os.getpid(), 9), across_restart=True)


class TestCast:
    def test_gives_nothing(self, me):
        """And changes the state, some time."""
        pid = Scripted.start_link(0)

        assert cast(pid, lambda state: NoReply(state + 1)) is None
        assert call(pid, "state") == 1

    def test_to_nobody(self, me):
        """Dropped silently."""
        dead = process.spawn(int)
        dead.wait(5.0)

        assert [cast("nobody", 1), cast(dead, 1)] == [None, None]

    def test_to_oneself(self, me):
        """A server may."""
        pid = Scripted.start_link(0)
        call(pid, lambda client, state: (cast(process.self(), lambda n: NoReply(n + 1)), Reply(1, state))[1])

        assert call(pid, "state") == 1


class TestRequests:
    def test_receive(self, me):
        """The reply, later."""
        rid = GenServer.send_request(Scripted.start_link(7), "state")

        assert GenServer.receive_response(rid) == 7

    def test_several_out_of_order(self, me):
        """Each reply finds its request."""
        pid = Scripted.start_link(0)
        rids = [GenServer.send_request(pid, lambda client, state, n=n: Reply(n, state)) for n in range(5)]

        assert [GenServer.receive_response(rid) for rid in reversed(rids)] == [4, 3, 2, 1, 0]

    def test_to_nobody(self, me):
        """The wait says so, not the sending."""
        rid = GenServer.send_request("nobody", 1)
        with pytest.raises(NoProcess):
            GenServer.receive_response(rid)

    def test_dies(self, me):
        """As a call."""
        pid = Scripted.start(0)
        rid = GenServer.send_request(pid, lambda client, state: Stop("custom", state))
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid)

        assert error.value.reason == "custom"

    def test_died_before_the_wait(self, me):
        """Told all the same."""
        pid = Scripted.start(0)
        rid = GenServer.send_request(pid, lambda client, state: Stop("custom", state))
        pid.wait(5.0)
        with pytest.raises(ServerDown) as error:
            GenServer.receive_response(rid, 0)

        assert error.value.reason == "custom"

    def test_receive_abandons(self, me):
        """After a time-out the reply is dropped."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            rid = GenServer.send_request(pid, lambda client, state: (hold.wait(), Reply("late", state))[1])
            with pytest.raises(CallTimeout):
                GenServer.receive_response(rid, 0.01)
            hold.open()
            call(pid, "state")

        assert process.flush() == []
        with pytest.raises(CallTimeout):
            GenServer.receive_response(rid, 0)

    def test_wait_does_not(self, me):
        """It stays valid and can be waited for again."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            rid = GenServer.send_request(pid, lambda client, state: (hold.wait(), Reply("late", state))[1])
            for _ in range(2):
                with pytest.raises(CallTimeout):
                    GenServer.wait_response(rid, 0.01)
            hold.open()

            assert GenServer.wait_response(rid) == "late"

    def test_wait_any(self, me):
        """The first, whichever; the others stay valid."""
        with gate() as hold:
            slow, quick = Scripted.start_link(0), Scripted.start_link(7)
            late = GenServer.send_request(slow, lambda client, state: (hold.wait(), Reply("late", state))[1])
            soon = GenServer.send_request(quick, "state")
            first = GenServer.wait_any([late, soon])
            hold.open()

            assert (first, GenServer.wait_any([late])) == ((soon, 7), (late, "late"))

    def test_wait_any_times_out(self, me):
        """All stay valid."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            rid = GenServer.send_request(pid, lambda client, state: (hold.wait(), Reply("late", state))[1])
            with pytest.raises(CallTimeout):
                GenServer.wait_any([rid], 0.01)
            hold.open()

            assert GenServer.wait_any([rid]) == (rid, "late")

    def test_check(self, me):
        """Without waiting: None, then the value."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            rid = GenServer.send_request(pid, lambda client, state: (hold.wait(), Reply(None, state))[1])
            before = GenServer.check_response("anything", rid)
            hold.open()
            call(pid, "state")

            assert (before, GenServer.check_response("anything", rid).value) == (None, None)

    def test_reply_error(self, me):
        """Raised by the wait."""
        rid = GenServer.send_request(
            Scripted.start_link(0), lambda client, state: Reply.error(KeyError("missing"), state)
        )
        with pytest.raises(KeyError):
            GenServer.receive_response(rid)


class TestStop:
    def test_waits_for_the_end(self, me):
        """The name is free, `terminate` has run."""
        pid = Teller.start_link(me, name="stopped")
        result = GenServer.stop("stopped")

        assert (result, process.whereis("stopped"), process.alive(pid)) == (None, None, False)
        assert process.flush() == [("terminate", "normal")]

    @pytest.mark.parametrize("reason", ["shutdown", ("shutdown", 1), "custom", ("a", [1])])
    def test_with_a_reason(self, me, reason):
        """Any; who asked is content."""
        pid = Teller.start(me)
        GenServer.stop(pid, reason)

        assert (process.flush(), pid.wait(5.0)) == ([("terminate", reason)], reason)

    def test_keeps_mailbox_order(self, me):
        """What was sent before is handled before."""
        pid = Teller.start_link(me)
        process.send(pid, "before")
        GenServer.stop(pid)

        assert process.flush() == [("info", "before"), ("terminate", "normal")]

    def test_nobody(self, me):
        """Says so, unless told not to mind."""
        with pytest.raises(NoProcess):
            GenServer.stop("nobody")

        assert GenServer.stop("nobody", missing_ok=True) is None

    def test_ends_of_something_else(self, me):
        """Is told."""
        pid = servers.TerminatesBadly.start(servers.boom)
        with pytest.raises(ServerDown) as error:
            GenServer.stop(pid)

        assert error.value.reason.type == "ValueError"

    def test_times_out(self, me):
        """The request stays queued and acts later."""
        with gate() as hold:
            pid = Scripted.start_link(0)
            cast(pid, lambda state: (hold.wait(), NoReply(state))[1])
            with pytest.raises(CallTimeout):
                GenServer.stop(pid, timeout=0.01)
            hold.open()

            assert pid.wait(5.0) == "normal"

    def test_oneself(self, me):
        """Cannot wait for its own end."""
        with pytest.raises(CallingSelf):
            GenServer.stop(me)

    def test_by_the_block(self, me):
        """Leaving a `with` stops it."""
        with Teller.start_link(me) as pid:
            pass

        assert (process.flush(), pid.wait(5.0)) == ([("terminate", "normal")], "normal")

    def test_by_a_block_in_which_it_died(self, me):
        """Is told; as a note when the body raises."""
        with pytest.raises(ServerDown) as down, Scripted.start(0) as pid:
            sigkill(pid)
        with pytest.raises(KeyError) as raised, Scripted.start(0) as pid:  # noqa: PT012 - the block is under test
            sigkill(pid)
            raise KeyError("mine")

        assert down.value.reason == Signalled("SIGKILL")
        assert "SIGKILL" in raised.value.__notes__[0]

    def test_by_a_block_in_which_it_was_stopped(self, me):
        """Silent."""
        with Scripted.start_link(0) as pid:
            GenServer.stop(pid)

        assert process.alive(pid) is False


class TestTerminate:
    """When `terminate` runs, and when it does not."""

    def told(self, pid):
        pid.wait(5.0)
        return [message for message in process.flush() if isinstance(message, tuple)]

    @pytest.mark.parametrize("reason", ["shutdown", "custom", "kill"])
    def test_not_after_an_untrapped_signal(self, me, reason):
        """The process just ends."""
        pid = Teller.start(me)
        process.exit(pid, reason)

        assert self.told(pid) == []

    def test_not_after_a_kill(self, me):
        """Nothing runs."""
        pid = servers.Trapping.start(me)
        process.exit(pid, "kill")

        assert self.told(pid) == []

    @pytest.mark.parametrize("reason", ["shutdown", "custom", "normal"])
    def test_after_the_parents_trapped_exit(self, me, reason):
        """Any reason of it, normal too."""
        pid = servers.Trapping.start_link(me)
        process.exit(pid, reason)

        assert self.told(pid) == [("terminate", reason)]

    def test_a_strangers_trapped_exit(self, me):
        """Is a message."""
        pid = servers.Trapping.start_link(me)
        process.spawn(process.exit, pid, "custom")

        assert assert_receive(("info", ...), 5.0)[1].reason == "custom"

    def test_decides_the_reason(self, me):
        """What it raises is the exit reason."""
        ends = {}
        for name, leave in {
            "boom": servers.boom,
            "exit": servers.exit_with("other"),
            "code": lambda: os._exit(4),
        }.items():
            pid = servers.TerminatesBadly.start(leave)
            cast(pid, lambda state: Stop("custom", state))
            ends[name] = pid.wait(5.0)

        assert (ends["boom"].type, ends["exit"], ends["code"].code) == ("ValueError", "other", 4)

    def test_the_last_state(self, me):
        """That a callback returned."""
        pid = Teller.start(None)
        call(pid, servers.set_state(me))
        GenServer.stop(pid)

        assert process.flush() == [("terminate", "normal")]


class TestTerminateThatDoesNotRun:
    def test_says_once_that_it_would_not_run(self, caplog):
        """A class with `terminate` that is shut down without trapping."""
        from otp_runtime import Node
        from otp_runtime.testing.nodes import private_node

        with private_node():
            children = [Teller.child_spec(None, name=name) for name in ("a", "b")]
            with Supervisor.start_link(children, strategy="one_for_one"):
                pass
            Node.stop()
        said = [message for message in caplog.messages if "trap_exit = True" in message]

        assert len(said) == 1
