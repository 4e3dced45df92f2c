"""Supervisors: the order of starts and stops, strategies, restart types, intensity, shutdown."""

import asyncio
import os
import select
import signal

import pytest

from otp_runtime import (
    AlreadyStarted,
    CallTimeout,
    ChildSpec,
    Down,
    Exit,
    GenServer,
    InitFailed,
    NoProcess,
    ServerDown,
    Signalled,
    Supervisor,
    process,
    system,
    why,
)
from otp_runtime.behaviours import gen
from otp_runtime.core import supervision as core
from otp_runtime.errors import CallbackFailed, NotSuspended, UpgradeFailed
from otp_runtime.testing import assert_receive, freeze, sigkill, thaw, wait_restarted
from tests.supervision import children
from tests.supervision.children import Plain, Recorder, Stubborn
from tests.supervision.watching import end, pids, restart, shown

NAMES = ("a", "b", "c")
MANY = 1000


def start(record, *names, strategy="one_for_one", max_restarts=MANY, **flags):
    flags.setdefault("max_seconds", 60)
    specs = [record.spec(name) if isinstance(name, str) else name for name in names]
    return Supervisor.start_link(specs, strategy=strategy, max_restarts=max_restarts, **flags)


class TestStart:
    def test_in_order(self, record):
        """Each after the one before it has started; the supervisor after all."""
        with start(record, *NAMES) as top:
            assert record.take() == ["start a", "start b", "start c"]
            assert [one.id for one in Supervisor.which_children(top)] == ["c", "b", "a"]

    def test_without_children(self, me):
        """Is allowed."""
        with Supervisor.start_link([], strategy="one_for_one") as top:
            assert Supervisor.which_children(top) == []

    def test_by_name(self, record):
        """A second of the name is told by whom it is taken, and starts nothing."""
        with start(record, "a", name="top") as top:
            with pytest.raises(AlreadyStarted) as error:
                start(record, "b", name="top")

            assert (error.value.pid, record.take()) == (top, ["start a"])

    @pytest.mark.parametrize(
        ("how", "reason"), [("custom", "custom"), ("normal", "normal"), ("die", None), ("raise", None)]
    )
    def test_rolls_back(self, record, how, reason):
        """When one cannot start those before it are stopped, last first; nothing after it starts."""
        record.mood("c", how)
        with pytest.raises(InitFailed) as error:
            start(record, "a", "b", "c", "d", name="top")
        shutdown, (what, child_id, why_not) = error.value.reason

        assert (shutdown, what, child_id) == ("shutdown", "failed_to_start_child", "c")
        assert why_not == reason or reason is None
        assert record.take() == ["start a", "start b", "stop b shutdown", "stop a shutdown"]
        assert pids("a", "b", "c", "top") == [None] * 4
        assert process.flush() == []

    def test_ignored_children(self, record):
        """Stay as a spec without a process; a temporary one is forgotten."""
        record.mood("b", "ignore")
        record.mood("c", "ignore")
        with start(record, "a", "b", record.spec("c", restart="temporary")) as top:
            assert shown(top) == {"a": True, "b": False}

    def test_children_of_every_form(self, record):
        """A spec, a class, a class with an argument."""
        with Supervisor.start_link(
            [ChildSpec("fun", (Recorder.start_link, ((record.path, "f"),), {})), (Recorder, (record.path, "g"))],
            strategy="one_for_one",
        ) as top:
            assert [one.id for one in Supervisor.which_children(top)] == ["Recorder", "fun"]

    def test_a_start_that_starts_nothing(self, me):
        """Is a bad return."""
        with pytest.raises(InitFailed) as error:
            Supervisor.start_link([ChildSpec("odd", (int, (7,), {}))], strategy="one_for_one")

        assert error.value.reason == ("shutdown", ("failed_to_start_child", "odd", ("bad_return_value", 7)))

    def test_a_hundred_children(self, record):
        """All start, all stop."""
        specs = [record.spec(f"child{number}", Plain) for number in range(100)]
        with Supervisor.start_link(specs, strategy="one_for_one") as top:
            assert Supervisor.count_children(top).active == 100
            assert GenServer.call("child99", "who")[1] == "child99"
        assert pids("child0", "child99") == [None, None]


