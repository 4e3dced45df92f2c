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
    while durable.abandoned:
        durable.abandoned.pop().close()


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


class TestMoved:
    def test_not_by_itself(self, store):
        """Writing and looking leave it where it is."""
        store.write(0, STATE)
        durable.rows_of(store.path)

        assert not store.has_moved()

    @pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
    def test_removed(self, store, suffixes):
        """Made again, with nothing in it that was in the old one; what is written is found."""
        store.write(0, STATE)
        for suffix in suffixes:
            os.unlink(store.path + suffix)
        assert store.has_moved()
        assert (store.open_again(), store.read(), store.has_moved()) == ("removed", {}, False)
        store.write(1, Saved(2, 1, b"v", b"new"))

        again = open_store(store.path)
        found = again.read()
        again.close()

        assert {1: Saved(2, 1, b"v", b"new")} == found

    def test_replaced(self, store, tmp_path):
        """By a database of its own, whose states stay."""
        other = open_store(str(tmp_path / "other.db"), key="other", process="b.1")
        other.write(0, STATE)
        other.close()
        store.write(0, Saved(1, 0, b"v", b"old" * 1000))
        os.rename(tmp_path / "other.db", store.path)
        assert store.has_moved()
        assert (store.open_again(), store.read()) == ("replaced", {})
        store.write(0, STATE)

        assert {"counter", "other"} == {row.key for row in durable.rows_of(store.path)}

    def test_replaced_by_one_that_knows_the_server(self, store, tmp_path):
        """What it has is of another history, and must not win by a higher generation."""
        other = open_store(str(tmp_path / "other.db"), process="a.1")
        for at in range(3):
            other.write(at, Saved(100 + at, 99 + at, b"v", b"other"))
        other.close()
        os.rename(tmp_path / "other.db", store.path)
        store.open_again()
        store.write(0, STATE)
        store.write(1, Saved(2, 1, b"v", b"new"))

        assert store.read() == {0: STATE, 1: Saved(2, 1, b"v", b"new")}

    def test_by_no_database(self, store):
        """It is said, and the file stays as it is."""
        with open(store.path + ".new", "w", encoding="ascii") as file:
            file.write("a diary " * 100)
        os.rename(store.path + ".new", store.path)
        with pytest.raises(DurableStateError, match="not a database"):
            store.open_again()

        with open(store.path, encoding="ascii") as file:
            assert file.read(8) == "a diary "

    def test_under_several(self, store, path):
        """Who comes second finds what the first one made, and neither spoils it for the other."""
        other = open_store(path, key="other", process="a.2")
        os.unlink(path)
        for number, one in enumerate((store, other, store, other)):
            if one.has_moved():
                one.open_again()
            one.write(number % 3, Saved(number + 1, number, b"v", b"x" * 5000))
        other.close()

        assert {"counter": 3, "other": 4} == {row.key: row.generation for row in durable.rows_of(path)}

    @pytest.mark.slow
    def test_between_two_runs(self, path):
        """What SQLite left beside a database that is gone is not read into the next one."""
        program = (
            "import os, sys\n"
            "from otp_runtime.host.durable import *\n"
            "DurableStore(sys.argv[1], 'shop@here', 'counter', 'c', 'x.1').write(0, Saved(1, 0, b'', b'old'))\n"
            "os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", program, path], check=False)
        assert os.path.getsize(path + "-wal") > 0
        os.unlink(path)

        store = open_store(path)
        found = store.read()
        store.close()

        assert found == {}


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
