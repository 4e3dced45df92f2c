"""What comes from the network: data or nothing, and who may come at all."""

import asyncio
import contextlib
import json
import os
import pickle
import socket
import threading

import msgpack
import nats
import pytest

from otp_runtime import Agent, Down, GenServer, Global, Node, NoNode, OtpError, Pid, Supervisor, pg, process, pubsub
from otp_runtime.cluster import joining, protocol, standing
from otp_runtime.cluster.engine import EngineDirectory
from otp_runtime.core import messages as wire
from otp_runtime.core.child_spec import ChildSpec
from otp_runtime.core.supervisor_messages import StartChildRequest
from otp_runtime.process.current import current
from otp_runtime.registry.hub import BROADCAST
from otp_runtime.registry.scope import TAG
from otp_runtime.terms.codec import Codec
from otp_runtime.testing import Peer
from otp_runtime.testing.nodes import private_directory
from tests.cluster.certificates import make_certificate, needs_openssl
from tests.cluster.nats_server import nats_server
from tests.cluster.servers import Hoard, eventually, full, gateway, start


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


def message(there, to, envelope, op=protocol.MESSAGE, *, by=None, age=0):
    """A frame of the other node with whatever in it; `age`: of another incarnation."""
    name = there.call(Node.self)
    epoch, incarnation = standing.read(current().directory).nodes[name]
    body = envelope if isinstance(envelope, bytes) else Codec(ByPickle()).encode(envelope)
    return protocol.frame_of(protocol.head_of(op, name, incarnation + age, epoch, to, by), body)


