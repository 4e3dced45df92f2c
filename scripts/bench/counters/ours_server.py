"""The class of our counter: in a module, as in any program that is more than a page.

A class of the main script travels to each new process by value, which costs it memory and time.
"""

from __future__ import annotations

import os
from typing import Any

from otp_runtime import GenServer, NoReply, Reply


class Counter(GenServer[int]):
    def init(self, start: Any) -> int:
        return 0

    def handle_cast(self, request: Any, state: int) -> NoReply[int]:
        return NoReply(state + 1)

    def handle_call(self, request: Any, client: Any, state: int) -> Reply[int, int]:
        if request == "os_pid":
            return Reply(os.getpid(), state)
        return Reply(state + 1, state + 1)
