"""The save queue of selective receive.

`take(match)` gives the oldest message that fits and leaves the others where they are, in their
order. A process that waits for one message while a thousand others lie before it would look at
all of them after every arrival; so an unsuccessful search is remembered, and the same search
goes on where it stopped. Like Erlang's, the memory holds one search and ends with another.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NOTHING", "Inbox", "Nothing"]


class _Nothing(Enum):
    NOTHING = "nothing"

    def __repr__(self) -> str:
        return self.name


NOTHING: Final = _Nothing.NOTHING
Nothing: TypeAlias = Literal[_Nothing.NOTHING]


class Inbox:
    """Messages in the order of their arrival.

    >>> inbox = Inbox()
    >>> for message in ("a", 1, "b"):
    ...     inbox.put(message)
    >>> inbox.take(lambda message: message == 1), inbox.take(), inbox.take(), inbox.take()
    (1, 'a', 'b', NOTHING)
    """

    __slots__ = ("_looked_for", "_passed", "_rest")

    def __init__(self) -> None:
        # All messages are `_passed` and then `_rest`; none of `_passed` fits `_looked_for`.
        self._passed: deque[Any] = deque()
        self._rest: deque[Any] = deque()
        self._looked_for: Callable[[Any], object] | None = None

    def put(self, message: Any) -> None:
        """Add a message behind all others."""
        self._rest.append(message)

    def take(self, match: Callable[[Any], object] | None = None) -> Any | Nothing:
        """Remove and return the oldest message that fits, or return `NOTHING`.

        Args:
            match: Says whether a message fits; None takes the oldest. While the same object is
                given, no message is looked at twice, so it has to give the same answer for the
                same message. What it raises comes through, and nothing is removed.
        """
        if match is None:
            return self._take_oldest()
        if match is not self._looked_for:
            self._begin_search(match)
        while self._rest:
            if match(self._rest[0]):
                return self._rest.popleft()
            self._passed.append(self._rest.popleft())
        return NOTHING

    def drain(self) -> list[Any]:
        """Remove and return all messages, oldest first."""
        messages = list(self)
        self._passed.clear()
        self._rest.clear()
        return messages

    def discard(self, match: Callable[[Any], object]) -> int:
        """Remove every message that fits and return how many there were."""
        before = len(self)
        passed = deque(message for message in self._passed if not match(message))
        rest = deque(message for message in self._rest if not match(message))
        self._passed, self._rest = passed, rest
        return before - len(self)

    def __len__(self) -> int:
        return len(self._passed) + len(self._rest)

    def __iter__(self) -> Iterator[Any]:
        return chain(self._passed, self._rest)

    def _take_oldest(self) -> Any | Nothing:
        if self._passed:
            return self._passed.popleft()
        return self._rest.popleft() if self._rest else NOTHING

    def _begin_search(self, match: Callable[[Any], object]) -> None:
        self._rest.extendleft(reversed(self._passed))
        self._passed.clear()
        self._looked_for = match
