"""When a server counts as hung: the decision alone, by the thousand and without a clock."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime import BadChildSpec
from otp_runtime.core import stacks
from otp_runtime.core.watchdog import (
    ANSWER_SECONDS,
    GAP_SECONDS,
    LOOK_SECONDS,
    STARVED_TIMES,
    Ask,
    Condemn,
    Measure,
    Seen,
    Wait,
    Watch,
    Watchdog,
    advise,
    check_watchdog,
    explain,
    is_unsuspicious,
    look,
)

BUSY = 5.0


def measured(seen, now, share=0.0, waited=0.0):
    """What a look sees of a server that has used `share` of a core all the time, and waited for one."""
    made = {name: getattr(seen, name) for name in Seen.__slots__}
    return Seen(**{**made, "measure": Measure(now, now * share, now * waited)})


def watch_until(see, *, until=60.0, busy=BUSY, late=lambda now: 0.0):
    """Look as often as the decisions ask for; give the time of the verdict, and the verdict, or None."""
    watch, now, due = Watch(Watchdog(busy)), 100.0, 100.0
    asked = None
    while now < 100.0 + until:
        seen = see(now, asked)
        watch, verdict = look(watch, seen, now, now - due)
        match verdict:
            case Condemn():
                return now - 100.0, verdict
            case Ask():
                asked = now
        due = max(now + 0.001, min(now + LOOK_SECONDS, verdict.until))
        now = due + late(due)
    return None


class TestFound:
    @pytest.mark.parametrize(("share", "kind"), [(1.0, "busy"), (0.05, "blocked")])
    def test_callback(self, share, kind):
        """In time, and told apart by what it uses of a core."""
        seconds, verdict = watch_until(lambda now, _asked: measured(Seen(busy_since=100.0, handled=3), now, share))

        assert (kind, "callback") == (verdict.kind, verdict.what)
        assert BUSY <= seconds <= BUSY + LOOK_SECONDS

    @pytest.mark.parametrize("answers", [True, False])
    def test_what_runs_is_asked_first(self, answers):
        """Whether it runs Python; no answer is one, too."""

        def see(now, asked):
            answer = 2 if asked and answers and now > asked else 0
            return measured(Seen(busy_since=100.0, runs=True, answer=answer), now, 1.0)

        seconds, verdict = watch_until(see)
        assert ("busy", answers) == (verdict.kind, verdict.answered)
        assert seconds <= BUSY + LOOK_SECONDS + 2 * ANSWER_SECONDS

    def test_what_waits_is_not_asked(self):
        """The signal could end its wait."""
        _seconds, verdict = watch_until(lambda now, _asked: measured(Seen(busy_since=100.0), now))

        assert verdict.answered is None

    def test_stopped(self):
        """Idle or not, since it was seen."""
        seconds, verdict = watch_until(lambda now, _asked: Seen(stopped=now >= 103.0, busy_since=100.0))

        assert ("stopped", True) == (verdict.kind, 8.0 <= seconds <= 8.0 + 2 * LOOK_SECONDS)

    def test_event_loop(self):
        """Before a callback, which is what keeps it from turning."""
        seen = Seen(busy_since=100.1, loop_since=100.0, is_async=True)
        seconds, verdict = watch_until(lambda now, _asked: measured(seen, now))

        assert ("event_loop", True) == (verdict.kind, seconds <= BUSY + LOOK_SECONDS)

    def test_a_callback_that_awaits(self):
        """The loop turns, the callback does not return."""
        _seconds, verdict = watch_until(
            lambda now, asked: measured(
                Seen(busy_since=100.0, loop_since=-1.0, is_async=True, answer=2 if asked else 0), now
            )
        )

        assert ("blocked", "callback", True) == (verdict.kind, verdict.what, verdict.answered)

    def test_between_callbacks(self):
        """Awake, with no callback, and no progress."""
        _seconds, verdict = watch_until(lambda now, _asked: measured(Seen(loop_since=99.0, handled=7), now))

        assert verdict.what == "between"

    def test_what_it_did_lately_counts(self):
        """It computed for long and waits now."""

        def see(now, _asked):
            return Seen(busy_since=100.0, measure=Measure(now, min(now, 104.0), 0.0))

        assert watch_until(see)[1].kind == "blocked"


class TestLeftAlone:
    @pytest.mark.parametrize(
        "see",
        [
            lambda now, asked: Seen(),
            lambda now, asked: Seen(loop_since=-1.0),
            lambda now, asked: Seen(loop_since=-1.0, is_async=True),
            lambda now, asked: measured(Seen(busy_since=now - 4.0, handled=int(now * 10)), now),
            lambda now, asked: measured(Seen(loop_since=now - 4.9, is_async=True), now),
            lambda now, asked: measured(Seen(loop_since=1.0, handled=int(now)), now),
            lambda now, asked: Seen(stopped=now % 6 < 4),
            lambda now, asked: measured(Seen(stopped=True), now, 0.01),
            lambda now, asked: measured(Seen(busy_since=100.0, traced=True), now),
            lambda now, asked: measured(Seen(busy_since=100.0, handled=4, breakpoint_at=5), now),
            lambda now, asked: measured(
                Seen(busy_since=100.0, runs=True, answer=2 * int(asked) + 1 if asked else 0), now, 1.0
            ),
        ],
        ids=[
            "idle",
            "waits",
            "async",
            "short",
            "turns",
            "flooded",
            "thawed",
            "anew",
            "traced",
            "breakpoint",
            "debugged",
        ],
    )
    def test_for_ever(self, see):
        """None of these is ever condemned."""
        assert watch_until(see, until=300.0) is None

    def test_idle_is_not_even_decided_on(self):
        """A round over idle servers costs a read of each box."""
        assert is_unsuspicious(Watch(Watchdog()), Seen(loop_since=-1.0))

    def test_a_breakpoint_of_another_callback(self):
        """It counts for the callback that called it only."""
        seen = Seen(busy_since=100.0, handled=5, breakpoint_at=5)

        assert watch_until(lambda now, _asked: measured(seen, now)) is not None

    def test_without_a_core(self):
        """A callback that waits for one all the time has not had its time; but not for ever."""

        def see(now, _asked):
            return measured(Seen(busy_since=100.0), now, share=0.05, waited=0.95)

        seconds, _verdict = watch_until(see)
        assert seconds >= STARVED_TIMES * BUSY

    def test_who_looks_was_absent(self):
        """A callback that began before a pause of the looking has its time again after it."""
        pause = iter([0.0] * 8 + [10.0] + [0.0] * 1000)
        seconds, _verdict = watch_until(
            lambda now, _asked: measured(Seen(busy_since=100.0), now), late=lambda due: next(pause)
        )

        assert seconds >= 10.0 + BUSY

    def test_a_short_absence(self):
        """It is not counted, and what was before it is."""
        pause = iter([0.0] * 8 + [0.9] + [0.0] * 1000)
        seconds, _verdict = watch_until(
            lambda now, _asked: measured(Seen(busy_since=100.0), now), late=lambda due: next(pause)
        )

        assert BUSY + 0.9 <= seconds <= BUSY + 0.9 + LOOK_SECONDS

    @given(
        st.lists(st.tuples(st.floats(0.0, 4.5), st.floats(0.0, 2.0)), min_size=1, max_size=30),
        st.lists(st.floats(0.0, 30.0), max_size=5),
    )
    def test_callbacks_in_time_whoever_is_absent(self, callbacks, absences):
        """Callbacks shorter than `busy`, and idle times between them, whatever the one who looks misses."""
        times, now = [], 100.0
        for length, idle in callbacks:
            times.append((now, now + length))
            now += length + idle
        absent = itertools.chain(absences, itertools.repeat(0.0))

        def see(now, _asked):
            for number, (begun, ended) in enumerate(times):
                if begun <= now < ended:
                    return measured(Seen(busy_since=begun, handled=number), now)
            return Seen()

        assert watch_until(see, until=now - 100.0, late=lambda due: next(absent)) is None

    @given(st.floats(LOOK_SECONDS, 20.0), st.lists(st.floats(0.0, 0.1), min_size=1, max_size=5))
    def test_found_in_time_for_any_busy(self, busy, late):
        """Within the time of a look and of an answer, however late looks are, as far as they are."""
        lateness = itertools.chain(late, itertools.repeat(0.0))
        seconds, _verdict = watch_until(
            lambda now, _asked: measured(Seen(busy_since=100.0, runs=True), now, 1.0),
            busy=busy,
            late=lambda due: next(lateness),
        )

        assert busy <= seconds <= busy + LOOK_SECONDS + 1.5 * ANSWER_SECONDS + sum(late)


class TestSecondLook:
    @pytest.mark.parametrize("seen", [Seen(busy_since=1.0), Seen(stopped=True), Seen(loop_since=1.0, is_async=True)])
    def test_nobody_is_condemned_at_the_first(self, seen):
        """However long it may have lasted."""
        _watch, verdict = look(Watch(Watchdog(0.25)), measured(seen, 1000.0), 1000.0)

        assert isinstance(verdict, Wait)

    def test_idle_needs_no_look_of_its_own(self):
        """The round is enough."""
        assert Wait(math.inf) == look(Watch(Watchdog()), Seen(), 5.0)[1]

    def test_a_gap_forgets(self):
        """What was suspected before it is suspected anew."""
        watch, _verdict = look(Watch(Watchdog(1.0)), Seen(busy_since=1.0), 10.0)
        watch, verdict = look(watch, Seen(busy_since=1.0), 20.0, GAP_SECONDS)

        assert (20.0, Wait(21.0)) == (watch.suspicion.since, verdict)


class TestCheck:
    def test_none_and_the_defaults(self):
        """Nothing, or five seconds and one."""
        check_watchdog({})
        check_watchdog({"watchdog": None})
        check_watchdog({"watchdog": Watchdog(LOOK_SECONDS, 0)})

        assert Watchdog(busy=5.0, grace=1.0) == Watchdog()

    def test_shorter_than_a_poll(self):
        """It would be a promise that cannot be kept."""
        with pytest.raises(BadChildSpec, match=r"busy of 0\.25"):
            check_watchdog({"watchdog": Watchdog(busy=0.2)})

    @pytest.mark.parametrize("seconds", [10**400, math.inf, math.nan, "5", True])
    def test_what_is_no_time(self, seconds):
        """A number that no clock has is as wrong as a text."""
        with pytest.raises(BadChildSpec, match="busy"):
            check_watchdog({"watchdog": Watchdog(busy=seconds)})
        with pytest.raises(BadChildSpec, match="grace"):
            check_watchdog({"watchdog": Watchdog(grace=seconds)})


class TestWords:
    @pytest.mark.parametrize(
        ("verdict", "said"),
        [
            (Condemn("busy", "callback", 5.0, True, 1.0), "computes, in Python"),
            (Condemn("busy", "callback", 5.0, False, 1.0), "may hold the GIL"),
            (Condemn("blocked", "callback", 5.0, None, 0.0), "it waits"),
            (Condemn("stopped", "stopped", 5.0, None, 0.0), "a signal stopped it"),
            (Condemn("event_loop", "event_loop", 5.0, None, 0.0), "event loop does not turn"),
            (Condemn("blocked", "between", 5.0, None, 0.0), "between two callbacks"),
            (Condemn("blocked", "ending", 5.0, None, 0.0), "last words"),
        ],
    )
    def test_what_was_found(self, verdict, said):
        """In one line, with what to do about it."""
        assert said in explain(verdict)
        assert advise(verdict)


class TestStacks:
    DUMP = """\
