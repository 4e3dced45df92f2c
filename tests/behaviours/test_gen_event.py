"""GenEvent: one process, many handlers, none of which can take the others along."""

import asyncio

import pytest

from otp_runtime import (
    AlreadyStarted,
    Crash,
    Down,
    EventHandler,
    Exit,
    GenEvent,
    GenServer,
    HandlerFailed,
    Node,
    NoHandler,
    NoProcess,
    NoReply,
    Ok,
    OtpError,
    Reply,
    ServerDown,
    Stop,
    Supervisor,
    process,
    system,
)
from otp_runtime.testing import private_node, wait_restarted
from tests.behaviours import handlers
from tests.behaviours.handlers import Bare, LeavesBadly, Other, Teller
from tests.behaviours.machines import wait_hibernating


def receive(pattern=None):
    return process.receive(pattern, 5.0)


def flush():
    """All messages there are; what a manager told came before its answer."""
    return process.flush()


@pytest.fixture
def manager(me):
    return GenEvent.start_link()


class TestStart:
    def test_named(self, me):
        pid = GenEvent.start_link(name="events")
        with pytest.raises(AlreadyStarted) as error:
            GenEvent.start(name="events")

        assert pid == error.value.pid == GenEvent.whereis("events")

    def test_start_monitor(self, me):
        pid, ref = GenEvent.start_monitor()
        GenEvent.stop(pid, "custom")

        assert Down(ref, pid, "custom") == receive(Down)

    def test_child_spec(self):
        assert ("GenEvent", "events") == (GenEvent.child_spec().id, GenEvent.child_spec(name="events").id)

    def test_under_a_supervisor(self, me):
        """It begins without handlers each time."""
        with Supervisor.start_link([GenEvent.child_spec(name="events"), GenEvent], strategy="one_for_one"):
            GenEvent.add_handler("events", Teller, ("a", me))
            pid = GenEvent.whereis("events")
            process.exit(pid, "kill")
            wait_restarted("events", after=pid)

            assert [] == GenEvent.which_handlers("events")

    def test_nobody(self, me):
        """A notification to nobody is silent, as a cast is."""
        assert GenEvent.notify("nobody", "event") is None
        with pytest.raises(NoProcess):
            GenEvent.sync_notify("nobody", "event")

    def test_is_labelled(self, manager):
        assert "GenEvent" == system.get_status(manager)["module"]


