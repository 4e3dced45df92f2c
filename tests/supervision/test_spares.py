"""Processes forked ahead: who uses them, who sees them, and that none is left."""

import importlib
import os
import signal
import sys

import pytest

from otp_runtime import (
    Agent,
    Crash,
    DynamicSupervisor,
    GenServer,
    StartFailed,
    Supervisor,
    Watchdog,
    process,
    upgrade,
    why,
)
from otp_runtime.core.demand import WINDOW_SECONDS
from otp_runtime.core.watchdog import LOOK_SECONDS
from otp_runtime.host import kernel, poller
from otp_runtime.host.box import Box
from otp_runtime.observe import tree
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision.children import Recorder, end
from tests.supervision.keepers import Keeper, put
from tests.supervision.upgrading import Code

MANY = 1_000_000
WAIT = 10.0
SHOP = """
from otp_runtime import GenServer, Reply


class Shop(GenServer):
    def init(self, arg):
        return {}

    def handle_call(self, request, client, state):
        return Reply(state, state)
"""

HANGS = """
import os
here = os.path.dirname(__file__)
with open(f"{here}/imports", "a") as file:
    file.write("x")
if os.path.getsize(f"{here}/imports") > 3:
    # the program and two servers have imported it
    open(f"{here}/nobody_writes")
"""

ASKS = """
import os, threading
from otp_runtime import process

def ask():
    process.self()
    with open(f"{os.path.dirname(__file__)}/asked", "a") as file:
        file.write("x")
    threading.Event().wait()

if os.getppid() != PROGRAMS_PARENT:
    process.self()
    threading.Thread(target=ask, daemon=True).start()
"""


def supervise(*children, **flags):
    return Supervisor.start_link(list(children), **{"strategy": "one_for_one", "max_restarts": MANY, **flags})


def spares():
    """The OS processes of this node that are kept ahead, by the id of whose they are."""
    directory = current().directory
    found = []
    for number in directory.spare_ids():
        box = Box.open(directory.spare(number))
        if box is not None:
            if box.identity.os_process.pid:
                found.append((box.identity.reaper, box.identity.os_process))
            box.close()
    return found


def launcher():
    return current().pid_of(LAUNCHER_ID)


def wait_for_spares(sup, count, besides=()):
    """Wait until a supervisor has so many spares, other ones than `besides`; give them."""
    deadline = poller.now() + WAIT
    while True:
        found = {one for owner, one in spares() if owner == sup.id} - set(besides)
        if len(found) == count:
            return found
        assert poller.now() < deadline, found
        current().pump(0.001)


def wait_until_gone(processes, seconds):
    """Wait until OS processes are gone for good; say whether they are."""
    deadline = poller.now() + seconds
    while any(kernel.start_time(one.pid) == one.start for one in processes):
        if poller.now() > deadline:
            return False
        current().pump(0.001)
    return True


def end_spares():
    """End those that are there, of a test before too, and wait until they are gone."""
    found = [one for _owner, one in spares()]
    for one in found:
        os.kill(one.pid, signal.SIGKILL)
    assert wait_until_gone(found, WAIT)


def os_process(name):
    return kernel.OsProcess(os_pid := process.whereis(name).os_pid, kernel.start_time(os_pid))


