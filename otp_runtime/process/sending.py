"""The sending half of a process: the peers it knows, what it writes to them, what it owes them.

Two ways to send. `transmit` waits for room, draining the own mailbox meanwhile: what a process sends of its own
accord is held back by a full mailbox. `post` never blocks: what is sent *back* (a reply, an exit signal) waits in
the peer's outbox, and everything later for that peer behind it.
"""

from __future__ import annotations

import abc
import errno
import resource
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import CodecError, MailboxFull
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel, pipe, poller
from otp_runtime.process import route
from otp_runtime.process.peers import Peer, frames_for, open_peer
from otp_runtime.terms.parcel import Parcel
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from otp_runtime.host.box import Box
    from otp_runtime.host.segments import Segments
    from otp_runtime.process.handle import NodeHandle

DYING_POLL_SECONDS = 0.0002
PEERS_MAX = 512
LINGER_SECONDS = 1.0


class Sending(abc.ABC):
    """A process as far as it sends; `Context` is the whole of it."""

    def __init__(self, node: NodeHandle, process_id: int, box: Box) -> None:
        """Live in `box` as `process_id` of `node`."""
        self.node = node
        self.codec = node.codec
        self.directory = node.directory
        self.id = process_id
        self.pid = Pid(node.name, process_id, node.incarnation)
        self.box = box
        self.poller = poller.Poller()
        self.peers: dict[Any, Peer] = {}
        """By id; processes of other nodes by pid, or by the `Remote` that names them."""
        self.dying: dict[int, Peer] = {}
        self.owed: set[Any] = set()
        """Whose outbox is not empty. As long as there is anybody, who waits sleeps: room is told to a sleeper."""
        self._serial = 0
        self._segment = 0
        self.parcels = node.parcels
        self._segments: Segments | None = None
        self._is_dropping_segments = False

    def pid_of(self, process_id: Any) -> Pid:
        """Give the pid behind a key: an id of this node's, or the pid of a process elsewhere."""
        known = self.peers.get(process_id)
        if known is not None:
            return known.pid
        return Pid(self.node.name, process_id, self.node.incarnation) if type(process_id) is int else process_id

    def key_of(self, pid: Pid) -> Any:
        """Give what a process is known by here: its id in this node; of another node's (or life's) the pid itself."""
        node = self.node
        return pid.id if pid.incarnation == node.incarnation and pid.node == node.name else pid

    def next_serial(self) -> int:
        """Give a number that this process has not used before."""
        self._serial += 1
        return self._serial

    @abc.abstractmethod
    def pump(self, timeout: float | None) -> None:
        """Sleep until something happened, at most `timeout` seconds, and take in whatever it was."""

    @abc.abstractmethod
    def is_asked(self, peer: Peer) -> bool:
        """Say whether a reply of `peer` is awaited."""

    @abc.abstractmethod
    def conclude_dying(self) -> None:
        """Conclude the deaths whose verdict is there."""

    # -- peers ----------------------------------------------------------------------------------------------

    def peer(self, process_id: Any) -> Peer | None:
        """Give the peer of an id of this node; None when it is dead (judged) or never was.

        A pid, or a `Remote`, is one of another node: see `route.reach`.
        """
        known = self.peers.get(process_id)
        if known is not None:
            return known
        if type(process_id) is not int:
            return route.reach(self, process_id)
        try:
            opened = open_peer(self.directory, self.pid_of(process_id))
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self._forget_idle_peers()
            opened = self._open_again(process_id)
        if opened is None:
            return None
        if len(self.peers) >= PEERS_MAX or kernel.is_scarce(opened.pidfd):
            self._forget_idle_peers()
        self.peers[process_id] = opened
        self.poller.watch(opened.pidfd, poller.READABLE, lambda _events: self._on_death(opened))
        if not opened.is_reachable:
            self._on_death(opened)
        elif opened.box.kind == boxes.KIND_THREAD:
            # a thread has no pidfd of its own: its mailbox losing its reader only wakes, the box then tells
            self.poller.watch(opened.fd, 0, lambda events: self._on_thread_end(opened, events))
        return opened

    def _open_again(self, process_id: int) -> Peer | None:
        try:
            return open_peer(self.directory, self.pid_of(process_id))
        except OSError as error:
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            who = self.box.name or repr(self.pid)
            msg = f"{who} has too many open files (limit {soft}) to reach process {process_id}: raise it (ulimit -n)"
            raise OSError(error.errno, msg) from error

    def _forget_idle_peers(self) -> None:
        for peer in list(self.peers.values()):
            if not peer.is_watched and peer.id not in self.dying and not self.is_asked(peer):
                self.drop_peer(peer)

    def drop_peer(self, peer: Peer) -> None:
        """Close and forget a peer."""
        self.peers.pop(peer.id, None)
        self.dying.pop(peer.id, None)
        self.owed.discard(peer.id)
        self.poller.forget(peer.pidfd)
        self.poller.forget(peer.fd)
        peer.close()
        peer.box.close()

    # -- sending --------------------------------------------------------------------------------------------

    def encode_with(self, envelope: list[Any], term: Any, what: str) -> bytes:
        """Encode an envelope; a `CodecError` names the path inside the user's `term`, whose root is `what`."""
        try:
            return self.codec.encode(envelope)
        except CodecError:
            self.codec.encode(term, what)
            raise

    def pack(self, envelope: list[Any], term: Any, what: str) -> bytes:
        """As `encode_with`, for what is sent at once: a `Parcel` where there is something large in it."""
        try:
            return self.parcels.encode(envelope)
        except CodecError:
            self.codec.encode(term, what)
            raise

    def transmit(self, peer: Peer, payload: bytes, deadline: float | None, *, policy: int = 0) -> None:
        """Write a payload to a peer, waiting for room until `deadline`; raises `MailboxFull`.

        To a dead peer nothing is written and nothing raised: its death is told elsewhere.
        """
        fits = len(payload) <= pipe.PAYLOAD_MAX and not (peer.outbox or peer.aborting or peer.is_full())
        if not (fits and peer.try_write(pipe.whole(payload))):
            self._transmit_slowly(peer, payload, deadline, policy)

    def _transmit_slowly(self, peer: Peer, payload: bytes, deadline: float | None, policy: int) -> None:
        if peer.relay is not None:
            self.transmit(peer.relay, peer.wrap(payload), deadline)
            return
        started = poller.now()
        while self.peers.get(peer.id) is peer and peer.is_full():
            if policy and self._refuse(peer, policy):
                return
            self._wait_for_room(peer, deadline, started)
        if self.peers.get(peer.id) is not peer:
            peer.missed = True
            return
        self._segment += 1
        frames = self._frames_for(peer, payload)
        if peer.aborting:
            frames.insert(0, pipe.abort(self.id, self._segment))
            peer.aborting = False
        outbox = peer.outbox
        before = len(outbox)
        outbox.extend(frames)
        self._flush(peer)
        if policy and len(outbox) >= before + len(frames) and outbox and self._refuse(peer, policy, frames):
            return
        try:
            while outbox and self.peers.get(peer.id) is peer:
                self._wait_for_room(peer, deadline, started)
        except MailboxFull:
            self._withdraw(peer, frames)
            raise
        if outbox:
            peer.missed = True

    def _refuse(self, peer: Peer, policy: int, frames: list[bytes] | None = None) -> bool:
        """Apply the receiver's overflow policy to a message it has no room for."""
        if frames is not None:
            self._withdraw(peer, frames)
        if boxes.OVERFLOW_POLICIES[policy] == "error":
            raise MailboxFull(peer.box.name or peer.pid, peer.box.mailbox_limit or None, 0.0)
        return True

    def _wait_for_room(self, peer: Peer, deadline: float | None, started: float) -> None:
        left = None if deadline is None else deadline - poller.now()
        if left is not None and left <= 0:
            raise MailboxFull(peer.box.name or peer.pid, peer.box.mailbox_limit or None, poller.now() - started)
        if peer.is_full():
            left = 0.001 if left is None else min(left, 0.001)
        self.pump(left)

    def _withdraw(self, peer: Peer, frames: list[bytes]) -> None:
        """Take back what of a term was not written; when a part was, tell the receiver to drop it."""
        unsent = 0
        while peer.outbox and any(peer.outbox[-1] is frame for frame in frames):
            peer.outbox.pop()
            unsent += 1
        if 0 < unsent < len(frames):
            peer.aborting = True

    def post(self, peer: Peer, payload: bytes) -> None:
        """Write a payload that must never block its sender; what finds no room waits in the outbox."""
        if peer.write_now(payload):
            return
        if peer.relay is not None:
            self.post(peer.relay, peer.wrap(payload))
            return
        self._segment += 1
        frames = self._frames_for(peer, payload)
        peer.outbox.extend(frames)
        self._flush(peer)

    @property
    def segments(self) -> Segments:
        """The segments that this process lays; their module is imported by who sends something large."""
        if self._segments is None:
            from otp_runtime.host.segments import Segments

            self._segments = Segments(self.directory.segments, self.id)
        return self._segments

    def _frames_for(self, peer: Peer, payload: bytes) -> list[bytes]:
        if peer.survives and type(payload) is Parcel:
            # a message that outlives its receiver is known by its first bytes, and nothing lies beside it
            payload = self.codec.encode(self.codec.decode(payload))
        frames = frames_for(self, payload, self.id, peer.id, self._segment, survives=peer.survives)
        segments = self._segments
        if segments is not None and segments.are_kept and not self._is_dropping_segments:
            self._is_dropping_segments = True
            self.poller.at(poller.now() + segments.kept_seconds, self._drop_segments)
        return frames

    def _drop_segments(self) -> None:
        """Give back the memory of segments that were kept for more large terms, when none has come for a while."""
        due = self.segments.used_at + self.segments.kept_seconds
        if due > poller.now():
            self.poller.at(due, self._drop_segments)
        else:
            self._is_dropping_segments = False
            self.segments.drop()

    def post_frame(self, peer: Peer, frame: bytes) -> None:
        """Write one finished frame; what finds no room waits in the outbox."""
        peer.outbox.append(frame)
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        if peer.flush():
            if peer.id in self.owed:
                self.owed.discard(peer.id)
                self._watch_mailbox_of(peer, 0)
        else:
            self.owed.add(peer.id)
            self._watch_mailbox_of(peer, poller.WRITABLE)

    def _watch_mailbox_of(self, peer: Peer, events: int) -> None:
        if peer.fd < 0 or not peer.is_reachable:
            return
        if peer.box.kind == boxes.KIND_THREAD:
            self.poller.watch(peer.fd, events, lambda happened: self._on_thread_end(peer, happened))
        elif events:
            self.poller.watch(peer.fd, events, lambda _events: self._flush(peer))
        else:
            self.poller.forget(peer.fd)

    def linger(self) -> None:
        """Before the end: wait until all outboxes are empty or their receivers dead, at most a second."""
        deadline = poller.now() + LINGER_SECONDS
        while any(peer.outbox for peer in list(self.peers.values())) and (left := deadline - poller.now()) > 0:
            self.poller.wait(left if not self.dying else DYING_POLL_SECONDS)
            self.conclude_dying()

    # -- deaths, as far as they are noticed

    def _on_death(self, peer: Peer) -> None:
        self.poller.forget(peer.pidfd)
        # a handover: the box names the successor before the predecessor ends
        if peer.follow():
            self.poller.watch(peer.pidfd, poller.READABLE, lambda _events: self._on_death(peer))
            return
        peer.noticed_at = poller.now()
        self.dying[peer.id] = peer

    def _on_thread_end(self, peer: Peer, events: int) -> None:
        if events & poller.ENDED:
            self.poller.forget(peer.fd)
            self._on_death(peer)
        elif events & poller.WRITABLE:
            self._flush(peer)
