"""A node's runtime directory: where everything lies, who may read it, room for it, its one lock.

<base>/<node>/           0700, this user's alone
    node                 who runs here (name, incarnation, OS processes), msgpack
    names/<name>         link to the id of the process that has the name; flock on this directory is
                         the one lock of a node, freed by the kernel when its holder dies
    p/<id>.box .in .ctl  black box, mailbox and control lane of a process
    p/<id>.spare         box of a process forked ahead, which nobody is to find yet
    seg/                 large terms under way          defs/     classes that cannot be imported
    deaths/              what `why` shows               log       reports on their way to the program
    records/             what `replay` replays: recordings of dead servers, made with the first of them
    fates                who is dead: a word for each process id that was ever given
    tables/<name>/       what a registry's processes share: see `host.tables`
    apps/<name>          the settings of an application
    cluster              what the node's gateway tells its processes: see `cluster.standing`; 0600
    tails/<reader>       FIFOs of those who read reports along
    state/<root>/…       kept states, each in the place of a child under its supervisors (host/snapshot_file.py),
                         and what is in durable mailboxes (host/mail_file.py)
    letters/             messages that killed their servers too often
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path

FATE_BYTES = 8
FATES_STEP = 512
_GRAVE = ".gone-"
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
SUBDIRECTORIES = ("names", "p", "seg", "defs", "deaths", "tables", "apps", "tails", "state", "err", "letters")
HANDOVER_PARTS = ("said", "told", "order", "estate", "parting")
"""Of a handover: FIFOs for what the new process says and is told, and for what the old one is told; files for what
the new one is to do and for what the old one leaves it."""


class DirectoryUnusable(OSError):
    """A runtime directory cannot be used; the text says which, why and what to do."""


def base_directory() -> Path:
    """Give the directory under which this user's nodes live: see `OTP_RUNTIME_DIR`."""
    if chosen := os.environ.get("OTP_RUNTIME_DIR"):
        return Path(chosen)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "otp_runtime"
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own in it, 0700 and checked
    return (shared if os.access(shared, os.W_OK | os.X_OK) else _temporary()) / f"otp_runtime-{os.getuid()}"


def _temporary() -> Path:
    # imported here: with what it brings along, every fork would carry it
    import tempfile

    return Path(tempfile.gettempdir())


def ensure_private(path: Path) -> Path:
    """Make `path` a directory of this user alone, or raise `DirectoryUnusable`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(path)
    except FileExistsError as error:
        msg = f"{path} is not a directory; remove it or set OTP_RUNTIME_DIR to another one"
        raise DirectoryUnusable(errno.ENOTDIR, msg) from error
    except OSError as error:
        if isinstance(error, DirectoryUnusable):
            raise
        msg = f"cannot make {path}: {error.strerror}; set OTP_RUNTIME_DIR to a directory with room that you own"
        raise DirectoryUnusable(error.errno, msg) from error
    return path


def check_private(path: Path) -> None:
    """Raise `DirectoryUnusable` unless `path` is a real directory that only this user can enter."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        msg = f"{path} is not a directory (a link is not followed); remove it or set OTP_RUNTIME_DIR"
        raise DirectoryUnusable(errno.ENOTDIR, msg)
    if status.st_uid != os.geteuid():
        msg = (
            f"{path} belongs to user {status.st_uid}, you are {os.geteuid()}: nothing of another user is read or "
            "written; set OTP_RUNTIME_DIR to a directory of yours"
        )
        raise DirectoryUnusable(errno.EPERM, msg)
    if status.st_mode & 0o077:
        msg = f"{path} can be entered by others (mode {status.st_mode & 0o777:o}); chmod 700 it"
        raise DirectoryUnusable(errno.EPERM, msg)


def reserve(fd: int, size: int, path: str) -> None:
    """Reserve the blocks of a file that will be mapped: a sparse one dies of SIGBUS on a full disk."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        msg = f"no room for {size} bytes of {path}; make room or set OTP_RUNTIME_DIR"
        raise DirectoryUnusable(errno.ENOSPC, msg) from error


def make_mapped(path: str, size: int) -> mmap.mmap:
    """Make a file with its blocks reserved, and map it; without room for it nothing of it stays."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        reserve(fd, size, path)
        return mmap.mmap(fd, size)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