class TestUse:
    def test_a_restart_uses_it(self, me):
        """The process that answers after a kill was there before the kill."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            ahead = wait_for_spares(sup, 1)
            wait_restarted("a", after=sigkill("a"))

            assert ahead == {os_process("a")}

    def test_the_death_is_explained(self, me):
        """By its own record, though the successor may be there before that is written."""
        told = []
        with supervise(Agent.child_spec(int, name="a", spare=1)):
            for number in (signal.SIGKILL, signal.SIGTERM) * 10:
                dead = process.whereis("a")
                os.kill(dead.os_pid, number)
                wait_restarted("a", after=dead)
                told.append((dead.id, why(dead).id, why(dead).signal == number.name))

        assert [(one, one, True) for one, _other, _right in told] == told

    def test_a_start_uses_it(self, me):
        """So is the process of a child that is started by hand."""
        with DynamicSupervisor.start_link() as sup:
            DynamicSupervisor.start_child(sup, Agent.child_spec(int, spare=1))
            ahead = wait_for_spares(sup, 1)
            pid = DynamicSupervisor.start_child(sup, Agent.child_spec(int, spare=1))

            assert {pid.os_pid} == {one.pid for one in ahead}

    def test_it_is_made_up_for(self, me):
        """After a use there is another one."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            ahead = wait_for_spares(sup, 1)
            wait_restarted("a", after=sigkill("a"))

            assert not ahead & wait_for_spares(sup, 1, besides=ahead)

    def test_the_largest_number_counts(self, me):
        """They are the supervisor's, and serve all its children."""
        with supervise(Agent.child_spec(int, name="a"), Agent.child_spec(int, id="b", spare=2)) as sup:
            ahead = wait_for_spares(sup, 2)
            wait_restarted("a", after=sigkill("a"))

            assert os_process("a") in ahead

    def test_several_restarts_in_a_row(self, me):
        """With a spare or, where it is not made up for yet, without: all the same."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            wait_for_spares(sup, 1)
            for _ in range(10):
                wait_restarted("a", after=sigkill("a"))

            assert Agent.get("a", lambda n: n) == 0

    @pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
    def test_arguments(self, me, size):
        """It is given what a fork is; an argument that no pipe holds at once comes to a fork."""
        with DynamicSupervisor.start_link() as sup:
            DynamicSupervisor.start_child(sup, Agent.child_spec(int, spare=1))
            wait_for_spares(sup, 1)
            text = "x" * size
            pid = DynamicSupervisor.start_child(sup, Agent.child_spec(lambda: text))

            assert size == Agent.get(pid, len)

    def test_a_start_that_fails(self, me):
        """The reason is the child's; the spare is gone with it."""

        def fail():
            raise ValueError("boom")

        with DynamicSupervisor.start_link() as sup:
            DynamicSupervisor.start_child(sup, Agent.child_spec(int, spare=1))
            ahead = wait_for_spares(sup, 1)
            with pytest.raises(StartFailed) as failed:
                DynamicSupervisor.start_child(sup, Agent.child_spec(fail))

            assert isinstance(failed.value.reason, Crash)
            assert failed.value.reason.type == "ValueError"
            assert wait_until_gone(ahead, WAIT)

    def test_what_is_known_of_its_death(self, record):
        """Name, time and reason are the child's, not the spare's; `terminate` runs; a record is kept."""
        with supervise(record.spec("a", Recorder, spare=1)) as sup:
            wait_for_spares(sup, 1)
            born = process.info(process.whereis("a")).started_at
            pid = wait_restarted("a", after=sigkill("a"))
            info = process.info(pid)
            GenServer.cast("a", end("odd"))
            pid.wait(5.0)
            wait_restarted("a", after=pid)

            assert info.started_at > born
            assert ("Recorder", "a") == (info.label, info.name)
            assert (pid.id, "odd") == (why("a").id, why("a").reason)
            assert ["start a", "start a", "stop a odd", "start a"] == record.take()

    @pytest.mark.slow
    def test_an_end_right_after_its_first_answer(self, me, tmp_path):
        """It ends as one that has started, though its supervisor hears of a restart a little later."""
        path = str(tmp_path / "told")
        for number in range(5):
            sup = supervise(Recorder.child_spec((path, f"r{number}"), name="r", spare=1))
            wait_for_spares(sup, 1)
            dead = sigkill("r")
            while process.whereis("r") in {None, dead}:
                current().pump(0.0001)
            GenServer.call("r", None)
            Supervisor.stop(sup)

        assert [f"stop r{number} shutdown" for number in range(5)] == [
            line for line in (tmp_path / "told").read_text().splitlines() if line.startswith("stop")
        ]

    def test_a_kept_state(self, me):
        """What a server keeps is found by the spare that becomes it."""
        with supervise(Keeper.child_spec(0, name="keeper", spare=1)) as sup:
            wait_for_spares(sup, 1)
            GenServer.call("keeper", put(7))
            wait_restarted("keeper", after=sigkill("keeper"))

            assert GenServer.call("keeper", "get") == 7


