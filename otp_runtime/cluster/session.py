"""One connection to the engine, from its opening to its end: what is NATS about a gateway.

A connection that is lost is over, and with it this node's epoch: the client never reconnects by itself, because what
was under way is lost or not, and nobody could say which. The next session joins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import ssl
import time
from typing import TYPE_CHECKING, Any

import msgpack
from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.errors import Error as JetStreamError

from otp_runtime.cluster import protocol
from otp_runtime.cluster.fast_client import FastClient, NoTls
from otp_runtime.cluster.settings import tls_context
from otp_runtime.host.poller import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.js.kv import KeyValue

    from otp_runtime.cluster.settings import Settings

BUCKET = "otp"
OLDEST_SERVER = (2, 11)
CONNECT_SECONDS = 3.0
ASK_SECONDS = 2.0
REPLICAS = 3
"""On how many servers the table is, where there are as many: two of them decide, and one may be lost."""

ELECTION_SECONDS = 10.0
"""What servers may take to agree on another leader for it: no lease is renewed meanwhile."""

FORM_SECONDS = ELECTION_SECONDS + 2.0
"""How long the table is asked for when a node joins."""

TABLE_SECONDS = 10.0

TOO_FEW = (10005, 10074)
"""How a server says that there are not so many: no suitable peers; not one of several servers."""

AGAIN_SECONDS = 0.2
WRONG_SEQUENCE = (10071, 10164)
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


def lease_clock() -> float:
    """Give the seconds that leases are measured by: those in which the machine slept count, as they do elsewhere."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Refusal(Exception):
    """This node may not take part; the text says why. To try again is of no use."""


class Unreachable(Exception):
    """The engine does not answer, or not yet."""


