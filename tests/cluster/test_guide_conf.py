"""The configuration of servers that the guide shows: three of them, on addresses of loopback, with TLS everywhere."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from otp_runtime import GenServer, Global, Node, NoNode
from otp_runtime.cluster.engine import server_binary
from otp_runtime.testing import Peer
from otp_runtime.testing.nodes import private_directory
from tests.cluster.certificates import make_authority, make_certificate, needs_openssl
from tests.cluster.servers import Hoard, eventually, full, start

pytestmark = [pytest.mark.slow, needs_openssl]
PAGE = Path(__file__).parents[2] / "docs" / "guide" / "securing_a_cluster.md"
NUMBERS = (1, 2, 3)


@pytest.fixture
def net():
    """Three addresses of loopback that no other test has: all but the last number."""
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"


@pytest.fixture
def servers(tmp_path, net):
    """Run what the page shows, on each of three addresses; give the address for nodes."""
    (shown,) = re.findall(r"```text\n(server_name:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    addresses = [f"{net}.{number}" for number in NUMBERS]
    make_certificate(tmp_path, "server.pem", "server.key", addresses)
    make_certificate(tmp_path, "a.pem", "a.key")
    with contextlib.ExitStack() as running:
        for number in NUMBERS:
            text = shown.replace("10.0.0.", f"{net}.").replace("/var/lib/nats", f"store-{number}")
            # "another name and another address on each"
            text = text.replace('"one"', f'"server-{number}"').replace(
                f'listen: "{net}.1:', f'listen: "{net}.{number}:'
            )
            (tmp_path / f"{number}.conf").write_text(text)
            server = subprocess.Popen(
                [server_binary(), "-c", f"{number}.conf", "-l", f"{number}.log"],
                cwd=tmp_path,
                env={**os.environ, "SHOP_PASSWORD": "secret"},
            )
            running.callback(server.wait)
            running.callback(server.kill)
        logs = [tmp_path / f"{number}.log" for number in NUMBERS]
        assert eventually(lambda: all(_is_formed(log) for log in logs), 15.0), [log.read_text() for log in logs]
        yield ",".join(f"nats://{one}:4222/shop" for one in addresses)


def _is_formed(log):
    return log.exists() and re.search("cluster (meta)?leader|JetStream cluster", log.read_text()) is not None


def _tls(path, **others):
    return {"ca": str(path / "ca.pem"), "cert": str(path / "a.pem"), "key": str(path / "a.key"), **others}


class TestShown:
    def test_joined(self, servers, tmp_path, net):
        """By nodes at different servers, with the credentials and certificates of the page; and by no others."""
        first, second = servers.split(",")[:2]
        options = {"credentials": ("shop", "secret"), "tls": _tls(tmp_path), "lease": 5.0}
        with private_directory(), Peer("a", cluster=first, **options) as a, Peer("b", cluster=second, **options) as b:
            assert eventually(lambda: a.call(Node.ping, full("b")) == "pong", 10.0)
            pid = a.call(start, Hoard, Global("x"))
            assert eventually(lambda: b.call(Global.whereis, "x") == pid)
            assert b.call(GenServer.call, Global("x"), "hello") == "hello"
            make_authority(tmp_path, "stranger")
            foreign = _tls(tmp_path, cert=str(tmp_path / "stranger.pem"), key=str(tmp_path / "stranger.key"))
            with pytest.raises(NoNode, match=r"TLS failed|does it want a certificate"):
                Peer("c", cluster=first, **{**options, "tls": foreign})
