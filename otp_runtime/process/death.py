"""Deaths explained: the record of an end, kept for `why` and reported once through `logging`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.core.names import file_name_of, is_name
from otp_runtime.errors import CodecError
from otp_runtime.process import current, reports
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import Crash, Exited, Signalled, describe, is_abnormal

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.offspring import Child

KEPT_PER_SERVER = 10
SHOWN_MAX = 4000
_KINDS = {wire.CALL: "call", wire.CAST: "cast", wire.SEND: "info", wire.SYSTEM: "system"}


@dataclass(frozen=True, slots=True)
class Death:
    """Why a process ended: what its OS parent saw and what it said itself.

    `kind` is "exception", "signal", "exit_code", "killed", "limit" or "hang"; times are seconds since the epoch.
    What was not to be had is None or empty.
    """

    server: str
    id: int
    os_pid: int
    reason: Any
    kind: str
    signal: str | None = None
    exit_code: int | None = None
    oom: bool = False
    message_in_hand: str | None = None
    last_good_state: str | None = None
    state: str | None = None
    python_traceback: str | None = None
    native_stack: str | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    subprocesses: list[int] = field(default_factory=list)
    open_files: list[str] = field(default_factory=list)
    stderr_tail: str | None = None
    supervisor: str | None = None
    strategy: str | None = None
    siblings: list[str] = field(default_factory=list)
    restart: dict[str, Any] | None = None
    backoff: float | None = None
    started_at: float = 0.0
    died_at: float = 0.0
    context: str = "child_terminated"

    def to_json(self) -> dict[str, Any]:
        """Give plain data; the reason as `describe` says it."""
        return {**asdict(self), "reason": _plain(self.reason)}


def _plain(term: Any) -> Any:
    if isinstance(term, Crash | Signalled | Exited):
        return describe(term)
    if term is None or isinstance(term, str | int | float | bool):
        return term
    if isinstance(term, tuple | list):
        return [_plain(part) for part in term]
    return repr(term)


# -- making ------------------------------------------------------------------------------------------------


def make_record(directory: NodeDirectory, child: Child, reason: Any, facts: dict[str, Any]) -> Death:
    """Gather what is known of a child that was just reaped."""
    assert child.box is not None
    identity = child.box.identity
    words = child.words
    return Death(
        server=child.box.name or child.box.label or repr(child.pid),
        id=child.id,
        os_pid=child.os_process.pid,
        reason=reason,
        kind=_kind(reason),
        signal=reason.name if isinstance(reason, Signalled) else None,
        exit_code=reason.code if isinstance(reason, Exited) else None,
        oom=isinstance(reason, Signalled) and reason.oom,
        message_in_hand=words.get("message") or describe_message(child.box.message_in_hand),
        last_good_state=words.get("last_good_state"),
        state=words.get("state"),
        python_traceback=words.get("traceback") or (reason.traceback if isinstance(reason, Crash) else None),
        native_stack=_native_stack(directory, child.id) if isinstance(reason, Signalled) else None,
        started_at=identity.started_at,
        died_at=child.died_at,
        **facts,
    )


def _kind(reason: Any) -> str:
    match reason:
        case Signalled():
            return "signal"
        case Exited():
            return "exit_code"
        case "killed":
            return "killed"
        case ("limit", *_):
            return "limit"
        case ("hang", _):
            return "hang"
        case _:
            return "exception"


def describe_message(payload: bytes | None) -> str | None:
    """Say what message a payload is, for people; a cut one as far as it goes."""
    if not payload:
        return None
    try:
        envelope = Codec(_Unshipped()).decode(payload)
    except CodecError:
        return f"(a message of more than {len(payload)} bytes)"
    if not wire.is_envelope(envelope):
        return None
    text = repr(envelope[-1])
    return f"{_KINDS.get(envelope[0], 'message')} {text[:SHOWN_MAX]}"


def describe_state(body: bytes, limit: int | None = SHOWN_MAX) -> str | None:
    """Say what a kept state is, for people, with no code of its classes; None when it cannot be read."""
    try:
        return repr(Codec(_StandIns(), imports=False).decode(body))[:limit]
    except CodecError:
        return None


class _Unshipped:
    """Reads a message in a process that must not load its classes."""

    def class_ref(self, cls: type) -> Any:
        raise CodecError("message", cls.__name__)

    def load_class(self, ref: Any) -> type:
        return type(str(ref[1]), (), {"__repr__": lambda _self: f"<{ref[1]}>"})

    def dump(self, thing: Any) -> bytes:
        raise CodecError("message", type(thing).__name__)

    def load(self, data: bytes) -> Any:
        return f"<{len(data)} bytes of a pickled object>"


def _native_stack(directory: NodeDirectory, process_id: int) -> str | None:
    with contextlib.suppress(OSError):
        text = Path(directory.native_stack(process_id)).read_text(encoding="utf-8", errors="replace")
        return text[:SHOWN_MAX] or None
    return None


class _StandIns(_Unshipped):
    """Reads a state whose classes are not here: a dataclass is shown with its fields."""

    def load_class(self, ref: Any) -> type:
        def show(self: Any) -> str:
            return f"{ref[1]}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

        return type(str(ref[1]), (), {"__repr__": show, "__dataclass_fields__": {}})


# -- keeping -----------------------------------------------------------------------------------------------


def keep(directory: NodeDirectory, record: Death) -> None:
    """Keep a record: the last ones of each server stay."""
    key = file_name_of(record.server) if is_name(record.server) else "unnamed"
    path = directory.deaths / f"{key}@{int(record.died_at * 1e9)}.{record.id}"
    data = {name: getattr(record, name) for name in (one.name for one in fields(record))}
    try:
        payload = Codec(_Unshipped()).encode(data)
    except CodecError:
        payload = Codec(_Unshipped()).encode({**data, "reason": repr(record.reason)})
    draft = directory.deaths / f".{path.name}"
    try:
        draft.write_bytes(payload)
        draft.rename(path)
    except OSError:
        return
    mine = sorted(name for name in os.listdir(directory.deaths) if name.rpartition("@")[0] == key)
    for name in mine[:-KEPT_PER_SERVER]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory.deaths / name)


def records(directory: NodeDirectory) -> list[Death]:
    """Give all records, oldest first."""
    found = []
    for name in sorted(os.listdir(directory.deaths), key=lambda name: name.rpartition("@")[2]):
        if name.startswith("."):
            continue
        with contextlib.suppress(OSError, CodecError, TypeError):
            found.append(Death(**Codec(_Unshipped()).decode((directory.deaths / name).read_bytes())))
    return found


def why(server: Any) -> Death | None:
    """Give the record of the last abnormal end of `server`: a name, a pid or a class's qualified name.

    Reads the node's directory, asks no process. None when nothing is known.
    """
    directory = current.current().directory
    known = records(directory)
    if isinstance(server, Pid):
        known = [record for record in known if record.id == server.id]
    else:
        known = [record for record in known if record.server == str(server)]
    return known[-1] if known else None


# -- reporting ---------------------------------------------------------------------------------------------


def log(directory: NodeDirectory, record: Death) -> None:
    """Report a death once, through the program's `logging`."""
    level = 40 if is_abnormal(record.reason) else 20
    restart = record.restart or {}
    kind = "crash" if record.context == "child_terminated" else "supervisor"
    node = current.node()
    pid = f"<{record.id}>" if node is None else f"<{record.id}@{node.name}>"
    extra = {
        "otp": {"report": kind, "pid": pid, **record.to_json()},
        "server": record.server,
        "pid": pid,
        "os_pid": record.os_pid,
        "supervisor": record.supervisor,
        "reason": describe(record.reason),
        "restart_count": restart.get("n"),
        "signal": record.signal,
        "exit_code": record.exit_code,
    }
    reports.send(
        directory,
        {
            "name": f"otp_runtime.{kind}",
            "level": level,
            "message": text_of(record),
            "created": record.died_at,
            "os_pid": record.os_pid,
            "server": record.server,
            "extra": extra,
        },
    )