Thread 0x01 (most recent call first):
  File "/app/worker.py", line 3 in work

Current thread 0x02 (most recent call first):
  File "/lib/queue.py", line 9 in get
  File "/app/shop.py", line 7 in handle_call
  File "/lib/boot.py", line 5 in run_child
  File "/lib/launcher.py", line 1 in main
"""

    def test_where(self):
        """The newest line of user code."""
        assert "/app/shop.py:7 in handle_call" == stacks.where(stacks.parse(self.DUMP)["Current thread"], ("/lib/",))

    def test_what_a_fork_inherited_is_left_out(self):
        """The frames of the parent."""
        trimmed = stacks.trim(self.DUMP, ("boot.py:run_child",))

        assert "launcher.py" not in trimmed
        assert "run_child" in trimmed

    def test_as_a_traceback(self):
        """In Python's order, from the user's first line on."""
        text = stacks.as_traceback(stacks.parse(self.DUMP)["Current thread"], ("/lib/",))

        assert ["shop.py", "queue.py"] == [line.split('"')[1].rpartition("/")[2] for line in text.splitlines()[1:]]

    @given(st.text())
    def test_whatever_was_written(self, text):
        """A torn dump is no reason to fail."""
        for frames in stacks.parse(text).values():
            stacks.where(frames, ("/lib/",))
