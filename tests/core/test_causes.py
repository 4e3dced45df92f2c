"""What exit reasons mean, in words."""

import pytest

from otp_runtime.core.causes import explain
from otp_runtime.terms.reason import Crash, Exited, Signalled


class TestExplain:
    @pytest.mark.parametrize(
        ("reason", "says"),
        [
            (Signalled("SIGSEGV"), "segmentation fault"),
            (Signalled("SIGABRT"), "standard error"),
            (Signalled("SIGKILL"), "kill -9"),
            (Signalled("SIGKILL", oom=True), "out of memory"),
            (Exited(0), "os._exit(0)"),
            (Exited(7), "os._exit(7)"),
            (Exited(127), "not there"),
            (Exited(139), "SIGSEGV"),
            (Exited(158), "signal 30"),
            (Crash("MemoryError", "", ""), "refused memory"),
            (Crash("RecursionError", "", ""), "too deep"),
            (("bad_return_value", None), "match without a case"),
            (("bad_state", "['x']"), "cannot be kept"),
            ("killed", "exit(pid, 'kill')"),
        ],
    )
    def test_says_what_it_means(self, reason, says):
        """What happened, and where to look."""
        assert says in explain(reason)

    @pytest.mark.parametrize("reason", ["boom", Crash("ValueError", "no", ""), Signalled("SIGRTMIN+3"), 7, ()])
    def test_others_speak_for_themselves(self, reason):
        """Nothing is said that is not known."""
        assert None is explain(reason)
