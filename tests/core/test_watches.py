"""Who watches whom across nodes."""

from otp_runtime.core.watches import Watches

B7 = ("b@h", 8, 7)
B9 = ("b@h", 8, 9)
C7 = ("c@h", 3, 7)


class TestElsewhere:
    def test_told_once(self):
        """A death is told to each watcher, by what it knew the dead by, and never again."""
        watches = Watches()
        assert [watches.add(B7, 12, 12), watches.add(C7, "name", 12), watches.add(B7, 12, 12)] == [True, False, False]

        assert watches.died(12) == [(B7, 12), (C7, "name")]
        assert watches.died(12) == []

    def test_a_name_that_moves(self):
        """Who had it before is watched no longer."""
        watches = Watches()
        watches.add(B7, "name", 12)
        watches.add(B7, "name", 13)

        assert (watches.died(12), watches.died(13)) == ([], [(B7, "name")])

    def test_remove(self):
        """And of what is not watched nothing happens."""
        watches = Watches()
        watches.add(B7, 12, 12)
        watches.remove(B7, 12)
        watches.remove(B7, 12)

        assert (watches.died(12), watches.is_watched(12)) == ([], False)

    def test_lost_node(self):
        """Its watchers are forgotten, others' stay."""
        watches = Watches()
        watches.add(B7, 12, 12)
        watches.add(B9, "name", 12)
        watches.add(C7, 12, 12)
        assert watches.watchers_of("b@h", 8, "name") == [B9]
        watches.lost("b@h", 8)

        assert watches.died(12) == [(C7, 12)]


class TestHere:
    def test_lost_node(self):
        """Whoever sent something there hears of it, once."""
        watches = Watches()
        assert [watches.watch(5, "b@h", 8, 12), watches.watch(5, "c@h", 3, 1), watches.watch(4, "b@h", 8, "n")] == [
            True,
            False,
            True,
        ]
        assert sorted(watches.nodes_watched()) == [("b@h", 8), ("c@h", 3)]

        assert watches.lost("b@h", 8) == [4, 5]
        assert watches.lost("b@h", 8) == []
        assert watches.gave_up(5) == [("c@h", 3, 1)]

    def test_gave_up(self):
        """A dead watcher has nothing to hear any more."""
        watches = Watches()
        watches.watch(5, "b@h", 8, 12)
        watches.watch(5, "b@h", 8, 13)
        watches.told(5, "b@h", 8, 13)

        assert watches.gave_up(5) == [("b@h", 8, 12)]
        assert (watches.lost("b@h", 8), watches.nodes_watched()) == ([], [])
