"""What comes from the network: data or nothing, and who may come at all."""

import asyncio
import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import threading

import msgpack
import nats
import pytest

from otp_runtime import Agent, GenServer, Global, Node, NoNode, Supervisor, process
from otp_runtime.cluster import protocol, standing
from otp_runtime.cluster.engine import EngineDirectory, server_binary
from otp_runtime.core import messages as wire
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.supervisor_messages import StartChildRequest
from otp_runtime.process.current import current
from otp_runtime.terms.codec import Codec
from otp_runtime.testing import Peer
from otp_runtime.testing.nodes import private_directory
from tests.cluster.servers import Hoard, eventually, full, start


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class ByPickle:
    def dump(self, value):
        return pickle.dumps(value)

    def load(self, data):
        raise AssertionError

    def class_ref(self, cls):
        raise LookupError

    def load_class(self, ref):
        raise AssertionError


def said(here):
    return EngineDirectory(here.base, "otp").read()


def publish(here, *frames):
    """Publish to this node as a stranger who has the credentials would."""

    async def send():
        found = said(here)
        client = await nats.connect(found["url"], user=found["user"], password=found["password"])
        subject = protocol.node_subject("otp", here.name, standing.read(current().directory).epoch)
        for frame in frames:
            await client.publish(subject, frame)
        await client.flush()
        await client.close()

    asyncio.run(send())


def message(there, to, envelope, op=protocol.MESSAGE):
    """A frame of the other node with whatever in it."""
    name = there.call(Node.self)
    epoch, incarnation = standing.read(current().directory).nodes[name]
    body = envelope if isinstance(envelope, bytes) else Codec(ByPickle()).encode(envelope)
    return protocol.frame_of(protocol.head_of(op, name, incarnation, epoch, to), body)


class TestHostile:
    def test_pickles_are_not_loaded(self, here, there, tmp_path):
        """Neither in a message, nor in a request, nor in a reply."""
        target = tmp_path / "made"
        bomb = Bomb(str(target))
        with Hoard.start_link() as mine:
            publish(
                here,
                message(there, mine.id, [wire.SEND, bomb]),
                message(there, mine.id, [wire.CAST, bomb]),
                message(there, mine.id, [wire.CALL, 99, 1, bomb]),
                message(there, mine.id, [wire.SYSTEM, 99, 1, ("run", bomb)]),
                message(there, mine.id, [wire.EXIT, 99, bomb]),
                message(there, mine.id, [wire.SEND, "sound"]),
            )

            assert eventually(lambda: "sound" in GenServer.call(mine, "take"))
        assert not target.exists()

    def test_starts_are_refused(self, here, there, tmp_path):
        """By supervisor and launcher, also when they look like data."""
        made = tmp_path / "made"
        sealed = current().node.seal(os.mkdir, (str(made),), {}, "test")
        spec = ChildSpec(id="x", start=sealed)
        with Supervisor.start_link([], strategy="one_for_one") as sup:
            publish(
                here,
                message(there, sup.id, [wire.CALL, 99, 1, StartChildRequest(spec)]),
                message(there, 1, [wire.CALL, 99, 1, ["start", ["start", sealed, "x", 1]]]),
            )

            assert Supervisor.count_children(sup).specs == 0
        assert not made.exists()

    def test_garbage(self, here, there):
        """Is skipped, and the node goes on."""
        with Hoard.start_link() as mine:
            deep = b"\x91" * 100_000
            publish(
                here,
                b"",
                b"\xc1",
                os.urandom(1000),
                msgpack.packb([1, 2, 3]),
                msgpack.packb([protocol.VERSION + 1, 0, "x", 1, 1, 1, None, b""]),
                deep,
                message(there, mine.id, b"\xff\xff"),
                message(there, mine.id, deep),
                message(there, mine.id, [99, 1]),
                message(there, mine.id, [wire.TIMER, 1, 1, [0, 0], b"x"]),
                message(there, mine.id, [wire.CALL, "x", 1, 1]),
                message(there, [1, 2], [wire.SEND, 1]),
                message(there, 10**12, [wire.SEND, 1]),
                message(there, mine.id, [wire.SEND, "sound"]),
            )

            assert eventually(lambda: "sound" in GenServer.call(mine, "take"))
        assert there.call(Node.ping, here.name) == "pong"

    def test_no_module_is_imported(self, here, there):
        """A name in a message does not run a module's code."""
        with Hoard.start_link() as mine:
            body = protocol.DATA.encode([wire.SEND, process.self()])
            sneaky = Codec().encode([wire.SEND, Codec().decode(Codec().encode(ZeroDivisionError("x")))])
            publish(
                here,
                message(there, mine.id, sneaky.replace(b"builtins:ZeroDivisionError", b"antigravity:ZeroDivisionErr")),
                message(there, mine.id, body),
            )
            assert eventually(lambda: process.self() in GenServer.call(mine, "take"))
            with pytest.raises(AssertionError):
                assert "antigravity" in Agent.get(Agent.start_link(dict), _modules)


def _modules(_state):
    import sys

    return list(sys.modules)


