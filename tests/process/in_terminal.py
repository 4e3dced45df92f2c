"""What runs in a terminal, and what runs beside it."""

import os
from pathlib import Path

from otp_runtime import GenServer, Reply
from otp_runtime.host import kernel

TERMINAL = 4
"""Its place among the fields of /proc/PID/stat behind the name; 0: none."""


def ids():
    """Give the session and the process group of who runs this."""
    return os.getsid(0), os.getpgrp()


def has_terminal():
    """Say whether who runs this has a terminal."""
    return kernel.stat_fields(os.getpid())[TERMINAL] != "0"


class Careful(GenServer):
    """Runs what it is called with; writes down how it ended."""

    trap_exit = True

    def init(self, path):
        return Path(path)

    def handle_call(self, request, client, state):
        return Reply(request(), state)

    def terminate(self, reason, state):
        state.write_text(str(reason))
