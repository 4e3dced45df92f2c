"""Three hosts in one machine: network namespaces, each with a nats-server and room for a node; cables that can be cut.

    otp-N-h0 ── eth0 ─┐
    otp-N-h1 ── eth0 ─┼─ a bridge in otp-N-net: nothing of it is in the machine's own namespace
    otp-N-h2 ── eth0 ─┘

A cable is cut by taking its end out of the bridge: what is sent is lost without a word, as with a switch that fails.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from otp_runtime import Node
from otp_runtime.cluster.engine import server_binary
from otp_runtime.testing import Peer, leaks
from tests.cluster.servers import eventually

CONFIG = """\
server_name: "h{number}"
listen: "10.123.0.{ip}:4222"
jetstream {{ store_dir: "{path}/store", max_memory_store: 64MB, max_file_store: 64MB }}
authorization {{ user: "lab", password: "lab" }}
ping_interval: "1s"
ping_max: 2
cluster {{
  name: "lab"
  listen: "10.123.0.{ip}:6222"
  ping_interval: "1s"
  routes: ["nats://10.123.0.1:6222", "nats://10.123.0.2:6222", "nats://10.123.0.3:6222"]
}}
logfile: "{path}/nats.log"
http: "127.0.0.1:8222"
"""


_ASK = """import asyncio, json, sys, nats

async def ask():
    client = await nats.connect(sys.argv[1], user="lab", password="lab")
    info = await client.jetstream().stream_info("KV_otp")
    print(json.dumps({"leader": info.cluster.leader, "replicas": info.config.num_replicas}))
    await client.close()

asyncio.run(ask())
"""


_MAKE = """import asyncio, sys, nats
from nats.js.api import KeyValueConfig

async def make():
    client = await nats.connect(sys.argv[1], user="lab", password="lab")
    config = KeyValueConfig(bucket="otp", limit_marker_ttl=60, replicas=1)
    for left in reversed(range(15)):
        # what is asked before the servers have a leader is answered by nobody
        try:
            await client.jetstream(timeout=1).create_key_value(config)
            break
        except nats.errors.TimeoutError:
            if not left:
                raise
    await client.close()

asyncio.run(make())
"""


_MONITOR = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8222/jsz').read().decode())"


def why_not():
    """Say why there can be no namespaces here; None when there can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    if shutil.which("ip") is None:
        return "there is no ip (iproute2) here to make network namespaces with"
    name = f"otp-{os.getpid()}-try"
    made = _ip("netns", "add", name, check=False)
    if made.returncode:
        return f"this machine makes no network namespaces: {made.stderr.strip()}"
    try:
        bridge = _ip("-n", name, "link", "add", "br0", "type", "bridge", check=False)
        return f"this machine makes no bridges: {bridge.stderr.strip()}" if bridge.returncode else None
    finally:
        _ip("netns", "del", name)


def _ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Host:
    """One of them: its namespace, its server, and where its node lives."""

    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.namespace = f"{lab.name}-h{number}"
        self.path = lab.path / f"h{number}"
        self.url = f"nats://10.123.0.{number + 1}:4222"
        self.server = None

    def make(self):
        _ip("netns", "add", self.namespace)
        self.lab.made.append(self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        port = f"h{self.number}"
        _ip("-n", self.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.lab.net)
        _ip("-n", self.namespace, "addr", "add", f"10.123.0.{self.number + 1}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", self.lab.net, "link", "set", port, "master", "br0", "up")

    def cut(self):
        """Take its cable out of the switch."""
        _ip("-n", self.lab.net, "link", "set", f"h{self.number}", "nomaster")

    def heal(self):
        """Put it back."""
        _ip("-n", self.lab.net, "link", "set", f"h{self.number}", "master", "br0")

    @property
    def within(self):
        return ("ip", "netns", "exec", self.namespace, "env", f"OTP_RUNTIME_DIR={self.path}/run")

    def start_server(self):
        self.path.mkdir(exist_ok=True)
        conf = self.path / "conf"
        conf.write_text(CONFIG.format(number=self.number, ip=self.number + 1, path=self.path))
        command = [*self.within, server_binary(), "-c", str(conf)]
        self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, program, *arguments):
        """Run a Python program on this host; give its output."""
        command = [*self.within, sys.executable, "-c", program, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def stop_server(self):
        self.server.kill()
        self.server.wait()

    def node(self, name, **options):
        """A node on this host, which knows its own server only."""
        (self.path / "run").mkdir(mode=0o700, exist_ok=True)
        return Peer(name, cluster=f"{self.url}/lab", credentials=("lab", "lab"), within=self.within, **options)


class Lab:
    """All of it; a context manager that removes what it made."""

    def __enter__(self):
        self.name = f"otp-{os.getpid()}"
        self.net = f"{self.name}-net"
        self.path = Path(tempfile.mkdtemp(prefix="otp-lab-", dir="/dev/shm"))
        self.made = []
        self.hosts = [Host(self, number) for number in range(3)]
        try:
            _ip("netns", "add", self.net)
            self.made.append(self.net)
            _ip("-n", self.net, "link", "add", "br0", "type", "bridge")
            _ip("-n", self.net, "link", "set", "br0", "up")
            for host in self.hosts:
                host.make()
            for host in self.hosts:
                host.start_server()
            assert eventually(self._is_formed, 20.0), "the three servers did not find each other"
        except BaseException:
            self.__exit__()
            raise
        return self

    def table(self):
        """What the first server that answers says of the table of nodes and names."""
        found = self.hosts[0].run(_ASK, self.hosts[0].url)
        return json.loads(found)

    def make_small_table(self):
        """Make the table as if there had been one server at that time."""
        self.hosts[0].run(_MAKE, self.hosts[0].url)

    def leader_of_table(self):
        """The number of the host whose server decides about it."""
        return int(self.table()["leader"].removeprefix("h"))

    def leaders(self):
        """The numbers of the hosts whose servers decide about the table, and about who may watch it."""
        said = json.loads(self.hosts[0].run(_MONITOR))
        return {self.leader_of_table(), int(said["meta_cluster"]["leader"].removeprefix("h"))}

    def _is_formed(self):
        """All three know a leader: JetStream answers."""
        logs = [(host.path / "nats.log") for host in self.hosts]
        return all(log.exists() and "JetStream cluster" in log.read_text() for log in logs)

    def __exit__(self, *_exc):
        for host in self.hosts:
            if host.server is not None:
                host.stop_server()
        leaks.outlive(leaks.naming(str(self.path)), 5.0)
        for namespace in self.made:
            for os_pid in _ip("netns", "pids", namespace).stdout.split():
                with contextlib.suppress(OSError):
                    os.kill(int(os_pid), 9)
            _ip("netns", "del", namespace)
        shutil.rmtree(self.path, ignore_errors=True)


def see_each_other(peers, seconds):
    """Wait until each node sees all the others; say whether that came."""
    names = {peer.call(Node.self) for peer in peers}
    return eventually(lambda: all({*peer.call(Node.list), peer.call(Node.self)} == names for peer in peers), seconds)
