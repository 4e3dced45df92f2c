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

    @pytest.mark.parametrize("chapter", ["counter", "strategies", "crash", "upgrade", "cluster"])
    def test_one_part(self, terminal, chapter):
        """Each part stands alone."""
        done = terminal.otp("demo", chapter)

        assert 0 == done.returncode
        assert done.stdout.endswith("claims checked, all hold\n")

    def test_without_the_extra(self, terminal, tmp_path):
        """The chapter about clusters says which one it needs; the story goes on."""
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['nats'] = None\n")
        done = terminal.otp("demo", "cluster", PYTHONPATH=f"{tmp_path}:{terminal.environment['PYTHONPATH']}")

        assert "pip install 'otp-runtime[cluster]'" in done.stdout
        assert (0, "2 claims checked, all hold") == (done.returncode, done.stdout.splitlines()[-1])

    def test_unknown_part(self, terminal):
        """Exit code 2."""
        assert 2 == terminal.otp("demo", "cooking").returncode
