"""What a process carries: every module that launcher and supervisor import, all their forks carry too.

A page that holds it is one more for each fork to share, and the pages of its functions are copied when they run. What
only some need (an event loop, TLS, temporary files) is imported by those.
"""

import json
import os
import subprocess
import sys

import pytest

PARENTS = "import otp_runtime.host.guard, otp_runtime.process.launcher, otp_runtime.supervision.loop"
YARDSTICK = "import asyncio, ctypes, dataclasses, inspect, logging, pathlib, pickle, traceback, msgpack"
MODULES_AT_MOST = 260 if sys.version_info < (3, 13) else 263
"""Of Python and of ours; 216 when this was written, 259 since the supervisors' cores are in several files.

Python 3.13 has some of its own modules in more files."""

TIMES_AT_MOST = 2.6
"""Processor time of an interpreter that imports them, in those of one that imports the yardstick: 1.8 then."""

HEAVY = (
    "asyncio",
    "concurrent.futures",
    "dill",
    "email",
    "http",
    "multiprocess",
    "psutil",
    "random",
    "shutil",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
)


class TestImportBudget:
    def test_a_parent_of_processes_carries_nothing_heavy(self):
        """Guard, launcher and supervisor do without what only some of their forks may need."""
        modules = imported_by(PARENTS)

        assert [] == [name for name in HEAVY if name in modules]

    def test_a_parent_of_processes_imports_few_modules(self):
        """Their number is in bounds: who exceeds it asks first whether every server needs the new ones."""
        assert MODULES_AT_MOST >= len(imported_by(PARENTS))

    def test_the_guard_is_small(self):
        """It only watches, and is forked into the launcher: it imports nothing of process or supervision."""
        modules = imported_by("import otp_runtime.host.guard")

        assert [] == [name for name in modules if name.startswith(("otp_runtime.process", "otp_runtime.supervision"))]

    @pytest.mark.slow
    def test_a_node_starts_fast(self, tmp_path):
        """Importing all of it costs at most so many times what the standard library's share of it costs."""
        ours, yardstick = (cpu_seconds(source, tmp_path) for source in (PARENTS, YARDSTICK))

        assert TIMES_AT_MOST >= ours / yardstick


def imported_by(source: str) -> list[str]:
    """Give the modules of an interpreter that ran `source`."""
    script = f"import json, sys; {source}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def cpu_seconds(source: str, cache: object) -> float:
    """Give the least processor time of an interpreter that runs `source`, with its bytecode at hand."""
    script = f"import time; {source}; print(time.process_time())"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", script]
    runs = [subprocess.run(command, check=True, capture_output=True, env=environment) for _ in range(6)]
    return min(float(run.stdout) for run in runs)
