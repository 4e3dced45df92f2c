"""Children that write down what happens to them. Importable and light."""

import logging
import os
import signal
import threading

from otp_runtime import GenServer, Ignore, Reply, Stop, Supervisor


class Recorder(GenServer):
    """Writes "start NAME" and "stop NAME REASON" into a file; fails where that file's directory says so.

    The argument is `(path, name)`. A file `path.NAME` beside it says how `init` is to fail, once or for ever.
    """

    trap_exit = True

    def init(self, arg):
        path, name = arg
        mood = f"{path}.{name}"
        if os.path.exists(mood):
            with open(mood, encoding="utf-8") as file:
                how = file.read()
            return fail(how, mood)
        write(path, f"start {name}")
        return arg

    def handle_call(self, request, client, state):
        return request(state) if callable(request) else Reply(state, state)

    def handle_cast(self, request, state):
        return request(state)

    def terminate(self, reason, state):
        path, name = state
        write(path, f"stop {name} {reason if isinstance(reason, str) else type(reason).__name__}")


class Plain(Recorder):
    """Does not trap exits: ends without a word."""

    trap_exit = False


class Stubborn(Recorder):
    """Does not end when asked to."""

    def terminate(self, reason, state):
        super().terminate(reason, state)
        while True:
            signal.pause()


class Top(Supervisor):
    """A supervisor of a user's: `init` says what it is."""

    def init(self, arg):
        if callable(arg):
            return arg()
        return self.spec(arg, strategy="one_for_one")


def write(path, line):
    """Append a line in one write: several processes may."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def fail(how, mood):
    """Do what a mood says; "once" moods are gone after that."""
    if how.startswith("once "):
        os.unlink(mood)
        how = how.removeprefix("once ")
    if how == "raise":
        raise ValueError("boom")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "ignore":
        return Ignore()
    return Stop(how)


def ignore_it():
    """A supervisor's `init` that does not want to."""
    return Ignore()


def end(reason):
    """A message that ends its receiver."""
    return lambda state: Stop(reason, state)


def logs_in_a_thread(_state):
    """Log in a thread, by a logger of a new name; say whether that has ended."""
    thread = threading.Thread(target=lambda: logging.getLogger(f"of.{os.getpid()}").info("here"), daemon=True)
    thread.start()
    thread.join(5.0)
    return not thread.is_alive()
