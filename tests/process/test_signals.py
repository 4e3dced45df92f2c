"""Exit signals, links and monitors: OTP's whole table, between real processes."""

import pytest

from otp_runtime import Down, Exit, NoProcess, ServerDown, process
from otp_runtime.testing import assert_receive, freeze, gate, sigkill, thaw
from tests.process import plain

ABNORMAL = ("shutdown", ("shutdown", "moving"), "custom", "killed", "noproc", ("a", 1, [2, None]))


def down_of(ref):
    return assert_receive(lambda message: isinstance(message, Down) and message.ref == ref, 5.0)


@pytest.fixture
def trapping(me):
    """A process that traps exits and tells of what it gets."""
    pid = process.spawn(plain.trap, me)
    assert_receive("ready", 5.0)
    return pid


@pytest.fixture
def lingering(me):
    """A process that does not."""
    return process.spawn(plain.linger)


class TestExitToOneThatDoesNotTrap:
    @pytest.mark.parametrize("reason", ABNORMAL)
    def test_dies_of_it(self, lingering, reason):
        """Of any reason but the two."""
        ref = process.monitor(lingering)
        process.exit(lingering, reason)

        assert down_of(ref) == Down(ref, lingering, reason)

    def test_kill(self, lingering):
        """Dies `killed`."""
        ref = process.monitor(lingering)
        process.exit(lingering, "kill")

        assert down_of(ref).reason == "killed"

    def test_normal(self, me):
        """Nothing happens."""
        pid = process.spawn(plain.echo)
        process.exit(pid, "normal")
        process.send(pid, (me, "still there"))

        assert assert_receive("still there", 5.0)

    def test_the_dead(self, me):
        """Ignored."""
        pid = process.spawn(int)
        pid.wait(5.0)

        assert process.exit(pid, "custom") is None

    def test_twice(self, lingering):
        """It dies once, of the first."""
        ref = process.monitor(lingering)
        process.exit(lingering, "first")
        process.exit(lingering, "second")

        assert down_of(ref).reason == "first"
        assert process.flush() == []

    def test_while_it_is_born(self, me):
        """In its first moments too, the reason is the signal's."""
        reasons = []
        for _ in range(20):
            pid = process.spawn(plain.linger)
            process.exit(pid, "custom")
            reasons.append(pid.wait(5.0))

        assert reasons == ["custom"] * 20

    @pytest.mark.parametrize("function", [plain.swallow_everything, plain.swallow_while_blocked])
    def test_a_bare_except_does_not_save_it(self, me, function):
        """A loop that catches everything is dead within a second, of the exact reason."""
        pid = process.spawn(function, me)
        assert_receive("busy", 5.0)
        process.exit(pid, "custom")

        assert pid.wait(2.0) == "custom"


class TestExitToOneThatTraps:
    @pytest.mark.parametrize("reason", ["normal", *ABNORMAL])
    def test_gets_a_message(self, me, trapping, reason):
        """Normal too."""
        process.exit(trapping, reason)

        assert assert_receive(("got", ...), 5.0) == ("got", Exit(me, reason))

    def test_kill(self, me, trapping):
        """Cannot be trapped."""
        ref = process.monitor(trapping)
        process.exit(trapping, "kill")

        assert down_of(ref).reason == "killed"

    def test_in_mailbox_order(self, me, trapping):
        """The signal stays behind what was sent before it."""
        for number in range(3):
            process.send(trapping, number)
        process.exit(trapping, "custom")

        assert [assert_receive(("got", ...), 5.0)[1] for _ in range(4)] == [0, 1, 2, Exit(me, "custom")]


