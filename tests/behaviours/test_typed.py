"""Typed methods: the client on the class, the implementation on an instance, and who a message is for."""

import asyncio
import inspect
import subprocess
import sys

import pytest

from otp_runtime import (
    CallTimeout,
    Down,
    GenServer,
    NoReply,
    Reply,
    ServerDown,
    Supervisor,
    process,
)
from otp_runtime.process.shipping import _digest
from otp_runtime.testing import sigkill, wait_restarted
from otp_runtime.typed import call, cast, info
from tests.behaviours.typed_servers import Asynchronous, Counter, Eavesdropper, Joined, Listener, Mixed, OnTop


@pytest.mark.usefixtures("otp_node")
class TestClient:
    """What `Class.method` does."""

    def test_cast_gives_none_and_its_result_is_the_new_state(self):
        """`Counter.inc(server, *args)`."""
        counter = Counter.start(1)

        assert None is Counter.inc(counter, 2, times=3)
        assert 7 == Counter.val(counter)

    def test_call_gives_the_value(self):
        """With positional and keyword arguments of its own."""
        assert 4 == Counter.add_all(Counter.start(10), 1, 2, 3, sign=-1)

    def test_server_may_be_any_reference(self):
        """A local name as well as a pid."""
        Counter.start(5, name="counter")

        assert 5 == Counter.val("counter")

    def test_wire_form_is_name_args_kwargs(self):
        """So `otp call` and traces can say it, and `GenServer.call` too."""
        counter = Counter.start(1)
        GenServer.cast(counter, ("inc", (2,), {"times": 2}))

        assert 5 == GenServer.call(counter, ("val", (), {}))

    def test_later_answers_when_it_wants(self):
        """`@call.later` is given the client."""
        assert 12 == Counter.later(Counter.start(10), 2)

    def test_error_is_raised_in_the_caller_alone(self):
        """`Reply.error` from a typed method."""
        counter = Counter.start(10)
        with pytest.raises(KeyError, match="refused"):
            Counter.refuse(counter)

        assert 10 == Counter.val(counter)

    def test_crash_reaches_the_caller(self):
        """As of any call."""
        with pytest.raises(ServerDown) as raised:
            Counter.crash(Counter.start(0))

        assert "ZeroDivisionError" == raised.value.reason.type

    def test_cast_may_stop_the_server(self):
        """Its result is `Stop`."""
        counter = Counter.start(0)
        Counter.end(counter, ("shutdown", "enough"))

        assert ("shutdown", "enough") == counter.wait(5.0)

    def test_cast_may_keep_the_state(self):
        """Its result is `NoReply`."""
        counter = Counter.start(3)
        Counter.keep(counter)

        assert 3 == Counter.val(counter)

    def test_reply_from_a_cast_is_a_bad_return(self):
        """There is nobody to reply to."""
        counter = Counter.start(0)
        Counter.bad(counter)

        assert ("bad_return_value", Reply("to whom?", 0)) == counter.wait(5.0)

    def test_survives_a_restart(self):
        """A typed child of a supervisor."""
        with Supervisor.start_link([Counter.child_spec(3, name="counter")], strategy="one_for_one"):
            Counter.inc("counter")
            wait_restarted("counter", after=sigkill("counter"))

            assert 3 == Counter.val("counter")

    def test_can_be_sent(self):
        """To run in another process, options and all."""
        counter = Counter.start(8)
        me = process.self()
        client = Counter.val.options(timeout=3.0)
        process.spawn(lambda: process.send(me, client(counter)))

        assert 8 == process.receive(timeout=5.0)


