"""`otp state`: durable states, seen and dropped from a terminal."""

import pytest

from tests.cli.conftest import Terminal

pytestmark = pytest.mark.slow  # each test starts programs


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A terminal after the end of a shop whose counter kept the state 7."""
    directory = tmp_path_factory.mktemp("kept")
    terminal = Terminal(directory / "nodes")
    terminal.environment["XDG_DATA_HOME"] = str(directory / "data")
    with terminal.run("shop:durable", "--name", "shop") as running:
        terminal.otp("cast", "keeper", "('add', 7)")
        assert terminal.otp("call", "keeper", "val").stdout == "7\n"
        terminal.held = terminal.otp("state", "drop", "keeper")
        running.send(15)
        running.finish()
    return terminal


class TestState:
    def test_ls(self, kept):
        """One line for each server."""
        head, line = kept.otp("state", "ls").stdout.splitlines()

        assert head.split() == ["KEY", "NODE", "CLASS", "GENERATION", "BYTES", "SAVED", "HELD", "BY", "FILE"]
        assert ["keeper", "shop.Counter", "1", "1"] == [line.split()[at] for at in (0, 2, 3, 4)]

    def test_json(self, kept):
        """The same as data, and the file's whole path."""
        (found,) = kept.json("state", "ls")

        assert ("keeper", 1, None) == (found["key"], found["generation"], found["held_by"])
        assert kept.json("state", "ls", "--file", found["file"], "--node", "shop") == [found]

    def test_show(self, kept):
        """As Python writes it."""
        assert kept.otp("state", "show", "keeper").stdout == "7\n"
        assert kept.json("state", "show", "keeper")["state"] == "7"

    def test_another_node_has_none(self, kept):
        """No such thing, and what there is instead."""
        done = kept.otp("state", "show", "keeper", "--node", "other")

        assert (3, "otp: no durable state is kept under 'keeper'; there are: none\n") == (done.returncode, done.stderr)

    def test_what_a_server_holds_is_not_dropped(self, kept):
        """It would write it again, or over a newer one."""
        assert kept.held.returncode == 1
        assert "'keeper' is held by the running OS process" in kept.held.stderr

    @pytest.mark.parametrize("arguments", [("drop",), ("show",), ("ls", "keeper"), ("forget", "keeper")])
    def test_wrong_usage(self, kept, arguments):
        """Exit code 2."""
        assert kept.otp("state", *arguments).returncode == 2

    def test_no_database(self, kept, tmp_path):
        """Named, and no traceback."""
        (tmp_path / "diary").write_text("a diary " * 100)
        done = kept.otp("state", "ls", "--file", str(tmp_path / "diary"))

        assert done.returncode == 1
        assert done.stderr.endswith("diary is out of reach: file is not a database\n")

    def test_no_file(self, kept, tmp_path):
        """It is not made."""
        done = kept.otp("state", "ls", "--file", str(tmp_path / "none.db"))

        assert (3, False) == (done.returncode, (tmp_path / "none.db").exists())

    def test_drop(self, kept):
        """The next start is fresh."""
        said = kept.otp("state", "drop", "keeper").stdout

        assert (said, kept.json("state", "ls")) == ("dropped the state of 'keeper' (shop.Counter, generation 1)\n", [])
