"""Sending and receiving: order, patterns, deadlines, and who hears nothing."""

import os
from dataclasses import dataclass

import pytest

from otp_runtime import Bind, Down, Node, NoProcess, ReceiveTimeout, process
from otp_runtime.host.segments import KEPT_SECONDS
from otp_runtime.testing import assert_receive
from otp_runtime.testing.nodes import private_node
from tests.process import plain
from tests.process.large import segments_of


@dataclass(frozen=True)
class Job:
    """A message."""

    number: int
    name: str = ""


class TestSend:
    def test_to_oneself(self, me):
        """Arrives as any other."""
        assert process.send(me, ("hello", 1)) is None
        assert process.receive(timeout=0) == ("hello", 1)

    def test_to_a_name(self, me):
        """Looked up when it is sent."""
        process.register(me, "here")
        process.send("here", "hello")
        process.unregister("here")

        assert process.receive(timeout=0) == "hello"

    def test_to_an_unknown_name(self, me):
        """OTP: badarg."""
        with pytest.raises(NoProcess) as error:
            process.send("nobody", "hello")

        assert (error.value.server, error.value.reason) == ("nobody", "noproc")

    def test_to_a_dead_pid(self, me):
        """Dropped silently."""
        pid = process.spawn(int)
        pid.wait(5.0)

        assert process.send(pid, "hello") is None

    def test_to_what_is_no_reference(self, me):
        """A mistake in the program."""
        with pytest.raises(TypeError, match="is no server reference; allowed are"):
            process.send(42, "hello")

    def test_order_of_one_sender(self, me):
        """Messages of one sender keep their order."""
        process.spawn(plain.send_numbered, me, 500)
        found = [process.receive(timeout=5.0)[1] for _ in range(500)]

        assert found == list(range(500))

    def test_order_of_several_senders(self, me):
        """Each one's do, whatever the order between them."""
        senders = [process.spawn(plain.send_numbered, me, 100) for _ in range(3)]
        found = [process.receive(timeout=5.0) for _ in range(300)]

        assert {sender: [number for who, number in found if who == sender] for sender in senders} == {
            sender: list(range(100)) for sender in senders
        }

    def test_is_a_copy(self, me):
        """What is sent is not shared, also with oneself."""
        message = ["mutable"]
        process.send(me, message)
        message.append("changed")

        assert process.receive(timeout=0) == ["mutable"]


class TestReceive:
    def test_oldest_first(self, me):
        """Without a pattern."""
        for number in range(3):
            process.send(me, number)

        assert [process.receive(timeout=0) for _ in range(3)] == [0, 1, 2]

    def test_times_out(self, me):
        """A TimeoutError that says after how long."""
        with pytest.raises(ReceiveTimeout) as error:
            process.receive(timeout=0.01)

        assert isinstance(error.value, TimeoutError)
        assert error.value.timeout == 0.01

    def test_what_does_not_fit_stays(self, me):
        """In its order."""
        for message in ("a", 1, "b", 2):
            process.send(me, message)
        fitting = process.receive(int, 0)

        assert (fitting, process.flush()) == (1, ["a", "b", 2])

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            (int, 7),
            ((int, str), "text"),
            (("job", ...), ("job", 1)),
            (("job", Bind("n")), ("job", 1)),
            (("pair", Bind("a"), Bind("a")), ("pair", 3, 3)),
            (Job(2, ...), Job(2, "x")),
            (Job, Job(1, "y")),
            ({"k": ...}, {"k": None}),
            (lambda message: message[2] == 3, ("pair", 3, 3)),
            ([1, ..., 3], [1, 2, 3]),
            (None, "text"),
        ],
    )
    def test_patterns(self, me, pattern, found):
        """Each takes the first that fits."""
        messages = [
            "text",
            ("job", 1),
            ("pair", 1, 2),
            ("pair", 3, 3),
            Job(1, "y"),
            Job(2, "x"),
            {"k": None},
            [1, 2, 3],
        ]
        for message in [*messages, 7]:
            process.send(me, message)

        assert process.receive(pattern, 0) == found

    def test_waits_for_one_that_fits(self, me):
        """Past others that arrive meanwhile."""
        process.spawn(plain.send_numbered, me, 50)

        assert process.receive((..., 49), 5.0)[1] == 49
        assert len(process.flush()) == 49

    def test_a_predicate_with_a_mistake(self, me):
        """Comes through; the message stays."""
        process.send(me, "text")
        with pytest.raises(ZeroDivisionError):
            process.receive(lambda _message: 1 / 0, 0)

        assert process.receive(timeout=0) == "text"

    def test_classes_are_kept(self, me):
        """A dataclass arrives as what it was, in another process too."""
        pid = process.spawn(plain.echo)
        process.send(pid, (me, Job(1, "y")))

        assert process.receive(Job, 5.0) == Job(1, "y")

    def test_zero_takes_what_has_arrived(self, me):
        """Also what nobody looked at yet."""
        pid = process.spawn(plain.send_numbered, me, 1)
        pid.wait(5.0)

        assert process.receive(timeout=0) == (pid, 0)

    def test_a_call_to_a_plain_process(self, me):
        """Arrives as OTP's."""
        from otp_runtime import GenServer

        def answer():
            tag, client, request = process.receive(("$gen_call", ..., ...))
            GenServer.reply(client, (tag, request))

        assert GenServer.call(process.spawn(answer), "question") == ("$gen_call", "question")