@pytest.mark.usefixtures("otp_node")
class TestArguments:
    """What does not fit the signature is refused in the caller."""

    @pytest.mark.parametrize(
        ("args", "kwargs", "says"),
        [
            ((1, 2), {}, "too many positional arguments"),
            ((), {"speed": 1}, "got an unexpected keyword argument 'speed'"),
            ((1,), {"by": 2}, "multiple values for argument 'by'"),
        ],
    )
    def test_error_names_method_and_signature(self, args, kwargs, says):
        """And what is wrong; nothing is sent."""
        counter = Counter.start(0)
        with pytest.raises(TypeError) as raised:
            Counter.inc(counter, *args, **kwargs)

        assert f"Counter.inc(server, /, by: 'int' = 1, *, times: 'int' = 1): {says}" == str(raised.value)
        assert 0 == Counter.val(counter)

    def test_missing_argument(self):
        """Also where only the count of arguments was looked at."""
        with pytest.raises(TypeError, match=r"Counter.later\(.*missing a required argument: 'more'"):
            Counter.later("nobody is asked")

    def test_acall_refuses_too(self):
        """Before it waits for anything."""
        with pytest.raises(TypeError, match="too many positional arguments"):
            asyncio.run(Counter.val.acall("nobody is asked", 1))

    def test_arguments_named_like_the_client_s_own(self):
        """`server` and `timeout` are free to be a method's arguments."""

        class Free(GenServer):
            @call
            def tell(self, state, server, timeout):
                return Reply((server, timeout), state)

        assert (1, 2) == Free.tell(Free.start(), server=1, timeout=2)
        assert "(server_, /, server, timeout)" == str(inspect.signature(Free.tell))


@pytest.mark.usefixtures("otp_node")
class TestOptions:
    def test_timeout(self):
        """Of a call, in seconds."""
        with pytest.raises(CallTimeout):
            Counter.never.options(timeout=0.01)(Counter.start(0))

    def test_on_timeout_kills(self):
        """As in `GenServer.call`."""
        counter = Counter.start(0)
        with pytest.raises(CallTimeout):
            Counter.never.options(timeout=0.01, on_timeout="kill")(counter)

        assert "killed" == counter.wait(5.0)

    def test_on_timeout_kills_in_acall(self):
        """The same without blocking."""
        counter = Counter.start(0)
        with pytest.raises(CallTimeout):
            asyncio.run(Counter.never.options(timeout=0.01, on_timeout="kill").acall(counter))

        assert "killed" == counter.wait(5.0)

    def test_later_options_keep_earlier_ones(self):
        """A client with options is a client."""
        client = Counter.never.options(on_timeout="kill").options(timeout=0.01)
        counter = Counter.start(0)
        with pytest.raises(CallTimeout):
            client(counter)

        assert "killed" == counter.wait(5.0)

    @pytest.mark.parametrize("how", ["call", "acall"])
    def test_across_restart_asks_the_successor(self, how, tmp_path):
        """Sent once more after the name is back: the second one answers."""

        class Once(GenServer):
            @call
            def die_once(self, state, gate):
                try:
                    open(gate, "x").close()
                except FileExistsError:
                    return Reply("second", state)
                return Reply(1 / 0, state)

        path = str(tmp_path / "died")
        with Supervisor.start_link([Once.child_spec(name="once")], strategy="one_for_one"):
            client = Once.die_once.options(across_restart=True)
            reply = client("once", path) if how == "call" else asyncio.run(client.acall("once", path))

            assert "second" == reply

    @pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout": "1"}, {"on_timeout": "cry"}])
    def test_wrong_option_is_refused(self, options):
        """Where it is given."""
        with pytest.raises(ValueError, match=next(iter(options))):
            Counter.val.options(**options)

    def test_cast_has_no_options_of_a_call(self):
        """Only `timeout`."""
        with pytest.raises(TypeError, match="across_restart"):
            Counter.inc.options(across_restart=True)


class TestInspection:
    def test_instance_has_the_implementation(self):
        """It runs here, with no process anywhere."""
        assert 5 == Counter().inc(3, 2)
        assert Reply(3, 3) == Counter().val(3)

    def test_client_says_what_it_is(self):
        """To `repr`, `help` and `inspect`."""
        assert "<client Counter.val(server, /)>" == repr(Counter.val)
        assert "val" == Counter.val.__name__
        assert "(server, /, more: 'int')" == str(inspect.signature(Counter.later))

    def test_callbacks_can_be_called_without_a_process(self):
        """The dispatch is in the class."""
        assert Reply(3, 3) == Counter().handle_call(("val", (), {}), None, 3)
        assert NoReply(4) == Counter().handle_cast(("inc", (), {}), 3)


