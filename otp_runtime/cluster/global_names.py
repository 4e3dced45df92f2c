"""Global names, as a gateway holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otp_runtime.cluster.gateway import Gateway
    from otp_runtime.cluster.session import Session


class GlobalNames:
    """The names of one gateway's processes."""

    def __init__(self, gateway: Gateway) -> None:
        """Hold them for `gateway`."""
        self.gateway = gateway

    def held(self) -> dict[str, tuple[int, int]]:
        """Give the names of this node's processes: name to process id and token."""
        return {}

    def adopt(self, held: dict[str, tuple[int, int]]) -> None:
        """Go on where the gateway before this one stopped."""

    async def rejoined(self) -> None:
        """Claim again what was held in the epoch before."""

    def fence(self) -> None:
        """Stop what has a name."""

    async def leave(self, session: Session) -> None:
        """Give the names back."""

    def on_entry(self, name: str, entry: Any) -> None:
        """A name was given, or given back."""

    def node_gone(self, node: str) -> None:
        """The record of a node vanished: its names may be claimed."""

    def process_gone(self, process_id: int) -> None:
        """A process ended."""