class TestStop:
    def test_in_reverse_order(self, record):
        """One after another, with `shutdown`."""
        with start(record, *NAMES):
            record.take()

        assert record.take() == ["stop c shutdown", "stop b shutdown", "stop a shutdown"]

    def test_frees_the_names(self, record):
        """By the time it returns."""
        top = start(record, *NAMES, name="top")
        Supervisor.stop(top)

        assert pids("top", *NAMES) == [None] * 4

    @pytest.mark.parametrize("reason", ["normal", "shutdown", "custom"])
    def test_with_a_reason(self, record, reason):
        """Its own; the children's is `shutdown`."""
        top = Supervisor.start([record.spec("a")], strategy="one_for_one")
        record.take()
        Supervisor.stop(top, reason)

        assert (top.wait(5.0), record.take()) == (reason, ["stop a shutdown"])

    def test_an_exit_of_the_parent(self, record):
        """It traps, and stops its children first."""
        top = start(record, "a")
        record.take()
        process.exit(top, "custom")

        assert (top.wait(5.0), record.take()) == ("custom", ["stop a shutdown"])

    def test_a_strangers_exit(self, record):
        """Is ignored."""
        with start(record, "a") as top:
            process.spawn(process.exit, top, "custom").wait(5.0)

            assert shown(top) == {"a": True}

    def test_brutal_kill(self, record):
        """Without a word."""
        with start(record, record.spec("a", shutdown="brutal_kill")):
            record.take()
            ref = process.monitor("a")

        assert (record.take(), assert_receive(Down, 5.0).reason) == ([], "killed")
        assert ref

    def test_after_the_seconds(self, record):
        """One that does not end is killed; then the next is asked."""
        with start(record, "a", record.spec("b", Stubborn, shutdown=0.05)):
            record.take()
            process.monitor("b")

        assert record.take() == ["stop b shutdown", "stop a shutdown"]
        assert assert_receive(Down, 5.0).reason == "killed"

    def test_none_waits(self, record):
        """As long as it takes; a kill of the world ends the wait."""
        top = start(record, record.spec("a", Stubborn, shutdown=None))
        victim = process.whereis("a")
        process.exit(top, "shutdown")
        with pytest.raises(TimeoutError):
            top.wait(0.1)
        sigkill(victim)

        assert top.wait(5.0) == "shutdown"

    def test_a_frozen_child(self, record):
        """Is killed after its time too."""
        with start(record, record.spec("a", shutdown=0.05)):
            freeze("a")

        assert process.whereis("a") is None

    def test_a_child_that_unlinked_itself(self, record):
        """Cannot make it wait for ever."""
        with start(record, "a") as top:
            GenServer.call("a", lambda state: (process.unlink(top), children.Reply(1, state))[1])

        assert process.whereis("a") is None

    def test_is_killed(self, record):
        """Its children end with it: a trapping one runs `terminate` with `killed`."""
        top = Supervisor.start([record.spec("a"), record.spec("b", Plain)], strategy="one_for_one")
        record.take()
        victims = pids("a", "b")
        process.exit(top, "kill")
        reasons = [victim.wait(5.0) for victim in victims]

        assert (reasons, record.take()) == (["killed", "killed"], ["stop a killed"])


class TestStrategies:
    def test_one_for_one(self, record):
        """Only the child that died, in its place."""
        with start(record, *NAMES) as top:
            before = pids(*NAMES)
            record.take()
            restart("b")
            after = pids(*NAMES)

            assert record.take() == ["start b"]
            assert [one is two or one == two for one, two in zip(before, after, strict=True)] == [True, False, True]
            assert [one.id for one in Supervisor.which_children(top)] == ["c", "b", "a"]

    def test_rest_for_one(self, record):
        """Those after it stop, last first; then it and they start, in order."""
        with start(record, *NAMES, strategy="rest_for_one"):
            first = process.whereis("a")
            record.take()
            restart("b")
            wait_restarted("c")
            GenServer.call("c", "ready?")

            assert record.take() == ["stop c shutdown", "start b", "start c"]
            assert process.whereis("a") == first

    def test_one_for_all(self, record):
        """All others stop, last first; then all start, in order."""
        with start(record, *NAMES, strategy="one_for_all"):
            record.take()
            restart("b")
            GenServer.call("c", "ready?")

            assert record.take() == ["stop c shutdown", "stop a shutdown", "start a", "start b", "start c"]

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_temporary_siblings(self, record, strategy):
        """Are stopped and forgotten."""
        with start(record, "a", record.spec("b", restart="temporary"), strategy=strategy) as top:
            restart("a")

            assert shown(top) == {"a": True}

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_siblings_that_had_ended(self, record, strategy):
        """Are started again as well."""
        with start(record, "a", record.spec("b", restart="transient"), "c", strategy=strategy) as top:
            end("b", "normal")
            Supervisor.terminate_child(top, "c")
            restart("a")
            wait_restarted("b")
            wait_restarted("c")

            assert shown(top) == {"a": True, "b": True, "c": True}

    def test_siblings_do_not_count(self, record):
        """One incident is one restart."""
        with start(record, *NAMES, strategy="one_for_all", max_restarts=2) as top:
            for _ in range(2):
                restart("a")
                GenServer.call("c", "ready?")

            assert shown(top) == {"a": True, "b": True, "c": True}


