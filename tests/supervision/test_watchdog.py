"""A hang is found in time, shown with its line, and ends like a crash; what only looks like one is left alone."""

import ctypes
import json
import logging
import os
import signal
import time

import pytest

from otp_runtime import (
    Agent,
    BadChildSpec,
    BadSupervisorFlags,
    Down,
    DynamicSupervisor,
    GenEvent,
    GenServer,
    InitFailed,
    PartitionSupervisor,
    ServerDown,
    Supervisor,
    TaskSupervisor,
    UpgradeFailed,
    Watchdog,
    process,
    system,
    upgrade,
    why,
)
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, freeze, gate, hang, segfault, thaw, wait_restarted
from tests.supervision import hangers
from tests.supervision.hangers import AsyncHanger, AsyncLeaving, Hanger, Leaving, Machine, Spoken, Trapping

MANY = 1_000_000
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
BOUND = hangers.QUICK.busy + hangers.QUICK.grace + 0.5


def supervise(*children, **flags):
    return Supervisor.start_link(list(children), **{"strategy": "one_for_one", "max_restarts": MANY, **flags})


def lines(function):
    """The lines of a function, as a record names them, the last one last."""
    code = function.__code__
    numbers = sorted({line for _start, _end, line in code.co_lines() if line} - {code.co_firstlineno})
    return [f"{code.co_filename}:{number} in {function.__name__}" for number in numbers]


def last_line(function):
    """The line on which a way to hang stays for ever."""
    return lines(function)[-1]


def await_death(pid, timeout=15.0):
    ref = process.monitor(pid)
    return assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, timeout).reason


def hung(name, how, cls=Hanger):
    """Let a server hang; give its record, once it is dead and back."""
    with supervise(cls.child_spec(0, name=name)):
        pid = process.whereis(name)
        GenServer.cast(name, how)
        reason = await_death(pid)
        record = why(pid)
        assert reason == record.reason
        wait_restarted(name, after=pid)
    return record


