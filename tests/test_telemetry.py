"""Telemetry: who is told what, and what a broken listener may not do."""

import logging
import os

import pytest

from otp_runtime import telemetry


@pytest.fixture(autouse=True)
def nothing_attached(monkeypatch):
    """Each test begins with no handler of anybody's and leaves none behind."""
    monkeypatch.setattr(telemetry, "_attachments", ())


@pytest.fixture
def seen():
    """What `note` was told."""
    return []


@pytest.fixture
def note(seen):
    return lambda event, measurements: seen.append((event, dict(measurements)))


class TestEmit:
    def test_handler_gets_the_event_and_its_measurements(self, seen, note):
        """The measurements arrive as the keywords that were given."""
        telemetry.attach("mailbox.full", note)

        telemetry.emit("mailbox.full", waited=0.5, server="counter")

        assert [("mailbox.full", {"waited": 0.5, "server": "counter"})] == seen

    def test_without_handlers_nothing_happens(self):
        """Emitting to nobody is no error."""
        assert None is telemetry.emit("process.start", os_pid=1)

    def test_a_measurement_may_be_called_event(self, seen, note):
        """`event` is positional only, so it takes no keyword away."""
        telemetry.attach("", note)

        telemetry.emit("statem.step", event="cast")

        assert [("statem.step", {"event": "cast"})] == seen

    def test_handlers_run_in_the_order_attached(self, seen):
        """First come, first told."""
        telemetry.attach("", lambda *_: seen.append("first"))
        telemetry.attach("", lambda *_: seen.append("second"))

        telemetry.emit("process.start")

        assert ["first", "second"] == seen

    @pytest.mark.parametrize(
        ("prefix", "told"),
        [
            ("", True),
            ("mailbox", True),
            ("mailbox.full", True),
            ("mail", False),
            ("mailbox.full.long", False),
            ("process", False),
        ],
    )
    def test_prefix_ends_at_a_dot(self, seen, note, prefix, told):
        """`mail` does not get `mailbox.full`."""
        telemetry.attach(prefix, note)

        telemetry.emit("mailbox.full")

        assert told == bool(seen)


class TestRaisingHandler:
    def test_is_logged_once_and_detached(self, seen, caplog):
        """The second event does not reach it."""

        def broken(event, _measurements):
            seen.append(event)
            raise ValueError(event)

        telemetry.attach("process", broken)

        with caplog.at_level(logging.WARNING, "otp_runtime.telemetry"):
            telemetry.emit("process.start")
            telemetry.emit("process.exit")

        assert ["process.start"] == seen
        (record,) = caplog.records
        assert "raised and was detached" in record.getMessage()
        assert record.exc_info[0] is ValueError

    def test_does_not_stop_the_others(self, seen, note, caplog):
        """Those attached after it are still told."""
        telemetry.attach("", lambda *_: 1 / 0)
        telemetry.attach("", note)

        telemetry.emit("process.start")

        assert [("process.start", {})] == seen
        assert 1 == len(caplog.records)

    def test_exit_signal_passes_through(self):
        """What unwinds a process is not an Exception, and the handler stays attached."""

        def ends(_event, _measurements):
            raise SystemExit(3)

        telemetry.attach("", ends)

        for _ in range(2):
            with pytest.raises(SystemExit):
                telemetry.emit("process.start")


class TestDetach:
    def test_stops_the_events(self, seen, note):
        """After it returns, nothing more is told."""
        detach = telemetry.attach("", note)
        detach()

        telemetry.emit("process.start")

        assert [] == seen

    def test_twice_is_harmless(self, seen, note):
        """And takes nobody else's attachment away, not even one of the same handler."""
        detach = telemetry.attach("", note)
        telemetry.attach("", note)
        detach()
        detach()

        telemetry.emit("process.start")

        assert [("process.start", {})] == seen

    def test_inside_a_handler(self, seen):
        """A handler may detach itself; the event in hand still reaches the others."""
        detach = telemetry.attach("", lambda *_: (seen.append("once"), detach()))
        telemetry.attach("", lambda *_: seen.append("always"))

        telemetry.emit("process.start")
        telemetry.emit("process.exit")

        assert ["once", "always", "always"] == seen


class TestFork:
    def test_child_of_a_thread_holding_the_lock_can_attach(self, note):
        """The lock is renewed in a forked child, whose other threads are gone."""
        with telemetry._changing:
            pid = os.fork()
            if pid == 0:
                renewed = telemetry._changing.acquire(blocking=False)
                os._exit(0 if renewed else 1)

        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
