"""Typed clients: mark a method `@call`, `@cast` or `@info(pattern)`, and the class has its interface, with types.

>>> from otp_runtime import GenServer, Reply
>>> from otp_runtime.typed import call, cast
>>> class Counter(GenServer[int]):
...     def init(self, start: int) -> int: return start
...     @cast
...     def inc(self, state: int, by: int = 1) -> int: return state + by
...     @call
...     def val(self, state: int) -> Reply[int, int]: return Reply(state, state)
>>> with Counter.start_link(0) as counter:
...     Counter.inc(counter, 2)
...     n: int = Counter.val(counter)
>>> n
2

Sugar over the same callbacks: `Counter.inc(counter, 2)` is `GenServer.cast(counter, ("inc", (2,), {}))`.
"""

from otp_runtime.behaviours.typed_clients import CallClient, CastClient
from otp_runtime.behaviours.typed_marks import call, cast, info

__all__ = ["CallClient", "CastClient", "call", "cast", "info"]
