"""`run --reload`: the tree is upgraded whenever its code changes on disk.

A thread watches; every change of a `.py` file below the directory upgrades the roots. One that fails is reported, and
the old code goes on until the next change.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output
from otp_runtime.cli.failures import CommandError
from otp_runtime.errors import CallError, UpgradeFailed
from otp_runtime.supervision.upgrade import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.terms.pid import Pid

UPGRADE_SECONDS = 30.0
STOP_SECONDS = 5.0
CHECK_MS = 100


class Reloader:
    """Watches a directory and upgrades what runs."""

    def __init__(self, directory: str) -> None:
        """Watch from now on, before anything of it is imported. Raises `CommandError` without the extra."""
        try:
            import watchfiles
        except ImportError as error:
            text = "--reload needs the extra reload: pip install 'otp-runtime[reload]'"
            raise CommandError(text) from error
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._changes: Iterator[Any] = watchfiles.watch(
            directory,
            watch_filter=watchfiles.PythonFilter(),
            stop_event=self._stop,
            rust_timeout=CHECK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        # it watches when it has yielded for the first time
        self._first = next(self._changes, set())

    def start(self, roots: list[Pid]) -> None:
        """Begin to upgrade; what changed since this was made counts."""
        self._thread = threading.Thread(target=self._upgrade, args=(roots,), name="otp_runtime-reload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _upgrade(self, roots: list[Pid]) -> None:
        for changed in itertools.chain((self._first,), self._changes):
            if changed:
                _reload(roots, sorted({Path(path).name for _kind, path in changed}))


def _reload(roots: list[Pid], files: list[str]) -> None:
    what = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    for root in roots:
        try:
            upgrade(root, timeout=UPGRADE_SECONDS)
        except (UpgradeFailed, CallError) as error:
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            print(f"otp: reload: {what} changed: {error}{notes}", flush=True)
            return
    print(f"otp: reload: {what} changed, {output.count(len(roots), 'root', 'roots')} upgraded", flush=True)
