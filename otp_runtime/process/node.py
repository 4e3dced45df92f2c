"""Nodes: starting one for a program, attaching to a running one, leaving.

A node is its guard and launcher together. It belongs to the program that started it and ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from otp_runtime.core import messages as wire
from otp_runtime.core.names import check_name, file_name_of, name_of
from otp_runtime.errors import AlreadyStarted, CallError, NoNode
from otp_runtime.host import directory as directories
from otp_runtime.host import interpreter, kernel, pipe, poller
from otp_runtime.host.directory import DirectoryUnusable, NodeDirectory
from otp_runtime.process import current, data, reports
from otp_runtime.process.context import Slot
from otp_runtime.process.handle import LAUNCHER_ID, NodeHandle
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable

READY_SECONDS = 20.0
STOP_SECONDS = 2.5
LAUNCHER_ENTRY = "otp_runtime.process.launcher:prepare"
SUPERVISOR_ENTRY = "otp_runtime.supervision.loop:serve"
CLUSTER_ROOM = "otp_runtime.cluster.joining"
CLUSTER_CHECKS = "otp_runtime.cluster.settings"
DEFAULT_LEASE = 5.0


class _Membership:
    """This program's part in a node: whose it is, the guard, the thread that reads reports."""

    def __init__(self, handle: NodeHandle, guard: int | None) -> None:
        self.handle = handle
        self.guard = guard
        self.os_pid = os.getpid()
        self.thread: threading.Thread | None = None
        self.wake: tuple[int, int] = (-1, -1)
        self.log_fd = -1
        self.attendance: Any = None
        """Keeps the embedded engine of the node's cluster alive; None without one."""


_membership: _Membership | None = None
_lock = threading.RLock()
_inherited: NodeHandle | None = None


# -- starting ----------------------------------------------------------------------------------------------


def ensure_node() -> NodeHandle:
    """Give this program's node, starting an unnamed one when there is none."""
    with _lock:
        if _membership is not None and _membership.handle.gone:
            raise NoNode(_membership.handle.name, "the node ended; call Node.stop() and start again")
        if _membership is not None:
            return _membership.handle
        if _inherited is not None:
            return _attach(_inherited.name)
        return _start(os.environ.get("OTP_NODE"))


def full_name(name: str | None) -> str:
    """Give a node's full name: `name@hostname`; an unnamed node's is made of the program's OS pid."""
    if name is None:
        name = f"nonode{os.getpid()}"
    check_name(name)
    return name if "@" in name else f"{name}@{os.uname().nodename}"


def _start(name: str | None) -> NodeHandle:
    global _membership
    full = full_name(name)
    try:
        kernel.check_system()
        _fill_standard_descriptors()
        base = directories.ensure_private(directories.base_directory())
        _sweep(base)
        directory = NodeDirectory(base / file_name_of(full))
        _make_directory(directory, full)
        try:
            handle, main_context = _prepare(directory, full, data.data_of(None if name is None else full))
        except BaseException:
            current.enter(None)
            directory.remove()
            raise
    except OSError as error:
        raise NoNode(full, str(error) if isinstance(error, DirectoryUnusable) else f"{error}") from error
    try:
        guard = _spawn_guard(handle)
    except BaseException:
        main_context.close()
        current.become(None)
        current.enter(None)
        directory.remove()
        raise
    _membership = _Membership(handle, guard)
    _start_thread(_membership)
    return handle


