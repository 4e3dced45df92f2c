"""What a spare does while it waits: it is a server for a moment, so that it need not learn that when somebody waits.

A Python process copies a page of memory when it first looks at an object on it, and looks up for the first time what
it will find at once the second time. So a spare goes once through all that a server goes through from its first order
to its first reply. It has a black box of its own for that, which nobody else sees, and no name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply, Stop
from otp_runtime.core import messages as wire
from otp_runtime.process import boot, places, spares
from otp_runtime.process.job import Job

if TYPE_CHECKING:
    from otp_runtime.behaviours.gen import Client
    from otp_runtime.process.context import Context
    from otp_runtime.process.handle import NodeHandle

PART = "understudy"
UNSAID = -1
"""No boot pipe: nobody hears how this start goes."""


class Understudy(GenServer[int]):
    """Answers what every server answers, and ends."""

    def init(self, arg: Any) -> int:
        """Begin to count."""
        return 0

    def handle_call(self, request: Any, client: Client[Any], state: int) -> Reply[Any, int]:
        """Give the request back."""
        return Reply(request, state)

    def handle_cast(self, request: Any, state: int) -> NoReply[int] | Stop[int]:
        """Count, or end."""
        return Stop("normal", state) if request == "end" else NoReply(state + 1)


def write(node: NodeHandle) -> bytes:
    """Give the job of the rehearsal, as a spare is given its own."""
    return node.codec.encode(Job("start", node.seal(Understudy.start_link, (None,), {}, PART), PART, 0).to_term())


def play(context: Context, script: bytes) -> None:
    """Be a server, from a job to its end, in a process that is none yet: see `spares.Rehearsal`."""
    codec = context.codec
    job = Job.from_term(codec.decode(script))
    context.place = places.place_of(context.directory, job, context.id)
    for envelope in ([wire.CALL, context.id, 0, PART], [wire.CAST, "more"], [wire.CAST, "end"]):
        context.put_copy(codec.encode(envelope))
    boot.live(context, boot.Boot(context.node, UNSAID), job, _nobody)


def _nobody(*_args: Any) -> None:
    """No supervisor is rehearsed."""


spares.rehearse_with(write, play)
