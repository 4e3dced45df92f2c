"""The first moments of a new process, and its last.

    supervisor or launcher                        the new process
    ──────────────────────                        ───────────────
    box, mailbox, boot pipe, fork ──────────────► closes what is not its own, asks to die with its parent,
                                                  opens its mailbox, links
    (serves others meanwhile)                     runs the start function: name, then `init`
    boot pipe: ok | ignore | error  ◄──────────── one word, then the loop
    ... pidfd: reads the last words ◄──────────── last words into the box, flushes what it owes, _exit

"Spawned" is not "ready": only the word in the boot pipe makes a process started.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys

# the public `signal.signal` looks each handler up in an enum, which touches page after page of a fork
from _signal import SIG_DFL  # type: ignore[import-not-found]
from _signal import signal as set_handler
from contextlib import suppress
from faulthandler import enable as enable_native_stacks
from fcntl import F_GETFL, F_SETFL, fcntl
from logging import root as root_logger
from struct import Struct, pack
from threading import get_native_id
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.core import messages as wire
from otp_runtime.errors import AlreadyRegistered, CallError, CodecError, ExitWith, NoNode, TaskExited
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.open_files import open_files
from otp_runtime.process import current, links, names, places, reports, route, stderr
from otp_runtime.process.context import Context, ExitSignal
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.terms.pid import Global
from otp_runtime.terms.reason import Exited, crash_of, cut_middle, is_abnormal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otp_runtime.host.box import Box
    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.job import Job
    from otp_runtime.process.succession import Succession

LENGTH = Struct("<I")
SHOWN_MAX = 20_000
OOM_SCORE = 500
"""How much sooner than a supervisor a server is taken by the kernel's OOM killer (of 1000)."""

GUARD_SECONDS = 0.1
GUARD_LOOK_SECONDS = 0.002
"""How long the end of the guard is waited for when the launcher has died, as who killed both at once killed one of them
first; and how long between two looks. A guard that lives gives what the launcher left nine times as long."""

_NEW_FILE = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
_NOT_INHERITED = tuple(
    int(number)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGHUP,
        kernel.LANE_SIGNAL,
        kernel.PARENT_DEATH_SIGNAL,
    )
)
"""Signals whose handlers are the OS parent's. As plain numbers: of an enum, each would be a page that a fork copies."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep

slot: Slot | None = None
"""Set while a start function runs: the first start of the library that it reaches takes it."""


loading = False
"""Set while a new process imports what it needs: a start that a module makes when imported would never end."""


def refuse_start_while_loading() -> None:
    """Raise when a module that a new process imports starts processes: each would import it again, and so on."""
    if loading:
        msg = (
            "a module starts a process while a new process imports it, which would go on for ever: "
            "put the start under `if __name__ == '__main__':` or into a function"
        )
        raise RuntimeError(msg)


class Become(BaseException):
    """Raised by the first `start_link` in a new process: unwinds the start function and runs the server."""

    def __init__(self, run: Callable[[Context, Boot], Any]) -> None:
        """`run` is the server: its init, its loop; it gives the exit reason."""
        super().__init__()
        self.run = run


class BecomeSupervisor(BaseException):
    """Raised by the first start of a supervisor in a new process, which has served its purpose with that.

    A supervisor runs library code only, and this process has run a user's. It hands the finished specification to
    its OS parent as data and ends; the parent forks the supervisor from itself.
    """

    def __init__(self, data: Any) -> None:
        """`data` is what the supervisor's process is given."""
        super().__init__()
        self.data = data


class Ignored(BaseException):
    """Raised by a start that chose not to start."""


class BadReturn(BaseException):
    """Raised by a start whose `init` returned what it may not."""

    def __init__(self, reason: Any) -> None:
        """`reason` is the exit reason."""
        super().__init__(reason)
        self.reason = reason


class Slot:
    """The one chance of a start function to turn its process into a server."""

    def __init__(self) -> None:
        """Open."""
        self.taken = False

    def take(self) -> bool:
        """Take it; False when it is taken."""
        taken, self.taken = self.taken, True
        return not taken


def take_slot() -> bool:
    """Say whether the start that was just reached must happen in this very process."""
    return slot is not None and slot.take()


