"""GenStateMachine: a state machine in a process of its own."""

import asyncio
import threading

import pytest

from otp_runtime import (
    AlreadyStarted,
    CallTimeout,
    Client,
    CodecError,
    Down,
    Exit,
    ExitWith,
    GenServer,
    GenStateMachine,
    Ignore,
    InitFailed,
    ServerDown,
    StartTimeout,
    Stop,
    Supervisor,
    process,
    statem,
    system,
    why,
)
from otp_runtime.core.statem import Event, Handling, Machine, Timer
from otp_runtime.errors import CallbackFailed, NotSuspended, UpgradeFailed
from otp_runtime.process.current import current
from otp_runtime.testing import gate, wait_restarted
from tests.behaviours import machines
from tests.behaviours.machines import (
    Async,
    BadEntry,
    Bare,
    BareEvents,
    Entered,
    Light,
    Redacting,
    Scripted,
    Teller,
    TerminatesBadly,
    Trapping,
    Upgraded,
    wait_hibernating,
)

call, cast = GenStateMachine.call, GenStateMachine.cast
KEEP = statem.KeepStateAndData
SOON = 0.02


def receive(pattern=None):
    return process.receive(pattern, 5.0)


class TestStart:
    def test_start_link(self, me):
        """State and data are what `init` gave."""
        assert ("s1", 5) == system.get_state(Scripted.start_link(5))

    def test_start_monitor(self, me):
        """Its end is told with the reference given."""
        pid, ref = Scripted.start_monitor(5)
        GenStateMachine.stop(pid)

        assert Down(ref, pid, "normal") == receive(Down)

    def test_astart(self, me):
        """In an event loop."""
        pid = asyncio.run(Scripted.astart_link(5))

        assert 5 == system.get_state(pid)[1]

    def test_name_taken(self, me):
        pid = Scripted.start_link(5, name="machine")
        with pytest.raises(AlreadyStarted) as error:
            Scripted.start_link(5, name="machine")

        assert pid == error.value.pid == GenStateMachine.whereis("machine")

    @pytest.mark.parametrize("value", [Ignore(), statem.Ignore()])
    def test_ignore(self, me, value):
        assert Scripted.start_link(lambda: value) is None

    @pytest.mark.parametrize("value", [Stop("no"), statem.Stop("no")])
    def test_stop(self, me, value):
        """The starter is told, the name is free."""
        with pytest.raises(InitFailed) as error:
            Scripted.start(lambda: value, name="never")

        assert ("no", None) == (error.value.reason, process.whereis("never"))

    def test_raises(self, me):
        with pytest.raises(InitFailed, match="ValueError: boom"):
            Scripted.start(machines.boom)

    @pytest.mark.parametrize("value", [None, "s1", ("s1", 5), statem.KeepState(5)])
    def test_bad_return(self, me, value, caplog):
        """Named as in OTP, and what is allowed is said."""
        with pytest.raises(InitFailed) as error:
            Scripted.start(lambda: value)

        assert ("bad_return_from_init", value) == error.value.reason

    def test_a_state_that_is_no_function(self, me):
        """Where states are functions, the first is a name too."""
        with pytest.raises(InitFailed) as error:
            Light.start(5)

        assert "bad_return_from_init" == error.value.reason[0]

    def test_timeout(self, me):
        with gate() as hold, pytest.raises(StartTimeout):
            Scripted.start(hold.wait, timeout=SOON)

    def test_the_enter_call_runs_after_the_starter_went_on(self, me):
        """As in OTP: a start succeeds, and the machine dies of its first enter call."""
        pid, ref = BadEntry.start_monitor()

        assert (ref, "ValueError") == ((down := receive(Down)).ref, down.reason.type)
        assert "ValueError" == pid.wait(5.0).type

    def test_actions_of_init_come_before_any_message(self, me):
        pid = Teller.start_link(lambda: statem.Ok("s1", me, [statem.NextEvent("internal", "first")]))
        process.send(pid, "later")

        assert [("internal", "first", "s1"), ("info", "later", "s1")] == [receive(), receive()]

    def test_child_spec(self):
        """Its arguments are those of `start_link`."""
        spec = Scripted.child_spec(5, name="machine", restart="transient", timeout=3.0)

        assert ("machine", "transient", (5,)) == (spec.id, spec.restart, spec.start[1])
        assert "Scripted" == Scripted.child_spec(5).id

    def test_under_a_supervisor(self, me):
        """Comes back in its first state."""
        with Supervisor.start_link([Scripted.child_spec(5, name="machine")], strategy="one_for_one"):
            pid = process.whereis("machine")
            cast("machine", lambda event, state, data: statem.NextState("s2", 6))
            process.exit(pid, "kill")
            wait_restarted("machine", after=pid)

            assert ("s1", 5) == call("machine", "state")