class TestStartsInARow:
    """What no child spec asks for: one ahead, while starts follow each other."""

    def test_a_restart_uses_it(self, me):
        """The second restart in a row makes one expected; the third has it."""
        with supervise(Agent.child_spec(int, name="a")) as sup:
            for _ in range(2):
                wait_restarted("a", after=sigkill("a"))
            ahead = wait_for_spares(sup, 1)
            wait_restarted("a", after=sigkill("a"))

            assert ahead == {os_process("a")}

    def test_a_start_uses_it(self, me):
        """So does a child that is started by hand."""
        with DynamicSupervisor.start_link() as sup:
            for _ in range(2):
                DynamicSupervisor.start_child(sup, Agent.child_spec(int))
            ahead = wait_for_spares(sup, 1)
            pid = DynamicSupervisor.start_child(sup, Agent.child_spec(int))

            assert {pid.os_pid} == {one.pid for one in ahead}

    def test_a_start_of_the_program_uses_it(self, me):
        """And a server that no supervisor starts: linked to the program, as any other."""
        first, second = (Agent.start_link(int) for _ in range(2))
        ahead = wait_for_spares(launcher(), 1)
        third = Agent.start_link(int)
        for agent in (first, second):
            Agent.stop(agent)

        assert {third.os_pid} == {one.pid for one in ahead}
        Agent.stop(third)

    def test_it_has_rehearsed_and_nothing_shows(self, me):
        """It begins as every process does: nothing counted, no name, no message, no file of the rehearsal."""
        with DynamicSupervisor.start_link() as sup:
            for _ in range(2):
                DynamicSupervisor.start_child(sup, Agent.child_spec(int))
            wait_for_spares(sup, 1)
            pid = DynamicSupervisor.start_child(sup, Agent.child_spec(int))
            info = process.info(pid)

            assert (info.name, info.label) == (None, "Agent")
            assert 0 == Agent.get(pid, lambda n: n)
            assert [] == [name for name in os.listdir(current().directory.path / "p") if "rehearsal" in name]
            assert [] == process.registered()

    @pytest.mark.slow
    def test_it_ends_when_nothing_follows(self, me):
        """It is kept for some seconds, then its memory is given back; the next start is a fork."""
        with DynamicSupervisor.start_link() as sup:
            for _ in range(2):
                DynamicSupervisor.start_child(sup, Agent.child_spec(int))
            ahead = wait_for_spares(sup, 1)
            gone = wait_until_gone(ahead, WINDOW_SECONDS * 2)
            pid = DynamicSupervisor.start_child(sup, Agent.child_spec(int))

            assert gone
            assert 0 == Agent.get(pid, lambda n: n)
            assert [] == [one for owner, one in spares() if owner == sup.id]

    def test_a_killed_one_is_not_made_up_for(self, me):
        """Whatever kills them must not be fed: the next row makes the next one."""
        with DynamicSupervisor.start_link() as sup:
            for _ in range(2):
                DynamicSupervisor.start_child(sup, Agent.child_spec(int))
            ahead = wait_for_spares(sup, 1)
            for one in ahead:
                os.kill(one.pid, signal.SIGKILL)
            gone = wait_until_gone(ahead, WAIT)
            before = DynamicSupervisor.count_children(sup).active
            for _ in range(2):
                DynamicSupervisor.start_child(sup, Agent.child_spec(int))

            assert gone
            assert wait_for_spares(sup, 1, besides=ahead)
            assert 2 == before

    def test_modules_of_another_path(self, me, tmp_path, monkeypatch):
        """A spare that has imported a module serves no program that would find another one under that name."""
        for number in (1, 2):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "row_shop.py").write_text(SHOP.format(number))
        told = []
        for number in (1, 2):
            monkeypatch.syspath_prepend(tmp_path / str(number))
            sys.modules.pop("row_shop", None)
            shop = importlib.import_module("row_shop").Shop
            servers = [shop.start_link() for _ in range(2)]
            wait_for_spares(launcher(), 1)
            servers.append(shop.start_link() if number == 2 else None)
            for server in filter(None, servers):
                told.append(GenServer.call(server, "number"))
                GenServer.stop(server)
        sys.modules.pop("row_shop")

        assert [1, 1, 2, 2, 2] == told

    def test_nobody_waits_for_the_import_of_another(self, me, tmp_path, monkeypatch):
        """A spare that is still importing what the last start needed is not given a job that needs nothing of it."""
        (tmp_path / "row_hangs.py").write_text(HANGS + SHOP.format(0))
        os.mkfifo(tmp_path / "nobody_writes")
        monkeypatch.syspath_prepend(tmp_path)
        shop = importlib.import_module("row_hangs").Shop
        servers = [shop.start_link() for _ in range(2)]
        ahead = wait_for_spares(launcher(), 1)
        agent = Agent.start_link(int, timeout=WAIT)
        for server in (*servers, agent):
            GenServer.stop(server)
        sys.modules.pop("row_hangs")

        assert agent.os_pid not in {one.pid for one in ahead}

    def test_a_module_that_asks_who_it_is(self, me, tmp_path, monkeypatch):
        """It is told what a server would be, in its main thread and in others; nothing is left of an unused spare."""
        (tmp_path / "row_asks.py").write_text(ASKS.replace("PROGRAMS_PARENT", str(os.getppid())) + SHOP.format(0))
        monkeypatch.syspath_prepend(tmp_path)
        shop = importlib.import_module("row_asks").Shop
        end_spares()
        before = process.list()
        servers = [shop.start_link() for _ in range(2)]
        wait_for_spares(launcher(), 1)
        deadline = poller.now() + WAIT
        while (tmp_path / "asked").stat().st_size < 3 and poller.now() < deadline:
            current().pump(0.001)
        end_spares()
        for server in servers:
            GenServer.stop(server)
        sys.modules.pop("row_asks")

        assert before == process.list()


