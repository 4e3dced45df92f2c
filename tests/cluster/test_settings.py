"""What `Node.start` is given for a cluster: refused in the caller, before anything starts."""

import subprocess
import sys

import pytest

from otp_runtime import (
    Agent,
    GenServer,
    Global,
    InitFailed,
    Node,
    NoNode,
    NoProcess,
    Remote,
    ServerDown,
    Supervisor,
    process,
)
from otp_runtime.cluster.settings import Settings, check
from otp_runtime.testing.nodes import private_directory, private_node
from tests.cluster.certificates import make_certificate, needs_openssl


class TestCheck:
    def test_embedded(self):
        """With a name or without."""
        assert check("a@h", "embedded", 5, None, None) == Settings("otp", (), 5.0)
        assert check("a@h", "embedded:shop", 5, None, None).cluster == "shop"

    def test_address(self):
        """Several servers, the name of the cluster behind them, credentials in front."""
        settings = check("a@h", "nats://me:a%20b@x:1/shop, nats://[::1]/shop", 2.5, None, None)

        assert settings == Settings("shop", ("nats://x:1", "nats://[::1]:4222"), 2.5, "me", "a b")

    def test_credentials(self, tmp_path):
        """A pair, or a file."""
        file = tmp_path / "creds"
        file.touch()
        assert check("a@h", "nats://x", 5, None, ("me", "x")).user == "me"

        assert check("a@h", "nats://x", 5, None, file).credentials == str(file)

    @needs_openssl
    def test_tls(self, tmp_path):
        """Paths of what they should be."""
        make_certificate(tmp_path)
        tls = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}

        assert check("a@h", "tls://x", 5, tls, None).tls == tuple(tls.values())

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"cluster": 5}, TypeError, "cluster is None, 'embedded'"),
            ({"cluster": "redis://x"}, ValueError, "cluster is None, 'embedded'"),
            ({"cluster": "nats://"}, ValueError, "cluster is None, 'embedded'"),
            ({"cluster": "nats://x:99999"}, ValueError, "cluster is None, 'embedded'"),
            ({"cluster": "nats://[::1"}, ValueError, "cluster is None, 'embedded'"),
            ({"cluster": "nats://x", "credentials": ("me", 5)}, TypeError, "both texts"),
            ({"cluster": "nats://x", "tls": {"ca": __file__}}, ValueError, "not the files of certificates"),
            ({"cluster": "embedded:a.b"}, ValueError, "letters, digits"),
            ({"cluster": "nats://x/a,nats://y/b"}, ValueError, "name one cluster"),
            ({"lease": 0.5}, ValueError, "lease is seconds"),
            ({"lease": True}, ValueError, "lease is seconds"),
            ({"tls": {"ca": "/x"}}, ValueError, "has its own credentials"),
            ({"credentials": ("me", "x")}, ValueError, "has its own credentials"),
            ({"cluster": "nats://x", "credentials": 5}, TypeError, r"\(user, password\)"),
            ({"cluster": "nats://x", "credentials": "/nowhere"}, ValueError, "cannot be read"),
            ({"cluster": "nats://x", "tls": "ca.pem"}, TypeError, "dict of paths"),
            ({"cluster": "nats://x", "tls": {"cert": "/x"}}, ValueError, "go together"),
            ({"cluster": None, "credentials": ("a", "b")}, ValueError, "for a cluster"),
        ],
    )
    def test_bad_input(self, arguments, error, text):
        """Says which argument, and what is allowed; nothing has started."""
        with private_directory(), pytest.raises(error, match=text):
            Node.start("a", **{"cluster": "embedded", **arguments})

    def test_without_the_extra(self):
        """Says which one to install."""
        code = (
            "import sys; sys.modules['nats'] = None\n"
            "from otp_runtime import Node, NoNode\n"
            "try: Node.start('a', cluster='embedded')\n"
            "except NoNode as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert "pip install 'otp-runtime[cluster]'" in done.stdout

    def test_without_the_server(self, monkeypatch):
        """As well."""
        monkeypatch.setattr("otp_runtime.cluster.engine.server_binary", lambda: None)
        with private_directory(), pytest.raises(NoNode, match=r"otp-runtime\[cluster\]"):
            Node.start("a", cluster="embedded")


class TestAlone:
    """A node that joined no cluster."""

    def test_global_names(self):
        """Say that they need one: asked for, called, started under."""
        with private_node():
            with pytest.raises(NoNode, match="is in no cluster"):
                Global.register("x", process.self())
            with pytest.raises(NoProcess, match="is in no cluster"):
                GenServer.call(Global("x"), 1)
            with pytest.raises(InitFailed, match="needs a cluster"):
                Agent.start(dict, name=Global("x"))
            with pytest.raises(InitFailed, match="needs a cluster"):
                Supervisor.start_link([Agent.child_spec(dict, name=Global("x"))], strategy="one_for_one")

    def test_nodes(self):
        """Nobody is there."""
        with private_node() as node:
            assert (Node.list(), Node.ping(node.name), Node.ping("x@y"), Node.connect("x@y")) == (
                [],
                "pong",
                "pang",
                False,
            )
            with pytest.raises(ServerDown, match="noconnection"):
                GenServer.call(Remote("x", "y@z"), 1)
            with pytest.raises(NoNode, match="is in no cluster"):
                Node.monitor_nodes(True)
