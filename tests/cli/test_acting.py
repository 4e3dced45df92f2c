"""Commands that act on a process, from another terminal."""

import json

import pytest

pytestmark = pytest.mark.slow  # each test starts programs


class TestCall:
    @pytest.mark.parametrize(
        ("request_text", "reply"),
        [
            ("hello", "('unknown', 'hello')"),
            ("'hello'", "('unknown', 'hello')"),
            ("('add', [1, None])", "('unknown', ('add', [1, None]))"),
            ("True", "('unknown', True)"),
            ("-3", "('unknown', -3)"),
            ("a b", "('unknown', 'a b')"),
        ],
    )
    def test_request_is_a_literal_or_a_word(self, shop, request_text, reply):
        """What Python does not read as a literal is a str."""
        done = shop.otp("call", "counter", "--", request_text)

        assert (0, f"{reply}\n") == (done.returncode, done.stdout)

    def test_json(self, shop):
        """Tuples and sets are lists there."""
        assert {"server": "counter", "request": "pair", "reply": ["a", [1]]} == shop.json("call", "counter", "pair")

    def test_half_a_literal_is_wrong_usage(self, shop):
        """A slip of the hand is not sent as a word."""
        assert 2 == shop.otp("call", "counter", "('add', 1").returncode

    def test_exception_of_the_server(self, shop):
        """Exit code 1; the exception is the text."""
        done = shop.otp("call", "counter", "refuse")

        assert (1, "otp: KeyError: 'sold out'\n") == (done.returncode, done.stderr)

    def test_death_of_the_server(self, shop):
        """Exit code 1; with `--json` the reason is in the document."""
        done = shop.otp("call", "counter", "leave", "--json")

        assert 1 == done.returncode
        assert "ServerDown" == json.loads(done.stdout)["error"]["type"]
        assert "exception ValueError: gone" == json.loads(done.stdout)["error"]["reason"]

    def test_timeout(self, shop):
        """Exit code 1."""
        shop.otp("cast", "counter", "pause")
        done = shop.otp("call", "counter", "val", "--timeout", "0.1")
        shop.otp("kill", "counter")

        assert 1 == done.returncode
        assert "counter" in done.stderr

    def test_unknown_process(self, shop):
        """Exit code 3."""
        assert 3 == shop.otp("call", "nobody", "val").returncode
        assert 3 == shop.otp("call", "99999", "val").returncode
        assert 3 == shop.otp("call", "<2@elsewhere>", "val").returncode

    @pytest.mark.parametrize("arguments", [("call",), ("call", "counter"), ("frobnicate",), ("tree", "--jsn"), ()])
    def test_wrong_usage(self, terminal, arguments):
        """Exit code 2, before anything is looked for."""
        assert 2 == terminal.otp(*arguments).returncode


class TestCast:
    def test_arrives(self, shop):
        """It is handled before the call that follows."""
        before = shop.json("call", "polite", "val")["reply"]

        done = shop.otp("cast", "polite", "('add', 5)")
        after = shop.json("call", "polite", "val")["reply"]
        shop.otp("cast", "polite", "('add', -5)")

        assert (0, "", before + 5) == (done.returncode, done.stdout, after)

    def test_unknown_process(self, shop):
        """Exit code 3, where the library would drop it silently."""
        assert 3 == shop.otp("cast", "nobody", "inc").returncode


class TestStop:
    def test_child(self, shop):
        """It ends normally, and the permanent child comes back."""
        old = shop.json("inspect", "counter")["id"]

        done = shop.json("stop", "counter")

        assert ("counter", "normal", True) == (done["name"], done["reason"], done["coming_back"])
        assert 1 == shop.json("call", "counter", "val")["reply"]
        assert old != shop.json("inspect", "counter")["id"]

    def test_too_late(self, shop):
        """A busy process is not waited for longer than asked: exit code 1 and what to do."""
        shop.otp("cast", "counter", "pause")
        done = shop.otp("stop", "counter", "--timeout", "0.1")
        shop.otp("kill", "counter")

        assert 1 == done.returncode
        assert "otp kill counter" in done.stderr

    def test_program_is_no_server(self, shop):
        """The node's program and launcher are not stopped like that."""
        assert 1 == shop.otp("stop", "1").returncode


class TestKill:
    def test_child(self, shop):
        """Its reason is "killed", and its supervisor starts it again."""
        old = shop.json("inspect", "counter")["os_pid"]

        done = shop.otp("kill", "counter")

        assert 0 == done.returncode
        assert "killed" in done.stdout
        assert 1 == shop.json("call", "counter", "val")["reply"]
        assert old != shop.json("inspect", "counter")["os_pid"]

    def test_unknown_process(self, shop):
        """Exit code 3."""
        assert 3 == shop.otp("kill", "nobody").returncode


class TestWhichNode:
    def test_none(self, terminal):
        """Exit code 3, and how to start one."""
        done = terminal.otp("tree")

        assert 3 == done.returncode
        assert "run module:app" in done.stderr

    def test_several(self, terminal):
        """Exit code 3 with a list; `--node` or OTP_NODE chooses."""
        with terminal.run("shop:spec", "--name", "one"), terminal.run("shop:spec", "--name", "two"):
            unsaid = terminal.otp("tree")
            one = terminal.otp("tree", "--node", "one")
            two = terminal.otp("tree", OTP_NODE="two")

        assert 3 == unsaid.returncode
        assert ["one@", "two@"] == [line.split("@")[0].strip() + "@" for line in unsaid.stderr.splitlines()[1:]]
        assert (0, 0) == (one.returncode, two.returncode)
        assert ("one@", "two@") == (one.stdout[:4], two.stdout[:4])

    def test_not_running(self, shop):
        """Exit code 3, listing those that are."""
        done = shop.otp("ps", "--node", "nowhere")

        assert 3 == done.returncode
        assert "running: shop@" in done.stderr
