"""Processes as OTP has them: spawn, send, selective receive, links, monitors, exit signals, timers, names.

The program that imports the library takes part as a process too, each of its threads with a pid of its own;
as nothing supervises it, it traps exits.
"""

from otp_runtime.process import global_services as _global_services
from otp_runtime.process import pid_services as _pid_services
from otp_runtime.process.primitives import (
    ProcessInfo,
    Timer,
    alive,
    cancel_timer,
    demonitor,
    exit,
    flush,
    info,
    link,
    list,
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
    start_timer,
    trap_exit,
    unlink,
    unregister,
    whereis,
)

_ = _pid_services, _global_services  # what a Pid and `Global` can do, from now on

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
    "start_timer",
    "trap_exit",
    "unlink",
    "unregister",
    "whereis",
]
