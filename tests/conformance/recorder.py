"""The recorder: one Unix socket in the player that acknowledges every event, so their order is the causal order.

A connection carries one request, a line of JSON, and its answer. What waits at a closed gate has no answer yet.
Any process of a scenario uses it by `Line(path)`; only the player's own thread has the `Recorder`.
"""

import collections
import contextlib
import json
import os
import selectors
import shutil
import socket
import tempfile
import threading
import time

from otp_runtime import Pid, process


class Line:
    """What a process of the scenario holds: the way to the recorder."""

    def __init__(self, path):
        self.path = path

    def ask(self, kind, *fields):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(self.path)
            line.sendall(json.dumps([kind, *fields]).encode() + b"\n")
            with line.makefile("rb") as answers:
                return json.loads(answers.readline() or b"null")

    def log(self, *event):
        self.ask("log", list(event))

    def start_count(self, name, kind="worker"):
        """Count one more start of `name`; give how many there were."""
        return self.ask("count", name, kind)

    def born(self, name, generation):
        """Say that this process is `name`."""
        self.ask("born", name, generation, pack(process.self()))

    def above(self, *supervisors):
        """Say who the supervisors above this process are, nearest first."""
        pid, found = process.self(), []
        for name in supervisors:
            info = process.info(pid)
            if info is None or info.supervisor is None:
                break
            pid = info.supervisor
            found.append([name, pack(pid)])
        self.ask("above", found)

    def pid_of(self, name):
        found = self.ask("pid_of", name)
        return None if found is None else unpack(found)

    def wait_gate(self, name):
        self.ask("gate", name)

    def tell(self, key, value):
        self.ask("tell", key, value)

    def wait_told(self, key):
        """Wait until somebody has told `key`; give what."""
        return self.ask("told", key)


def pack(pid):
    return [pid.node, pid.id, pid.incarnation]


def unpack(packed):
    return Pid(*packed)


class Recorder:
    """The player's end: what was told so far, and a thread that listens."""

    def __init__(self):
        self._directory = tempfile.mkdtemp(prefix="otp-play-")
        self.path = os.path.join(self._directory, "line")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen(128)
        self._socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ, None)
        self._wake = socket.socketpair()
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        self._changed = threading.Condition()
        self._over = False
        self._halves = {}
        self.forget()
        self._thread = threading.Thread(target=self._listen, name="recorder", daemon=True)
        self._thread.start()

    @property
    def line(self):
        return Line(self.path)

    def forget(self):
        """Begin the next scenario."""
        with self._changed:
            self.events = []
            self.counts = collections.Counter()
            self.started = {}
            self.pids = {}
            self.generations = {}
            self.latest = {}
            self.gates = set()
            self._told = {}
            self._waiting = []

    def close(self):
        self._over = True
        self._wake[1].send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._wake[1].close()
        self._selector.close()
        shutil.rmtree(self._directory)

    # -- the player ------------------------------------------------------------------------------------------

    def know(self, name, generation, pid):
        """Note who `pid` is."""
        with self._changed:
            self._know(name, generation, pid)

    def _know(self, name, generation, pid):
        if pid not in self.generations:
            self.pids[pid.id] = name
            self.generations[pid] = (name, generation)
            self.latest[name] = pid

    def open_gate(self, name):
        with self._changed:
            self.gates.add(name)
        self._wake[1].send(b"x")

    def wait(self, condition, seconds=10.0):
        """Wait until something told makes `condition()` true; say whether it is."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def wait_hung_up(self):
        """Wait until nobody is on the line: those that were killed on it too; say whether that is so."""
        return self.wait(lambda: not self._halves)

    def told(self, key):
        return self._told.get(key)

    # -- the thread ------------------------------------------------------------------------------------------

    def _listen(self):
        while not self._over:
            for key, _ in self._selector.select():
                if key.fileobj is self._socket:
                    connection, _ = self._socket.accept()
                    self._halves[connection] = b""
                    self._selector.register(connection, selectors.EVENT_READ, connection)
                elif key.data is None:
                    self._wake[0].recv(100)
                else:
                    self._read(key.data)
            self._release()

    def _read(self, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if data:
            self._halves[connection] += data
            if not self._halves[connection].endswith(b"\n"):
                return
            request = json.loads(self._halves[connection])
            self._halves[connection] = b""
            with self._changed:
                self._handle(connection, *request)
                self._changed.notify_all()
            return
        self._selector.unregister(connection)
        connection.close()
        with self._changed:
            del self._halves[connection]
            self._changed.notify_all()

    def _handle(self, connection, kind, *fields):
        match kind, *fields:
            case "log", event:
                self.events.append((time.monotonic(), event))
                self._answer(connection, None)
            case "count", name, kind:
                self.counts[name] += 1
                self.started[kind, name] = self.counts[name]
                self._answer(connection, self.counts[name])
            case "born", name, generation, pid:
                self._know(name, generation, unpack(pid))
                self._answer(connection, None)
            case "above", found:
                for name, pid in found:
                    self._know(name, self.counts[name], unpack(pid))
                self._answer(connection, None)
            case "pid_of", name:
                self._answer(connection, pack(self.latest[name]) if name in self.latest else None)
            case "tell", key, value:
                self._told[key] = value
                self._answer(connection, None)
            case "open", name:
                self.gates.add(name)
                self._answer(connection, None)
            case ("gate" | "told") as how, name:
                self._waiting.append((connection, how, name))

    def _release(self):
        with self._changed:
            still = []
            for connection, how, name in self._waiting:
                if how == "gate" and name in self.gates:
                    self._answer(connection, None)
                elif how == "told" and name in self._told:
                    self._answer(connection, self._told[name])
                else:
                    still.append((connection, how, name))
            self._waiting = still

    def _answer(self, connection, value):
        with contextlib.suppress(OSError):
            connection.send(json.dumps(value).encode() + b"\n")
