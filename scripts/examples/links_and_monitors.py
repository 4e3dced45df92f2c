"""A monitor tells of a death, a link shares it; a program traps exits, so both arrive as messages."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

from otp_runtime import Down, Exit, process


def fail(what):
    raise ValueError(what)


def work():
    return "a return value goes nowhere: only the end is told"


pid, ref = process.spawn_monitor(work)
down = process.receive(Down, timeout=5.0)
print("monitored:", down.reason, down.ref == ref)

pid, ref = process.spawn_monitor(fail, "out of paper")
print("monitored:", process.receive(lambda message: message.ref == ref, timeout=5.0).reason)

pid = process.spawn_link(fail, "out of ink")
message = process.receive(Exit, timeout=5.0)
print("linked:", message.reason, message.pid == pid)

process.link(pid)  # a link to the dead breaks at once
print("too late:", process.receive(Exit, timeout=5.0).reason)
