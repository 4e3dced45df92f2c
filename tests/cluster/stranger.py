"""Another side of the protocol, written from its page in the guide alone: nats-py, msgpack, and nothing of ours."""

import asyncio
import contextlib
import queue
import random
import threading

import msgpack
import nats
from msgpack import ExtType
from nats.js.errors import KeyNotFoundError, NoKeysError, NotFoundError

VERSION = 1
MESSAGE, URGENT, WATCH, UNWATCH, DOWN, BROKEN = range(6)
SEND, CAST, CALL, REPLY, SYSTEM, EXIT, LINK, UNLINK = range(8)
SECONDS = 5.0


def hexadecimal(text):
    return text.encode().hex()


def marked(letter, *items):
    return [ExtType(79, letter.encode()), *items]


def tup(*items):
    return marked("t", *items)


def pack(term):
    return msgpack.packb(term)


def unpack(data):
    """Read a term; what is marked becomes a tuple of its letter and its items, and a tuple a tuple."""
    return msgpack.unpackb(data, list_hook=_plain, strict_map_key=False)


def _plain(items):
    if items and isinstance(items[0], ExtType) and items[0].code == 79:
        letter = items[0].data.decode()
        return tuple(items[1:]) if letter == "t" else (letter, *items[1:])
    return items


class Stranger:
    """A node `name` in the cluster at `url`. What it gets waits in `frames`, decoded; `served` answers for it."""

    def __init__(self, url, user, password, cluster, name, lease=2):
        self.where = {"servers": url, "user": user, "password": password}
        self.cluster, self.name, self.lease = cluster, name, lease
        self.incarnation = random.getrandbits(48)
        self.frames = queue.Queue()
        self.serial = 0
        self.watched = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        try:
            self._do(self._join())
        except BaseException:
            self._end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.leave()

    # -- who is there -----------------------------------------------------------------------------------------

    async def _join(self):
        self.nc = await nats.connect(**self.where)
        self.js = self.nc.jetstream()
        self.kv = await self.js.key_value("otp")
        version, cluster, self.base = msgpack.unpackb((await self.kv.get("cluster")).value)
        if (version, cluster) != (VERSION, self.cluster):
            why = f"it is version {version} of {cluster}"
            await self.nc.publish(f"otp.{cluster}.refused", pack([VERSION, self.name, why]))
            await self.nc.close()
            raise PermissionError(why)
        self.key = f"node.{hexadecimal(self.name)}"
        self.epoch = 0
        self.epoch = self.revision = await self._put(await self._mark())
        await self.nc.subscribe(f"otp.{self.cluster}.n.{hexadecimal(self.name)}.{self.epoch}", cb=self._on_frame)
        await self.nc.flush()
        self.revision = await self._put(self.revision)
        self.renewing = self.loop.create_task(self._renew())

    async def _mark(self):
        """The revision of what a record left that is not there any more; 0 without one."""
        try:
            found = await self.js.get_last_msg("KV_otp", f"$KV.otp.{self.key}")
        except NotFoundError:
            return 0
        return 0 if found.data else found.seq

    async def _put(self, last):
        """Write the node's own record if its revision is `last`."""
        ack = await self.js.publish(
            f"$KV.otp.{self.key}",
            pack([VERSION, self.name, self.incarnation, self.epoch]),
            headers={"Nats-Expected-Last-Subject-Sequence": str(last)},
            msg_ttl=self.lease,
        )
        return ack.seq

    async def _renew(self):
        while True:
            await asyncio.sleep(self.lease / 3)
            self.revision = await self._put(self.revision)

    def leave(self):
        """Give the record back."""
        if self.thread.is_alive():
            self._do(self._leave())
            self._end()

    async def _leave(self):
        self.renewing.cancel()
        await self.kv.delete(self.key, last=self.revision)
        await self.nc.close()

    def vanish(self):
        """Stop renewing, and say nothing; the connection stays."""
        self._do(self._cancel())

    async def _cancel(self):
        self.renewing.cancel()

    def _run(self):
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        # the socket is closed a turn after the transport is
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def _end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def nodes(self):
        """The records of the other nodes that are there: name to incarnation and epoch."""
        return self._do(self._nodes())

    async def _nodes(self):
        found = {}
        for key in await self._keys():
            if key.startswith("node.") and key != self.key:
                with contextlib.suppress(KeyNotFoundError):
                    if value := (await self.kv.get(key)).value:
                        _version, name, incarnation, epoch = msgpack.unpackb(value)
                        found[name] = incarnation, epoch
        return found

    async def _keys(self):
        """The keys of the table: this client's word for none may come before the first of them."""
        while True:
            with contextlib.suppress(NoKeysError):
                return await self.kv.keys()

    def claim(self, name, process_id):
        """Claim a global name that is free; give its fencing token."""
        key = f"name.{pack(name).hex()}"
        value = pack([self.name, self.incarnation, process_id, "claimed"])
        return self.base + self._do(self.kv.create(key, value))

    # -- frames -----------------------------------------------------------------------------------------------

    async def _on_frame(self, message):
        version, op, node, incarnation, epoch, to, by, body = msgpack.unpackb(message.data)
        assert (version, type(body)) == (VERSION, bytes)
        if (op, to, by) == (UNWATCH, None, None):
            return
        term = unpack(body) if body else None
        if op == MESSAGE and to == 0 and term[0] == CALL and term[3] == ("ping",):
            await self._send(node, epoch, MESSAGE, term[1], None, pack([REPLY, term[2], 0, "pong"]))
            return
        self.frames.put((op, node, incarnation, epoch, to, by, term))

    async def _send(self, node, epoch, op, to, by, body):
        frame = pack([VERSION, op, self.name, self.incarnation, self.epoch, to, by, body])
        subject = f"otp.{self.cluster}.n.{hexadecimal(node)}.{epoch}"
        await self.nc.publish(subject, frame, reply=f"otp.{self.cluster}.b.{hexadecimal(self.name)}.{self.epoch}.x")

    def send(self, node, op, to, by=None, term=None):
        """Send a frame to a node that is there."""
        _incarnation, epoch = self.nodes()[node]
        self._do(self._send(node, epoch, op, to, by, b"" if term is None else pack(term)))

    def tell(self, node, to, by, term):
        """Send an envelope of the process `by`, which watches first whom it writes to."""
        if (node, to, by) not in self.watched:
            self.watched.add((node, to, by))
            self.send(node, WATCH, to, by)
        self.send(node, MESSAGE, to, None, term)

    def next(self, *what):
        """Give the next frame that begins with `what`: the operation, perhaps `to` and the kind of envelope."""
        while True:
            op, node, incarnation, epoch, to, by, term = self.frames.get(timeout=SECONDS)
            if (op, to, term[0] if op in (MESSAGE, URGENT) else None)[: len(what)] == what:
                return node, incarnation, epoch, by, term

    def call(self, node, server, request, by=9):
        """GenServer.call; raises what comes instead of a value."""
        self.serial += 1
        self.tell(node, server, by, [CALL, by, self.serial, request])
        while True:
            op, _node, _incarnation, _epoch, to, key, term = self.frames.get(timeout=SECONDS)
            if (op, to, key) == (DOWN, by, server):
                raise LookupError(term)
            if op == MESSAGE and to == by and term[:2] == [REPLY, self.serial]:
                if term[2]:
                    raise RuntimeError(term[3])
                return term[3]
