"""Servers with `async def` callbacks, importable and light."""

import asyncio
import os
import sys

from otp_runtime import GenServer, NoReply, Reply, Stop, process


class Async(GenServer):
    """Each message is a coroutine function of what the callback is given; the state is who is told."""

    async def init(self, arg):
        if callable(arg):
            return await arg()
        return arg

    async def handle_call(self, request, client, state):
        return await request(client, state) if callable(request) else Reply(state, state)

    async def handle_cast(self, request, state):
        return await request(state)

    async def handle_info(self, message, state):
        process.send(state, ("info", message))
        return NoReply(state)

    async def handle_continue(self, term, state):
        process.send(state, ("continue", term))
        return NoReply(state)

    async def terminate(self, reason, state):
        await asyncio.sleep(0)
        if state is not None:
            process.send(state, ("terminate", reason))


class Mixed(GenServer):
    """One async callback is enough to have an event loop in all."""

    def init(self, arg):
        return arg

    def handle_call(self, request, client, state):
        asyncio.get_running_loop().create_task(later(client, request))
        return NoReply(state)

    async def handle_cast(self, request, state):
        await asyncio.sleep(0)
        return NoReply(request)


async def later(client, value):
    await asyncio.sleep(0)
    GenServer.reply(client, value)


async def was_loop_there(client, state):
    """Whether the event loop's modules were there before this one: then an OS parent had imported them."""
    there = list(sys.modules)
    return Reply(there.index("asyncio") < there.index(__name__), state)


async def boom(*_args):
    await asyncio.sleep(0)
    raise ValueError("boom")


async def value():
    await asyncio.sleep(0)
    return 41


async def die():
    await asyncio.sleep(0)
    os._exit(5)


async def stop(state):
    return Stop("custom", state)


async def keep_failing_task(state):
    """Start a task that crashes, and keep it."""
    task = asyncio.get_running_loop().create_task(boom())
    globals()["kept"] = task
    return NoReply(state)


async def tick(to, event):
    """A task that runs beside the callbacks."""
    await event.wait()
    process.send(to, "ticked")


async def start_ticker(state):
    event = asyncio.Event()
    globals()["ticker"] = (event, asyncio.get_running_loop().create_task(tick(state, event)))
    return NoReply(state)


async def set_event_and_await(client, state):
    """The task runs while this callback awaits."""
    event, task = globals()["ticker"]
    event.set()
    await task
    return Reply("awaited", state)


async def set_event(state):
    """The task runs after this callback, while the mailbox is empty."""
    globals()["ticker"][0].set()
    return NoReply(state)


async def remind(state):
    process.send_after(process.self(), "reminded", 0.01)
    return NoReply(state)
