"""Hot upgrade: a server goes on in another OS process, with new code, and nobody notices but by the answers."""

import contextlib
import functools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from otp_runtime import (
    Agent,
    CodecError,
    Crash,
    Down,
    DynamicSupervisor,
    Exit,
    GenEvent,
    GenServer,
    NoProcess,
    Registry,
    Reply,
    ServerDown,
    Signalled,
    Supervisor,
    Task,
    UpgradeFailed,
    Via,
    process,
    system,
    timer,
    upgrade,
)
from otp_runtime.host import kernel
from otp_runtime.process.current import current
from otp_runtime.supervision.upgrade import recycle
from otp_runtime.testing import assert_receive, gate, sigkill, wait_restarted
from tests.supervision import upgrading as inside
from tests.supervision.upgrading import Clients, Code, await_gone, os_processes, title_of

WAIT = 10.0


@pytest.fixture
def code(tmp_path, monkeypatch, me):
    """A module whose code the test changes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    code = Code(tmp_path, f"shop_{tmp_path.name.replace('-', '_')}")
    code.shop(1)
    yield code
    code.forget()


@pytest.fixture
def shop(code):
    """A supervisor of one shop, version 1, called "shop"."""
    with start(code, "shop") as supervisor:
        yield supervisor


def start(code, *names, **flags):
    children = [code.load().Shop.child_spec("arg", name=name) for name in names]
    return Supervisor.start_link(children, strategy="one_for_one", max_restarts=100, **flags)


def state(name="shop"):
    return GenServer.call(name, "state", WAIT)


def version(name="shop"):
    return GenServer.call(name, "version", WAIT)


def do(function, *args, name="shop"):
    """Have a server call `function(server, *args)`."""
    return GenServer.call(name, ("do", function, args), WAIT)


def spoil(name):
    """Put something into a server's state that cannot be sent."""
    with pytest.raises(CodecError):  # nor can the state be told
        system.replace_state(name, inside.with_a_file, WAIT)


def told(count=1):
    """Give what the shop was told, when it was told `count` things."""
    deadline = time.monotonic() + WAIT
    while len(found := state().get("info", [])) < count:
        assert time.monotonic() < deadline, found
    return found


def fails(*args, **options):
    """Give the reason of an upgrade that fails."""
    with pytest.raises(UpgradeFailed) as error:
        upgrade(*args, **{"timeout": WAIT, **options})
    return error.value.reason


class TestRecycle:
    def test_the_process_stays(self, shop):
        """Another OS process, the same pid, name and state; the code that it had."""
        pid, before = process.whereis("shop"), process.whereis("shop").os_pid
        GenServer.cast("shop", "apple")
        recycle("shop", timeout=WAIT)

        assert {"sold": ["apple"], "arg": "arg"} == state()
        assert (pid, True) == (process.whereis("shop"), pid.os_pid != before)

    def test_no_call_fails(self, shop):
        """Four clients call and cast without pause meanwhile: nothing fails, is lost, doubled or out of order."""
        with Clients("shop") as clients:
            for _ in range(5):
                recycle("shop", timeout=WAIT)

        assert ([], {}) == (clients.failed, clients.lost(state()["sold"]))

    def test_no_room_for_a_successor(self, shop, caplog):
        """The reason says so; it is nothing to be reported to anybody, and nothing is left of it."""
        directory = current().directory
        number = directory.next_id() + 1
        Path(directory.box(number)).touch()
        pid, before = process.whereis("shop"), process.whereis("shop").os_pid
        with pytest.raises(UpgradeFailed) as failed:
            recycle("shop", timeout=WAIT)

        assert ("FileExistsError", True) == (
            failed.value.reason.type,
            directory.box(number) in failed.value.reason.message,
        )
        assert (pid, before) == (process.whereis("shop"), pid.os_pid)
        assert not [path for path in directory.path.glob("p/*") if path.name.split(".")[0] == str(number)]
        assert "please report it" not in caplog.text

    def test_code_on_disk_does_not_count(self, code, shop):
        """It is the OS parent's code, before an upgrade and after it."""
        code.shop(2)
        recycle("shop", timeout=WAIT)
        before = version()
        upgrade("shop", timeout=WAIT)
        code.shop(3)
        recycle("shop", timeout=WAIT)

        assert (1, 2) == (before, version())


