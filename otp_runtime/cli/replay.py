"""`otp replay`: run again what led to a server's death, in the foreground.

    this command: finds the recording ──► a fresh interpreter (cli.replaying) runs it ──► this command judges the end

The callbacks run in a process of their own, so that a death by a signal ends that one; it has a node of its own, in a
directory that is removed with it, so that no message reaches the node whose server died.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, FAILED, INTERRUPTED, CommandError, NoSuchThing, WrongUsage
from otp_runtime.host import recording_file
from otp_runtime.process import death, recordings
from otp_runtime.process.context import signal_name
from otp_runtime.terms.reason import Exited, Signalled, describe

if TYPE_CHECKING:
    import argparse

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.death import Death
    from otp_runtime.process.recordings import About

_WARNING = (
    "the callbacks really run here: files and databases are touched again; messages go nowhere, as no other server runs"
)


def perform(options: argparse.Namespace) -> int:
    """Replay the last recorded death of a server. Raises `NoSuchThing` when none is recorded."""
    if options.pdb and options.json:
        raise WrongUsage("--pdb is for people, --json for programs: not both")
    directory = target.find_node(options.node)
    path, about = _recorded(directory, options.name)
    record = _death_of(directory, about)
    try:
        recording = recording_file.read(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"the recording of {about.server} cannot be read: {error}") from error
    count = len(recording.entries)
    if options.at is not None and options.at > count:
        raise WrongUsage(f"--at {options.at}: {output.count(count, 'message')} of {about.server} were recorded")
    if not options.json:
        print(f"{about.server} <{about.id}@{about.node}>: {output.count(count, 'message')} since the state it had")
        if record is not None:
            print(f"it died of: {describe(record.reason)}")
        print(_WARNING, flush=True)
    with tempfile.TemporaryDirectory(prefix="otp-replay-") as here:
        status = _run(options, directory, path, Path(here))
        events = _events(Path(here) / "events")
        stack = _text_of(Path(here) / "fault")
    return _tell(options, about, record, events, _end_of(events, status, stack))


def _recorded(directory: NodeDirectory, text: str) -> tuple[str, About]:
    number = target.parse_pid(text)
    for path, about in reversed(recordings.of_the_dead(directory)):
        if about.server == text or about.id == number:
            return path, about
    if damaged := recordings.spoilt(directory, text, number):
        raise CommandError(f"the recording of {text} cannot be read: something has damaged {damaged}")
    deaths = [record for record in death.records(directory) if record.server == text or record.id == number]
    if deaths:
        raise NoSuchThing(f"{text} died, but was not recorded: start it with record=True; `otp why {text}` says more")
    raise NoSuchThing(f"no death of {text} is recorded in this node; servers are recorded that run with record=True")


def _death_of(directory: NodeDirectory, about: About) -> Death | None:
    return next((record for record in reversed(death.records(directory)) if record.id == about.id), None)


def _run(options: argparse.Namespace, directory: NodeDirectory, path: str, here: Path) -> int:
    """Run the recording in an interpreter of its own; give its wait status as `subprocess` says it."""
    orders = {
        "recording": path,
        "definitions": directory.definition(""),
        "here": str(here),
        "at": options.at,
        "pdb": options.pdb,
        "json": options.json,
    }
    environment = {key: value for key, value in os.environ.items() if key != "OTP_NODE"}
    (here / "nodes").mkdir(mode=0o700)
    # what a callback printed before it ended the process is seen
    environment |= {"OTP_RUNTIME_DIR": str(here / "nodes"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "otp_runtime.cli.replaying", json.dumps(orders)]
    known = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for what runs there
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, known)


def _events(path: Path) -> list[dict[str, Any]]:
    events = []
    for line in _text_of(path).splitlines():
        # the last one may be torn, by what ended the process
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _end_of(events: list[dict[str, Any]], status: int, stack: str) -> dict[str, Any]:
    """Say how a replay ended: what it said itself, else what became of its process."""
    said = next((event["end"] for event in events if "end" in event), None)
    if said is not None:
        return dict(said)
    if status < 0:
        reason: Any = Signalled(signal_name(-status))
        return {"outcome": "signal", "reason": describe(reason), "native_stack": stack or None}
    return {"outcome": "exit", "reason": describe(Exited(status))}


def _tell(
    options: argparse.Namespace, about: About, record: Death | None, events: list[dict[str, Any]], end: dict[str, Any]
) -> int:
    recorded = None if record is None else describe(record.reason)
    is_same = recorded is not None and end.get("reason") == recorded.removesuffix(" (core dumped)")
    outcome = end["outcome"]
    code = DONE if outcome in {"exception", "stop", "returned", "before"} else FAILED
    if options.json:
        output.print_json(
            {
                "server": about.server,
                "pid": f"<{about.id}@{about.node}>",
                "died_of": recorded,
                "state": next((event["state"] for event in events if "state" in event), None),
                "messages": [event["message"] for event in events if "message" in event],
                **end,
                "reproduced": is_same,
            }
        )
        return code
    for text in (end.get("traceback"), end.get("native_stack")):
        if text and not options.pdb:
            print(text.rstrip())
    print(_verdict(outcome, end.get("reason"), recorded, is_same=is_same))
    return code


def _verdict(outcome: str, reason: str | None, recorded: str | None, *, is_same: bool) -> str:
    match outcome:
        case "failed" if reason == INTERRUPTED:
            return reason
        case "failed":
            return f"cannot be replayed: {reason}"
        case "before":
            return f"stopped before message {reason}"
        case "returned":
            then = "" if recorded is None else f"; what it died of has not come again: {recorded}"
            return f"the end of the recording: the last callback returned{then}"
        case _ if is_same:
            return f"reproduced: {reason}"
        case "signal" | "exit":
            return f"the process of the replay ended: {reason}" + (f"; recorded was: {recorded}" if recorded else "")
        case _:
            return f"it ended: {reason}" + (f"; recorded was: {recorded}" if recorded else "")


__all__ = ["perform"]
