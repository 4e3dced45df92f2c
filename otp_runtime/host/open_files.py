"""What an OS process has open, and which processes it started: from `/proc`, best effort, no process is asked."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from otp_runtime.host import kernel

MOST_FILES: Final = 64
MOST_COMMAND_CHARS: Final = 200


def open_files(os_pid: int | str, hidden: str, standard: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    """Give what a process has open, by path, each once: files, devices, and sockets as `socket:[inode]`.

    Left out are pipes, event descriptors, the streams that this process has as `standard`, and what lies below
    `hidden`, the node's directory. More than 64 are counted, not named. `os_pid`: a number or "self". Empty when the
    process cannot be looked into.
    """
    directory = f"/proc/{os_pid}/fd"
    try:
        numbers = os.listdir(directory)
    except OSError:
        return []
    streams = {_target(f"/proc/self/fd/{number}") for number in standard}
    found = {_target(f"{directory}/{number}"): None for number in sorted(numbers, key=int)}
    plumbing = (f"{hidden}/", f"/proc/{os.getpid()}/fd", "anon_inode:", "pipe:")
    named = [path for path in found if path and path not in streams and not path.startswith(plumbing)]
    if len(named) > MOST_FILES:
        named[MOST_FILES:] = [f"… and {len(named) - MOST_FILES} more"]
    return named


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def command_of(os_pid: int) -> str | None:
    """Give the command line of a process, or its name in brackets; None when it has ended, a zombie too."""
    data = b""
    with contextlib.suppress(OSError), open(f"/proc/{os_pid}/cmdline", "rb") as file:
        data = file.read(MOST_COMMAND_CHARS * 4)
    text = " ".join(data.decode(errors="replace").split("\0")).strip()
    if not text:
        if kernel.zombie_status(os_pid) is not None or kernel.start_time(os_pid) is None:
            return None
        with contextlib.suppress(OSError), open(f"/proc/{os_pid}/comm", encoding="utf-8", errors="replace") as file:
            text = f"[{file.read().strip()}]"
    return text if len(text) <= MOST_COMMAND_CHARS else f"{text[: MOST_COMMAND_CHARS - 1]}…"