def _fill_standard_descriptors() -> None:
    """Put /dev/null where a standard descriptor is closed: one of ours there would be written to as if it were that."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _sweep(base: Path) -> None:
    """Remove what nodes left behind whose program, guard and launcher were all killed at once, also half removed."""
    for entry in os.listdir(base):
        directory = NodeDirectory(base / entry)
        is_left = name_of(entry) is not None and directory.is_nodes() and not _is_guarded(directory)
        if is_left or directory.is_grave():
            directory.remove()


def _make_directory(directory: NodeDirectory, full: str) -> None:
    try:
        directory.create()
    except FileExistsError:
        directories.check_private(directory.path)
        if _is_guarded(directory):
            raise NoNode(full, "a node of that name is running; attach to it or choose another name") from None
        directory.remove()
        directory.create()


def _is_guarded(directory: NodeDirectory) -> bool:
    try:
        return directory.is_guarded()
    except FileNotFoundError:
        # being made at this moment, unless it was left behind long ago
        with contextlib.suppress(FileNotFoundError):
            return time.time() - directory.path.stat().st_mtime < READY_SECONDS
        return False


def _prepare(directory: NodeDirectory, full: str, data_place: dict[str, str]) -> tuple[NodeHandle, Any]:
    directory.next_id()  # 1 is the launcher's
    handle = NodeHandle(directory, full, int.from_bytes(os.urandom(6), "little"))
    os.mkfifo(directory.log, 0o600)
    current.enter(handle)
    context = current.new_thread_context(handle)
    handle.program = context.id
    current.become(context)
    (directory.path / "node").write_bytes(
        Codec().encode(
            {
                "name": full,
                "incarnation": handle.incarnation,
                "program": context.id,
                "python_path": os.environ.get("PYTHONPATH"),
                "path": [str(Path(entry or ".").resolve()) for entry in sys.path],
                "data": data_place,
                "os_pid": os.getpid(),
                "started_at": time.time(),
            }
        )
    )
    return handle, context


def _spawn_guard(handle: NodeHandle) -> int:
    ready_r, ready_w = os.pipe()
    me = kernel.own_process()
    words = [handle.directory.path, me.pid, me.start, LAUNCHER_ENTRY, SUPERVISOR_ENTRY]
    try:
        guard = interpreter.spawn("otp_runtime.host.guard", words, ready_w)
    finally:
        os.close(ready_w)
    try:
        said = _await_ready(ready_r)
    finally:
        os.close(ready_r)
    if said is None:
        os.kill(guard, signal.SIGKILL)
        said = f"it was not ready within {READY_SECONDS:g} s".encode()
    if not said.startswith(b"ready"):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guard, 0)
        raise NoNode(handle.name, f"the launcher did not start: {said.decode(errors='replace').strip() or 'it died'}")
    return guard


def _await_ready(fd: int) -> bytes | None:
    """Give what the launcher says of its start, nothing when it died; None when it says nothing in time."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + READY_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            return os.read(fd, 4096)
    return None


# -- the thread that reads reports -------------------------------------------------------------------------


def _start_thread(membership: _Membership) -> None:
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    membership.log_fd = os.open(membership.handle.directory.log, flags)
    membership.wake = os.pipe()
    membership.thread = threading.Thread(
        target=_read_reports, args=(membership,), name="otp_runtime-reports", daemon=True
    )
    membership.thread.start()


def _read_reports(membership: _Membership) -> None:
    """Hand reports to `logging`; notice the end of the node and reap its guard."""
    assert membership.guard is not None
    unframer = pipe.Unframer(f"{membership.handle.directory.path}/seg")
    pidfd = os.pidfd_open(membership.guard)
    poll = select.poll()
    for fd in (membership.log_fd, pidfd, membership.wake[0]):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _event in poll.poll()}
            _hand_over(membership.log_fd, unframer)
            if membership.wake[0] in ready:
                return
            if pidfd in ready:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(membership.guard, 0)
                membership.handle.gone = True
                membership.handle.directory.remove()
                return
    finally:
        os.close(pidfd)


def _hand_over(fd: int, unframer: pipe.Unframer) -> None:
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(fd, pipe.READ_SIZE):
            reports.receive(unframer, chunk)


# -- attaching ---------------------------------------------------------------------------------------------


def running_nodes() -> list[str]:
    """Give the names of this user's running nodes on this machine."""
    base = directories.base_directory()
    if not base.is_dir():
        return []
    directories.check_private(base)
    names = []
    for entry in sorted(os.listdir(base)):
        name = name_of(entry)
        if name is not None and is_running(NodeDirectory(base / entry)):
            names.append(name)
    return names


def is_running(directory: NodeDirectory) -> bool:
    """Say whether the node of that directory runs."""
    return (directory.path / "node").exists() and _is_guarded(directory)


def attach(node: str | None = None) -> _Started:
    """Make this program a process of a running node of this user.

    `node`: its name; None takes `OTP_NODE`, else the only running one. A `with` block on the result leaves it again;
    the program's end stops only what it started itself. Raises `NoNode` when there is no such node, or several and
    none was named.
    """
    return _Started(_attach(node))


