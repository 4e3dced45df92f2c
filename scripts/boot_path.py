"""Find out what a new server runs until it has answered twice: the functions that `process/boot_path.py` lists.

    python -m scripts.boot_path            writes that file again

A supervisor imports this module ahead, for its child, and so runs what is below: it has the child's boot profiled.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from otp_runtime import DynamicSupervisor, GenServer, Reply
from otp_runtime.process import boot

TARGET = Path(__file__).parent.parent / "otp_runtime/process/boot_path.py"
ROOT = Path(__file__).parent.parent

_ran: dict[Any, None] = {}
_run_child = boot.run_child


def _note(frame: Any, event: str, _arg: object) -> None:
    if event == "call":
        _ran[frame.f_code] = None


def _profiled(*args: Any, **options: Any) -> Any:
    sys.setprofile(_note)
    _ran[_run_child.__code__] = None
    _run_child(*args, **options)


if __name__ != "__main__":
    boot.run_child = _profiled


class Profiled(GenServer[int]):
    """Says what its process has run."""

    def handle_call(self, request: Any, client: Any, state: int, /) -> Any:
        """Answer, with the functions of the library that ran so far, in their order, if that is asked."""
        if request != "ran":
            return Reply(request, state)
        sys.setprofile(None)
        return Reply([name for code in _ran if (name := _name_of(code)) is not None], state)


def _name_of(code: Any) -> str | None:
    """Give the module and the qualified name of a function of the library; None of any other, and of nested ones."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT / "otp_runtime") or "<" in code.co_qualname:
        return None
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) + ":" + code.co_qualname


def ran() -> list[str]:
    """Start servers from a template and give what one of them ran."""
    with DynamicSupervisor.start_link() as sup:
        for _ in range(2):
            child = DynamicSupervisor.start_child(sup, Profiled.child_spec(0))
            GenServer.call(child, "first")
            GenServer.call(child, "second")
        names: list[str] = GenServer.call(child, "ran")
    return names


def main() -> None:
    """Write the list."""
    from scripts import boot_path

    head = TARGET.read_text(encoding="utf-8").partition("PATH: Final = (")[0]
    lines = "".join(f'    "{name}",\n' for name in boot_path.ran())
    TARGET.write_text(f"{head}PATH: Final = (\n{lines})\n", encoding="utf-8")


if __name__ == "__main__":
    main()