class TestUnseen:
    def test_nobody_lists_it(self, me):
        """Neither the supervisor nor the node nor a tree that is drawn of it."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            before = process.list()
            wait_for_spares(sup, 1)
            drawn = tree.observe(current().directory).processes

            assert ["a"] == [child.id for child in Supervisor.which_children(sup)]
            assert before == process.list() == [current().pid_of(one.id) for one in drawn]


class TestDeath:
    def test_a_killed_one_is_made_up_for(self, me):
        """And its death is no incident: the supervisor restarts nothing, and reports nothing."""
        with supervise(Agent.child_spec(int, name="a", spare=1), max_restarts=0) as sup:
            ahead = wait_for_spares(sup, 1)
            before = process.whereis("a")
            for one in ahead:
                os.kill(one.pid, signal.SIGKILL)
            wait_for_spares(sup, 1, besides=ahead)

            assert before == process.whereis("a")

    def test_one_that_was_told_of_another_start_is_used(self, me):
        """The death of one is announced to it; the first that is started again is another, which it then is."""
        children = [Agent.child_spec(lambda name=name: name * 3000, name=name, spare=1) for name in ("a", "b")]
        with supervise(*children, strategy="one_for_all") as sup:
            ahead = wait_for_spares(sup, 1)
            before = process.whereis("a"), process.whereis("b")
            sigkill("b")
            for name, pid in zip(("a", "b"), before, strict=True):
                wait_restarted(name, after=pid)

            assert os_process("a") in ahead
            assert ["a" * 3000, "b" * 3000] == [Agent.get(name, lambda said: said) for name in ("a", "b")]

    def test_a_killed_one_is_not_used(self, me):
        """A restart right after its death is a fork."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            for one in wait_for_spares(sup, 1):
                os.kill(one.pid, signal.SIGKILL)
            wait_restarted("a", after=sigkill("a"))

            assert Agent.get("a", lambda n: n) == 0

    def test_a_stopped_one_is_not_used(self, me):
        """A restart would wait until somebody lets it go on; it is ended, and made up for."""
        with supervise(Agent.child_spec(int, name="a", spare=1)) as sup:
            ahead = wait_for_spares(sup, 1)
            for one in ahead:
                os.kill(one.pid, signal.SIGSTOP)
                while not kernel.is_stopped(one.pid):
                    current().pump(0.001)
            wait_restarted("a", after=sigkill("a"), timeout=WAIT)

            assert os_process("a") not in ahead
            assert wait_until_gone(ahead, WAIT)

    def test_one_that_a_watchdog_saw_stopped_is_not_used(self, me):
        """The kernel tells of a stop once: the supervisor knows it from then on."""
        with supervise(Agent.child_spec(int, name="a", spare=1, watchdog=Watchdog(busy=60.0))) as sup:
            (ahead,) = wait_for_spares(sup, 1)
            os.kill(ahead.pid, signal.SIGSTOP)
            while not kernel.is_stopped(ahead.pid):
                current().pump(0.001)
            current().pump(3 * LOOK_SECONDS)
            wait_restarted("a", after=sigkill("a"), timeout=WAIT)

            assert os_process("a") != ahead
            assert wait_until_gone([ahead], WAIT)

    def test_none_outlives_its_supervisor(self, me):
        """Not when that is stopped: nothing of it is left, in memory or in the directory."""
        with supervise(Agent.child_spec(int, name="a", spare=2)) as sup:
            ahead = wait_for_spares(sup, 2)

        assert wait_until_gone(ahead, 0.0)
        assert [] == spares()

    def test_none_outlives_a_killed_supervisor(self, me):
        """Not when that is killed: within two seconds all are gone, and so is what they had in the directory."""
        inner = Supervisor.child_spec([Agent.child_spec(int, name="a", spare=2)], strategy="one_for_one", name="inner")
        with supervise(inner):
            sup = process.whereis("inner")
            ahead = wait_for_spares(sup, 2)
            sigkill("inner")
            gone = wait_until_gone(ahead, 2.0)
            wait_restarted("inner", after=sup)

            assert gone
            assert [] == [one for owner, one in spares() if owner == sup.id]