class TestUpgrade:
    def test_no_call_fails(self, code, shop):
        """Under clients that call and cast without pause; the state is converted, the new code answers."""
        with Clients("shop") as clients:
            code.shop(2)
            upgrade("shop", extra="why", timeout=WAIT)
            assert version() == 2

        assert ([], {}) == (clients.failed, clients.lost(state()["sold"]))
        assert [(1, 2, "why")] == state()["changed"]

    def test_by_pid(self, code, shop):
        """A pid is a server reference like a name, and the same before and after."""
        pid = process.whereis("shop")
        code.shop(2)
        upgrade(pid, timeout=WAIT)

        assert (2, pid) == (version(pid), process.whereis("shop"))

    def test_a_root(self, code):
        """A server that no supervisor started is handed over by the launcher."""
        with code.load().Shop.start_link("arg") as pid:
            before = pid.os_pid
            code.shop(2)
            upgrade(pid, timeout=WAIT)

            assert (2, True) == (version(pid), before != pid.os_pid)

    def test_extra_that_cannot_be_sent(self, shop):
        """Is an error in the caller."""
        with open(os.devnull) as file, pytest.raises(CodecError):
            upgrade("shop", extra=file)
        assert 1 == version()

    def test_nobody(self, me):
        """An unknown name is no process."""
        with pytest.raises(NoProcess):
            upgrade("nobody")

    def test_itself(self, shop):
        """A server in a callback is at no message boundary."""
        with pytest.raises(ServerDown) as error:
            do(inside.upgrade_itself)

        assert "calling_self" == error.value.reason

    def test_a_plain_process(self, me):
        """Has no message boundary that is known."""
        with gate() as held:
            pid = process.spawn(held.wait)
            assert "not_a_server" == fails(pid)
            held.open()
            pid.wait(WAIT)

    def test_a_class_that_cannot_be_imported(self, me):
        """There is no code on disk to go over to."""

        class Local(GenServer):
            def handle_call(self, request, client, state):
                return Reply(state, state)

        with Local.start_link("kept") as pid:
            reason = fails(pid)
            assert "not_importable" == reason[0]
            recycle(pid, timeout=WAIT)
            assert "kept" == GenServer.call(pid, "state")


class TestCodeChange:
    def test_the_form_of_init(self, code, shop):
        """`Ok(state)` is the state, as from `init` and as `system.change_code` takes it."""
        code.shop(2, code_change="return Ok({**state, 'mark': extra})")
        upgrade("shop", extra="new", timeout=WAIT)

        assert "new" == state()["mark"]


class TestRestart:
    def test_after_an_upgrade(self, code, shop):
        """The supervisor starts the new code from then on."""
        code.shop(2)
        upgrade("shop", timeout=WAIT)
        code.shop(3)
        wait_restarted("shop", after=sigkill("shop"))
        assert 2 == version()
        assert [] == state()["sold"]

    def test_after_a_failed_one(self, code, shop):
        """The supervisor starts the old code."""
        code.shop(2, code_change="raise ValueError('no')")
        fails("shop")
        wait_restarted("shop", after=sigkill("shop"))

        assert 1 == version()

    def test_twice(self, code, shop):
        """Each upgrade counts."""
        for number in (2, 3):
            code.shop(number)
            upgrade("shop", timeout=WAIT)
        wait_restarted("shop", after=sigkill("shop"))

        assert 3 == version()

    def test_without_its_zygote(self, code, shop):
        """What new processes are forked from may be killed as well: another one takes its place."""
        code.shop(2)
        upgrade("shop", timeout=WAIT)
        for os_pid in os_processes("otp:zygote"):
            os.kill(os_pid, signal.SIGKILL)
        wait_restarted("shop", after=sigkill("shop"))

        assert 2 == version()

    def test_code_that_leaves_threads(self, code):
        """Nothing can be forked from a process that imported it: each child imports it itself."""
        thread = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
        with start(code, "shop"):
            code.shop(2, extra=thread)
            upgrade("shop", timeout=WAIT)
            wait_restarted("shop", after=sigkill("shop"))

            assert 2 == version()


