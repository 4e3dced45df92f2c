"""OTP's `sys`, its second half: functions that see every event, the log, statistics, the trace."""

import os

import pytest

from otp_runtime import (
    Agent,
    CallTimeout,
    EventHandler,
    ExitWith,
    GenEvent,
    GenServer,
    GenStateMachine,
    NoReply,
    OtpError,
    Reply,
    Stop,
    process,
    statem,
    system,
)
from otp_runtime.behaviours.debugging import hook, unhook
from otp_runtime.behaviours.system import WATCHED, watch
from otp_runtime.process.client import Client
from otp_runtime.testing import assert_receive, gate

QUEUED = 500

pytestmark = pytest.mark.usefixtures("otp_node")


class Counter(GenServer):
    def handle_call(self, request, client, state):
        match request:
            case "stop":
                return Stop("done", state, reply="bye")
            case "more":
                return Reply(state, state, continue_="more")
            case "later":
                return NoReply(state)
            case "refuse":
                return Reply.error(KeyError("sold out"), state)
        return Reply(state, state)

    def handle_cast(self, request, state):
        if callable(request):
            request()
        if isinstance(state, list):
            state.append(request)
            return NoReply(state)
        return NoReply(state + 1)

    def handle_info(self, message, state):
        return NoReply(state)

    def handle_continue(self, term, state):
        return NoReply(state + 10)


class AsyncCounter(Counter):
    async def handle_call(self, request, client, state):
        return super().handle_call(request, client, state)


class Redacting(Counter):
    def format_status(self, status):
        return {**status, "state": "<redacted>", "message": "<message>"}


@pytest.fixture(params=[Counter, AsyncCounter])
def counter(request):
    with request.param.start(0) as pid:
        yield pid


def send_each(me):
    """A debug function that tells `me` all it sees."""
    return lambda state, event, name: (process.send(me, (event, name)), state)[1]


def boom(state, event, name):
    raise ValueError("boom")


def until_three(state, event, name):
    return "done" if state == 3 else state + 1


class TestInstall:
    def test_a_call_is_seen_coming_and_going(self, counter, me):
        """With who asked, and the state after it."""
        system.install(counter, send_each(me))
        GenServer.call(counter, "val")
        (arrived, name), (left, _) = process.receive(timeout=5.0), process.receive(timeout=5.0)

        assert name == repr(counter)
        assert ("in", ("$gen_call", arrived[1][1], "val")) == arrived
        assert isinstance(arrived[1][1], Client)
        assert arrived[1][1].pid == me
        assert ("out", 0, arrived[1][1], 0) == left

    @pytest.mark.parametrize(
        ("send", "expected"),
        [
            (lambda pid: GenServer.cast(pid, "inc"), [("in", ("$gen_cast", "inc")), ("noreply", 1)]),
            (lambda pid: process.send(pid, "hello"), [("in", "hello"), ("noreply", 0)]),
            (lambda pid: GenServer.send_request(pid, "later"), ["in", ("noreply", 0)]),
            (lambda pid: GenServer.call(pid, "more"), ["in", "out", ("continue", "more"), ("noreply", 10)]),
        ],
        ids=["cast", "info", "call answered later", "continue"],
    )
    def test_what_is_seen_of(self, counter, me, send, expected):
        """The arrival, then what the callback did."""
        system.install(counter, send_each(me))
        send(counter)
        seen = [process.receive(timeout=5.0)[0] for _ in expected]

        assert expected == [one[0] if isinstance(want, str) else one for one, want in zip(seen, expected, strict=True)]

    @pytest.mark.parametrize("cls", [Counter, AsyncCounter])
    def test_the_end_is_seen_and_the_last_reply(self, me, cls):
        """In OTP's order: terminate, then the reply."""
        pid = cls.start(0)
        system.install(pid, send_each(me))
        GenServer.call(pid, "stop")
        seen = [process.receive(timeout=5.0)[0][0] for _ in range(3)]

        assert ["in", "terminate", "out"] == seen
        assert pid.wait(5.0) == "done"

    def test_its_state_is_what_it_gave_last(self, counter):
        """And "done" removes it."""
        system.install(counter, until_three, 0)
        for _ in range(3):
            GenServer.cast(counter, "inc")

        assert GenServer.call(counter, "val") == 3
        assert system.get_status(counter)["debug"] == []

    def test_one_that_raises_is_removed(self, counter, me):
        """The server goes on, and so do the others."""
        system.install(counter, boom)
        system.install(counter, send_each(me))
        GenServer.cast(counter, "inc")
        GenServer.cast(counter, "inc")
        seen = [process.receive(timeout=5.0)[0][0] for _ in range(4)]

        assert ["in", "noreply"] * 2 == seen
        assert GenServer.call(counter, "val") == 2

    def test_twice_is_once(self, counter, me):
        """What is there stays as it is."""
        tell = send_each(me)
        system.install(counter, tell)
        system.install(counter, tell)
        GenServer.cast(counter, "inc")
        GenServer.call(counter, "val")
        system.get_state(counter)

        assert 4 == len(process.flush())

    @pytest.mark.parametrize("id", [None, "mine"])
    def test_remove(self, counter, me, id):
        """By the function or by its id; then nothing is hooked any more."""
        tell = send_each(me)
        system.install(counter, tell, id=id)
        system.remove(counter, tell if id is None else id)
        GenServer.cast(counter, "inc")

        assert GenServer.call(counter, "val") == 1
        assert process.flush() == []

    def test_what_is_not_there_is_removed_quietly(self, counter):
        """As in OTP."""
        assert system.remove(counter, "nobody") is None

    def test_a_function_is_needed(self, counter):
        """Said here, before anything is sent."""
        with pytest.raises(TypeError, match="not callable"):
            system.install(counter, "trace")

    def test_an_agent(self, me):
        """Is a server like any other."""
        with Agent.start(int) as agent:
            system.install(agent, send_each(me))
            Agent.update(agent, lambda n: n + 1)

            assert process.receive(timeout=5.0)[0][0] == "in"
            assert process.receive(timeout=5.0)[0][::3] == ("out", 1)


