"""Commands that look, from another terminal."""

import json
import os
import signal

import pytest

pytestmark = pytest.mark.slow  # each test starts programs


class TestTree:
    def test_shows_each_process_below_its_supervisor(self, shop):
        """A title, the pid, the OS pid, a status and the memory, one line each."""
        lines = shop.otp("tree").stdout.splitlines()

        assert lines[0].startswith("shop@")
        assert ["└─ shop", "   ├─ counter", "   └─ polite"] == [
            line.rpartition(" Shop")[0] or line.split(" Co")[0].split(" Po")[0] for line in lines[1:]
        ]
        assert all("MB" in line and "os " in line for line in lines[1:])

    def test_json(self, shop):
        """The same as nested objects."""
        (root,) = shop.json("tree")["tree"]

        assert ("shop", "supervisor") == (root["name"], root["kind"])
        assert ["counter", "polite"] == [child["name"] for child in root["children"]]
        assert {root["id"]} == {child["parent"] for child in root["children"]}
        assert all(child["rss_bytes"] > 0 for child in root["children"])

    def test_asks_no_process(self, shop):
        """A stopped process shows as stopped, and does not stop the command."""
        os_pid = find(shop, "polite")["os_pid"]
        os.kill(os_pid, signal.SIGSTOP)
        try:
            done = shop.otp("tree")
        finally:
            os.kill(os_pid, signal.SIGCONT)

        assert 0 == done.returncode
        assert "stopped" in next(line for line in done.stdout.splitlines() if "polite" in line)


class TestPs:
    def test_lists_all_processes(self, shop):
        """The program and the launcher, too."""
        done = shop.otp("ps")

        assert 0 == done.returncode
        assert {"launcher", "program", "supervisor", "server"} <= set(done.stdout.split())

    @pytest.mark.parametrize(("key", "field", "reverse"), [("id", "id", False), ("memory", "rss_bytes", True)])
    def test_sorts(self, shop, key, field, reverse):
        """By id, or the greatest first."""
        values = [one[field] for one in shop.json("ps", "--sort", key)]

        assert sorted(values, reverse=reverse) == values


class TestInspect:
    def test_shows_the_state(self, shop):
        """What the server says of itself stands beside what its box tells."""
        done = shop.otp("inspect", "polite")

        assert 0 == done.returncode
        assert ["state", "2"] in [line.split() for line in done.stdout.splitlines()]
        assert ["traps", "exits", "yes"] in [line.split() for line in done.stdout.splitlines()]

    def test_shows_the_limits(self, shop):
        """Those that are set."""
        done = shop.otp("inspect", "polite")

        assert ["limits", "rss_hard", "1000.0", "MB"] in [line.split() for line in done.stdout.splitlines()]
        assert [{}, {"rss_hard": 1_000_000_000}] == [find(shop, name)["limits"] for name in ("counter", "polite")]

    def test_json(self, shop):
        """What it said is under `said`."""
        facts = shop.json("inspect", "polite")

        assert ("polite", 2, None) == (facts["name"], facts["said"]["state"], facts["silent"])

    def test_supervisor(self, shop):
        """Its flags and its children."""
        done = shop.otp("inspect", "shop")

        assert "'one_for_one'" in done.stdout
        assert "counter <" in done.stdout

    def test_by_pid(self, shop):
        """A pid in each of its spellings names the same process."""
        one = find(shop, "polite")

        assert {"polite"} == {
            shop.json("inspect", text)["name"] for text in (str(one["id"]), f"<{one['id']}>", one["pid"])
        }

    def test_busy_process_is_described_without_it(self, shop):
        """The command says what the process is doing, and does not wait for it."""
        assert 0 == shop.otp("cast", "counter", "pause").returncode

        facts = shop.json("inspect", "counter")
        shop.otp("kill", "counter")

        assert ("busy", "cast 'pause'", None) == (facts["status"], facts["message_in_hand"], facts["said"])
        assert "busy" in facts["silent"]

    def test_unknown(self, shop):
        """Exit code 3, and a guess at what was meant."""
        done = shop.otp("inspect", "countre")

        assert 3 == done.returncode
        assert "did you mean counter?" in done.stderr


class TestWhy:
    def test_explains_the_last_death(self, shop):
        """Reason, restart, message in hand and traceback."""
        old = find(shop, "counter")
        shop.otp("call", "counter", "leave")

        done = shop.otp("why", "counter")

        assert 0 == done.returncode
        assert f"OS pid {old['os_pid']}" in done.stdout
        assert all(part in done.stdout for part in ("ValueError: gone", "call 'leave'", "Traceback", "restart"))

    def test_json(self, shop):
        """The fields of the record."""
        shop.otp("kill", "counter")

        record = shop.json("why", "counter")

        assert ("counter", "killed", "killed") == (record["server"], record["reason"], record["kind"])
        assert {"os_pid", "signal", "exit_code", "oom", "python_traceback", "restart", "died_at"} <= record.keys()

    @pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "latin-1", "ascii"])
    def test_words_that_have_no_encoding(self, shop, encoding):
        """Half a surrogate, or a letter that the terminal has not: escaped in a text, and JSON all the same."""
        shop.otp("call", "counter", r"('odd', '\udc80 \u20ac')")
        done = shop.otp("why", "counter", PYTHONIOENCODING=encoding)
        as_data = shop.otp("why", "counter", "--json", PYTHONIOENCODING=encoding)

        assert (0, 0) == (done.returncode, as_data.returncode)
        assert r"ValueError: \udc80" in done.stdout
        assert "exception ValueError: \udc80 \u20ac" == json.loads(as_data.stdout)["reason"]

    def test_says_what_it_means(self, shop):
        """A signal in words, and what to look for."""
        old = find(shop, "counter")
        os.kill(old["os_pid"], signal.SIGSEGV)
        shop.otp("call", "counter", "val")

        done = shop.otp("why", "counter")

        assert all(part in done.stdout for part in ("SIGSEGV", "a segmentation fault", "native stack", "it lived"))

    def test_all(self, shop):
        """Every death on record, the latest first; as JSON a list."""
        for _ in range(2):
            shop.otp("call", "counter", "leave")
        shop.otp("kill", "counter")

        text = shop.otp("why", "counter", "--all").stdout
        records = shop.json("why", "counter", "--all")

        ends = ["killed", "exception ValueError: gone", "exception ValueError: gone"]
        assert ends == [record["reason"] for record in records[:3]]
        assert sorted(records, key=lambda record: -record["died_at"]) == records
        assert len(records) == text.count("it lived")
        assert records[0] == shop.json("why", "counter")

    def test_alive_and_well(self, shop):
        """Nothing to explain is no failure."""
        done = shop.otp("why", "polite")

        assert 0 == done.returncode
        assert "polite" in done.stdout
        assert "alive" in done.stdout
        assert None is shop.json("why", "polite")
        assert [] == shop.json("why", "polite", "--all")

    def test_unknown(self, shop):
        """Exit code 3; it says what was looked for."""
        done = shop.otp("why", "nobody")

        assert 3 == done.returncode
        assert "no process nobody" in done.stderr
        assert "no death of nobody is on record" in done.stderr


def find(terminal, name):
    return next(one for one in terminal.json("ps") if one["name"] == name)