def sends_sound(here, there, mine, *frames):
    """Publish frames and a sound message after them; say whether that came, over the same connection as before."""
    epoch, gate = standing.read(current().directory).epoch, gateway()
    publish(here, *frames, message(there, mine.id, [wire.SEND, "sound"]))
    came = eventually(lambda: "sound" in GenServer.call(mine, "take"))
    return came and (standing.read(current().directory).epoch, gateway()) == (epoch, gate)


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

    @pytest.mark.parametrize("name", ["", "\0", "a\0b", "../../etc/passwd", "x" * 1000, "/" * 200, ".", "\ud800"])
    def test_names_that_are_none(self, here, there, name):
        """Of whom to reach and whom to watch: skipped, and the connection holds."""
        text = msgpack.packb(name, unicode_errors="surrogatepass")
        frames = [
            message(there, "NAME", [wire.SEND, 1], op, by=9).replace(b"\xa4NAME", text)
            for op in (protocol.MESSAGE, protocol.URGENT, protocol.WATCH, protocol.UNWATCH)
        ]
        with Hoard.start_link() as mine:
            assert sends_sound(
                here, there, mine, *frames, message(there, name[:5] if name != "\ud800" else "x", b"", 2)
            )

    def test_frames_that_make_no_sense(self, here, there):
        """Every kind, to nobody, to the gateway, the launcher, a process: nobody but that process minds."""
        bodies = [b"", b"\xc0", b"\x92", b"\x92\x00", b"\x92\x05\x01", b"\x93\x03\x01\x00", b"\x94\x04\x01\x01\xc0"]
        with Hoard.start_link() as mine:
            frames = [
                message(there, to, body, op, by=by)
                for op in range(protocol.BROKEN)
                for to in (None, 0, 1, mine.id, "x", 2**63, 2**64 - 1)
                for by in (None, 0, 7, "y")
                for body in bodies
                if (op, to) != (protocol.DOWN, mine.id)
            ]
            assert sends_sound(here, there, mine, *frames)

    def test_lengths_that_lie(self, here, there):
        """Room for millions of items, in each of them for millions more, is not made for a frame."""
        lie = b"\xdd" + (7_000_000).to_bytes(4, "big")
        with Hoard.start_link() as mine:
            assert sends_sound(
                here,
                there,
                mine,
                (lie * 200).ljust(7_500_000, b"\xc0"),
                message(there, 0, b"\x94\x02\x01\x01" + (lie * 200).ljust(7_500_000, b"\xc0")),
            )

    def test_another_incarnation(self, here, there):
        """A sender that says to be another life of its node is not heard: its pids would be nobody's."""
        with Hoard.start_link() as mine:
            assert sends_sound(here, there, mine, message(there, mine.id, [wire.SEND, "forged"], age=1))
            publish(here, message(there, mine.id, [wire.CAST, "forged"], age=1))
            publish(here, message(there, mine.id, [wire.SEND, "last"]))

            assert eventually(lambda: GenServer.call(mine, "take")) == ["last"]

    def test_strangers_frames_are_bounded(self, here, there):
        """Frames of nodes that never come do not fill the memory of the gateway."""
        names = [f"n{number}@nowhere" for number in range(3_000)]
        head = [protocol.head_of(protocol.MESSAGE, name, 1, 10**9, 1) for name in names]
        before = _memory(gateway()[1])
        with Hoard.start_link() as mine:
            assert sends_sound(here, there, mine, *(protocol.frame_of(one, bytes(100_000)) for one in head))

        assert _memory(gateway()[1]) - before < 150_000_000

    @pytest.mark.parametrize(
        "request_",
        [
            ("register", 5, 6),
            ("register", "zz", 6),
            ("register", "61" * 300, 6),
            ("register", "61", -5),
            ("register", "61", 1),
            ("re_register", {}, []),
            ("register", b"61", 6),
            ("whereis", "\0"),
            ("whereis", {}),
            ("ping", 1, 2),
            "ping",
            (),
        ],
    )
    def test_services_asked_for_nonsense(self, here, there, request_):
        """Answer with an error, and write nothing of it into what this node's processes read."""
        outcome = there.call(_ask, here.name, request_)

        assert isinstance(outcome, OtpError) or (outcome is None and request_[0] == "whereis")
        assert standing.read(current().directory).held == {}
        assert there.call(Node.ping, here.name) == "pong"

    def test_records_that_make_no_sense(self, here, there):
        """In the table: read past, and the watch on it goes on."""
        one = protocol.name_token("z@q")
        records = {
            f"node.{one}": [[1, "z@q", "x", "y"], [1, "z@q", 1, [2]], 5, [2, "z@q", 1, 99], [1, "other", 1, 99]],
            "node.zz": [[1, "zz", 1, 99]],
            "node.x.y": [[1, "x.y", 1, 99]],
            "name.a178": [[5, 6, 7, 8], 5, [None] * 3, ["z@q", 1, -5, "claimed"]],
            "name.zz": [["z@q", 1, 5, "claimed"]],
            "name.a1": [[there.call(Node.self), 1, 5, "claimed"]],
        }
        _write(here, [(key, value) for key, values in records.items() for value in values])
        try:
            token = Global.register("mine", process.self())
            assert eventually(lambda: there.call(Global.whereis, "mine") == process.self())
            assert (token is not None, Global.registered(), Node.list()) == (True, ["mine"], [there.call(Node.self)])
            Global.unregister("mine")
        finally:
            _erase(here, records)

    def test_scopes_speak_for_their_own_node(self, here, there):
        """What says to be of a scope of a third node is not heard, nor a broadcast in the name of another's process."""
        third = Pid("c@nowhere", 7, 3)
        group = protocol.DATA.encode("g")
        with pg.start_link() as scope, pubsub.start_link():
            pubsub.subscribe("room")
            hub = process.whereis("pubsub.hub")
            publish(
                here,
                message(there, scope.id, [wire.SEND, (TAG, "hello", third, True, True, [[group, [], [[9, b""]]]])]),
                message(there, scope.id, [wire.SEND, Down(process.self(), third, "x")]),
                message(there, hub.id, [wire.SEND, (BROADCAST, third, "room", Codec().encode([wire.SEND, "forged"]))]),
                message(there, hub.id, [wire.SEND, (BROADCAST, _pid(there), "room", Codec().encode([wire.SEND, 1]))]),
            )

            assert process.receive(lambda _any: True, 5.0) == 1
            assert pg.get_members("g") == []

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