class TestAdd:
    def test_the_newest_sees_an_event_first(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))
        GenEvent.sync_notify(manager, "hello")

        assert [(Teller, 1), Teller] == GenEvent.which_handlers(manager)
        assert [("event", "b", "hello"), ("event", "a", "hello")] == flush()

    def test_twice(self, me, manager):
        """Nothing forbids it, as in OTP; the newest is meant by the name."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, Teller, ("b", me))

        assert ("left by", "b") == GenEvent.delete_handler(manager, Teller)
        assert [Teller] == GenEvent.which_handlers(manager)

    @pytest.mark.parametrize(
        ("init", "reason"),
        [
            (lambda: Stop("no"), "no"),
            (handlers.leave, "leave"),
            (lambda: Reply(1, 2), ("bad_return_value", Reply(1, 2))),
        ],
        ids=["stop", "exit", "bad return"],
    )
    def test_that_fails(self, me, manager, init, reason):
        """Is told to who adds it, and nothing is added."""
        with pytest.raises(HandlerFailed) as error:
            GenEvent.add_handler(manager, Teller, init)

        assert (Teller, reason) == (error.value.handler, error.value.reason)
        assert [] == GenEvent.which_handlers(manager)

    def test_that_raises(self, manager):
        """With its traceback."""
        with pytest.raises(HandlerFailed, match="ValueError: boom") as error:
            GenEvent.add_handler(manager, Teller, handlers.boom)

        assert "in boom" in error.value.__notes__[0]

    @pytest.mark.parametrize("handler", [int, "Teller", (int, 1), (Teller, 1, 2), Teller()])
    def test_what_is_no_handler(self, manager, handler):
        """Is refused before anything is sent."""
        with pytest.raises(TypeError, match="a handler is a subclass of EventHandler"):
            GenEvent.add_handler(manager, handler)

    def test_a_constructor_with_parameters(self):
        """Is refused: the manager makes the object, and has none to give."""
        with pytest.raises(TypeError, match=r"give them to add_handler\(manager, handler, arg\)"):
            type("Wrong", (EventHandler,), {"__init__": lambda self, size: None})

    def test_async_callbacks(self):
        """Are refused: the handlers share one process."""

        async def handle_event(self, event, state): ...

        with pytest.raises(TypeError, match="write `def`"):
            type("Wrong", (EventHandler,), {"handle_event": handle_event})


class TestNotify:
    def test_in_order(self, me, manager):
        """Of one sender."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        for number in range(20):
            GenEvent.notify(manager, number)

        assert list(range(20)) == [receive()[2] for _ in range(20)]

    def test_state(self, me, manager):
        """Is each handler's own."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, Other, (("b", me), None))
        flush()
        GenEvent.notify(manager, lambda state: NoReply((state[0] + "!", state[1])))
        GenEvent.sync_notify(manager, "hello")

        assert [("event", "b!", "hello"), ("event", "a!", "hello")] == flush()

    @pytest.mark.parametrize("fault", [handlers.boom, handlers.leave, lambda state: "nonsense", lambda state: None])
    def test_a_fault_removes_that_handler_only(self, me, manager, fault):
        """The manager and the others live on; `terminate` says goodbye."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))
        GenEvent.call(manager, Teller, lambda state: Reply(None, ("a", me)))
        GenEvent.sync_notify(manager, lambda state: fault(state) if state[0] == "b" else NoReply(state))

        assert [Teller] == GenEvent.which_handlers(manager)
        assert [("terminate", "b")] == [(kind, name) for kind, name, _ in flush()]

    def test_the_reasons_of_a_fault(self, me, manager):
        """What `terminate` is given."""
        reasons = []
        for fault in (handlers.boom, handlers.leave, lambda state: 5):
            GenEvent.add_handler(manager, Teller, ("a", me))
            GenEvent.sync_notify(manager, fault)
            reasons.append(receive()[2])

        assert ("error", "ValueError") == (reasons[0][0], reasons[0][1].type)
        assert [("error", "leave"), ("error", ("bad_return_value", 5))] == reasons[1:]

    def test_remove_and_swap(self, me, manager):
        """By its own wish. The one swapped in takes its place, and sees the next event first."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 2), ("b", me))
        GenEvent.sync_notify(manager, lambda state: (handlers.swap if state[0] == "b" else handlers.remove)(state))

        assert [(Other, 1)] == GenEvent.which_handlers(manager)
        expected = [("terminate", "b", "arg"), ("init", "new", ("left by", "b")), ("terminate", "a", "remove_handler")]
        assert expected == flush()

    def test_a_swap_whose_new_handler_fails(self, me, manager):
        """The old one is gone all the same."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.sync_notify(manager, handlers.swap_badly)

        assert [] == GenEvent.which_handlers(manager)

    def test_nothing_defined(self, manager):
        """A crash of that handler, and a warning for a message."""
        GenEvent.add_handler(manager, Bare)
        process.send(manager, "dropped")
        there = GenEvent.which_handlers(manager)
        GenEvent.sync_notify(manager, "event")

        assert ([Bare], []) == (there, GenEvent.which_handlers(manager))


@pytest.mark.slow
class TestReport:
    """Of a fault."""

    def test_a_fault_is_reported(self, caplog):
        """Who, why, the event, the state through its `format_status`, the traceback."""
        with private_node():
            me = process.self()
            manager = GenEvent.start(name="events")
            GenEvent.add_handler(manager, Teller, ("secret", me))
            GenEvent.sync_notify(manager, handlers.boom)
            GenEvent.stop(manager)
            Node.stop()
        (text,) = [message for message in caplog.messages if "was removed" in message]

        assert "Teller'> of events was removed: exception ValueError: boom\n  last event: <function boom" in text
        assert ("state: '<redacted>'" in text, "in boom" in text, "secret" in text) == (True, True, False)


