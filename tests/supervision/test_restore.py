"""A state that outlives its server: when it is restored, when it is forgotten, what it costs to be wrong."""

import asyncio
import os
import signal
import threading

import pytest

from otp_runtime import (
    Agent,
    BadChildSpec,
    CodecError,
    Crash,
    Down,
    DynamicSupervisor,
    Every,
    ExitWith,
    GenEvent,
    GenServer,
    GenStateMachine,
    Ignore,
    NoReply,
    PartitionSupervisor,
    Reply,
    ServerDown,
    StartFailed,
    Stop,
    Supervisor,
    Via,
    process,
    system,
    upgrade,
    why,
)
from otp_runtime.host import poller, snapshot_file
from otp_runtime.process.current import current
from otp_runtime.testing import assert_receive, sigkill, wait_restarted
from tests.supervision.keepers import AsyncKeeper, Door, Frozen, Keeper, New, Old, Opener, Poisoned, Secret, add, put

MANY = 1_000_000


def supervise(*children, strategy="one_for_one", **flags):
    return Supervisor.start_link(list(children), strategy=strategy, **{"max_restarts": MANY, **flags})


def kill(name="keeper"):
    """Kill -9; give the successor, ready."""
    return wait_restarted(name, after=sigkill(name))


def get(name="keeper"):
    return GenServer.call(name, "get")


def files():
    """The kept states that lie in the node."""
    return sorted((current().directory.path / "state").rglob("*.state*"))


@pytest.fixture
def keeper(me):
    """A kept server under a supervisor, with the state 0."""
    with supervise(Keeper.child_spec(0, name="keeper")) as sup:
        yield sup
    assert [] == files()


class TestRestored:
    @pytest.mark.parametrize("state", [7, None, {"a": [1, (2, {3})]}, Frozen(5), "x" * 300_000], ids=type)
    def test_after_sigkill(self, keeper, state):
        """What it was, with its type."""
        GenServer.call("keeper", put(state))
        kill()

        assert state == get()

    def test_after_an_exception(self, keeper):
        """The state before the callback that raised, also where that changed it in place."""
        GenServer.call("keeper", put([1]))

        def spoil(server, state):
            state.append("spoilt")
            raise ValueError("boom")

        before = process.whereis("keeper")
        GenServer.cast("keeper", spoil)
        wait_restarted("keeper", after=before)
        assert [1] == get()

    def test_a_change_in_place_is_kept(self, keeper):
        """The same object is not the same state."""
        GenServer.call("keeper", put([]))
        for number in range(3):
            GenServer.call("keeper", add(number))
        kill()

        assert [0, 1, 2] == get()

    def test_casts_before_a_seen_reply(self, keeper):
        """A reply tells that all before it is kept."""
        for number in range(50):
            GenServer.cast("keeper", lambda server, state, number=number: NoReply(state + number))
        seen = get()
        kill()

        assert (sum(range(50)), seen) == (get(), get())

    def test_again_and_again(self, keeper):
        """A successor keeps what it was given before it was asked anything."""
        GenServer.call("keeper", put("kept"))
        for _ in range(5):
            get()
            kill()

        assert get() == "kept"

    def test_an_agent(self, me):
        """Agents take the same options."""
        with supervise(Agent.child_spec(lambda: [0], name="agent", restore="last_good")):
            Agent.update("agent", lambda state: [*state, 1])
            kill("agent")

            assert Agent.get("agent", lambda state: state) == [0, 1]

    def test_an_async_server(self, me):
        """Its `restored` may await, too."""
        with supervise(AsyncKeeper.child_spec([], name="keeper")):
            GenServer.call("keeper", add(1))
            kill()

            assert get() == [1, "restored"]

    def test_nothing_is_kept_unless_asked_for(self, me):
        """No file either."""
        with supervise(Keeper.child_spec(0, name="keeper", restore="fresh")):
            GenServer.call("keeper", put(5))

            assert [] == files()
            kill()
            assert get() == 0

    def test_by_option_of_the_class(self, me):
        """In `options`, as every option; what is given goes before it."""

        class Optioned(Keeper):
            restore = None
            options = {"restore": "last_good"}  # noqa: RUF012 - never changed

        with supervise(Optioned.child_spec(0, name="one"), Optioned.child_spec(0, name="two", restore="fresh")):
            for name in ("one", "two"):
                GenServer.call(name, put(5))
                kill(name)

            assert (get("one"), get("two")) == (5, 0)


