"""What is refused before anything starts, and what a full mailbox does."""

import time

import pytest

from otp_runtime import BadChildSpec, GenServer, MailboxFull, NoReply, Reply, process
from otp_runtime.behaviours.gen_server import RESERVED
from otp_runtime.testing import gate
from tests.behaviours.servers import Scripted

call, cast = GenServer.call, GenServer.cast
SENT = 400  # more than any pipe holds of them


class TestClassCreation:
    @pytest.mark.parametrize("name", sorted(RESERVED))
    def test_a_reserved_name(self, name):
        """Would hide what the library uses: says so, and what to write instead."""
        with pytest.raises(TypeError, match=f"Wrong.{name} would hide GenServer.{name}.*name it otherwise"):
            type("Wrong", (GenServer,), {name: lambda self: None, "__qualname__": "Wrong"})

    @pytest.mark.parametrize("name", ["restart", "shutdown", "options", "trap_exit"])
    def test_a_setting_as_a_method(self, name):
        """Is a mistake."""
        with pytest.raises(TypeError, match=f"{name} is a setting of the class, not a method"):
            type("Wrong", (GenServer,), {name: lambda self: None})

    def test_a_constructor_with_parameters(self):
        """The library makes the object."""
        with pytest.raises(TypeError, match="take them in init"):
            type("Wrong", (GenServer,), {"__init__": lambda self, argument: None})

    def test_a_constructor_without(self):
        """Is allowed."""
        assert type("Right", (GenServer,), {"__init__": lambda self, argument=1, *more, **others: None})

    @pytest.mark.parametrize("name", ["start_link", "child_spec"])
    def test_what_may_be_overridden(self, name):
        """OTP's idiom."""
        assert type("Right", (GenServer,), {name: classmethod(lambda cls, arg: None)})


class TestStartOptions:
    @pytest.mark.parametrize("start", ["start", "start_link", "start_monitor", "child_spec"])
    def test_an_unknown_one(self, start):
        """Says which and what there is."""
        with pytest.raises(BadChildSpec, match="allowed: one of the options overflow") as error:
            getattr(Scripted, start)(0, overflo="block")

        assert (error.value.field, error.value.value) == ("overflo", "block")

    @pytest.mark.parametrize("value", ["drop", None, 1])
    def test_a_wrong_policy(self, value):
        """Says what is allowed."""
        with pytest.raises(BadChildSpec, match="'block', 'drop_newest' or 'error'") as error:
            Scripted.start_link(0, overflow=value)

        assert (error.value.field, error.value.value) == ("overflow", value)

    @pytest.mark.parametrize(
        ("field", "value"), [("restart", "always"), ("shutdown", -1), ("shutdown", "kill"), ("significant", 1)]
    )
    def test_a_wrong_field_of_the_spec(self, otp_node, start_supervised, field, value):
        """Found before anything is sent."""
        with pytest.raises(BadChildSpec) as error:
            start_supervised(Scripted.child_spec(0, **{field: value}))

        assert (error.value.field, error.value.value) == (field, value)


class TestChildSpec:
    def test_defaults(self):
        """OTP's; the id is the class's name."""
        spec = Scripted.child_spec(7)

        assert (spec.id, spec.restart, spec.shutdown, spec.type, spec.significant) == (
            "Scripted",
            "permanent",
            5.0,
            "worker",
            False,
        )
        assert spec.start == (Scripted.start_link, (7,), {})

    def test_a_name_is_the_id(self):
        """Unless one is given."""
        assert Scripted.child_spec(name="a").id == "a"
        assert Scripted.child_spec(name="a", id="b").id == "b"

    def test_of_the_class(self):
        """Its attributes are its defaults."""

        class Temporary(GenServer):
            restart = "temporary"
            shutdown = "brutal_kill"

        assert (Temporary.child_spec().restart, Temporary.child_spec().shutdown) == ("temporary", "brutal_kill")
        assert Temporary.child_spec(restart="transient", shutdown=None).restart == "transient"
        assert Temporary.child_spec(shutdown=None).shutdown is None


class TestOverflow:
    """A server that is held; a sender that sends until the mailbox is full."""

    @pytest.fixture(params=["block", "drop_newest", "error"])
    def policy(self, request):
        return request.param

    @pytest.fixture
    def held(self, me, policy):
        with gate() as hold:
            pid = Scripted.start_link(0, overflow=policy)
            cast(pid, lambda state: (hold.wait(), NoReply(state))[1])
            hold.wait_arrival()
            yield pid, hold

    def call_when_there_is_room(self, pid):
        """Ask; a full mailbox under the policy `error` is said to a caller as well."""
        deadline = time.monotonic() + 5.0
        while True:
            try:
                return call(pid, lambda client, state: Reply("alive", state))
            except MailboxFull:
                assert time.monotonic() < deadline

    def fill(self, pid):
        """Send casts until one is refused or time is up; give what was raised, and how many went."""
        for number in range(SENT):
            try:
                cast(pid, lambda state: NoReply(state + 1), timeout=0.02)
            except MailboxFull as error:
                return error, number
        return None, SENT

    def test_of_a_cast(self, policy, held):
        """Waits and gives up, or drops, or says so at once; the server is unharmed."""
        pid, hold = held
        error, accepted = self.fill(pid)
        hold.open()
        self.call_when_there_is_room(pid)
        handled = call(pid, "state")

        assert isinstance(error, MailboxFull) is (policy != "drop_newest")
        assert 0 < handled < SENT
        assert handled == accepted or policy == "drop_newest"

    def test_of_a_send(self, policy, held):
        """As well."""
        pid, hold = held
        self.fill(pid)
        if policy == "drop_newest":
            process.send(pid, bytes(4000), 0.02)
        else:
            with pytest.raises(MailboxFull):
                process.send(pid, bytes(4000), 0.02)
        hold.open()

        assert self.call_when_there_is_room(pid) == "alive"

    def test_of_a_receiver_that_dies(self, policy, held):
        """Whoever waits for room goes on, silently."""
        pid, _hold = held
        self.fill(pid)
        process.exit(pid, "kill")
        pid.wait(5.0)

        assert cast(pid, 1) is None

    def test_a_reply_never_blocks_the_server(self, me):
        """A caller that does not read: its replies wait in the server's memory, others are answered."""
        pid = Scripted.start_link(0)
        with gate() as hold:

            def ask_much():
                for _ in range(200):
                    GenServer.send_request(pid, lambda client, state: Reply(b"x" * 2000, state))
                hold.wait()

            process.spawn(ask_much)
            hold.wait_arrival()

            assert call(pid, lambda client, state: Reply("others", state)) == "others"