class _Lock:
    """Exclusive use of a directory, as long as it lasts. No generator: each start and each name comes through here."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, _READ_DIRECTORY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


class NodeDirectory:
    """The paths of one node, and its lock."""

    def __init__(self, path: Path | str) -> None:
        """Name the directory; `create` makes it."""
        self.path = Path(path)
        self._root = str(path)
        self._inode = 0

    def create(self) -> None:
        """Make the directory and its parts; raises `FileExistsError` when it is there."""
        try:
            self.path.mkdir(mode=0o700)
            self.identify()
            for name in SUBDIRECTORIES:
                (self.path / name).mkdir(mode=0o700)
            self._make_room_for_fates(0)
            fd = os.open(f"{self._root}/next_id", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                reserve(fd, 8, f"{self._root}/next_id")
                os.pwrite(fd, (1).to_bytes(8, "little"), 0)
            finally:
                os.close(fd)
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise
            self.remove()
            if isinstance(error, DirectoryUnusable):
                raise
            msg = f"cannot make {self.path}: {error.strerror}; set OTP_RUNTIME_DIR to a directory with room"
            raise DirectoryUnusable(error.errno, msg) from error

    def is_nodes(self) -> bool:
        """Say whether this is a node's directory, and not something of somebody else's in its place."""
        return (self.path / "names").is_dir()

    def identify(self) -> None:
        """Remember which directory this is: `remove` then spares another one of the same name."""
        with contextlib.suppress(FileNotFoundError):
            self._inode = os.stat(self._root).st_ino

    def is_guarded(self) -> bool:
        """Say whether the guard of this very node lives, which holds a lock; `FileNotFoundError` when none did."""
        if self._inode not in {0, os.stat(self._root).st_ino}:
            return False
        fd = os.open(f"{self._root}/guard", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def has_guard(self) -> bool:
        """As `is_guarded`, also of what may be no node's directory any more."""
        try:
            return self.is_guarded()
        except FileNotFoundError:
            return False

    def is_grave(self) -> bool:
        """Say whether somebody had begun to remove this one, as `remove` calls what it removes."""
        _name, grave, number = self.path.name.rpartition(_GRAVE)
        return bool(grave) and number.isdigit() and not self.has_guard()

    def remove(self) -> None:
        """Remove the directory and all in it, unless it was replaced by another node's.

        And what somebody else had begun to remove, who was killed over it.
        """
        grave = f"{self._root}{_GRAVE}{os.getpid()}"
        with contextlib.suppress(OSError):
            if self._inode in {0, os.stat(self._root).st_ino}:
                os.rename(self._root, grave)
        import shutil

        shutil.rmtree(grave, ignore_errors=True)
        with contextlib.suppress(OSError):
            for entry in self.path.parent.iterdir():
                if entry.name.startswith(f"{self.path.name}{_GRAVE}") and NodeDirectory(entry).is_grave():
                    shutil.rmtree(entry, ignore_errors=True)

    def box(self, process_id: int) -> str:
        """Give the path of a process's black box."""
        return f"{self._root}/p/{process_id}.box"

    def spare(self, process_id: int) -> str:
        """Give the path of the black box of a process that was forked ahead."""
        return f"{self._root}/p/{process_id}.spare"

    def mailbox(self, process_id: int) -> str:
        """Give the path of a process's mailbox."""
        return f"{self._root}/p/{process_id}.in"

    def lane(self, process_id: int) -> str:
        """Give the path of a process's control lane."""
        return f"{self._root}/p/{process_id}.ctl"

    def words(self, process_id: int) -> str:
        """Give the path of last words that were too long for the box."""
        return f"{self._root}/p/{process_id}.words"

    def native_stack(self, process_id: int) -> str:
        """Give the path of the file that `faulthandler` writes to in a native crash."""
        return f"{self._root}/p/{process_id}.fault"

    def printed(self, process_id: int) -> str:
        """Give the path of the last that a process printed to Python's standard error."""
        return f"{self._root}/p/{process_id}.printed"

    @property
    def all_errors(self) -> str:
        """Give the directory of what processes write to descriptor 2: see `process.stderr`."""
        return f"{self._root}/err"

    def errors(self, process_id: int) -> str:
        """Give the path of what one process writes to descriptor 2."""
        return f"{self._root}/err/{process_id}"

    def handover(self, number: int, what: str) -> str:
        """Give the path of a part of handover `number`: see `HANDOVER_PARTS`."""
        return f"{self._root}/p/{number}.{what}"

    def has_box(self, process_id: int) -> bool:
        """Say whether there is a box of that id."""
        return os.path.exists(self.box(process_id))

    def forget_handover(self, number: int) -> None:
        """Remove what is left of a handover."""
        for what in HANDOVER_PARTS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.handover(number, what))

    def name_link(self, file_name: str) -> str:
        """Give the path of a name's link."""
        return f"{self._root}/names/{file_name}"

    @property
    def segments(self) -> str:
        """Give the directory of large terms under way."""
        return f"{self._root}/seg"

    def segment(self, receiver: int, sender: int, number: int) -> str:
        """Give the path of a large term under way."""
        return f"{self._root}/seg/{receiver}.{sender}.{number}"

    @property
    def cluster(self) -> str:
        """Give the path of what processes know of the cluster; there when the node has joined one."""
        return f"{self._root}/cluster"

    @property
    def tails(self) -> str:
        """Give the path where readers of reports have their FIFOs."""
        return f"{self._root}/tails"

    def settings(self, app: str) -> str:
        """Give the path of an application's settings."""
        return f"{self._root}/apps/{app}"

    def definition(self, digest: str) -> str:
        """Give the path of a class that cannot be imported."""
        return f"{self._root}/defs/{digest}"

    def state(self, process_id: int) -> str:
        """Give the place of the states that a root, or what hangs below it, keeps."""
        return f"{self._root}/state/{process_id}"

    @property
    def fates(self) -> str:
        """The file that says who is dead: see `host.fates`."""
        return f"{self._root}/fates"

    def table(self, file_name: str) -> str:
        """Give the directory of a table."""
        return f"{self._root}/tables/{file_name}"

    @property
    def deaths(self) -> Path:
        """The directory of death records."""
        return self.path / "deaths"

    @property
    def recordings(self) -> str:
        """Give the directory of what dead servers had received."""
        return f"{self._root}/records"

    @property
    def letters(self) -> str:
        """The directory of dead letters."""
        return f"{self._root}/letters"

    @property
    def log(self) -> str:
        """The FIFO of reports on their way to the program's `logging`."""
        return f"{self._root}/log"

    def process_ids(self) -> list[int]:
        """Give the ids of all processes whose box is here, the dead that are kept included."""
        return sorted(int(name[:-4]) for name in os.listdir(f"{self._root}/p") if name.endswith(".box"))

    def spare_ids(self) -> list[int]:
        """Give the ids of the processes that were forked ahead and are not used yet."""
        return [int(name[:-6]) for name in os.listdir(f"{self._root}/p") if name.endswith(".spare")]

    def lock(self) -> _Lock:
        """Hold the node's one lock. Never fork while holding it: the kernel frees it only with its last holder."""
        return _Lock(f"{self._root}/names")

    def next_id(self) -> int:
        """Give a process id that this node has never given before."""
        with self.lock():
            fd = os.open(f"{self._root}/next_id", os.O_RDWR | os.O_CLOEXEC)
            try:
                number = int.from_bytes(os.pread(fd, 8, 0), "little")
                if number % FATES_STEP == 0:
                    self._make_room_for_fates(number)
                os.pwrite(fd, (number + 1).to_bytes(8, "little"), 0)
            finally:
                os.close(fd)
        return number

    def _make_room_for_fates(self, process_id: int) -> None:
        """Reserve the words of the ids from `process_id` on, before any of them is given."""
        fd = os.open(self.fates, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            reserve(fd, (process_id + FATES_STEP) * FATE_BYTES, self.fates)
        finally:
            os.close(fd)

    def seal_fate(self, process_id: int, fate: int) -> None:
        """Write down, before a death is told, that a process is dead: what to write, `host.fates` says."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.fates, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, fate.to_bytes(FATE_BYTES, "little"), process_id * FATE_BYTES)
            finally:
                os.close(fd)

    def make_mailbox(self, process_id: int) -> None:
        """Make the mailbox and the control lane of a process."""
        os.mkfifo(self.mailbox(process_id), 0o600)
        os.mkfifo(self.lane(process_id), 0o600)

    def forget_mailbox(self, process_id: int, *, but_mail: bool = False) -> None:
        """Remove what a dead process can no longer use.

        Its box stays, what it wrote to standard error, and `but_mail` its mailbox.
        """
        for path in (self.lane(process_id), *(() if but_mail else (self.mailbox(process_id),))):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.errors(process_id)).st_size == 0:
                os.unlink(self.errors(process_id))
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(f"{self._root}/seg"):
                if name.startswith(f"{process_id}."):
                    os.unlink(f"{self._root}/seg/{name}")

    def forget_kept_segments(self, sender: int) -> None:
        """Remove the names of what a sender keeps for its next large terms: it does well without, should it go on."""
        own = f"{sender}.{sender}."
        for name in os.listdir(self.segments):
            if name.startswith(own):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.segments}/{name}")

    def receivers_of_segments(self, sender: int) -> set[int]:
        """Give the ids of the processes for which a sender has segments here."""
        found = set()
        for name in os.listdir(f"{self._root}/seg"):
            receiver, owner, _number = name.split(".", 2)
            if owner == str(sender):
                found.add(int(receiver))
        return found

    def forget_spare(self, process_id: int) -> None:
        """Remove all that is left of a process that was forked ahead and never used."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.spare(process_id))
        self.forget(process_id)

    def forget(self, process_id: int) -> None:
        """Remove all that is left of a dead process."""
        self.forget_mailbox(process_id)
        places = (self.box, self.words, self.native_stack, self.printed, self.errors)
        for path in (place(process_id) for place in places):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