class TestInitAndRestored:
    def test_the_order(self, me):
        """`init` opens what belongs on self; the kept state replaces its; then its continue; then messages."""
        with supervise(Opener.child_spec(me, name="keeper")):
            assert_receive(("continue", "fresh"))
            get()  # only a reply says that the state is kept
            kill()

            assert (me, "fresh") == assert_receive(("restored", ..., "a file"))[1]
            assert_receive(("continue", "restored"))

    @pytest.mark.parametrize("kind", ["ignore", "stop"])
    def test_ignore_and_stop_win(self, me, kind, tmp_path):
        """A server that does not want to start does not, whatever is kept."""
        mood = tmp_path / "mood"

        class Moody(Keeper):
            def init(self, arg):
                return arg if not mood.exists() else Ignore() if kind == "ignore" else Stop("no")

        with supervise(Moody.child_spec(1, name="keeper")) as sup:
            GenServer.call("keeper", put(2))
            Supervisor.terminate_child(sup, "keeper")
            mood.touch()
            if kind == "ignore":
                assert Supervisor.restart_child(sup, "keeper") is None
            else:
                with pytest.raises(StartFailed, match="no"):
                    Supervisor.restart_child(sup, "keeper")
            mood.unlink()
            Supervisor.restart_child(sup, "keeper")

            assert get() == 2


class TestWhen:
    """Which restarts restore, and what forgets."""

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_a_siblings_death(self, me, strategy):
        """A group restart is a restart."""
        children = Agent.child_spec(dict, name="first"), Keeper.child_spec(0, name="keeper")
        with supervise(*children, strategy=strategy):
            GenServer.call("keeper", put(3))
            before = process.whereis("keeper")
            sigkill("first")
            wait_restarted("keeper", after=before)

            assert get() == 3

    def test_restart_child(self, keeper):
        """Stopped by hand, its state waits with its spec."""
        GenServer.call("keeper", put(3))
        Supervisor.terminate_child(keeper, "keeper")
        Supervisor.restart_child(keeper, "keeper")

        assert get() == 3

    def test_a_supervisor_that_is_killed(self, me):
        """What hangs below it finds its states again."""
        inner = Supervisor.child_spec([Keeper.child_spec(0, name="keeper")], strategy="one_for_one", name="inner")
        with supervise(inner):
            GenServer.call("keeper", put(3))
            before = process.whereis("keeper")
            sigkill("inner")
            wait_restarted("keeper", after=before)

            assert get() == 3
        assert [] == files()

    def test_a_supervisor_that_gives_up(self, me):
        """Trying from further back is trying without what was kept."""
        inner = Supervisor.child_spec(
            [Keeper.child_spec(0, name="keeper")], strategy="one_for_one", name="inner", max_restarts=0
        )
        with supervise(inner):
            GenServer.call("keeper", put(3))
            before = process.whereis("keeper")
            sigkill("keeper")
            wait_restarted("keeper", after=before)

            assert get() == 0

    def test_a_normal_end_forgets(self, keeper):
        """A permanent child begins anew."""
        GenServer.call("keeper", put(3))
        before = process.whereis("keeper")
        GenServer.stop("keeper")
        wait_restarted("keeper", after=before)

        assert get() == 0

    def test_delete_child_forgets(self, keeper):
        """A new child of the same id begins anew."""
        GenServer.call("keeper", put(3))
        Supervisor.terminate_child(keeper, "keeper")
        assert len(files()) == 1
        Supervisor.delete_child(keeper, "keeper")
        assert [] == files()

        Supervisor.start_child(keeper, Keeper.child_spec(0, name="keeper"))
        assert get() == 0

    def test_a_temporary_child_is_forgotten_with_its_spec(self, keeper):
        """However it ended."""
        Supervisor.start_child(keeper, Keeper.child_spec(0, name="brief", restart="temporary"))
        GenServer.call("brief", put(1))
        both = len(files())
        sigkill("brief")

        assert (2, 1) == (both, len(files()))

    def test_without_a_supervisor(self, me):
        """Nobody starts it again, so nothing is left of it."""
        server = Keeper.start(0)
        GenServer.call(server, put(1))
        assert len(files()) == 1
        process.exit(server, "kill")
        server.wait(5.0)

        assert [] == files()

    def test_children_are_apart(self, me):
        """Whatever their ids are."""
        ids = ["a", "b", ("a", 1), "('a', 1)", 1, "1", "x/../y"]
        with supervise(*(Keeper.child_spec(0, id=one) for one in ids)) as sup:

            def pids():
                return {child.id: child.pid for child in Supervisor.which_children(sup)}

            for number, one in enumerate(ids):
                GenServer.call(pids()[one], put(number))
            process.monitor(pids()["a"])
            for pid in pids().values():
                os.kill(pid.os_pid, signal.SIGKILL)
                pid.wait(5.0)

            assert list(range(len(ids))) == [GenServer.call(pids()[one], "get") for one in ids]


