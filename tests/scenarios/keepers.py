"""Servers that keep their state, and a process that loads them and checks what it is told."""

import contextlib

from otp_runtime import GenServer, NoReply, Reply, ServerDown, process


class Tally(GenServer):
    """Counts its casts; its state also holds the last one's number, and a filling that gives it a size."""

    def init(self, size):
        return {"count": 0, "last": 0, "filling": "x" * size}

    def handle_cast(self, number, state):
        return NoReply({**state, "count": state["count"] + 1, "last": number})

    def handle_call(self, request, client, state):
        if request == "reply":
            GenServer.reply(client, (state["count"] + 1, state["last"]))
            return NoReply({**state, "count": state["count"] + 1})
        state["count"] += 1  # in place: the same object is not the same state
        return Reply((state["count"], state["last"]), state)


def look(name, request, seen, violations):
    """Ask once; note what was undone since `seen`. Gives what was told, `seen` when the server died."""
    try:
        told = GenServer.call(name, request)
    except ServerDown:
        return seen
    if told[0] <= seen[0] or told[1] < seen[1]:
        violations.append((seen, told))
    return told


def load(name, tester):
    """Cast and call until told to stop; then tell what was undone, and how often an answer came."""
    seen, violations, number, answers = (0, 0), [], 0, 0
    while True:
        for _ in range(3):
            number += 1
            GenServer.cast(name, number)
        told = look(name, "reply" if number % 2 else "value", seen, violations)
        answers += told is not seen
        seen = told
        with contextlib.suppress(TimeoutError):
            process.receive("stop", 0)
            process.send(tester, ("load", violations, answers))
            return
