"""Crashes by choice: what strikes whom is drawn by a seed; each blow is timed until its victim answers again.

    draw(victims, kinds, number, rate, seed) ──► Strike, Strike, …   the same for the same victims: it can be repeated
    Chaos.strike(strike) ──► Blow(how it ended, after how many seconds it answered)

The runtime does not know of it. Every blow comes from outside, from a process of the node: a signal, or a message that
`otp_runtime.testing` sends too.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from otp_runtime.behaviours import gen
from otp_runtime.core import messages as wire
from otp_runtime.core import supervision as core
from otp_runtime.core.restart import should_restart
from otp_runtime.errors import CallError, CallTimeout, MailboxFull, NoProcess, ServerDown
from otp_runtime.host import poller
from otp_runtime.process import client, death, ending, names
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.terms.pid import Pid
from otp_runtime.testing import faults
from otp_runtime.testing.waiting import FIRST_PAUSE, LONGEST_PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otp_runtime.core.child_spec import Restart

KINDS: Final = {
    "kill": "SIGKILL from outside",
    "segv": "reads address 0: SIGSEGV",
    "stop": "is asked to stop, reason normal",
    "exception": "raises Misfortune in a callback",
    "hang": "blocks for ever in a callback, until its watchdog ends it",
    "oom": "allocates until MemoryError",
}
USUAL_KINDS: Final = ("kill", "segv", "stop", "exception")


class Misfortune(Exception):
    """What a server raises that chaos lets raise."""


@dataclass(frozen=True, slots=True)
class Victim:
    """Who may be struck, known over restarts by `name`; without one by `child_id` under the supervisor `under`.

    `restart` is what its child spec says; None of one that no supervisor looks after, or whose spec cannot be asked
    for. `pid` is the process that it was when the plan was made.
    """

    title: str
    pid: Pid
    name: str | None = None
    under: Pid | None = None
    child_id: Any = field(default=None, hash=False)
    restart: Restart | None = None
    has_watchdog: bool = False

    @property
    def can_be_found_again(self) -> bool:
        """Whether its successor can be told from others."""
        return self.name is not None or self.child_id is not None

    def comes_back(self, kind: str) -> bool:
        """Whether somebody brings it back after that; False also when that cannot be known."""
        if kind == "hang" and not self.has_watchdog:
            return False
        return self.restart is not None and should_restart(self.restart, "normal" if kind == "stop" else "killed")


@dataclass(frozen=True, slots=True)
class Strike:
    """The blow number `number`, due `at` seconds after the first."""

    number: int
    at: float
    kind: str
    victim: Victim


def draw(victims: Sequence[Victim], kinds: Sequence[str], number: int, rate: float, seed: int) -> list[Strike]:
    """Draw so many blows, `rate` a second, evenly apart: first the kind, then one of those it `is_suitable` for.

    A kind that suits nobody is left out. The order in which `victims` and `kinds` are given does not matter.

    >>> me = Victim("till", Pid("shop@host", 7, 1), name="till", restart="permanent")
    >>> [(strike.at, strike.kind) for strike in draw([me], ["stop", "kill"], 3, rate=2.0, seed=1)]
    [(0.0, 'kill'), (0.5, 'stop'), (1.0, 'stop')]
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    ordered = sorted(victims, key=lambda one: (one.title, one.pid.id))
    suitable = {kind: [one for one in ordered if is_suitable(one, kind)] for kind in sorted(kinds)}
    left = [kind for kind, of_it in suitable.items() if of_it]
    strikes = []
    for count in range(number if left else 0):
        kind = chance.choice(left)
        strikes.append(Strike(count + 1, count / rate, kind, chance.choice(suitable[kind])))
    return strikes


def is_suitable(victim: Victim, kind: str) -> bool:
    """Whether a blow makes sense: it comes back, or is one that nobody brings back anyway and still was chosen.

    A hang takes a watchdog: without one it would last for ever.
    """
    if kind == "hang" and not victim.has_watchdog:
        return False
    return victim.comes_back(kind) or not victim.comes_back("kill")


Ending = Literal["answered", "gone", "lost", "missed"]


@dataclass(frozen=True, slots=True)
class Blow:
    """What came of a strike.

    `ending`: "answered" again after `seconds`; "gone", and nobody was to bring it back; "lost", though somebody was;
    "missed": there was nobody to strike, or it lived on. `note` says why it is not "answered", or what is odd.
    """

    strike: Strike
    struck_at: float
    ending: Ending
    dead: Pid | None = None
    seconds: float | None = None
    note: str = ""


