"""What is drawn, and what comes of a blow; the command line is tested on whole trees."""

import pytest

from otp_runtime import GenServer, process
from otp_runtime.terms.pid import Pid
from otp_runtime.testing import freeze, thaw
from otp_runtime.testing.chaos import KINDS, Chaos, Strike, Victim, draw, is_suitable
from tests.process.shared_node import _nothing_left, me, otp_node


def victim(title, restart="permanent", **facts):
    return Victim(title, Pid("n@h", ord(title), 1), name=title, restart=restart, **facts)


class TestDraw:
    def test_a_seed_draws_the_same_again(self):
        """In whatever order the victims and kinds are given."""
        victims = [victim(title) for title in "abcde"]

        assert draw(victims, ["kill", "stop"], 50, 1.0, 7) == draw(victims[::-1], ["stop", "kill"], 50, 1.0, 7)
        assert draw(victims, ["kill"], 50, 1.0, 7) != draw(victims, ["kill"], 50, 1.0, 8)

    def test_evenly_apart(self):
        """A supervisor that survives the mean rate is not struck in bunches."""
        strikes = draw([victim("a")], ["kill"], 4, 2.0, 1)

        assert [(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5)] == [(one.number, one.at) for one in strikes]

    def test_a_kind_that_suits_nobody_is_left_out(self):
        strikes = draw([victim("a", "transient")], ["stop", "hang", "kill"], 20, 1.0, 1)

        assert {"kill"} == {one.kind for one in strikes}
        assert [] == draw([victim("a")], ["hang"], 20, 1.0, 1)

    def test_kinds_come_equally_often(self):
        """However many it suits: one watched server among many is hung as often as the others are killed."""
        victims = [victim("a", has_watchdog=True), *(victim(title) for title in "bcdefghij")]
        kinds = [one.kind for one in draw(victims, ["kill", "hang"], 400, 1.0, 3)]

        assert 150 < kinds.count("hang") < 250


class TestSuitable:
    @pytest.mark.parametrize(
        ("restart", "kinds"),
        [
            ("permanent", {"kill", "segv", "stop", "exception", "oom"}),
            ("transient", {"kill", "segv", "exception", "oom"}),
            ("temporary", {"kill", "segv", "stop", "exception", "oom"}),  # chosen by name: gone after any
            (None, {"kill", "segv", "stop", "exception", "oom"}),
        ],
    )
    def test_by_restart_type(self, restart, kinds):
        assert kinds == {kind for kind in KINDS if is_suitable(victim("a", restart), kind)}

    def test_a_hang_takes_a_watchdog(self):
        assert is_suitable(victim("a", has_watchdog=True), "hang")
        assert not is_suitable(victim("a"), "hang")


class Deaf(GenServer):
    def init(self, arg):
        return arg


@pytest.mark.usefixtures("me")
class TestStrike:
    def strike(self, pid, kind, *, timeout=0.2, **facts):
        return Chaos(timeout).strike(Strike(1, 0.0, kind, Victim("deaf", pid, **facts)))

    def test_one_that_nobody_brings_back_is_gone(self):
        """And is not struck again."""
        pid = Deaf.start()
        chaos = Chaos(1.0)
        strike = Strike(1, 0.0, "kill", Victim("deaf", pid))

        assert ["gone", "missed"] == [chaos.strike(strike).ending for _ in range(2)]
        assert not process.alive(pid)

    def test_one_that_has_ended_is_missed(self):
        with Deaf.start_link() as pid:
            pass

        assert "missed" == self.strike(pid, "kill").ending

    def test_one_that_does_not_read_lives_on(self):
        """Its time is over before the message is read that was to end it."""
        pid = Deaf.start()
        freeze(pid)
        blow = self.strike(pid, "exception")
        is_alive = process.alive(pid)
        thaw(pid)

        assert ("missed", True) == (blow.ending, is_alive)
        assert "is alive after 0.2 s" in blow.note

    def test_a_hang_that_nobody_ends_is_ended(self):
        """No server is left behind that hangs: it is killed, and that is said."""
        pid = Deaf.start()
        blow = self.strike(pid, "hang", restart="permanent", has_watchdog=True)

        assert (False, "gone") == (process.alive(pid), blow.ending)
        assert "nobody ended its hang within 0.2 s: it was killed" in blow.note


__all__ = ["_nothing_left", "me", "otp_node"]
