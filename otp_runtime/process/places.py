"""Where a process keeps its state: a place that belongs to a child id under its supervisors, not to a process.

A place is a path and a lineage. The path has no suffix; what lies there is `<path>.state`, one server's kept states,
`<path>.mail`, what is in its durable mailbox, `<path>.record`, what it received (`process.recordings`), or `<path>/`,
the places of a supervisor's children. The lineage is the same for people, and for databases, which the next run of the
same application opens: the root's name or label, then the child ids.

    state/12/7f3a…/c04e….state        ("Shop", "tills", "('till', 1)")

The OS parent gives a place to each child and is the one who forgets it: when the child ended normally of its own
accord, and when its spec is gone. A child that its supervisor told to end (in a group restart, by `terminate_child`)
keeps its place, and so does one that is killed, with all that hangs below it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import keyword
import os
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from otp_runtime.core.snapshots import IN_USE, Streak
from otp_runtime.host import snapshot_file

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.job import Job

Place: TypeAlias = "tuple[str, ...]"

_PLAIN = re.compile(r"[A-Za-z_][\w@:. -]*", re.ASCII)


def place_of(directory: NodeDirectory, job: Job, process_id: int) -> Place:
    """Give the place of a process: the one its supervisor gave it, else one of its own."""
    return job.place or (directory.state(process_id), job.name or job.label)


def place_of_child(parent: Place, child_id: Any) -> Place:
    """Give the place of a child of the supervisor whose place is `parent`."""
    text = text_of(child_id)
    return f"{parent[0]}/{_digest_of(text)}", *parent[1:], text


@functools.lru_cache(maxsize=64)
def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:24]


def text_of(child_id: Any) -> str:
    """Say a child id as a text that no other id has: a plain word as itself, all else as Python writes it."""
    if isinstance(child_id, str) and _PLAIN.fullmatch(child_id) and not keyword.iskeyword(child_id):
        return child_id
    return repr(child_id)


def file_of(place: Place) -> str:
    """Give the path of the kept states of a server."""
    return f"{place[0]}.state"


def recording_of(place: Place) -> str:
    """Give the path of the recording of a server."""
    return f"{place[0]}.record"


def mail_of(place: Place) -> str:
    """Give the path of the log of a server's durable mailbox."""
    return f"{place[0]}.mail"


def fifo_of(place: Place) -> str:
    """Give the path of a durable mailbox itself, which the processes that have it one after the other share."""
    return f"{place[0]}.in"


def deaths_of(place: Place) -> str:
    """Give the path of the records of the deaths with one message in hand."""
    return f"{place[0]}.deaths"


def forget(place: Place) -> None:
    """Forget what a child kept, and what the children of a supervisor kept."""
    snapshot_file.forget(file_of(place))
    snapshot_file.forget(recording_of(place))
    forget_mail(place)
    if os.path.isdir(place[0]):
        import shutil

        shutil.rmtree(place[0], ignore_errors=True)


def forget_mail(place: Place) -> None:
    """Forget what was in a durable mailbox."""
    for path in (mail_of(place), f"{mail_of(place)}.new", fifo_of(place), deaths_of(place)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def note_death(place: Place, *, told: bool) -> bytes | None:
    """Count a death in the streak of the server; give its newest state, if that can be shown.

    Counted is a death that nobody told it to die, with the state in its hands and before one callback returned.
    """
    remains = snapshot_file.look(file_of(place))
    if remains is None:
        return None
    if remains.phase == IN_USE and not told:
        snapshot_file.set_streak(file_of(place), Streak.from_int(remains.streak).after_crash().to_int())
    return remains.body
