"""Trees for `chaos`: the tests start this module's names in programs of their own."""

from otp_runtime import Backoff, DynamicSupervisor, GenServer, Reply, Supervisor, Watchdog

LASTING = {"max_restarts": 1_000, "max_seconds": 5}


class Keeper(GenServer):
    def init(self, arg):
        return arg

    def handle_call(self, request, client, state):
        return Reply(request, state)


def keepers(*names, **options):
    return [Keeper.child_spec(name, name=name, id=name, **options) for name in names]


def garden():
    """Every sort of server: those that come back after anything, after some, after nothing."""
    dynamic = DynamicSupervisor.child_spec(name="guests")
    children = [
        Supervisor.child_spec(keepers("apple", "pear"), strategy="one_for_all", name="trees", **LASTING),
        Keeper.child_spec(None, id="nameless"),
        *keepers("oak", restart="transient"),
        *keepers("leaf", restart="temporary"),
        *keepers("dog", watchdog=Watchdog(busy=0.3, grace=0.1)),
        dynamic,
    ]
    pid = Supervisor.start_link(children, strategy="one_for_one", name="garden", **LASTING)
    DynamicSupervisor.start_child("guests", Keeper.child_spec(None, name="guest"))
    Keeper.start(None, name="stray")
    return pid


def plain():
    return Supervisor.start_link(keepers("one", "two"), strategy="one_for_one", name="plain", **LASTING)


def brittle():
    """A supervisor that survives nothing, below one that starts it again."""
    inner = Supervisor.child_spec(keepers("glass"), strategy="one_for_one", name="inner", max_restarts=0)
    return Supervisor.start_link([inner], strategy="one_for_one", name="outer", **LASTING)


def hopeless():
    return Supervisor.start_link(keepers("glass"), strategy="one_for_one", name="alone", max_restarts=0)


def slow():
    """Its server comes back, but not today."""
    return Supervisor.start_link(keepers("snail", backoff=Backoff(first=600.0, cap=600.0)), strategy="one_for_one")