@pytest.mark.slow
class TestKinds:
    @pytest.mark.parametrize(
        ("how", "kind"),
        [
            (hangers.spin, "busy"),
            (hangers.computes_in_c, "busy"),
            (hangers.computes_with_the_gil, "busy"),
            (hangers.lock, "blocked"),
            (hangers.read, "blocked"),
            (hangers.sleep, "blocked"),
            (hangers.holds_the_gil, "blocked"),
        ],
        ids=lambda what: getattr(what, "__name__", what),
    )
    def test_a_callback(self, me, how, kind):
        """It is found in time, with the line where it is, whether it can run Python or not."""
        record = hung("hanger", how)

        assert (("hang", kind), "hang") == (record.reason, record.kind)
        assert record.hang["at"] in (lines(how) if how is hangers.spin else lines(how)[-1:])
        assert hangers.QUICK.busy <= record.hang["seconds"] <= BOUND

    @pytest.mark.parametrize(
        ("how", "kind", "function"),
        [
            (hangers.sleep, "event_loop", hangers.sleep),
            (hangers.spin, "event_loop", hangers.spin),
            (hangers.awaits, "blocked", hangers.deep),
            (hangers.yields_for_ever, "busy", hangers.yields_for_ever),
        ],
        ids=lambda what: getattr(what, "__name__", what),
    )
    def test_a_callback_of_an_async_server(self, me, how, kind, function):
        """A loop that does not turn is told from a callback that awaits what never comes; both name the line."""
        record = hung("hanger", how, AsyncHanger)

        assert ("hang", kind) == record.reason
        assert record.hang["at"] in lines(function)

    def test_a_task_between_callbacks(self, me):
        """It keeps the loop from turning though no callback runs and nothing waits in the mailbox."""
        with supervise(AsyncHanger.child_spec(0, name="hanger")):
            pid = process.whereis("hanger")
            process.send(pid, hangers.task_that_blocks)
            reason = await_death(pid)

            assert (("hang", "event_loop"), last_line(hangers.task_that_blocks)) == (reason, why(pid).hang["at"])

    @pytest.mark.parametrize("cls", [Hanger, AsyncHanger])
    def test_stopped_by_a_signal(self, me, cls):
        """Idle or not; its stack is shown without a line of its own code being run."""
        with supervise(cls.child_spec(0, name="hanger")):
            pid = freeze("hanger")
            reason = await_death(pid)
            record = why(pid)

            assert ("hang", "stopped") == reason
            assert "Current thread" in record.native_stack
            assert record.hang["at"]

    def test_stopped_in_mid_callback(self, me):
        """The line is that of the callback."""
        with supervise(Hanger.child_spec(0, name="hanger", watchdog=Watchdog(busy=0.6))), gate() as reached:
            GenServer.cast("hanger", lambda: (reached.arrive(), time.sleep(hangers.FOR_EVER)))
            reached.wait_arrival()
            pid = freeze("hanger")

            assert ("hang", "stopped") == await_death(pid)
            assert "test_watchdog.py" in why(pid).hang["at"]

    def test_what_dies_when_it_is_let_go_of(self, me):
        """A finaliser belongs to the callback in which it runs."""
        record = hung("hanger", hangers.lets_go)

        assert (("hang", "blocked"), last_line(hangers.lock)) == (record.reason, record.hang["at"])
        assert "in __del__" in record.python_traceback

    @pytest.mark.parametrize("cls", [Hanger, AsyncHanger])
    def test_between_callbacks(self, me, cls):
        """Here it hangs while it decodes a message, and no other one comes."""
        with supervise(cls.child_spec(0, name="hanger")):
            pid = process.whereis("hanger")
            GenServer.cast("hanger", hangers.Unreadable())
            reason = await_death(pid)

            kind, what = ("blocked", "between") if cls is Hanger else ("event_loop", "event_loop")
            assert (("hang", kind), what) == (reason, why(pid).hang["what"])

    def test_all_threads_are_shown(self, me):
        """What holds the lock may be another one."""
        record = hung("hanger", hangers.with_a_thread)

        assert f"line {last_line(hangers.sleep).split(':')[1].split()[0]} in sleep" in record.native_stack
        assert 2 == len(record.hang["threads"])

    def test_exit_functions(self, me):
        """Who has said his last words and does not go is killed; the reason is what it said."""
        with supervise(Hanger.child_spec(0, name="hanger")):
            pid = process.whereis("hanger")
            GenServer.cast("hanger", hangers.ends_never)

            assert "ValueError" == await_death(pid).type
            assert "ending" == why(pid).hang["what"]

    def test_the_record_is_plain_data(self, me):
        """So that `why --json` can show it."""
        record = hung("hanger", hangers.lock)

        assert record.hang == json.loads(json.dumps(record.to_json()))["hang"]

    def test_by_the_helper(self, me):
        """`testing.hang` makes one."""
        with supervise(Hanger.child_spec(0, name="hanger")):
            assert ("hang", "blocked") == await_death(hang("hanger"))


