"""A counter that dies of SIGSEGV; the next call by name waits for its successor, which starts afresh."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

import os
import signal

from otp_runtime import GenServer, NoReply, Reply, Supervisor, why


class Counter(GenServer):
    def init(self, start):
        return start

    def handle_cast(self, request, state):
        match request:
            case ("inc", by):
                return NoReply(state + by)

    def handle_call(self, request, client, state):
        match request:
            case "val":
                return Reply(state, state)


with Supervisor.start_link([Counter.child_spec(0, name="counter")], strategy="one_for_one"):
    GenServer.cast("counter", ("inc", 3))
    print("value:", GenServer.call("counter", "val"))

    victim = GenServer.whereis("counter")
    os.kill(victim.os_pid, signal.SIGSEGV)
    print("died:", victim.wait())

    print("value:", GenServer.call("counter", "val"))
    print("why:", why("counter").reason)