def _attach(node: str | None) -> NodeHandle:
    global _membership, _inherited
    with _lock:
        name = _choose(node)
        if _membership is not None and not _membership.handle.gone:
            if _membership.handle.name == name:
                return _membership.handle
            raise NoNode(name, f"this program takes part in {_membership.handle.name} already; Node.stop() first")
        _fill_standard_descriptors()
        base = directories.ensure_private(directories.base_directory())
        directory = NodeDirectory(base / file_name_of(name))
        try:
            directories.check_private(directory.path)
            said = Codec().decode((directory.path / "node").read_bytes())
        except OSError as error:
            raise NoNode(name, str(error) if isinstance(error, DirectoryUnusable) else "it is not running") from error
        handle = NodeHandle(directory, name, said["incarnation"])
        current.enter(handle)
        context = current.new_thread_context(handle)
        handle.program = context.id
        current.become(context)
        _membership = _Membership(handle, None)
        _inherited = None
        answer = ask_launcher(["attach", context.id], 5.0)
        if answer[0] != "ok":
            raise NoNode(name, answer[1])
        return handle


def _choose(node: str | None) -> str:
    node = node or os.environ.get("OTP_NODE")
    if node is not None:
        return full_name(node)
    names = running_nodes()
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names) or "none"
    raise NoNode(node, f"say which node: {len(names)} are running ({listed})")


# -- the launcher ------------------------------------------------------------------------------------------


def ask_launcher(request: Any, timeout: float | None) -> Any:
    """Call the launcher of this node; raises `NoNode` when it is gone."""
    context = current.current()
    peer = context.peer(LAUNCHER_ID)
    if peer is None:
        context.node.gone = not os.path.exists(context.directory.log)
        raise NoNode(context.node.name, "its launcher is dead")
    deadline = None if timeout is None else poller.now() + timeout
    slot = Slot(peer)
    serial = context.next_serial()
    context.pending[serial] = slot
    try:
        context.transmit(peer, context.codec.encode([wire.CALL, context.id, serial, request]), deadline)
        while not slot.done:
            left = None if deadline is None else deadline - poller.now()
            if left is not None and left <= 0:
                raise NoNode(context.node.name, f"its launcher did not answer within {timeout:g} s")
            if not context.read_mailbox():
                context.pump(left)
    finally:
        del context.pending[serial]
    if slot.failure is not None:
        raise NoNode(context.node.name, "its launcher died")
    return slot.value


# -- leaving -----------------------------------------------------------------------------------------------


def leave() -> None:
    """Stop this program's roots in reverse order, then, if it is its own, the node. Nothing happens without one."""
    global _membership
    with _lock:
        membership = _membership
        if membership is None or membership.os_pid != os.getpid():
            return
        handle = membership.handle
        if not handle.gone:
            with contextlib.suppress(NoNode, CallError):
                ask_launcher(["leave", handle.program], None)
        _membership = None
        _end_membership(membership)
        if membership.attendance is not None:
            membership.attendance.part()
        handle.gone = True
        current.enter(None)
        current.close_all()


