"""What it is to be a process here: one mailbox, one loop that waits, the peers it knows, what it owes them.

    who writes to me ──► mailbox FIFO ──► Unframer ──► envelope ──► inbox (deque)      replies go to their slot
                         control lane ──► exit signals, links                          timers, deaths: made here

A server has one context, its main thread's. A program has one per thread. Everything that waits (a call, a
receive, the loop of a server) waits in `pump`, so whatever this process does, it drains its mailbox, sees
deaths and flushes its outboxes meanwhile.

How a death is concluded: the pidfd fires; what the dead had sent is read; the reaper's verdict is waited for
(at most `VERDICT_SECONDS`); only then are callers failed, links broken and monitors told, in this order.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from otp_runtime.core import messages as wire
from otp_runtime.core.signals import Deliver, Die, on_exit_signal
from otp_runtime.core.ticks import CATCH_UP_TICKS, ticks_due
from otp_runtime.errors import CodecError, OtpError
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe, poller
from otp_runtime.host.fates import DEAD
from otp_runtime.process import links, route
from otp_runtime.process.peers import VERDICT_SECONDS, Peer, await_verdict, frames_for
from otp_runtime.process.sending import DYING_POLL_SECONDS, Sending
from otp_runtime.terms.events import Down, Exit
from otp_runtime.terms.pid import Ref
from otp_runtime.terms.reason import Exited, Signalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.host.box import Box
    from otp_runtime.process.handle import NodeHandle


NEWS = frozenset((wire.FOREIGN, wire.TIDINGS))
"""What the gateway of a node in a cluster sends."""

LONE = frozenset((wire.CALL_HEAD, wire.CAST_HEAD))
"""What goes straight to the loop of a server that has nothing else to do."""

LETTERS = LONE | {wire.SEND_HEAD}
"""How the messages begin that go into the inbox and nowhere else. What begins so is an envelope of its kind."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
"""Nobody asks when a mailbox was read last, and each reading would write it down."""
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC

MAILBOX_BYTES = 64 * 1024 * 1024
"""What a process may have read from its mailbox and not handled, before senders find it full."""


class ExitSignal(SystemExit):
    """Unwinds a process that was sent an exit signal. Private: a program never raises or catches it.

    A SystemExit, because asyncio swallows any other BaseException.
    """

    def __init__(self, reason: Any) -> None:
        """Carry the exit reason."""
        super().__init__(1)
        self.reason = reason


QUEUED_UNTOLD = 4096


class Slot:
    """Where the reply to one request will lie."""

    __slots__ = ("done", "failure", "how", "on_done", "peer", "value")

    def __init__(self, peer: Peer | None, on_done: Callable[[], None] | None = None) -> None:
        """`on_done` is called once when the reply or the failure is there."""
        self.peer = peer
        self.done = False
        self.how = wire.VALUE
        self.value: Any = None
        self.failure: Any = None
        self.on_done = on_done

    def deliver(self, how: int, value: Any) -> None:
        """Take the reply; the first one counts."""
        if self.done:
            return
        self.how = how
        self.value = value
        self._finish()

    def fail(self, reason: Any) -> None:
        """The peer died of `reason` without having replied."""
        if self.done:
            return
        self.failure = (reason,)
        self._finish()

    def _finish(self) -> None:
        self.done = True
        if self.on_done is not None:
            self.on_done()


