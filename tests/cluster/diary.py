"""A server that writes down while it owns a name, so that nobody has to believe that there was one owner at a time."""

import itertools
import os
import sqlite3
import time

from otp_runtime import CallError, GenServer, Global, NoReply, Reply, Supervisor, process
from tests.cluster.servers import Hoard

EVERY = 0.01


class Diary(GenServer):
    """One line every few milliseconds: its token, and when."""

    def init(self, path):
        process.send(process.self(), "write")
        return path, Global.token("diary"), os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def handle_info(self, message, state):
        _path, token, fd = state
        os.write(fd, f"{token} {time.monotonic()}\n".encode())
        process.send_after(process.self(), "write", EVERY)
        return NoReply(state)

    def handle_call(self, request, client, state):
        return Reply(state[1], state)


class Ledger(GenServer):
    """Writes into a database that refuses whoever has a smaller token than it has seen."""

    def init(self, path):
        process.send(process.self(), "write")
        return path, Global.token("ledger")

    def handle_info(self, message, state):
        path, token = state
        with sqlite3.connect(path, timeout=10.0) as database:
            is_taken = write_fenced(database, token)
            database.execute("insert into log values (?, ?)", (token, is_taken))
        database.close()
        process.send_after(process.self(), "write", EVERY)
        return NoReply(state)

    def handle_call(self, request, client, state):
        return Reply(state[1], state)


def open_ledger(path):
    with sqlite3.connect(path) as database:
        database.execute("create table entry (id integer primary key, token integer not null, value integer)")
        database.execute("create table log (token integer, is_taken integer)")
        database.execute("insert into entry values (1, 0, 0)")
    database.close()


def write_fenced(database, token):
    """Write, unless somebody with a greater token has."""
    found = database.execute(
        "update entry set token = ?, value = value + 1 where id = 1 and token <= ?", (token, token)
    )
    return found.rowcount == 1


def ledger_log(path):
    with sqlite3.connect(path) as database:
        found = database.execute("select token, is_taken from log order by rowid").fetchall()
    database.close()
    return found


def stand_by(path, cls=Diary, name="diary"):
    """Let this node have the name, or wait for it; and a server that only this node needs."""
    children = [cls.child_spec(str(path), name=Global(name)), Hoard.child_spec(name="local")]
    return Supervisor.start(children, strategy="one_for_one", max_restarts=1000)


def token_of(name):
    """The token of its owner; None while there is none."""
    try:
        return GenServer.call(Global(name), "token", 1.0)
    except CallError:
        return None


def tenures(path):
    """When each token was used first and last, by token."""
    found = {}
    for line in path.read_text().splitlines():
        token, at = line.split()
        first, _last = found.get(int(token), (float(at), 0.0))
        found[int(token)] = first, float(at)
    return found


def overlaps(path):
    """Tokens that were used after a greater one was."""
    pairs = itertools.pairwise(sorted(tenures(path).items()))
    return [token for (token, (_first, last)), (_next, (first, _last)) in pairs if last > first]
