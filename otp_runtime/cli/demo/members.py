"""What runs on both nodes of the chapter about clusters: a till that only one has, and somebody who is present."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import Reply
from otp_runtime.cli.demo.servers import Counter
from otp_runtime.process import primitives as process
from otp_runtime.process.node import Node
from otp_runtime.registry import presence, pubsub
from otp_runtime.terms.pid import Global

if TYPE_CHECKING:
    from otp_runtime.behaviours.gen import Client
    from otp_runtime.core.child_spec import ChildSpec

TOPIC = "shop"
OPEN = "tills"
TILL = Global("till")
START = 10


class Till(GenServer[str]):
    """Has a global name, and says so to everybody."""

    def init(self, arg: None, /) -> str:
        """Runs only where the name is."""
        node = Node.self()
        presence.track(OPEN, node)
        return node

    def handle_call(self, request: Any, client: Client[Any], node: str, /) -> Any:
        """Say where it runs."""
        return Reply(node, node)


class Guest(GenServer[None]):
    """Is present."""

    def init(self, key: str, /) -> None:
        """Come in."""
        presence.track(TOPIC, key, {"node": Node.self(), "process": process.self().id})


def tree(guest: str) -> list[ChildSpec]:
    """Give the children of one node."""
    return [
        pubsub.child_spec(),
        Counter.child_spec(START, name="counter"),
        Till.child_spec(name=TILL),
        Guest.child_spec(guest),
    ]


def app() -> list[ChildSpec]:
    """Give what `otp run` starts in the second program."""
    return tree("ada")
