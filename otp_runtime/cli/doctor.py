"""`doctor`: can this machine run nodes, and how well? Each check looks at one thing and says what to do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from otp_runtime.cli import output
from otp_runtime.cli.failures import DONE, FAILED
from otp_runtime.core.names import name_of
from otp_runtime.host import directory as directories
from otp_runtime.host import kernel
from otp_runtime.process import node as nodes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

ROOM_WANTED_BYTES = 64_000_000
INODES_WANTED = 10_000
DESCRIPTORS_WANTED = 4096
PIPES_PER_PROCESS = 2
DEFAULT_PIPE_PAGES = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `level` "ok", "warning" (works, with a limit) or "failure"; `advice` when not ok."""

    check: str
    level: Literal["ok", "warning", "failure"]
    text: str
    advice: str = ""


def perform(options: argparse.Namespace) -> int:
    """Run all checks and print what they found; exit code 1 when a node could not run here."""
    findings = [finding for check in CHECKS for finding in check()]
    failed = any(finding.level == "failure" for finding in findings)
    if options.json:
        output.print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
        return FAILED if failed else DONE
    paint = output.Painter()
    marks = {"ok": paint("✓", "green"), "warning": paint("!", "yellow"), "failure": paint("✗", "red")}
    wide = max(len(finding.check) for finding in findings)
    for finding in findings:
        print(f"{marks[finding.level]} {paint(finding.check.ljust(wide), 'bold')}  {finding.text}")
        if finding.advice:
            print(f"  {' ' * wide}  {paint('→ ' + finding.advice, 'dim')}")
    worried = sum(finding.level == "warning" for finding in findings)
    notes = f" ({output.count(worried, 'warning')})" if worried else ""
    print(f"this machine cannot run nodes{notes}" if failed else f"all well: nodes can run here{notes}")
    return FAILED if failed else DONE


# -- the checks --------------------------------------------------------------------------------------------------------


def check_system() -> list[Finding]:
    """Linux, its kernel, /proc."""
    try:
        kernel.check_system()
    except kernel.UnsupportedSystem as error:
        return [Finding("system", "failure", str(error), "run it on Linux 5.4 or later")]
    return [Finding("system", "ok", f"Linux {platform.release()}")]


def check_python() -> list[Finding]:
    """The interpreter and the libraries."""
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs from a checkout may have an older one
        return [Finding("Python", "failure", f"Python {version}", "use Python 3.11 or later")]
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in ("msgpack", "psutil", "multiprocess")]
    found = [Finding("Python", "ok", f"Python {version}, {', '.join(libraries)}")]
    if importlib.util.find_spec("rich") is None:
        text = "rich is missing: the live tree is drawn plainly"
        found.append(Finding("extra cli", "warning", text, "pip install 'otp-runtime[cli]'"))
    return found


def check_proc() -> list[Finding]:
    """What the runtime reads in /proc."""
    if kernel.start_time(os.getpid()) is None:
        return [Finding("/proc", "failure", "/proc/self/stat cannot be read", "mount -t proc proc /proc")]
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        advice = "a kernel with CONFIG_PROC_CHILDREN is quicker"
        return [Finding("/proc", "warning", "no list of children: orphans are found by a scan", advice)]
    return [Finding("/proc", "ok", "readable, with lists of children")]


def check_directory() -> list[Finding]:
    """The runtime directory: private, writable, room for boxes and pipes."""
    base = directories.base_directory()
    try:
        directories.ensure_private(base)
        _try_a_pipe(base)
    except OSError as error:
        advice = "set OTP_RUNTIME_DIR to a directory of your own on a local file system"
        return [Finding("directory", "failure", str(error), "" if "OTP_RUNTIME_DIR" in str(error) else advice)]
    found = [Finding("directory", "ok", f"{base} is yours alone and takes pipes")]
    room = os.statvfs(base)
    free = room.f_bavail * room.f_frsize
    text = f"{output.size(free)} free" + (f", {room.f_favail} inodes" if room.f_files else "")
    if free < ROOM_WANTED_BYTES or (room.f_files and room.f_favail < INODES_WANTED):
        advice = "make room, or set OTP_RUNTIME_DIR; a container's /dev/shm grows with --shm-size"
        return [*found, Finding("room", "warning", f"only {text}", advice)]
    return [*found, Finding("room", "ok", text)]


def _try_a_pipe(base: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".doctor", dir=base) as place:
        os.mkfifo(f"{place}/pipe", 0o600)
        fd = os.open(f"{place}/pipe", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(fd)
        fd = os.open(f"{place}/box", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            directories.reserve(fd, 8192, f"{place}/box")
        finally:
            os.close(fd)


def check_descriptors() -> list[Finding]:
    """How many files one process may have open; a node lifts the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{_limit(soft)} open files a process, nodes take up to {_limit(hard)}"
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_WANTED:
        advice = f"raise the hard limit (ulimit -Hn {DESCRIPTORS_WANTED}): a supervisor needs some for each child"
        return [Finding("descriptors", "warning", text, advice)]
    return [Finding("descriptors", "ok", text)]


def _limit(number: int) -> str:
    return "any number of" if number == resource.RLIM_INFINITY else str(number)


def check_pipes() -> list[Finding]:
    """Past this many pages of pipes, an unprivileged user's new ones are small: they work, with less room."""
    soft, hard = _kernel_number("pipe-user-pages-soft"), _kernel_number("pipe-user-pages-hard")
    if hard:
        text = f"pipe-user-pages-hard is {hard}: past {hard // DEFAULT_PIPE_PAGES} pipes none can be made"
        return [Finding("pipes", "warning", text, "sysctl fs.pipe-user-pages-hard=0")]
    if not soft:
        return [Finding("pipes", "ok", "no limit on a user's pipes")]
    roomy = soft // DEFAULT_PIPE_PAGES // PIPES_PER_PROCESS
    text = f"pipe-user-pages-soft is {soft}: the mailboxes of about {roomy} servers have their full 64 KiB"
    if roomy < 100:
        return [Finding("pipes", "warning", text, "sysctl fs.pipe-user-pages-soft=16384 (the kernel's default)")]
    return [Finding("pipes", "ok", text)]


def _kernel_number(name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/sys/fs/{name}").read_text(encoding="ascii"))
    return 0


def check_nodes() -> list[Finding]:
    """Running nodes, and directories that no guard removed."""
    base = directories.base_directory()
    try:
        running = nodes.running_nodes()
        present = sorted(base.iterdir()) if base.is_dir() else []
    except OSError as error:
        return [Finding("nodes", "failure", str(error))]
    found = [Finding("nodes", "ok", f"running: {', '.join(running) or 'none'}")]
    named = {path: name_of(path.name) for path in present if path.is_dir()}
    stray = [str(path) for path, name in named.items() if name is not None and name not in running]
    if stray:
        text = f"{output.count(len(stray), 'directory', 'directories')} left behind"
        found.append(Finding("stray", "warning", text, f"rm -r {' '.join(stray)}"))
    return found


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_system,
    check_python,
    check_proc,
    check_directory,
    check_descriptors,
    check_pipes,
    check_nodes,
)
