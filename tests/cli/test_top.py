"""`top`, on a terminal and without one."""

import json
import os
import signal
import subprocess
import sys

import pytest

from otp_runtime.cli import commands, top

pytestmark = pytest.mark.slow  # each test starts programs

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from otp_runtime.cli import main; sys.exit(main())"
PROGRAMS = {"rich": ("-m", "otp_runtime"), "plain": ("-c", WITHOUT_RICH)}


def processes(shop, *arguments):
    return {one["name"]: one for one in shop.json("top", "--interval", "0.2", *arguments)["processes"]}


class TestTable:
    def test_without_a_terminal_one_table_is_printed(self, shop):
        """A line for the node, a head, a line for each process."""
        done = shop.otp("top", "--interval", "0.2")
        first, head, *rows = done.stdout.splitlines()

        assert (0, "") == (done.returncode, done.stderr)
        assert first.startswith("shop@")
        assert ["ID", "NAME", "KIND", "UNDER", "STATE", "CPU", "%"] == head.split()[:7]
        assert {"counter", "polite", "shop", "launcher"} <= {row.split()[1] for row in rows}

    def test_so_many_tables(self, shop):
        """An empty line between them."""
        done = shop.otp("top", "--interval", "0.1", "--count", "2")

        assert 2 == len(done.stdout.split("\n\n"))

    def test_once_is_one_on_a_terminal_too(self, shop):
        """It is printed there, not drawn."""
        with shop.pty("top", "--once", "--interval", "0.1") as terminal:
            code = terminal.finish()

        assert 0 == code
        assert "polite" in terminal.drawn
        assert "\x1b[?1049h" not in terminal.drawn

    def test_filter(self, shop):
        """By name, class, kind or state, in any case."""
        by_class = processes(shop, "--filter", "COUNTER")
        by_kind = processes(shop, "--filter", "supervisor")
        done = shop.otp("top", "--interval", "0.1", "--filter", "nothing like it")

        assert [{"counter"}, {"shop"}] == [by_class.keys(), by_kind.keys()]
        assert "no process fits the filter" in done.stdout

    @pytest.mark.parametrize("key", ["memory", "handled", "id", "name"])
    def test_sorts(self, shop, key):
        """The greatest first; ids and names from the least."""
        field = {"memory": "unique_bytes", "handled": "handled", "id": "id", "name": "name"}[key]
        found = shop.json("top", "--interval", "0.1", "--sort", key, "--filter", "co")["processes"]
        values = [one[field] for one in found]

        assert sorted(values, reverse=key in {"memory", "handled"}) == values

    def test_every_sort_key_is_offered(self):
        """The parser, which must not import the command, knows them all."""
        assert commands.TOP_SORT_KEYS == top.SORT_KEYS


class TestJson:
    def test_one_object(self, shop):
        """Plain data of the node and each process."""
        said = shop.json("top", "--once", "--interval", "0.2")

        assert said["node"].startswith("shop@")
        assert said["seconds"] == pytest.approx(0.2, abs=0.15)

    def test_a_stream(self, shop):
        """A line each."""
        done = shop.otp("top", "--interval", "0.1", "--json", "--count", "3")
        times = [json.loads(line)["at"] for line in done.stdout.splitlines()]

        assert 3 == len(times)
        assert sorted(times) == times

    def test_facts(self, shop):
        """Supervisor, state, memory, processor, messages."""
        found = processes(shop)
        counter = found["counter"]

        assert ("idle", "server", 0) == (counter["state"], counter["kind"], counter["mailbox_bytes"])
        assert counter["supervisor"] == f"shop <{found['shop']['id']}>"
        assert 0 < counter["unique_bytes"] <= counter["share_bytes"] <= counter["rss_bytes"]
        assert (0.0, True) == (counter["handled_per_second"], counter["cpu_percent"] >= 0.0)

    def test_what_waits_in_the_mailbox(self, shop):
        """Also where the server does not read: of one that is stopped nothing is asked."""
        os_pid = processes(shop)["polite"]["os_pid"]
        os.kill(os_pid, signal.SIGSTOP)
        try:
            shop.otp("cast", "polite", "inc")
            polite = processes(shop)["polite"]
        finally:
            os.kill(os_pid, signal.SIGCONT)

        assert ("stopped", True) == (polite["state"], polite["mailbox_bytes"] > 0)