@pytest.mark.slow
class TestWhere:
    def test_init_counts_as_a_callback(self, me):
        """A start that hangs fails, with the reason."""
        with pytest.raises(InitFailed) as failed:
            Spoken.start_link("init", name="hanger")

        assert ("hang", "blocked") == failed.value.reason

    def test_an_init_that_is_slow_but_in_time(self, me):
        """It may take as long as a callback."""
        pid = Spoken.start_link("slow", name="hanger", watchdog=Watchdog(busy=3.0))

        assert GenServer.call(pid, None) == "slow"

    def test_init_under_a_supervisor(self, me):
        """The start of the tree fails, and names the child."""
        with pytest.raises(InitFailed) as failed:
            supervise(Spoken.child_spec("init", name="hanger"), max_restarts=0)

        assert ("shutdown", ("failed_to_start_child", "hanger", ("hang", "blocked"))) == failed.value.reason

    def test_continue(self, me):
        """It is a callback."""
        pid = Spoken.start("continue")

        assert ("hang", "blocked") == await_death(pid)

    def test_terminate_after_a_stop(self, me):
        """`GenServer.stop` does not wait for ever."""
        pid = Spoken.start("terminate")

        with pytest.raises(ServerDown) as down:
            GenServer.stop(pid, timeout=10.0)
        assert ("hang", "blocked") == down.value.reason

    def test_a_function_of_replace_state(self, me):
        """System messages are watched as well."""
        pid = Spoken.start("idle")

        with pytest.raises(ServerDown) as down:
            system.replace_state(pid, lambda state: hangers.lock(), timeout=10.0)
        assert ("hang", "blocked") == down.value.reason

    def test_a_root(self, me):
        """What no supervisor starts is watched by the launcher, which brings nothing back."""
        pid = Hanger.start(0)
        GenServer.cast(pid, hangers.lock)

        assert ("hang", "blocked") == await_death(pid)

    @pytest.mark.parametrize("spec", ["agent", "machine", "manager", "kept", "partition", "dynamic"])
    def test_other_behaviours(self, me, spec):
        """All that run in the same loop take a watchdog."""
        options = {"watchdog": hangers.QUICK}
        if spec == "agent":
            pid = Agent.start(dict, **options)
            Agent.cast(pid, lambda state: hangers.lock())
        elif spec == "machine":
            pid = Machine.start(0)
            GenServer.cast(pid, hangers.lock)
        elif spec == "manager":
            pid = GenEvent.start(**options)
            process.send(pid, hangers.Unreadable())
        elif spec == "kept":
            pid = Hanger.start(0, restore="last_good")
            GenServer.cast(pid, hangers.lock)
        elif spec == "partition":
            PartitionSupervisor.start(Hanger, name="parts", partitions=1, max_restarts=MANY)
            pid = process.whereis("parts/0")
            GenServer.cast(pid, hangers.lock)
        else:
            pid = DynamicSupervisor.start_child(DynamicSupervisor.start(max_restarts=MANY), Hanger.child_spec(0))
            GenServer.cast(pid, hangers.lock)

        assert ("hang", "blocked") == await_death(pid)

    def test_after_an_upgrade(self, me):
        """The successor is watched, and the predecessor was not taken for hung while it was parked."""
        with supervise(Hanger.child_spec(0, name="hanger")):
            pid = process.whereis("hanger")
            before = pid.os_pid
            upgrade("hanger")
            assert before != process.whereis("hanger").os_pid
            GenServer.cast("hanger", hangers.lock)

            assert ("hang", "blocked") == await_death(pid)
            assert last_line(hangers.lock) == why(pid).hang["at"]
            # a child that is forked from new code
            again = wait_restarted("hanger", after=pid)
            GenServer.cast("hanger", hangers.lock)
            assert ("hang", "blocked") == await_death(again)


@pytest.mark.slow
class TestAfterwards:
    def test_intensity(self, me):
        """A hang counts as any abnormal end: too many and the supervisor gives up."""
        sup = Supervisor.start([Hanger.child_spec(0, name="hanger")], strategy="one_for_one", max_restarts=0)
        GenServer.cast("hanger", hangers.lock)

        assert "shutdown" == await_death(sup)

    def test_temporary_is_not_restarted(self, me):
        """By the rules of a restart type."""
        with supervise(Hanger.child_spec(0, name="hanger", restart="temporary")) as sup:
            pid = process.whereis("hanger")
            GenServer.cast("hanger", hangers.lock)
            await_death(pid)

            assert [] == Supervisor.which_children(sup)

    def test_the_caller_hears_the_reason(self, me):
        """At once, not at its time-out."""
        with supervise(Hanger.child_spec(0, name="hanger")):
            with pytest.raises(ServerDown) as down:
                GenServer.call("hanger", lambda state: hangers.lock(), timeout=None)

            assert ("hang", "blocked") == down.value.reason

    def test_the_report(self, me, caplog):
        """It says what, where, and what to do, once."""
        caplog.set_level(logging.ERROR)
        record = hung("hanger", hangers.lock)
        # reports travel by themselves; the next one tells that the first has arrived
        deadline = time.monotonic() + 5
        while not caplog.messages and time.monotonic() < deadline:
            current().pump(0.01)
        text = caplog.text

        assert last_line(hangers.lock) in text
        assert record.hang["found"] in text
        assert record.hang["advice"] in text
        assert "cast" in record.message_in_hand
        assert {"n": 1, "of": MANY, "seconds": 5} == record.restart

    def test_a_kept_state_comes_back(self, me):
        """The state before the callback that hung."""
        with supervise(Hanger.child_spec(7, name="hanger", restore="last_good")):
            pid = process.whereis("hanger")
            GenServer.cast("hanger", hangers.lock)
            wait_restarted("hanger", after=pid, timeout=10.0)

            assert GenServer.call("hanger", None) == 7


