"""When a child is looked at, sampled, recycled: a clock that only counts, ten thousand rounds at once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.limits import Bounds, Usage
from otp_runtime.core.vitals import (
    IDLY,
    LIMITED,
    SOONEST_SECONDS,
    UNCOUNTED,
    Recycling,
    begin,
    looked,
    recycled,
    sampled,
    should_recycle,
)

MB = 1_000_000


def live(pace, seconds, handled=lambda _now: 0, usage=lambda _now: Usage(MB, 0.0), bounds=None):
    """Follow a child; give the times of its looks and of its samples."""
    pulse, looks, samples = begin(pace, 0.0), [], []
    while (now := pulse.due) <= seconds:
        looks.append(now)
        pulse, is_sampled = looked(pulse, handled=handled(now), is_busy=False, now=now)
        if is_sampled:
            samples.append(now)
            pulse = sampled(pulse, usage(now), bounds, now)
    return looks, samples


class TestLooked:
    def test_an_idle_child(self):
        """Some ten looks a minute, some two samples."""
        looks, samples = live(IDLY, 600.0)

        assert (len(looks) <= 152, len(samples) <= 22) == (True, True)

    def test_a_child_that_works(self):
        """Once a second, sampled each time."""
        looks, samples = live(IDLY, 60.0, handled=lambda now: int(now * 10))

        assert looks == samples == [float(second) for second in range(1, 61)]

    def test_a_child_in_a_callback(self):
        """It counts nothing new and works all the same."""
        pulse, is_sampled = looked(begin(IDLY, 0.0), handled=0, is_busy=True, now=1.0)
        assert is_sampled
        pulse, is_sampled = looked(sampled(pulse, Usage(0, 0.0), None, 1.0), handled=0, is_busy=True, now=2.0)

        assert (is_sampled, pulse.due) == (True, 3.0)

    def test_the_end_of_a_callback(self):
        """What it did after the last look is seen at the next one."""
        pulse, _is_sampled = looked(begin(IDLY, 0.0), handled=1, is_busy=True, now=1.0)
        pulse, is_sampled = looked(sampled(pulse, Usage(0, 0.0), None, 1.0), handled=1, is_busy=False, now=2.0)
        assert is_sampled
        _pulse, is_sampled = looked(sampled(pulse, Usage(0, 0.0), None, 2.0), handled=1, is_busy=False, now=3.0)

        assert not is_sampled

    def test_work_after_a_long_rest(self):
        """It is seen within the longest pause."""
        _looks, samples = live(IDLY, 130.0, handled=lambda now: 0 if now < 121.0 else int(now))

        assert min(second for second in samples if second > 121.0) <= 121.0 + IDLY.slowest

    def test_limits_are_looked_at_more_often(self):
        """Also while the child rests."""
        looks, _samples = live(LIMITED, 60.0)
        pauses = [after - before for before, after in itertools.pairwise(looks)]

        assert max(pauses) <= LIMITED.slowest

    def test_cpu_time_tells_of_who_does_not_count(self):
        """A task that computes is sampled every second, one that waits ever more rarely."""
        _looks, busy = live(UNCOUNTED, 60.0, usage=lambda now: Usage(MB, now))
        _looks, idle = live(UNCOUNTED, 600.0)

        assert (len(busy) >= 58, len(idle) <= 26) == (True, True)

    @given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 3), st.booleans()), max_size=50))
    def test_the_next_look_lies_ahead(self, steps):
        """Whatever is seen: no look is due at once, none later than the pace allows."""
        for pace in (IDLY, LIMITED, UNCOUNTED):
            pulse, now = begin(pace, 0.0), 0.0
            for late, handled, is_busy in steps:
                now = max(now, pulse.due) + late
                pulse, is_sampled = looked(pulse, handled=handled, is_busy=is_busy, now=now)
                if is_sampled:
                    pulse = sampled(pulse, Usage(handled * 100 * MB, now), Bounds(rss_hard=500 * MB), now)
                assert now < pulse.due <= now + pace.slowest + SOONEST_SECONDS


class TestSampled:
    def test_growth_brings_the_next_look_forward(self):
        """The nearer the limit, the sooner: a steady leak is met before it is far beyond."""
        bounds = Bounds(rss_soft=200 * MB)
        _looks, samples = live(
            LIMITED,
            2.0,
            handled=lambda now: int(now * 1000),
            usage=lambda now: Usage(int(now * 1000) * MB, 0.0),
            bounds=bounds,
        )
        first_above = next(second for second in samples if second * 1000 > 200)

        assert 0.2 < first_above <= 0.25

    def test_a_subprocess_that_grows_is_work(self):
        """The box does not count it; the samples do."""
        looks, samples = live(LIMITED, 20.0, usage=lambda now: Usage(int(now * 10 * MB), 0.0))

        assert len(samples) > len(looks) // 2


class TestRecycle:
    bounds = Bounds(rss_soft=100 * MB)

    def test_only_above_the_soft_limit(self):
        """Reaching it is allowed."""
        uses = [0, 100 * MB, 100 * MB + 1]

        assert [False, False, True] == [should_recycle(Recycling(), self.bounds, Usage(rss, 0.0), 0.0) for rss in uses]

    def test_not_without_one(self):
        """0 is no limit."""
        assert not should_recycle(Recycling(), Bounds(rss_hard=1), Usage(100, 0.0), 0.0)

    def test_one_at_a_time(self):
        """Not while one is under way."""
        assert not should_recycle(Recycling(is_under_way=True), self.bounds, Usage(MB * 200, 0.0), 0.0)

    def test_one_that_helped_is_followed_by_the_next(self):
        """A leak is a leak."""
        state = recycled(Recycling(True), has_helped=True, now=5.0)

        assert should_recycle(state, self.bounds, Usage(MB * 200, 0.0), 5.0)

    @pytest.mark.parametrize("hours", [1, 24])
    def test_no_storm(self, hours):
        """In vain every time: few an hour."""
        state, now, count = Recycling(), 0.0, 0
        while now < hours * 3600.0:
            if should_recycle(state, self.bounds, Usage(200 * MB, 0.0), now):
                count += 1
                state = recycled(state, has_helped=False, now=now)
            now += 1.0

        assert count <= 5 + hours