class TestClass:
    def test_callback_mode(self):
        with pytest.raises(TypeError, match="callback_mode is 'states'; allowed"):
            type("Wrong", (GenStateMachine,), {"callback_mode": "states"})

    @pytest.mark.parametrize("name", ["stop", "call", "reply"])
    def test_a_method_that_would_hide_the_librarys(self, name):
        with pytest.raises(TypeError, match="A state of that name is possible"):
            type("Wrong", (GenStateMachine,), {name: machines.boom})

    @pytest.mark.parametrize("name", ["state_enter", "callback_mode", "trap_exit"])
    def test_a_setting_is_no_method(self, name):
        with pytest.raises(TypeError, match="is a setting of the class"):
            type("Wrong", (GenStateMachine,), {name: machines.boom})

    def test_a_constructor_with_parameters(self):
        """The library makes the object, and has none to give."""
        with pytest.raises(TypeError, match=r"take them in init\(self, arg\)"):
            type("Wrong", (GenStateMachine,), {"__init__": lambda self, size: None})

    def test_either_states_or_handle_event(self):
        with pytest.raises(TypeError, match="remove one of both"):
            type("Wrong", (GenStateMachine,), {"callback_mode": "state_functions", "handle_event": machines.boom})


class TestEvents:
    def test_types(self, me):
        """Each kind of message has its own."""
        pid = Teller.start(me)
        cast(pid, "a")
        for message in ("b", "timeout", Exit(me, "normal")):
            process.send(pid, message)

        expected = [("cast", "a"), ("info", "b"), ("info", "timeout"), ("info", Exit(me, "normal"))]
        assert expected == [receive(tuple)[:2] for _ in expected]

    def test_a_postponed_call_is_answered_after_the_change(self, me):
        """The caller waits meanwhile; it has no time-out unless it says so."""
        pid = Light.start_link()
        rids = [GenStateMachine.send_request(pid, "go") for _ in range(2)]
        cast(pid, "green")

        assert ["gone", "gone"] == [GenStateMachine.receive_response(rid) for rid in rids]
        assert "gone" == call(pid, "go", 5.0)

    def test_a_call_with_a_timeout(self, me):
        """Its late reply is dropped."""
        pid = Light.start_link()
        with pytest.raises(CallTimeout):
            call(pid, "go", SOON)
        cast(pid, "green")

        assert "gone" == call(pid, "go")
        assert [] == process.flush()

    def test_acall(self, me):
        pid = Light.start_link("green")

        assert "gone" == asyncio.run(GenStateMachine.acall(pid, "go"))

    def test_enter_calls_see_the_old_state(self, me):
        pid = Entered.start_link(me)
        cast(pid, lambda event, state, data: statem.NextState("s2", data))

        assert [("enter", "s1", "s1"), ("enter", "s1", "s2")] == [receive(), receive()]

    def test_a_reply_that_cannot_travel(self, me):
        """Raises in the caller; the machine is unharmed."""
        pid = Scripted.start_link(5)
        with pytest.raises(CodecError):
            call(pid, lambda event, state, data: KEEP(statem.Reply(event.client, threading.Lock())))

        assert ("s1", 5) == call(pid, "state")

    def test_a_reply_to_who_is_gone(self, me):
        """Is nothing."""
        pid = Scripted.start_link(None)
        asker = process.spawn(call, pid, lambda event, state, data: statem.KeepState(event.client))
        while (client := system.get_state(pid)[1]) is None:
            pass
        process.exit(asker, "kill")
        asker.wait(5.0)
        cast(pid, lambda event, state, data: KEEP(statem.Reply(client, "late")))

        assert ("s1", client) == call(pid, "state")