class Boot:
    """The new process's end of the boot pipe."""

    def __init__(self, node: NodeHandle, fd: int) -> None:
        """Write to `fd`."""
        self.succession: Succession | None = None
        self.fresh = False
        self._node = node
        self._fd = fd

    def fileno(self) -> int:
        """Give the descriptor of the pipe, -1 when all has been said."""
        return self._fd

    def limit(self, seconds: float) -> None:
        """Ask to be killed when `init` takes longer."""
        self.send(["limit", seconds])

    def have_ahead(self, module: str) -> None:
        """Tell the OS parent of a module of the library that this process must import: the next one finds it there."""
        if module not in sys.modules and self.succession is None:
            self.send(["import", module])

    def say(self, *word: Any) -> None:
        """Say how the start went: "ok", "ignore", "error" and the reason, "supervisor" and its data."""
        if self._fd >= 0:
            self.send(list(word))
            self.close()

    def close(self) -> None:
        """Say no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def send(self, word: list[Any]) -> None:
        """Say something on the way."""
        data = self._node.codec.encode(word)
        view = memoryview(LENGTH.pack(len(data)) + data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            """Nobody listens any more."""


def take_name(context: Context, boot: Boot, name: Any) -> tuple[Any] | None:
    """Give this process a name; when that fails, say so to the parent and give the exit reason, in a tuple."""
    reason: Any
    try:
        names.register_any(context, name)
    except (AlreadyRegistered, NoNode) as error:
        is_supervised = context.box.identity.reaper != LAUNCHER_ID
        if isinstance(name, Global) and is_supervised and route.filled(context) is not None:
            return _stand_by(context, boot, name)
        if isinstance(error, NoNode):
            reason = reason_of(error, context)
            boot.say("error", reason)
            return (reason,)
        reason = "normal"
        boot.say("error", ("already_started", error.pid))
    except Exception as error:  # noqa: BLE001 - a registry that is not there, or one of the user's that raises
        reason = reason_of(error, context)
        note_words(error)
        boot.say("error", reason)
    else:
        return None
    return (reason,)


def _stand_by(context: Context, boot: Boot, name: Global) -> tuple[Any] | None:
    """Wait for a global name that another has: a supervised process has started with that, and `init` comes later.

    So a tree with the same server can run on several nodes. Whoever gets the name goes on; what it was sent meanwhile
    is in its mailbox.
    """
    boot.say("ok")
    try:
        return None if route.stand_by(context, name) else ("shutdown",)
    except ExitSignal as signal_:
        return (signal_.reason,)
    except Exception as error:  # noqa: BLE001 - it ends the process
        note_words(error)
        return (reason_of(error, context),)


# -- birth -------------------------------------------------------------------------------------------------


def run_child(
    node: NodeHandle, job: Job, box: Box, reaper: kernel.OsProcess, boot_fd: int, serve_supervisor: Callable[..., Any]
) -> NoReturn:
    """Be the child of a fork: set up, do the job, end. Never returns."""
    status = 1
    try:
        identity = box.identity
        take_over(node, job, box, reaper, {boot_fd})
        context = Context(node, identity.id, box, is_program=False, parent=job.parent)
        current.enter(node)
        current.become(context)
        listen_to_signals(context, reaper)
        status = do_job(context, job, boot_fd, serve_supervisor)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        with suppress(BaseException):
            node.warn(f"internal error in a new process, please report it:\n{crash_of(error).traceback}")
    finally:
        os._exit(status)


def do_job(context: Context, job: Job, boot_fd: int, serve_supervisor: Callable[..., Any]) -> int:
    """Be what a job says, until the end; gives the exit code."""
    context.place = places.place_of(context.directory, job, context.id)
    boot = Boot(context.node, boot_fd)
    boot.fresh = job.fresh
    reason = live(context, boot, job, serve_supervisor)
    return end(context, boot, reason)


def take_over(node: NodeHandle, job: Job, box: Box, reaper: kernel.OsProcess, keep: set[int]) -> None:
    """Make a fork a process of its own, for a job: see `part_from_parent`."""
    part_from_parent(box, reaper, keep)
    if job.mode != "supervisor":
        kernel.raise_own_oom_score(OOM_SCORE)
        write_native_stacks(node, box.identity.id)
    take_title(job)
    dress(node, job, box.identity.id)


def part_from_parent(box: Box, reaper: kernel.OsProcess, keep: set[int]) -> None:
    """Make a fork a process of its own: only the descriptors of `keep` are left, and it dies with its parent."""
    kernel.close_all_but(keep)
    forget_handlers()
    box.inhabit(kernel.own_process())
    kernel.become_subreaper()
    if not kernel.die_with_parent(reaper):
        os._exit(1)


def forget_handlers() -> None:
    """Do for signals what is usual, and not what the OS parent does."""
    for number in _NOT_INHERITED:
        set_handler(number, SIG_DFL)


def take_title(job: Job) -> None:
    """Look like what the job says, to `ps`."""
    kernel.set_title(f"otp:{job.name or job.label}")


def dress(node: NodeHandle, job: Job, process_id: int) -> None:
    """Import from where the job says, and log what and as whom it says."""
    if job.path:
        sys.path[:] = job.path
    # a supervisor logs nothing itself, but its children log what the program wants to see
    if root_logger.level != job.log_level:
        root_logger.setLevel(job.log_level)
    if job.mode != "supervisor":
        report_as(node, job, process_id)


def report_as(node: NodeHandle, job: Job, process_id: int) -> None:
    """Let what is logged here go where it is looked for."""
    root_logger.handlers[:] = [reports.forwarder(node.directory, job.name or job.label, f"<{process_id}@{node.name}>")]


def write_native_stacks(node: NodeHandle, process_id: int) -> None:
    """Have the stack of a native crash written to where it is looked for."""
    try:
        fault = os.open(node.directory.native_stack(process_id), _NEW_FILE, 0o600)
        enable_native_stacks(fault, all_threads=True)
    except OSError:
        pass
    stderr.keep(node.directory, process_id)


def listen_to_signals(context: Context, reaper: kernel.OsProcess) -> None:
    """Let the control lane and the death of the OS parent interrupt what the main thread is doing."""

    def on_lane(_number: int, frame: Any) -> None:
        # in the runtime's own code the lane stays readable, and the next wait finds it: to empty it here could be
        # just before a sleep. Should user code come first, the OS parent sees to it that an exit is obeyed.
        in_users_code = is_users_code(frame)
        if in_users_code:
            context.read_lane()
        if context.doomed is None:
            links.heed(context, may_read=in_users_code)
        if not in_users_code:
            return
        if context.doomed is not None and context.interrupts:
            _interrupt(context)

    def on_parent_death(_number: int, _frame: Any) -> None:
        if os.getppid() == reaper.pid:
            return
        # who hangs below another one is ended by that
        is_root = context.box.identity.reaper == LAUNCHER_ID
        if _is_without_node(context.directory, GUARD_SECONDS if is_root else 0.0):
            # nobody would end what takes too long, nobody can be told, and names may have gone to others
            kernel.end_descendants()
            os.kill(os.getpid(), signal.SIGKILL)
        context.write_own_lane([wire.EXIT, context.parent, "killed"])

    set_handler(kernel.LANE_SIGNAL, on_lane)
    set_handler(kernel.PARENT_DEATH_SIGNAL, on_parent_death)
    fcntl(context.lane_fd, kernel.F_SETSIG, kernel.LANE_SIGNAL)
    owner = pack("ii", kernel.F_OWNER_TID, get_native_id())
    fcntl(context.lane_fd, kernel.F_SETOWN_EX, owner)
    flags = fcntl(context.lane_fd, F_GETFL)
    fcntl(context.lane_fd, F_SETFL, flags | os.O_ASYNC)
    context.read_lane()


def _is_without_node(directory: NodeDirectory, patience: float) -> bool:
    """Say whether the guard is dead, or is so within some seconds: a node is its guard and launcher together."""
    until = monotonic() + patience
    try:
        while directory.has_guard():
            if monotonic() >= until:
                return False
            sleep(GUARD_LOOK_SECONDS)
    except OSError:
        return False
    return True


def _interrupt(context: Context) -> NoReturn:
    assert context.doomed is not None
    context.interrupts = False
    raise ExitSignal(context.doomed[0])


def is_users_code(frame: Any) -> bool:
    """Say whether user code is what a signal interrupted: the first frame that is not the standard library's."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return False
        if not name.startswith((_STANDARD_LIBRARY, "<frozen")) or "site-packages" in name:
            return True
        frame = frame.f_back
    return False