@pytest.mark.usefixtures("otp_node")
class TestDispatch:
    """Which method or callback a request is for."""

    @pytest.mark.parametrize("cls", [Mixed, OnTop])
    def test_override_and_super(self, cls):
        """The subclass's method is run, by either class's client, and reaches the base's."""
        server = cls.start(5)

        assert (-5, -5, 10) == (Counter.val(server), cls.val(server), cls.twice(server))

    def test_anything_else_goes_to_the_callback_by_hand(self):
        """In the same class, and below `super()`."""
        server = OnTop.start(5)
        GenServer.cast(server, ("set", 6))

        assert "on top" == GenServer.call(server, "on top")
        assert ("by hand", 6) == GenServer.call(server, "by hand")

    def test_typed_method_comes_before_the_callback_by_hand(self):
        """A name that is marked is never left to a match."""
        server = Mixed.start(5)
        with pytest.raises(ServerDown, match="by_hand"):
            GenServer.call(server, ("twice", (), {"by_hand": True}))

    def test_callback_of_a_plain_base_is_behind_the_typed_ones(self):
        """Also where the plain base comes first."""
        server = Joined.start(5)

        assert 5 == Counter.val(server)
        assert ("by hand", "what") == GenServer.call(server, "what")

    @pytest.mark.parametrize(
        ("request_", "says"),
        [
            (("vla", (), {}), "Counter has no @call method 'vla' (it has val, add_all, "),
            (("inc", (), {}), "; inc is marked @cast), and was called with ('inc', (), {})"),
            ("what", "Counter has no handle_call, and was called with 'what'"),
        ],
    )
    def test_unknown_call_names_what_there_is(self, request_, says):
        """A clear error, which ends the server as any unknown request does."""
        with pytest.raises(ServerDown) as raised:
            GenServer.call(Counter.start(0), request_)

        assert "NotImplementedError" == raised.value.reason.type
        assert says in raised.value.reason.message

    def test_unknown_cast_names_what_there_is(self):
        """The same for casts."""
        counter = Counter.start(0)
        GenServer.cast(counter, ("vla", (), {}))

        assert "Counter has no @cast method 'vla' (it has inc, keep, end, bad)" in counter.wait(5.0).message


@pytest.mark.usefixtures("otp_node")
class TestInfo:
    """Messages go to the first `@info` method whose pattern fits."""

    def test_type(self):
        """`@info(Down)`."""
        listener, counter = Listener.start([]), Counter.start(0)
        waiting = GenServer.send_request(listener, ("wait_down", (counter,), {}))
        Listener.heard(listener)  # it has its monitor
        Counter.end(counter, "shutdown")

        assert ("down", "shutdown") == GenServer.receive_response(waiting)

    def test_patterns(self):
        """A tuple of types, a value with `...`, a predicate."""
        listener = Listener.start([])
        for message in (KeyError("k"), ("done", 1), {"number": 11}):
            process.send(listener, message)

        assert ["exit", ("done", 1), "large"] == Listener.heard(listener)

    def test_stop(self):
        """As from a cast."""
        listener = Listener.start([])
        process.send(listener, "stop")

        assert "told" == listener.wait(5.0)

    def test_subclass_first_then_the_rest_by_hand(self):
        """An override has its own pattern; what fits no pattern goes to `handle_info`."""
        listener = Eavesdropper.start([])
        for message in (("done", 2), ("done", str), ("done", 3), {"number": 1}, {"number": 11}):
            process.send(listener, message)

        expected = ["two", "overridden", ("rest", ("done", 3)), ("rest", {"number": 1}), "large"]
        assert expected == Eavesdropper.heard(listener)

    def test_on_the_class_it_is_the_mark(self):
        """It has no client: anything is sent with `process.send`."""
        assert Down is Listener.on_down.pattern


@pytest.mark.usefixtures("otp_node")
class TestAsync:
    def test_methods_may_be_async(self):
        """Calls, casts and messages; a plain one beside them."""
        server = Asynchronous.start(1)
        Asynchronous.inc(server, 5)
        Asynchronous.dec(server)
        process.send(server, "tick")

        assert 105 == Asynchronous.val(server)

    def test_acall(self):
        """Without blocking the caller's loop."""
        server = Asynchronous.start(1)

        assert 1 == asyncio.run(Asynchronous.val.acall(server))