class TestRestartTypes:
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), "custom"])
    def test_permanent(self, record, reason):
        """After every end."""
        with start(record, "a"):
            pid = end("a", reason)

            assert GenServer.call("a", "ready?")
            assert process.whereis("a") != pid

    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1)])
    def test_transient_after_an_end_that_was_meant(self, record, reason):
        """No more; it can be started by hand."""
        with start(record, record.spec("a", restart="transient")) as top:
            end("a", reason)

            assert shown(top) == {"a": False}
            assert Supervisor.restart_child(top, "a") == process.whereis("a")

    @pytest.mark.parametrize("reason", ["custom", ("shutdown", 1, 2), ("normal",)])
    def test_transient_after_another(self, record, reason):
        """Brought back."""
        with start(record, record.spec("a", restart="transient")):
            pid = end("a", reason)

            assert GenServer.call("a", "ready?")
            assert process.whereis("a") != pid

    @pytest.mark.parametrize("reason", ["normal", "custom"])
    def test_temporary(self, record, reason):
        """Never; it is forgotten."""
        with start(record, record.spec("a", restart="temporary"), "b") as top:
            end("a", reason)

            assert shown(top) == {"b": True}
            assert process.whereis("a") is None

    def test_a_call_by_name_waits(self, record):
        """For one that is coming back; not for one that is not."""
        with start(record, "a", record.spec("b", restart="temporary")):
            sigkill("a")
            sigkill("b")

            assert GenServer.call("a", "ready?")
            with pytest.raises(NoProcess):
                GenServer.call("b", "ready?", 60.0)


class TestIntensity:
    @pytest.mark.parametrize("allowed", [0, 1, 3])
    def test_survives_exactly_so_many(self, record, allowed):
        """One more ends it, with `shutdown`; its other children stop, the child is not started again."""
        top = start(record, "a", "b", max_restarts=allowed)
        for _ in range(allowed):
            restart("b")
        record.take()
        sigkill("b")

        assert (top.wait(5.0), record.take()) == ("shutdown", ["stop a shutdown"])
        assert assert_receive(Exit, 5.0) == Exit(top, "shutdown")

    def test_is_three_by_default(self, record):
        """In five seconds."""
        with Supervisor.start_link([], strategy="one_for_one") as top:
            status = system.get_status(top)

        assert (status["max_restarts"], status["max_seconds"]) == (3, 5)

    def test_is_shared(self, record):
        """By all children."""
        top = start(record, *NAMES, max_restarts=2)
        restart("a")
        restart("b")
        sigkill("c")

        assert top.wait(5.0) == "shutdown"

    def test_forgets(self, record):
        """What lies further back than the window."""
        with start(record, "a", max_restarts=1, max_seconds=0.05):
            for _ in range(4):
                restart("a")
                process.send_after(process.self(), "the window has passed", 0.1)
                assert_receive("the window has passed", 5.0)

            assert GenServer.call("a", "ready?")

    def test_a_normal_end_counts(self, record):
        """Of a permanent child."""
        top = start(record, "a", max_restarts=0)
        end("a", "normal")

        assert top.wait(5.0) == "shutdown"

    def test_the_caller_is_told_why(self, record):
        """Who looks for a name that nobody brings back any more."""
        top = Supervisor.start([record.spec("a")], strategy="one_for_one", max_restarts=0, name="top")
        sigkill("a")
        top.wait(5.0)
        with pytest.raises(NoProcess, match="its supervisor top gave up"):
            GenServer.call("a", "ready?")

        assert why("top").context == "shutdown"

    def test_a_block_says_so(self, record):
        """Leaving the `with` of a supervisor that gave up."""
        with pytest.raises(ServerDown) as error, start(record, "a", max_restarts=0) as top:  # noqa: PT012 - the block is under test
            sigkill("a")
            top.wait(5.0)

        assert error.value.reason == "shutdown"

    def test_a_block_that_has_not_seen_it_says_so(self, record):
        """Nothing in it looked at anything of the library's after the end."""
        with pytest.raises(ServerDown) as error, start(record, "a", max_restarts=0) as top:  # noqa: PT012 - the block is under test
            pidfd = os.pidfd_open(top.os_pid)
            sigkill("a")
            select.select([pidfd], [], [], 5.0)
            os.close(pidfd)

        assert error.value.reason == "shutdown"

    def test_an_async_block_that_has_not_seen_it_says_so(self, record):
        """The same with `async with`."""

        async def main():
            top = start(record, "a", max_restarts=0)
            pidfd = os.pidfd_open(top.os_pid)
            async with top:
                sigkill("a")
                select.select([pidfd], [], [], 5.0)
                os.close(pidfd)

        with pytest.raises(ServerDown) as error:
            asyncio.run(main())

        assert error.value.reason == "shutdown"


