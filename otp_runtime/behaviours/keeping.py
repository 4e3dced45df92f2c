"""What a server with `restore` or `durable` has beside its loop: it keeps the state that each callback gave.

    init(arg) ──► opened: a kept state? ──► code_change, if of another version ──► restored(state) ──► the loop
                                                                                                        │
    reply, held replies ◄── database, then mapped file ◄── encoded: changed? ◄── a callback returned ◄──┘

The order is the promise: a reply you saw implies a state that survives. What a callback answers by `GenServer.reply`
is therefore held until its state is kept. What is kept, where and when, `core.snapshots` decides.

What it costs follows the change. The same object that can never change (numbers, texts, tuples of such, frozen
dataclasses) is not looked at; a dict, a list or a dataclass of such is looked through; any other state is encoded. It
is written only when its bytes differ from the last.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.behaviours.returns import Ignore, NoReply, Ok, RaiseInCaller, Reply, Stop
from otp_runtime.core import snapshots
from otp_runtime.core.keep import Every
from otp_runtime.core.snapshots import Slot, Streak, turn
from otp_runtime.core.unchanged import is_frozen, is_same, parts_of
from otp_runtime.errors import CodecError, DurableStateError, ExitWith, RuntimeBug
from otp_runtime.host import box as boxes
from otp_runtime.host import poller
from otp_runtime.host.snapshot_file import Saved, SnapshotFile
from otp_runtime.process import places
from otp_runtime.terms.reason import crash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from otp_runtime.behaviours.keeping_loop import Keeping
    from otp_runtime.core.keep import Keep
    from otp_runtime.core.snapshots import Choice, Slots
    from otp_runtime.core.unchanged import Parts
    from otp_runtime.host.durable import DurableStore
    from otp_runtime.terms.codec import Codec

OFTEN = 2
"""How often a state must come unchanged before it is looked at how that could be told sooner."""

_CONTROLS = (Ignore, Stop, Reply, NoReply, RaiseInCaller)


class Keeper:
    """The kept states of one server, from the inside."""

    def __init__(self, loop: Keeping, keep: Keep) -> None:
        """Keep what `loop` gives; nothing is opened yet."""
        self.loop = loop
        self.keep = keep
        self.held: list[tuple[int, bytes]] = []
        self._file: SnapshotFile | None = None
        self._write: Callable[[int, int, int, bytes, bytes], None] = _not_open
        self._durable: DurableStore | None = None
        self._codec: Codec = loop.context.codec
        self._encode: Callable[[Any, str], bytes] = _not_open
        self._vsn = b""
        self._slots = snapshots.EMPTY
        self._turns = snapshots.turns_of(self._slots, 0)
        self._level = 0
        self._settled = False
        self._last: bytes | None = None
        self._frozen: Any = _NOTHING
        self._parts: Parts | None = None
        self._unchanged = 0
        self._is_every = keep.commit == "every"
        self._callbacks = 0
        self._committed_at = poller.now()
        self._timer: poller.TimerHandle | None = None

    # -- birth ----------------------------------------------------------------------------------------------

    async def begin(self, result: Any) -> Any:
        """Put the kept state, if there is one, in the place of the state that `init` returned.

        A coroutine for the sake of async callbacks; one of a synchronous server never waits. What it raises makes
        the start fail.
        """
        if isinstance(result, _CONTROLS):
            return result
        try:
            self._open()
        except DurableStateError as error:
            # as a term: so the starter gets the error itself, and a supervisor reports it
            raise ExitWith(reason_of(error)) from error
        assert self._file is not None
        streak = Streak.from_int(self._file.streak)
        choice = snapshots.choose(self.keep.restore, self._slots, streak, self.keep.max_state_crashes)
        if choice.streak != streak:
            self._file.streak = choice.streak.to_int()
        self._report_step(choice)
        self._level = choice.streak.level
        found = self._first_readable(choice)
        if found is None:
            return result
        saved, state = found
        self._file.phase = snapshots.IN_USE
        self._turns = snapshots.turns_of(self._slots, saved.generation)
        if self._is_newest and saved.vsn == self._vsn:
            self._last = saved.body
        state = await self._converted(saved, state)
        telemetry.emit("state.restored", server=self._who(), generation=saved.generation)
        return dataclasses.replace(result, state=state) if isinstance(result, Ok) else Ok(state)

    def take_up(self, _state: Any) -> None:
        """Before the loop: open what there is, where another OS process was this very server before. Its state is here.

        Raises as `returned`.
        """
        if self._file is None:
            self._open()
            self._turns = snapshots.turns_of(self._slots, snapshots.newest_of(self._slots))

    def _encode_form(self, state: Any, what: str) -> bytes:
        """Encode what is kept of a state whose server keeps a part of it."""
        return self._codec.encode(self.loop.server.kept_form(state), what)

    @property
    def newest(self) -> int:
        """The newest generation that is kept, 0 when there is none. The next one is one more."""
        return self._turns[0] - 1

    @property
    def _is_newest(self) -> bool:
        """Whether what the server builds on is the newest that is kept: not so while it is a step back."""
        generation, parent, *_slots = self._turns
        return generation == parent + 1

    def _open(self) -> None:
        context = self.loop.context
        server = self.loop.server
        if self.keep.durable is not None:
            from otp_runtime.behaviours import durability

            self._codec = durability.codec_of(context.node)
            self._durable = durability.open_store(context, self.keep.durable, type(getattr(server, "user", server)))
        self._vsn = self._codec.encode(_vsn_of(server), "vsn")
        self._encode = self._encode_form if hasattr(server, "kept_form") else self._codec.encode
        self._file = SnapshotFile.open(places.file_of(context.place))
        self._write = self._file.write
        self.loop.box.set_flag(boxes.KEEPS)
        self._file.phase = snapshots.UNUSED
        self._file.redact(_redacts(server))
        slots = self._file.slots()
        if self._durable is not None:
            slots = _brought_up(self._file, slots, self._durable.read())
        self._slots = _as_slots(slots)
        self._turns = snapshots.turns_of(self._slots, 0)
        context.keeper = self

    def _first_readable(self, choice: Choice) -> tuple[Saved, Any] | None:
        assert self._file is not None
        for at in choice.slots:
            saved = self._file.read(at)
            try:
                return saved, self._codec.decode(saved.body)
            except CodecError as error:
                if self._durable is not None:
                    raise ExitWith(("durable_state", self._durable.path, str(error))) from error
                self._warn(f"a kept state (generation {saved.generation}) cannot be read and is passed over: {error}")
        return None

    async def _converted(self, saved: Saved, state: Any) -> Any:
        """Give the state as the class of today wants it."""
        server = self.loop.server
        if hasattr(server, "from_kept"):
            state = server.from_kept(state)
        if saved.vsn != self._vsn:
            state = await _settled(server.code_change(self._codec.decode(saved.vsn), state, None))
            if isinstance(state, Stop):
                raise ExitWith(state.reason)
        return await _settled(server.restored(state))

    def _report_step(self, choice: Choice) -> None:
        limit = self.keep.max_state_crashes
        if choice.step == "previous":
            self._warn(
                f"it died {limit} times in a row with the state it was given, and no callback returned: "
                "it goes back to the state before"
            )
        elif choice.step == "fresh":
            self._warn(
                f"it died {limit} times in a row with the state it was given, and no callback returned: "
                "it starts fresh, without what was kept"
            )
        if choice.step:
            telemetry.emit("state.given_up", server=self._who(), step=choice.step)

    # -- a callback returned --------------------------------------------------------------------------------

    def returned(self, state: Any) -> None:
        """A callback gave `state`: keep it, if that is due, and let go of the replies that waited for it.

        Raises `CodecError` when it cannot be encoded, `DurableStateError`, or OSError where there is no room.
        """
        if self._is_every:
            self.commit(state)
        else:
            self._count(state)
        if not self._settled:
            self._settle()
        if self.held:
            self.release()
        if self._settled and self._is_every:
            # nothing is left to do after a callback but this, until a reply is held
            self.loop.keep_state = self.commit

    def commit(self, state: Any) -> None:
        """Keep `state` unless it is what was kept last; raises as `returned`."""
        if self._durable is not None and self._durable.has_moved():
            self._follow(self._durable)
        if self._unchanged and self._is_known(state):
            return
        data = self._encode(state, "state")
        if data == self._last:
            self._look_at(state)
            return
        generation, parent, at, _second, _third = turns = self._turns
        if self._durable is not None:
            self._durable.write(at, Saved(generation, parent, self._vsn, data))
        self._write(at, generation, parent, self._vsn, data)
        self._turns = turn(turns)
        self._last = data
        if self._unchanged:
            self._unchanged, self._frozen, self._parts = 0, _NOTHING, None

    def _follow(self, store: DurableStore) -> None:
        """The database is gone, or another one is in its place: what is kept is written there, changed or not."""
        how = store.open_again()
        self._warn(f"the database {store.path} was {how} while this server kept its state in it: it is written again")
        self._last, self._frozen, self._parts, self._unchanged = None, _NOTHING, None, 0

    def _is_known(self, state: Any) -> bool:
        """Whether `state` is the one that is kept, without encoding it."""
        return state is self._frozen or (self._parts is not None and is_same(state, self._parts))

    def _look_at(self, state: Any) -> None:
        """A state came again unchanged: find out, once, whether it need not be encoded the next time."""
        self._unchanged += 1
        if self._unchanged == OFTEN:
            if is_frozen(state):
                self._frozen = state
            else:
                self._parts = parts_of(state)

    def commit_now(self, state: Any) -> None:
        """Keep `state` in the middle of a callback, and let go of what it answered until here."""
        try:
            self.commit(state)
        except (CodecError, DurableStateError, OSError) as error:
            raise ExitWith(reason_of(error)) from error
        self._callbacks = 0
        self._committed_at = poller.now()
        self.release()

    def keep_rest(self, state: Any) -> None:
        """The server ends in order, and `state` is its last: keep what a policy has left for later.

        Raises as `returned`.
        """
        if self._callbacks and isinstance(self.keep.commit, Every) and self._file is not None:
            self._commit_counted(state)

    def finish(self, state: Any) -> None:
        """As `keep_rest`, of a server that ends whatever comes: what cannot be kept is a warning."""
        try:
            self.keep_rest(state)
        except (CodecError, DurableStateError, OSError) as error:
            self._warn(f"its last state could not be kept: {error}")

    def _settle(self) -> None:
        """A callback returned: the state is not one that kills, once what it gave is the newest that is kept."""
        assert self._file is not None
        self._file.phase = snapshots.RETURNED
        self._settled = self._is_newest
        self._file.streak = 0 if self._settled else Streak(self._level).to_int()

    # -- not after every callback ---------------------------------------------------------------------------

    def _count(self, state: Any) -> None:
        self._callbacks += 1
        waited = poller.now() - self._committed_at
        if snapshots.is_due(self.keep.commit, self._callbacks, waited):
            self._commit_counted(state)
        elif isinstance(self.keep.commit, Every) and self.keep.commit.seconds is not None and self._timer is None:
            due = self._committed_at + self.keep.commit.seconds
            self._timer = self.loop.context.poller.at(due, self._on_time)

    def _commit_counted(self, state: Any) -> None:
        self.commit(state)
        self._callbacks = 0
        self._committed_at = poller.now()

    def _on_time(self) -> None:
        """What changed since the last commit is old enough; while a callback runs, its end sees to it."""
        self._timer = None
        if self.loop.message is not None or not self._callbacks:
            return
        try:
            self._commit_counted(self.loop.state)
        except (CodecError, DurableStateError, OSError) as error:
            self.loop.context.die(reason_of(error))

    # -- replies --------------------------------------------------------------------------------------------

    def hold(self, caller: int, payload: bytes) -> None:
        """Send an encoded reply when the state of the callback that gave it is kept; at once between callbacks."""
        self.held.append((caller, payload))
        self.loop.keep_state = self.returned
        if self.loop.message is None or not self.keep.holds_replies:
            self.release()

    def release(self) -> None:
        """Send what was held."""
        held, self.held = self.held, []
        context = self.loop.context
        for caller, payload in held:
            peer = context.peer(caller)
            if peer is not None:
                context.post(peer, payload)

    def let_go(self) -> None:
        """The server ends: what is held was promised by a state that nobody will see, and is dropped."""
        self.held.clear()
        self.loop.context.keeper = None

    # -- words ----------------------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        self.loop.context.node.warn(f"{self._who()}: {text}")

    def _who(self) -> str:
        return self.loop.box.name or self.loop.box.label


_NOTHING: Any = object()


def _not_open(*_args: Any) -> Any:
    raise RuntimeBug("a state was to be kept before there was a place for it")


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    msg = "a callback that is not `async def` gave something to be awaited"
    raise TypeError(msg)


def reason_of(error: Exception) -> Any:
    """Give the exit reason of a server whose state cannot be kept."""
    match error:
        case CodecError(path=path):
            return ("bad_state", path)
        case DurableStateError(path=path, reason=reason):
            return ("durable_state", path, reason)
        case _:
            return crash_of(error)


def _vsn_of(server: Any) -> Any:
    """Give the version of the user's class."""
    vsn = getattr(type(getattr(server, "user", server)), "vsn", None)
    return None if callable(vsn) else vsn


def _redacts(server: Any) -> bool:
    from otp_runtime.behaviours.gen_server import GenServer

    return type(server).format_status is not GenServer.format_status


def _as_slots(slots: list[tuple[int, int]]) -> Slots:
    one, two, three = (Slot(*slot) for slot in slots)
    return one, two, three


def _brought_up(file: SnapshotFile, slots: list[tuple[int, int]], rows: dict[int, Saved]) -> list[tuple[int, int]]:
    """Write into the file what only the database has: all at the first start, the last when it died in between."""
    newest = max(slots)[0]
    for at, saved in rows.items():
        if saved.generation > newest:
            file.write(at, *saved)
    return file.slots()
