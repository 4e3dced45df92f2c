"""System events: how they are taken apart, and how they read."""

import pytest

from otp_runtime.core.debug import SHOWN_CHARS, describe, parts, shown
from otp_runtime.terms.pid import Pid

PID = Pid("test@host", 7, 1)


class Client:
    pid = PID


class TestDescribe:
    @pytest.mark.parametrize(
        ("event", "text"),
        [
            (("in", ("$gen_call", Client(), "val")), "c got call 'val' from <7@test@host>"),
            (("in", ("$gen_cast", "inc")), "c got cast 'inc'"),
            (("in", "hello"), "c got 'hello'"),
            (("in", ("$gen_cast", 1, 2)), "c got ('$gen_cast', 1, 2)"),
            (("continue", 1), "c continues with 1"),
            (("out", 1, Client(), 2), "c sent 1 to <7@test@host>, new state 2"),
            (("noreply", 2), "c new state 2"),
            (("terminate", "normal", 2), "c ends: 'normal', state 2"),
            (("postpone", "x", "locked"), "c postpone ('x', 'locked')"),
            ("what", "c event 'what'"),
        ],
    )
    def test_one_line(self, event, text):
        """For OTP's events, and for those of any behaviour."""
        assert text == describe("c", parts(event))


class TestShown:
    def test_is_cut(self):
        """A line stays a line."""
        assert SHOWN_CHARS == len(shown("x" * 2 * SHOWN_CHARS))

    def test_a_broken_repr(self):
        """Is shown as that."""

        class Broken:
            def __repr__(self):
                raise ValueError

        assert "<Broken whose repr raised ValueError>" == shown(Broken())
