"""Deaths explained: the record of an end, kept for `why` and reported once through `logging`."""

from __future__ import annotations

import contextlib
import os
import textwrap
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from otp_runtime.core import causes, stacks
from otp_runtime.core import messages as wire
from otp_runtime.core.names import file_name_of, is_name, name_of
from otp_runtime.errors import CallError, CodecError
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.box import Box
from otp_runtime.process import current, reports, stderr
from otp_runtime.process.peers import await_verdict
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Global, Pid, Via
from otp_runtime.terms.reason import Crash, Exited, Signalled, amount, describe, is_abnormal

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.child import Child

KEPT_PER_SERVER = 10
SHOWN_MAX = 4000
STACK_MAX = 16_000
_FIRST_FUNCTIONS = ("boot.py:run_child", "succession.py:run")
"""Where the life of a process begins: what its stacks have below is its parent's."""

SIBLINGS_MAX = 20
TEXT_COLUMNS = 80
_KINDS = {wire.CALL: "call", wire.CAST: "cast", wire.SEND: "info", wire.SYSTEM: "system"}


@dataclass(frozen=True, slots=True)
class Death:
    """Why a process ended: what its OS parent saw and what it said itself.

    `kind` is "exception", "signal", "exit_code", "killed", "limit" or "hang"; times are seconds since the epoch.
    What was not to be had is None or empty. Long texts are cut, and say so.

    `open_files`: paths of what it had open, when it ended by itself; of a process that was killed as of
    `open_files_at`, when its OS parent looked last. `subprocesses`: `{"os_pid", "command"}` of what it had started and
    outlived it, and was ended after it. `stderr_tail`: the last lines that it wrote to standard error, 2 KiB.
    `siblings`: those that are stopped and started because of it, by the `strategy`. Of a sibling that was stopped for
    that, `because` is whose end it was. `restart`: `{"n", "of", "seconds"}`: it is restart n of the `of` that its
    supervisor survives in `seconds`; `backoff`: how long it waits before. `explanation`: what the reason means.
    `notes`: what stands in the way of knowing more.
    `hang`: what a watchdog found: `what`, for how many `seconds`, `found` in words, `at` which line of yours.

    `samples` are those of the last 60 s that its OS parent took, at most one a second and only while it worked, oldest
    first: `t` seconds since the epoch, `rss` bytes resident, `cpu` the share of one core that it used since the sample
    before (1.0 is a whole core), both with its subprocesses, and `mailbox` bytes that waited to be handled. `evidence`
    says what speaks for it that the kernel ended it: the count of its cgroup's OOM kills, a limit of its CPU time.
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
    hang: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    subprocesses: list[dict[str, Any]] = field(default_factory=list)
    open_files: list[str] = field(default_factory=list)
    open_files_at: float | None = None
    stderr_tail: str | None = None
    supervisor: str | None = None
    strategy: str | None = None
    siblings: list[str] = field(default_factory=list)
    because: str | None = None
    restart: dict[str, Any] | None = None
    backoff: float | None = None
    started_at: float = 0.0
    died_at: float = 0.0
    context: str = "child_terminated"
    evidence: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def explanation(self) -> str | None:
        """What the reason means, in a sentence or two; None where it speaks for itself."""
        return causes.explain(self.reason)

    def to_json(self) -> dict[str, Any]:
        """Give plain data; the reason as `describe` says it."""
        return {**asdict(self), "reason": _plain(self.reason), "explanation": self.explanation}


def _plain(term: Any) -> Any:
    if isinstance(term, Crash | Signalled | Exited):
        return describe(term)
    if term is None or isinstance(term, str | int | float | bool):
        return term
    if isinstance(term, tuple | list):
        return [_plain(part) for part in term]
    return repr(term)


_FIELDS = tuple(one.name for one in fields(Death))

# -- making ------------------------------------------------------------------------------------------------


def make_record(directory: NodeDirectory, child: Child, reason: Any, facts: dict[str, Any]) -> Death:
    """Gather what is known of a child that was just reaped."""
    words = child.words
    box = child.box
    return Death(
        server=_title(child),
        id=child.id,
        os_pid=child.os_process.pid,
        reason=reason,
        kind=_kind(reason),
        signal=reason.name if isinstance(reason, Signalled) else None,
        exit_code=reason.code if isinstance(reason, Exited) else None,
        oom=isinstance(reason, Signalled) and reason.oom,
        message_in_hand=words.get("message") or (None if box is None else describe_message(box.message_in_hand)),
        last_good_state=words.get("last_good_state"),
        state=words.get("state"),
        python_traceback=words.get("traceback") or (reason.traceback if isinstance(reason, Crash) else None),
        native_stack=_native_stack(directory, child.id) if isinstance(reason, Signalled) or child.hang else None,
        hang=words.get("hang"),
        samples=words.get("samples", []),
        evidence=words.get("evidence"),
        subprocesses=words.get("subprocesses", []),
        open_files=words.get("open_files", []),
        open_files_at=words.get("open_files_at"),
        stderr_tail=stderr.tail(directory, child.id),
        started_at=0.0 if box is None else box.identity.started_at,
        died_at=child.died_at,
        notes=words.get("notes", []),
        **facts,
    )


def _title(child: Child) -> str:
    """Say who it was: its name, else what it ran. Without a box, as far as its OS parent knows."""
    if child.box is not None:
        return child.box.name or child.box.label or repr(child.pid)
    assert child.job is not None
    return child.job.name or child.job.label


def cut(text: str, limit: int = SHOWN_MAX) -> str:
    """Give the first `limit` characters of a text, saying how many are left out."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"


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
        envelope = _unshipped.decode(payload)
    except CodecError:
        return f"(a message of more than {len(payload)} bytes)"
    if not wire.is_envelope(envelope):
        return None
    return f"{_KINDS.get(envelope[0], 'message')} {cut(repr(envelope[-1]))}"