class TestDynamic:
    """Children without an id of their own."""

    def test_each_keeps_its_own(self, me):
        """From restart to restart, also of several of one spec."""
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            for number, name in enumerate(("a", "b")):
                DynamicSupervisor.start_child(sup, Keeper.child_spec(0, id="same", name=name))
                GenServer.call(name, put(number))
            for _ in range(2):
                kill("b")
                kill("a")

            assert (get("a"), get("b"), len(files())) == (0, 1, 2)
        assert [] == files()

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    def test_forgotten_with_the_child(self, me, restart):
        """Told to stop, or dead for good."""
        with DynamicSupervisor.start_link(max_restarts=MANY) as sup:
            pid = DynamicSupervisor.start_child(sup, Keeper.child_spec(0, restart=restart))
            GenServer.call(pid, put(1))
            assert len(files()) == 1
            DynamicSupervisor.terminate_child(sup, pid)
            DynamicSupervisor.count_children(sup)

            assert [] == files()

    def test_partitions(self, me):
        """Each is a child with an id."""
        child = Keeper.child_spec(0)
        with PartitionSupervisor.start_link(child, partitions=2, name="parts", max_restarts=MANY):
            vias = [Via(PartitionSupervisor, ("parts", number)) for number in (0, 1)]
            for number, via in enumerate(vias):
                GenServer.call(via, put(number + 5))
            before = GenServer.whereis(vias[1])
            os.kill(before.os_pid, signal.SIGKILL)
            before.wait(5.0)

            assert [5, 6] == [GenServer.call(via, "get") for via in vias]


class TestPrevious:
    def test_the_state_before_the_last(self, me):
        """A callback that changes nothing makes no state."""
        with supervise(Keeper.child_spec(0, name="keeper", restore="previous")):
            for number in (1, 2, 3):
                GenServer.call("keeper", put(number))
            get()
            kill()

            assert get() == 2
            GenServer.call("keeper", put(9))
            kill()
            assert get() == 2

    def test_of_one_state(self, me):
        """There is none before it: fresh."""
        with supervise(Keeper.child_spec(0, name="keeper", restore="previous")):
            GenServer.call("keeper", put(1))
            kill()

            assert get() == 0