class TestLog:
    def test_keeps_the_last_ten(self, counter):
        """Oldest first."""
        system.log(counter, True)
        for _ in range(8):
            GenServer.cast(counter, "inc")
        GenServer.call(counter, "val")
        events = system.log(counter, "get")

        assert 10 == len(events)
        assert [("in", ("$gen_cast", "inc")), ("noreply", 5)] == events[:2]
        assert "out" == events[-1][0]

    def test_keeps_as_many_as_are_asked_for(self, counter):
        """Fewer later: the oldest go."""
        system.log(counter, (True, 4))
        GenServer.cast(counter, "inc")
        GenServer.cast(counter, "inc")
        GenServer.call(counter, "val")
        system.log(counter, (True, 1))

        assert ["out"] == [event[0] for event in system.log(counter, "get")]

    def test_off(self, counter):
        """Nothing is kept, and nothing found."""
        system.log(counter, True)
        GenServer.call(counter, "val")
        system.log(counter, False)

        assert [] == system.log(counter, "get")

    def test_events_are_as_they_were(self):
        """Also where the server changes its state in place."""
        with Counter.start([]) as pid:
            system.log(pid, True)
            GenServer.cast(pid, "a")
            GenServer.cast(pid, "b")
            GenServer.call(pid, "val")
            states = [event[1] for event in system.log(pid, "get") if event[0] == "noreply"]

        assert [["a"], ["a", "b"]] == states

    def test_what_cannot_be_sent_is_kept_as_text(self):
        """A state may be anything that never leaves its process."""
        with Agent.start(lambda: (n for n in ())) as agent:
            system.log(agent, True)
            Agent.get(agent, lambda state: 1)

            assert "<generator" in system.log(agent, "get")[-1][-1]

    def test_is_redacted(self):
        """By `format_status`, as all that leaves the process."""
        with Redacting.start(0) as pid:
            system.log(pid, True)
            GenServer.cast(pid, "secret")
            GenServer.call(pid, "secret")
            events = system.log(pid, "get")

        assert [("in", ("$gen_cast", "<message>")), ("noreply", "<redacted>")] == events[:2]
        assert "secret" not in repr(events)

    @pytest.mark.parametrize("flag", [None, 3, "all", (True, 0), (True, True), (False, 3)])
    def test_a_wrong_flag_is_refused(self, counter, flag):
        """Saying what is allowed."""
        with pytest.raises(ValueError, match="'get' or 'print'"):
            system.log(counter, flag)

    def test_to_a_file(self, counter, tmp_path):
        """A line each; made anew, and no more after False."""
        path = tmp_path / "events"
        path.write_text("old", encoding="utf-8")
        system.log_to_file(counter, path)
        GenServer.cast(counter, "inc")
        GenServer.call(counter, "val")
        system.log_to_file(counter, False)
        GenServer.call(counter, "val")
        lines = path.read_text(encoding="utf-8").splitlines()

        assert [f"*DBG* {counter!r} got cast 'inc'", f"*DBG* {counter!r} new state 1"] == lines[:2]
        assert 4 == len(lines)

    def test_to_a_file_that_cannot_be(self, counter, tmp_path):
        """The caller hears of it; the server goes on."""
        with pytest.raises(OSError, match="No such file"):
            system.log_to_file(counter, tmp_path / "no" / "such")

        assert GenServer.call(counter, "val") == 0


