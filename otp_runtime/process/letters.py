"""Dead letters: messages that were in hand when their server died, once too often. They lie in the node's directory.

    letters/<when>-<id>     one file for each: what it was, of whom, of which deaths. The last `KEPT_LETTERS` are kept.

Why a server died with a message in hand only its OS parent sees, which writes that down (`note_death`). The successor
finds the message in hand, decides (`core.mailbox`), and makes it a dead letter; without one, the OS parent does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.errors import CodecError
from otp_runtime.process import death, places
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.reason import describe

if TYPE_CHECKING:
    from otp_runtime.host.box import Box
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.host.mail_file import InHand
    from otp_runtime.process.context import Context

KEPT_LETTERS = 1000
_LONGEST_RECORD = 1 << 20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that its server does not try again.

    `message` says it for people, `deaths` which deaths it had a part in, oldest first, each with `reason` and `at`;
    `reason` is the last one's. Times are seconds since the epoch. `payload` is the message as it travelled.
    """

    id: str
    server: str
    message: str
    deaths: list[dict[str, Any]]
    reason: str
    at: float
    payload: bytes = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Give plain data, without the payload."""
        return {key: value for key, value in asdict(self).items() if key != "payload"}


# -- deaths with a message in hand, by the OS parent -------------------------------------------------------


def note_death(place: places.Place, epoch: int, number: int, reason: Any, at: float) -> None:
    """Note that a server died with a letter in hand."""
    record = Codec().encode([epoch, number, describe(reason), at])
    with contextlib.suppress(OSError):
        fd = os.open(places.deaths_of(place), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(len(record).to_bytes(4, "little") + record)


def deaths_of(place: places.Place, epoch: int, number: int) -> list[dict[str, Any]]:
    """Give the deaths with a letter in hand, oldest first; one without a reason where nobody was there to note it."""
    found = []
    with contextlib.suppress(OSError, CodecError, ValueError, TypeError), open(places.deaths_of(place), "rb") as file:
        while (head := file.read(4)) and (length := int.from_bytes(head, "little")) <= _LONGEST_RECORD:
            whose, which, reason, at = Codec().decode(file.read(length))
            if (whose, which) == (epoch, number):
                found.append({"reason": reason, "at": at})
    return found or [{"reason": "killed, and its supervisor too", "at": time.time()}]


def forget_deaths(place: places.Place) -> None:
    """The letter in hand is dealt with."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(places.deaths_of(place))


# -- keeping -----------------------------------------------------------------------------------------------


def keep(
    context: Context,
    box: Box,
    place: places.Place,
    payload: bytes,
    which: InHand,
    deaths: list[dict[str, Any]],
    *,
    name: str = "",
) -> None:
    """Make a message of the server with this box and place a dead letter, and report it, once.

    `name` is the one that it is about to take, if it has none yet. It is the same letter however often it is kept.
    """
    directory = context.directory
    key = f"{place[0]} {which.epoch} {which.number}"
    letter = DeadLetter(
        id=hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8],
        server=box.name or name or box.label,
        message="a message that cannot be decoded" if which.is_reading else death.describe_message(payload) or "",
        deaths=deaths,
        reason=deaths[-1]["reason"],
        at=deaths[-1]["at"],
        payload=bytes(payload),
    )
    if find(directory, letter.id) is not None:
        return
    try:
        _write(directory, letter)
    except OSError as error:
        context.node.warn(f"{letter.server}: a dead letter could not be kept: {error}: {letter.message}")
    _report(context, letter, repr(context.pid_of(box.identity.id)))


def _write(directory: NodeDirectory, letter: DeadLetter) -> None:
    name = f"{time.time_ns():020d}-{letter.id}"
    draft = f"{directory.letters}/.{name}"
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(Codec().encode(asdict(letter)))
    os.rename(draft, f"{directory.letters}/{name}")
    for oldest in _names(directory)[:-KEPT_LETTERS]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory.letters}/{oldest}")


def _report(context: Context, letter: DeadLetter, pid: str) -> None:
    times = "once" if len(letter.deaths) == 1 else f"{len(letter.deaths)} times"
    text = (
        f"{letter.server} died {times} with a message in hand, which is a dead letter now: {letter.message}\n"
        f"  last death: {letter.reason}\n"
        f"  see it: otp letters show {letter.id}; send it again: otp letters replay {letter.id}"
    )
    facts = {"report": "letter", "os_pid": os.getpid(), "pid": pid, **letter.to_json()}
    context.node.report("otp_runtime.letter", 40, text, facts)
    telemetry.emit(
        "letter", server=letter.server, id=letter.id, deaths=len(letter.deaths), reason=letter.reason, at=letter.at
    )


# -- reading -----------------------------------------------------------------------------------------------


def _names(directory: NodeDirectory) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory.letters) if not name.startswith("."))
    except FileNotFoundError:
        return []


def dead_letters(directory: NodeDirectory) -> list[DeadLetter]:
    """Give all that are kept, oldest first."""
    found = []
    for name in _names(directory):
        with contextlib.suppress(OSError, CodecError, TypeError), open(f"{directory.letters}/{name}", "rb") as file:
            found.append(DeadLetter(**Codec().decode(file.read())))
    return found


def find(directory: NodeDirectory, letter_id: str) -> DeadLetter | None:
    """Give the letter of an id; None when there is none."""
    return next((letter for letter in dead_letters(directory) if letter.id == letter_id), None)


def drop(directory: NodeDirectory, letter_id: str) -> bool:
    """Forget a letter; say whether it was there."""
    for name in _names(directory):
        if name.endswith(f"-{letter_id}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory.letters}/{name}")
                return True
    return False