class TestInfo:
    def test_all_see_a_message(self, me, manager):
        """A stray cast too."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        process.send(manager, "hello")
        GenServer.cast(manager, "stray")

        assert [("info", "a", "hello"), ("info", "a", ("$gen_cast", "stray"))] == [receive(), receive()]

    def test_a_stray_call(self, manager):
        """Raises in its caller."""
        with pytest.raises(OtpError, match="use the functions of GenEvent"):
            GenServer.call(manager, "stray")

        assert [] == GenEvent.which_handlers(manager)


class TestCall:
    def test_one_handler(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))

        assert ("a", "hello") == GenEvent.call(manager, Teller, "hello")
        assert ("b", "hello") == GenEvent.call(manager, (Teller, 1), "hello")

    def test_later_and_asynchronous(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))
        rid = GenEvent.send_request(manager, Teller, "later")

        assert ("a", "later") == GenEvent.receive_response(rid)
        assert ("a", "async") == asyncio.run(GenEvent.acall(manager, Teller, "async"))

    def test_missing(self, manager):
        with pytest.raises(NoHandler) as error:
            GenEvent.call(manager, (Teller, 1), "hello")

        assert (Teller, 1) == error.value.handler

    @pytest.mark.parametrize("wish", [handlers.remove, handlers.swap])
    def test_with_a_wish(self, me, manager, wish):
        """The reply comes with it."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        reply = GenEvent.call(manager, Teller, wish)

        assert ("gone", []) == (reply, there := GenEvent.which_handlers(manager)) or there == [(Other, 1)]

    def test_an_exception_as_a_reply(self, me, manager):
        """Raises in the caller, and the handler stays."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        with pytest.raises(KeyError, match="no such thing"):
            GenEvent.call(manager, Teller, lambda state: Reply.error(KeyError("no such thing"), state))

        assert [Teller] == GenEvent.which_handlers(manager)

    @pytest.mark.parametrize("fault", [handlers.boom, NoReply, lambda state: Reply(1, state, 0.1)])
    def test_a_fault(self, me, manager, fault):
        """Is told to the caller, and removes the handler."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        with pytest.raises(HandlerFailed) as error:
            GenEvent.call(manager, Teller, fault)

        assert isinstance(error.value.reason, Crash) or error.value.reason[0] == "bad_return_value"
        assert [] == GenEvent.which_handlers(manager)

    def test_the_manager_dies(self, me):
        manager = GenEvent.start()
        GenEvent.add_handler(manager, Teller, ("a", me))
        with pytest.raises(ServerDown):
            GenEvent.call(manager, Teller, _die)


class TestDelete:
    def test_gives_what_terminate_returned(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))

        assert ("left by", "a") == GenEvent.delete_handler(manager, Teller, "why")
        assert [("terminate", "a", "why")] == flush()

    def test_missing(self, manager):
        with pytest.raises(NoHandler):
            GenEvent.delete_handler(manager, Teller)

    def test_terminate_raises(self, me, manager):
        """It is removed all the same."""
        GenEvent.add_handler(manager, LeavesBadly, ("a", me))
        with pytest.raises(HandlerFailed, match="bad end"):
            GenEvent.delete_handler(manager, LeavesBadly)

        assert [] == GenEvent.which_handlers(manager)