class TestLive:
    @pytest.mark.parametrize("look", PROGRAMS)
    def test_it_refreshes_in_place_and_ends_with_q(self, shop, look):
        """The page goes where it came from, and so do the terminal's settings."""
        with shop.pty("top", "--interval", "0.2", program=PROGRAMS[look]) as terminal:
            terminal.wait_drawn("\x1b[?1049h", "polite", "shop@")
            terminal.wait_drawn("polite", "shop@")
            is_taken = not terminal.is_as_before()
            terminal.type("q")
            code = terminal.finish()
            is_back = terminal.is_as_before()

        assert (0, True, True) == (code, is_taken, is_back)
        assert "\x1b[?1049l" in terminal.drawn

    @pytest.mark.parametrize("look", PROGRAMS)
    def test_ctrl_c_ends_it_too(self, shop, look):
        """Exit code 0: it was looked at as long as somebody wanted."""
        with shop.pty("top", "--interval", "30", program=PROGRAMS[look]) as terminal:
            terminal.wait_drawn("polite")
            terminal.type("\x03")
            code = terminal.finish()
            is_back = terminal.is_as_before()

        assert (0, True) == (code, is_back)
        assert "Traceback" not in terminal.drawn

    @pytest.mark.parametrize("look", PROGRAMS)
    def test_it_follows_the_size_of_the_terminal(self, shop, look):
        """At once: columns that have no room go, and come back."""
        with shop.pty("top", "--interval", "30", program=PROGRAMS[look], columns=150) as terminal:
            wide = terminal.wait_drawn("RESTARTS", "AGE", "polite")
            terminal.resize(60, 30)
            narrow = terminal.wait_drawn("UNIQUE", "polite")
            terminal.type("q")
            code = terminal.finish()

        assert 0 == code
        assert ["UNDER" in wide, "UNDER" in narrow, "SHARE" in narrow] == [True, False, False]

    def test_keys(self, shop):
        """`s` sorts by the next key, the space bar looks now."""
        with shop.pty("top", "--interval", "30") as terminal:
            terminal.wait_drawn("(cpu)", "polite")
            terminal.type("s")
            terminal.wait_drawn("(memory)", "polite")
            terminal.type(" ")
            terminal.wait_drawn("polite")
            terminal.type("q")

            assert 0 == terminal.finish()

    def test_sigterm_gives_the_terminal_back(self, shop):
        """As every end does that a program hears of."""
        with shop.pty("top", "--interval", "30") as terminal:
            terminal.wait_drawn("polite")
            terminal.process.terminate()
            code = terminal.finish()
            is_back = terminal.is_as_before()

        assert (143, True) == (code, is_back)
        assert "\x1b[?1049l" in terminal.drawn

    def test_a_name_cannot_move_the_cursor(self, shop):
        """What is no letter is shown as a question mark."""
        assert "a?[2Jb?c" == top._printable("a\x1b[2Jb\nc")


class TestTheEndOfTheNode:
    def test_is_said(self, terminal):
        """Exit code 3, also when all of it was killed at once."""
        with terminal.run("shop:shop", "--name", "shop") as running:
            watching = subprocess.Popen(
                [sys.executable, "-m", "otp_runtime", "top", "--json", "--count", "1000", "--interval", "0.1"],
                cwd=terminal.here,
                env=terminal.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            watching.stdout.readline()
            running.send(signal.SIGTERM)
            _, said = watching.communicate(timeout=20)

        assert (3, "otp: the node has ended\n") == (watching.returncode, said)

    def test_on_a_terminal(self, terminal):
        """The page is put away first, and the word is what is left."""
        with terminal.run("shop:shop", "--name", "shop") as running, terminal.pty("top", "--interval", "0.1") as top_:
            top_.wait_drawn("polite")
            running.send(signal.SIGTERM)
            code = top_.finish()

        assert 3 == code
        assert top_.drawn.rindex("\x1b[?1049l") < top_.drawn.rindex("otp: the node has ended")


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--sort", "size"), "invalid choice: 'size'"),
            (("--interval", "0"), "above 0"),
            (("--interval", "nan"), "above 0"),
            (("--count", "0"), "from 1 on"),
            (("--once", "--count", "2"), "not allowed with argument --once"),
            (("counter",), "unrecognized arguments"),
        ],
    )
    def test_wrong(self, capsys, arguments, said):
        """Exit code 2."""
        with pytest.raises(SystemExit) as ended:
            commands.run_command(["top", *arguments])

        assert 2 == ended.value.code
        assert said in capsys.readouterr().err

    def test_no_such_node(self, shop):
        """Exit code 3, with those that run."""
        done = shop.otp("top", "--node", "nowhere")

        assert 3 == done.returncode
        assert "running: shop@" in done.stderr
