"""Servers with a watchdog that do what servers do, for long: none of them is ever taken for hung."""

import itertools
import time

import pytest

from otp_runtime import Agent, Down, GenServer, NoReply, Reply, Supervisor, Watchdog, process, system
from otp_runtime.errors import ReceiveTimeout

WATCHDOG = Watchdog(busy=1.0, grace=1.0)
SERVERS = 25
"""Of each kind."""


class Idle(GenServer):
    """Does nothing until it is asked."""

    def handle_call(self, request, client, state):
        return Reply(request, state)


class Ticking(Idle):
    """Sends itself a message every tenth of a second."""

    def init(self, arg):
        process.send_after(process.self(), "tick", 0.1)
        return 0

    def handle_info(self, message, ticks):
        process.send_after(process.self(), "tick", 0.1)
        return NoReply(ticks + 1, hibernate=ticks % 10 == 0)


class Awaiting(GenServer):
    """An async server that is mostly asleep."""

    async def init(self, arg):
        return arg

    async def handle_call(self, request, client, state):
        return Reply(request, state)


def children():
    options = {"watchdog": WATCHDOG}
    for number in range(SERVERS):
        yield Idle.child_spec(name=f"idle{number}", **options)
        yield Ticking.child_spec(name=f"ticking{number}", **options)
        yield Awaiting.child_spec(name=f"awaiting{number}", **options)
        yield Agent.child_spec(dict, name=f"suspended{number}", **options)


@pytest.mark.timeout(700)
@pytest.mark.parametrize(
    "seconds", [pytest.param(6.0, marks=pytest.mark.slow), pytest.param(600.0, marks=pytest.mark.stress)]
)
def test_no_server_is_taken_for_hung(otp_node, seconds):
    """Idle ones, ticking ones, async ones, suspended ones with messages waiting; and now and then each is asked."""
    with Supervisor.start_link(list(children()), strategy="one_for_one", max_restarts=0) as sup:
        refs = {process.monitor(child.pid): child.id for child in Supervisor.which_children(sup)}
        for number in range(SERVERS):
            system.suspend(f"suspended{number}")
            Agent.cast(f"suspended{number}", dict)
        until = time.monotonic() + seconds
        asked = itertools.cycle(f"{kind}{number}" for number in range(SERVERS) for kind in ("idle", "awaiting"))
        died = []
        while not died and time.monotonic() < until:
            GenServer.call(next(asked), "still there?")
            try:
                died.append(process.receive(lambda message: isinstance(message, Down), 0.2))
            except ReceiveTimeout:
                continue

        assert [] == [(refs[down.ref], down.reason) for down in died]
