"""Large terms: what is sent is what the receiver sees, whatever the sender does to its own; nothing of it is left."""

import os

import pytest

from otp_runtime import Down, GenServer, Supervisor, process, system, upgrade
from otp_runtime.host.segments import KEPT_SECONDS, Segments
from otp_runtime.terms.parcel import APART_FROM
from otp_runtime.testing import assert_receive, wait_restarted
from tests.process.large import Block, Shelf, facts, made, segments_of

SIZE = 2 * APART_FROM


@pytest.fixture
def shelf(otp_node):
    """A server that keeps what it is sent."""
    return Shelf.start()


def segments(node):
    return sorted(os.listdir(node.directory / "seg"))


def ones(size=SIZE):
    return Block(bytearray(b"\x01") * size)


class TestBuffers:
    def test_sender_writes_on(self, shelf):
        """What a sender does to its buffer after it was sent is not seen."""
        block = ones()
        for number in range(5):
            block.data[0] = number
            GenServer.cast(shelf, block)
        block.data[0] = 99

        assert [(number, 1, SIZE, False) for number in range(5)] == GenServer.call(shelf, "facts")

    def test_is_read_only(self, shelf):
        """A receiver may read it where it lies, and copy it to write."""
        block = GenServer.call(shelf, ("echo", ones()))
        with pytest.raises(TypeError):
            memoryview(block.data)[0] = 7
        copy = bytearray(block.data)
        copy[0] = 7

        assert (1, 1, SIZE, False) == facts(block)

    @pytest.mark.parametrize("how", ["give", "give later"])
    def test_replies(self, shelf, how):
        """At once or later; and what was received is sent on."""
        GenServer.cast(shelf, ones())

        assert [(1, 1, SIZE, False)] == list(map(facts, GenServer.call(shelf, how)))

    def test_messages(self, shelf):
        """Sent as messages, and asked for without waiting."""
        process.send(shelf, ones())
        rid = GenServer.send_request(shelf, ("echo", ones(SIZE + 1)))

        assert (1, 1, SIZE + 1, False) == facts(GenServer.receive_response(rid))
        assert [(1, 1, SIZE, False)] == GenServer.call(shelf, "facts")

    def test_value_of_a_task(self, shelf):
        """As a reply."""
        assert (1, 1, SIZE, False) == facts(GenServer.call(shelf, ("task", SIZE)))

    def test_to_oneself(self, me):
        """Not shared either."""
        block = ones()
        process.send(me, block)
        block.data[0] = 7

        assert (1, 1, SIZE, False) == facts(process.receive(Block, 1.0))

    def test_later(self, me):
        """What a timer sends is what it was when the timer was set."""
        block = ones()
        process.send_after(me, block, 0.01)
        block.data[0] = 7

        assert 1 == facts(process.receive(Block, 1.0))[0]

    def test_small(self, shelf):
        """Below the threshold an object gets its own copy."""
        assert (1, 1, 100, False) == facts(GenServer.call(shelf, ("echo", made(100))))

    def test_bytes(self, shelf):
        """Bytes stay bytes, a bytearray one that may be written."""
        data = os.urandom(SIZE)
        for _ in range(3):
            found, copy = GenServer.call(shelf, ("echo", [data, bytearray(data)]))
            copy[0] ^= 1

            assert (data, bytearray) == (found, type(copy))
            assert data != copy


