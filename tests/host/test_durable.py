"""The database of kept states: what it returns was written, and what is wrong with it is said by name."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from otp_runtime import DurableStateError
from otp_runtime.host import durable
from otp_runtime.host.durable import DurableStore
from otp_runtime.host.snapshot_file import Saved

STATE = Saved(1, 0, b"v", b"state")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "data" / "node.db")


def open_store(path, key="counter", process="a.1"):
    return DurableStore(path, "shop@here", key, "app.Counter", process)


@pytest.fixture
def store(path):
    opened = open_store(path)
    yield opened
    opened.close()


class TestWriteAndRead:
    def test_nothing_at_first(self, store):
        """A database is made where there is none."""
        assert store.read() == {}

    def test_private(self, store):
        """The database, what SQLite lays beside it, and the directory that was made for it."""
        store.write(0, STATE)
        directory = os.path.dirname(store.path)
        modes = {stat.S_IMODE(os.stat(f"{directory}/{name}").st_mode) for name in os.listdir(directory)}

        assert (modes, stat.S_IMODE(os.stat(directory).st_mode)) == ({0o600}, 0o700)

    def test_slots(self, store, path):
        """Each holds what was written into it last; another run finds them, oldest first."""
        for generation in range(1, 6):
            store.write(generation % 3, Saved(generation, generation - 1, b"v", b"%d" % generation))
        store.close()

        again = open_store(path)
        found = again.read()
        again.close()
        assert [0, 1, 2] == list(found)
        assert [b"3", b"4", b"5"] == [saved.body for saved in found.values()]

    def test_keys_are_apart(self, store, path):
        """And so are nodes."""
        store.write(0, STATE)
        other = open_store(path, "other")
        found = other.read()
        other.close()

        assert found == {}

    def test_survives_sigkill(self, path):
        """What `write` returned from is there."""
        program = (
            "import os, signal\n"
            "from otp_runtime.host.durable import DurableStore\n"
            "from otp_runtime.host.snapshot_file import Saved\n"
            f"store = DurableStore({path!r}, 'shop@here', 'counter', 'app.Counter', 'b.1')\n"
            "store.write(0, Saved(1, 0, b'v', b'state'))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], check=False)

        store = open_store(path)
        found = store.read()
        store.close()
        assert (-signal.SIGKILL, {0: STATE}) == (ended.returncode, found)


class TestWhatIsWrong:
    def test_no_database(self, path):
        """A file that is something else is named and left alone."""
        os.mkdir(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"a diary " * 100)

        with pytest.raises(DurableStateError, match=r"node\.db is out of reach: file is not a database"):
            open_store(path)
        with open(path, "rb") as file:
            assert file.read(7) == b"a diary"

    def test_a_newer_format(self, store):
        """Is not guessed at."""
        store._connection.execute("PRAGMA user_version = 99")

        with pytest.raises(DurableStateError, match="format 99, and this version reads 1"):
            open_store(store.path)

    def test_damage(self, store):
        """A state that is not what was written is refused."""
        store.write(0, STATE)
        store._connection.execute("UPDATE state SET body = x'00'")

        with pytest.raises(DurableStateError, match="the state of 'counter' is damaged"):
            store.read()

    def test_no_room(self, store):
        """What was kept before is still there."""
        store.write(0, STATE)
        store._connection.execute("PRAGMA max_page_count = 8")

        with pytest.raises(DurableStateError, match="full"):
            store.write(1, Saved(2, 1, b"v", bytes(1_000_000)))
        assert store.read() == {0: STATE}

    def test_a_full_disk(self, small_disk):
        """There is not even room for the tables."""
        with pytest.raises(DurableStateError, match="full"):
            open_store(f"{small_disk}/node.db")

    def test_a_directory_that_cannot_be_made(self, tmp_path):
        """The reason is the system's."""
        (tmp_path / "file").touch()

        with pytest.raises(DurableStateError, match=r"file/node\.db is out of reach: .*File exists|Not a directory"):
            open_store(str(tmp_path / "file" / "node.db"))


class TestHolder:
    def test_two_servers_of_a_node(self, store):
        """Would write over each other's state: the second is told at once."""
        with pytest.raises(DurableStateError, match=f"'counter' is kept by another server, OS process {os.getpid()}"):
            open_store(store.path, process="a.2")

    def test_the_same_server_again(self, store):
        """Another OS process of it may take over while the first still lives."""
        open_store(store.path).close()

    def test_a_dead_one(self, store):
        """Its key is free, also when another process has its number by now."""
        store._connection.execute("UPDATE holder SET start = start - 1, process = 'gone.1'")

        open_store(store.path, process="a.2").close()

    def test_a_dying_one_of_another_node(self, store):
        """Is waited for: its tree was killed a moment ago."""
        dying = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        start = durable.kernel.start_time(dying.pid)
        store._connection.execute("UPDATE holder SET os_pid = ?, start = ?, process = 'b.1'", (dying.pid, start))
        dying.stdin.close()

        open_store(store.path, process="c.1").close()
        assert dying.wait() is not None


class TestFromOutside:
    def test_rows(self, store):
        """The newest of each key, who wrote it, and whether a living process holds it."""
        store.write(0, STATE)
        store.write(1, Saved(2, 1, b"v", b"newer"))

        (row,) = durable.rows_of(store.path)
        assert ("shop@here", "counter", 2, "app.Counter", 5, os.getpid()) == row[:4] + row[5:]
        assert durable.body_of(store.path, row) == b"newer"

    def test_drop(self, store):
        """Nothing of that key is left."""
        store.write(0, STATE)
        (row,) = durable.rows_of(store.path)
        durable.drop(store.path, row)

        assert (store.read(), durable.rows_of(store.path)) == ({}, [])

    def test_it_changed_meanwhile(self, store):
        """Then the key is to be looked up again."""
        store.write(0, STATE)
        (row,) = durable.rows_of(store.path)
        store.write(0, Saved(4, 3, b"v", b"later"))

        with pytest.raises(DurableStateError, match="look again"):
            durable.body_of(store.path, row)


def test_errors_of_sqlite_are_named(path):
    """Whatever it is, the error says which database."""
    with pytest.raises(DurableStateError, match=r"x\.db is out of reach: no such thing"), durable._named_errors("x.db"):
        raise sqlite3.OperationalError("no such thing")
