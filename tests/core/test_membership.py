"""Which nodes are there, and when this one has to give up: decisions alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.membership import (
    MARGIN,
    Broken,
    Disconnected,
    Fence,
    Gone,
    Joined,
    Lost,
    Member,
    Reconcile,
    Refused,
    Renewed,
    Seen,
    State,
    Tick,
    Unreachable,
    Up,
    fence_due,
    renew_due,
    step,
)

LEASE = 5.0


def run(*events, at=1.0):
    """The state after `events`, and the actions of the last."""
    state, actions = State("a@h", LEASE), ()
    for event in events:
        state, actions = step(state, event, at)
    return state, actions


JOINED = Joined(7, 0.0)
B = Seen("b@h", 8, 1)
B_IS_UP = Up("b@h", Member(8, 1))


class TestSeen:
    def test_a_new_node(self):
        """Is up."""
        assert run(JOINED, B)[1] == (B_IS_UP,)

    def test_a_renewal(self):
        """Is no news."""
        assert run(JOINED, B, B)[1] == ()

    def test_itself(self):
        """Is no other node."""
        assert run(JOINED, Seen("a@h", 7, 1))[1] == ()

    def test_before_joining(self):
        """Nobody is told of anybody."""
        assert run(B)[1] == ()

    def test_a_new_epoch(self):
        """The old one is lost first."""
        assert run(JOINED, B, Seen("b@h", 9, 2))[1] == (
            Lost("b@h", 8, "noconnection"),
            Up("b@h", Member(9, 2)),
        )

    def test_an_epoch_that_is_over(self):
        """Never comes back."""
        assert run(JOINED, B, Gone("b@h"), B)[1] == ()
        assert run(JOINED, Seen("b@h", 9, 2), B)[1] == ()


class TestGone:
    def test_once(self):
        """A node is lost once."""
        assert run(JOINED, B, Gone("b@h"))[1] == (Lost("b@h", 8, "noconnection"),)
        assert run(JOINED, B, Gone("b@h"), Gone("b@h"))[1] == ()
        assert run(JOINED, B, Unreachable("b@h", 8), Gone("b@h"))[1] == ()


class TestUnreachable:
    def test_is_lost(self):
        """At once; the record may say so later."""
        state, actions = run(JOINED, B, Unreachable("b@h", 8))

        assert (actions, state.members["b@h"].is_reachable) == ((Lost("b@h", 8, "noconnection"),), False)

    def test_of_an_earlier_epoch(self):
        """Says nothing of this one."""
        assert run(JOINED, Seen("b@h", 9, 2), Unreachable("b@h", 8))[1] == ()

    def test_seen_again(self):
        """Only the way was cut: the other has to break too, and both meet anew."""
        _, actions = run(JOINED, B, Unreachable("b@h", 8), B)

        assert actions == (Reconcile("b@h", Member(8, 1)), B_IS_UP)

    def test_broken(self):
        """The other side of it."""
        assert run(JOINED, B, Broken("b@h", 8))[1] == (Lost("b@h", 8, "noconnection"), B_IS_UP)
        assert run(JOINED, B, Broken("b@h", 7))[1] == ()


class TestLease:
    def test_renewed_in_time(self):
        """A third of the lease after the last time; fenced a little before its end."""
        state, _ = run(JOINED, Renewed(2.0))

        assert (renew_due(state), fence_due(state)) == (2.0 + LEASE / 3, 2.0 + LEASE * (1 - MARGIN))

    def test_fence(self):
        """All are lost, and what has a name is stopped."""
        state, actions = step(run(JOINED, B)[0], Tick(), LEASE)

        assert actions == (Lost("b@h", 8, "noconnection"), Fence())
        assert (state.epoch, fence_due(state)) == (None, None)

    def test_not_before(self):
        """A tick is no reason."""
        assert step(run(JOINED, B)[0], Tick(), LEASE * (1 - MARGIN) - 0.01)[1] == ()

    def test_refused(self):
        """The record is somebody else's: no need to wait."""
        assert run(JOINED, Refused())[1] == (Fence(),)

    def test_disconnected(self):
        """All are lost at once, the names only when the lease is over."""
        state, actions = run(JOINED, B, Disconnected())
        assert actions == (Lost("b@h", 8, "noconnection"),)

        assert step(state, Tick(), 1.0)[1] == ()
        assert step(state, Tick(), LEASE)[1] == (Fence(),)

    def test_joined_again_in_time(self):
        """No fence; the nodes are met anew."""
        state, actions = run(JOINED, B, Disconnected(), Joined(12, 3.0))
        assert actions == ()

        assert step(state, Tick(), LEASE)[1] == ()
        assert step(state, B, 4.0)[1] == (B_IS_UP,)

    def test_nothing_to_fence(self):
        """Who holds nothing gives nothing up."""
        assert run(Tick(), at=100.0)[1] == ()


NODES = st.sampled_from(["b@h", "c@h"])
EPOCHS = st.integers(1, 5)
EVENTS = st.one_of(
    st.builds(Joined, EPOCHS, st.just(0.0)),
    st.builds(Seen, NODES, EPOCHS, st.just(1)),
    st.builds(Gone, NODES),
    st.builds(Unreachable, NODES, EPOCHS),
    st.builds(Broken, NODES, EPOCHS),
    st.just(Disconnected()),
    st.just(Refused()),
    st.builds(Tick),
)


class TestAlways:
    @given(st.lists(EVENTS, max_size=40))
    def test_up_and_lost_take_turns(self, events):
        """Whatever happens: nobody is told twice that a node is there, or that it is lost."""
        state, up = State("a@h", LEASE), {}
        for now, event in enumerate(events):
            state, actions = step(state, event, float(now))
            for action in actions:
                match action:
                    case Up(node, member):
                        assert node not in up
                        up[node] = member.epoch
                    case Lost(node, epoch, _reason):
                        assert up.pop(node) == epoch

        assert up == {node: member.epoch for node, member in state.members.items() if member.is_reachable}


@pytest.mark.parametrize("event", [Renewed(1.0), Disconnected(), Gone("b@h"), Broken("b@h", 1)])
def test_late_events(event):
    """What comes when nothing is held changes nothing."""
    assert run(event) == (State("a@h", LEASE), ())