class TestRefused:
    def test_wrong_credentials(self, here):
        """Says so."""
        with pytest.raises(NoNode, match="refused the credentials"):
            _start(here, credentials=("otp", "wrong"))

    def test_wrong_cluster(self, here, caplog):
        """Says which one it is; and those who are in hear of it."""
        with pytest.raises(NoNode, match="is the cluster otp's, and this node was to join other"):
            _start(here, cluster="other")

        assert eventually(lambda: "tried to join and was refused" in caplog.text)

    def test_wrong_version(self, here):
        """Of the protocol."""
        ours = [protocol.VERSION, "otp", 1]
        _record(here, [protocol.VERSION + 1, "otp", 1])
        try:
            with pytest.raises(NoNode, match="speaks protocol 2, and this node 1"):
                _start(here)
        finally:
            _record(here, ours)

    def test_right_ones(self, here):
        """The same engine by its address."""
        with _start(here) as other:
            assert here.name in other.call(Node.list)

    def test_name_is_taken(self, here):
        """By a node of another machine, or of another base directory."""
        found = said(here)
        with private_directory(), pytest.raises(NoNode, match="takes part in the cluster otp already"):
            Peer("a", cluster=found["url"], credentials=(found["user"], found["password"]), lease=1.0)

    def test_old_server(self, here):
        """Which one is needed."""
        with _old_server() as url, private_directory(), pytest.raises(NoNode, match=r"2\.9; at least 2\.11"):
            Peer("d", cluster=url)


def _start(here, *, cluster="otp", credentials=None):
    found = said(here)
    credentials = credentials or (found["user"], found["password"])
    return Peer("d", cluster=f"{found['url']}/{cluster}", credentials=credentials, lease=2.0)


def _record(here, value):
    async def put():
        found = said(here)
        client = await nats.connect(found["url"], user=found["user"], password=found["password"])
        kv = await client.jetstream().key_value("otp")
        await kv.put("cluster", msgpack.packb(value))
        await client.close()

    asyncio.run(put())


@contextlib.contextmanager
def _old_server():
    """What an old server says of itself."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    info = {"server_id": "x", "version": "2.9.10", "max_payload": 1048576, "headers": True, "host": "x", "port": port}

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection:
                    connection.sendall(f"INFO {json.dumps(info)}\r\n".encode())
                    while data := connection.recv(4096):
                        if b"PING" in data:
                            connection.sendall(b"PONG\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5.0)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make certificates with")
class TestTls:
    @pytest.mark.slow
    def test_both_sides_show_a_certificate(self, tmp_path):
        """With one that the server trusts a node joins; without, it is refused."""
        with _tls_server(tmp_path) as url, private_directory():
            tls = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
            with Peer("a", cluster=url, tls=tls) as first, Peer("b", cluster=url, tls=tls) as second:
                assert eventually(lambda: second.call(Node.ping, full("a")) == "pong")
                first.close()
            with pytest.raises(NoNode, match=r"TLS failed|no engine at|refused"):
                Peer("c", cluster=url, tls={"ca": tls["ca"]})


@contextlib.contextmanager
def _tls_server(path):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=node", "-keyout", "key.pem", "-out", "node.csr")  # fmt: skip
    (path / "ext").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", "cert.pem")  # fmt: skip
    (path / "conf").write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{path}"\njetstream {{ store_dir: "{path}/store" }}\n'
        f'tls {{ cert_file: "{path}/cert.pem", key_file: "{path}/key.pem", ca_file: "{path}/ca.pem", verify: true }}\n'
    )
    with _server(path) as url:
        yield url.replace("nats://", "tls://")


RIGHTS = """\
listen: "127.0.0.1:-1"
ports_file_dir: "{path}"
jetstream {{ store_dir: "{path}/store" }}
accounts {{
  one: {{ jetstream: enabled, users: [{{ user: "one", password: "1", permissions: {{
    publish: ["otp.otp.>", "$KV.otp.>", "$JS.API.>"], subscribe: ["otp.otp.>", "_INBOX.>"]
  }} }}] }}
  two: {{ jetstream: enabled, users: [{{ user: "two", password: "2" }}] }}
}}
"""


class TestAccounts:
    @pytest.mark.slow
    def test_rights_and_walls(self, tmp_path):
        """Nodes need the rights that the guide lists and no others; those of another account are another cluster."""
        (tmp_path / "conf").write_text(RIGHTS.format(path=tmp_path))
        with (
            _server(tmp_path) as url,
            private_directory(),
            Peer("a", cluster=url, credentials=("one", "1"), lease=2.0) as a,
            Peer("b", cluster=url, credentials=("one", "1"), lease=2.0) as b,
            Peer("c", cluster=url, credentials=("two", "2"), lease=2.0) as c,
        ):
            assert eventually(lambda: a.call(Node.ping, full("b")) == "pong")
            pid = a.call(start, Hoard, Global("x"))
            assert eventually(lambda: b.call(Global.whereis, "x") == pid)
            assert b.call(GenServer.call, Global("x"), "on") == "on"

            assert (b.call(Node.list), c.call(Node.list)) == ([full("a")], [])
            assert c.call(Global.whereis, "x") is None


@contextlib.contextmanager
def _server(path):
    server = subprocess.Popen([server_binary(), "-c", str(path / "conf")], stderr=subprocess.DEVNULL)
    try:
        ports = path / f"nats-server_{server.pid}.ports"

        def url():
            with contextlib.suppress(OSError, ValueError):
                return json.loads(ports.read_text())["nats"][0]

        yield eventually(url)
    finally:
        server.terminate()
        server.wait()
