"""Two looks at a node, and what changed between them."""

import time

import pytest

from otp_runtime import GenServer, NoReply, Reply, Watchdog
from otp_runtime.observe.activity import Watcher
from otp_runtime.process.current import current
from otp_runtime.testing import freeze, sigkill, thaw
from tests.process.shared_node import _nothing_left, me, otp_node

LOOKS_SECONDS = 10.0


class Worker(GenServer):
    """Spins, or waits deaf, for as long as it lives."""

    def init(self, arg):
        return arg

    def handle_cast(self, request, state):
        while request == "spin":
            pass
        return NoReply(state)

    def handle_call(self, request, client, state):
        return Reply(request, state)


def watcher():
    return Watcher(current().directory)


def look_until(looks, pid, is_done):
    """Look again and again until it is done or time is up; give what was seen of one process."""
    deadline = time.monotonic() + LOOKS_SECONDS
    seen = [of(looks.look(), pid)]
    while not is_done(seen[-1]) and time.monotonic() < deadline:
        seen.append(of(looks.look(), pid))
    return seen


def of(picture, pid):
    return next(one for one in picture.activities if one.process.id == pid.id)


@pytest.mark.usefixtures("me")
class TestLook:
    def test_the_first_has_nothing_to_compare_with(self):
        """What goes by the second is None."""
        picture = watcher().look()

        assert (None, None) == (picture.seconds, picture.cpu_percent)
        assert {(None, None)} == {(one.cpu_percent, one.handled_per_second) for one in picture.activities}

    def test_messages_by_the_second(self):
        """Those that were handed to callbacks since the look before."""
        with Worker.start_link() as pid:
            looks = watcher()
            looks.look()
            for number in range(20):
                GenServer.call(pid, number)
            picture = looks.look()

        assert 20 == pytest.approx(of(picture, pid).handled_per_second * picture.seconds, abs=1)

    def test_processor(self):
        """In percent of one core."""
        pid = Worker.start()
        GenServer.cast(pid, "spin")
        seen = look_until(watcher(), pid, lambda one: one.cpu_percent)
        sigkill(pid)

        assert seen[-1].cpu_percent > 0

    def test_memory_of_each_alone(self):
        """Unique is less than its share, as pages that several have count in that."""
        with Worker.start_link() as pid:
            one = of(watcher().look(), pid)

        assert 0 < one.unique_bytes < one.share_bytes < one.process.rss_bytes

    def test_what_waits_in_a_mailbox_that_nobody_reads(self):
        """No process is asked: one that is stopped shows as well."""
        with Worker.start_link() as pid:
            freeze(pid)
            GenServer.cast(pid, "a word")
            one = of(watcher().look(), pid)
            thaw(pid)

        assert ("stopped", True) == (one.state, one.mailbox_bytes > 0)

    def test_one_that_has_ended_is_gone(self):
        """And whoever came since has used what it has used since."""
        looks = watcher()
        with Worker.start_link() as old:
            looks.look()
        with Worker.start_link() as young:
            picture = looks.look()

        assert old.id not in {one.process.id for one in picture.activities}
        assert of(picture, young).cpu_percent >= 0.0


@pytest.mark.usefixtures("me")
class TestHung:
    @pytest.mark.slow
    def test_longer_than_its_watchdog_allows(self):
        """First busy, then hung, then its watchdog ends it."""
        pid = Worker.start(None, watchdog=Watchdog(busy=0.5))
        GenServer.cast(pid, "spin")
        states = [one.state for one in look_until(watcher(), pid, lambda one: one.state == "hung")]
        sigkill(pid)

        assert {"busy", "hung"} == set(states) - {"idle"}
        assert states.index("busy") < states.index("hung")

    def test_without_one_a_busy_server_is_busy(self):
        """For the time that a watchdog allows when nothing else is said."""
        pid = Worker.start()
        GenServer.cast(pid, "spin")
        seen = look_until(watcher(), pid, lambda one: one.state == "busy")
        sigkill(pid)

        assert "busy" == seen[-1].state


__all__ = ["_nothing_left", "me", "otp_node"]
