"""Find out what a new server runs until it has answered twice: the functions that `process/boot_path.py` lists.

What one forked ahead runs beside that is listed too: it rehearses, and imports what the server will need.

    python -m scripts.boot_path            writes that file again

A supervisor imports this module ahead, for its child, and so runs what is below: it has the child's boot profiled.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

from otp_runtime import DynamicSupervisor, GenServer, Reply
from otp_runtime.process import boot, spares

TARGET = Path(__file__).parent.parent / "otp_runtime/process/boot_path.py"
OURS = ("otp_runtime.", "importlib", "contextlib:")
"""Whose functions are listed: those that are there on every machine."""

_ran: dict[str, None] = {}


def _note(frame: Any, event: str, _arg: object) -> None:
    if event == "call":
        _ran[f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}"] = None


def _profiled(run: Any) -> Any:
    def profile(*args: Any, **options: Any) -> Any:
        _ran[f"{run.__module__}:{run.__qualname__}"] = None
        sys.setprofile(_note)
        run(*args, **options)

    return profile


if __name__ != "__main__":
    boot.run_child = _profiled(boot.run_child)
    spares.run = _profiled(spares.run)


class Profiled(GenServer[int]):
    """Says what its process has run."""

    def handle_call(self, request: Any, client: Any, state: int, /) -> Any:
        """Answer, with the functions of the library that ran so far, in their order, if that is asked."""
        if request != "ran":
            return Reply(request, state)
        sys.setprofile(_note)
        importlib.import_module("colorsys")  # whatever it is, it takes the way of a program's own modules
        sys.setprofile(None)
        return Reply([name for name in _ran if name.startswith(OURS) and "<" not in name], state)


def ran() -> list[str]:
    """Start servers from a template, and one that was forked ahead; give what they ran."""
    found: dict[str, None] = {}
    with DynamicSupervisor.start_link() as sup:
        for pause in (0.0, 0.0, 1.0):
            time.sleep(pause)
            child = DynamicSupervisor.start_child(sup, Profiled.child_spec(0))
            GenServer.call(child, "first")
            GenServer.call(child, "second")
            found |= dict.fromkeys(GenServer.call(child, "ran"))
    return list(found)


def main() -> None:
    """Write the list."""
    from scripts import boot_path

    head = TARGET.read_text(encoding="utf-8").partition("PATH: Final = (")[0]
    lines = "".join(f'    "{name}",\n' for name in boot_path.ran())
    TARGET.write_text(f"{head}PATH: Final = (\n{lines})\n", encoding="utf-8")


if __name__ == "__main__":
    main()