class TestFlush:
    def test_takes_all(self, me):
        """Oldest first; then there is nothing."""
        for number in range(3):
            process.send(me, number)

        assert (process.flush(), process.flush()) == ([0, 1, 2], [])

    def test_takes_what_a_dead_process_sent(self, me):
        """All that was written before."""
        process.spawn(plain.send_numbered, me, 200).wait(5.0)

        assert [number for _who, number in process.flush()] == list(range(200))


class TestSizes:
    @pytest.mark.parametrize("size", [1, 4000, 4092, 4093, 65_536, 512 * 1024, 4 << 20])
    def test_round_trip(self, me, size):
        """From a byte to megabytes: what comes back is equal."""
        pid = process.spawn(plain.echo)
        message = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
        process.send(pid, (me, message))

        assert process.receive(bytes, 5.0) == message

    def test_many_large_ones_at_once(self, me):
        """Of two senders."""
        pids = [process.spawn(plain.echo) for _ in range(2)]
        for pid in pids:
            process.send(pid, (me, bytes(1 << 20)))
        found = [process.receive(bytes, 5.0) for _ in pids]

        assert found == [bytes(1 << 20)] * 2

    @pytest.mark.slow
    def test_no_file_is_left(self, otp_node, me):
        """Large terms travel in files; whoever reads one takes it away, and its sender keeps it but for a moment."""
        pid = process.spawn(plain.echo)
        process.send(pid, (me, bytes(4 << 20)))
        process.receive(bytes, 5.0)
        with pytest.raises(ReceiveTimeout):
            process.receive(str, KEPT_SECONDS + 0.5)

        assert os.listdir(otp_node.directory / "seg") == []

    def test_to_one_that_dies_without_reading(self, otp_node, me):
        """Its files go with it."""
        pid, _ref = process.spawn_monitor(plain.linger)
        process.send(pid, bytes(2 << 20))
        process.exit(pid, "kill")
        assert_receive(Down, 5.0)

        assert segments_of(otp_node, pid) == []


class TestGarbage:
    @pytest.mark.parametrize("garbage", [b"hello", b"\xc1", b"\xc1\x00\x08\x00\xc1\xc1\xc1\xc1", os.urandom(3000)])
    def test_in_a_mailbox(self, otp_node, me, garbage, caplog):
        """Skipped, counted, logged; the process is unharmed."""
        pid = process.spawn(plain.echo)
        with open(otp_node.directory / "p" / f"{pid.id}.in", "wb", buffering=0) as mailbox:
            mailbox.write(garbage)
        process.send(pid, (me, "still there"))

        assert process.receive("still there", 5.0)
        assert process.info(pid).garbage > 0


class TestGarbageReport:
    def test_is_reported(self, caplog):
        """As a warning that names the process. The node ends first: then no report is on its way any more."""
        with private_node() as node:
            pid = process.spawn(plain.echo)
            process.register(pid, "victim of garbage")
            with open(node.directory / "p" / f"{pid.id}.in", "wb", buffering=0) as mailbox:
                mailbox.write(b"garbage")
            process.send(pid, (process.self(), "still there"))
            process.receive("still there", 5.0)
            Node.stop()

        assert "1 piece(s) in the mailbox of victim of garbage were no messages; skipped" in "".join(caplog.messages)


class TestCodec:
    @pytest.mark.parametrize("what", ["lock", "socket", "file", "generator"])
    def test_what_cannot_travel(self, me, unsendable, what):
        """Says where it lies in the message and what it is; nothing is sent."""
        from otp_runtime import CodecError

        with pytest.raises(CodecError) as error:
            process.send(me, {"jobs": [1, unsendable[what]]})

        assert error.value.path == 'message["jobs"][1]'
        assert error.value.type
        assert process.flush() == []
