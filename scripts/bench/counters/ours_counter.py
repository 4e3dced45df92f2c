"""The counter as a GenServer: a process of its own, under a supervisor that starts another."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

from reporting import CASTS, STARTS, calls, median_ms, tell, timed, unique_bytes, until_answered

sys.path.insert(0, str(Path(__file__).parents[3]))

from ours_server import Counter

from otp_runtime import DynamicSupervisor, GenServer, OtpError


def main() -> None:
    tell(version="this checkout")
    logging.getLogger("otp_runtime").setLevel(logging.CRITICAL)
    with DynamicSupervisor.start_link(max_restarts=1_000) as sup:
        GenServer.call(DynamicSupervisor.start_child(sup, Counter.child_spec(name="counter")), "inc")
        calls(lambda: GenServer.call("counter", "inc"))

        before = GenServer.call("counter", "inc")
        started = time.perf_counter()
        for _ in range(CASTS):
            GenServer.cast("counter", "inc")
        assert GenServer.call("counter", "inc", timeout=60) == before + CASTS + 1
        tell(cast=CASTS / (time.perf_counter() - started))

        servers = []

        def start() -> None:
            servers.append(DynamicSupervisor.start_child(sup, Counter))
            GenServer.call(servers[-1], "inc")

        tell(start=median_ms([timed(start) for _ in range(STARTS)]))
        tell(memory=unique_bytes(server.os_pid for server in servers) / len(servers) / 1e6)

        def restart() -> None:
            victim = GenServer.call("counter", "os_pid")
            started = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            until_answered(lambda: GenServer.call("counter", "os_pid"), victim, OtpError)
            restarts.append(time.perf_counter() - started)

        restarts: list[float] = []
        for _ in range(STARTS):
            restart()
        tell(restart=median_ms(restarts))


if __name__ == "__main__":
    main()
