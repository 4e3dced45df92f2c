"""Reports on their way from any process of the node to the program's `logging`.

They travel through one FIFO that a thread of the program reads, frame by frame like a mailbox: no lock is
shared, a killed writer tears nothing. When nobody reads (the program is dying, or floods itself), a report is
written to standard error instead of being lost. Whoever else wants to read along (`otp logs`) makes a FIFO of its own
in `tails/`; what finds no room there is lost.

Each is a record of one of these loggers, with what is known as plain data in `record.otp`, whose "report" says which:

    otp_runtime.crash         a process ended abnormally                                      error      "crash"
    otp_runtime.supervisor    a child could not start or be stopped; a supervisor gives up    error      "supervisor"
    otp_runtime.progress      a supervisor started a child                                    info/debug "progress"
    otp_runtime.application   applications started, stopped, ended                            info/error "log"
    otp_runtime               something is wrong and harmless                                 warning    "warning"
    any other                 what a server itself logged                                     any        "log"
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from otp_runtime.host import pipe
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    _send_to_tails(directory, frames)
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


def _send_to_tails(directory: NodeDirectory, frames: list[bytes]) -> None:
    """Let whoever reads along have a report, if there is room at once; forget a reader that is gone."""
    try:
        names = os.listdir(directory.tails)
    except OSError:
        return
    for name in names:
        path = f"{directory.tails}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            continue
        try:
            for frame in frames:
                os.write(fd, frame)
        except OSError:
            pass
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

    def __init__(self, directory: NodeDirectory) -> None:
        """Send to the program of the node in `directory`."""
        super().__init__()
        self._directory = directory
        self.who = {"server": "", "pid": ""}

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
                    "server": self.who["server"],
                    "exc_text": exc_text,
                    "extra": {**extra, **self.who, "otp": {"report": "log", **self.who, "os_pid": os.getpid()}},
                },
            )
        except Exception:  # noqa: BLE001 - logging must never end its user; this is logging's own rule
            self.handleError(record)


_forwarder: ForwardHandler | None = None


def prepare(directory: NodeDirectory) -> ForwardHandler:
    """Make the handler that every child of this process is to have, before they are forked: it is dear to make."""
    global _forwarder
    if _forwarder is None:
        _forwarder = ForwardHandler(directory)
    return _forwarder


def forwarder(directory: NodeDirectory, server: str, pid: str) -> ForwardHandler:
    """Give this process's root handler; its records say that they are of `server`, whose pid is `pid`."""
    handler = prepare(directory)
    handler.who = {"server": server, "pid": pid}
    return handler


def read(unframer: pipe.Unframer, chunk: bytes) -> Iterator[logging.LogRecord]:
    """Give the records in what was read."""
    for payload in unframer.feed(chunk):
        try:
            yield to_log_record(_codec.decode(payload))
        except Exception as error:  # noqa: BLE001 - a report nobody can read must not end the thread that reads
            sys.stderr.write(f"otp_runtime: an unreadable report was dropped: {error!r}\n")


def receive(unframer: pipe.Unframer, chunk: bytes) -> None:
    """In the program: hand what was read to `logging`."""
    for record in read(unframer, chunk):
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
