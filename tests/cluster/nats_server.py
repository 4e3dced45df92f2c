"""A nats-server of the test's own, as somebody else's would be there."""

import contextlib
import json
import subprocess

from otp_runtime.cluster.engine import server_binary
from tests.cluster.servers import eventually


@contextlib.contextmanager
def nats_server(path):
    """Run one with the file `conf` of a directory, which has to say `ports_file_dir: "PATH"`; give its address."""
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
