"""What `Global` can do: ask the room that fills `route`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.errors import NoNode
from otp_runtime.process import route
from otp_runtime.process.current import current
from otp_runtime.terms.pid import install_global_services

if TYPE_CHECKING:
    from otp_runtime.terms.pid import Pid


class GlobalNameServices:
    """Installed into `terms.pid`, which knows no node."""

    def register(self, name: Any, pid: Pid) -> int | None:
        """See `Global.register`."""
        token: int | None = _names().register(current(), name, pid)
        return token

    def re_register(self, name: Any, pid: Pid) -> int:
        """See `Global.re_register`."""
        token: int = _names().re_register(current(), name, pid)
        return token

    def unregister(self, name: Any) -> None:
        """See `Global.unregister`."""
        _names().unregister(name)

    def whereis(self, name: Any) -> Pid | None:
        """See `Global.whereis`."""
        pid: Pid | None = _names().whereis(name)
        return pid

    def token(self, name: Any) -> int | None:
        """See `Global.token`."""
        token: int | None = _names().token(current(), name)
        return token

    def registered(self) -> list[Any]:
        """See `Global.registered`."""
        found: list[Any] = _names().registered()
        return found


def _names() -> Any:
    context = current()
    filled = route.filled(context)
    if filled is None:
        raise NoNode(context.node.name, "it is in no cluster: Node.start(name, cluster=...)")
    return filled.names()


install_global_services(GlobalNameServices())
