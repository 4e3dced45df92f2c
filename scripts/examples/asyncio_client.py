"""A program on asyncio calls two servers at once; no thread is used, the mailbox is one descriptor of its loop."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

import asyncio
import time

from otp_runtime import GenServer, Reply


class Oven(GenServer):
    async def handle_call(self, request, client, state):
        await asyncio.sleep(request)  # a server may await too; it still handles one message at a time
        return Reply(f"baked for {request} s", state)


async def main():
    async with await Oven.astart_link(name="left"), await Oven.astart_link(name="right"):
        started = time.monotonic()
        print(await asyncio.gather(GenServer.acall("left", 0.2), GenServer.acall("right", 0.2)))
        print("one after the other:", time.monotonic() - started > 0.39)

        try:
            await GenServer.acall("left", 0.5, timeout=0.1)
        except TimeoutError as late:
            print(type(late).__name__)


asyncio.run(main())
