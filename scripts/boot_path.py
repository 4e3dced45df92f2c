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
from otp_runtime.process import boot, current, launcher, spares
from otp_runtime.supervision import loop

TARGET = Path(__file__).parent.parent / "otp_runtime/process/boot_path.py"
OURS = ("otp_runtime.", "importlib", "contextlib:", "threading:", "logging:", "_weakrefset:", "typing:", "inspect:")
"""Whose functions are listed: those that are there on every machine."""

ROOTS = (
    "otp_runtime.process.links:heed",
    "otp_runtime.process.links:_has_no_reader",
    "otp_runtime.process.peers:Peer.open_lane",
    "otp_runtime.terms.instances:Instances._build_class",
    "otp_runtime.terms.instances:Instances._check_classes",
    "otp_runtime.terms.instances:Instances._find",
    "otp_runtime.terms.classes:find_class",
    "otp_runtime.process.shipping:_Unpickler.persistent_load",
)
"""What a server that a program starts itself runs beside that: nothing of it can be profiled in the launcher."""

_ = launcher, loop  # functions are known only where they are imported
_ran: dict[str, None] = {}


def _note(frame: Any, event: str, _arg: object) -> None:
    if event == "call":
        _ran[_name_of(frame)] = None


def _name_of(frame: Any) -> str:
    """Name a function as it is found in its module: the code of what `dataclass` makes does not tell that."""
    code = frame.f_code
    if code.co_filename == "<string>" and code.co_varnames:
        made = frame.f_locals.get(code.co_varnames[0])
        for cls in getattr(made if isinstance(made, type) else type(made), "__mro__", ()):
            for name, found in vars(cls).items():
                if getattr(getattr(found, "__func__", found), "__code__", None) is code:
                    return f"{cls.__module__}:{cls.__qualname__}.{name}"
    return f"{frame.f_globals.get('__name__')}:{code.co_qualname}"


def _profiled_fork(fork: Any) -> Any:
    def profile(maker: Any) -> int:
        sys.setprofile(_note)
        try:
            os_pid: int = fork(maker)
        finally:
            if os_pid != 0:
                sys.setprofile(None)
        return os_pid

    return profile


def _profiled(run: Any) -> Any:
    def profile(*args: Any, **options: Any) -> Any:
        _ran[f"{run.__module__}:{run.__qualname__}"] = None
        sys.setprofile(_note)
        run(*args, **options)

    return profile


if __name__ != "__main__":
    # a template asks these modules anew each time
    current.fork_sibling = _profiled_fork(current.fork_sibling)
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

        class _Own(GenServer[int]):
            """As most modules of programs have one."""

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
    return [*found, *(name for name in ROOTS if name not in found)]


def main() -> None:
    """Write the list again."""
    from scripts import boot_path

    names = list(dict.fromkeys([*boot_path.ran(), *boot_path.ran()]))
    head = TARGET.read_text(encoding="utf-8").partition("PATH: Final = (")[0]
    lines = "".join(f'    "{name}",\n' for name in names)
    TARGET.write_text(f"{head}PATH: Final = (\n{lines})\n", encoding="utf-8")


if __name__ == "__main__":
    main()