@pytest.mark.slow
class TestAcrossAHandover:
    KINDS = ((Leaving, "blocked"), (AsyncLeaving, "event_loop"))

    @pytest.mark.parametrize(("cls", "kind"), KINDS)
    @pytest.mark.parametrize("where", ["init", "code_change"])
    def test_a_successor_that_hangs(self, me, where, cls, kind, tmp_path):
        """The upgrade fails, with the reason, and the server goes on as it is."""
        state = (where, str(tmp_path / "left"))
        with supervise(cls.child_spec(state, name="leaving")):
            pid = process.whereis("leaving")
            with pytest.raises(UpgradeFailed) as failed:
                upgrade("leaving")

            assert ("hang", kind) == failed.value.reason
            assert (pid, state) == (process.whereis("leaving"), GenServer.call("leaving", None))

    @pytest.mark.parametrize(("cls", "kind"), KINDS)
    def test_a_release_that_hangs(self, me, cls, kind, tmp_path):
        """It is a callback, too."""
        with supervise(cls.child_spec(("release", str(tmp_path / "left")), name="leaving")):
            pid = process.whereis("leaving")
            with pytest.raises(UpgradeFailed):
                upgrade("leaving")

            assert ("hang", kind) == why(pid).reason
            assert last_line(hangers.lock) == why(pid).hang["at"]


class TestOnItsWayOut:
    def test_a_callback_that_hangs_is_found(self, me):
        """Also where the supervisor would wait for its end for ever."""
        sup = Supervisor.start_link(
            [Spoken.child_spec("idle", name="hanger", shutdown=None), Trapping.child_spec(name="trapping")],
            strategy="one_for_one",
        )
        pid = process.whereis("trapping")
        GenServer.cast(pid, hangers.lock)
        ref = process.monitor(pid)
        GenServer.stop(sup, timeout=10.0)

        assert ("hang", "blocked") == assert_receive(lambda one: isinstance(one, Down) and one.ref == ref).reason

    def test_a_terminate_that_takes_long_is_left_to_its_shutdown_time(self, me):
        """That is the limit that was given for it."""
        sup = Supervisor.start_link([Trapping.child_spec(0.8, name="trapping")], strategy="one_for_one")
        ref = process.monitor("trapping")
        GenServer.stop(sup, timeout=10.0)

        assert "shutdown" == assert_receive(lambda one: isinstance(one, Down) and one.ref == ref).reason

    def test_an_upgrade_of_a_server_that_hangs(self, me):
        """It is not waited for for ever."""
        pid = Hanger.start(0)
        GenServer.cast(pid, hangers.lock)

        with pytest.raises(UpgradeFailed):
            upgrade(pid, timeout=None)
        assert not process.alive(pid)


