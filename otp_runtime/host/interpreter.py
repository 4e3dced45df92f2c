"""A fresh interpreter of this Python, which finds this package wherever it came from."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_FD = 3
"""Where one that was spawned says how its start went."""

_OWN_GROUP: dict[str, Any] = {"setpgroup": 0, "setsigmask": (signal.SIGTTOU,)}
"""Of the background: who writes to its terminal may be stopped, as long as it has one."""


def environment() -> dict[str, str]:
    """Give the environment of this process, with the package on the path."""
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package_parent, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def words_of(module: str, arguments: Sequence[object]) -> list[str]:
    """Give the command line that runs a module."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def spawn(module: str, arguments: Sequence[object], ready_fd: int, *, own_session: bool = False) -> int:
    """Run a module in a new process, whose `READY_FD` is a copy of `ready_fd`; give its OS pid.

    It has a process group of its own, so that Ctrl-C reaches only the program, and calls `kernel.leave_terminal` first
    of all; with `own_session` a session, as what outlives the program needs. It has nothing to read, and signals as
    they are at the beginning.
    """
    group = {"setsid": True, "setsigmask": ()} if own_session else _OWN_GROUP
    return os.posix_spawn(
        sys.executable,
        words_of(module, arguments),
        environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, ready_fd, READY_FD),
        ],
        **group,
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP),
    )
