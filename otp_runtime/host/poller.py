"""One place where a process waits: descriptors, pidfds and timers in one epoll.

The spin before the sleep is here too. On a virtual machine most of a round trip is waking the other core, so
a reader that has lately been answered fast retries a non-blocking read, yielding the processor in between,
for some tens of microseconds before it sleeps. Without the yield the case of two processes on one core gets
five times worse. An idle process burns nothing: a spin that found nothing forbids the next ones for a while.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

now = time.monotonic

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
ENDED: Final = select.EPOLLERR | select.EPOLLHUP

SPIN_SECONDS: Final = 50e-6
SPIN_CREDIT: Final = 8
SPIN_COST: Final = 4
SPIN_PAUSE: Final = (16, 64)
"""A spin that finds nothing costs so much of the credit, one that finds something earns 1: in vain it takes ten times
as long. Without credit so many waits do not spin, and then one tries again; more each time it was in vain."""
CROWDED_SECONDS: Final = 500e-6
CROWDED_PAUSE_SECONDS: Final = (0.001, 0.1)
MILLISECOND: Final = 0.001

_yield = os.sched_yield
_read = os.read


class TimerHandle:
    """A timer that can be cancelled."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], None] | None) -> None:
        """`action` runs at the monotonic time `due`, unless it was set to None before."""
        self.due = due
        self.action = action

    def cancel(self) -> None:
        """Never run."""
        self.action = None


class _NotingEpoll:
    """An epoll that tells when it waits."""

    close: Callable[[], None]
    fileno: Callable[[], int]
    register: Callable[[int, int], None]
    modify: Callable[[int, int], None]
    unregister: Callable[[int], None]

    def __init__(self, epoll: select.epoll | _NotingEpoll, note: Callable[[float], None]) -> None:
        self._poll = epoll.poll
        self._note = note
        self.close, self.fileno = epoll.close, epoll.fileno
        self.register, self.modify, self.unregister = epoll.register, epoll.modify, epoll.unregister

    def poll(self, timeout: float | None, most: int = -1) -> list[tuple[int, int]]:
        self._note(-1.0)
        try:
            return self._poll(timeout, most)
        finally:
            self._note(now())


