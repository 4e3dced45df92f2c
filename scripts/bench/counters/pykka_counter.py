"""The counter as a Pykka actor: a thread of this process."""

from __future__ import annotations

import os
import time
from typing import Any

from reporting import CASTS, STARTS, calls, median_ms, need, tell, timed, unique_bytes

need("pykka")

import pykka  # noqa: E402


class Counter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self._value = 0

    def on_receive(self, message: Any) -> int:
        self._value += 1
        return self._value


def main() -> None:
    counter = Counter.start()
    calls(lambda: counter.ask("inc"))
    before = counter.ask("inc")
    began = time.perf_counter()
    for _ in range(CASTS):
        counter.tell("inc")
    assert counter.ask("inc") == before + CASTS + 1
    tell(cast=CASTS / (time.perf_counter() - began))
    tell(note="threads of one process, nothing is restarted: kill -9 ends all")
    tell(start=median_ms([timed(lambda: Counter.start().ask("inc")) for _ in range(STARTS)]))
    memory = unique_bytes([os.getpid()])
    many = 100
    for _ in range(many):
        Counter.start().ask("inc")
    tell(memory=(unique_bytes([os.getpid()]) - memory) / many / 1e6)
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    main()
