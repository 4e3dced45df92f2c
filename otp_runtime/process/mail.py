"""A durable mailbox, from the inside: what its server has not handled when it dies, the successor handles.

    FIFO ──splice──► log (outlives the process) ──► frames ──► letters, numbered as they are completed ──► inbox
                      ▲                                                                                     │
                      └── marks: BEGUN n, then the callback, then its reply, then DONE n ◄──────────────────┘

A *letter* is a message that survives: a cast, a call, what `process.send` sent. Its number is the number of letters
completed before it, so a successor that reads the same log counts the same way, skips what is done and goes on behind
it. All else in a mailbox (replies, system messages, exit signals, timers) belongs to the life in which it came.

What lies in the log when a successor opens it came in an earlier life: a call there has nobody who waits for its
answer, as its caller was told of the death, unless it was made with `across_restart=True`, which its serial says.

The log is emptied when all in it is handled, and written anew, shorter, when most of it is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
from typing import TYPE_CHECKING, Any

from otp_runtime import telemetry
from otp_runtime.core import messages as wire
from otp_runtime.core.mailbox import Fate, Hand, fate_of
from otp_runtime.errors import CodecError, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.host import mail_file, pipe, poller
from otp_runtime.host.mail_file import InHand, MailFile, NoRoom
from otp_runtime.process import letters, places
from otp_runtime.process.context import Context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otp_runtime.host.box import Box
    from otp_runtime.process.boot import Boot

SURVIVES = frozenset((wire.SEND_HEAD, wire.CAST_HEAD, wire.CALL_HEAD))
"""How the envelopes of letters begin."""

TIDY_BYTES = 256 * 1024
HOLD_SECONDS = 10.0


class Letter(bytes):
    """An encoded envelope that outlives the process which has it."""

    number: int


class LogUnframer(pipe.Unframer):
    """Reads a log: the same bytes give the same payloads however they are cut.

    Knows no segments: to a durable mailbox nobody sends any.
    """

    __slots__ = ()

    def _rest(self, chunk: bytes, at: int) -> int:
        self.half = chunk[at:]
        return len(chunk)

    def _read_segment(self, data: bytes) -> bytes:
        return b""

    def _drop_abandoned(self, sender: int, before: int) -> None:
        """There are none."""


class MailUnframer(LogUnframer):
    """Gives letters their numbers."""

    __slots__ = ("mail",)

    def __init__(self, mail: Mail, segments: str, owner: int) -> None:
        """Number the letters of `mail`."""
        super().__init__(segments, owner)
        self.mail = mail

    def feed(self, chunk: bytes) -> list[bytes]:
        """As `Unframer.feed`; letters have their numbers."""
        found = super().feed(chunk)
        while self.half and self.mail.is_all():
            # a frame is written at once: what is cut and has nothing behind it was none
            self.mail.strike(len(self.half))
            half, self.half = b"\0" + self.half[1:], b""
            found += super().feed(half)
        for index, payload in enumerate(found):
            if payload[:2] in SURVIVES:
                found[index] = self.mail.numbered(payload)
        return found


class MailSpinner(poller.Spinner):
    """Spins as any other, and reads through the log."""

    __slots__ = ("mail",)

    def __init__(self, mail: Mail) -> None:
        """Read what is in `mail`."""
        super().__init__()
        self.mail = mail

    def read(self, fd: int, size: int, _read: Any = None) -> bytes | None:
        """As `Spinner.read`."""
        return super().read(fd, size, self.mail.take)


class LastingContext(Context):
    """A process whose mailbox outlives it."""

    mail: Mail

    def read_mailbox(self) -> bool:
        """As `Context.read_mailbox`, through the log."""
        try:
            chunk = self.mail.take(self.fd, pipe.READ_SIZE)
        except BlockingIOError:
            return False
        self.feed(chunk)
        return True

    def sleep_and_read(self, timeout: float | None) -> bytes | None:
        """Nothing is read past the log."""
        return None

    def feed_to_loop(self, chunk: bytes) -> tuple[bytes, wire.Envelope] | None:
        """Nothing goes past the count of letters."""
        self.feed(chunk)
        return None

    def next_message(self) -> tuple[bytes, wire.Envelope] | None:
        """As `Context.next_message`; handled it is when its callback returned."""
        if not self.inbox:
            return None
        entry = self.inbox.popleft()
        super().took(entry[0])
        return entry

    def took(self, payload: bytes) -> None:
        """A callback received a message itself, out of turn perhaps: that is handled."""
        super().took(payload)
        if type(payload) is Letter:
            self.mail.take_out(payload)

    def put_first(self, payload: bytes, envelope: wire.Envelope) -> None:
        """Put a message in front of all others."""
        self.inbox.appendleft((payload, envelope))
        self.queued += len(payload)

    def write_self(self, frame: bytes) -> bool:
        """Write a frame into the own mailbox; False when there is no room."""
        try:
            os.write(self._own_end, frame)
        except BlockingIOError:
            return False
        return True

    def send_to_self(self, payload: bytes) -> None:
        """Through the mailbox, as any other message: it survives. What finds no room makes some, by reading."""
        frames = [pipe.whole(payload)] if len(payload) <= pipe.PAYLOAD_MAX else None
        for frame in frames or pipe.parts(payload, self.id, self.next_serial()):
            while not self.write_self(frame):
                if not self.read_mailbox():
                    self.pump(None)


class Mail:
    """The letters of one server."""

    def __init__(self, context: LastingContext, file: MailFile) -> None:
        """Use `open`, or `inherit`."""
        self.context = context
        self.file = file
        self.name = ""
        """The name that the server is about to take: messages are read before it has it."""
        self.done = file.marks[mail_file.DONE]
        self.next = 0
        self.in_hand: tuple[Letter, wire.Envelope] | None = None
        self.begun: Letter | None = None
        self.set_aside: Iterable[tuple[bytes, wire.Envelope]] = ()
        """What the loop has taken out of the inbox for later."""
        self._tried = -1
        self._taken_below = 0
        self._tidy_at = mail_file.HEADER + TIDY_BYTES
        self._poll = select.poll()
        self._poll.register(context.fd, select.POLLIN)

    @classmethod
    def attach(cls, context: Context) -> Mail:
        """Make the mailbox of `context`, which has read nothing yet, a durable one; raises OSError."""
        file = MailFile.open(places.mail_of(context.place))
        context.__class__ = LastingContext
        assert isinstance(context, LastingContext)
        mail = context.mail = cls(context, file)
        context.unframer = MailUnframer(mail, context.unframer.segments, context.id)
        context.spinner = MailSpinner(mail)
        return mail

    # -- birth ----------------------------------------------------------------------------------------------

    def be_held(self, boot: Boot) -> None:
        """Have the OS parent hold the mailbox open from now on, so that it is there when this process is not.

        Raises `TimeoutError` when it does not.
        """
        box = self.context.box
        if box.flag(boxes.MAILBOX) == boxes.IS_HELD:
            return
        boot.send(["mailbox"])
        until = poller.now() + HOLD_SECONDS
        while box.flag(boxes.MAILBOX) != boxes.IS_HELD:
            if poller.now() > until:
                msg = "the supervisor did not take hold of the mailbox"
                raise TimeoutError(msg)
            self.context.pump(0.001)

    def recover(self) -> None:
        """Put what earlier lives left into the inbox, but the letter that was in hand: see `settle`."""
        file, context = self.file, self.context
        marks = file.marks
        if file.end == mail_file.HEADER:
            file.reset()
            self.done = 0
            return
        begun, poison, taken = marks[mail_file.BEGUN] - 1, marks[mail_file.READING] - 1, file.taken()
        found = [payload for payload in context.unframer.feed(file.read_all()) if type(payload) is Letter]
        context.unframer.garbage = 0
        self._taken_below = max(taken, default=-1) + 1
        for letter in found:
            if letter.number < self.done or letter.number in taken:
                continue
            if letter.number == poison:
                self._bury(letter, is_reading=True)
                continue
            marks[mail_file.READING] = letter.number + 1
            envelope = self._read(letter)
            marks[mail_file.READING] = 0
            if envelope is None:
                continue
            if letter.number == begun:
                self.in_hand = (letter, envelope)
            elif envelope[0] != wire.CALL or envelope[2] & wire.ACROSS:
                context.put(letter, envelope)
        self._forget_senders()
        if context.inbox:
            context.tell_queued()
        if self.in_hand is None and not context.inbox:
            self.done = marks[mail_file.DONE] = self.next
        telemetry.emit("mailbox.recovered", server=self._who(), count=len(context.inbox))

    def _read(self, letter: Letter) -> wire.Envelope | None:
        try:
            envelope: wire.Envelope = self.context.codec.decode(letter)
        except CodecError as error:
            self.context.node.warn(f"{self._who()}: a message that waited cannot be read any more: {error}")
            return None
        return envelope if wire.is_envelope(envelope) else None

    def _forget_senders(self) -> None:
        """Who died has sent all it will."""
        unframer = self.context.unframer
        for sender, *_half in unframer.unfinished()[1]:
            if self.context.peer(sender) is None:
                unframer.forget(sender)

    def settle(self, committed: int, redeliver: int) -> None:
        """Decide about the letter that was in hand, before the first message. `committed`: the newest kept state."""
        if self.in_hand is None:
            return
        (letter, envelope), self.in_hand = self.in_hand, None
        marks = self.file.marks
        name = letter.number + 1
        tries = marks[mail_file.TRIES] if marks[mail_file.TRIED] == name else 0
        is_call = envelope[0] == wire.CALL
        is_awaited = is_call and bool(envelope[2] & wire.ACROSS)
        is_committed = marks[mail_file.COMMITS] == name and committed >= marks[mail_file.COMMIT]
        match fate_of(Hand(tries, is_committed, is_call, is_awaited), redeliver):
            case Fate.AGAIN:
                if not tries:
                    marks[mail_file.TRIES] = 0
                    marks[mail_file.TRIED] = name
                self._tried = letter.number
                marks[mail_file.BEGUN] = 0
                self.context.put_first(letter, envelope)
                telemetry.emit("letter.redelivered", server=self._who(), tries=tries + 1)
            case Fate.DEAD:
                death = self._bury(letter)
                if is_awaited:
                    self._tell(envelope, death["reason"])
            case Fate.HANDLED:
                last = letters.deaths_of(self.context.place, *self._key(letter.number))[-1]
                self._mark_done(letter.number)
                letters.forget_deaths(self.context.place)
                if is_awaited:
                    self._tell(envelope, last["reason"])

    def _tell(self, envelope: wire.Envelope, reason: Any) -> None:
        """Tell a caller that waits on that it waits in vain."""
        _kind, caller, serial, request = envelope
        peer = self.context.peer(caller)
        if peer is not None:
            error = ServerDown(reason, self.context.box.name or self.context.pid, request)
            payload = self.context.codec.encode([wire.REPLY, serial, wire.RAISE, error])
            self.context.post(peer, payload)

    def _bury(self, letter: Letter, *, is_reading: bool = False) -> dict[str, Any]:
        """Make a letter a dead one; gives the last death."""
        context = self.context
        which = InHand(*self._key(letter.number), is_reading=is_reading)
        deaths = letters.deaths_of(context.place, *self._key(letter.number))
        letters.keep(context, context.box, context.place, letter, which, deaths, name=self.name)
        self.file.marks[mail_file.READING] = 0
        if is_reading:
            self.take_out(letter)
        else:
            self._mark_done(letter.number)
        letters.forget_deaths(context.place)
        return deaths[-1]

    def _key(self, number: int) -> tuple[int, int]:
        return self.file.marks[mail_file.EPOCH], number

    # -- reading --------------------------------------------------------------------------------------------

    def take(self, fifo: int, size: int) -> bytes:
        """Read the mailbox; raises BlockingIOError when there is nothing. Without room the server ends, or waits."""
        if self.file.end > self._tidy_at:
            self._tidy()
        try:
            return self.file.take(fifo, size)
        except NoRoom as error:
            # while there is something to handle: that makes room, and until then senders wait
            if self.done == self.next:
                self.context.die(("durable_mailbox", self.file.path, str(error.strerror)))
            raise BlockingIOError from error

    def is_all(self) -> bool:
        """Say whether nothing more is in the mailbox now."""
        return not self._poll.poll(0)

    def strike(self, back: int) -> None:
        """What begins so many bytes before the end is no frame."""
        self.file.strike(self.file.end - back)

    def numbered(self, payload: bytes) -> Letter:
        """Make a letter of what has just been completed."""
        letter = self.as_letter(payload, self.next)
        self.next += 1
        return letter

    @staticmethod
    def as_letter(payload: bytes, number: int) -> Letter:
        """Make a letter with a number."""
        letter = Letter(payload)
        letter.number = number
        return letter

    def take_rest(self) -> None:
        """The server ends: what is still in the mailbox goes to the log, should nobody hold that open."""
        with contextlib.suppress(OSError):
            for _ in range(mail_file.DRAIN_STEPS):
                self.file.take(self.context.fd, pipe.READ_SIZE)

    # -- handling -------------------------------------------------------------------------------------------

    def begin(self, letter: Letter) -> None:
        """The callback of a letter is about to run."""
        marks = self.file.marks
        if letter.number == self._tried:
            marks[mail_file.TRIES] += 1
        self.begun = letter
        marks[mail_file.BEGUN] = letter.number + 1

    def intend(self, generation: int) -> None:
        """The state that the callback gave is about to be kept; when it is, the letter in hand counts as handled."""
        if self.begun is not None:
            marks = self.file.marks
            marks[mail_file.COMMIT] = generation
            marks[mail_file.COMMITS] = self.begun.number + 1

    def finish(self) -> None:
        """The letter in hand is handled, and answered."""
        letter, self.begun = self.begun, None
        if letter is not None:
            self._mark_done(letter.number)
            if letter.number == self._tried:
                self._tried = -1
                letters.forget_deaths(self.context.place)

    def drop_hand(self) -> None:
        """What runs now is no letter."""
        self.begun = None

    def take_out(self, letter: Letter) -> None:
        """A letter was received out of turn, by a callback."""
        if self.begun is None and letter.number == self.done:
            self._mark_done(letter.number)
        elif self.file.note_taken(letter.number):
            self._taken_below = max(self._taken_below, letter.number + 1)
        else:
            self._rewrite()

    def _mark_done(self, number: int) -> None:
        self.done = self.file.marks[mail_file.DONE] = number + 1
        if self._taken_below and self.done >= self._taken_below:
            self.file.marks[mail_file.TAKEN] = self._taken_below = 0

    # -- tidying --------------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Let go of what is handled, when that is most of the log."""
        if self.in_hand is not None or self._tried >= 0:
            return
        if self.done == self.next and self.context.unframer.unfinished() == (b"", []):
            self.file.clear()
            self.done = self.next = 0
            self._tidy_at = mail_file.HEADER + TIDY_BYTES
        else:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write what is left into a new log, counted from 0; without room all stays as it was."""
        if self.in_hand is not None:
            return
        left = list(self._left())
        frames = [frame for number, letter in enumerate(left) for frame in _frames(letter, number)]
        unframer = self.context.unframer
        half, partial = unframer.unfinished()
        for sender, number, count, parts in partial:
            frames += [pipe.part(data, sender, number, index, count) for index, data in enumerate(parts)]
        frames.append(half)
        try:
            self.file.replace(frames, begun=self.begun is not None)
        except OSError:
            self._tidy_at = self.file.end * 2
            return
        for number, letter in enumerate(left):
            letter.number = number
        self.done, self.next, self._taken_below = 0, len(left), 0
        self._tidy_at = self.file.end * 2 + TIDY_BYTES

    def _left(self) -> Iterable[Letter]:
        """Give all letters that are not handled, oldest first."""
        if self.begun is not None:
            yield self.begun
        for payload, _envelope in itertools.chain(self.set_aside, self.context.inbox):
            if type(payload) is Letter:
                yield payload

    # -- handover -------------------------------------------------------------------------------------------

    def describe(self) -> list[int]:
        """Give what a successor under the same pid must know, who takes over inbox and log."""
        return [self.next, self._tried]

    def inherit(self, described: list[int]) -> None:
        """Go on where a predecessor stopped: a letter that is tried again is counted by whoever handles it."""
        self.next, self._tried = described
        self._taken_below = max(self.file.taken(), default=-1) + 1

    def _who(self) -> str:
        return self.context.box.name or self.name or self.context.box.label


def _frames(letter: Letter, number: int) -> list[bytes]:
    """Cut a letter into frames again; of no sender, as all of it is there."""
    return [pipe.whole(letter)] if len(letter) <= pipe.PAYLOAD_MAX else pipe.parts(letter, 0, number)


def bury_orphan(context: Context, box: Box, place: places.Place) -> None:
    """Make what a dead server had in hand a dead letter, as an OS parent, where no successor will: unread."""
    path = places.mail_of(place)
    which = mail_file.in_hand(path)
    if which is None:
        return
    log = mail_file.read(path)[mail_file.HEADER :]
    found = [payload for payload in LogUnframer("").feed(log) if payload[:2] in SURVIVES]
    if which.number < len(found):
        deaths = letters.deaths_of(place, which.epoch, which.number)
        letters.keep(context, box, place, found[which.number], which, deaths)
