"""Events from the low floors, for whoever wants to know: logs, metrics, the live view, chaos.

A floor that does something worth knowing calls `emit`; it never knows who listens. Whoever listens
calls `attach`. Handlers run at once, in the process and the thread that emitted, in the order they
were attached. Nothing crosses a process boundary; a forked child inherits its parent's handlers.

Event names are words joined by dots, from the general to the particular: `mailbox.full`,
`process.exit`, `supervisor.restart`. Attaching to `mailbox` gets `mailbox` and all that begins with
`mailbox.`; attaching to the empty string gets everything.

Example:
    >>> seen = []
    >>> detach = attach("mailbox", lambda event, measurements: seen.append((event, measurements)))
    >>> emit("mailbox.full", waited=0.5)
    >>> emit("mailboxes", count=3)
    >>> seen
    [('mailbox.full', {'waited': 0.5})]
    >>> detach()
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

__all__ = ["Handler", "attach", "emit"]

Handler: TypeAlias = Callable[[str, Mapping[str, object]], object]


class _Attachment:
    """One call of `attach`; compared by identity, so the same handler may be attached twice."""

    __slots__ = ("dotted", "handler", "prefix")

    def __init__(self, prefix: str, handler: Handler) -> None:
        self.prefix = prefix
        self.dotted = f"{prefix}."
        self.handler = handler

    def wants(self, event: str) -> bool:
        return not self.prefix or event == self.prefix or event.startswith(self.dotted)


# Replaced, never changed in place: `emit` reads it without the lock, and a handler may attach or
# detach while it runs.
_attachments: tuple[_Attachment, ...] = ()
_changing = threading.Lock()
_log = logging.getLogger(__name__)


def emit(event: str, /, **measurements: object) -> None:
    """Tell the handlers attached to `event`, in the caller's thread, and return None.

    Handlers share one mapping of `measurements` and must not change it. A handler that raises an
    `Exception` is detached and logged, once, and the others still run; what is not an `Exception`
    (an exit signal) passes through. With nothing attached this costs the call alone.

    >>> emit("process.start", os_pid=42)
    """
    if not _attachments:
        return
    for attachment in _attachments:
        if not attachment.wants(event):
            continue
        try:
            attachment.handler(event, measurements)
        except Exception:  # noqa: BLE001  a broken listener must not break what it listens to
            if _detach(attachment):
                _log.warning(
                    "telemetry handler %r for %r raised and was detached",
                    attachment.handler,
                    attachment.prefix,
                    exc_info=True,
                )


def is_heard() -> bool:
    """Say whether anybody is attached: what only an event is to tell need not be found out else."""
    return bool(_attachments)


def attach(prefix: str, handler: Handler) -> Callable[[], None]:
    """Call `handler(event, measurements)` for every event under `prefix`, from now on.

    The handler runs in whatever process and thread emits, in the middle of its work: it must be
    quick and must not block.

    Returns:
        A function that detaches this handler; calling it again does nothing. A handler running in
        another thread at that moment still finishes.

    >>> detach = attach("", print)
    >>> detach()
    """
    global _attachments
    attachment = _Attachment(prefix, handler)
    with _changing:
        _attachments = (*_attachments, attachment)

    def detach() -> None:
        _detach(attachment)

    return detach


def _detach(attachment: _Attachment) -> bool:
    """Whether it was attached until now: of two threads that see it fail, one logs."""
    global _attachments
    with _changing:
        kept = tuple(each for each in _attachments if each is not attachment)
        was_attached = len(kept) < len(_attachments)
        _attachments = kept
    return was_attached


def _renew_lock() -> None:
    """After a fork: another thread may have held the lock, and that thread is not here."""
    global _changing
    _changing = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
