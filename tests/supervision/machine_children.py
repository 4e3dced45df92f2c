"""The workers of the tree that `test_real_machine` drives. Importable and light: every process pays for it."""

import os
import signal

from otp_runtime import Exit, GenServer, Ignore, NoReply, Reply, Stop


class Worker(GenServer):
    """Writes "start ID" and "stop ID REASON"; a file `PATH.ID` says, a line for each, how its next starts end."""

    def init(self, arg):
        self.path, self.id, self.is_stubborn = arg
        self.was_told = False
        match next_mood(f"{self.path}.{self.id}"):
            case "ignore":
                return Ignore()
            case "raise":
                raise ValueError("boom")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                return Stop("boom")
        write(self.path, f"start {self.id}")
        return None

    def handle_call(self, request, client, state):
        return Reply("here", state)

    def handle_cast(self, request, state):
        self.was_told = True
        match request:
            case "raise":
                raise ValueError("boom")
            case ("os exit", code):
                os._exit(code)
            case ("stop", reason):
                return Stop(reason)

    def handle_info(self, message, state):
        match message:
            case Exit(reason=reason):
                self.was_told = True
                return Stop(reason)
            case _:
                return NoReply(state)


class Trapping(Worker):
    """Says how it ended, unless its supervisor was killed: then nobody knows who is first."""

    trap_exit = True

    def terminate(self, reason, state):
        if reason != "killed":
            write(self.path, f"stop {self.id} {reason if isinstance(reason, str) else type(reason).__name__}")
        while self.is_stubborn and not self.was_told:
            signal.pause()


def next_mood(path):
    """Take the first line of a file, if there is one."""
    try:
        with open(path, encoding="utf-8") as file:
            first, *rest = file.read().splitlines()
    except FileNotFoundError:
        return None
    if rest:
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(rest))
    else:
        os.unlink(path)
    return first


def write(path, line):
    """Append a line in one write: several processes may."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