class TestStateCrashes:
    def test_one_back_then_fresh(self, me, caplog):
        """Three deaths in a row with the state, no callback returned: one back, and each step is reported."""
        with supervise(Poisoned.child_spec("fresh", name="keeper")):
            GenServer.call("keeper", put("good"))
            GenServer.call("keeper", put("poison"))
            kill()

            assert get() == "good"
            GenServer.call("keeper", put("better"))
            kill()
            assert get() == "better"
        assert _said(caplog, "it died 3 times in a row", "goes back to the state before")

    def test_fresh(self, me, caplog):
        """As many more: all that is kept is given up."""
        with supervise(Poisoned.child_spec("fresh", name="keeper", max_state_crashes=2)):
            GenServer.call("keeper", put("poison"))
            kill()

            assert get() == "fresh"
            GenServer.call("keeper", put("new"))
            kill()
            assert get() == "new"
        assert _said(caplog, "it died 2 times in a row", "starts fresh")

    def test_deaths_with_a_callback_between_are_no_row(self, me):
        """The state is good, then."""
        with supervise(Keeper.child_spec(0, name="keeper", max_state_crashes=1)):
            GenServer.call("keeper", put(5))
            for _ in range(4):
                kill()
                assert get() == 5

    def test_a_death_that_was_told_counts_not(self, me):
        """A sibling's restarts say nothing about the state."""
        children = Agent.child_spec(dict, name="first"), Keeper.child_spec(0, name="keeper", max_state_crashes=1)
        with supervise(*children, strategy="one_for_all"):
            GenServer.call("keeper", put(5))
            for _ in range(3):
                before = process.whereis("keeper")
                sigkill("first")
                wait_restarted("keeper", after=before)

            assert get() == 5

    def test_an_init_that_fails_counts_not(self, me, tmp_path):
        """It has not seen the state yet."""
        mood = tmp_path / "mood"

        class Needy(Keeper):
            def init(self, arg):
                if mood.exists() and len(mood.read_text()) < 4:
                    mood.write_text(mood.read_text() + "x")
                    raise ConnectionError("the database is down")
                return arg

        with supervise(Needy.child_spec(0, name="keeper", max_state_crashes=1)):
            GenServer.call("keeper", put(5))
            mood.touch()
            kill()

            assert get() == 5


class TestMissing:
    def test_the_black_box(self, keeper):
        """The state is not in it: the successor has it, and the death is a death."""
        GenServer.call("keeper", put(5))
        before = process.whereis("keeper")
        os_pid = before.os_pid
        ref = process.monitor(before)
        os.unlink(current().directory.box(before.id))
        os.kill(os_pid, signal.SIGKILL)
        assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)
        wait_restarted("keeper", after=before)

        assert get() == 5

    def test_the_kept_state(self, keeper, caplog):
        """Nothing can bring it back; a warning says whose it was and where it lay."""
        GenServer.call("keeper", put(5))
        (found,) = files()
        os.unlink(found)
        kill()

        assert get() == 0
        assert _said(caplog, "keeper: what it kept is gone: somebody removed", str(found))

    def test_of_another_format(self, me, caplog):
        """No start succeeds with it, each says why; the state stays, and is there when the format is."""
        sup = supervise(Keeper.child_spec(0, name="keeper"), max_restarts=2)
        GenServer.call("keeper", put(5))
        (found,) = files()
        with found.open("r+b") as raw:
            raw.seek(4)
            raw.write(b"\x02")
        ref = process.monitor(sup)
        sigkill("keeper")
        assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)

        assert _said(caplog, "keeper", "is written in format 2, and this version of otp_runtime reads 1")


def _said(caplog, *words):
    """Whether one warning in the log has all these words; it may still be on its way."""
    deadline = poller.now() + 5.0
    while poller.now() < deadline:
        if any(all(word in record.getMessage() for word in words) for record in caplog.records):
            return True
        current().pump(0.005)
    return False