class TestTimeouts:
    def test_they_fire(self, me):
        """By time, each once."""
        actions = [statem.Timeout("n", 2 * SOON, 1), statem.StateTimeout(SOON, 2)]
        Teller.start_link(lambda: statem.Ok("s1", me, actions))

        assert [("state_timeout", 2, "s1"), (("timeout", "n"), 1, "s1")] == [receive(), receive()]

    def test_one_that_is_due_earlier_wakes_earlier(self, me):
        """Though a later one was set before."""
        pid = Teller.start_link(lambda: statem.Ok("s1", me, statem.Timeout("late", 60, 1)))
        cast(pid, lambda event, state, data: KEEP(statem.Timeout("soon", SOON, 2)))

        assert (("timeout", "soon"), 2, "s1") == receive()

    def test_one_put_off_fires_when_it_is_due_now(self, me):
        """The process's timer rings too early, and is set again."""
        pid = Teller.start_link(lambda: statem.Ok("s1", me, statem.StateTimeout(SOON, 1)))
        cast(pid, lambda event, state, data: KEEP(statem.StateTimeout(3 * SOON, 2)))

        assert ("state_timeout", 2, "s1") == receive()

    def test_setting_one_with_every_event_keeps_one_timer(self, me):
        """Many events later the process has as many timers as before."""
        pid = Scripted.start_link(None)
        for _ in range(200):
            cast(pid, lambda event, state, data: KEEP(statem.EventTimeout(60, "idle")))

        assert call(pid, machines.timers_held) <= 2

    def test_a_system_message_is_no_event(self, me):
        """An event time-out runs on."""
        pid = Teller.start_link(lambda: statem.Ok("s1", me, statem.EventTimeout(2 * SOON, "idle")))
        system.get_state(pid)

        assert ("timeout", "idle", "s1") == receive()

    def test_many_by_name(self, me):
        """In the order of their times."""
        order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
        timers = [statem.Timeout(number, SOON + number / 1000, number) for number in order]
        Teller.start_link(lambda: statem.Ok("s1", me, timers))

        assert sorted(order) == [receive()[1] for _ in order]

    def test_while_suspended_they_wait(self, me):
        """And fire after it."""
        pid = Teller.start_link(me)
        system.suspend(pid)
        cast(pid, "before")
        cast(pid, lambda event, state, data: KEEP(statem.StateTimeout(0, "t")))
        cast(pid, "after")
        system.resume(pid)

        assert ["before", "t", "after"] == [receive()[1] for _ in range(3)]


