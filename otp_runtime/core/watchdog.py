"""When a server is hung: the setting, its checks, and the decision, made from what can be seen from outside.

    look ── nothing to suspect ──────────────────────────────► forget
       └─── the same thing as at the last look, for `busy` ──► ask it, if that is harmless ──► condemn

What is suspected, and since when:

    stopped      a signal stopped the process                          since the first look that saw it
    event_loop   the event loop of an async server does not turn       since it last waited
    callback     a callback runs, `init` and `terminate` too           since it began
    between      no callback runs, and it does not wait for a message  since the first look that saw it
    ending       last words are spoken and the process stays           since the first look that saw it

To ask is to send a signal, which a C call that waits may take for its end: so only what runs is asked whether it still
runs Python, and an event loop at rest what its coroutines await.

Nobody is condemned at the first look that suspects it, and time in which the one who looks did not run itself is not
counted: a machine that slept, or a supervisor that was stopped, finds nobody hung when it wakes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from otp_runtime.errors import BadChildSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind: TypeAlias = Literal["busy", "stopped", "blocked", "event_loop"]
What: TypeAlias = Literal["callback", "event_loop", "between", "stopped", "ending"]

LOOK_SECONDS: Final = 0.25
"""How long from one look at a server to the next."""

ANSWER_SECONDS: Final = 0.2
"""How long a server that is asked whether it still runs Python has to answer; one in Python takes microseconds."""

GAP_SECONDS: Final = 1.0
"""A look so late means that the one who looks did not run; all it suspected begins anew."""

STARVED_SHARE: Final = 0.8
STARVED_TIMES: Final = 4
"""A server that waited for a core for so much of the time is given up to so many times its limit."""

ENDING_SECONDS: Final = 2.0
"""What a process has at least between its last words and its end: it pays what it owes, and runs `atexit` functions."""

MEASURE_SECONDS: Final = 0.06
"""What a server did in less says nothing: the kernel counts its time in ticks of up to a hundredth of a second."""

RUNS_SHARE: Final = 0.5
_MOST: Final = 1e300
_ALLOWED: Final = (
    f"None or Watchdog(busy=…, grace=…): seconds, busy of {LOOK_SECONDS:g} (the time between two looks) or more, "
    "grace of 0 or more"
)


@dataclass(frozen=True, slots=True)
class Watchdog:
    """How long a server may be busy with one thing before it counts as hung, is shown and killed.

    `busy`: seconds that one callback may take (default 5.0; at least 0.25), that an event loop may not turn, that a
    stop by a signal may last. `grace`: seconds (default 1.0) that it then has to write its stacks down; after that it
    is killed without. Making one checks nothing; a start and a child spec do.

    >>> Watchdog(busy=30.0)
    Watchdog(busy=30.0, grace=1.0)
    """

    busy: float = 5.0
    grace: float = 1.0


def check_watchdog(options: Mapping[str, Any]) -> None:
    """Raise `BadChildSpec` when the option `watchdog` is wrong."""
    value = options.get("watchdog")
    if value is None:
        return
    if (
        not isinstance(value, Watchdog)
        or not (_is_number(value.busy) and value.busy >= LOOK_SECONDS)
        or not (_is_number(value.grace) and value.grace >= 0)
    ):
        raise BadChildSpec("watchdog", value, _ALLOWED)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST


# -- what is seen, what is remembered ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measure:
    """How much of a core the main thread of a server had until `at`, and how long it waited for one; seconds."""

    at: float
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a server. `busy_since` is a monotonic time, 0.0 when it is idle.

    `loop_since`: since when its loop, or event loop, is awake and has things to do; below 0 it waits.
    `breakpoint_at`: the number of the callback that called `breakpoint()`, plus 1; `answer` counts by two what the
    server answered, the last bit says that it is debugged; `traced`: by another process, or line by line by itself.
    `measure` is there when it is stopped, or the last look suspected something, `runs` (its main thread is not asleep)
    when that is due.
    """

    busy_since: float = 0.0
    loop_since: float = 0.0
    handled: int = 0
    breakpoint_at: int = 0
    answer: int = 0
    is_async: bool = False
    spoken: bool = False
    stopped: bool = False
    traced: bool = False
    runs: bool = False
    measure: Measure | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is suspected: `stamp` tells one callback, one turn of the loop, one stop from the next."""

    what: What
    stamp: float
    since: float
    first: Measure | None = None
    older: Measure | None = None
    newer: Measure | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one server between two looks."""

    settings: Watchdog
    suspicion: Suspicion | None = None
    not_before: float = 0.0
    """No time before this one counts: it was stopped, debugged, or nobody looked."""
    asked_at: float = 0.0
    """When it was asked whether it runs Python; 0.0 when it was not."""
    answer: int = 0
    """What it had answered before it was asked."""


