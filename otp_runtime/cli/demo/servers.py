"""The server of the story: a counter that can be made to die in many ways."""

from __future__ import annotations

import os
from typing import Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply


class Counter(GenServer[int]):
    """Counts up and down, and dies on request."""

    # client: the interface, runs in the caller

    @staticmethod
    def inc(counter: Any) -> None:
        """Count up."""
        GenServer.cast(counter, "inc")

    @staticmethod
    def dec(counter: Any) -> None:
        """Count down."""
        GenServer.cast(counter, "dec")

    @staticmethod
    def val(counter: Any, timeout: float = 5.0) -> int:
        """Give the count."""
        value: int = GenServer.call(counter, "val", timeout)
        return value

    @staticmethod
    def die(counter: Any, way: str) -> None:
        """Die by `way`: "exception", "os._exit" or "SIGSEGV"."""
        GenServer.cast(counter, ("die", way))

    # server: the implementation, runs in a process of its own

    def init(self, start: int, /) -> int:
        """Begin with `start`."""
        return start

    def handle_cast(self, request: Any, state: int, /) -> NoReply[int]:
        """Count, or die."""
        match request:
            case "inc":
                return NoReply(state + 1)
            case "dec":
                return NoReply(state - 1)
            case ("die", "exception"):
                message = "a bug in the counter"
                raise ValueError(message)
            case ("die", "os._exit"):
                os._exit(3)
            case ("die", "SIGSEGV"):
                import ctypes

                ctypes.string_at(0)  # reads address 0: a bug in C code, as far as the kernel can tell
        return NoReply(state)

    def handle_call(self, request: Any, client: Any, state: int, /) -> Reply[int, int]:
        """Give the count."""
        return Reply(state, state)