class TestFailure:
    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"init": "raise ValueError('boom')"}, "ValueError"),
            ({"init": "return Stop('custom')"}, "custom"),
            ({"init": "return Ignore()"}, "ignore"),
            ({"init": "os.kill(os.getpid(), 9)"}, Signalled("SIGKILL")),
            ({"code_change": "raise ValueError('boom')"}, "ValueError"),
            ({"code_change": "return Stop('custom')"}, "custom"),
            ({"code_change": "return NoReply(state)"}, "bad_return_value"),
            ({"code_change": "return Ignore()"}, "bad_return_value"),
            ({"code_change": "os.abort()"}, "SIGABRT"),
            ({"extra": "raise ValueError('boom')"}, "ValueError"),
            ({"extra": "os.kill(os.getpid(), 9)"}, "SIGKILL"),
            ({"extra": "this is no Python"}, "SyntaxError"),
        ],
    )
    def test_the_old_code_serves(self, code, shop, broken, reason):
        """Whatever goes wrong in the new code: the reason is told, and the old one goes on without one failed call."""
        GenServer.cast("shop", (9, 0))
        pid = process.whereis("shop")
        code.shop(2, **broken)
        with Clients("shop", 1) as clients:
            found = fails("shop")

        shown = found.type if isinstance(found, Crash) else found
        assert reason == shown or reason in repr(found)
        assert ([], {}) == (clients.failed, clients.lost([item for item in state()["sold"] if item[0] != 9]))
        assert (1, pid) == (version(), process.whereis("shop"))

    def test_time_is_up(self, code, shop):
        """A new code that does not come to an end is killed."""
        code.shop(2, init="signal.pause()")

        assert "timeout" == fails("shop", timeout=1.0)
        assert 1 == version()

    def test_a_busy_server(self, shop):
        """One that does not come to a message boundary in time goes on, and forgets that it was asked."""
        with gate() as held:
            asked = GenServer.send_request("shop", ("do", inside.wait, (held,)))
            held.wait_arrival()
            assert "timeout" == fails("shop", timeout=0.5)
            held.open()
            GenServer.receive_response(asked)

        assert 1 == version()
        recycle("shop", timeout=WAIT)

    def test_a_state_that_cannot_be_sent(self, shop):
        """Stays where it is."""
        spoil("shop")

        assert "bad_state" == fails("shop")[0]
        assert 1 == version()

    def test_two_at_once(self, code, shop):
        """The second is refused."""
        with gate() as held:
            code.shop(2, init=f"from tests.supervision.upgrading import wait_at; wait_at({held.path!r})")
            first = process.spawn(upgrade, "shop")
            held.wait_arrival()
            assert "upgrading" == fails("shop")
            held.open()
            first.wait(WAIT)

        assert 2 == version()

    @pytest.mark.slow
    def test_siblings_at_once(self, code):
        """Asked for by different callers, they wait for one another; one that fails costs the others nothing."""
        module = code.load()
        names = ["one", "two", "three"]
        children = [module.Shop.child_spec(name, id=name, name=name) for name in names]
        found = {}

        def ask(name):
            try:
                found[name] = upgrade(name, timeout=WAIT)
            except UpgradeFailed as error:
                found[name] = error.reason.type

        with Supervisor.start_link(children, strategy="one_for_one"):
            code.shop(2, code_change="assert state['arg'] != 'two'")
            threads = [threading.Thread(target=ask, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert {"one": None, "two": "AssertionError", "three": None} == found
            assert [2, 1, 2] == [GenServer.call(name, "version") for name in names]

    def test_the_old_one_is_killed(self, code, shop):
        """An ordinary death and restart, with the old code."""
        old = process.whereis("shop")
        with gate() as held:
            code.shop(2, init=f"from tests.supervision.upgrading import wait_at; wait_at({held.path!r})")
            _, ref = process.spawn_monitor(upgrade, "shop")
            held.wait_arrival()
            os.kill(old.os_pid, signal.SIGKILL)
            assert Signalled("SIGKILL") == old.wait(WAIT)
            down = assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, WAIT)

        assert "UpgradeFailed" in repr(down.reason)
        wait_restarted("shop", after=old)
        assert 1 == version()

    def test_the_supervisor_stops_meanwhile(self, code):
        """It does not wait for an upgrade of a child; nothing is left."""
        with start(code, "shop", name="top"):
            with gate() as held:
                code.shop(2, init=f"from tests.supervision.upgrading import wait_at; wait_at({held.path!r})")
                asker = process.spawn(upgrade, "shop")
                held.wait_arrival()
                Supervisor.stop("top", timeout=WAIT)
            assert "UpgradeFailed" in repr(asker.wait(WAIT))
        await_gone("otp:zygote", "otp:shop")

        assert process.whereis("shop") is None

    def test_the_supervisor_is_killed_meanwhile(self, code):
        """Everything of it ends as always."""
        supervisor = start(code, "shop")
        with gate() as held:
            code.shop(2, init=f"from tests.supervision.upgrading import wait_at; wait_at({held.path!r})")
            asker = process.spawn(upgrade, "shop")
            held.wait_arrival()
            os.kill(supervisor.os_pid, signal.SIGKILL)
            supervisor.wait(WAIT)
            assert "UpgradeFailed" in repr(asker.wait(WAIT))
        await_gone("otp:zygote", "otp:shop")

        assert process.whereis("shop") is None

    def test_an_exit_signal_meanwhile(self, code, shop):
        """It is obeyed: the upgrade fails, and the server ends for the signal's reason."""
        pid = process.whereis("shop")
        with gate() as held:
            code.shop(2, init=f"from tests.supervision.upgrading import wait_at; wait_at({held.path!r})")
            asker = process.spawn(upgrade, "shop")
            held.wait_arrival()
            process.exit(pid, "custom")

            assert "custom" == pid.wait(WAIT)
            assert "UpgradeFailed" in repr(asker.wait(WAIT))


PORT = """s = __import__('socket').socket(__import__('socket').AF_UNIX); s.bind('\\0{name}'); self.socket = s"""


class TestRelease:
    """What only one process can hold: `release` gives it up, `init` opens it."""

    RELEASE = "def release(self, state): self.socket.close()"

    def test_the_new_one_holds_it(self, code, me):
        """Two processes cannot bind one address."""
        bind = PORT.format(name=f"otp-{os.getpid()}-a")
        code.shop(1, init=bind, extra=self.RELEASE)
        with start(code, "shop"):
            code.shop(2, init=bind, extra=self.RELEASE)
            upgrade("shop", timeout=WAIT)

            assert (2, True) == (version(), do(inside.has_its_socket))

    def test_it_is_opened_again(self, code, me):
        """When the new code fails, the old one runs `init` again and keeps its state; timers of it do not double."""
        bind = PORT.format(name=f"otp-{os.getpid()}-b")
        code.shop(1, init=f"{bind}; process.send_after(process.self(), 'tick', 3600.0)", extra=self.RELEASE)
        with start(code, "shop"):
            GenServer.cast("shop", "apple")
            code.shop(2, init=bind, code_change="raise ValueError('no')", extra=self.RELEASE)
            fails("shop")

            timers = do(inside.timers)
            assert (1, ["apple"], 1) == (version(), state()["sold"], timers)
            assert do(inside.has_its_socket)


class TestWhatSurvives:
    def test_monitors(self, shop, me):
        """Of the server by others, and of others by the server: no Down for the upgrade, one for the death."""
        watched = process.spawn(process.receive)
        ref = process.monitor("shop")
        mine = do(inside.run, process.monitor, watched)
        for _ in range(2):
            recycle("shop", timeout=WAIT)
        process.send(watched, "end")
        watched.wait(WAIT)
        recycle("shop", timeout=WAIT)
        assert [Down(mine, watched, "normal")] == told()
        pid = sigkill("shop")

        assert Down(ref, pid, Signalled("SIGKILL")) == assert_receive(Down, WAIT)
        assert [] == process.flush()

    def test_links(self, code, me):
        """In both directions, and a trapped exit arrives once."""
        code.shop(1, extra="trap_exit = True")
        with start(code, "shop"):
            other = process.spawn(process.receive)
            do(inside.run, process.link, other)
            late = process.spawn(process.receive)
            recycle("shop", timeout=WAIT)
            do(inside.run, process.link, late)
            recycle("shop", timeout=WAIT)
            process.exit(other, "custom")
            other.wait(WAIT)
            assert [Exit(other, "custom")] == told()
            sigkill("shop")

            assert Signalled("SIGKILL") == late.wait(WAIT)

    def test_timers(self, shop):
        """Those that the server armed and those that others did fire once, when they are due; others are cancelled."""
        shop_pid = process.whereis("shop")
        do(inside.run, process.send_after, shop_pid, "own", 0.3)
        process.send_after(shop_pid, "theirs", 0.4)
        gone = process.send_after(shop_pid, "never", 0.5)
        recycle("shop", timeout=WAIT)
        process.cancel_timer(gone)
        recycle("shop", timeout=WAIT)
        do(inside.run, process.send_after, shop_pid, "last", 0.6)

        assert ["own", "theirs", "last"] == told(3)

    def test_intervals(self, shop):
        """A message that comes again and again goes on coming, at its times."""
        timer.send_interval(0.1, process.whereis("shop"), "tick")
        do(inside.run, timer.send_interval, 0.1, "own tick")
        recycle("shop", timeout=WAIT)
        told(1)
        before = len(told())
        recycle("shop", timeout=WAIT)
        after = told(before + 8)

        assert {"tick", "own tick"} == set(after[before:])

    def test_a_reply_that_is_owed(self, code, me):
        """A call that the old code left open is answered by the new one."""
        code.write(OWING.format(vsn=1))
        spec = code.load().Shop.child_spec({}, name="shop")
        with Supervisor.start_link([spec], strategy="one_for_one"):
            asked = GenServer.send_request("shop", "wait")
            code.write(OWING.format(vsn=2))
            upgrade("shop", timeout=WAIT)
            process.send("shop", "here it is")

            assert (2, "here it is") == GenServer.receive_response(asked, WAIT)

    def test_a_request_that_is_open(self, shop):
        """The reply to a request whose id is in the state arrives; one whose receiver died fails."""
        with gate() as held:
            slow = inside.Slow.start(held)
            dead = inside.Slow.start(held)
            for pid, key in ((slow, "slow"), (dead, "dead")):
                system.replace_state("shop", functools.partial(inside.asking, key, pid), WAIT)
                held.wait_arrival()
            recycle("shop", timeout=WAIT)
            sigkill(dead)
            recycle("shop", timeout=WAIT)
            held.open()
            system.replace_state("shop", inside.waited, WAIT)

        assert ("slept", "ServerDown") == (state()["slow"], state()["dead"])
        GenServer.stop(slow)

    def test_suspension(self, shop):
        """A suspended server is handed over suspended, with what waits."""
        system.suspend("shop")
        for _ in range(3):
            GenServer.cast("shop", bytes(3000))
        GenServer.cast("shop", 1)
        system.get_status("shop")
        recycle("shop", timeout=WAIT)
        GenServer.cast("shop", 2)
        status = system.get_status("shop")["status"]
        system.resume("shop")

        assert ("suspended", [1, 2]) == (status, state()["sold"][3:])
        assert 0 == process.info(process.whereis("shop")).queued_bytes

    def test_large_terms(self, shop):
        """Terms that travel in parts, or through a file, arrive whole while the server changes hands."""
        sizes = (10_000, 300_000, 2_000_000)

        pid = process.spawn(inside.send_large, "shop", 30, sizes)
        for _ in range(6):
            recycle("shop", timeout=WAIT)
        pid.wait(WAIT)

        sold = GenServer.call("shop", "state", 20.0)["sold"]
        assert [(number, sizes[number % 3]) for number in range(30)] == [(one, len(data)) for one, data in sold]

    def test_the_way_to_trap(self, code):
        """What a callback chose stays; what the class says may change with the class."""
        with start(code, "plain", "chosen"):
            do(inside.run, process.trap_exit, True, name="chosen")
            code.shop(2, extra="trap_exit = True")
            for name in ("plain", "chosen"):
                upgrade(name, timeout=WAIT)
            traps = [process.info(process.whereis(name)).trap_exit for name in ("plain", "chosen")]
            code.shop(3)
            upgrade("plain", timeout=WAIT)

            assert [True, True, False] == [*traps, process.info(process.whereis("plain")).trap_exit]

    def test_a_kill_meanwhile(self, code, shop):
        """`"kill"` ends the process, whichever OS process it is just then."""
        for _ in range(3):
            pid = process.whereis("shop")
            killer = process.spawn(process.exit, pid, "kill")
            with contextlib.suppress(UpgradeFailed, NoProcess):
                recycle(pid, timeout=WAIT)

            assert "killed" == pid.wait(WAIT)
            killer.wait(WAIT)
            wait_restarted("shop", after=pid)


OWING = """
from otp_runtime import GenServer, NoReply

class Shop(GenServer):
    def handle_call(self, request, client, state):
        return NoReply({{**state, "who": client}})

    def handle_info(self, message, state):
        GenServer.reply(state["who"], ({vsn}, message))
        return NoReply(state)
"""


class TestSupervisor:
    def test_all_children(self, code):
        """In start order, nested ones too."""
        nested = Supervisor.child_spec(
            [code.load().Shop.child_spec("arg", name=name) for name in "bc"], strategy="one_for_one", name="nested"
        )
        children = [code.load().Shop.child_spec("arg", name="a"), nested, code.load().Shop.child_spec("arg", name="d")]
        with Supervisor.start_link(children, strategy="one_for_one", name="top"):
            pids = [process.whereis(name) for name in "abcd"]
            code.shop(2)
            upgrade("top", extra=7, timeout=WAIT)
            assert [2] * 4 == [version(name) for name in "abcd"]
            assert pids == [process.whereis(name) for name in "abcd"]
            assert [(1, 2, 7)] == state("c")["changed"]
            code.shop(3)
            wait_restarted("nested", after=sigkill("nested"))
            wait_restarted("b")

            assert 3 == version("b")

    def test_only_nested_ones(self, code):
        """A supervisor that has no server of its own starts its nested ones with the new code, too."""
        code.write(TREE.format(vsn=1))
        tree = code.load()
        with Supervisor.start_link([tree.Nested.child_spec(name="nested")], strategy="one_for_one", name="top"):
            code.write(TREE.format(vsn=2))
            upgrade("top", timeout=WAIT)
            upgraded = version("a")
            wait_restarted("nested", after=sigkill("nested"))
            wait_restarted("a")

            assert (2, 2) == (upgraded, version("a"))

    def test_dynamic_children(self, code):
        """Those that were started later too; a task and a registry among them stay as they are."""
        with DynamicSupervisor.start_link(name="top") as top, gate() as held:
            for name in "ab":
                DynamicSupervisor.start_child(top, code.load().Shop.child_spec("arg", name=name))
            DynamicSupervisor.start_child(top, Registry.child_spec(keys="unique", name="shops"))
            DynamicSupervisor.start_child(top, Task.child_spec(inside.wait, None, held))
            code.shop(2)
            upgrade("top", timeout=WAIT)
            wait_restarted("b", after=sigkill("b"))

            assert [2, 2] == [version(name) for name in "ab"]

    def test_one_fails(self, code):
        """Those before it run the new code, it and those after it the old."""
        with start(code, "a", "b", "c", name="top"):
            spoil("b")
            code.shop(2)
            reason = fails("top")

            assert ("failed_to_upgrade_child", "b", "bad_state") == (*reason[:2], reason[2][0])
            assert [2, 1, 1] == [version(name) for name in "abc"]

    def test_its_own_child(self, code):
        """A child cannot wait for its own upgrade."""
        with start(code, "a", name="top"):
            with pytest.raises(ServerDown):
                do(inside.run, upgrade, "top", name="a")
            assert wait_restarted("a")


MACHINE = """
from otp_runtime import GenStateMachine, statem

class Shop(GenStateMachine):
    vsn = {vsn}
    callback_mode = "handle_event_function"

    def init(self, arg):
        return statem.Ok("open", 0, [statem.Timeout("late", 0.4, "close")])

    def handle_event(self, event, content, state, data):
        match event:
            case statem.Call(client):
                return statem.KeepState(data + 1, [statem.Reply(client, ({vsn}, state, data))])
            case ("timeout", "late"):
                return statem.NextState("closed", data)
        return statem.KeepStateAndData()

    def code_change(self, old_vsn, state, data, extra):
        return statem.Ok(state, data + 100)
"""


REGISTERED = """
from otp_runtime import GenServer, Registry, Reply

class Shop(GenServer):
    def init(self, arg):
        Registry.register("shops", "here", {vsn})

    def handle_call(self, request, client, state):
        return Reply({vsn}, state)
"""


class TestBehaviours:
    def test_a_state_machine(self, code):
        """Its state, its data and its time-outs go with it."""
        code.write(MACHINE.format(vsn=1))
        with start(code, "shop"):
            first = GenServer.call("shop", "ask", WAIT)
            code.write(MACHINE.format(vsn=2))
            upgrade("shop", timeout=WAIT)
            second = GenServer.call("shop", "ask", WAIT)
            deadline = time.monotonic() + WAIT
            while (last := GenServer.call("shop", "ask", WAIT))[1] == "open":
                assert time.monotonic() < deadline

            assert [(1, "open", 0), (2, 101, "closed")] == [first, (second[0], second[2], last[1])]

    def test_an_agent(self, me):
        """Its state may hold what its functions made."""
        with Agent.start_link(dict) as agent:
            Agent.update(agent, inside.with_apples)
            upgrade(agent, timeout=WAIT)

            assert {"apples": 3} == Agent.get(agent, dict)

    def test_an_event_manager(self, me):
        """Its handlers are objects: it stays where it is."""
        with GenEvent.start_link() as manager:
            assert "cannot_be_handed_over" == fails(manager)[0]

    def test_what_is_registered(self, code):
        """A key that `init` registers is the server's already."""
        code.write(REGISTERED.format(vsn=1))
        with Registry.start_link(keys="unique", name="shops"), start(code, "shop"):
            pid = process.whereis("shop")
            code.write(REGISTERED.format(vsn=2))
            upgrade("shop", timeout=WAIT)
            recycle("shop", timeout=WAIT)

            assert [(pid, 2)] == Registry.lookup("shops", "here")
            assert 2 == GenServer.call(Via(Registry, ("shops", "here")), "version")


TREE = """
from otp_runtime import GenServer, Reply, Supervisor

class A(GenServer):
    def handle_call(self, request, client, state):
        return Reply({vsn}, state)

class Nested(Supervisor):
    def init(self, arg):
        return self.spec([A.child_spec(name="a")], strategy="one_for_one")
"""


ASYNC = """
import asyncio
from otp_runtime import GenServer, NoReply, Reply

class Shop(GenServer):
    vsn = {vsn}

    async def init(self, arg):
        self.ticks = 0
        self.task = asyncio.create_task(self.tick())
        return {{"sold": []}}

    async def tick(self):
        while True:
            await asyncio.sleep(0.001)
            self.ticks += 1

    async def release(self, state):
        await asyncio.sleep(0)
        self.released = True

    async def handle_cast(self, request, state):
        return NoReply({{**state, "sold": [*state["sold"], request]}})

    async def handle_call(self, request, client, state):
        await asyncio.sleep(0)
        match request:
            case ("echo", value):
                return Reply(value, state)
            case "version":
                return Reply({vsn}, state)
            case "ticks":
                return Reply(self.ticks, state)
        return Reply(state, state)

    async def code_change(self, old_vsn, state, extra):
        await asyncio.sleep(0)
        {code_change}
        return {{**state, "changed": old_vsn}}
"""


class TestAsync:
    def test_no_call_fails(self, code):
        """A server with `async def` callbacks is handed over as any other; its `init` starts its tasks anew."""
        code.write(ASYNC.format(vsn=1, code_change="pass"))
        with start(code, "shop"), Clients("shop", 2) as clients:
            code.write(ASYNC.format(vsn=2, code_change="pass"))
            upgrade("shop", timeout=WAIT)
            after = version()
            clients.__exit__()
            clients.pids = []

            assert (2, 1, []) == (after, state()["changed"], clients.failed)
            assert {} == clients.lost(state()["sold"])
            assert GenServer.call("shop", "ticks") >= 0

    def test_tasks_go_on_when_it_fails(self, code):
        """They stand still while the server is parked, and are not cancelled."""
        code.write(ASYNC.format(vsn=1, code_change="pass"))
        with start(code, "shop"):
            code.write(ASYNC.format(vsn=2, code_change="raise ValueError('no')"))
            fails("shop")
            before = GenServer.call("shop", "ticks")
            deadline = time.monotonic() + WAIT
            while GenServer.call("shop", "ticks") == before:
                assert time.monotonic() < deadline

            assert 1 == version()


class TestNothingIsLeft:
    @pytest.mark.parametrize(
        "count", [pytest.param(4, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.stress)]
    )
    def test_upgrades_in_a_row_under_load(self, code, shop, count):
        """No process, descriptor or file is left by them."""
        for _ in range(2):
            # from now on the launcher has a template for the processes of clients
            Agent.stop(Agent.start(int))
        code.shop(2)
        upgrade("shop", timeout=WAIT)
        _settle()
        version()
        deadline = time.monotonic() + WAIT
        while current().directory.spare_ids():
            assert time.monotonic() < deadline, "what was forked ahead for agents in a row ends when none follows"
            current().pump(0.01)
        before = _inventory(shop)
        with Clients("shop", 4) as clients:
            for number in range(count):
                code.shop(3 + number)
                upgrade("shop", timeout=WAIT)
        assert ([], {}) == (clients.failed, clients.lost(state()["sold"]))
        deadline = time.monotonic() + WAIT
        while (after := _inventory(shop)) != before:
            assert time.monotonic() < deadline, _difference(before, after)
            process.info(shop)

        assert 2 + count == version()


def _settle():
    """Wait until those that were handed over, or are not needed any more, are gone."""
    deadline = time.monotonic() + WAIT
    while (found := [len(os_processes(title)) for title in ("otp:shop", "otp:zygote")]) != [1, 1]:
        assert time.monotonic() < deadline, found


def _difference(before, after):
    return {key: (before[key] - after[key], after[key] - before[key]) for key in before if before[key] != after[key]}


def _inventory(supervisor):
    current()._forget_idle_peers()
    directory = current().directory.path
    return {
        "processes": Counter(map(title_of, kernel.descendants_of(os.getpid()))),
        "supervisor": Counter(_kinds(supervisor.os_pid)),
        "server": Counter(_kinds(process.whereis("shop").os_pid)),
        "program": Counter(_kinds(os.getpid())),
        "files": Counter(path.suffix for path in directory.rglob("*") if not _is_of_a_dead(path)),
    }


def _is_of_a_dead(path):
    """Boxes of the latest dead are kept, as many as there are: those are the clients'."""
    return not path.with_suffix(".in").exists() and path.parent.name == "p" and path.suffix in {".box", ".fault"}


def _kinds(os_pid):
    links = [os.readlink(path) for path in Path(f"/proc/{os_pid}/fd").iterdir() if path.is_symlink()]
    return ["".join(char for char in link if not char.isdigit()) for link in links]