class TestStatistics:
    def test_counts(self, counter):
        """What came in, and replies."""
        system.statistics(counter, True)
        GenServer.cast(counter, "inc")
        GenServer.call(counter, "val")
        found = system.statistics(counter, "get")

        assert (2, 1) == (found.messages_in, found.messages_out)
        assert found.start_time <= found.current_time
        assert found.cpu_seconds >= 0

    @pytest.mark.parametrize("before", [[], [True, False]])
    def test_off(self, counter, before):
        """OTP's word for it."""
        for flag in before:
            system.statistics(counter, flag)

        assert "no_statistics" == system.statistics(counter)

    def test_a_wrong_flag_is_refused(self, counter):
        """Saying what is allowed."""
        with pytest.raises(TypeError, match="True, False or 'get'"):
            system.statistics(counter, "on")


class TestTrace:
    def test_the_server_prints(self, tmp_path):
        """To its own standard error, a line each, until told to stop."""
        with Agent.start(int, name="traced") as agent:
            path = str(tmp_path / "stderr")
            Agent.update(agent, lambda n: os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), 2) and n)
            system.trace(agent, True)
            Agent.update(agent, lambda n: n + 1)
            system.trace(agent, False)
            Agent.update(agent, lambda n: n + 1)
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()

        assert 2 == len(lines)
        assert lines[0].startswith("*DBG* traced got call ('update', ")
        assert lines[1] == f"*DBG* traced sent None to {process.self()!r}, new state 1"

    def test_a_wrong_flag_is_refused(self, counter):
        """Saying what is allowed."""
        with pytest.raises(TypeError, match="True or False"):
            system.trace(counter, 1)


class TestWatch:
    def test_events_arrive_as_text(self, counter, me):
        """With who, when, and a line for people."""
        watch(counter, me)
        GenServer.call(counter, "val")
        word, said = process.receive(timeout=5.0)

        assert WATCHED == word
        assert ("in", "call", "'val'", repr(me), repr(counter)) == tuple(
            said[key] for key in ("event", "kind", "message", "client", "server")
        )
        assert f"{counter!r} got call 'val' from {me!r}" == said["text"]
        process.flush()

    def test_a_watcher_that_died_is_forgotten(self, counter):
        """The server hooks nothing any more."""
        watcher = process.spawn(int)
        watcher.wait(5.0)
        watch(counter, watcher)
        GenServer.call(counter, "val")

        assert system.get_status(counter)["debug"] == []

    def test_one_that_does_not_read_costs_the_server_nothing(self, counter):
        """Events beyond what waits for it are dropped."""
        with gate() as hold:
            watcher = process.spawn(hold.wait)
            hold.wait_arrival()
            watch(counter, watcher)
            for _ in range(2000):
                GenServer.cast(counter, "inc")

            assert GenServer.call(counter, "val") == 2000


class TestNoDebug:
    def test_turns_all_of_it_off(self, counter, me, tmp_path):
        """Whoever turned it on."""
        system.install(counter, send_each(me))
        system.log(counter, True)
        system.log_to_file(counter, tmp_path / "events")
        system.statistics(counter, True)
        watch(counter, me)
        on = system.get_status(counter)["debug"]
        system.no_debug(counter)
        GenServer.call(counter, "val")

        assert ["functions", "log", "log_to_file", "statistics", "watchers"] == on
        assert ([], [], "no_statistics") == (process.flush(), system.log(counter, "get"), system.statistics(counter))
        assert (tmp_path / "events").read_text(encoding="utf-8") == ""


