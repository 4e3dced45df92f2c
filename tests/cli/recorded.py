"""Applications whose servers are recorded, for `otp replay`."""

import asyncio
import ctypes
import os
from typing import ClassVar

from otp_runtime import GenServer, GenStateMachine, NoProcess, NoReply, Reply, Stop, Supervisor, Task, process, statem


class Basket(GenServer):
    """Prices by article; some requests are its death."""

    options: ClassVar = {"record": True}

    def init(self, arg):
        return {}

    def handle_cast(self, request, basket):
        match request:
            case ("add", article, price):
                return NoReply({**basket, article: price})
            case "split":
                total = sum(basket.values())
                return NoReply({article: price / total for article, price in basket.items()})
            case "then split":
                return NoReply(basket, continue_="split")
            case "stop":
                return Stop("sold out", basket)
            case "nothing":
                return None
            case "first time only":
                # dies as a server, not when it is replayed
                if process.whereis("basket") is not None:
                    raise ValueError("here")
                return NoReply(basket)

    def handle_continue(self, term, basket):
        return self.handle_cast(term, basket)

    def handle_call(self, request, client, basket):
        match request:
            case "ask the till":
                try:
                    GenServer.call("till", "sum")
                except NoProcess:
                    GenServer.reply(client, "no till")
                process.send(client.pid, "hello")
                return NoReply({**basket, "self": 0 if process.self() == client.pid else 1})
            case "two tasks":
                return Reply(Task.await_many([Task.async_(pow, number, 2) for number in (1, 2)]), basket)
            case "crash":
                ctypes.string_at(0)
            case "leave":
                os._exit(7)
        print("asked for", request)
        return Reply(sum(basket.values()), basket)


class AsyncBasket(Basket):
    """The same, awaiting."""

    async def handle_cast(self, request, basket):
        await asyncio.sleep(0)
        return Basket.handle_cast(self, request, basket)


class Secret(Basket):
    """Shows nobody what is in it."""

    def format_status(self, status):
        return {**status, "state": "<a basket>", "message": "<a request>"}


class Clock(GenStateMachine):
    """Counts its own time-outs."""

    options: ClassVar = {"record": True}

    def init(self, arg):
        return statem.Ok("running", 0, [self.tick()])

    @staticmethod
    def tick():
        return statem.Timeout("t", 0.05, "tick")

    def handle_event(self, event, content, state, ticks):
        match event, content:
            case ("timeout", "t"), "tick":
                return statem.KeepState(ticks + 1, [self.tick()])
            case statem.Call(client), "ticks":
                return statem.KeepState(ticks, [statem.Reply(client, ticks)])
        raise ValueError(content)


children = [
    Clock.child_spec(name="clock"),
    Basket.child_spec(name="basket"),
    AsyncBasket.child_spec(name="async"),
    Secret.child_spec(name="secret"),
    Basket.child_spec(name="plain", record=False),
]


def shop():
    return Supervisor.start_link(children, strategy="one_for_one", max_restarts=100, name="shop")