class TestReplies:
    def test_a_held_reply_leaves_when_its_state_is_kept(self, keeper):
        """`GenServer.reply` in the middle of a callback does not overtake the state."""

        def answer_and_die(server, client, state):
            GenServer.reply(client, "told")
            os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(ServerDown):
            GenServer.call("keeper", answer_and_die)

    def test_it_leaves_in_order(self, keeper):
        """Then it is sent, before the callback's own."""

        def answer(server, client, state):
            GenServer.reply(client, "told")
            return NoReply(state + 1)

        assert GenServer.call("keeper", answer) == "told"
        kill()
        assert get() == 1

    def test_a_later_callback_answers(self, keeper):
        """A client may be remembered over a restart: a reply between callbacks is sent at once."""
        rid = GenServer.send_request("keeper", lambda server, client, state: NoReply([client]))
        GenServer.cast("keeper", lambda server, state: (GenServer.reply(state[0], "late"), NoReply(0))[1])

        assert GenServer.receive_response(rid) == "late"

    def test_a_task_of_an_async_server(self, me):
        """While no callback runs, nothing has to be waited for."""

        def answer_by_task(server, client, state):
            async def later():
                await asyncio.sleep(0)
                GenServer.reply(client, "by task")

            server.task = asyncio.get_running_loop().create_task(later())
            return NoReply(state)

        with supervise(AsyncKeeper.child_spec(0, name="keeper")):
            assert GenServer.call("keeper", answer_by_task) == "by task"

    def test_a_reply_that_cannot_be_sent(self, keeper):
        """Is raised where `GenServer.reply` was called, as ever."""

        def answer(server, client, state):
            try:
                GenServer.reply(client, threading.Lock())
            except CodecError:
                return Reply("refused", state)

        assert GenServer.call("keeper", answer) == "refused"

    def test_replace_state_is_kept(self, keeper):
        """Its answer is a reply, too."""
        system.replace_state("keeper", lambda state: "replaced")
        kill()

        assert get() == "replaced"

    def test_stop_with_a_reply(self, keeper):
        """An abnormal `Stop` gave a state: it is kept before the reply."""
        before = process.whereis("keeper")
        with_reply = GenServer.call("keeper", lambda server, client, state: Stop("oops", 5, reply="bye"))

        wait_restarted("keeper", after=before)
        assert ("bye", 5) == (with_reply, get())


class TestCommit:
    def test_in_mid_callback(self, keeper):
        """What was committed is there, though the callback never returned."""

        def commit_and_die(server, client, state):
            server.commit("half way")
            raise ExitWith("died")

        before = process.whereis("keeper")
        with pytest.raises(ServerDown):
            GenServer.call("keeper", commit_and_die)
        wait_restarted("keeper", after=before)
        assert get() == "half way"

    def test_it_lets_go_of_replies(self, keeper):
        """They are told by a state that is kept."""

        def answer_commit_die(server, client, state):
            GenServer.reply(client, "told")
            server.commit(1)
            os.kill(os.getpid(), signal.SIGKILL)

        before = process.whereis("keeper")
        assert GenServer.call("keeper", answer_commit_die) == "told"
        wait_restarted("keeper", after=before)
        assert get() == 1

    def test_manual(self, me):
        """Only what was committed is kept."""
        with supervise(Keeper.child_spec(0, name="keeper", commit="manual")):
            GenServer.call("keeper", lambda server, client, state: (server.commit(1), Reply("ok", 2))[1])
            GenServer.call("keeper", put(3))
            kill()

            assert get() == 1

    def test_every_third(self, me):
        """Up to two are lost."""
        with supervise(Keeper.child_spec(0, name="keeper", commit=Every(3))):
            for number in range(1, 6):
                GenServer.call("keeper", put(number))
            kill()

            assert get() == 3

    def test_every_so_many_seconds(self, me):
        """An idle server keeps its last state when the time has come."""
        with supervise(Keeper.child_spec(0, name="keeper", commit=Every(seconds=0.05))):
            for number in range(1, 4):
                GenServer.call("keeper", put(number))
            while not (files() and newest_kept() == 3):
                current().pump(0.005)
            kill()

            assert get() == 3

    def test_an_orderly_end_keeps_the_rest(self, me):
        """A sibling's restart loses nothing."""
        children = Agent.child_spec(dict, name="first"), Keeper.child_spec(0, name="keeper", commit=Every(100))
        with supervise(*children, strategy="one_for_all"):
            GenServer.call("keeper", put(5))
            before = process.whereis("keeper")
            sigkill("first")
            wait_restarted("keeper", after=before)

            assert get() == 5

    @pytest.mark.parametrize("how", ["Stop", "stop"])
    @pytest.mark.parametrize("server", [Keeper, AsyncKeeper])
    def test_so_does_an_end_of_its_own(self, me, tmp_path, server, how):
        """What a normal end leaves in a database is the last state, whichever way the server was ended."""
        path = tmp_path / "kept.db"
        pid = server.start(0, name="keeper", durable=path, commit=Every(100))
        ref = process.monitor(pid)
        GenServer.call(pid, put(5))
        if how == "stop":
            GenServer.stop(pid)
        else:
            GenServer.cast(pid, lambda server, state: Stop("normal", state))
        assert_receive(Down(ref, ..., "normal"))
        with server.start_link(0, name="keeper", durable=path, commit=Every(100)) as successor:
            assert GenServer.call(successor, "get") == 5

    def test_so_does_a_stop_for_whatever_reason(self, me):
        """The callback gave its last state with it."""
        with supervise(Keeper.child_spec(0, name="keeper", commit=Every(100))):
            before = process.whereis("keeper")
            GenServer.cast("keeper", lambda server, state: Stop("boom", 7))
            wait_restarted("keeper", after=before)

            assert get() == 7

    def test_without_restore_it_does_nothing(self, me):
        """A class may be started either way."""
        with Keeper.start_link(0, restore="fresh") as server:
            GenServer.call(server, lambda server, client, state: (server.commit(1), Reply("ok", 2))[1])

            assert [] == files()


