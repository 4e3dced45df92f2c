"""Importing the children's modules ahead, so that a restart does not pay for it again.

A supervisor imports a module only after a throw-away process did so without dying and without leaving threads: an
import that segfaults must kill no supervisor. What fails the trial each child imports itself, and fails alone.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.process import boot, current, shipping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otp_runtime.core.child_spec import ChildSpec

TRIAL_SECONDS = 30.0
TRIAL_SECONDS_LATER = 2.0
"""The same while the supervisor has children to look after: it waits for the trial and does nothing else."""

_tried: set[str] = set()


def modules_of(start: tuple[Any, ...]) -> tuple[str, ...]:
    """Give the importable modules that define what a start function runs, and what it is given."""
    function, args, kwargs = start
    found = _of_the_library(getattr(function, "__self__", None), kwargs)
    for thing in (getattr(function, "__self__", None), function, *args):
        module = getattr(thing if isinstance(thing, type) or callable(thing) else type(thing), "__module__", None)
        if isinstance(module, str) and module not in {"__main__", "__mp_main__", "builtins"}:
            found.append(module)
    return tuple(dict.fromkeys(found))


def _of_the_library(cls: Any, options: Mapping[str, Any]) -> list[str]:
    """Give what the library itself imports only for some servers."""
    found = []
    if options.get("record", (getattr(cls, "options", None) or {}).get("record")):
        found.append("otp_runtime.behaviours.recording_loop")
    if hasattr(cls, "callback_mode"):
        found.append("otp_runtime.behaviours.statem_server")
    return found


def preload(names: Iterable[str], seconds: float = TRIAL_SECONDS) -> None:
    """Import modules into this supervisor, those that pass a trial of at most so many seconds. Each is tried once."""
    for name in names:
        if name in sys.modules or name in _tried:
            continue
        _tried.add(name)
        if name.startswith("otp_runtime.") or _is_sound(name, seconds):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
                current.note_import_ahead()


def preload_for(spec: ChildSpec) -> None:
    """Import what a child that is about to be started needs, if none before it did: a thousand may follow."""
    preload(spec.preload, TRIAL_SECONDS_LATER)
    if isinstance(spec.start, bytes) and shipping.needs_dill(spec.start):
        _load_dill()


def preload_dill(directory: str, sealed: Iterable[Any]) -> None:
    """Load the pickler of functions once here, not in every child, when this node ships any by value."""
    if os.listdir(directory) or any(isinstance(start, bytes) and shipping.needs_dill(start) for start in sealed):
        _load_dill()


def _load_dill() -> None:
    if "dill" not in sys.modules:
        shipping.load_dill()
        current.note_import_ahead()


def _is_sound(name: str, seconds: float) -> bool:
    read_end, write_end = os.pipe()
    pid = current.fork_for_child()
    if pid == 0:
        _try(name, write_end)
    os.close(write_end)
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    deadline = time.monotonic() + seconds
    sound = bool(poll.poll(seconds * 1000)) and os.read(read_end, 1) == b"1"
    os.close(read_end)
    if not sound and time.monotonic() >= deadline:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return sound


def _try(name: str, write_end: int) -> None:
    try:
        boot.loading = True
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        importlib.import_module(name)
        if threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1:
            os.write(write_end, b"1")
    finally:
        os._exit(0)
