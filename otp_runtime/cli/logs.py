"""`logs`: the reports of a node in this terminal, as they come. Reads along; the program gets them all the same."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE
from otp_runtime.host import pipe
from otp_runtime.process import reports

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from otp_runtime.host.directory import NodeDirectory

LOOK_SECONDS = 0.5
_STYLES = {logging.ERROR: "red", logging.CRITICAL: "red", logging.WARNING: "yellow", logging.DEBUG: "dim"}


def logs(options: argparse.Namespace) -> int:
    """Print reports until Ctrl-C, `--count` reports, or the end of the node."""
    directory = target.find_node(options.node)
    lowest = logging.getLevelNamesMapping()[options.level.upper()]
    left = options.count
    with contextlib.suppress(KeyboardInterrupt), _tail(directory) as fd:
        _tell(options, f"reading the reports of {target.look(directory).name}; Ctrl-C ends it")
        for record in _records(directory, fd):
            if record.levelno < lowest:
                continue
            _show(options, record)
            left = None if left is None else left - 1
            if left == 0:
                return DONE
        _tell(options, "the node has ended")
    return DONE


@contextlib.contextmanager
def _tail(directory: NodeDirectory) -> Iterator[int]:
    """Make a FIFO into which every report is written too, and remove it."""
    path = f"{directory.tails}/{os.getpid()}"
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    # a write end of one's own, else the poll sees a hang-up whenever no report is on its way
    own_end = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
        os.close(own_end)
        with contextlib.suppress(OSError):
            os.unlink(path)


def _records(directory: NodeDirectory, fd: int) -> Iterator[logging.LogRecord]:
    unframer = pipe.Unframer(f"{directory.path}/seg")
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        ready = poll.poll(LOOK_SECONDS * 1000)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(fd, pipe.READ_SIZE):
                yield from reports.read(unframer, chunk)
        if not ready and not os.path.exists(directory.tails):
            return


def _show(options: argparse.Namespace, record: logging.LogRecord) -> None:
    if options.json:
        print(output.as_json(_facts(record)), flush=True)
        return
    paint = output.Painter()
    who = getattr(record, "server", None)
    head = f"{output.clock(record.created)} {record.levelname:<7}"
    text = record.getMessage()
    if who is not None and not record.name.startswith("otp_runtime"):
        text = f"{who}: {text}"
    print(f"{paint(head, 'dim')} {paint(text, _STYLES.get(record.levelno, ''))}", flush=True)
    if record.exc_text:
        print(record.exc_text, flush=True)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {
        "at": record.created,
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
        "otp": getattr(record, "otp", None),
        "traceback": record.exc_text,
    }


def _tell(options: argparse.Namespace, text: str) -> None:
    """Say what is no report."""
    if not options.json:
        print(output.Painter()(f"{output.clock(time.time())} {text}", "dim"), flush=True)
