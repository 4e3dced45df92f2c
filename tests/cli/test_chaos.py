"""`chaos` on trees that hold, bend and break."""

import json
import signal

import pytest

from otp_runtime.cli import commands
from otp_runtime.testing import chaos

pytestmark = pytest.mark.slow  # each test starts programs

QUICK = ("--rate", "50")


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A terminal beside a running garden, one for all tests of this file."""
    from tests.cli.conftest import Terminal

    terminal = Terminal(tmp_path_factory.mktemp("garden") / "nodes")
    with terminal.run("storms:garden", "--name", "garden"):
        yield terminal


def os_pids(terminal):
    return {one["name"]: one["os_pid"] for one in terminal.json("ps")}


def ran(terminal, *arguments, code=0):
    """Strike; give what is said of it as data."""
    done = terminal.otp("chaos", "--yes", "--json", *QUICK, *arguments)

    assert (code, "") == (done.returncode, done.stderr), done.stdout
    return json.loads(done.stdout)


class TestDryRun:
    def test_shows_the_plan_and_strikes_nobody(self, garden):
        """Who, with what, and when; the seed that draws the same again."""
        before = os_pids(garden)
        done = garden.otp("chaos", "--dry-run", "--seed", "7", "--rate", "2", "--seconds", "3")
        rows = [line.split() for line in done.stdout.splitlines()]

        assert (0, "") == (done.returncode, done.stderr)
        assert [["1", "0.0"], ["2", "0.5"], ["6", "2.5"]] == [rows[number][:2] for number in (-6, -5, -1)]
        assert "--seed 7" in done.stdout
        assert before == os_pids(garden)

    def test_the_same_seed_draws_the_same(self, garden):
        """Another seed another plan."""
        plans = [garden.json("chaos", "--dry-run", "--rate", "10", "--seed", seed)["plan"] for seed in ("1", "1", "2")]

        assert plans[0] == plans[1]
        assert plans[1] != plans[2]

    def test_only_who_comes_back_is_chosen(self, garden):
        """Neither a temporary child nor one that nobody looks after; what their supervisors do not tell, is said."""
        said = garden.json("chaos", "--dry-run")

        assert ["Keeper (child 'nameless')", "apple", "dog", "oak", "pear"] == sorted(said["victims"])
        assert {"leaf", "stray", "guest"} == {who.split()[0] for who in said["left_out"]}

    def test_a_transient_server_is_not_stopped(self, garden):
        """Nobody would start it again; it may be killed."""
        plan = garden.json("chaos", "--dry-run", "--rate", "100")["plan"]
        kinds = {strike["kind"] for strike in plan if strike["victim"] == "oak"}

        assert {"kill", "segv", "exception"} == kinds
        assert "stop" in {strike["kind"] for strike in plan}

    def test_of_a_supervisor_those_below_it(self, garden):
        """At any depth."""
        below = garden.json("chaos", "--dry-run", "trees")["victims"]
        all_of_them = garden.json("chaos", "--dry-run", "garden")["victims"]

        assert ["apple", "pear"] == sorted(below)
        assert 5 == len(all_of_them)


class TestStrikes:
    @pytest.mark.parametrize("kind", ["kill", "segv", "stop", "exception", "oom"])
    def test_each_kind(self, garden, kind):
        """Another process has the name and has answered; the death that is on record is of that kind."""
        before = os_pids(garden)["pear"]
        said = ran(garden, "pear", "--kind", kind, "--seconds", "0.02")
        after = os_pids(garden)["pear"]

        assert ({kind: 1}, 1, 0) == (said["injected"], said["answered"], said["lost"])
        assert 0 < said["answered_after"]["worst"] == said["by_kind"][kind]["median"] < 10
        assert before != after
        if kind != "stop":
            reason = garden.json("why", "pear")["reason"]
            words = {"kill": "SIGKILL", "segv": "SIGSEGV", "exception": "Misfortune", "oom": "MemoryError"}
            assert words[kind] in reason

    def test_a_hang_is_ended_by_its_watchdog(self, garden):
        """Of those that have one; it takes as long as that allows."""
        said = ran(garden, "--kind", "hang", "--seconds", "0.02")

        assert (["dog"], 1) == ([blow["victim"] for blow in said["blows"]], said["answered"])
        assert said["answered_after"]["worst"] > 0.3
        assert garden.json("why", "dog")["kind"] == "hang"

    def test_siblings_without_a_name_and_supervisors_that_restart_all(self, garden):
        """Each is waited for where it comes back."""
        said = ran(garden, "--seconds", "0.4", "--seed", "4")

        assert (20, 0, 0, 0) == tuple(said[ending] for ending in ("answered", "gone", "lost", "missed"))
        assert {"apple", "pear", "Keeper (child 'nameless')"} <= {blow["victim"] for blow in said["blows"]}
        assert (False, [], False) == (said["tree_gave_up"], said["gave_up"], said["node_ended"])

    def test_for_people(self, garden):
        """A line for each blow, a table of times, a verdict with the seed."""
        done = garden.otp("chaos", "--yes", *QUICK, "--seconds", "0.1", "--seed", "11", "--kind", "kill,segv")
        lines = done.stdout.splitlines()

        assert (0, "") == (done.returncode, done.stderr)
        assert 5 == sum("answered again after" in line for line in lines)
        assert ["KIND", "INJECTED", "ANSWERED", "MEDIAN", "P99", "WORST"] in [line.split() for line in lines]
        assert lines[-1].startswith("the tree held: 5 blows in ")
        assert lines[-1].endswith("--seed 11")

    def test_ctrl_c_ends_it_with_what_there_is(self, garden):
        """No blow is left half done."""
        with garden.pty("chaos", "--yes", "--rate", "1", "--seconds", "600", "--kind", "kill", columns=160) as terminal:
            terminal.wait_drawn("answered again")
            terminal.type("\x03")
            code = terminal.finish()

        assert 0 == code
        assert "not done any more" in terminal.drawn
        assert "Traceback" not in terminal.drawn


class TestOnesThatNobodyBringsBack:
    def test_are_struck_by_name_only(self, terminal):
        """They are gone, which is no fault of the tree, and are not struck again."""
        with terminal.run("storms:garden", "--name", "garden"):
            said = ran(terminal, "leaf", "stray", "--seconds", "0.4", "--seed", "1")
            left = os_pids(terminal)

        assert (2, 0, True) == (said["gone"], said["lost"], said["missed"] > 0)
        assert {"leaf", "stray"} & left.keys() == set()

    def test_under_a_dynamic_supervisor(self, garden):
        """Who is named there is struck, and waited for if its name says that it comes back."""
        said = ran(garden, "guest", "--kind", "kill", "--seconds", "0.06")

        assert (3, 0) == (said["answered"], said["gone"])

    def test_only_supervised(self, garden):
        """Leaves them out, and says so when nobody is left."""
        done = garden.otp("chaos", "--dry-run", "stray", "--only-supervised")

        assert 3 == done.returncode
        assert "no supervisor looks after it" in done.stderr


class TestTreesThatBreak:
    def test_a_server_that_does_not_come_back(self, terminal):
        """Exit code 1, and who it was."""
        with terminal.run("storms:slow"):
            said = ran(terminal, "--kind", "kill", "--seconds", "0.1", "--timeout", "0.3", code=1)

        assert (1, 4) == (said["lost"], said["missed"])
        assert ["snail"] == [blow["victim"] for blow in said["blows"] if blow["ending"] == "lost"]

    def test_a_supervisor_that_gives_up_and_comes_back(self, terminal):
        """Its own supervisor starts it again: the tree held."""
        with terminal.run("storms:brittle"):
            said = ran(terminal, "glass", "--kind", "kill", "--seconds", "0.04")

        assert ([("inner", "outer")] * 2, False) == (
            [(one["server"], one["started_again_by"]) for one in said["gave_up"]],
            said["tree_gave_up"],
        )
        assert 2 == said["answered"]

    def test_a_tree_that_gives_up(self, terminal):
        """Exit code 4, and no blow after that."""
        with terminal.run("storms:hopeless") as running:
            said = ran(terminal, "--kind", "kill", "--seconds", "2", code=4)
            code = running.finish()

        assert (True, 4) == (said["tree_gave_up"], code)
        assert len(said["blows"]) < said["planned"]

    def test_a_node_that_ends_meanwhile(self, terminal):
        """Is the end of the tree, too; what had happened until then is told."""
        with (
            terminal.run("storms:plain") as running,
            terminal.pty("chaos", "--yes", "--rate", "20", "--seconds", "600", columns=160) as storm,
        ):
            storm.wait_drawn("answered again")
            running.process.send_signal(signal.SIGKILL)
            code = storm.finish()

        assert 4 == code
        assert "its node has ended" in storm.drawn
        assert "Traceback" not in storm.drawn


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--kind", "flood"), "'flood' is no kind; there are kill, segv"),
            (("--kind", "kill,"), "'' is no kind"),
            (("--rate", "0"), "above 0"),
            (("--rate", "inf"), "above 0"),
            (("--seconds", "-1"), "above 0"),
            (("--timeout", "x"), "above 0"),
            (("--seed", "-1"), "from 0 on"),
        ],
    )
    def test_wrong(self, capsys, arguments, said):
        """Exit code 2."""
        with pytest.raises(SystemExit) as ended:
            commands.run_command(["chaos", "--yes", *arguments])

        assert 2 == ended.value.code
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "--dry-run shows what it would do, --yes does it"),
            (("--yes", "--rate", "1e300", "--seconds", "1e300"), "at most 1,000,000 blows"),
            (("--yes", "oak", "--kind", "hang"), "no server here has a watchdog"),
            (("--yes", "oak", "--kind", "stop"), "no server here is permanent"),
            (("--yes", "1"), "never ends a program or the node itself"),
            (("--yes", "2"), "never ends a program or the node itself"),
        ],
    )
    def test_nobody_is_struck(self, garden, arguments, said):
        """Exit code 2, and all servers are who they were."""
        before = os_pids(garden)
        done = garden.otp("chaos", *arguments)

        assert (2, "") == (done.returncode, done.stdout)
        assert said in done.stderr
        assert before == os_pids(garden)

    @pytest.mark.parametrize("arguments", [("--yes", "aple"), ("--yes", "--node", "nowhere"), ("--yes", "99999")])
    def test_nobody_of_that_name(self, garden, arguments):
        """Exit code 3."""
        assert 3 == garden.otp("chaos", *arguments).returncode

    def test_every_kind_is_offered(self):
        """The parser, which must not import what strikes, knows them all."""
        assert tuple(chaos.KINDS) == commands.CHAOS_KINDS