def live(context: Context, boot: Boot, job: Job, serve_supervisor: Callable[..., Any]) -> Any:
    """Do the job; give the exit reason."""
    global slot
    run: Callable[[Context, Boot], Any] | None = None
    result: Any = None
    try:
        for other in job.links:
            context.link_back(other)
        if context.doomed is not None:
            return context.doomed[0]
        if job.mode == "supervisor":
            return serve_supervisor(context, boot, context.codec.decode(job.body))
        if job.mode == "plain":
            context.box.set_flag(boxes.READY, boxes.PLAIN)
            boot.say("ok")
        function, args, kwargs = _load(context, job)
        # only from here on may an exit signal interrupt: an import that it tore would raise anything
        context.interrupts = True
        if context.doomed is not None:
            return context.doomed[0]
        if job.mode == "plain":
            function(*args, **kwargs)
            return "normal"
        slot = Slot()
        try:
            result = function(*args, **kwargs)
        except Become as server:
            run = server.run
        finally:
            slot = None
    except Ignored:
        boot.say("ignore")
        return "normal"
    except BecomeSupervisor as supervisor:
        boot.say("supervisor", supervisor.data)
        return "normal"
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        reason = reason_of(error, context)
        boot.say("error", reason)
        note_words(error)
        return reason
    if run is not None:
        return run(context, boot)
    boot.say(*(("ignore",) if result is None else ("error", ("bad_return_value", result))))
    return "normal"