class TestEnd:
    def test_stop_from_outside(self, me):
        pid = Teller.start_link(me)
        GenStateMachine.stop(pid, "custom")

        assert ("terminate", "custom", "s1") == receive(tuple)
        assert "custom" == pid.wait(5.0)

    @pytest.mark.parametrize(
        ("result", "reason"),
        [(statem.Stop(), "normal"), (statem.Stop("x"), "x"), (statem.Stop(("shutdown", 1)), ("shutdown", 1))],
    )
    def test_stop_result(self, me, result, reason):
        pid, _ = Teller.start_monitor(me)
        cast(pid, lambda event, state, data: result)

        assert ("terminate", reason, "s1") == receive(tuple)
        assert reason == receive(Down).reason

    def test_stop_and_reply(self, me):
        """The reply is sent before `terminate` runs."""
        pid = Teller.start(me)
        stopped = call(pid, lambda event, state, data: statem.StopAndReply("x", statem.Reply(event.client, "bye")))

        assert ("bye", "x") == (stopped, pid.wait(5.0))

    def test_a_stop_without_reply_is_the_callers_end_of_waiting(self, me):
        pid = Scripted.start(None)
        with pytest.raises(ServerDown) as error:
            call(pid, lambda event, state, data: statem.Stop("x"))

        assert "x" == error.value.reason

    def test_an_exception(self, me):
        """`terminate` sees state and data from before the event."""
        pid = Teller.start(me)
        cast(pid, machines.boom)

        assert ("terminate", "s1") == (said := receive(tuple))[::2]
        assert ("ValueError", "boom") == (said[1].type, said[1].message)
        assert ("ValueError", True) == (pid.wait(5.0).type, "cast <function boom" in why(pid).message_in_hand)

    def test_terminate_raises(self, me):
        """That is the reason, then."""
        pid = TerminatesBadly.start(me)
        GenStateMachine.cast(pid, lambda event, state, data: statem.Stop("meant"))

        assert ("ValueError", "bad end") == ((reason := pid.wait(5.0)).type, reason.message)

    def test_exit_with(self, me):
        pid = Scripted.start(None)
        cast(pid, _leave)

        assert "leave" == pid.wait(5.0)

    @pytest.mark.parametrize("cls", [Teller, Trapping])
    def test_shutdown_runs_terminate_when_trapping(self, me, cls):
        """As a GenServer's."""
        with Supervisor.start_link([cls.child_spec(me, name="machine")], strategy="one_for_one"):
            pass

        said = [message for message in process.flush() if isinstance(message, tuple)]
        assert ([("terminate", "shutdown", "s1")] if cls is Trapping else []) == said

    def test_bad_return(self, me, caplog):
        """The reason names it as OTP does; the report says what is allowed."""
        pid = Scripted.start(None)
        cast(pid, lambda event, state, data: "nonsense")

        assert ("bad_return_from_state_function", "nonsense") == pid.wait(5.0)

    def test_bad_action(self, me):
        pid = Scripted.start(None)
        cast(pid, lambda event, state, data: KEEP("postpone"))

        assert ("bad_action_from_state_function", "postpone") == pid.wait(5.0)

    @pytest.mark.parametrize(("state", "words"), [("blue", "is not defined"), ("call", "is a name of the library's")])
    def test_a_state_without_a_method(self, me, state, words):
        """Says which, and how to write it."""
        pid = Light.start()
        cast(pid, state)
        cast(pid, "whatever")
        reason = pid.wait(5.0)

        assert "NotImplementedError" == reason.type
        assert f"Light.{state}(event, content, data) {words}" in reason.message

    def test_nothing_defined(self, me):
        """Says so."""
        with pytest.raises(InitFailed, match="Bare has no init"):
            Bare.start()
        with pytest.raises(ServerDown, match="BareEvents has no handle_event"):
            call(BareEvents.start(), "hello")