class Context(Sending):
    """One process of this OS process."""

    def __init__(self, node: NodeHandle, process_id: int, box: Box, *, is_program: bool, parent: int = 0) -> None:
        """Open the mailbox and the lane of `process_id`, which were made before, and live in `box`.

        A box that is lived in already is a predecessor's, whose flags stay.
        """
        super().__init__(node, process_id, box)
        self.parent = parent
        self.is_program = is_program
        box.mailbox_limit = MAILBOX_BYTES
        if not box.flag(boxes.READY):
            box.set_flag(boxes.TRAP_EXIT, int(is_program))
        self.trap_exit = bool(box.flag(boxes.TRAP_EXIT))
        self.inbox: deque[tuple[bytes, wire.Envelope]] = deque()
        self.pending: dict[int, Slot] = {}
        self.timers: dict[tuple[int, int], poller.TimerHandle] = {}
        self.tables: dict[Any, Any] = {}
        """The shared tables that this process reads, by what it names them: see `registry.table`."""
        self.doomed: tuple[Any] | None = None
        self.on_doom: Callable[[int, Any], None] | None = None
        self.on_arrival: Callable[[], None] | None = None
        self.place: tuple[str, ...] = ()
        self.keeper: Any = None
        self.mail: Any = None
        self.served_by: type | None = None
        """The class whose callbacks this process runs, None in a program and in a supervisor."""
        self.interrupts = False
        self.spinner = poller.Spinner()
        self._reading_lane = False
        self._late_links: dict[int, None] = {}
        self.queued = 0
        self._told = 0
        mailbox, lane = self.directory.mailbox(process_id), self.directory.lane(process_id)
        self.fd = os.open(mailbox, _READ)
        # a write end of one's own, else the poller sees a hang-up whenever no sender has the mailbox open
        self._own_end = os.open(mailbox, _WRITE)
        self.lane_fd = os.open(lane, _READ)
        self._own_lane_end = os.open(lane, _WRITE)
        self.unframer = pipe.Unframer(self.directory.segments, process_id)
        self._lane_unframer = pipe.Unframer(self.directory.segments)
        self.poller.watch(self.fd, poller.READABLE, self._on_mailbox)
        self.poller.watch(self.lane_fd, poller.READABLE, self._on_lane)

    # -- identity -------------------------------------------------------------------------------------------

    def make_ref(self) -> Ref:
        """Make a reference, unique in the cluster."""
        return Ref(self.node.name, self.node.incarnation, self.id, self.next_serial())

    def set_trap_exit(self, flag: bool) -> bool:
        """Trap exit signals or not; give the old value."""
        old, self.trap_exit = self.trap_exit, flag
        self.box.set_flag(boxes.TRAP_EXIT, int(flag))
        return old

    def is_asked(self, peer: Peer) -> bool:
        """Say whether a reply of `peer` is awaited."""
        return any(slot.peer is peer for slot in self.pending.values())

    # -- receiving ------------------------------------------------------------------------------------------

    def pump(self, timeout: float | None) -> None:
        """Sleep until something happened, at most `timeout` seconds, and take in whatever it was."""
        if self.dying:
            timeout = DYING_POLL_SECONDS if timeout is None else min(timeout, DYING_POLL_SECONDS)
        self.poller.wait(timeout)
        if self.dying:
            self.conclude_dying()
        if self.on_arrival is not None and (self.inbox or self.doomed is not None):
            self.on_arrival()
        if self.doomed is not None and self.interrupts:
            raise ExitSignal(self.doomed[0])

    def read_mailbox(self) -> bool:
        """Take in what is in the mailbox now, one read of it; say whether there was anything."""
        try:
            chunk = os.read(self.fd, pipe.READ_SIZE)
        except BlockingIOError:
            return False
        self.feed(chunk)
        return True

    def sleeps_at_once(self) -> bool:
        """Say whether this wait is none to spin in: others have work to do for it, and need a core more than an ear.

        They read what fills a mailbox until there is room for what is owed here, or write the rest of a term.
        """
        if self.unframer.amid:
            self.unframer.amid = False
            return True
        return bool(self.owed)

    def sleep_and_read(self, timeout: float | None) -> bytes | None:
        """Sleep until something happens; give what came if it is only that something came, and `feed` it.

        None: `pump`, which sees what it was, or that nothing was.
        """
        if self.dying or not self.poller.sleep_on(self.fd, timeout) or self.doomed is not None:
            return None
        try:
            return os.read(self.fd, pipe.READ_SIZE)
        except BlockingIOError:
            return None

    def _on_mailbox(self, _events: int) -> None:
        self.read_mailbox()

    def feed_to_loop(self, chunk: bytes) -> tuple[bytes, wire.Envelope] | None:
        """As `feed`, but give the common chunk, one small message for an empty inbox, straight to who asks."""
        if chunk[4:6] in LONE and not (self.inbox or self.unframer.half):
            payload = pipe.only(chunk)
            try:
                if payload is not None:
                    return payload, self.codec.decode(payload)
            except CodecError:
                """It is counted as garbage, below."""
        self.feed(chunk)
        return None

    def feed(self, chunk: bytes) -> None:
        """Take in what was read from the mailbox."""
        unframer = self.unframer
        decode, put = self.codec.decode, self.inbox.append
        for payload in unframer.feed(chunk):
            if payload[:2] not in LETTERS:
                self._take(payload)
                continue
            # what nearly all are, without a call of its own
            try:
                put((payload, decode(payload)))
            except CodecError:
                unframer.garbage += 1
            else:
                self.queued += len(payload)
        if unframer.garbage:
            self._count_garbage(unframer)
        # a lone small message is in hand at once: what looks from outside need not hear of it
        if self.queued > QUEUED_UNTOLD or len(self.inbox) > 1:
            self.box.queued_bytes = self._told = self.queued

    def _take(self, payload: bytes) -> None:
        try:
            envelope = self.codec.decode(payload)
        except CodecError:
            self.unframer.garbage += 1
            return
        if not wire.is_envelope(envelope):
            self.unframer.garbage += 1
            return
        kind = envelope[0]
        if kind <= wire.CALL:
            self.put(payload, envelope)
        elif kind == wire.REPLY:
            slot = self.pending.get(envelope[1])
            if slot is not None:
                slot.deliver(envelope[2], envelope[3])
        elif kind == wire.EXIT:
            self.arrive_exit(envelope[1], envelope[2], by_link=False)
        elif kind == wire.TIMER:
            self._arm(envelope)
        elif kind == wire.CANCEL:
            timer = self.timers.pop((envelope[1], envelope[2]), None)
            if timer is not None:
                timer.cancel()
        elif kind == wire.SYSTEM and self.box.flag(boxes.READY) == boxes.PLAIN:
            self.refuse_system(envelope)
        elif kind in NEWS:
            route.arrived(self, envelope)
        else:
            self.put(payload, envelope)

    def refuse_system(self, envelope: wire.Envelope) -> None:
        """A plain process answers no system messages: say so, and let nobody wait."""
        peer = self.peer(envelope[1])
        if peer is not None:
            error = OtpError(f"{self.pid!r} is a plain process and answers no system messages; only behaviours do")
            self.post(peer, self.codec.encode([wire.REPLY, envelope[2], wire.RAISE, error]))

    def put(self, payload: bytes, envelope: wire.Envelope) -> None:
        """Put a message into the inbox, and count its bytes."""
        self.inbox.append((payload, envelope))
        self.queued += len(payload)

    def _count_garbage(self, unframer: pipe.Unframer) -> None:
        count, unframer.garbage = unframer.garbage, 0
        for _ in range(count):
            self.box.count_garbage()
        self.node.warn(f"{count} piece(s) in the mailbox of {self.box.name or self.pid} were no messages; skipped")

    def next_message(self) -> tuple[bytes, wire.Envelope] | None:
        """Take the oldest message out of the inbox, without waiting."""
        if not self.inbox:
            return None
        entry = self.inbox.popleft()
        self.took(entry[0])
        return entry

    def took(self, payload: bytes) -> None:
        """Count bytes that left the inbox."""
        self.queued -= len(payload)
        if self._told and not self.inbox:
            self.box.queued_bytes = self._told = 0

    def tell_queued(self) -> None:
        """Let the box say how many bytes wait here."""
        self.box.queued_bytes = self._told = self.queued

    def enqueue(self, message: Any) -> None:
        """Put a message that the runtime itself made (Down, Exit, a timer's) into the inbox."""
        self.inbox.append((b"", [wire.SEND, message]))

    # -- timers ---------------------------------------------------------------------------------------------

    def _arm(self, envelope: wire.Envelope) -> None:
        _kind, sender, serial, (due, interval), payload = envelope
        self.arm((sender, serial), due, partial(self.put_copy, payload), interval)

    def put_copy(self, payload: bytes) -> None:
        """Put what an encoded envelope says into the own inbox."""
        self.put(payload, self.codec.decode(payload))

    def send_to_self(self, payload: bytes) -> None:
        """Take in what this process sends to itself."""
        self.put_copy(payload)

    def arm_timer(self, sender: int, serial: int, due: float, message: Any) -> None:
        """Put `message` into the own inbox at the monotonic time `due`."""
        self.arm((sender, serial), due, partial(self.enqueue, message))

    def arm(
        self, key: tuple[int, int], due: float, action: Callable[[], None], interval: float = 0.0, fired: int = 0
    ) -> None:
        """Do `action` at the monotonic time `due`, and with an interval again and again, until it is cancelled.

        With an interval, `due` is that of the first time; `fired` says how often it has been done.
        """
        expire = partial(self._expire, key, due, action, interval, fired)
        self.timers[key] = self.poller.at(due + fired * interval, expire)

    def _expire(
        self, key: tuple[int, int], due: float, action: Callable[[], None], interval: float, fired: int
    ) -> None:
        # a cancellation that already lies in the pipe was sent before the time: it wins
        self.drain()
        if self.timers.pop(key, None) is None:
            return
        ticks = 1
        if interval:
            ticks, _next_due = ticks_due(due, interval, fired, poller.now())
            self.arm(key, due, action, interval, fired + ticks)
        for _ in range(min(ticks, CATCH_UP_TICKS)):
            action()

    def armed_timers(self) -> list[list[Any]]:
        """Give, as data, the timers that put a message into the inbox: key, times, and what they put there."""
        found = []
        for key, timer in self.timers.items():
            _key, due, action, interval, fired = getattr(timer.action, "args", (None,) * 5)
            if isinstance(action, partial):
                # to a name: who acts is the first argument
                what = "copy" if action.func == self.put_copy else "put" if action.func == self.enqueue else "name"
                found.append([*key, due, interval, fired, what, list(action.args[what == "name" :])])
        return found

    def arm_again(self, armed: list[Any]) -> None:
        """Arm a timer that `armed_timers` gave."""
        sender, serial, due, interval, fired, what, args = armed
        if what == "name":
            from otp_runtime.process.timers import send_to_name

            action = partial(send_to_name, self, *args)
        else:
            action = partial(self.put_copy if what == "copy" else self.enqueue, *args)
        self.arm((sender, serial), due, action, interval, fired)

    def drain(self) -> None:
        """Take in all that is in the mailbox now."""
        while self.read_mailbox():
            pass

    # -- the control lane -----------------------------------------------------------------------------------

    def _on_lane(self, _events: int) -> None:
        self.read_lane()

    def read_lane(self) -> None:
        """Act on what is in the control lane. Called by the poller, and by the signal that the lane raises.

        The signal may come in the middle of this very function: the inner call then leaves all to the outer one.
        """
        if self._reading_lane:
            return
        self._reading_lane = True
        try:
            while True:
                for payload in self._lane_unframer.feed(os.read(self.lane_fd, pipe.READ_SIZE)):
                    self._take_control(payload)
        except BlockingIOError:
            pass
        finally:
            self._reading_lane = False
        late, self._late_links = self._late_links, {}
        for other in late:
            self.arrive_exit(other, self.epitaph(other), by_link=True)

    def has_read_lane(self) -> bool:
        """Say whether all that came over the control lane was acted on."""
        poll = select.poll()
        poll.register(self.lane_fd, select.POLLIN)
        return not self._reading_lane and not poll.poll(0)

    def write_own_lane(self, envelope: wire.Envelope) -> None:
        """Send oneself a control message: from a signal handler, whose context may be about to sleep."""
        with suppress(OSError):
            os.write(self._own_lane_end, pipe.whole(self.codec.encode(envelope)))

    def _take_control(self, payload: bytes) -> None:
        try:
            envelope = self.codec.decode(payload)
        except CodecError:
            return
        if wire.is_envelope(envelope):
            self._on_control(envelope)

    def _on_control(self, envelope: wire.Envelope) -> None:
        match envelope:
            case [wire.EXIT, sender, reason]:
                self.arrive_exit(sender, reason, by_link=False)
            case [wire.LINK, other]:
                if (peer := self.peer(other)) is not None:
                    links.hold(self, peer)
                else:
                    # dead by now; but it may have unlinked before, which lies further back in the lane
                    self._late_links[other] = None
            case [wire.UNLINK, other]:
                self._late_links.pop(other, None)
                if (peer := self.peers.get(other)) is not None:
                    peer.linked = False
            case [wire.DOOM, victim, reason]:
                if self.on_doom is not None:
                    self.on_doom(victim, reason)
            case [wire.SYSTEM, _caller, _serial, _request]:
                if self.box.flag(boxes.READY) == boxes.PLAIN:
                    self.refuse_system(envelope)
                else:
                    self.put_in_front(envelope)
            case [wire.FOREIGN, *_]:
                route.arrived(self, envelope, over_lane=True)
            case _:
                pass

    def put_in_front(self, envelope: wire.Envelope) -> None:
        """Put a system message before all that waits, but behind those that came over the lane before it."""
        at = 0
        while at < len(self.inbox) and self.inbox[at][0] == b"" and self.inbox[at][1][0] == wire.SYSTEM:
            at += 1
        self.inbox.insert(at, (b"", envelope))

    # -- exit signals ---------------------------------------------------------------------------------------

    def arrive_exit(self, sender: Any, reason: Any, *, by_link: bool) -> None:
        """Let an exit signal of `sender`, an id or a pid elsewhere, act on this process (core.signals decides)."""
        decision = on_exit_signal(
            self.trap_exit, reason, from_self=sender == self.id, kind="link" if by_link else "exit"
        )
        match decision:
            case Die(reason=why):
                self.die(why)
            case Deliver():
                if not (self.is_program and by_link and reason == "normal"):
                    self.enqueue(Exit(self.pid_of(sender), reason))
            case _:
                pass

    def die(self, reason: Any) -> None:
        """Note that this process must end for `reason`; `pump` and the lane's signal handler act on it."""
        if self.is_program:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.doomed is None:
            self.doomed = (reason,)
            self.box.set_flag(boxes.SIGNALLED)

    def signal_exit(self, peer: Peer, reason: Any, sender: int = 0) -> None:
        """Send an exit signal, in the name of `sender` if given. Never blocks: what finds no room waits in the outbox.

        A trapped one keeps mailbox order. An untrapped one goes over the control lane, where it interrupts, and
        the victim's OS parent is told, so that it cannot be swallowed.
        """
        if peer.relay is not None:
            self.post(peer, self.codec.encode([wire.EXIT, sender or self.node.program or self.id, reason], "reason"))
            return
        if reason == "kill":
            peer.box.set_flag(boxes.KILL_REQUESTED)
            peer.send_signal(signal.SIGKILL)
            return
        payload = self.codec.encode([wire.EXIT, sender or self.node.program or self.id, reason], "reason")
        if peer.box.flag(boxes.TRAP_EXIT):
            self.post(peer, payload)
            return
        if reason == "normal":
            return
        peer.box.set_flag(boxes.SIGNALLED)
        for frame in frames_for(self, payload, self.id, peer.id, self.next_serial()):
            peer.write_lane(self.directory, frame)
        self.tell_parent_of(peer.box, peer.id, reason)

    def tell_parent_of(self, box: Box, victim: int, reason: Any) -> None:
        """Tell the OS parent of a process what exit signal it was sent: one that swallows it is killed."""
        reaper = box.identity.reaper
        if reaper != self.id and (parent := self.peer(reaper)) is not None:
            doom = self.codec.encode([wire.DOOM, victim, reason])
            if len(doom) > pipe.PAYLOAD_MAX:
                doom = self.codec.encode([wire.DOOM, victim, repr(reason)[:1000]])
            parent.write_lane(self.directory, pipe.whole(doom))

    def link_back(self, other: int) -> None:
        """Hold this process's end of a link that another one made."""
        peer = self.peer(other)
        if peer is None:
            self.arrive_exit(other, self.epitaph(other), by_link=True)
        else:
            links.hold(self, peer)

    def epitaph(self, process_id: Any) -> Any:
        """Give the reason of a process that died before it could be watched; "noproc" when nothing is known."""
        if type(process_id) is not int:
            return route.why_not(self, process_id)
        box = boxes.Box.open(self.directory.box(process_id))
        if box is None:
            return "noproc"
        if box.identity.reaper != self.id:
            await_verdict(box)
        try:
            reason = self._judged_reason(box, process_id)
        finally:
            box.close()
        return "noproc" if reason is None else reason[0]

    # -- deaths ---------------------------------------------------------------------------------------------

    def conclude_dying(self) -> None:
        """Conclude the deaths whose verdict is there, or has been waited for long enough."""
        for peer in list(self.dying.values()):
            reason = self._judged_reason(peer.box, peer.id)
            if reason is None and poller.now() - peer.noticed_at >= VERDICT_SECONDS:
                reason = (self._reason_without_reaper(peer),)
                self.directory.seal_fate(peer.id, DEAD)
            if reason is not None:
                # all that was sent before the death: exit signals and unlinks too
                self.drain()
                if not self.has_read_lane():
                    # a read of nothing, too, knocks at whoever is linked to this process: see `links`
                    self.read_lane()
                self.conclude(peer, reason[0])

    def fate_of(self, peer: Peer) -> Any:
        """Give the reason of a peer that has ended, waiting for its verdict; nobody here is told."""
        await_verdict(peer.box)
        judged = self._judged_reason(peer.box, peer.id)
        return self._reason_without_reaper(peer) if judged is None else judged[0]

    def _judged_reason(self, box: Box, process_id: int) -> tuple[Any] | None:
        verdict = box.verdict(f"{self.directory.box(process_id)}.verdict")
        if verdict is None:
            return None
        if not verdict:
            return (self._spoken_reason(box, process_id),)
        try:
            return (self.codec.decode(verdict),)
        except CodecError:
            return ("killed",)

    def _spoken_reason(self, box: Box, process_id: int) -> Any:
        words = box.last_words(self.directory.words(process_id))
        try:
            return self.codec.decode(words)["reason"] if words else "noproc"
        except (CodecError, KeyError, TypeError):
            return "noproc"

    def _reason_without_reaper(self, peer: Peer) -> Any:
        if peer.box.flag(boxes.SPOKEN):
            return self._spoken_reason(peer.box, peer.id)
        status = kernel.zombie_status(peer.box.identity.os_process.pid)
        if status is None:
            return "killed" if peer.box.flag(boxes.KILL_REQUESTED) else "noproc"
        return reason_of_status(status, killed=bool(peer.box.flag(boxes.KILL_REQUESTED)))

    def conclude(self, peer: Peer, reason: Any) -> None:
        """Tell everybody here who wanted to know that `peer` died of `reason`."""
        self.unframer.forget(peer.id)
        linked, monitors, waiters = peer.linked, dict(peer.monitors), list(peer.waiters)
        self.drop_peer(peer)
        for slot in list(self.pending.values()):
            if slot.peer is peer and not slot.done:
                slot.fail(reason)
        if linked:
            self.arrive_exit(peer.id, reason, by_link=True)
        for ref in monitors:
            self.enqueue(Down(ref, peer.pid, reason))
        for waiter in waiters:
            waiter(reason)

    # -- the end --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close everything this process has open; it is over.

        The poller first: in a fork it is still its parent's, and forgetting a descriptor would take it from both.
        """
        self.poller.close()
        self.tables.clear()
        for peer in list(self.peers.values()):
            self.drop_peer(peer)
        for fd in (self.fd, self._own_end, self.lane_fd, self._own_lane_end):
            with suppress(OSError):
                os.close(fd)


def reason_of_status(status: int, *, killed: bool, oom: bool = False) -> Any:
    """Say how a process that left no last words ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and killed:
            return "killed"
        return Signalled(signal_name(number), core=os.WCOREDUMP(status), oom=oom)
    return Exited(os.WEXITSTATUS(status))


@lru_cache(maxsize=64)
def signal_name(number: int) -> str:
    """Give a signal's name, also of the real-time ones."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
