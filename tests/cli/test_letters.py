"""`otp letters`: messages that killed their server too often, seen, sent again and dropped from a terminal."""

import pytest

from tests.cli.conftest import Terminal

pytestmark = pytest.mark.slow  # each test starts programs


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    """A terminal beside a shop whose till was sent something it died of."""
    terminal = Terminal(tmp_path_factory.mktemp("post") / "nodes")
    with terminal.run("shop:lasting", "--name", "shop"):
        terminal.otp("cast", "till", "boom")
        assert terminal.otp("call", "till", "val").stdout == "0\n"
        yield terminal


@pytest.fixture
def letter(post):
    """A dead letter, for the one who drops it."""
    post.otp("cast", "other", "boom")
    post.otp("call", "other", "val")
    (found,) = [one for one in post.json("letters", "ls") if one["server"] == "other"]
    yield found
    post.otp("letters", "drop", found["id"])


class TestLetters:
    def test_ls(self, post):
        """One line for each, and the same without a word."""
        head, line = post.otp("letters", "ls").stdout.splitlines()

        assert head.split() == ["ID", "SERVER", "DEATHS", "AT", "MESSAGE", "LAST", "REASON"]
        assert ["till", "2", "cast", "'boom'"] == [line.split()[at] for at in (1, 2, 5, 6)]
        assert post.otp("letters").stdout == f"{head}\n{line}\n"

    def test_json(self, post):
        """A list; of each death its reason and time, of the letter those of the last."""
        (found,) = post.json("letters")

        assert ["at", "deaths", "id", "message", "reason", "server"] == sorted(found)
        assert ("till", "cast 'boom'", "exception ValueError: boom") == (
            found["server"],
            found["message"],
            found["reason"],
        )
        assert ["exception ValueError: boom"] * 2 == [one["reason"] for one in found["deaths"]]
        assert found["deaths"][0]["at"] <= found["deaths"][1]["at"] == found["at"]

    def test_show(self, post):
        """One, with its deaths."""
        (found,) = post.json("letters", "ls")
        first, *deaths = post.otp("letters", "show", found["id"]).stdout.splitlines()

        assert f"{found['id']}  till  cast 'boom'" == first
        assert [line.split("  ")[-1] for line in deaths] == ["exception ValueError: boom"] * 2
        assert post.json("letters", "show", found["id"]) == found

    @pytest.mark.parametrize("what", ["show", "replay", "drop"])
    def test_a_wrong_id(self, post, what):
        """No such thing, and what there is instead."""
        (found,) = post.json("letters", "ls")
        done = post.otp("letters", what, "12345678")

        assert (3, f"otp: no dead letter has the id '12345678'; there are: {found['id']}\n") == (
            done.returncode,
            done.stderr,
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ("show",),
            ("drop",),
            ("replay",),
            ("ls", "12345678"),
            ("show", "--all"),
            ("drop", "12345678", "--all"),
            ("drop", "12345678", "--to", "till"),
            ("burn", "12345678"),
        ],
    )
    def test_wrong_usage(self, post, arguments):
        """Exit code 2."""
        assert post.otp("letters", *arguments).returncode == 2

    def test_replay_to_nobody(self, post, letter):
        """It is kept."""
        done = post.otp("letters", "replay", letter["id"], "--to", "nobody")

        assert (3, "otp: no process nobody on shop@vm"[:29]) == (done.returncode, done.stderr[:29])
        assert letter in post.json("letters")

    def test_replay(self, post, letter):
        """Sent to the server again, which may die of it again."""
        done = post.otp("letters", "replay", letter["id"])
        post.otp("call", "other", "val")
        again = [one for one in post.json("letters") if one["server"] == "other"]

        assert f"sent {letter['id']} to other: cast 'boom'\n" == done.stdout
        assert letter["id"] not in [one["id"] for one in again]
        assert len(again) == 1
        post.otp("letters", "drop", again[0]["id"])

    def test_replay_of_a_call(self, post):
        """Asked again, and the answer printed: here by another server, which has one."""
        post.otp("call", "other", "leave")
        (found,) = [one for one in post.json("letters") if one["server"] == "other"]
        done = post.otp("letters", "replay", found["id"], "--to", "till")

        assert "call 'leave'" == found["message"]
        assert f"sent {found['id']} to till: call 'leave'\n  its reply: 'I stay'\n" == done.stdout

    def test_replay_of_a_deadly_call(self, post):
        """The death is told, and the letter kept; the call that died now is one more."""
        post.otp("call", "other", "leave")
        (found,) = [one for one in post.json("letters") if one["server"] == "other"]
        done = post.otp("letters", "replay", found["id"])
        post.otp("call", "other", "val")
        left = [one["id"] for one in post.json("letters") if one["server"] == "other"]
        for one in left:
            post.otp("letters", "drop", one)

        assert (1, True) == (done.returncode, "could not be sent to other, and is kept" in done.stderr)
        assert (found["id"], 2) == (left[0], len(left))

    def test_drop(self, post, letter):
        """It is gone."""
        said = post.otp("letters", "drop", letter["id"]).stdout

        assert said == "dropped 1 letter\n"
        assert letter not in post.json("letters")

    def test_drop_all(self, tmp_path):
        """All of them, also when there are none."""
        terminal = Terminal(tmp_path / "nodes")
        with terminal.run("shop:lasting", "--name", "shop"):
            nothing = terminal.otp("letters", "drop", "--all").stdout
            for name in ("till", "other"):
                terminal.otp("cast", name, "boom")
                terminal.otp("call", name, "val")
            dropped = terminal.json("letters", "drop", "--all")

            assert ("dropped 0 letters\n", 2, []) == (nothing, len(dropped), terminal.json("letters"))

    def test_no_node(self, tmp_path):
        """As with any command."""
        assert Terminal(tmp_path / "nodes").otp("letters").returncode == 3

    def test_status(self, post):
        """`inspect` tells of the mailbox."""
        assert post.json("inspect", "till")["said"]["mailbox"] == "durable"
