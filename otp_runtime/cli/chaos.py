"""`chaos`: crash servers of a running node by choice, and say how long each took to answer again.

The runtime does not know of it: what strikes is a process of the node like others (`otp_runtime.testing.chaos`).

    who can be struck ──► the plan, drawn by a seed ──► --dry-run: shown
                                                   └──► --yes: blow by blow, then the sum
"""

from __future__ import annotations

import collections
import contextlib
import secrets
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, FAILED, GAVE_UP, WrongUsage
from otp_runtime.cli.figures import percentile
from otp_runtime.cli.victims import Pool
from otp_runtime.errors import NoNode, OtpError, ServerDown
from otp_runtime.process import death
from otp_runtime.process import node as nodes
from otp_runtime.process.current import current
from otp_runtime.testing import chaos as testing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.death import Death
    from otp_runtime.testing.chaos import Blow, Strike, Victim

JUDGED_SECONDS = 1.0
"""How long the end of a supervisor that gave up may take to be on record."""

LONGEST_SECONDS = 0.5
"""A wait in one piece: a Ctrl-C that comes just before it is seen after it."""

STRIKES_MAX = 1_000_000
SEEDS = 1 << 32
SHOWN_BACK = {"answered": "green", "gone": "yellow", "lost": "red", "missed": "yellow"}


def perform(options: argparse.Namespace) -> int:
    """Strike, or show the plan; exit code 1 when somebody did not come back, 4 when the tree gave up."""
    seed = secrets.randbelow(SEEDS) if options.seed is None else options.seed
    number = max(1.0, options.rate * options.seconds)
    if number > STRIKES_MAX:
        raise WrongUsage(f"--rate {options.rate:g} for --seconds {options.seconds:g}: at most {STRIKES_MAX:,} blows")
    directory = target.find_node(options.node)
    target.join(directory)
    pool = Pool(directory, target.look(directory))
    pool.gather(options.names, only_supervised=options.only_supervised)
    kinds = _kinds(options.kind, pool)
    strikes = testing.draw(pool.victims, kinds, round(number), options.rate, seed)
    run = _Run(directory, pool, seed, strikes, options)
    if options.dry_run:
        return run.show_plan()
    if not options.yes:
        raise WrongUsage(
            f"chaos ends processes of {pool.view.name} on purpose ({output.count(len(pool.victims), 'server')} can be "
            "struck): --dry-run shows what it would do, --yes does it"
        )
    return run.strike_all()


def _kinds(asked: list[str] | None, pool: Pool) -> list[str]:
    """Give the kinds to draw from: those asked for must each suit somebody, of the usual ones those that do."""
    suits = {kind: any(testing.is_suitable(one, kind) for one in pool.victims) for kind in testing.KINDS}
    kinds = [kind for kind in asked or testing.USUAL_KINDS if suits[kind]]
    if asked is not None and (missing := [kind for kind in asked if not suits[kind]]):
        why = {"hang": "has a watchdog, which would end it", "stop": "is permanent, and would be started again"}
        reasons = "; ".join(f"{kind}: no server here {why.get(kind, 'would be started again')}" for kind in missing)
        raise WrongUsage(f"--kind {reasons}")
    return kinds


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _GaveUp:
    """A supervisor that gave up, and the one above that started it again; None when nobody did."""

    record: Death
    above: str | None


