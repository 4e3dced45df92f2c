"""The same counter on other libraries, beside ours: `python -m scripts.bench.peers`.

Each runs in a program of its own (scripts/bench/counters), with a limit of time; one that hangs, fails or is not
installed is said so, and the others are measured all the same. Only what was started here is ended, and all of it: this
program is child subreaper, so whatever a library leaves behind falls to it.

    pip install ".[bench]"          the Python libraries; or name an interpreter that has them with --python
    elixir                          when it is on PATH, in one VM and between two nodes
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from otp_runtime.cli.bench.machine import Machine
from otp_runtime.cli.figures import figure
from scripts.bench.markdown import put, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COUNTERS = Path(__file__).with_name("counters")
SECONDS = 90.0
MISSING = 3
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
HEAD = ("who", "call", "p99", "casts a second", "start", "killed, answers again", "memory of one", "")


@dataclass(frozen=True, slots=True)
class Peer:
    """A library to be measured; `command` may name PYTHON, the interpreter that has it."""

    name: str
    what: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a peer told before it ended: figures as in reporting.py, None where it has none; how it failed."""

    name: str
    what: str
    version: str = ""
    call: tuple[float, float] | None = None
    cast: float | None = None
    start: float | None = None
    restart: float | None = None
    memory: float | None = None
    note: str = ""
    trouble: str = ""


PYTHON = "PYTHON"
PEERS = (
    Peer("ours", "otp_runtime, a process each", (sys.executable, "ours_counter.py")),
    Peer("manager", "multiprocessing manager, a process each", (PYTHON, "manager_counter.py")),
    Peer("pool", "ProcessPoolExecutor(1), a process each", (PYTHON, "pool_counter.py")),
    Peer("xoscar", "xoscar, a process each", (PYTHON, "xoscar_counter.py")),
    Peer("ray", "Ray, a process each", (PYTHON, "ray_counter.py")),
    Peer("pykka", "Pykka, threads", (PYTHON, "pykka_counter.py")),
    Peer("otpylib", "otpylib, tasks of one event loop", (PYTHON, "otpylib_counter.py")),
    Peer("elixir", "Elixir, one VM", ("elixir", "counter.exs")),
    Peer(
        "elixir-nodes",
        "Elixir, between two nodes",
        ("elixir", "--sname", "otp_runtime_bench", "counter.exs", "--nodes"),
    ),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.peers", description="Measure others beside us.")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the libraries")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each, at most (default {SECONDS:g})")
    parser.add_argument("--rounds", type=int, default=1, help="all in turn, so often; the medians count (default 1)")
    parser.add_argument("--only", metavar="NAME[,NAME]", default="", help=", ".join(peer.name for peer in PEERS))
    parser.add_argument(
        "--page", metavar="FILE", action="append", default=[], help="also put that table between the marks of a page"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shape.add_argument("--markdown", action="store_true", help="print the table of the documents")
    options = parser.parse_args(arguments)
    only = {name.strip() for name in options.only.split(",") if name.strip()}
    if strange := only - {peer.name for peer in PEERS}:
        parser.error(f"no peer is named {', '.join(sorted(strange))}; there are {', '.join(p.name for p in PEERS)}")
    machine = Machine.here()
    peers = [peer for peer in PEERS if not only or peer.name in only]
    rounds = [[run(peer, options.python, options.seconds) for peer in peers] for _ in range(options.rounds)]
    outcomes = [merged(of_one) for of_one in zip(*rounds, strict=True)]
    markdown = f"Measured on: {machine}.\n\n{table(HEAD, map(cells, outcomes))}"
    for page in map(Path, options.page):
        page.write_text(put(page.read_text(encoding="utf-8"), "peers", markdown), encoding="utf-8")
    if options.json:
        print(json.dumps({"machine": machine.to_dict(), "peers": [asdict(one) for one in outcomes]}, indent=2))
    elif options.markdown:
        print(markdown)
    else:
        print(f"{machine}\n\n{text_table(map(cells, outcomes))}")
    return 0


def run(peer: Peer, python: str = sys.executable, seconds: float = SECONDS) -> Outcome:
    """Measure one, and leave none of its processes and files behind."""
    program = python if peer.command[0] == PYTHON else peer.command[0]
    if shutil.which(program) is None:
        return Outcome(peer.name, peer.what, trouble=f"{program} is not installed")
    with _adopting_orphans(), tempfile.TemporaryDirectory(prefix="peer-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        environment = {**os.environ, "TMPDIR": folder, "RAY_TMPDIR": folder, "OTP_RUNTIME_DIR": folder}
        before = _descendants()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [program, *peer.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=COUNTERS,
                env=environment,
                start_new_session=True,
            )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(before)
            process.wait()
        return outcome(peer, out.read_text(), err.read_text(errors="replace"), code, seconds)


def outcome(peer: Peer, out: str, err: str, code: int | None, seconds: float) -> Outcome:
    """Read what a peer told; `code` is how it ended, None when it had to be ended after so many seconds."""
    told: dict[str, Any] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError):  # what a library prints itself
            found = json.loads(line)
            told |= found if isinstance(found, dict) else {}
    trouble = told.pop("missing", "")
    if code is None:
        last = next(reversed(told), "nothing")
        trouble = f"hangs: ended after {seconds:g} s, the last it told was {last}"
    elif code and not trouble:
        last_words = err.strip().splitlines()[-1:] or [""]
        trouble = f"failed with exit code {code}: {last_words[0][:200]}"
    known = {name: told[name] for name in Outcome.__slots__ if name in told and name not in {"name", "what"}}
    if "call" in known:
        known["call"] = tuple(known["call"])
    return Outcome(peer.name, peer.what, **(known | {"trouble": trouble}))


def merged(rounds: Sequence[Outcome]) -> Outcome:
    """Give the medians of what one peer told in all rounds; its words are those of the first, its trouble any."""
    figures: dict[str, Any] = {}
    for name in ("cast", "start", "restart", "memory"):
        known = [value for one in rounds if (value := getattr(one, name)) is not None]
        figures[name] = statistics.median(known) if known else None
    calls = [one.call for one in rounds if one.call]
    call = (statistics.median(p50 for p50, _ in calls), statistics.median(p99 for _, p99 in calls)) if calls else None
    trouble = next((one.trouble for one in rounds if one.trouble), "")
    return replace(rounds[0], call=call, trouble=trouble, **figures)


def cells(one: Outcome) -> tuple[str, ...]:
    call, p99 = one.call or (None, None)
    remark = "; ".join(part for part in (one.version, one.note, one.trouble) if part)
    return (
        one.what,
        figure(call, "µs"),
        figure(p99, "µs"),
        "-" if one.cast is None else f"{one.cast:,.0f}",
        figure(one.start, "ms"),
        figure(one.restart, "ms"),
        "-" if one.memory is None else f"{one.memory:.3f} MB" if one.memory < 1 else figure(one.memory, "MB"),
        remark,
    )


def text_table(lines: Iterable[Sequence[str]]) -> str:
    shown = [HEAD, *lines]
    widths = [max(len(line[column]) for line in shown) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:-1]), line[-1]]).rstrip()
        for line in shown
    )


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Be the parent of what loses its own, so that nothing a peer started can hide."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    was = ctypes.c_int()
    prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _end(before: set[psutil.Process]) -> None:
    """End what a peer left, and what that starts meanwhile."""
    while left := _descendants() - before:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    sys.exit(main())