class TestFailedRestart:
    @pytest.mark.parametrize("how", ["custom", "raise", "die"])
    def test_is_tried_again(self, record, how):
        """Until one succeeds."""
        with start(record, "a", "b"):
            record.mood("a", f"once {how}")
            wait_restarted("a", after=sigkill("a"))

            assert GenServer.call("a", "ready?")[1] == "a"
            assert record.take() == ["start a", "start b", "start a"]

    def test_counts(self, record):
        """Each attempt; then it gives up, and stops the others."""
        top = start(record, "a", "b", max_restarts=3)
        record.take()
        record.mood("a", "custom")
        sigkill("a")

        assert (top.wait(5.0), record.take()) == ("shutdown", ["stop b shutdown"])
        assert why("a").context == "start_error"

    def test_ignored(self, record):
        """Is no failure: a spec without a process."""
        with start(record, "a") as top:
            record.mood("a", "ignore")
            sigkill("a")
            while shown(top) != {"a": False}:
                pass

            assert process.whereis("a") is None

    def test_of_a_sibling(self, record):
        """In one_for_all the attempt begins anew with all."""
        with start(record, *NAMES, strategy="one_for_all"):
            record.take()
            record.mood("b", "once custom")
            sigkill("c")
            GenServer.call("c", "ready?")

            assert record.take() == [
                "stop b shutdown",
                "stop a shutdown",
                "start a",
                "stop a shutdown",
                "start a",
                "start b",
                "start c",
            ]

    def test_of_a_later_sibling(self, record):
        """In rest_for_one those before it stay."""
        with start(record, *NAMES, strategy="rest_for_one"):
            record.take()
            record.mood("c", "once custom")
            before = process.whereis("c")
            sigkill("b")
            wait_restarted("c", after=before)

            assert record.take() == ["stop c shutdown", "start b", "start c"]

    def test_is_asked_meanwhile(self, record):
        """A supervisor that tries again and again still answers, and obeys."""
        with start(record, "a", max_restarts=1_000_000) as top:
            record.mood("a", "custom")
            sigkill("a")
            while shown(top) != {"a": "restarting"}:
                pass
            Supervisor.terminate_child(top, "a")

            assert shown(top) == {"a": False}


