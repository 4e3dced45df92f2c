"""The shapes of what travels between processes: a kind and its fields, one msgpack array each.

Within a node a process is written as its id: the directory says which node. Serials are the sender's own
count; with its id they are the reference that correlates a reply with its request.

    SEND   term                          a plain message                     mailbox
    CAST   request                       GenServer.cast                      mailbox
    CALL   caller, serial, request       GenServer.call                      mailbox
    REPLY  serial, how, value            the answer; how: VALUE or RAISE     mailbox of the caller
    SYSTEM caller, serial, request       system messages in mailbox order    mailbox, some on the lane
    EXIT   sender, reason                an exit signal                      mailbox if trapped, else lane
    LINK   peer                          the peer links to me                lane
    UNLINK peer                          the peer unlinked                   lane
    DOOM   victim, reason                "I sent this exit to your child"    lane of the OS parent
    TIMER  sender, serial, (due, interval), payload   arm a timer here       mailbox
    CANCEL sender, serial                cancel it                           mailbox

Three more, where the node is in a cluster. What travels to another node is one of the first eight, as it is written
down here; the ids in it are those of the node that sent it.

    FOREIGN node, incarnation, envelope  one of them, still encoded, that came from that life of that node
    TIDINGS what, details                the gateway tells: a process or a node over there is gone, is there
    OUT     sender, node, epoch, frame, watched   to the gateway: a frame for another node; whom it watches, or nil
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Envelope: TypeAlias = "list[Any]"

SEND: Final = 0
CAST: Final = 1
CALL: Final = 2
REPLY: Final = 3
SYSTEM: Final = 4
EXIT: Final = 5
LINK: Final = 6
UNLINK: Final = 7
DOOM: Final = 8
TIMER: Final = 9
CANCEL: Final = 10
FOREIGN: Final = 11
TIDINGS: Final = 12
OUT: Final = 13

LENGTHS: Final = (2, 2, 4, 4, 4, 3, 2, 2, 3, 5, 3, 4, 3, 6)
"""How many fields an envelope of each kind has, the kind itself included."""

VALUE: Final = 0
RAISE: Final = 1

SEND_HEAD: Final = bytes([0x92, SEND])
CAST_HEAD: Final = bytes([0x92, CAST])
CALL_HEAD: Final = bytes([0x94, CALL])
REPLY_HEAD: Final = bytes([0x94, REPLY])
"""How the encoded envelopes of the hot path begin: an array of as many fields, the kind. No other bytes do."""


ACROSS: Final = 1 << 62
"""In the serial of a call: its caller waits on when the server dies, for the successor that has the same mailbox."""


HANDOVER: Final = "handover"
"""The first word of the system messages by which an OS parent is asked to hand a child over, and asks the child."""


def is_handover(request: object) -> bool:
    """Say whether a system message is one of those."""
    return type(request) is tuple and len(request) > 1 and request[0] == HANDOVER


def is_envelope(term: object) -> bool:
    """Say whether a decoded term has the shape of an envelope; what has not is garbage."""
    if type(term) is not list or not term:
        return False
    kind = term[0]
    return type(kind) is int and 0 <= kind < len(LENGTHS) and len(term) == LENGTHS[kind]