def _restart_text(n: int, of: int, seconds: float) -> str:
    if n > of:
        return f"end number {n} within {seconds:g} s, and {of} restarts are allowed: it gives up"
    return f"restart {n} of {of} in {seconds:g} s"


def text_of(record: Death) -> str:
    """Say a death in lines for people."""
    verb = {"start_error": "did not start", "shutdown_error": "did not stop as asked", "shutdown": "gives up"}.get(
        record.context, "ended"
    )
    lines = [f"{record.server} (process {record.id}, OS pid {record.os_pid}) {verb}: {describe(record.reason)}"]
    if record.supervisor:
        line = f"  supervisor {record.supervisor}"
        if record.restart:
            line += f": {_restart_text(**record.restart)}"
        if record.backoff:
            line += f", after a wait of {record.backoff:.3g} s"
        if record.strategy and record.siblings:
            line += f" ({record.strategy}, with {', '.join(record.siblings)})"
        lines.append(line)
    for label, text in (
        ("last message", record.message_in_hand),
        ("state", record.state),
        ("traceback", record.python_traceback),
        ("native stack", record.native_stack),
    ):
        if text:
            lines.append(f"  {label}: {text.rstrip()}" if "\n" not in text.strip() else f"  {label}:\n{text.rstrip()}")
    return "\n".join(lines)


def note_giving_up(directory: NodeDirectory, record: Death) -> None:
    """Leave a note for those who will look for the names of a supervisor that gave up."""
    restart = record.restart or {}
    text = (
        f"its supervisor {record.server} gave up: {restart.get('n')} restarts in {restart.get('seconds')} s, "
        f"{restart.get('of')} are allowed"
    )
    for name in record.siblings:
        if is_name(name):
            with contextlib.suppress(OSError):
                (directory.deaths / f"..{file_name_of(name)}").write_text(text, encoding="utf-8")


def giving_up_note(directory: NodeDirectory, name: Any) -> str:
    """Say that a supervisor gave up on `name`, "" when none did."""
    if not isinstance(name, str):
        return ""
    with contextlib.suppress(OSError, ValueError):
        return (directory.deaths / f"..{file_name_of(name)}").read_text(encoding="utf-8")
    return ""