@pytest.mark.slow
class TestLeftAlone:
    @pytest.fixture
    def witness(self):
        """A server that hangs for longer than the one under test: when it is found, that one has been spared."""
        return Hanger.start(0, watchdog=Watchdog(busy=1.2))

    def spared(self, pid, witness):
        GenServer.cast(witness, hangers.lock)
        await_death(witness)
        return process.alive(pid)

    @pytest.mark.parametrize("cls", [Hanger, AsyncHanger])
    def test_idle(self, me, witness, cls):
        """It sleeps, however long."""
        assert self.spared(cls.start(0), witness)

    def test_suspended(self, me, witness):
        """Though messages wait."""
        pid = Hanger.start(0)
        system.suspend(pid)
        for _ in range(3):
            GenServer.cast(pid, print)

        assert self.spared(pid, witness)

    def test_callbacks_in_time(self, me, witness):
        """One after the other, for longer than one may take."""
        pid = Hanger.start(0)
        GenServer.cast(witness, hangers.lock)
        ref = process.monitor(witness)
        while not [one for one in process.flush() if isinstance(one, Down) and one.ref == ref]:
            GenServer.call(pid, lambda state: time.sleep(0.1))

        assert process.alive(pid)

    def test_stopped_again_and_again(self, me, witness):
        """For a moment each time; that each look falls into one of them is chance."""
        pid = Hanger.start(0)
        GenServer.cast(witness, hangers.lock)
        ref = process.monitor(witness)
        while not [one for one in process.flush() if isinstance(one, Down) and one.ref == ref]:
            freeze(pid)
            current().pump(0.05)
            thaw(pid)
            GenServer.call(pid, None)

        assert process.alive(pid)

    def test_thawed_in_time(self, me, witness):
        """And the time in which it was stopped is not its callback's."""
        pid = Hanger.start(0, watchdog=Watchdog(busy=0.8))
        with gate() as held:
            GenServer.cast(pid, held.wait)
            held.wait_arrival()
            freeze(pid)
            GenServer.cast(witness, hangers.lock)
            # let go between two and three quarters of what it has
            GenServer.call(Agent.start(dict), ("get", lambda state: time.sleep(0.5)))
            thaw(pid)
            held.open()

        assert GenServer.call(pid, None) == 0
        assert ("hang", "blocked") == await_death(witness)
        assert process.alive(pid)

    def test_pdb(self, me, witness, tmp_path):
        """A prompt waits for whoever debugs; and when he goes on, it is watched again."""
        os.mkfifo(tmp_path / "in")
        typed = os.open(tmp_path / "in", os.O_RDWR)
        pid = Hanger.start(0)
        GenServer.cast(pid, Debugged(str(tmp_path / "in"), me))
        assert_receive("prompt", 5.0)

        assert self.spared(pid, witness)
        os.write(typed, b"continue\n")
        assert GenServer.call(pid, None) == 0
        os.close(typed)
        GenServer.cast(pid, hangers.lock)
        assert ("hang", "blocked") == await_death(pid)

    def test_breakpoint(self, me, witness):
        """Whatever debugger `breakpoint()` starts; it sees the frame that called it, as without a watchdog."""
        pid = Hanger.start(0)
        GenServer.cast(pid, Broken(me))
        assert_receive(("stopped in", "__call__"), 5.0)

        assert self.spared(pid, witness)

    def test_a_tracer(self, me, witness):
        """A native debugger, strace; when it lets go, the server is watched again."""
        pid = Hanger.start(0)
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        if ptrace(PTRACE_SEIZE, pid.os_pid, None, None) != 0:
            pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")
        GenServer.cast(pid, hangers.spin)

        assert self.spared(pid, witness)
        os.kill(pid.os_pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid.os_pid, os.WSTOPPED)
        ptrace(PTRACE_DETACH, pid.os_pid, None, signal.SIGCONT)
        os.kill(pid.os_pid, signal.SIGCONT)
        assert ("hang", "busy") == await_death(pid)

    def test_a_supervisor_that_was_stopped(self, me):
        """Its own absence counts for nobody: the callback that was cut short by it goes on."""
        with supervise(Hanger.child_spec(0, name="hanger", watchdog=Watchdog(busy=1.0))) as sup, gate() as held:
            pid = process.whereis("hanger")
            GenServer.cast("hanger", held.wait)
            held.wait_arrival()
            os.kill(sup.os_pid, signal.SIGSTOP)
            witness = Hanger.start(0, watchdog=Watchdog(busy=1.2))
            GenServer.cast(witness, hangers.lock)
            await_death(witness)
            os.kill(sup.os_pid, signal.SIGCONT)
            assert Supervisor.count_children(sup).active == 1
            held.open()

            assert GenServer.call("hanger", None) == 0
            assert pid == process.whereis("hanger")