class TestLife:
    def test_receiver_keeps_it(self, otp_node, shelf):
        """Its file has no name any more, and what it keeps stays as it is while other terms come."""
        for number in range(1, 8):
            GenServer.cast(shelf, Block(bytes([number]) * SIZE))
            GenServer.call(shelf, ("echo", ones()))

        assert [(number, number, SIZE, False) for number in range(1, 8)] == GenServer.call(shelf, "facts")
        assert [] == [name for name in segments(otp_node) if name.startswith(f"{shelf.id}.{process.self().id}.")]

    def test_descriptors(self, shelf):
        """However many a server keeps, they hold none."""
        GenServer.call(shelf, "facts")
        before = len(os.listdir(f"/proc/{shelf.os_pid}/fd"))
        for _ in range(40):
            GenServer.cast(shelf, ones())
        GenServer.call(shelf, "facts")

        assert before == len(os.listdir(f"/proc/{shelf.os_pid}/fd"))

    def test_killed_receiver(self, otp_node, shelf):
        """Nothing that was for it, or that it kept, is left."""
        process.monitor(shelf)
        GenServer.cast(shelf, ones())
        GenServer.call(shelf, "give")
        system.suspend(shelf)
        GenServer.cast(shelf, ones())
        os.kill(shelf.os_pid, 9)
        assert_receive(Down, 5.0)

        assert [] == segments_of(otp_node, shelf)

    @pytest.mark.slow
    def test_given_back(self, otp_node, shelf):
        """What senders keep for the next large term they give back when none comes."""
        GenServer.call(shelf, ("echo", ones()))
        kept = segments(otp_node)
        with pytest.raises(TimeoutError):
            process.receive(str, KEPT_SECONDS + 0.5)

        assert kept
        assert [] == segments(otp_node)


class TestElsewhere:
    def test_upgrade(self, shelf):
        """What waits in the inbox, and what is in the state, is handed over."""
        GenServer.cast(shelf, ones())
        GenServer.call(shelf, "facts")
        system.suspend(shelf)
        GenServer.cast(shelf, ones(SIZE + 1))
        upgrade(shelf, timeout=10.0)
        system.resume(shelf)

        assert [(1, 1, SIZE, False), (1, 1, SIZE + 1, False)] == GenServer.call(shelf, "facts")

    def test_durable_mailbox(self, otp_node):
        """In one piece, and it outlives its receiver as any message."""
        spec = Shelf.child_spec(None, name="shelf", mailbox="durable")
        with Supervisor.start_link([spec], strategy="one_for_one"):
            victim = process.whereis("shelf")
            system.suspend("shelf")
            GenServer.cast("shelf", ones())
            os.kill(victim.os_pid, 9)
            wait_restarted("shelf", victim)

            assert [(1, 1, SIZE, True)] == GenServer.call("shelf", "facts")

    def test_no_room(self, shelf, monkeypatch):
        """In one piece, in frames."""
        monkeypatch.setattr(Segments, "lay", lambda *_args: None)
        GenServer.cast(shelf, ones())

        assert [(1, 1, SIZE, False)] == GenServer.call(shelf, "facts")

    @pytest.mark.parametrize("options", [{"record": True}, {"restore": "last_good"}])
    def test_what_is_kept(self, otp_node, options):
        """A recorded message, or a state that is kept, has all of it."""
        server = Shelf.start(**options)
        GenServer.cast(server, ones())

        assert [(1, 1, SIZE, False)] == GenServer.call(server, "facts")
        assert [(1, 1, SIZE, False)] == list(map(facts, GenServer.call(server, "give later")))


class TestArrays:
    def test_echo(self, shelf):
        """An array arrives with its shape and type, and may only be read: `copy` gives one that may be written."""
        numpy = pytest.importorskip("numpy", reason="numpy is not installed: arrays cannot be tried")
        array = numpy.arange(SIZE, dtype="f4").reshape(2, -1)
        found = GenServer.call(shelf, ("echo", {"a": array, "t": array.T}))
        with pytest.raises(ValueError, match="read-only"):
            found["a"][0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            found["a"].flags.writeable = True
        copy = found["a"].copy()
        copy[0, 0] = 1

        assert (array.shape, array.dtype) == (found["a"].shape, found["a"].dtype)
        assert (array == found["a"]).all()
        assert (array.T == found["t"]).all()

    def test_sender_writes_on(self, shelf):
        """An array that was sent is the sender's again at once."""
        numpy = pytest.importorskip("numpy", reason="numpy is not installed: arrays cannot be tried")
        array = numpy.ones(SIZE)
        GenServer.cast(shelf, array)
        array[:] = 2

        assert 1.0 == GenServer.call(shelf, "give")[0].max()
