"""The machine that was measured: a figure without it says nothing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

NOISY_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Machine:
    """`busy_percent` is the share that others used of all cores just before, `load` their number in the last minute."""

    processor: str
    cores: int
    kernel: str
    python: str
    busy_percent: float
    load: float

    @classmethod
    def here(cls) -> Machine:
        """Look at this one, for a third of a second."""
        return cls(
            _processor(),
            len(os.sched_getaffinity(0)),
            platform.release(),
            platform.python_version(),
            round(statistics.fmean(psutil.cpu_percent(0.3, percpu=True)), 1),
            round(os.getloadavg()[0], 1),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain data."""
        return asdict(self)

    @property
    def is_quiet(self) -> bool:
        """Whether others hardly use it."""
        return self.busy_percent < NOISY_PERCENT

    def __str__(self) -> str:
        """Say it in one line, and that it is busy when it is."""
        text = f"{self.processor}, {self.cores} cores, Linux {self.kernel}, Python {self.python}"
        busy = f"; {self.busy_percent:g} % busy with other work, load {self.load:g}: not for publication"
        return text if self.is_quiet else text + busy


def others_runnable(samples: int = 5) -> float:
    """Give how many processes of others want a core, at the median of some moments in which this one slept."""
    counts = []
    for _ in range(samples):
        time.sleep(0.01)
        with open("/proc/loadavg") as file:
            counts.append(int(file.read().split()[3].partition("/")[0]) - 1)  # this one runs, to ask
    return statistics.median(counts)


def _processor() -> str:
    """Give what the kernel calls the processor; where it does not say, the architecture."""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