class Broken:
    """Calls `breakpoint()`, which blocks."""

    def __init__(self, pid):
        self.pid = pid

    def __call__(self):
        os.environ["PYTHONBREAKPOINT"] = "tests.supervision.hangers.tell_and_block"
        breakpoint(self.pid)  # noqa: T100 - that is what it is about


class Debugged:
    """Stops in pdb, which reads from a FIFO."""

    def __init__(self, path, pid):
        self.path = path
        self.pid = pid

    def __call__(self):
        import pdb  # noqa: T100

        with open(self.path, encoding="ascii") as typed, open(os.devnull, "w", encoding="ascii") as shown:
            process.send(self.pid, "prompt")
            pdb.Pdb(stdin=typed, stdout=shown, nosigint=True).set_trace()
            len(self.path)


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            5.0,
            True,
            "5",
            Watchdog(busy=0.1),
            Watchdog(busy=-1),
            Watchdog(busy=True),
            Watchdog(busy=float("nan")),
            Watchdog(busy=float("inf")),
            Watchdog(busy=None),
            Watchdog(grace=-0.1),
            Watchdog(grace=True),
            Watchdog(grace="1"),
        ],
        ids=repr,
    )
    def test_wrong_values(self, wrong):
        """They are refused in the caller, before anything starts, and the text says what is allowed."""
        for make in (Hanger.child_spec, Hanger.start_link, Agent.child_spec):
            with pytest.raises(BadChildSpec, match=r"watchdog=.* or more") as refused:
                make(dict, watchdog=wrong)
            assert "watchdog" == refused.value.field

    def test_a_class_attribute(self):
        """It is a setting, as `options` is, and is checked as well."""

        class Set(GenServer):
            watchdog = Watchdog(busy=0.01)

        with pytest.raises(BadChildSpec):
            Set.child_spec()

    def test_a_method_of_that_name(self):
        """It would be taken for the setting."""
        with pytest.raises(TypeError, match="watchdog is a setting"):
            type("Wrong", (GenServer,), {"watchdog": lambda self: None})

    @pytest.mark.parametrize(
        "make",
        [
            lambda **given: Supervisor.child_spec([], strategy="one_for_one", **given),
            lambda **given: Supervisor.start_link([], strategy="one_for_one", **given),
            DynamicSupervisor.child_spec,
            DynamicSupervisor.start_link,
            TaskSupervisor.child_spec,
            lambda **given: PartitionSupervisor.child_spec(Hanger, name="parts", **given),
            lambda **given: PartitionSupervisor.start_link(Hanger, name="parts", **given),
        ],
    )
    def test_supervisors(self, make):
        """They are not watched, and say so."""
        with pytest.raises(BadSupervisorFlags, match="give watchdog to its children"):
            make(watchdog=Watchdog())


@pytest.mark.slow
class TestNativeCrash:
    def test_shows_all_threads(self, me):
        """A segmentation fault too, of a server without a watchdog."""
        pid = Hanger.start(0, watchdog=None)
        GenServer.call(pid, hangers.starts_a_thread)
        segfault(pid)
        record = why(pid)

        assert "Segmentation fault" in record.native_stack
        assert "in sleep" in record.native_stack
        assert "launcher.py" not in record.native_stack

    def test_abort(self, me):
        """Its line is there."""
        pid = Hanger.start(0)
        ref = process.monitor(pid)
        GenServer.cast(pid, os.abort)
        assert_receive(lambda message: isinstance(message, Down) and message.ref == ref)

        assert "in handle_cast" in why(pid).native_stack