@dataclass(slots=True)
class _Run:
    """One run: the plan, and what came of it so far."""

    directory: NodeDirectory
    pool: Pool
    seed: int
    strikes: Sequence[Strike]
    options: argparse.Namespace
    blows: list[Blow] = field(default_factory=list)
    gave_up: list[_GaveUp] = field(default_factory=list)
    has_node_ended: bool = False
    paint: output.Painter = field(default_factory=output.Painter)

    def show_plan(self) -> int:
        """Say what would be done."""
        if self.options.json:
            plan = [_strike_as_json(one) for one in self.strikes]
            output.print_json(self._head() | {"left_out": self.pool.left_out, "plan": plan})
            return DONE
        self._tell_head("would strike")
        rows = [[self.paint(word, "bold") for word in ("NO", "AT", "KIND", "VICTIM", "WHAT")]]
        rows += [
            [str(one.number), f"{one.at:.1f} s", one.kind, _who(one.victim), self.paint(testing.KINDS[one.kind], "dim")]
            for one in self.strikes
        ]
        for line in output.table(rows, right=(0, 1)):
            print(line)
        return DONE

    def strike_all(self) -> int:
        """Strike until the plan is done, somebody interrupts, or there is no tree any more."""
        if not self.options.json:
            self._tell_head("strikes")
        began, chaos = time.time(), testing.Chaos(self.options.timeout)
        start = time.monotonic()
        try:
            for strike in self.strikes:
                self._wait_until(start + strike.at)
                if self._is_over(began):
                    break
                blow = chaos.strike(strike)
                self.blows.append(blow)
                if not self.options.json:
                    self._tell(blow)
        except KeyboardInterrupt:
            pass
        except (NoNode, ServerDown):
            if nodes.is_running(self.directory):
                raise
        with contextlib.suppress(OtpError):
            self._is_over(began)
        return self._finish(time.time() - began)

    @staticmethod
    def _wait_until(due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            current().pump(min(left, LONGEST_SECONDS))

    def _is_over(self, began: float) -> bool:
        """Look whether the tree has given up: its root did, or the node has ended."""
        self.has_node_ended = not nodes.is_running(self.directory)
        if not self.has_node_ended:
            with contextlib.suppress(FileNotFoundError):
                self._note_giving_up(began)
        return self.has_tree_given_up

    def _note_giving_up(self, began: float) -> None:
        """Note who gave up since then, and whose supervisor started it again: its end is on record there."""
        deadline = time.monotonic() + JUDGED_SECONDS
        while True:
            records = [one for one in death.records(self.directory) if one.died_at >= began]
            above = {one.id: one.supervisor for one in records if one.context != "shutdown" and one.restart}
            known = {one.record.id for one in self.gave_up}
            shutdowns = [one for one in records if one.context == "shutdown" and one.id not in known]
            new = [_GaveUp(one, above.get(one.id)) for one in shutdowns]
            if all(one.above is not None for one in new) or time.monotonic() > deadline:
                break
            # a root, or one whose supervisor has not yet been told of its end
            current().pump(JUDGED_SECONDS / 20)
        self.gave_up += new

    @property
    def has_tree_given_up(self) -> bool:
        return self.has_node_ended or any(one.above is None for one in self.gave_up)

    # -- what is said ---------------------------------------------------------------------------------------

    def _finish(self, took: float) -> int:
        lost = [one for one in self.blows if one.ending == "lost"]
        if self.options.json:
            output.print_json(self._head() | self._sum(took))
        else:
            self._tell_sum(took)
        if self.has_tree_given_up:
            return GAVE_UP
        return FAILED if lost else DONE

    def _head(self) -> dict[str, Any]:
        return {
            "node": self.pool.view.name,
            "seed": self.seed,
            "rate": self.options.rate,
            "seconds": self.options.seconds,
            "victims": [_who(one) for one in self.pool.victims],
        }

    def _sum(self, took: float) -> dict[str, Any]:
        endings: collections.Counter[str] = collections.Counter(one.ending for one in self.blows)
        return {
            "took": round(took, 3),
            "planned": len(self.strikes),
            "injected": dict(collections.Counter(one.strike.kind for one in self.blows if one.ending != "missed")),
            **{ending: endings[ending] for ending in SHOWN_BACK},
            "answered_after": _times(self.blows),
            "by_kind": {
                kind: _times(of_it)
                for kind in testing.KINDS
                if (of_it := [one for one in self.blows if one.strike.kind == kind])
            },
            "gave_up": [
                {"server": one.record.server, "started_again_by": one.above, "restart": one.record.restart}
                for one in self.gave_up
            ],
            "tree_gave_up": self.has_tree_given_up,
            "node_ended": self.has_node_ended,
            "blows": [_blow_as_json(one) for one in self.blows],
        }

    def _tell_head(self, verb: str) -> None:
        blows = output.count(len(self.strikes), "blow")
        servers = output.count(len(self.pool.victims), "server")
        print(f"chaos {verb} {self.pool.view.name}: {blows} on {servers}, {self.options.rate:g} a second")
        print(self.paint(f"--seed {self.seed} draws the same again while the tree is the same", "dim"))
        if self.pool.left_out:
            reasons = collections.Counter(self.pool.left_out.values())
            for why, number in sorted(reasons.items()):
                print(self.paint(f"left out: {number}, {why}", "dim"))

    def _tell(self, blow: Blow) -> None:
        """Tell of one blow."""
        said = {
            "answered": f"answered again after {_milliseconds(blow.seconds)}",
            "gone": "gone",
            "lost": "did not come back",
            "missed": "was not struck",
        }[blow.ending]
        text = f"{blow.strike.kind:<9} {_who(blow.strike.victim)} {self.paint(said, SHOWN_BACK[blow.ending])}"
        note = f": {blow.note}" if blow.note else ""
        print(f"{self.paint(output.clock(blow.struck_at), 'dim')} {text}{note}", flush=True)

    def _tell_sum(self, took: float) -> None:
        """Tell what came of it all."""
        rows = [[self.paint(word, "bold") for word in ("KIND", "INJECTED", "ANSWERED", "MEDIAN", "P99", "WORST")]]
        for kind in [*testing.KINDS, "all"]:
            of_it = [one for one in self.blows if kind in {one.strike.kind, "all"}]
            if of_it:
                times = _times(of_it)
                injected = sum(one.ending != "missed" for one in of_it)
                shown = [_milliseconds(times[key]) for key in ("median", "p99", "worst")]
                rows.append([kind, str(injected), str(times["count"]), *shown])
        print()
        for line in output.table(rows, right=(1, 2, 3, 4, 5)):
            print(line)
        for one in self.blows:
            if one.ending == "lost":
                print(self.paint(f"did not come back: {_who(one.strike.victim)} after {one.strike.kind}", "red"))
        for end in self.gave_up:
            print(self.paint(_gave_up_line(end), "red" if end.above is None else "yellow"))
        print(self._verdict(took))

    def _verdict(self, took: float) -> str:
        left = len(self.strikes) - len(self.blows)
        rest = f", {left} not done any more" if left else ""
        done = f"{output.count(len(self.blows), 'blow')} in {output.span(took)}{rest}, --seed {self.seed}"
        if self.has_node_ended:
            return self.paint(f"the tree gave up and its node has ended: {done}", "red")
        if self.has_tree_given_up:
            return self.paint(f"the tree gave up: {done}", "red")
        if any(one.ending == "lost" for one in self.blows):
            return self.paint(f"not all came back: {done}", "red")
        return f"the tree held: {done}"


def _who(victim: Victim) -> str:
    """Name a victim as it can be found: by name, else by what runs there and where."""
    if victim.name is not None:
        return victim.name
    return victim.title if victim.child_id is None else f"{victim.title} (child {victim.child_id!r})"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _times(blows: Sequence[Blow]) -> dict[str, Any]:
    """Give how long it took to answer again, in seconds."""
    seconds = [one.seconds for one in blows if one.seconds is not None]
    if not seconds:
        return {"count": 0, "median": None, "p99": None, "worst": None}
    found = (statistics.median(seconds), percentile(seconds, 99), max(seconds))
    return {
        "count": len(seconds),
        **dict(zip(("median", "p99", "worst"), (round(one, 6) for one in found), strict=True)),
    }


def _strike_as_json(strike: Strike) -> dict[str, Any]:
    return {"number": strike.number, "at": round(strike.at, 6), "kind": strike.kind, "victim": _who(strike.victim)}


def _blow_as_json(blow: Blow) -> dict[str, Any]:
    return _strike_as_json(blow.strike) | {
        "struck_at": blow.struck_at,
        "ending": blow.ending,
        "pid": None if blow.dead is None else repr(blow.dead),
        "seconds": None if blow.seconds is None else round(blow.seconds, 6),
        "note": blow.note,
    }


def _gave_up_line(one: _GaveUp) -> str:
    restart = one.record.restart or {}
    counts = f"{restart.get('n')} restarts in {restart.get('seconds')} s, {restart.get('of')} are allowed"
    above = "" if one.above is None else f"; {one.above} started it again"
    return f"gave up: {one.record.server} saw {counts}{above}"


__all__ = ["perform"]