class Session:
    """A connection. `lost` is set when it is over."""

    def __init__(self, settings: Settings, node: str, incarnation: int) -> None:
        """`open` opens it."""
        self.settings = settings
        self.node = node
        self.incarnation = incarnation
        self.lost = asyncio.Event()
        self.epoch = 0
        self.revision = 0
        self.joined_at = 0.0
        self.base = 0
        """When the table was made, in milliseconds: what is added to a revision, so that tokens of a later table are
        greater. Nobody writes a thousand records a second for long."""
        self.ttl = math.ceil(settings.lease)
        self.nc = FastClient()
        self.js: Any = None
        self.kv: KeyValue
        self.copies = 1
        """On how many servers the table was when last looked."""
        self.patience = min(ASK_SECONDS, settings.lease / 3)
        self.max_payload = 0
        self._is_connecting = True
        self._trouble: Exception | None = None
        self.on_trouble: Callable[[str], None] = lambda _text: None

    # -- opening ------------------------------------------------------------------------------------------------

    async def connect(self, servers: list[str], user: str, password: str) -> None:
        """Connect and look at what is there. Raises `Refusal`, `Unreachable`."""
        options: dict[str, Any] = {}
        self.nc.is_tls_required = self.settings.tls is not None or any(one.startswith("tls:") for one in servers)
        if user:
            options |= {"user": user, "password": password}
        if self.settings.credentials:
            options["user_credentials"] = self.settings.credentials
        if self.settings.tls is not None:
            options["tls"] = tls_context(*self.settings.tls)
        where = ", ".join(servers)
        try:
            await self.nc.connect(
                servers,
                name=f"otp:{self.node}",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.05,  # type: ignore[arg-type]
                connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type]
                ping_interval=max(1, int(self.settings.lease / 4)),
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_lost,
                closed_cb=self._on_lost,
                **options,
            )
        except (NatsError, OSError, TimeoutError) as error:
            raise self._no_connection(where, self._trouble or error) from error
        except Exception as error:
            # a credentials file that is none, words of a server that is none
            raise Refusal(f"{where}: the connection could not be opened: {type(error).__name__}: {error}") from error
        finally:
            self._is_connecting = False
        self.nc.tap()
        version = self.nc.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise Refusal(f"{where} is nats-server {version.major}.{version.minor}; at least 2.11 is needed")
        # a frame is longer than what it carries
        self.max_payload = self.nc.max_payload - 1024

    def _no_connection(self, where: str, error: Exception) -> Exception:
        text = str(error) or type(error).__name__
        if isinstance(error, NoTls):
            return Refusal(f"{where}: {text}")
        if isinstance(error, ssl.SSLError):
            return Refusal(f"{where}: TLS failed, one side does not trust the other's certificate: {text}")
        if isinstance(error, ConnectionError) and self.nc.spoke_tls:
            return Refusal(
                f"{where} ended the connection when TLS was set up ({text}): does it want a certificate of this node? "
                "tls={'ca': …, 'cert': …, 'key': …}"
            )
        if "uthorization" in text or "uthentication" in text:
            return Refusal(f"{where} refused the credentials of this node: {text}")
        return Unreachable(f"no engine at {where}: {text}")

    async def open_bucket(self) -> None:
        """Find or make the table of nodes and names, and see that it is this cluster's. Raises `Refusal`."""
        self.js = self.nc.jetstream(timeout=ASK_SECONDS)
        deadline = now() + FORM_SECONDS
        while True:
            try:
                self.kv = await self._bucket()
                await self._check_cluster()
                return
            except (JetStreamError, NatsError, TimeoutError) as error:
                text = str(error) or type(error).__name__
                if isinstance(error, APIError) and error.code == 503 and "not enabled" in text.lower():
                    raise Refusal(f"JetStream is not enabled for this account: {text}") from error
                if self.nc.is_closed or now() >= deadline:
                    raise Unreachable(f"the table of the cluster is out of reach: {text}") from error
            # several servers that have just started agree on a leader first
            await asyncio.sleep(AGAIN_SECONDS)

    async def _bucket(self) -> KeyValue:
        with contextlib.suppress(BucketNotFoundError):
            return await self.js.key_value(BUCKET)  # type: ignore[no-any-return]
        for replicas in (REPLICAS, 1):
            config = KeyValueConfig(bucket=BUCKET, history=1, limit_marker_ttl=60, direct=False, replicas=replicas)
            try:
                return await self.js.create_key_value(config)  # type: ignore[no-any-return]
            except APIError as error:
                if replicas > 1 and error.err_code in TOO_FEW:
                    continue
                with contextlib.suppress(BucketNotFoundError):
                    # somebody else has just made it
                    return await self.js.key_value(BUCKET)  # type: ignore[no-any-return]
                raise error from None
        raise AssertionError

    async def mind_table(self, warn_once: Callable[[str, str], None]) -> None:
        """See that enough servers have the table; and that the lease is one for several of them."""
        cluster, lease = self.settings.cluster, self.settings.lease
        while not self.lost.is_set():
            await self._widen()
            if self.copies > 1 and lease < ELECTION_SECONDS:
                text = (
                    f"cluster {cluster}: its table is on {self.copies} servers, which may take {ELECTION_SECONDS:g} s "
                    f"to agree on another leader. With lease={lease:g} all nodes give their global names up meanwhile; "
                    "with lease=15 they keep them"
                )
                warn_once("cluster-lease", text)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), TABLE_SECONDS)

    async def _widen(self) -> None:
        """Have the table on as many servers as it is to be on: there may have been fewer of them when it was made.

        Every node tries, whoever may; nothing is raised, and what fails is tried again later.
        """
        if self.copies >= REPLICAS:
            return
        with contextlib.suppress(NatsError, TimeoutError, ValueError, KeyError):
            config = (await self._ask("INFO"))["config"]
            self.copies = config["num_replicas"]
            if self.copies < REPLICAS:
                # as the server gave it: what this client does not know of it stays
                answer = await self._ask("UPDATE", {**config, "num_replicas": REPLICAS})
                self.copies = answer["config"]["num_replicas"]

    async def _ask(self, what: str, request: Any = None) -> Any:
        data = b"" if request is None else json.dumps(request).encode()
        answer = await self.nc.request(f"$JS.API.STREAM.{what}.KV_{BUCKET}", data, timeout=ASK_SECONDS)
        return json.loads(answer.data)

    async def _check_cluster(self) -> None:
        made_at = int(time.time() * 1000)
        try:
            await self.kv.create("cluster", msgpack.packb([protocol.VERSION, self.settings.cluster, made_at]))
            self.base = made_at
            return
        except KeyWrongLastSequenceError:
            entry = await self.kv.get("cluster")
        record = protocol.read_cluster(entry.value)
        if record is None:
            raise Refusal(f"the table {BUCKET} of this account is no cluster's: its record `cluster` cannot be read")
        version, cluster, self.base = record
        if cluster != self.settings.cluster:
            why = f"this account is the cluster {cluster}'s, and this node was to join {self.settings.cluster}"
        elif version != protocol.VERSION:
            why = f"the cluster {cluster} speaks protocol {version}, and this node {protocol.VERSION}"
        else:
            return
        # those who are in hear of it too
        with contextlib.suppress(NatsError, TimeoutError):
            told = msgpack.packb([protocol.VERSION, self.node, why])
            await self.nc.publish(f"otp.{cluster}.refused", told)
            await self.nc.flush(1)
        raise Refusal(why)

    # -- the lease ----------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The key of this node's record."""
        return f"node.{protocol.name_token(self.node)}"

    def _record(self) -> bytes:
        return msgpack.packb([protocol.VERSION, self.node, self.incarnation, self.epoch])  # type: ignore[no-any-return]

    async def claim(self) -> None:
        """Take this node's record, and with it an epoch. Raises `Refusal` when a living node of that name has it."""
        deadline = now() + self.ttl + 1.5
        seen: int | None = None
        while True:
            self.joined_at = lease_clock()
            try:
                self.revision = self.epoch = await self.kv.create(self.key, self._record(), msg_ttl=self.ttl)
                return
            except KeyWrongLastSequenceError:
                """Somebody has it."""
            with contextlib.suppress(KeyNotFoundError, KeyWrongLastSequenceError):
                entry = await self.kv.get(self.key)
                revision = entry.revision or 0
                record = protocol.read_record(entry.value)
                # without a value it is what the server leaves of a record whose time is over
                if not entry.value or (record is not None and record[1] == self.incarnation):
                    # the latter is this node's own, from before its gateway was restarted
                    self.revision = self.epoch = await self.put(self.key, self._record(), revision, ttl=self.ttl)
                    return
                if (seen is not None and revision != seen) or now() > deadline:
                    raise Refusal(f"a node named {self.node} takes part in the cluster {self.settings.cluster} already")
                seen = revision
            await asyncio.sleep(0.1)

    async def announce(self) -> None:
        """Say in the record which epoch this is: from now on the others see this node."""
        await self.renew()

    async def renew(self) -> float:
        """Renew the lease; give when that was sent. Raises `KeyWrongLastSequenceError` when it is not ours any more."""
        sent_at = lease_clock()
        self.revision = await self.put(self.key, self._record(), self.revision, ttl=self.ttl)
        return sent_at

    async def put(self, key: str, value: bytes, last: int, *, ttl: int | None = None) -> int:
        """Replace a value if its revision is `last` (0: if there is none); give the new one. With a time to live."""
        try:
            ack = await self.js.publish(
                f"$KV.{BUCKET}.{key}", value, timeout=self.patience, headers={_EXPECTED: str(last)}, msg_ttl=ttl
            )
        except APIError as error:
            if error.err_code in WRONG_SEQUENCE:
                raise KeyWrongLastSequenceError(description=error.description) from error
            raise
        return int(ack.seq)

    async def delete(self, key: str, last: int) -> bool:
        """Delete a value if its revision is `last`; say whether it was."""
        try:
            await self.kv.delete(key, last=last)
        except APIError as error:
            if error.err_code in WRONG_SEQUENCE:
                return False
            raise
        return True

    # -- the end ------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Give the record back, so that the others need not wait for the lease, and close."""
        if self.epoch and not self.lost.is_set():
            with contextlib.suppress(NatsError, JetStreamError, TimeoutError):
                await asyncio.wait_for(self.delete(self.key, self.revision), ASK_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        self.lost.set()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.nc.close(), 1.0)

    async def _on_lost(self) -> None:
        self.lost.set()

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._is_connecting:
            self._trouble = error
        elif not self.lost.is_set() and "EOF" not in text:
            self.on_trouble(text)
