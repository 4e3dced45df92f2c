"""A node as its processes know it: directory, name, incarnation, codec."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from otp_runtime.core.names import file_name_of
from otp_runtime.errors import CodecError
from otp_runtime.process import reports
from otp_runtime.process.shipping import Shipper, check_globals
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.parcels import ParcelCodec

if TYPE_CHECKING:
    from otp_runtime.host.directory import NodeDirectory

LAUNCHER_ID: Final = 1


class NodeHandle:
    """One node, seen from inside."""

    def __init__(self, directory: NodeDirectory, name: str, incarnation: int, program: int = 0) -> None:
        """`program` is the id of the program this OS process is, 0 for a server."""
        self.directory = directory
        self.name = name
        self.incarnation = incarnation
        self.program = program
        self.gone = False
        self.started: dict[int, float | None] = {}
        """The processes that this OS process started, by id: the seconds each has to stop, None for ever."""
        self.shipper = Shipper(f"{directory.path}/defs")
        self.codec = Codec(self.shipper)
        self.parcels = ParcelCodec(self.shipper)
        """The codec of what is sent at once, within the node."""
        self._knows_durable = self._has_looked = False

    def seal(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> bytes:
        """Encode a call to be made in another process, as data that only that process opens."""
        for thing in (function, *args):
            owner = getattr(thing, "__self__", thing)
            if isinstance(owner, type):
                self.shipper.refresh(owner)
        try:
            sealed = self.codec.encode([function, list(args), kwargs], what)
        except CodecError:
            check_globals(getattr(function, "__func__", function), what)
            for thing in args:
                if callable(thing):
                    check_globals(thing, what)
                self.codec.encode(thing, f"{what}: argument")
            raise
        if self.program and self._may_be_durable(function, sealed):
            # a state of an earlier run may hold its classes, which no code of the server need name
            self.shipper.lay_down(sys.modules["__main__"])
        return sealed

    def _may_be_durable(self, function: Any, sealed: bytes) -> bool:
        """Whether what is started may read a state from a disk: it says so itself, or there is such a state."""
        if not self._knows_durable:
            owner = getattr(function, "__self__", None)
            says_so = getattr(owner, "durable", None) or "durable" in (getattr(owner, "options", None) or ())
            self._knows_durable = bool(says_so) or b"durable" in sealed or self.shipper.has_durable or self._has_data()
        return self._knows_durable

    def _has_data(self) -> bool:
        """Whether an earlier run left a database; looked up once, as what this run keeps it says itself."""
        if self._has_looked:
            return False
        self._has_looked = True
        with contextlib.suppress(OSError, CodecError, KeyError):
            return os.path.exists(Codec().decode((self.directory.path / "node").read_bytes())["data"]["path"])
        return False

    def unseal(self, sealed: bytes) -> tuple[Any, list[Any], dict[str, Any]]:
        """Open what `seal` made."""
        function, args, kwargs = self.codec.decode(sealed)
        return function, args, kwargs

    def warn_once(self, key: str, text: str) -> None:
        """As `warn`, once in the life of the node for each `key`."""
        path = self.directory.deaths / f".once-{file_name_of(key)}"
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self.warn(text)

    def warn(self, text: str) -> None:
        """Report something that is wrong and harmless."""
        self.report("otp_runtime", 30, text, {"report": "warning", "os_pid": os.getpid()})

    def report(self, logger: str, level: int, text: str, facts: dict[str, Any]) -> None:
        """Send a report to the program's `logging`; `facts` is plain data, there as `record.otp`."""
        extra = {"otp": facts}
        report = {"name": logger, "level": level, "message": text, "os_pid": facts.get("os_pid"), "extra": extra}
        reports.send(self.directory, report)