class Chaos:
    """Strikes, one blow after the other; runs in a process of the node, which is never its own victim."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that a victim has to die, and then to answer again."""
        self._timeout = timeout
        self._done_for: set[Victim] = set()
        self._blows: dict[str, Callable[[Pid], Pid]] = {
            "kill": lambda pid: faults.sigkill(pid, timeout=timeout),
            "segv": lambda pid: faults.segfault(pid, timeout=timeout),
            "stop": self._stop,
            "exception": lambda pid: faults.crash(pid, Misfortune("of otp chaos"), timeout=timeout),
            "oom": lambda pid: faults.oom(pid, timeout=timeout),
        }

    def strike(self, strike: Strike) -> Blow:
        """Strike and wait for what follows. Raises `NoNode` or `ServerDown("noconnection")` when the node has ended."""
        struck_at = time.time()
        if strike.victim in self._done_for:
            return Blow(strike, struck_at, "missed", note="it is not there any more")
        blow = self._strike(strike, struck_at)
        if blow.ending in {"gone", "lost"}:
            self._done_for.add(strike.victim)
        return blow

    def _strike(self, strike: Strike, struck_at: float) -> Blow:
        try:
            pid = self._find(strike.victim)
        except (AssertionError, CallError) as error:
            if getattr(error, "reason", None) == "noconnection":
                raise
            return Blow(strike, struck_at, "missed", note=str(error))
        began = time.monotonic()
        note = ""
        try:
            if strike.kind == "hang":
                note = self._hang(pid)
            else:
                self._blows[strike.kind](pid)
        except NoProcess:
            return Blow(strike, struck_at, "missed", pid, note="it ended before it was struck")
        except (AssertionError, CallTimeout, MailboxFull) as error:
            return Blow(strike, struck_at, "missed", pid, note=str(error))
        return self._follow(strike, struck_at, began, pid, note)

    def _stop(self, pid: Pid) -> Pid:
        with contextlib.suppress(ServerDown):
            ending.stop(pid, "normal", self._timeout)
        return pid

    def _hang(self, pid: Pid) -> str:
        """Let it hang until its watchdog ends it; one that does not is ended here."""
        ref = process.monitor(pid)
        try:
            faults.hang(pid, timeout=self._timeout)
            process.receive(lambda message: getattr(message, "ref", None) == ref, self._timeout)
        except TimeoutError:
            return f"nobody ended its hang within {self._timeout:g} s: it was killed"
        finally:
            process.demonitor(ref, flush=True)
            # also when somebody interrupts the wait: a server that hangs is not left behind
            with contextlib.suppress(NoProcess):
                faults.sigkill(pid, timeout=self._timeout)
        return ""

    # -- who is it now --------------------------------------------------------------------------------------

    def _find(self, victim: Victim) -> Pid:
        """Give the process that it is now, waiting for one that is just coming back, as after a sibling's end."""
        if victim.name is not None:
            return self._wait_ready(victim.name)
        if victim.child_id is None:
            return victim.pid
        return self._wait_child(victim, None)

    def _wait_ready(self, name: str) -> Pid:
        deadline = poller.now() + self._timeout
        while True:
            pid = names.find(current(), name, deadline).pid
            info = process.info(pid)
            if info is not None and info.status != "starting":
                return pid
            if poller.now() > deadline:
                msg = f"{name} is still starting after {self._timeout:g} s"
                raise AssertionError(msg)
            current().pump(FIRST_PAUSE)

    def _wait_child(self, victim: Victim, after: Pid | None) -> Pid:
        assert victim.under is not None
        deadline = poller.now() + self._timeout
        pause = FIRST_PAUSE
        while (left := deadline - poller.now()) > 0:
            try:
                children = gen.call(victim.under, core.WhichChildren(), left)
            except CallTimeout:
                break
            for child_id, pid, _type in children:
                if child_id == victim.child_id and isinstance(pid, Pid) and pid != after:
                    return pid
            current().pump(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)
        msg = f"{victim.title} was to come back within {self._timeout:g} s and is not there"
        raise AssertionError(msg)

    # -- what follows ---------------------------------------------------------------------------------------

    def _follow(self, strike: Strike, struck_at: float, began: float, dead: Pid, note: str) -> Blow:
        victim = strike.victim
        was_to = victim.comes_back("kill" if note else strike.kind)
        if not was_to and not (victim.name is not None and names.is_coming_back(current(), victim.name)):
            return Blow(strike, struck_at, "gone", dead, note=_and(note, "nobody was to bring it back"))
        if not victim.can_be_found_again:
            return Blow(strike, struck_at, "gone", dead, note=_and(note, "without a name its successor cannot be told"))
        try:
            self._await_answer(victim, dead)
        except (AssertionError, CallError) as error:
            return Blow(strike, struck_at, "lost", dead, note=_and(note, _why_lost(victim, error)))
        return Blow(strike, struck_at, "answered", dead, time.monotonic() - began, note)

    def _await_answer(self, victim: Victim, dead: Pid) -> None:
        """Call until somebody other than the dead answers: what a caller that does not give up would see."""
        deadline = poller.now() + self._timeout
        while True:
            server = victim.name if victim.name is not None else self._wait_child(victim, dead)
            left = max(0.0, deadline - poller.now())
            try:
                client.request(server, ("run", os.getpid), left, kind=wire.SYSTEM)
            except ServerDown as error:
                # it died, too; not: the node has ended
                if error.reason == "noconnection" or poller.now() >= deadline:
                    raise
                current().pump(FIRST_PAUSE)
            else:
                return


def _why_lost(victim: Victim, error: Exception) -> str:
    gave_up = death.giving_up_note(current().directory, victim.name)
    return gave_up or str(error)


def _and(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
