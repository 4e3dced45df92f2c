"""The demo, without a terminal: a story in plain lines in which every claim holds."""

import re

import pytest

pytestmark = pytest.mark.slow  # each test starts programs


class TestDemo:
    def test_every_claim_holds(self, terminal):
        """Exit code 0; the last line counts the claims; nothing is left."""
        done = terminal.otp("demo")

        claims = done.stdout.count("\n   ✓ ")
        assert (0, "") == (done.returncode, done.stderr)
        assert re.fullmatch(r"(\d+) claims checked, all hold", done.stdout.splitlines()[-1])[1] == str(claims)
        assert claims > 25
        assert "\x1b" not in done.stdout
        assert 3 == terminal.otp("tree").returncode

    @pytest.mark.parametrize("chapter", ["counter", "strategies", "crash", "upgrade"])
    def test_one_part(self, terminal, chapter):
        """Each part stands alone."""
        done = terminal.otp("demo", chapter)

        assert 0 == done.returncode
        assert done.stdout.endswith("claims checked, all hold\n")

    def test_unknown_part(self, terminal):
        """Exit code 2."""
        assert 2 == terminal.otp("demo", "cooking").returncode