def _end_membership(membership: _Membership) -> None:
    if membership.guard is None:
        for context in current.contexts():
            current.sign_off(context)
        return
    thread = membership.thread
    if thread is not None and thread is not threading.current_thread():
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            os.write(membership.wake[1], b"x")
            thread.join()
            with contextlib.suppress(ProcessLookupError):
                os.kill(membership.guard, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(membership.guard, 0)
            membership.handle.directory.remove()
    for fd in (membership.log_fd, *membership.wake):
        with contextlib.suppress(OSError):
            os.close(fd)


def _forget_after_fork() -> None:
    """In a fork the user made: the parent's node is not this process's; at first use it attaches anew."""
    global _membership, _inherited, _lock
    membership, _membership = _membership, None
    _lock = threading.RLock()
    if membership is None:
        if (node := current.node()) is not None:
            _inherited = node
        return
    _inherited = membership.handle
    if membership.attendance is not None:
        membership.attendance.forget()
    for fd in (membership.log_fd, *membership.wake):
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


atexit.register(leave)
current.join_with(ensure_node)
current.on_users_fork(_forget_after_fork)


def _cluster() -> Any:
    """Give the room of the cluster, which is above this floor and imported only where it was asked for."""
    return importlib.import_module(CLUSTER_ROOM)


def _is_clustered() -> bool:
    return os.path.exists(current.current().directory.cluster)


class Node:
    """This program's node, and the others of its cluster.

    >>> Node.self()  # doctest: +SKIP
    'shop@host'
    """

    _entered: ClassVar[bool] = False

    @classmethod
    def start(
        cls,
        name: str | None = None,
        *,
        cluster: str | None = None,
        lease: float = DEFAULT_LEASE,
        tls: dict[str, str] | None = None,
        credentials: tuple[str, str] | str | None = None,
        erpc: Iterable[Callable[..., Any] | str] = (),
    ) -> _Started:
        """Start a node named `name` (`name@hostname`; without one it is unnamed) for this program.

        `cluster`: None, alone. "embedded" or "embedded:NAME", with the other nodes of this user on this machine: the
        first of them starts the engine, on loopback. "nats://host:port[/NAME]" (several, with commas), an engine that
        is there: nats-server >= 2.11 with JetStream, one account per cluster. All need the extra `cluster`.
        `lease`: seconds (>= 1, default 5) after which a node that is not heard is lost, by itself and by the others.
        `credentials`: (user, password), or the path of a NATS credentials file. `tls`: paths `ca`, `cert`, `key`.
        `erpc`: the functions that other nodes may run here with `erpc.call` and its kin, or as starts of children:
        those themselves or "module:function". Default none.

        A `with` block on the result stops it. Raises `AlreadyStarted` when this program has a node; `NoNode` when one
        of that name runs already, the runtime directory cannot be used, the extra is missing, or the cluster refuses
        this node: then nothing is left running. TypeError and ValueError say which argument is wrong.
        """
        settings = None
        if cluster is not None:
            settings = _check_cluster(name, cluster, lease, tls, credentials, erpc)
        elif tls is not None or credentials is not None or erpc:
            msg = "tls, credentials and erpc are for a cluster: Node.start(name, cluster='nats://host:port')"
            raise ValueError(msg)
        with _lock:
            if _membership is not None and not _membership.handle.gone:
                raise AlreadyStarted(_membership.handle.name)
            if _membership is not None:
                leave()
            handle = _start(name or os.environ.get("OTP_NODE"))
            if settings is not None:
                _join_cluster(handle, settings)
            return _Started(handle)

    @classmethod
    def stop(cls) -> None:
        """Stop this program's roots in reverse order and leave the node; one that it started ends."""
        leave()

    @classmethod
    def self(cls) -> str:
        """Give the name of this process's node, starting an unnamed one if there is none."""
        return current.current().node.name

    @classmethod
    def list(cls) -> list[str]:
        """Give the other nodes that are connected, sorted: none without a cluster. OTP: nodes/0."""
        found: list[str] = _cluster().nodes() if _is_clustered() else []
        return found

    @classmethod
    def nodes(cls) -> builtins.list[str]:
        """As `list`."""
        return cls.list()

    @classmethod
    def connect(cls, node: str) -> bool:
        """Say whether `node` ("name@host") is connected. Those of one cluster always are. OTP: net_kernel:connect."""
        if not _is_clustered():
            return node == cls.self()
        return bool(_cluster().connect(node))

    @classmethod
    def ping(cls, node: str, timeout: float = 5.0) -> Literal["pong", "pang"]:
        """Ask `node` for an answer: "pong", or "pang" when none comes within `timeout` seconds. OTP: net_adm:ping/1."""
        if not _is_clustered():
            return "pong" if node == cls.self() else "pang"
        answer: Literal["pong", "pang"] = _cluster().ping(node, timeout)
        return answer

    @classmethod
    def monitor_nodes(cls, flag: bool) -> None:
        """Let this process hear of nodes that come (`NodeUp`) and go (`NodeDown`), or no longer.

        Counts: after two calls with True each event comes twice, and False takes back one. Of the nodes that are there
        already nothing comes. Raises `NoNode` when this node is in no cluster. OTP: net_kernel:monitor_nodes/1.
        """
        _cluster().follow(bool(flag))


def _check_cluster(name: str | None, cluster: Any, lease: Any, tls: Any, credentials: Any, erpc: Any) -> Any:
    full = full_name(name or os.environ.get("OTP_NODE"))
    return importlib.import_module(CLUSTER_CHECKS).check(full, cluster, lease, tls, credentials, erpc)


def _join_cluster(handle: NodeHandle, settings: Any) -> None:
    assert _membership is not None
    assert _membership.guard is not None
    try:
        _membership.attendance = _cluster().attend(handle, _membership.guard, settings)
        _cluster().join(handle, settings)
    except BaseException:
        leave()
        raise


class _Started:
    """A node that was started: a context manager that stops it."""

    def __init__(self, handle: NodeHandle) -> None:
        self.name = handle.name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        leave()

    def __repr__(self) -> str:
        return f"<node {self.name}>"
