"""Global names, as the processes of a node use them: see `otp_runtime.Global`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from otp_runtime.errors import NoProcess
from otp_runtime.terms.pid import Global

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.terms.pid import Pid


def whereis(context: Context, name: Any) -> Pid | None:
    """Give the process that has a global name."""
    _not_yet(context, name)


def register_at_start(context: Context, name: Any, pid: Pid) -> None:
    """Give a process that starts a global name."""
    _not_yet(context, (name, pid))


def _not_yet(context: Context, what: Any) -> NoReturn:
    raise NoProcess(Global(what), detail=f"{context.node.name} has no global names yet")
