"""`otp doctor`: what it finds on this machine, and on one made worse."""

import json

import pytest

pytestmark = pytest.mark.slow  # each test starts programs


class TestDoctor:
    def test_all_is_well_here(self, terminal):
        """Whoever can run these tests can run nodes."""
        done = terminal.otp("doctor")

        assert 0 == done.returncode
        assert done.stdout.splitlines()[-1].startswith("all well")

    def test_json(self, terminal):
        """Each finding has its check, a level and a text."""
        found = terminal.json("doctor")

        assert found["ok"]
        assert {"system", "Python", "/proc", "directory", "descriptors", "pipes", "nodes"} <= {
            one["check"] for one in found["findings"]
        }

    def test_directory_of_others(self, terminal):
        """A runtime directory that others may enter is a failure, with what to do."""
        terminal.directory.mkdir(mode=0o755)

        done = terminal.otp("doctor")

        assert 1 == done.returncode
        assert "chmod 700" in done.stdout

    def test_stray_directory(self, terminal):
        """What a node left behind is named."""
        (terminal.directory / "lost@host").mkdir(parents=True)
        terminal.directory.chmod(0o700)

        done = terminal.otp("doctor", "--json")

        (stray,) = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "stray"]
        assert "warning" == stray["level"]
        assert "lost@host" in stray["advice"]