class Poller:
    """Waits for descriptors and timers and calls who asked."""

    def __init__(self) -> None:
        """Open the epoll."""
        self._epoll: select.epoll | _NotingEpoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._sequence = itertools.count()

    def note_waits(self, note: Callable[[float], None]) -> None:
        """Call `note(-1.0)` before each wait and `note(now)` after it; whoever does not ask for it pays nothing."""
        self._epoll = _NotingEpoll(self._epoll, note)

    def fileno(self) -> int:
        """Give the descriptor that is readable whenever something is to be done: for other event loops."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll; the descriptors in it are their owners'."""
        self._epoll.close()
        self._handlers.clear()

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever one of `events` is true of `fd`."""
        known = fd in self._handlers
        self._handlers[fd] = handler
        if known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; do it before closing it."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, due: float, action: Callable[[], None]) -> TimerHandle:
        """Run `action` at the monotonic time `due`."""
        timer = TimerHandle(due, action)
        heapq.heappush(self._timers, (due, next(self._sequence), timer))
        return timer

    def next_due(self) -> float | None:
        """Give the time of the next timer that was not cancelled."""
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def wait(self, timeout: float | None) -> bool:
        """Sleep until something happens or `timeout` seconds passed; call the handlers; say whether any ran.

        Descriptors come before timers: what lies in a pipe was there before a timer that is only now looked at.
        """
        due = self.next_due()
        if due is not None:
            left = max(0.0, due - now())
            timeout = left if timeout is None else min(timeout, left)
        if timeout is not None and 0 < timeout < MILLISECOND:
            self._wait_shortly(timeout)
            timeout = 0
        events = self._epoll.poll(timeout if timeout is None or timeout > 0 else 0)
        if len(events) == 1:
            fd, happened = events[0]
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(happened)
        else:
            self._tell(events)
        return self._run_timers() or bool(events)

    def _tell(self, events: list[tuple[int, int]]) -> None:
        """Call the handlers of several events, each only while it is its descriptor's.

        One of them may close another's descriptor, and open a new one of that number: what happened is not that one's.
        """
        handlers = self._handlers
        told = [(handlers.get(fd), fd, happened) for fd, happened in events]
        for handler, fd, happened in told:
            if handler is not None and handlers.get(fd) is handler:
                handler(happened)

    def sleep_on(self, fd: int, timeout: float | None) -> bool:
        """Sleep as `wait` does, but leave all that happened to it; say whether it is that `fd` is readable and no more.

        For who then reads it without anybody in between. Does not sleep, and says no, where a timer is to be minded.
        """
        if self._timers or (timeout is not None and timeout < MILLISECOND):
            return False
        return self._epoll.poll(timeout, 2) == [(fd, READABLE)]

    def _wait_shortly(self, timeout: float) -> None:
        """Sleep for less than a millisecond, of which epoll would make a whole one."""
        try:
            select.select((self._epoll,), (), (), timeout)
        except ValueError:
            # select knows no descriptor above a thousand
            time.sleep(timeout)

    def _run_timers(self) -> bool:
        ran = False
        while (due := self.next_due()) is not None and due <= now():
            timer = heapq.heappop(self._timers)[2]
            action, timer.action = timer.action, None
            if action is not None:
                ran = True
                action()
        return ran


class Spinner:
    """Decides when a short spin before the sleep is worth its cost."""

    __slots__ = ("_credit", "_crowded", "_is_crowded", "_not_before", "_pause", "_rest")

    def __init__(self) -> None:
        """Begin with credit: the first wait of a process is often for an answer."""
        self._credit = SPIN_CREDIT
        self._pause = 0
        self._rest = SPIN_PAUSE[0]
        self._not_before = 0.0
        self._crowded = CROWDED_PAUSE_SECONDS[0]
        self._is_crowded = False

    def read(self, fd: int, size: int, take: Callable[[int, int], bytes] = _read) -> bytes | None:
        """Read `fd`, spinning for a moment when it is empty; None when nothing came: sleep until it is readable.

        The yield comes before the first read: whoever shares the core then answers meanwhile, and the read finds it.
        `take` is what reads.
        """
        if self._pause and self._credit <= 0:
            self._pause -= 1
            return None
        started = now()
        if started < self._not_before:
            return None
        while True:
            _yield()
            try:
                data = take(fd, size)
            except BlockingIOError:
                if now() <= started + SPIN_SECONDS:
                    continue
                self._pay()
                self._look_around(now() - started)
                return None
            if self._credit < SPIN_CREDIT:
                self._earn()
            if self._is_crowded or now() > started + CROWDED_SECONDS:
                self._look_around(now() - started)
            return data

    def _pay(self) -> None:
        self._credit = max(0, self._credit - SPIN_COST)
        if self._credit == 0:
            # on a core that is shared a yield may give nothing away: then the spin keeps the answer from being made
            self._pause, self._rest = self._rest, min(self._rest * 2, SPIN_PAUSE[1])

    def _earn(self) -> None:
        self._credit += 1
        if self._credit == SPIN_CREDIT:
            self._rest = SPIN_PAUSE[0]

    def _look_around(self, spent: float) -> None:
        """A yield that took long gave the core to strangers, who kept it for a time slice: sleep for a while instead.

        For longer each time, and for less again after short spins: a core that is always shared is not yielded, and
        one stranger who passed by costs little.
        """
        shortest, longest = CROWDED_PAUSE_SECONDS
        if spent > CROWDED_SECONDS:
            self._not_before = now() + self._crowded
            self._crowded = min(self._crowded * 2, longest)
        else:
            self._crowded = max(self._crowded * 0.9, shortest)
        self._is_crowded = self._crowded > shortest
