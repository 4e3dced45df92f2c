"""The process of a replay: makes the server object, runs `init`, then one callback after the other, as recorded.

A program of its own, started by `cli.replay`, which tells it all in one argument and reads the file of events that this
one writes. Nothing stands between it and what the callbacks do: an exception ends the replay as it ended the server, a
native crash ends this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import inspect
import json
import os
import pdb  # noqa: T100 - to debug is what the command offers
import sys
import time
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.keeping import at_once
from otp_runtime.behaviours.returns import MISSING, Ignore, NoReply, RaiseInCaller, Reply, Stop
from otp_runtime.behaviours.server_loop import _is_async, _shown
from otp_runtime.cli import output
from otp_runtime.cli.failures import INTERRUPTED
from otp_runtime.core import messages as wire
from otp_runtime.core.statem import Woke
from otp_runtime.errors import CodecError
from otp_runtime.host import poller, recording_file
from otp_runtime.host.recording_file import CONTINUE, LOST, OPAQUE
from otp_runtime.process import boot as booting
from otp_runtime.process import node as _node  # noqa: F401 - a callback that uses the library gets a node
from otp_runtime.process import recordings
from otp_runtime.process.client import Client
from otp_runtime.process.shipping import Shipper
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import describe, is_abnormal

if TYPE_CHECKING:
    from types import TracebackType

    from otp_runtime.host.recording_file import Entry
    from otp_runtime.process.recordings import About

SHOWN_MAX = 500
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_KINDS = {wire.CALL: "call", wire.CAST: "cast"}
_CALLBACKS = {wire.CALL: "handle_call", wire.CAST: "handle_cast"}


class CannotReplay(Exception):
    """The recording cannot be run; the text says why."""


class Ended(Exception):
    """The server would have ended here."""

    def __init__(self, outcome: str, reason: str | None, error: BaseException | None = None) -> None:
        """`error` is what a callback raised."""
        super().__init__(outcome)
        self.outcome = outcome
        self.reason = reason
        self.error = error


class Replay:
    """One replay."""

    def __init__(self, orders: dict[str, Any]) -> None:
        """See `cli.replay`."""
        self._orders = orders
        self._events = open(f"{orders['here']}/events", "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - for life
        self._codec = Codec(Shipper(orders["definitions"]))
        self._about: About
        self._cls: type
        self._server: Any
        self._state: Any = None
        self._shown = ""
        self._continue: Any = MISSING
        self._late = 0.0

    def run(self) -> None:
        """Replay, and say how it ended."""
        try:
            recording = recording_file.read(self._orders["recording"])
            if recording.base.kind == LOST:
                raise CannotReplay(recording.base.data.decode(errors="replace"))
            arg = self._prepare(recording.about, recording.base.data)
            play = self._play(arg, recording.entries)
            asyncio.run(play) if _is_async(self._server) else at_once(play)
        except Ended as end:
            self._end(end)
        except (CannotReplay, OSError, ValueError) as error:
            self._say("end", {"outcome": "failed", "reason": str(error)})

    def _prepare(self, about: bytes, base: bytes) -> Any:
        """Make the server object and take the state; give the argument of `init`."""
        self._about, sealed_cls, sealed_arg = recordings.decode_about(about)
        sys.path[:] = self._about.path
        with contextlib.suppress(OSError):
            os.chdir(self._about.directory)
        self._cls = self._read(sealed_cls, "its class cannot be loaded here")
        self._server = getattr(self._cls, "_hosted_server", self._cls)()
        if hasattr(self._cls, "_hosted_server"):
            # a state machine compares the times of its time-outs with the clock
            poller.now = lambda: time.monotonic() - self._late
        self._state = self._read(base, "its state cannot be read here")
        return self._read(sealed_arg, "the argument of init is not to be had")

    def _read(self, data: bytes, otherwise: str) -> Any:
        if (why := recordings.why_unreadable(data)) is not None:
            raise CannotReplay(f"{otherwise}: {why}")
        try:
            return self._codec.decode(data)
        except CodecError as error:
            raise CannotReplay(f"{otherwise}: {error}") from error

    # -- one after the other --------------------------------------------------------------------------------

    async def _play(self, arg: Any, entries: tuple[Entry, ...]) -> None:
        at = self._orders["at"]
        await self._init(arg)
        self._shown = self._look(self._state)
        self._say("state", self._shown)
        self._print(f"state: {self._shown}")
        for number, entry in enumerate(entries, 1):
            name, args, said = self._read_entry(entry)
            self._print(f"{number:>4}  {said}")
            is_here = number == at
            if is_here and not self._orders["pdb"]:
                self._say("message", {"n": number, "message": said, "state": self._shown})
                raise Ended("before", str(number))
            await self._handle(number, name, args, said, entry, debugged=is_here)
        raise Ended("returned", None)

    async def _init(self, arg: Any) -> None:
        try:
            result = await _settled(self._server.init(arg))
        except BaseException as error:
            raise self._died(error) from error
        if isinstance(result, Stop | Ignore):
            raise CannotReplay(f"init(arg) returned {_shown(result)}, and did not when it was recorded")

    def _read_entry(self, entry: Entry) -> tuple[str, tuple[Any, ...], str]:
        """Give the callback, its arguments but for the state, and what is said of the message."""
        if entry.kind == OPAQUE:
            text = recordings.why_unreadable(entry.data) or entry.data.decode(errors="replace")
            raise CannotReplay(f"the next message could not be recorded: {text}")
        if entry.kind == CONTINUE:
            term, self._continue = self._continue, MISSING
            if term is MISSING:
                term = self._read(entry.data, "the term of a continue could not be recorded")
            return "handle_continue", (term,), f"continue {self._look_at_message(term)}"
        envelope = self._read(entry.data, "the next message cannot be read here")
        kind, message = envelope[0], envelope[-1]
        text = f"{_KINDS.get(kind, 'info')} {self._look_at_message(message)}"
        if type(message) is Woke:
            text = "a time-out is due"
        if kind == wire.CALL:
            caller = Pid(self._about.node, envelope[1], self._about.incarnation)
            client: Client[Any] = Client(caller, envelope[2])
            return "handle_call", (message, client), f"{text} from {caller!r}"
        return _CALLBACKS.get(kind, "handle_info"), (message,), text

    async def _handle(
        self, number: int, name: str, args: tuple[Any, ...], said: str, entry: Entry, *, debugged: bool
    ) -> None:
        self._late = time.monotonic() - entry.at
        facts = {"n": number, "message": said, "callback": name, "state": self._shown}
        try:
            with _debugger() if debugged else contextlib.nullcontext():
                result = await _settled(getattr(self._server, name)(*args, self._state))
        except BaseException as error:
            self._say("message", {**facts, "returned": None})
            raise self._died(error) from error
        before = self._shown
        returned = self._take(name, result)
        self._shown = self._look(self._state)
        self._say("message", {**facts, "returned": returned, "state_after": self._shown})
        self._print(f"      {returned}; state {'as before' if before == self._shown else self._shown}")
        match result:
            case Stop():
                raise Ended("stop", describe(result.reason))
            case Reply() | NoReply():
                self._continue = result.continue_
            case _:
                raise Ended("stop", describe(("bad_return_value", result)))

    def _take(self, name: str, result: Any) -> str:
        """Take the state that a callback gave; say what it returned."""
        kind = type(result)
        if kind is Stop:
            if result.state is not MISSING:
                self._state = result.state
            return f"Stop({_shown(result.reason)[:SHOWN_MAX]})"
        if kind is NoReply or (name == "handle_call" and kind in {Reply, RaiseInCaller}):
            self._state = result.state
        else:
            return f"a bad return: {_shown(result)[:SHOWN_MAX]}"
        if kind is RaiseInCaller:
            return f"Reply.error({_shown(result.value)[:SHOWN_MAX]})"
        return "NoReply" if kind is NoReply else f"Reply({_shown(result.value)[:SHOWN_MAX]})"

    # -- the end --------------------------------------------------------------------------------------------

    def _died(self, error: BaseException) -> Ended:
        reason = booting.reason_of(error, SimpleNamespace(doomed=None))  # type: ignore[arg-type]  # the part it asks
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "BdbQuit":
            return Ended("failed", INTERRUPTED)
        return Ended("exception" if is_abnormal(reason) else "stop", describe(reason), error)

    def _end(self, end: Ended) -> None:
        text = None
        if end.error is not None and end.outcome == "exception":
            text = "".join(traceback.format_exception(end.error.with_traceback(_users_part(end.error))))
        self._say("end", {"outcome": end.outcome, "reason": end.reason, "traceback": text})
        if text is not None and self._orders["pdb"]:
            assert end.error is not None
            print(text, end="")
            pdb.post_mortem(end.error.__traceback__)

    # -- words ----------------------------------------------------------------------------------------------

    def _say(self, what: str, value: Any) -> None:
        self._events.write(json.dumps({what: value}) + "\n")

    def _print(self, text: str) -> None:
        if not self._orders["json"]:
            print(text, flush=True)

    def _look(self, state: Any) -> str:
        """Show a state, with what `format_status` redacts redacted."""
        return self._formatted("state", state)

    def _look_at_message(self, message: Any) -> str:
        return self._formatted("message", message)

    def _formatted(self, what: str, value: Any) -> str:
        status = {"state": self._state, "message": None, "reason": None, what: value}
        try:
            formatted = self._server.format_status(dict(status))
        except Exception as error:  # noqa: BLE001 - a broken format_status must not hide what is replayed
            return f"(format_status raised {error!r})"
        shown = formatted.get(what) if isinstance(formatted, dict) else value
        text = _shown(shown)
        return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


@contextlib.contextmanager
def _debugger() -> Any:
    """Stop at the first line of the program's that runs in the block."""
    debugger = pdb.Pdb(skip=["otp_runtime", "otp_runtime.*", "contextlib"])
    debugger.reset()
    sys.settrace(debugger.trace_dispatch)
    try:
        yield
    finally:
        sys.settrace(None)


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _users_part(error: BaseException) -> TracebackType | None:
    """Give the traceback from the first line of the program's on; all of it where the library's own code raised."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        step = step.tb_next
    return step or error.__traceback__


def main() -> None:
    """Do what the one argument says."""
    orders = json.loads(sys.argv[1])
    fault = open(f"{orders['here']}/fault", "w", encoding="utf-8")  # noqa: SIM115 - for life
    faulthandler.enable(fault, all_threads=True)
    output.escape_the_unsayable()
    if orders["json"]:
        # standard output is one JSON document, of the command's
        os.dup2(2, 1)
    Replay(orders).run()


if __name__ == "__main__":
    main()