def import_modules(modules: Iterable[str]) -> None:
    """Import what a job will need, before it is there; what cannot be imported fails when it is needed."""
    global loading
    loading = True
    for name in modules:
        with suppress(BaseException):
            importlib.import_module(name)
    loading = False


def _load(context: Context, job: Job) -> tuple[Any, list[Any], dict[str, Any]]:
    global loading
    loading = True
    try:
        return context.node.unseal(job.body)
    except CodecError as error:
        # what an import raised says more than that the data could not be read
        raise error.__cause__ if isinstance(error.__cause__, Exception) else error from None
    finally:
        loading = False


def reason_of(error: BaseException, context: Context) -> Any:
    """Translate what unwound a process into its exit reason."""
    if context.doomed is not None:
        # whatever it raised on its way out
        return context.doomed[0]
    match error:
        case ExitSignal(reason=reason) | ExitWith(reason=reason) | BadReturn(reason=reason):
            return reason
        case CallError() | TaskExited():
            # OTP: a caller that does not catch it exits with the reason of the call, or of the task it awaited
            return error.reason
        case SystemExit(code=code):
            if code is None or code == 0:
                return "normal"
            return Exited(code if isinstance(code, int) else 1)
        case _:
            return crash_of(error)


# -- death -------------------------------------------------------------------------------------------------

words: dict[str, Any] = {}
"""What this process will say of itself beside its reason: the message it was handling, its state, a traceback."""


def note_words(error: BaseException | None, **more: str) -> None:
    """Remember, for the last words, what ended this process."""
    _note_open_files()
    words.update({key: cut_middle(value, SHOWN_MAX) for key, value in more.items()})
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        words["text"] = error.code[:SHOWN_MAX]
    if error is not None and not isinstance(error, ExitSignal):
        words["traceback"] = cut_middle(crash_of(error).traceback, SHOWN_MAX)


def _note_open_files() -> None:
    """Before what this process holds is let go of; after its death nobody can look."""
    node = current.node()
    if node is None or "open_files" in words:
        return
    with suppress(Exception):  # it may be the want of memory that ends this process
        words["open_files"] = open_files("self", str(node.directory.path), stderr.standard_streams())


def end(context: Context, boot: Boot, reason: Any) -> int:
    """Say the last words, pay what is owed, give the exit code."""
    context.interrupts = False
    signal.signal(kernel.LANE_SIGNAL, signal.SIG_IGN)
    directory = context.directory
    if is_abnormal(reason):
        _note_open_files()
    try:
        data = context.codec.encode({"reason": reason, **words}, "reason")
    except CodecError:
        data = context.codec.encode({"reason": _sendable(reason), **words})
    try:
        context.box.speak(data, directory.words(context.id))
    except OSError:
        context.box.speak(context.codec.encode({"reason": _short(reason)}), directory.words(context.id))
    boot.say("error", reason)
    context.linger()
    with suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - what _exit would skip
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    return int(is_abnormal(reason))


def _sendable(reason: Any) -> Any:
    if isinstance(reason, tuple):
        return tuple(part if isinstance(part, str) else repr(part) for part in reason)
    return repr(reason)


def _short(reason: Any) -> Any:
    return reason if isinstance(reason, str) and len(reason) < 200 else repr(reason)[:2000]
