"""Applications for `run`: the tests start this module's names in programs of their own."""

import signal
from typing import ClassVar

from otp_runtime import Application, GenServer, Limits, NoReply, Reply, Supervisor, application


class Counter(GenServer):
    def init(self, start):
        return start

    def handle_cast(self, request, state):
        match request:
            case "inc":
                return NoReply(state + 1)
            case ("add", by):
                return NoReply(state + by)
            case "boom":
                raise ValueError("boom")
            case "pause":
                signal.pause()
        return NoReply(state)

    def handle_call(self, request, client, state):
        match request:
            case "val":
                return Reply(state, state)
            case "pair":
                return Reply(("a", {1}), state)
            case "refuse":
                return Reply.error(KeyError("sold out"), state)
            case "leave":
                raise ValueError("gone")
            case ("odd", text):
                raise ValueError(text)
        return Reply(("unknown", request), state)


class Polite(Counter):
    """Says when it is stopped."""

    trap_exit = True

    def terminate(self, reason, state):
        print(f"{state} ends: {reason}", flush=True)


class Stubborn(Counter):
    """Says when it is asked to stop, and then does not."""

    trap_exit = True
    shutdown = None

    def terminate(self, reason, state):
        print("no", flush=True)
        while True:
            signal.pause()


class Patient(Counter):
    """Is asked to leave, and stays."""

    def handle_call(self, request, client, state):
        return Reply("I stay", state) if request == "leave" else super().handle_call(request, client, state)


class BadStart(Counter):
    def init(self, start):
        raise ValueError("no luck")


class Shop(Supervisor):
    def init(self, arg):
        return Supervisor.spec(children, strategy="one_for_one", max_restarts=20)


class Depot(Application):
    env: ClassVar = {"depot": 1}

    def start(self, type, args):
        spec = Counter.child_spec(application.get_env(Depot, "depot"), name="depot")
        return Supervisor.start_link([spec], strategy="one_for_one", max_restarts=0)


class Store(Application):
    applications = (Depot,)
    env: ClassVar = {"till": 2}

    def start(self, type, args):
        spec = Counter.child_spec(application.get_env(Store, "till"), name="till")
        return Supervisor.start_link([spec], strategy="one_for_one", max_restarts=0)


class Library(Application):
    pass


children = [Counter.child_spec(1, name="counter"), Polite.child_spec(2, name="polite", limits=Limits(rss_hard="1GB"))]
spec = Counter.child_spec(1, name="counter")
durable = [Counter.child_spec(0, name="keeper", durable=True)]
polite = [Polite.child_spec(number, name=f"polite{number}") for number in (1, 2, 3)]
stubborn = [Stubborn.child_spec(0, name="stubborn")]
broken = [BadStart.child_spec(0)]
number = 7


def shop():
    return Shop.start_link(name="shop")


def lasting():
    till = Patient.child_spec(0, name="till", mailbox="durable", redeliver=1)
    other = Counter.child_spec(0, name="other", mailbox="durable")
    return Supervisor.start_link([till, other], strategy="one_for_one", max_restarts=1000)


def quiet():
    Supervisor.start_link(children, strategy="one_for_one")


def nothing():
    pass


def make_children():
    return children


def fragile():
    return Supervisor.start_link(children, strategy="one_for_one", max_restarts=0, name="fragile")


def lone():
    return Counter.start_link(5, name="lone")