class TestSwap:
    def test_hands_over(self, me, manager):
        """The new `init` gets what the old `terminate` returned."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.swap_handler(manager, (Teller, "bye"), (Other, ("b", me)))

        assert [("terminate", "a", "bye"), ("init", "b", ("left by", "a"))] == flush()

    def test_with_nobody(self, me, manager):
        GenEvent.swap_handler(manager, (Teller, "bye"), (Other, ("b", me)))

        assert [("init", "b", "error")] == flush()

    def test_the_new_one_fails(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))
        with pytest.raises(HandlerFailed) as error:
            GenEvent.swap_handler(manager, (Teller, "bye"), (Other, "refuse"))

        assert ("refused", []) == (error.value.reason, GenEvent.which_handlers(manager))

    def test_what_is_no_pair(self, manager):
        with pytest.raises(TypeError, match="old is a pair"):
            GenEvent.swap_handler(manager, Teller, (Other, 1))


class TestSupervised:
    def test_its_process_ends(self, me, manager):
        """The handler goes with it; the others hear of it."""
        adder = process.spawn(handlers.add_supervised, manager, Teller, ("a", me), me)
        receive("added")
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))
        process.exit(adder, "kill")

        assert ("terminate", "a", ("stop", "killed")) == receive(tuple)
        assert ("info", "b", Exit(adder, "killed")) == receive(tuple)
        assert [(Teller, 1)] == GenEvent.which_handlers(manager)

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (lambda manager: GenEvent.delete_handler(manager, Teller), "normal"),
            (lambda manager: GenEvent.notify(manager, handlers.remove), "normal"),
            (lambda manager: GenEvent.notify(manager, handlers.leave), "leave"),
            (lambda manager: GenEvent.notify(manager, lambda state: 5), ("bad_return_value", 5)),
            (GenEvent.stop, "shutdown"),
        ],
        ids=["delete", "remove", "exit", "bad return", "stop"],
    )
    def test_the_process_hears_of_its_end(self, me, end, reason):
        """Why, in one message; and nothing else happens to it."""
        manager = GenEvent.start()
        GenEvent.add_sup_handler(manager, Teller, ("a", me))
        end(manager)

        assert ("gen_event_EXIT", Teller, reason) == receive(lambda message: message[0] == "gen_event_EXIT")

    def test_a_manager_that_ends_in_order_pulls_nobody_along(self, me):
        """It unlinks first."""
        manager = GenEvent.start()
        adder = process.spawn(handlers.add_supervised, manager, Teller, ("a", me), me)
        receive("added")
        GenEvent.stop(manager, "custom")
        process.send(adder, "stop")
        adder.wait(5.0)

        assert [] == [message for message in flush() if isinstance(message, Exit)]

    def test_a_manager_that_is_killed_does(self, me):
        """The link holds."""
        manager = GenEvent.start()
        adder = process.spawn(handlers.add_supervised, manager, Teller, ("a", me), me)
        receive("added")
        process.exit(manager, "kill")

        assert Exit(manager, "killed") == receive(Exit)
        process.exit(adder, "kill")

    def test_a_swapped_handler_stays_supervised(self, me, manager):
        """By whoever supervised the old one, or by who swaps with supervision."""
        adder = process.spawn(handlers.add_supervised, manager, Teller, ("a", me), me)
        receive("added")
        GenEvent.swap_handler(manager, (Teller, 1), (Other, ("b", me)))
        first = receive(lambda message: message[0] == "gen_event_EXIT")
        GenEvent.swap_sup_handler(manager, (Other, 2), ((Other, 9), ("c", me)))
        second = receive(lambda message: message[0] == "gen_event_EXIT")
        GenEvent.delete_handler(manager, (Other, 9))
        third = receive(lambda message: message[0] == "gen_event_EXIT")

        assert ("gen_event_EXIT", Teller, ("swapped", Other, adder)) == first
        assert ("gen_event_EXIT", Other, ("swapped", (Other, 9), me)) == second
        assert ("gen_event_EXIT", (Other, 9), "normal") == third


class TestEnd:
    def test_stop(self, me, manager):
        """Every handler is told."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, LeavesBadly, ("b", me))
        GenEvent.stop(manager)

        assert [("terminate", "a", "stop")] == flush()

    def test_its_supervisor_stops_it(self, me):
        with Supervisor.start_link([GenEvent.child_spec(name="events")], strategy="one_for_one"):
            GenEvent.add_handler("events", Teller, ("a", me))

        assert [("terminate", "a", "stop")] == [one for one in flush() if isinstance(one, tuple)]


class TestHibernate:
    @pytest.mark.parametrize("callback", ["event", "call", "init"])
    def test_from_each_return(self, me, manager, callback):
        """One handler that wishes it is enough; the states are kept."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        match callback:
            case "event":
                GenEvent.notify(manager, lambda state: NoReply(state, hibernate=True))
            case "call":
                GenEvent.call(manager, Teller, lambda state: Reply(None, state, hibernate=True))
            case "init":
                GenEvent.add_handler(manager, (Teller, 1), lambda: Ok(("b", me), hibernate=True))
        asleep = wait_hibernating(manager)

        assert (True, ("a", 1)) == (asleep, GenEvent.call(manager, Teller, 1))


class TestSystem:
    def test_get_state(self, me, manager):
        """Class, id and state of each."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))

        assert [(Teller, 1, ("b", me)), (Teller, None, ("a", me))] == system.get_state(manager)

    def test_replace_state(self, me, manager):
        """One handler after the other; where the function fails, the state stays."""
        GenEvent.add_handler(manager, Teller, ("a", me))
        GenEvent.add_handler(manager, (Teller, 1), ("b", me))
        system.replace_state(manager, lambda entry: (Teller, 1 // (entry[1] or 0), ("new", me)))

        assert ["new", "a"] == [state[0] for _, _, state in system.get_state(manager)]

    def test_change_code(self, me, manager):
        GenEvent.add_handler(manager, Teller, ("a", me))
        system.suspend(manager)
        system.change_code(manager, "v1", "changed")
        system.resume(manager)

        assert [(Teller, None, ("changed", me))] == system.get_state(manager)

    def test_get_status(self, me, manager):
        """Through each handler's `format_status`."""
        GenEvent.add_handler(manager, Teller, ("a", me))

        assert [(Teller, "<redacted>")] == system.get_status(manager)["state"]


def _die(state):
    import os

    os._exit(3)
