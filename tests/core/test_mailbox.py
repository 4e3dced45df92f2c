"""The options about messages that outlive their server, and what becomes of the one in hand."""

import pytest

from otp_runtime.core.mailbox import Fate, Hand, check_mailbox, fate_of, is_durable
from otp_runtime.errors import BadChildSpec


class TestCheckMailbox:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"mailbox": "transient"},
            {"mailbox": "transient", "redeliver": 0},
            {"mailbox": "durable"},
            {"mailbox": "durable", "redeliver": 7},
        ],
    )
    def test_what_is_right(self, options):
        """It says nothing, and only a durable one is."""
        check_mailbox(options)

        assert is_durable(options) == (options.get("mailbox") == "durable")

    @pytest.mark.parametrize("mailbox", ["", "DURABLE", None, True, ["durable"]])
    def test_another_kind(self, mailbox):
        """Only the two."""
        with pytest.raises(BadChildSpec, match="'transient' or 'durable'"):
            check_mailbox({"mailbox": mailbox})

    @pytest.mark.parametrize("times", [-1, 1.0, "1", None, True])
    def test_no_count(self, times):
        """How often is an integer."""
        with pytest.raises(BadChildSpec, match="an integer of 0 or more"):
            check_mailbox({"mailbox": "durable", "redeliver": times})

    def test_without_a_durable_one(self):
        """There is nothing that could be tried again."""
        with pytest.raises(BadChildSpec, match="0 without mailbox='durable'"):
            check_mailbox({"redeliver": 1})


class TestFateOf:
    @pytest.mark.parametrize("redeliver", [0, 1, 5])
    def test_a_cast_is_tried_so_often(self, redeliver):
        """And dies once more."""
        fates = [fate_of(Hand(tries), redeliver) for tries in range(redeliver + 1)]

        assert [Fate.AGAIN] * redeliver + [Fate.DEAD] == fates

    @pytest.mark.parametrize("redeliver", [0, 5])
    def test_a_call_whose_caller_is_gone(self, redeliver):
        """Nobody would hear the answer."""
        assert fate_of(Hand(is_call=True), redeliver) is Fate.DEAD

    @pytest.mark.parametrize(("redeliver", "tries"), [(0, 1), (1, 1), (3, 3)])
    def test_a_call_whose_caller_waits_on(self, redeliver, tries):
        """It allowed to be tried once more, at least."""
        fates = [fate_of(Hand(n, is_call=True, is_awaited=True), redeliver) for n in range(tries + 1)]

        assert [Fate.AGAIN] * tries + [Fate.DEAD] == fates

    @pytest.mark.parametrize("hand", [Hand(9, True), Hand(0, True, True), Hand(0, True, True, True)])
    def test_one_whose_state_is_kept(self, hand):
        """It is handled."""
        assert fate_of(hand, 9) is Fate.HANDLED