class TestUpgrade:
    def test_it_ends_those_that_have_the_old_code(self, me, tmp_path, monkeypatch):
        """What is started after an upgrade runs the new code, spare or not."""
        monkeypatch.syspath_prepend(tmp_path)
        code = Code(tmp_path, "spare_shop")
        code.shop(1)
        shop = code.load().Shop
        try:
            with supervise(shop.child_spec(0, name="shop", spare=1)) as sup:
                ahead = wait_for_spares(sup, 1)
                code.shop(2)
                upgrade("shop", timeout=WAIT)
                wait_restarted("shop", after=sigkill("shop"))

                assert GenServer.call("shop", "version") == 2
                assert wait_until_gone(ahead, WAIT)
        finally:
            code.forget()

    @pytest.mark.parametrize("supervised", [False, True])
    def test_it_ends_those_of_the_launcher(self, me, tmp_path, monkeypatch, supervised):
        """What a program starts itself right after an upgrade runs the new code, whoever was upgraded."""
        monkeypatch.syspath_prepend(tmp_path)
        code = Code(tmp_path, "spare_row")
        code.shop(1)
        shop = code.load().Shop
        try:
            with supervise(shop.child_spec(0, name="shop")):
                end_spares()
                servers = [shop.start_link(0) for _ in range(2)]
                wait_for_spares(launcher(), 1)
                code.shop(2)
                upgrade("shop" if supervised else servers[0], timeout=WAIT)
                servers.append(shop.start_link(0))
                version = GenServer.call(servers[-1], "version")
                for server in servers:
                    GenServer.stop(server)
        finally:
            code.forget()

        assert 2 == version