def newest_kept():
    """The newest kept state of the only file."""
    (path,) = files()
    remains = snapshot_file.look(str(path))
    return None if remains is None or remains.body is None else current().codec.decode(remains.body)


class TestBadState:
    @pytest.mark.parametrize("how", ["call", "cast", "commit", "stop"])
    def test_the_path_is_named_and_the_last_that_could_be_is_kept(self, keeper, how):
        """It ends before the reply leaves."""
        GenServer.call("keeper", put({"good": 1}))
        before = process.whereis("keeper")
        bad = _Bad(how)
        if how == "cast":
            GenServer.cast("keeper", bad)
        else:
            with pytest.raises(ServerDown) as caught:
                GenServer.call("keeper", bad)
            assert ("bad_state", 'state["here"][0]') == caught.value.reason
        wait_restarted("keeper", after=before)

        assert {"good": 1} == get()
        assert ("bad_state", 'state["here"][0]') == why("keeper").reason


class _Bad:
    """Makes a state that cannot be encoded."""

    def __init__(self, how):
        self.how = how

    def __call__(self, server, *args):
        state = {"here": [threading.Lock()]}
        if self.how == "commit":
            server.commit(state)
        return {"call": Reply("ok", state), "cast": NoReply(state), "stop": Stop("oops", state, reply="ok")}[self.how]


class TestStateMachine:
    def test_state_and_data(self, me):
        """It enters the kept state, with the kept data."""
        with supervise(Door.child_spec(me, name="keeper")):
            assert GenStateMachine.call("keeper", "open") == 1
            assert_receive(("enter", "open"))
            kill()

            assert_receive(("enter", "open"))
            assert GenStateMachine.call("keeper", "look") == ("open", 1)

    def test_a_reply_waits(self, me):
        """It is told by a state that is kept, or not told."""
        with supervise(Door.child_spec(me, name="keeper")):
            with pytest.raises(ServerDown) as caught:
                GenStateMachine.call("keeper", "reply and die")

            assert ("bad_state", 'state["data"]') == caught.value.reason
            wait_restarted("keeper")

    @pytest.mark.parametrize("how", ["return nonsense", "do nonsense"])
    def test_what_a_bad_return_left_is_not_kept(self, me, how):
        """It is a crash as an exception is, also where the data was changed in place before."""
        with supervise(Door.child_spec(me, name="keeper")):
            GenStateMachine.call("keeper", "open")
            before = process.whereis("keeper")
            with pytest.raises(ServerDown):
                GenStateMachine.call("keeper", how)
            wait_restarted("keeper", after=before)

            assert ("open", 1) == GenStateMachine.call("keeper", "look")


