"""What watches children: a file they write into, and ways to end them."""

import contextlib
import os

from otp_runtime import GenServer, Supervisor, process
from otp_runtime.testing import sigkill, wait_restarted
from tests.supervision import children


class Record:
    """The file into which children write, and the moods that make them fail."""

    def __init__(self, path):
        self.path = str(path)

    def spec(self, name, cls=children.Recorder, **fields):
        """A child that has this name and id."""
        return cls.child_spec((self.path, name), name=name, **fields)

    def mood(self, name, how=None):
        """Say how the child's next `init` fails; None: it does not."""
        path = f"{self.path}.{name}"
        if how is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        with open(path, "w", encoding="utf-8") as file:
            file.write(how)

    def take(self):
        """Give the lines since the last time."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        os.unlink(self.path)
        return lines


def end(name, reason):
    """End a server of itself; give the pid that ended, after its Down."""
    pid = process.whereis(name)
    GenServer.cast(name, children.end(reason))
    assert pid.wait(5.0) == reason
    return pid


def restart(name):
    """Kill a child and wait until another has its name; give that."""
    pid = wait_restarted(name, after=sigkill(name))
    GenServer.call(name, "ready?")
    return pid


def pids(*names):
    """Who has these names."""
    return [process.whereis(name) for name in names]


def shown(sup):
    """What `which_children` says, as ids and whether they run."""
    return {
        one.id: one.pid if isinstance(one.pid, str) else one.pid is not None for one in Supervisor.which_children(sup)
    }
