"""What runs in a terminal, and what runs beside it."""

import os
from pathlib import Path

from otp_runtime import GenServer, Reply


def ids():
    """Give the session and the process group of who runs this."""
    return os.getsid(0), os.getpgrp()


def opens_terminal():
    """Say whether who runs this has a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


class Careful(GenServer):
    """Runs what it is called with; writes down how it ended."""

    trap_exit = True

    def init(self, path):
        return Path(path)

    def handle_call(self, request, client, state):
        return Reply(request(), state)

    def terminate(self, reason, state):
        state.write_text(str(reason))