def _ask(node, request):
    try:
        return joining.ask_node(node, request)
    except OtpError as error:
        return error


def _memory(os_pid):
    with open(f"/proc/{os_pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def _pid(there):
    name = there.call(Node.self)
    return Pid(name, 99, standing.read(current().directory).nodes[name][1])


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

    @pytest.mark.parametrize("value", [5, [1], {}, ["1", "otp", 1], [1, "otp", "now"]])
    def test_no_cluster(self, here, value):
        """An account with a table that somebody else made."""
        _record(here, value)
        try:
            with pytest.raises(NoNode, match="of this account is no cluster's"):
                _start(here)
        finally:
            _record(here, [protocol.VERSION, "otp", 1])

    def test_without_tls_where_it_was_asked_for(self):
        """Nothing is said to a server that only says that it has no TLS: whoever is in between would read it."""
        with (
            _old_server(version="2.15.1") as (url, heard),
            private_directory(),
            pytest.raises(NoNode, match="TLS was asked for, and the server speaks without"),
        ):
            Peer("d", cluster=url.replace("nats:", "tls:"), credentials=("me", "secret"))

        assert b"secret" not in b"".join(heard)

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
        with _old_server() as (url, _heard), private_directory(), pytest.raises(NoNode, match=r"2\.9; at least 2\.11"):
            Peer("d", cluster=url)


def _start(here, *, cluster="otp", credentials=None):
    found = said(here)
    credentials = credentials or (found["user"], found["password"])
    return Peer("d", cluster=f"{found['url']}/{cluster}", credentials=credentials, lease=2.0)


def _record(here, value):
    _write(here, [("cluster", value)])


def _write(here, records):
    async def put(kv):
        for key, value in records:
            await kv.put(key, msgpack.packb(value))

    _in_table(here, put)


def _erase(here, keys):
    async def purge(kv):
        for key in keys:
            await kv.purge(key)

    _in_table(here, purge)


def _in_table(here, work):
    async def do():
        found = said(here)
        client = await nats.connect(found["url"], user=found["user"], password=found["password"])
        await work(await client.jetstream().key_value("otp"))
        await client.close()

    asyncio.run(do())


@contextlib.contextmanager
def _old_server(version="2.9.10"):
    """What an old server says of itself; what it is told."""
    heard = []
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    info = {"server_id": "x", "version": version, "max_payload": 1048576, "headers": True, "host": "x", "port": port}

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection:
                    connection.sendall(f"INFO {json.dumps(info)}\r\n".encode())
                    while data := connection.recv(4096):
                        heard.append(data)
                        if b"PING" in data:
                            connection.sendall(b"PONG\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"nats://127.0.0.1:{port}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5.0)


@needs_openssl
class TestTls:
    @pytest.mark.slow
    def test_both_sides_show_a_certificate(self, tmp_path):
        """With one that the server trusts a node joins; without, it is refused."""
        with _tls_server(tmp_path) as url, private_directory():
            tls = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
            with Peer("a", cluster=url, tls=tls) as first, Peer("b", cluster=url, tls=tls) as second:
                assert eventually(lambda: second.call(Node.ping, full("a")) == "pong")
                first.close()
            with pytest.raises(NoNode, match=r"TLS failed|does it want a certificate"):
                Peer("c", cluster=url, tls={"ca": tls["ca"]})


@contextlib.contextmanager
def _tls_server(path):
    make_certificate(path)
    (path / "conf").write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{path}"\njetstream {{ store_dir: "{path}/store" }}\n'
        f'tls {{ cert_file: "{path}/cert.pem", key_file: "{path}/key.pem", ca_file: "{path}/ca.pem", verify: true }}\n'
    )
    with nats_server(path) as url:
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
            nats_server(tmp_path) as url,
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
