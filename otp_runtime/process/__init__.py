"""Processes as OTP has them: spawn, send, selective receive, links, monitors, exit signals, timers, names.

The program that imports the library takes part as a process too, each of its threads with a pid of its own;
as nothing supervises it, it traps exits.
"""

from otp_runtime.process.primitives import (
    ProcessInfo,
    Timer,
    alive,
    cancel_timer,
    demonitor,
    exit,  # noqa: A004 - OTP's word, always read as process.exit
    flush,
    info,
    link,
    list,  # noqa: A004 - Elixir's Process.list
    monitor,
    read_timer,
    receive,
    register,
    registered,
    self,
    send,
    send_after,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exit,
    unlink,
    unregister,
    whereis,
)

__all__ = [
    "ProcessInfo",
    "Timer",
    "alive",
    "cancel_timer",
    "demonitor",
    "exit",
    "flush",
    "info",
    "link",
    "list",
    "monitor",
    "read_timer",
    "receive",
    "register",
    "registered",
    "self",
    "send",
    "send_after",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "trap_exit",
    "unlink",
    "unregister",
    "whereis",
]