class TestExitToOneself:
    def test_normal_untrapped(self, me):
        """Only a process itself can end itself `normal`."""
        _pid, ref = process.spawn_monitor(lambda: (process.exit(process.self(), "normal"), process.send(me, "alive")))

        assert down_of(ref).reason == "normal"
        assert process.flush() == []

    def test_normal_trapped(self, me):
        """A message."""

        def myself():
            process.trap_exit(True)
            process.exit(process.self(), "normal")
            process.send(me, process.receive(timeout=0))

        pid = process.spawn(myself)

        assert assert_receive(Exit, 5.0) == Exit(pid, "normal")

    @pytest.mark.parametrize(("sent", "seen"), [("custom", "custom"), ("kill", "killed")])
    def test_other_untrapped(self, me, sent, seen):
        """It dies there and then."""
        _pid, ref = process.spawn_monitor(lambda: (process.exit(process.self(), sent), process.send(me, "alive")))

        assert down_of(ref).reason == seen
        assert process.flush() == []

    def test_kill_trapped(self, me):
        """Dies `killed`."""
        _pid, ref = process.spawn_monitor(
            lambda: (process.trap_exit(True), process.exit(process.self(), "kill"), process.send(me, "alive"))
        )

        assert down_of(ref).reason == "killed"


class TestTrapExit:
    def test_gives_the_old_value(self, me):
        """In a process."""
        process.spawn(lambda: process.send(me, [process.trap_exit(True), process.trap_exit(False)]))

        assert assert_receive(list, 5.0) == [False, True]

    def test_a_program_traps_always(self, me):
        """Nothing supervises it."""
        with pytest.raises(ValueError, match="always traps exits"):
            process.trap_exit(False)

        assert process.trap_exit(True) is True


class TestLink:
    @pytest.mark.parametrize("reason", [*ABNORMAL, "kill"])
    def test_tells_one_that_traps(self, me, reason):
        """The exact reason; one that ended with `kill` says so, and can be trapped."""
        pid = process.spawn(plain.on_order, reason)
        process.link(pid)
        process.send(pid, "go")

        assert assert_receive(Exit, 5.0) == Exit(pid, reason)

    def test_tells_of_a_normal_end(self, me):
        """Another process that traps is told of that too."""
        pid = process.spawn(plain.on_order, "normal")
        process.spawn(plain.link_then_tell, pid, me)
        assert_receive("ready", 5.0)
        process.send(pid, "go")

        assert assert_receive(("got", ...), 5.0)[1] == Exit(pid, "normal")

    def test_of_a_killed_one(self, me, lingering):
        """Says `killed`, and can be trapped."""
        process.link(lingering)
        process.exit(lingering, "kill")

        assert assert_receive(Exit, 5.0) == Exit(lingering, "killed")

    @pytest.mark.parametrize("reason", ABNORMAL)
    def test_takes_one_that_does_not_trap_along(self, me, reason):
        """With the same reason."""
        pid = process.spawn(plain.on_order, reason)
        other = process.spawn(plain.link_untrapped, pid, me)
        assert_receive("ready", 5.0)
        process.send(pid, "go")

        assert other.wait(5.0) == reason

    @pytest.mark.slow
    @pytest.mark.parametrize("busy", [plain.compute, plain.sleep, plain.swallow, plain.work_here_and_there])
    def test_takes_one_along_that_is_busy(self, me, lingering, busy):
        """It looks at no mailbox, and may swallow what interrupts it."""
        other = process.spawn(plain.link_then, lingering, me, busy)
        assert_receive("busy", 5.0)
        process.exit(lingering, "kill")

        assert other.wait(5.0) == "killed"

    def test_one_that_traps_is_not_interrupted(self, me, lingering):
        """It finds the message when it looks."""
        with gate() as hold:
            process.spawn(plain.trap_and_look_later, lingering, me, hold)
            hold.wait_arrival()
            process.exit(lingering, "kill")
            lingering.wait(5.0)
            hold.open()

            assert assert_receive(("got", ...), 5.0) == ("got", Exit(lingering, "killed"))

    def test_one_that_has_unlinked_is_not_interrupted(self, me, lingering):
        """The kernel knocks, and it is nothing."""
        with gate() as hold:
            process.spawn(plain.link_and_unlink, lingering, me, hold)
            hold.wait_arrival()
            process.exit(lingering, "kill")
            lingering.wait(5.0)
            hold.open()

            assert assert_receive(("got", ...), 5.0) == ("got", "through")

    def test_a_normal_end_takes_nobody_along(self, me):
        """The survivor goes on."""
        pid = process.spawn(plain.on_order, "normal")
        other = process.spawn(plain.link_untrapped, pid, me)
        assert_receive("ready", 5.0)
        process.send(pid, "go")
        pid.wait(5.0)

        assert process.alive(other)

    def test_works_both_ways(self, me):
        """Whoever made it."""
        pid = process.spawn(plain.linger)
        other = process.spawn(plain.link_untrapped, pid, me)
        assert_receive("ready", 5.0)
        process.exit(other, "custom")

        assert pid.wait(5.0) == "custom"

    def test_twice_is_once(self, me, lingering):
        """One link per pair: one signal, and one unlink undoes it."""
        process.link(lingering)
        process.link(lingering)
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert process.flush() == [Exit(lingering, "custom")]

    def test_to_oneself(self, me):
        """Is none."""
        assert process.link(me) is None
        assert process.flush() == []

    def test_to_the_dead(self, me):
        """The signal comes at once."""
        pid = process.spawn(int)
        pid.wait(5.0)
        process.link(pid)

        assert process.receive(timeout=0) == Exit(pid, "noproc")

    def test_a_chain(self, me):
        """The end of one ends all that hang together."""
        first = process.spawn(plain.linger)
        chain = [first]
        for _ in range(3):
            chain.append(process.spawn(plain.link_untrapped, chain[-1], me))
            assert_receive("ready", 5.0)
        process.exit(first, "custom")

        assert [pid.wait(5.0) for pid in chain] == ["custom"] * 4

    def test_kill_minus_nine(self, me, lingering):
        """What the world does to one is told as what it was."""
        from otp_runtime import Signalled

        process.link(lingering)
        sigkill(lingering)

        assert assert_receive(Exit, 5.0) == Exit(lingering, Signalled("SIGKILL"))