class TestSystem:
    def test_replace_state(self, me):
        """State and data; it is no transition."""
        pid = Scripted.start_link(5)

        assert ("s2", 6) == system.replace_state(pid, lambda pair: ("s2", pair[1] + 1))
        assert ("s2", 6) == call(pid, "state")

    @pytest.mark.parametrize("function", [machines.boom, lambda pair: 5])
    def test_replace_state_fails(self, me, function):
        """Nothing has changed."""
        pid = Scripted.start_link(5)
        with pytest.raises(CallbackFailed):
            system.replace_state(pid, function)

        assert ("s1", 5) == call(pid, "state")

    def test_change_code(self, me):
        """Both may change."""
        pid = Upgraded.start_link(5)
        system.suspend(pid)
        system.change_code(pid, "v1", lambda old_vsn, state, data: statem.Ok("s2", (old_vsn, data)))
        system.resume(pid)

        assert ("s2", ("v1", 5)) == call(pid, "state")

    @pytest.mark.parametrize(
        ("function", "reason"), [(lambda *_: statem.Stop("no"), "no"), (lambda *_: 5, ("bad_return_value", 5))]
    )
    def test_change_code_fails(self, me, function, reason):
        """State and data stay, the machine too."""
        pid = Upgraded.start_link(5)
        system.suspend(pid)
        with pytest.raises(UpgradeFailed) as error:
            system.change_code(pid, "v1", function)

        assert (reason, ("s1", 5)) == (error.value.reason, system.get_state(pid))

    def test_change_code_without_suspend(self, me):
        with pytest.raises(NotSuspended):
            system.change_code(Scripted.start_link(5))

    def test_code_change_is_optional(self, me):
        pid = Scripted.start_link(5)
        system.suspend(pid)

        assert system.change_code(pid) is None

    def test_get_status(self, me):
        pid = Scripted.start_link(5)

        assert (("s1", 5), "Scripted") == ((status := system.get_status(pid))["state"], status["module"])

    def test_format_status_sees_and_redacts_all(self, me):
        """What is queued inside the machine is shown, too."""
        pid = Redacting.start_link(5)
        cast(pid, _postpone)
        cast(pid, lambda event, state, data: KEEP(statem.StateTimeout(60, "t")))
        system.get_state(pid)  # get_status overtakes what is queued
        state, data = system.get_status(pid)["state"]
        queue, postponed, timeouts = data[1:]

        assert ("<state>", "<data>", []) == (state, data[0], queue)
        assert (["cast"], [("state_timeout", "t")]) == ([type_ for type_, _ in postponed], timeouts)

    def test_a_report_is_redacted(self, me):
        pid = Redacting.start(5)
        cast(pid, machines.boom)
        pid.wait(5.0)

        assert "<data>" in why(pid).state


class TestAsync:
    def test_all_callbacks(self, me):
        """Awaited, in the same order; one at a time."""
        pid = Async.start(me)
        rid = GenServer.send_request(pid, "hello")
        cast(pid, "open")

        assert ("entered from", "shut") == receive()
        assert "opened" == receive()
        assert "hello" == GenServer.receive_response(rid)

    def test_timeouts(self, me):
        """Fire while the event loop has nothing else to do."""
        pid = Async.start(me)
        cast(pid, ("after", SOON))

        assert "waited" == receive()

    def test_terminate(self, me):
        pid = Async.start(me)
        process.send(pid, "custom")

        assert ("terminate", "custom", "shut") == receive()
        assert "custom" == pid.wait(5.0)

    def test_code_change(self, me):
        pid = Async.start(me)
        system.suspend(pid)
        system.change_code(pid, None, "open")

        assert ("open", me) == system.get_state(pid)


def _leave(*_args):
    raise ExitWith("leave")


def _postpone(event, state, data):
    return KEEP(statem.Postpone())


class TestHibernate:
    def test_while_it_waits(self, me):
        """Until the next event; state and data are kept."""
        pid = Scripted.start_link(5)
        cast(pid, lambda event, state, data: KEEP(statem.Hibernate()))
        asleep = wait_hibernating(pid)

        assert (True, ("s1", 5)) == (asleep, call(pid, "state"))


class TestAsData:
    def test_a_machine_travels(self, me):
        """All of it is data: what waits in it, and when its time-outs are due."""
        client = Client(me, 7)
        event = Event(statem.Call(client), {"a": (1, b"2")})
        timers = (Timer(("timeout", "n"), 12.5, "t"), Timer("state_timeout", None, None))
        machine = Machine("s1", [1], True, False, Handling(event), (event,), (event,), timers, True)
        codec = current().codec

        assert machine == codec.decode(codec.encode(machine))
