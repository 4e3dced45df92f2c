"""Programs in a terminal of their own."""

import fcntl
import signal
import subprocess
import termios


def start_in(terminal, command, **options):
    """Start a program in the foreground of `terminal`, one end of a pty; `options`: what else `Popen` takes."""
    return subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=_enter_terminal,  # noqa: PLW1509 - no thread here
        **options,
    )


def _enter_terminal():
    """Let Ctrl-C reach what runs here, whoever ran the tests with it ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