class TestDefinition:
    """What is refused when the class is made."""

    def test_reserved_name(self):
        """Also for a marked method."""
        with pytest.raises(TypeError, match=r"would hide GenServer\.stop"):
            type("Bad", (GenServer,), {"stop": cast(named("stop", lambda self, state: state))})

    @pytest.mark.parametrize("name", ["init", "handle_call", "terminate", "options", "child_spec"])
    def test_callback_or_setting(self, name):
        """The library calls it."""
        with pytest.raises(TypeError, match=f"Bad.{name} is no name for a @cast method"):
            type("Bad", (GenServer,), {name: cast(named(name, lambda self, state: state))})

    def test_unmarked_override(self):
        """Nobody's client would reach it."""
        with pytest.raises(TypeError, match=r"Bad\.val overrides a @call method"):
            type("Bad", (Counter,), {"val": lambda self, state: None})

    def test_override_of_another_kind(self):
        """A cast in place of a call."""
        with pytest.raises(TypeError, match="is a @cast method and overrides a @call method"):
            type("Bad", (Counter,), {"val": cast(named("val", lambda self, state: state))})

    @pytest.mark.parametrize(
        ("mark", "says"),
        [
            (call, r"a @call method takes \(self, state, …\)"),
            (call.later, r"a @call.later method takes \(self, client, state, …\)"),
            (info(...), r"a @info\(pattern\) method takes \(self, message, state, …\)"),
        ],
    )
    def test_too_few_parameters(self, mark, says):
        """The server gives it more."""
        with pytest.raises(TypeError, match=says):
            type("Bad", (GenServer,), {"val": mark(named("val", lambda self: None))})

    def test_info_without_pattern(self):
        """The method itself would be taken for a predicate."""
        with pytest.raises(TypeError, match="write @info"):
            type("Bad", (GenServer,), {"on": info(named("on", lambda self, message, state: state))})

    @pytest.mark.parametrize("thing", [staticmethod(len), 3])
    def test_only_functions_are_marked(self, thing):
        """A mark is the outermost decorator but one: the class."""
        with pytest.raises(TypeError, match="marks a method"):
            call(thing)


def named(name, function):
    function.__name__ = name
    return function


class TestShipping:
    """Classes that cannot be imported."""

    def test_digest_sees_into_marked_methods(self):
        """A cell that is run again with another body is another class."""

        def make(by, pattern="x"):
            class Cell(GenServer):
                @cast
                def inc(self, state):
                    return state + by

                @info(pattern)
                def on(self, message, state):
                    return state

            return Cell

        assert _digest(make(1)) == _digest(make(1))
        assert _digest(make(1)) != _digest(make(2))
        assert _digest(make(1)) != _digest(make(1, "y"))

    @pytest.mark.slow
    def test_script_without_a_guard(self, tmp_path):
        """Definitions of a program's own: base, subclass, enum argument, a lambda as a pattern, async."""
        script = tmp_path / "script.py"
        script.write_text(SCRIPT, encoding="utf-8")
        ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=20, check=False)

        assert ended.returncode == 0, ended.stderr
        assert "11\n22\nhand\nColor.RED True\n['heard 7']\n1\n" == ended.stdout


SCRIPT = """
from enum import Enum
from otp_runtime import GenServer, Reply, Supervisor, process
from otp_runtime.typed import call, cast, info

STEP = 10

class Color(Enum):
    RED = "red"

class Counter(GenServer[int]):
    @cast
    def inc(self, state, by=1): return state + by * STEP
    @call
    def val(self, state): return Reply(state, state)

class Twice(Counter):
    @call
    def val(self, state): return Reply(2 * super().val(state).value, state)
    @call
    def same(self, state, color): return Reply((color, color is Color.RED), state)
    def handle_call(self, request, client, state): return Reply("hand", state)

class Listener(GenServer):
    @info(lambda message: message > 5)
    def on(self, message, state): return [*state, f"heard {message}"]
    @call
    async def val(self, state): return Reply(state, state)

children = [Counter.child_spec(1, name="c"), Twice.child_spec(1, name="t"), Listener.child_spec([], name="l")]
with Supervisor.start_link(children, strategy="one_for_one") as sup:
    Counter.inc("c")
    Twice.inc("t", by=1)
    print(Counter.val("c"))
    print(Counter.val("t"))
    print(GenServer.call("t", "x"))
    print(*Twice.same("t", Color.RED))
    process.send("l", 7)
    print(Listener.val("l"))

class Counter(GenServer[int]):
    @call
    def val(self, state): return Reply(state, state)

with Counter.start_link(1) as counter:
    print(Counter.val(counter))
"""