class TestNesting:
    def inner(self, record, *names, **flags):
        flags = {"strategy": "one_for_one", "max_restarts": 1, "max_seconds": 60, **flags}
        return Supervisor.child_spec([record.spec(name) for name in names], name="inner", **flags)

    def test_a_tree(self, record):
        """The kernel's process tree is the supervision tree."""
        with Supervisor.start_link([self.inner(record, "a"), record.spec("b")], strategy="one_for_one") as top:
            inner = process.whereis("inner")

            def parent(pid):
                with open(f"/proc/{pid.os_pid}/stat", encoding="utf-8") as file:
                    return int(file.read().rpartition(")")[2].split()[1])

            assert parent(process.whereis("a")) == inner.os_pid
            assert parent(inner) == parent(process.whereis("b")) == top.os_pid
            assert Supervisor.count_children(top) == (
                type(Supervisor.count_children(top))(specs=2, active=2, supervisors=1, workers=1)
            )

    def test_stops_from_the_leaves(self, record):
        """In reverse order, depth first."""
        with Supervisor.start_link(
            [record.spec("x"), self.inner(record, "a", "b"), record.spec("y")], strategy="one_for_one"
        ):
            record.take()

        assert record.take() == ["stop y shutdown", "stop b shutdown", "stop a shutdown", "stop x shutdown"]

    def test_escalates(self, record):
        """One that gives up is brought back by its parent, with all its children."""
        with Supervisor.start_link([self.inner(record, "a", "b")], strategy="one_for_one"):
            inner, sibling = pids("inner", "b")
            restart("a")
            sigkill("a")

            assert GenServer.call("a", "ready?")
            assert GenServer.call("b", "ready?")
            assert inner != process.whereis("inner")
            assert sibling != process.whereis("b")

    def test_escalates_to_the_top(self, record):
        """Until nobody is left to heal it."""
        top = Supervisor.start([self.inner(record, "a", max_restarts=0)], strategy="one_for_one", max_restarts=0)
        sigkill("a")

        assert top.wait(5.0) == "shutdown"
        assert pids("inner", "a") == [None, None]

    def test_a_transient_one_that_gives_up(self, record):
        """Its end, `shutdown`, was meant: it stays down."""
        inner = Supervisor.child_spec(
            [record.spec("a")], strategy="one_for_one", max_restarts=0, name="inner", restart="transient"
        )
        with Supervisor.start_link([inner], strategy="one_for_one") as top:
            pid = process.whereis("inner")
            sigkill("a")
            pid.wait(5.0)

            assert shown(top) == {"inner": False}

    def test_a_killed_one(self, record):
        """Its children end, and come back with it."""
        with Supervisor.start_link([self.inner(record, "a")], strategy="one_for_one"):
            child = process.whereis("a")
            sigkill("inner")

            assert GenServer.call("a", "ready?")
            assert child.wait(5.0) == "killed"

    def test_rolls_back(self, record):
        """A leaf that cannot start fails the whole tree; all that had started is stopped."""
        record.mood("b", "custom")
        with pytest.raises(InitFailed) as error:
            Supervisor.start_link([record.spec("x"), self.inner(record, "a", "b")], strategy="one_for_one")
        _shutdown, (_failed, child_id, reason) = error.value.reason

        assert child_id == "inner"
        assert reason == ("shutdown", ("failed_to_start_child", "b", "custom"))
        assert record.take() == ["start x", "start a", "stop a shutdown", "stop x shutdown"]

    def test_three_levels(self, record):
        """Deep down too."""
        middle = Supervisor.child_spec([self.inner(record, "a")], strategy="one_for_one", name="middle")
        with Supervisor.start_link([middle], strategy="one_for_one"):
            restart("a")

            assert GenServer.call("a", "ready?")
        assert pids("middle", "inner", "a") == [None] * 3


class TestOrphans:
    def test_of_a_supervisor_that_died_with_a_sibling(self, record):
        """They are judged as its children, also when the death of the sibling is looked at first."""
        inner = Supervisor.child_spec([record.spec("x", Plain)], strategy="one_for_one", name="inner")
        with start(record, record.spec("a", Plain), inner) as top:
            sibling, supervisor, orphan = pids("a", "inner", "x")
            process.monitor(orphan)
            freeze(top)
            kill_and_see_dead(sibling)
            kill_and_see_dead(supervisor)
            thaw(top)
            wait_restarted("x", after=orphan)
            reason = assert_receive(Down, 5.0).reason

            assert (reason, orphan in process.list()) == ("killed", False)


def kill_and_see_dead(pid):
    """Kill the OS process of `pid`, and wait until it is a zombie."""
    pidfd = os.pidfd_open(pid.os_pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 5.0)[0]
    finally:
        os.close(pidfd)


