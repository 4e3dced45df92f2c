"""Reports on their way from any process of the node to the program's `logging`.

They travel through one FIFO that a thread of the program reads, frame by frame like a mailbox: no lock is
shared, a killed writer tears nothing. When nobody reads (the program is dying, or floods itself), a report is
written to standard error instead of being lost.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.host import pipe
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory

_codec = Codec()
_numbers = itertools.count(1)
PATIENCE_SECONDS = 0.2
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def send(directory: NodeDirectory, record: dict[str, Any]) -> None:
    """Send a report to the program; to standard error when that is not to be had."""
    payload = _codec.encode(record)
    frames = (
        [pipe.whole(payload)] if len(payload) <= pipe.PAYLOAD_MAX else pipe.parts(payload, os.getpid(), next(_numbers))
    )
    try:
        fd = os.open(directory.log, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        _say(record)
        return
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        for frame in frames:
            if not _write(fd, frame, deadline):
                _say(record)
                return
    finally:
        os.close(fd)


def _write(fd: int, frame: bytes, deadline: float) -> bool:
    while True:
        try:
            os.write(fd, frame)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            os.sched_yield()
        except OSError:
            return False
        else:
            return True


def _say(record: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.write(2, f"{record.get('name')}: {record.get('message')}\n".encode(errors="replace"))


def to_log_record(record: dict[str, Any]) -> logging.LogRecord:
    """Make the `logging` record that a report stands for; its fields are attributes (`record.server` …)."""
    made = logging.makeLogRecord(
        {
            "name": record.get("name", "otp_runtime"),
            "levelno": record.get("level", logging.ERROR),
            "levelname": logging.getLevelName(record.get("level", logging.ERROR)),
            "msg": record.get("message", ""),
            "args": (),
            "created": record.get("created", time.time()),
            "process": record.get("os_pid"),
            "processName": record.get("server") or "otp_runtime",
            "exc_text": record.get("exc_text"),
        }
    )
    for key, value in record.get("extra", {}).items():
        if key not in _STANDARD:
            setattr(made, key, value)
    return made


class ForwardHandler(logging.Handler):
    """The root handler of a server: its `logging` records appear in the program, with `server` and `pid`."""

    def __init__(self, directory: NodeDirectory, server: str, pid: str) -> None:
        """Say whose records these are."""
        super().__init__()
        self._directory = directory
        self._who = {"server": server, "pid": pid}

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            exc_text = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text
            extra = {
                key: value if isinstance(value, int | float | str | bool | None) else repr(value)
                for key, value in vars(record).items()
                if key not in _STANDARD
            }
            send(
                self._directory,
                {
                    "name": record.name,
                    "level": record.levelno,
                    "message": record.getMessage(),
                    "created": record.created,
                    "os_pid": os.getpid(),
                    "server": self._who["server"],
                    "exc_text": exc_text,
                    "extra": {**self._who, **extra},
                },
            )
        except Exception:  # noqa: BLE001 - logging must never end its user; this is logging's own rule
            self.handleError(record)


def receive(unframer: pipe.Unframer, chunk: bytes) -> None:
    """In the program: hand what was read to `logging`."""
    for payload in unframer.feed(chunk):
        try:
            record = to_log_record(_codec.decode(payload))
        except Exception as error:  # noqa: BLE001 - a report nobody can read must not end the thread that reads
            sys.stderr.write(f"otp_runtime: an unreadable report was dropped: {error!r}\n")
            continue
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