def describe_state(body: bytes, limit: int | None = SHOWN_MAX) -> str | None:
    """Say what a kept state is, for people, with no code of its classes; None when it cannot be read."""
    try:
        text = repr(Codec(_StandIns(), imports=False).decode(body))
        return text if limit is None else cut(text, limit)
    except CodecError:
        return None


class _Unshipped:
    """Reads a message in a process that must not load its classes."""

    def class_ref(self, cls: type) -> Any:
        raise CodecError("message", cls.__name__)

    def load_class(self, ref: Any) -> type:
        return type(str(ref[1]), (), {"__repr__": lambda _self: f"<{ref[1]}>"})

    def dump(self, thing: Any, _apart: Any = None) -> bytes:
        raise CodecError("message", type(thing).__name__)

    def load(self, data: bytes, buffers: Any = ()) -> Any:
        return f"<{len(data) + sum(map(len, buffers))} bytes of a pickled object>"


def _native_stack(directory: NodeDirectory, process_id: int) -> str | None:
    with contextlib.suppress(OSError):
        text = kernel.read_whole(directory.native_stack(process_id)).decode(errors="replace")
        return cut(stacks.trim(text, _FIRST_FUNCTIONS), STACK_MAX) or None
    return None


_unshipped = Codec(_Unshipped())


class _StandIns(_Unshipped):
    """Reads a state whose classes are not here: a dataclass is shown with its fields."""

    def load_class(self, ref: Any) -> type:
        def show(self: Any) -> str:
            return f"{ref[1]}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

        return type(str(ref[1]), (), {"__repr__": show, "__dataclass_fields__": {}})


# -- keeping -----------------------------------------------------------------------------------------------


def keep(directory: NodeDirectory, record: Death) -> None:
    """Keep a record: who asks `why` from now on finds it."""
    deaths = str(directory.deaths)
    name = f"{_file_key(record)}@{int(record.died_at * 1e9)}.{record.id}"
    data = {name: getattr(record, name) for name in _FIELDS}
    try:
        payload = _unshipped.encode(data)
    except CodecError:
        payload = _unshipped.encode({**data, "reason": repr(record.reason)})
    try:
        _put(f"{deaths}/.{name}", payload)
        os.rename(f"{deaths}/.{name}", f"{deaths}/{name}")
    except OSError:
        return


def _file_key(record: Death) -> str:
    return file_name_of(record.server) if is_name(record.server) else "unnamed"


def forget_oldest(directory: NodeDirectory, record: Death) -> None:
    """Let only the last records of the server stay that one was kept of."""
    deaths, key = str(directory.deaths), _file_key(record)
    mine = sorted(other for other in os.listdir(deaths) if other.rpartition("@")[0] == key)
    for other in mine[:-KEPT_PER_SERVER]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{deaths}/{other}")