class TestAutoShutdown:
    def significant(self, record, name, restart="transient"):
        return record.spec(name, restart=restart, significant=True)

    def test_any(self, record):
        """A significant child's own end stops the supervisor, and the others."""
        top = start(
            record, "x", self.significant(record, "a"), self.significant(record, "b"), auto_shutdown="any_significant"
        )
        record.take()
        end("a", "normal")

        assert top.wait(5.0) == "shutdown"
        assert record.take() == ["stop a normal", "stop b shutdown", "stop x shutdown"]

    def test_all(self, record):
        """The last one's does."""
        top = start(
            record, "x", self.significant(record, "a"), self.significant(record, "b"), auto_shutdown="all_significant"
        )
        end("a", "normal")
        between = shown(top)
        end("b", "normal")

        assert (between, top.wait(5.0)) == ({"x": True, "a": False, "b": True}, "shutdown")

    def test_a_temporary_one(self, record):
        """However it ends."""
        top = start(record, "x", self.significant(record, "a", "temporary"), auto_shutdown="any_significant")
        sigkill("a")

        assert top.wait(5.0) == "shutdown"

    def test_a_crash_of_a_transient_one(self, record):
        """Is restarted instead."""
        with start(record, self.significant(record, "a"), auto_shutdown="any_significant"):
            restart("a")

            assert GenServer.call("a", "ready?")

    def test_terminate_child(self, record):
        """Is no end of its own."""
        with start(record, "x", self.significant(record, "a"), auto_shutdown="any_significant") as top:
            Supervisor.terminate_child(top, "a")

            assert shown(top) == {"x": True, "a": False}

    def test_a_bystander(self, record):
        """Stopped for a sibling's restart: neither."""
        with start(
            record, "x", self.significant(record, "a"), strategy="one_for_all", auto_shutdown="any_significant"
        ) as top:
            restart("x")
            GenServer.call("a", "ready?")

            assert shown(top) == {"x": True, "a": True}

    def test_never(self, record):
        """By default nothing of the kind."""
        with start(record, "x", record.spec("a", restart="transient")) as top:
            end("a", "normal")

            assert shown(top) == {"x": True, "a": False}


def test_children_inherit_the_path(record):
    """What a child imports is what the program would."""
    with start(record, "a"):
        path = GenServer.call("a", lambda state: children.Reply(os.sys.path, state))

    assert os.getcwd() in path


class TestSystem:
    def test_get_state_names_its_children(self, record):
        """And how it treats them."""
        with start(record, "a", strategy="rest_for_one") as top:
            found = system.get_state(top)

            assert [("a", process.whereis("a"), "worker")] == found["children"]
            assert ("rest_for_one", "running") == (found["strategy"], found["status"])

    def test_suspended_it_restarts_nothing(self, record):
        """Until resumed; a call by name waits for that."""
        with start(record, "a") as top:
            system.suspend(top)
            first = sigkill("a")
            assert "suspended" == system.get_status(top)["status"]
            with pytest.raises(CallTimeout, match=r"restart|suspended"):
                GenServer.call("a", "ready?", timeout=0.02)
            with pytest.raises(CallTimeout, match="it is suspended"):
                gen.call(top, core.WhichChildren(), 0.02)
            system.resume(top)

            assert wait_restarted("a", after=first) != first
            assert system.get_status(top)["status"] == "running"

    def test_suspended_it_obeys_its_parent(self, record):
        """And stops its children."""
        with start(record, "a") as top:
            record.take()
            system.suspend(top)

        assert record.take() == ["stop a shutdown"]

    @pytest.mark.parametrize("ask", [system.replace_state, system.install])
    def test_it_takes_no_function(self, record, ask):
        """It runs no code but the library's."""
        with start(record, "a") as top, pytest.raises(CallbackFailed, match="is a supervisor"):
            ask(top, lambda *_: None)

    def test_it_has_no_code_to_change(self, record):
        """Said as every server says it."""
        with start(record) as top:
            with pytest.raises(NotSuspended):
                system.change_code(top)
            system.suspend(top)
            with pytest.raises(UpgradeFailed, match="no code of yours"):
                system.change_code(top)

    def test_its_events(self, record):
        """Requests, answers, deaths, and who its children are then."""
        with start(record, "a") as top:
            system.log(top, (True, 50))
            Supervisor.count_children(top)
            old = sigkill("a")
            new = wait_restarted("a", after=old)
            Supervisor.count_children(top)
            words = [(event[0], event[-1]) for event in system.log(top, "get")]

        assert ("in", Exit(old, Signalled("SIGKILL"))) in words
        assert ("noreply", [("a", new)]) in words
        assert ("out", [("a", old)]) == words[1]

    def test_statistics(self, record):
        """Count its requests."""
        with start(record, "a") as top:
            system.statistics(top, True)
            Supervisor.count_children(top)
            found = system.statistics(top)

            assert (1, 1) == (found.messages_in, found.messages_out)