class Door(GenStateMachine):
    callback_mode = "handle_event_function"

    def init(self, code):
        return statem.Ok("locked", {"code": code})

    def handle_event(self, event, content, state, data):
        match event:
            case statem.Call(client):
                return statem.KeepState(data, [statem.Reply(client, state)])
        return statem.NextState("open", data)

    def format_status(self, status):
        return {**status, "data": "<data>"}


class Hearer(EventHandler):
    def init(self, start):
        return start

    def handle_event(self, event, heard):
        return NoReply([*heard, event])


class TestOtherBehaviours:
    def test_a_state_machine(self, me):
        """Shows what arrives, and state and data after it; its `format_status` redacts both."""
        with Door.start("1234") as door:
            system.log(door, True)
            watch(door, me)
            system.install(door, send_each(me), id="mine")
            GenStateMachine.cast(door, "push")
            system.get_state(door)
            messages = process.flush()

            assert [("in", ("$gen_cast", "push")), ("noreply", ("open", "<data>"))] == system.log(door, "get")
        assert ("noreply", ("open", {"code": "1234"})) in [first for first, _ in messages]
        assert "1234" not in "".join(said["text"] for word, said in messages if word == WATCHED)

    def test_replies_of_a_state_machine(self, me):
        """Are seen, and count."""
        with Door.start("1234") as door:
            system.log(door, True)
            system.statistics(door, True)
            GenStateMachine.call(door, "state")
            counted = system.statistics(door)
            *_, (word, value, client, state) = system.log(door, "get")
            system.no_debug(door)

            assert (1, 1) == (counted.messages_in, counted.messages_out)
            assert ("out", "locked", me, ("locked", "<data>")) == (word, value, client.pid, state)
            assert "locked" == GenStateMachine.call(door, "state")

    def test_an_event_manager(self, me):
        """Shows its handlers."""
        with GenEvent.start() as manager:
            GenEvent.add_handler(manager, Hearer, [])
            system.log(manager, True)
            GenEvent.sync_notify(manager, "ring")
            system.get_state(manager)
            events = system.log(manager, "get")

        assert "ring" in repr(events[0])
        assert "raised" not in repr(events)
        assert "['ring']" in repr(events[-1])


class TestWhen:
    def test_debugging_overtakes_what_is_queued(self, counter):
        """Which a flooded server needs most."""
        with gate() as hold:
            GenServer.cast(counter, hold.wait)
            hold.wait_arrival()
            for _ in range(QUEUED):
                GenServer.cast(counter, "inc")
            with pytest.raises(CallTimeout):
                system.log(counter, (True, 1000), timeout=0.01)
            hold.open()

            assert GenServer.call(counter, "val") == QUEUED + 1
        # one cast was in hand; its own ("noreply", 1) came first
        assert len(system.log(counter, "get")) >= 2 * QUEUED

    def test_a_suspended_server_answers(self, counter):
        """All of it, and the log goes on after resume."""
        system.suspend(counter)
        system.log(counter, True)
        GenServer.cast(counter, "inc")

        assert [] == system.log(counter, "get")
        system.resume(counter)
        GenServer.call(counter, "val")
        assert ("noreply", 1) in system.log(counter, "get")

    def test_a_plain_process_refuses(self):
        """It has no loop that could answer; nobody waits, and its mailbox stays clean."""
        pid = process.spawn(lambda: process.send(process.receive(), process.flush()))
        with pytest.raises(OtpError, match="plain process"):
            system.get_status(pid)
        process.send(pid, process.self())

        assert [] == assert_receive(list, 5.0)

    def test_an_exit_in_a_debug_function_is_only_its_own(self, counter):
        """What it raises removes it, whatever it raises."""
        system.install(counter, lambda state, event, name: leave())

        assert GenServer.call(counter, "val") == 0


def leave():
    raise ExitWith("leave")


class TestHooks:
    def test_off_there_are_none(self):
        """The loop's own methods are called by their names, and nothing is tested for each message."""
        loop = Loop()
        hook(loop, None)
        hooked = set(vars(loop))
        unhook(loop)

        assert ({"_run", "_answer", "_apply", "_end", "_say_last_reply", "is_plain"}, {}) == (hooked, vars(loop))


class Loop:
    def _run(self): ...
    def _answer(self): ...
    def _apply(self): ...
    def _end(self): ...
    def _say_last_reply(self): ...