def _put(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def records(directory: NodeDirectory) -> list[Death]:
    """Give all records, oldest first."""
    found = []
    for name in sorted(os.listdir(directory.deaths), key=lambda name: name.rpartition("@")[2]):
        if name.startswith("."):
            continue
        try:
            data = (directory.deaths / name).read_bytes()
        except FileNotFoundError:
            continue  # it was the oldest of its server
        try:
            found.append(Death(**_unshipped.decode(data)))
        except (CodecError, TypeError, OSError) as error:
            found.append(_unreadable(name, error))
    return found


def _unreadable(file_name: str, error: Exception) -> Death:
    """Stand in for a record that something has damaged: that there was a death is known from its name."""
    key, _, rest = file_name.rpartition("@")
    nanoseconds, _, process_id = rest.partition(".")
    note = f"the record of this death cannot be read: {error}"
    died_at = int(nanoseconds) / 1e9 if nanoseconds.isdecimal() else 0.0
    number = int(process_id) if process_id.isdecimal() else 0
    return Death(name_of(key) or key, number, 0, "unknown", "exception", died_at=died_at, notes=[note])


def why(server: Any) -> Death | None:
    """Give the record of the last end of `server` that needs explaining: abnormal, or for the sake of a sibling.

    `server`: a local name, a class's qualified name where there is no name, a pid (of a process that is alive: the
    last end of its predecessors under the same name), `Via(registry, key)` or `Global(name)`. Reads the node's
    directory and asks no process. None when nothing is known.
    """
    known = records_of(current.current().directory, server)
    return known[-1] if known else None


def records_of(directory: NodeDirectory, server: Any) -> list[Death]:
    """Give what is on record of a server, oldest first: see `why`."""
    if isinstance(server, Via | Global):
        server = _pid_of(server)
    known = records(directory)
    if not isinstance(server, Pid):
        return [record for record in known if record.server == str(server)]
    box = Box.open(directory.box(server.id))
    name = ""
    if box is not None:
        if _has_ended(box):
            # its record is written before its verdict, and a successor may be there before both
            await_verdict(box)
            known = records(directory)
        else:
            name = box.name
        box.close()
    of_process = [record for record in known if record.id == server.id]
    return of_process or [record for record in known if name and record.server == name]


def _has_ended(box: Box) -> bool:
    process = box.identity.os_process
    return bool(box.flag(boxes.JUDGED)) or kernel.start_time(process.pid) != process.start


def _pid_of(server: Via | Global) -> Pid | None:
    from otp_runtime.process import names

    with contextlib.suppress(CallError):
        return names.find(current.current(), server, None, wait=False).pid
    return None


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


def text_of(record: Death, *, full: bool = False) -> str:
    """Say a death in lines for people; `full` with all that is known, and what it means."""
    verb = _VERBS.get(record.context, "ended")
    lines = [f"{record.server} (process {record.id}, OS pid {record.os_pid}) {verb}: {describe(record.reason)}"]
    if full and record.explanation:
        lines += textwrap.wrap(record.explanation, TEXT_COLUMNS, initial_indent="  ", subsequent_indent="  ")
    if record.supervisor:
        lines.append(_under(record))
    elif full and record.context == "shutdown":
        lines.append(
            f"  {_restart_text(**record.restart or {})} ({record.strategy}); with it {_listed(record.siblings)}"
        )
    hang = record.hang or {}
    for label, text in (
        ("hung", hang.get("found")),
        ("at", hang.get("at")),
        ("to do", hang.get("advice")),
        ("last message", record.message_in_hand),
        ("state", record.state),
        ("evidence", record.evidence),
        ("last minute", describe_samples(record.samples)),
        ("traceback", record.python_traceback),
        ("native stack", record.native_stack),
        *(_more(record) if full else ()),
    ):
        if text:
            lines.append(f"  {label}: {text.rstrip()}" if "\n" not in text.strip() else f"  {label}:\n{text.rstrip()}")
    return "\n".join(lines)


def first_lines_of(record: Death) -> str:
    """Say a death in one line."""
    return " ".join(text_of(record, full=record.context == "shutdown").split("\n  ")[:2])


_VERBS = {
    "start_error": "did not start",
    "shutdown_error": "did not stop as asked",
    "shutdown": "gives up",
    "stopped": "was stopped",
}


def _under(record: Death) -> str:
    """Say what its supervisor did about it, and with whom."""
    line = f"  supervisor {record.supervisor}"
    if record.restart:
        line += f": {_restart_text(**record.restart)}"
    if record.backoff:
        line += f", after a wait of {record.backoff:.3g} s"
    if record.because is not None:
        line += f": stopped and started again because {record.because} ended ({record.strategy})"
    if record.strategy and record.siblings:
        line += f" ({record.strategy}, with {_listed(record.siblings)})"
    return line


def _more(record: Death) -> tuple[tuple[str, str | None], ...]:
    """Give what the log is spared: it was there already, or would be too long."""
    age = "" if record.open_files_at is None else f" {record.died_at - record.open_files_at:.1f} s before"
    return (
        ("last good state", record.last_good_state),
        (f"open files{age}", ", ".join(record.open_files)),
        ("subprocesses", ", ".join(f"{one['command']} ({one['os_pid']})" for one in record.subprocesses)),
        ("last lines of standard error", record.stderr_tail),
        ("note", "; ".join(record.notes)),
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SIBLINGS_MAX])
    return shown if len(names) <= SIBLINGS_MAX else f"{shown} and {len(names) - SIBLINGS_MAX} more"


def describe_samples(samples: list[dict[str, Any]]) -> str | None:
    """Say the samples of a last minute in one line; None of none."""
    if not samples:
        return None
    first, last = samples[0], samples[-1]
    load = f"cpu {last['cpu']:.0%} of a core, mailbox {last['mailbox']} bytes"
    if first is last:
        return f"rss {amount('rss', last['rss'])}, {load} (one sample)"
    most = max(one["rss"] for one in samples)
    rss = f"rss {amount('rss', first['rss'])} -> {amount('rss', last['rss'])} (most {amount('rss', most)})"
    return f"{rss}, {load} ({len(samples)} samples in {last['t'] - first['t']:.0f} s)"


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
