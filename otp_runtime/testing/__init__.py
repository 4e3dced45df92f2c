"""What a test of servers needs: ways to kill them, to wait for what follows, and a node of the test's own.

With pytest the fixtures `otp_node`, `start_supervised` and `peer` are there by themselves. Nothing here sleeps: a
helper waits for a `Down`, a pipe or a pidfd, always with a deadline, and says what it missed.

    crash, segfault, sigkill, oom     end a server in a known way; give the pid that died, after its `Down`
    hang, freeze, thaw                make it stop answering without ending it
    wait_restarted, assert_receive    wait for what must come of it
    gate                              hold a server in mid-callback until the test lets go
    private_node, Peer, leaks         what the fixtures are made of
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names once more, where type checkers look for them
    from otp_runtime.testing import leaks
    from otp_runtime.testing.faults import crash, freeze, hang, oom, segfault, sigkill, thaw
    from otp_runtime.testing.gates import Gate, gate
    from otp_runtime.testing.nodes import PrivateNode, Supervised, private_node, supervised
    from otp_runtime.testing.peers import Peer
    from otp_runtime.testing.waiting import assert_receive, wait_restarted

__all__ = [
    "Gate",
    "Peer",
    "PrivateNode",
    "Supervised",
    "assert_receive",
    "crash",
    "freeze",
    "gate",
    "hang",
    "leaks",
    "oom",
    "private_node",
    "segfault",
    "sigkill",
    "supervised",
    "thaw",
    "wait_restarted",
]

# Name -> the module below this package that has it.
_HOMES = {
    "Gate": "gates",
    "Peer": "peers",
    "PrivateNode": "nodes",
    "Supervised": "nodes",
    "assert_receive": "waiting",
    "crash": "faults",
    "freeze": "faults",
    "gate": "gates",
    "hang": "faults",
    "oom": "faults",
    "private_node": "nodes",
    "segfault": "faults",
    "sigkill": "faults",
    "supervised": "nodes",
    "thaw": "faults",
    "wait_restarted": "waiting",
}


if not TYPE_CHECKING:  # a checker that saw it would let every misspelt name pass

    def __getattr__(name: str) -> object:
        if name == "leaks":
            return import_module(f"{__name__}.leaks")
        if name not in _HOMES:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name)
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return __all__