class TestUnlink:
    def test_nothing_comes(self, me, lingering):
        """After it."""
        process.link(lingering)
        process.unlink(lingering)
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert process.flush() == []

    @pytest.mark.parametrize("knew_of_the_link", [True, False])
    def test_from_the_other_side(self, me, knew_of_the_link):
        """It holds however late the link, its undoing and the death of who undid it are looked at."""
        other_end = process.spawn(plain.echo_to, me)

        def link_and_undo():
            process.link(other_end)
            process.send(me, "linked")
            process.receive("undo")
            process.unlink(other_end)
            process.send(me, "undone")
            plain.linger()

        if not knew_of_the_link:
            freeze(other_end)
        other = process.spawn(link_and_undo)
        assert_receive("linked", 5.0)
        if knew_of_the_link:
            process.send(other_end, "in between")
            assert_receive("in between", 5.0)
            freeze(other_end)
        process.send(other, "undo")
        assert_receive("undone", 5.0)
        process.exit(other, "custom")
        other.wait(5.0)
        thaw(other_end)
        process.send(other_end, "are you there?")

        assert "are you there?" == assert_receive(str, 5.0)

    def test_a_signal_that_has_come_stays(self, me, lingering):
        """It may lie in the mailbox already."""
        process.link(lingering)
        process.exit(lingering, "custom")
        lingering.wait(5.0)
        process.unlink(lingering)

        assert process.flush() == [Exit(lingering, "custom")]

    def test_a_stranger(self, me, lingering):
        """Nothing happens."""
        assert process.unlink(lingering) is None