def test_an_event_manager_keeps_nothing(me):
    """Its handlers are objects, added by others; it says so when it is asked to."""
    with pytest.raises(BadChildSpec, match="restore='last_good'; allowed: nothing: of a GenEvent no state can be kept"):
        GenEvent.start(restore="last_good")


class TestUpgrade:
    @pytest.mark.parametrize("cls", [Keeper, AsyncKeeper])
    def test_goes_on_with_what_is_kept(self, me, cls):
        """Another OS process is the same server, and keeps its state in the same place."""
        with supervise(cls.child_spec(0, name="keeper")):
            GenServer.call("keeper", put("before"))
            upgrade("keeper")
            assert (get(), len(files())) == ("before", 1)
            kill()
            assert get() == "before"
            upgrade("keeper")
            GenServer.call("keeper", put("after"))
            kill()

            assert get() == "after"


class TestVersions:
    @pytest.mark.parametrize("version", ["same", "newer"])
    def test_code_change(self, me, tmp_path, version):
        """A state that an older version kept is converted; one of the same version is taken."""
        switch = tmp_path / "switch"

        class Server(Keeper):
            @classmethod
            def start_link(cls, arg, **options):
                return (New if switch.exists() and version == "newer" else Old).start_link(arg, **options)

        with supervise(Server.child_spec(0, name="keeper")):
            GenServer.call("keeper", put(41))
            switch.touch()
            kill()
            expected = {"value": 41, "from": 1, "extra": None} if version == "newer" else 41

            assert expected == get()
            kill()
            assert expected == get()


class TestWhy:
    def test_the_last_good_state(self, keeper):
        """The record of a death shows it."""
        GenServer.call("keeper", put({"a": 1}))
        kill()

        assert why("keeper").last_good_state == "{'a': 1}"

    def test_what_a_class_redacts(self, me):
        """Is in no record."""
        with supervise(Secret.child_spec(0, name="keeper")):
            GenServer.call("keeper", put("password"))
            kill()

            assert why("keeper").last_good_state is None
            assert get() == "password"


class TestWrongOptions:
    @pytest.mark.parametrize("make", [Keeper.start, Keeper.start_link, Keeper.child_spec])
    def test_are_named_before_anything_starts(self, make):
        """In the caller."""
        with pytest.raises(BadChildSpec, match="restore='latest'; allowed: 'fresh' or 'last_good' or 'previous'"):
            make(0, restore="latest")

    def test_of_a_class(self):
        """A class attribute is checked like an option."""

        class Wrong(Keeper):
            durable = False

        with pytest.raises(BadChildSpec, match="durable=False; allowed: None, True or the path"):
            Wrong.child_spec(0)

    def test_a_method_of_that_name(self):
        """Is refused when the class is made."""
        with pytest.raises(TypeError, match="restore is a setting of the class"):
            type("Wrong", (Keeper,), {"restore": lambda self: None})


class TestNoRoom:
    def test_ends_the_server_before_the_reply(self, keeper):
        """The reason names the file; the successor has the last state that found room."""
        GenServer.call("keeper", put("kept"))
        before = process.whereis("keeper")

        def fill(server, client, state):
            import errno

            def full(*_args):
                raise OSError(errno.ENOSPC, "No space left on device")

            os.posix_fallocate = full
            return Reply("ok", "x" * 100_000)

        with pytest.raises(ServerDown) as caught:
            GenServer.call("keeper", fill)
        assert isinstance(caught.value.reason, Crash)
        assert "no room for" in caught.value.reason.message
        wait_restarted("keeper", after=before)
        assert get() == "kept"


def test_a_first_start_restores_nothing(me):
    """There is nothing, so `restored` is not called."""
    with Poisoned.start_link("poison") as server:
        assert GenServer.call(server, "get") == "poison"
