"""The server that is measured: it answers what it was asked and counts what it was told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply

if TYPE_CHECKING:
    from otp_runtime.process.client import Client


class Echo(GenServer[int]):
    """`call` gives the request back, "count" the casts so far, "os_pid" the process that answers."""

    def init(self, arg: Any) -> int:
        """Count from 0."""
        return 0

    def handle_cast(self, request: Any, state: int) -> NoReply[int]:
        """Count one more."""
        return NoReply(state + 1)

    def handle_call(self, request: Any, client: Client[Any], state: int) -> Reply[Any, int]:
        """Answer."""
        if request == "count":
            return Reply(state, 0)
        if request == "os_pid":
            return Reply(os.getpid(), state)
        return Reply(request, state)
