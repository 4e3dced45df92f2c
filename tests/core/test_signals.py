"""What exit signals and broken links do: OTP's table."""

import pytest

from otp_runtime.core.signals import (
    Deliver,
    Die,
    Ignore,
    on_exit_signal,
    on_link_to_dead,
    on_parent_exit,
)


class TestOnExitSignal:
    @pytest.mark.parametrize(
        ("kind", "reason", "trapping", "plain"),
        [
            ("exit", "kill", Die("killed"), Die("killed")),
            ("exit", "normal", Deliver(), Ignore()),
            ("exit", "shutdown", Deliver(), Die("shutdown")),
            ("exit", "killed", Deliver(), Die("killed")),
            ("exit", ("oops", 7), Deliver(), Die(("oops", 7))),
            ("link", "kill", Deliver(), Die("kill")),
            ("link", "killed", Deliver(), Die("killed")),
            ("link", "normal", Deliver(), Ignore()),
            ("link", "boom", Deliver(), Die("boom")),
            ("link", "noproc", Deliver(), Die("noproc")),
        ],
    )
    def test_table(self, kind, reason, trapping, plain):
        """Trapping processes get a message, others die of what is not normal; a sent kill kills."""
        assert trapping == on_exit_signal(True, reason, kind=kind)
        assert plain == on_exit_signal(False, reason, kind=kind)

    def test_process_can_exit_itself_normally(self):
        """Only the sender itself dies of a sent `"normal"`."""
        assert Die("normal") == on_exit_signal(False, "normal", from_self=True, kind="exit")
        assert Deliver() == on_exit_signal(True, "normal", from_self=True, kind="exit")


class TestOnParentExit:
    @pytest.mark.parametrize("reason", ["normal", "shutdown", "boom"])
    def test_trapping_behaviour_stops_for_every_reason(self, reason):
        """Also for `"normal"`."""
        assert Die(reason) == on_parent_exit(True, reason, kind="link")

    def test_plain_behaviour_outlives_a_normal_end(self):
        """As any linked process does."""
        assert Ignore() == on_parent_exit(False, "normal", kind="link")

    def test_kill_is_killed(self):
        """It cannot be trapped by anybody."""
        assert Die("killed") == on_parent_exit(True, "kill", kind="exit")


class TestOnLinkToDead:
    def test_reason_is_noproc(self):
        """The link is broken before it exists."""
        assert "noproc" == on_link_to_dead()