# -- what is decided -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at the monotonic time `until`, or with the next round if that is earlier."""

    until: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask it whether it still runs Python, and look again soon."""

    until: float


@dataclass(frozen=True, slots=True)
class Condemn:
    """It is hung: `what` for `seconds`, and whether it answered (None: not asked) and used `share` of a core."""

    kind: Kind
    what: What
    seconds: float
    answered: bool | None
    share: float


Verdict: TypeAlias = Wait | Ask | Condemn


def is_unsuspicious(watch: Watch, seen: Seen) -> bool:
    """Say whether there is nothing to decide: it is idle, and was."""
    return watch.suspicion is None and not (seen.busy_since or seen.loop_since > 0 or seen.stopped or seen.spoken)


def is_due(watch: Watch, now: float) -> bool:
    """Say whether what is suspected has lasted long enough, so that it matters who else has a hand in it."""
    return watch.suspicion is not None and now - watch.suspicion.since >= watch.settings.busy


def look(watch: Watch, seen: Seen, now: float, late: float = 0.0) -> tuple[Watch, Verdict]:
    """Decide what a look means, that came `late` seconds later than it was to come."""
    if late >= GAP_SECONDS or seen.stopped:
        watch = replace(watch, not_before=now)
    found = _suspect(seen, now)
    if found is None:
        return replace(watch, suspicion=None, asked_at=0.0), Wait(math.inf)
    what, stamp, since = found
    known = watch.suspicion
    if known is None or (known.what, known.stamp) != (what, stamp) or late >= GAP_SECONDS:
        since = min(now, max(since, 0.0 if what == "stopped" else watch.not_before) + late)
        measure = seen.measure
        suspicion = Suspicion(what, stamp, since, measure, measure, measure)
        return replace(watch, suspicion=suspicion, asked_at=0.0), Wait(since + watch.settings.busy)
    suspicion = _measured(replace(known, since=min(now, known.since + late)), seen.measure)
    return _judge(replace(watch, suspicion=suspicion), suspicion, seen, now)


def _suspect(seen: Seen, now: float) -> tuple[What, float, float] | None:
    if seen.stopped:
        # one that has run meanwhile was stopped anew
        return "stopped", 0.0 if seen.measure is None else seen.measure.ran, now
    if seen.spoken:
        return "ending", 0.0, now
    if seen.is_async and seen.loop_since > 0 and now - seen.loop_since > LOOK_SECONDS:
        return "event_loop", seen.loop_since, seen.loop_since
    if seen.busy_since:
        return "callback", seen.busy_since, seen.busy_since
    if seen.loop_since > 0 and not seen.is_async:
        # awake since then, but it may have handled messages meanwhile
        return "between", seen.loop_since + seen.handled, now
    return None


def _measured(suspicion: Suspicion, measure: Measure | None) -> Suspicion:
    """Remember a measure of some time ago, to see from it what was done lately."""
    if measure is None:
        return suspicion
    if suspicion.first is None or suspicion.newer is None:
        return replace(suspicion, first=measure, older=measure, newer=measure)
    if measure.at - suspicion.newer.at < LOOK_SECONDS / 2:
        return suspicion
    return replace(suspicion, older=suspicion.newer, newer=measure)


def _judge(watch: Watch, suspicion: Suspicion, seen: Seen, now: float) -> tuple[Watch, Verdict]:
    busy = watch.settings.busy
    if suspicion.what == "ending":
        busy = max(busy, ENDING_SECONDS)
    seconds = now - suspicion.since
    if seconds < busy:
        return watch, Wait(suspicion.since + busy)
    answered = watch.asked_at > 0 and seen.answer != watch.answer
    if _is_debugged(suspicion, seen, answered=answered):
        again = replace(watch, suspicion=replace(suspicion, since=now), not_before=now, asked_at=0.0)
        return again, Wait(now + busy)
    if seconds < STARVED_TIMES * busy and _is_starved(suspicion, seen.measure):
        return watch, Wait(now + LOOK_SECONDS)
    if suspicion.what == "stopped":
        return watch, Condemn("stopped", "stopped", seconds, None, 0.0)
    if not watch.asked_at and (seen.runs or seen.loop_since < 0):
        return replace(watch, asked_at=now, answer=seen.answer), Ask(now + ANSWER_SECONDS / 20)
    if watch.asked_at and not answered and now < watch.asked_at + ANSWER_SECONDS:
        return watch, Wait(now + ANSWER_SECONDS / 4)
    if seen.measure is not None and seen.measure.at - _measured_since(suspicion, now) < MEASURE_SECONDS:
        return watch, Wait(_measured_since(suspicion, now) + MEASURE_SECONDS)
    share = _share(suspicion.older, seen.measure)
    kind: Kind = "busy" if share >= RUNS_SHARE else "blocked"
    if suspicion.what == "event_loop":
        kind = "event_loop"
    return watch, Condemn(kind, suspicion.what, seconds, answered if watch.asked_at else None, share)


def _is_debugged(suspicion: Suspicion, seen: Seen, *, answered: bool) -> bool:
    in_breakpoint = suspicion.what in {"callback", "event_loop"} and seen.breakpoint_at == seen.handled + 1
    return seen.traced or in_breakpoint or (answered and bool(seen.answer & 1))


def _is_starved(suspicion: Suspicion, measure: Measure | None) -> bool:
    first = suspicion.first
    if first is None or measure is None or measure.at <= first.at:
        return False
    return measure.waited - first.waited >= STARVED_SHARE * (measure.at - first.at)


def _measured_since(suspicion: Suspicion, now: float) -> float:
    return now if suspicion.older is None else suspicion.older.at


def _share(before: Measure | None, after: Measure | None) -> float:
    """Of the time between two measures, the share in which it ran, or would have run had there been a core."""
    if before is None or after is None or after.at <= before.at:
        return 0.0
    return min(1.0, (after.ran - before.ran + after.waited - before.waited) / (after.at - before.at))


# -- for people ----------------------------------------------------------------------------------------------


_SUBJECTS: Final[dict[What, str]] = {
    "callback": "a callback has not returned",
    "event_loop": "its event loop does not turn",
    "between": "it has not come back to its mailbox, between two callbacks,",
    "stopped": "a signal stopped it (SIGSTOP or one of its kin)",
    "ending": "it has said its last words and does not end (an atexit function, a thread?)",
}


def explain(verdict: Condemn) -> str:
    """Say what was found, in one line."""
    text = f"{_SUBJECTS[verdict.what]} for {verdict.seconds:.1f} s"
    if verdict.kind == "stopped":
        return text
    if verdict.share < RUNS_SHARE:
        return f"{text}; it waits: for a lock, a read, a sleep, an `await` or in a C call"
    if verdict.answered:
        return f"{text}; it computes, in Python"
    return f"{text}; it computes inside a C call that does not come back to Python, and may hold the GIL"


def advise(verdict: Condemn) -> str:
    """Say what to do about it, in one line."""
    if verdict.what == "stopped":
        return "find out who stopped it; `kill -CONT` within the time of its watchdog lets it go on"
    if verdict.what == "event_loop":
        return "await instead of blocking (asyncio.sleep, asyncio.to_thread), or raise Watchdog(busy=…)"
    if verdict.share >= RUNS_SHARE:
        return "look for a loop that does not end, give long work to a Task, or raise Watchdog(busy=…)"
    return "give what it waits for a time-out, or raise Watchdog(busy=…)"