class TestMonitor:
    @pytest.mark.parametrize("reason", ["normal", *ABNORMAL, "kill"])
    def test_tells_the_reason(self, me, reason):
        """Whatever it is."""
        pid, ref = process.spawn_monitor(plain.on_order, reason)
        process.send(pid, "go")

        assert down_of(ref) == Down(ref, pid, reason)

    def test_once(self, me):
        """One Down; then it is gone."""
        pid, ref = process.spawn_monitor(int)
        down_of(ref)
        pid.wait(5.0)

        assert process.flush() == []

    def test_stack(self, me, lingering):
        """As many Downs as monitors, each with its own reference."""
        refs = [process.monitor(lingering) for _ in range(3)]
        process.exit(lingering, "custom")

        assert {down_of(ref).ref for ref in refs} == set(refs)
        assert len(set(refs)) == 3

    def test_the_dead(self, me):
        """At once."""
        pid = process.spawn(int)
        pid.wait(5.0)
        ref = process.monitor(pid)

        assert process.receive(timeout=0) == Down(ref, pid, "noproc")

    def test_an_unknown_name(self, me):
        """At once."""
        ref = process.monitor("nobody")
        down = process.receive(timeout=0)

        assert (down.ref, down.reason) == (ref, "noproc")

    def test_by_name_stays_on_the_process(self, me, lingering):
        """That had the name when it was made."""
        process.register(lingering, "watched")
        ref = process.monitor("watched")
        process.unregister("watched")
        process.exit(lingering, "custom")

        assert down_of(ref) == Down(ref, lingering, "custom")

    def test_does_not_tell_the_other(self, me):
        """It works one way."""
        pid = process.spawn(plain.echo)

        def watch_and_end():
            process.monitor(pid)

        process.spawn(watch_and_end).wait(5.0)
        process.send(pid, (me, "still there"))

        assert assert_receive("still there", 5.0)

    def test_comes_after_what_the_dead_had_sent(self, me):
        """All of it."""
        for _ in range(5):
            pid, ref = process.spawn_monitor(plain.send_numbered, me, 100)
            down_of(ref)

            assert [number for who, number in process.flush() if who == pid] == list(range(100))

    def test_comes_after_a_large_message(self, me):
        """Of the dead one's."""
        _pid, ref = process.spawn_monitor(lambda: process.send(me, bytes(3 << 20)))
        down_of(ref)

        assert process.flush() == [bytes(3 << 20)]

    def test_the_name_is_free_after_it(self, me):
        """And can be taken at once."""
        for _ in range(10):
            pid, ref = process.spawn_monitor(plain.on_order, "normal")
            process.register(pid, "taken in turn")
            process.send(pid, "go")
            down_of(ref)

            assert process.whereis("taken in turn") is None

    def test_a_monitor_and_a_link(self, me, lingering):
        """Both are told."""
        process.link(lingering)
        ref = process.monitor(lingering)
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert set(process.flush()) == {Exit(lingering, "custom"), Down(ref, lingering, "custom")}


class TestDemonitor:
    def test_no_down(self, me, lingering):
        """After it; it was there."""
        ref = process.monitor(lingering)
        was_there = process.demonitor(ref)
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert (was_there, process.flush()) == (True, [])

    def test_too_late(self, me, lingering):
        """The Down stays; it says that the monitor was gone."""
        ref = process.monitor(lingering)
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert process.demonitor(ref) is False
        assert process.flush() == [Down(ref, lingering, "custom")]

    def test_flush(self, me, lingering):
        """Takes only its own Down out."""
        refs = [process.monitor(lingering) for _ in range(2)]
        process.send(me, "other")
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert process.demonitor(refs[0], flush=True) is False
        assert set(process.flush()) == {"other", Down(refs[1], lingering, "custom")}

    def test_one_of_several(self, me, lingering):
        """The others stay."""
        refs = [process.monitor(lingering) for _ in range(2)]
        process.demonitor(refs[0])
        process.exit(lingering, "custom")
        lingering.wait(5.0)

        assert process.flush() == [Down(refs[1], lingering, "custom")]

    def test_twice(self, me, lingering):
        """It was not there any more."""
        ref = process.monitor(lingering)

        assert [process.demonitor(ref), process.demonitor(ref)] == [True, False]


class TestCallToADeadPid:
    def test_says_that_nobody_is_there(self, me):
        """At once, not after the time-out."""
        from otp_runtime import GenServer

        pid = process.spawn(int)
        pid.wait(5.0)
        with pytest.raises(NoProcess):
            GenServer.call(pid, "hello", timeout=60.0)

    def test_one_that_dies_in_the_call(self, me):
        """Its reason, normal too."""
        from otp_runtime import GenServer

        for reason in ("normal", "custom"):
            pid = process.spawn(lambda reason=reason: (process.receive(), plain.exit_with(reason)))
            with pytest.raises(ServerDown) as error:
                GenServer.call(pid, "hello", timeout=60.0)

            assert error.value.reason == reason
